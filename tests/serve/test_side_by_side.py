"""Commands, `Memory` and MCP clients beside a resident process: no error and no lost write."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from cli_home import EXCHANGES, TALK, environment, run_command, store_contents
from memory_servers import resident_of, resident_process

from memlora_mlx import Memory

NOTES = 12


def test_everybody_writes_at_once_and_nothing_is_lost(
    tiny_home: Path, varied_student: Path, tiny_embedder: Path, tmp_path: Path
) -> None:
    environ = environment(tiny_home, varied_student, tiny_embedder)
    (tmp_path / "talk.txt").write_text(TALK)
    errors: list[BaseException] = []

    def through_the_resident() -> None:
        async def work() -> None:
            resident = resident_of(tiny_home)
            for number in range(NOTES):
                note = {"messages": f"resident note {number}", "user_id": "res", "infer": False}
                await resident.call("add", note)

        asyncio.run(work())

    def through_the_library() -> None:
        with Memory() as memory:
            for number in range(NOTES):
                memory.add(f"library note {number}", user_id="lib", infer=False)

    def run(work: Any) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    with resident_process(environ):
        threads = [threading.Thread(target=run, args=(w,)) for w in (through_the_resident, through_the_library)]
        for thread in threads:
            thread.start()
        code, _, err = run_command(environ, "ingest", tmp_path / "talk.txt", "--yes")
        for thread in threads:
            thread.join()
        assert code == 0 and errors == [], (err, errors)
        # What a command changes, the resident process sees at its next call, and the other way round.
        call = resident_of(tiny_home).call
        [first] = [
            item for item in asyncio.run(call("get_all", {"user_id": "res"}))["results"] if "note 0" in item["memory"]
        ]
        code, _, err = run_command(environ, "memory", "edit", first["id"], "the resident drinks tea")
        assert code == 0, err
        found = asyncio.run(call("search", {"query": "the resident drinks tea", "user_id": "res", "limit": 1}))
        assert found["results"][0]["memory"] == "the resident drinks tea"
        asyncio.run(call("delete", {"memory_id": first["id"]}))
        code, out, _ = run_command(environ, "memory", "list", "--user", "res", "--json")
        assert code == 0 and first["id"] not in out
    stored = store_contents(tiny_home)
    texts = [memory[2] for memory in stored["memories"]]
    for name, count in (("library", NOTES), ("resident", NOTES - 1)):
        assert sum(text.startswith(f"{name} note") for text in texts) == count
    assert len(stored["exchanges"]) == EXCHANGES + 2 * NOTES
