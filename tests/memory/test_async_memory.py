"""`AsyncMemory`: the methods of `Memory` on an event loop."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from memlora_mlx import AsyncMemory, Memory
from memlora_mlx.errors import UsageError


def test_code_for_mem0s_async_class_runs(tiny_home: Path) -> None:
    async def session() -> None:
        async with AsyncMemory() as memory:
            added = await memory.add("Ann likes tea", user_id="ann", metadata={"topic": "drinks"}, infer=False)
            [item] = added["results"]
            found = await memory.search("tea", user_id="ann", limit=3)
            assert found["results"][0]["id"] == item["id"]
            assert (await memory.get(item["id"]))["memory"] == "Ann likes tea"  # type: ignore[index]
            await memory.update(item["id"], data="Ann likes coffee")
            assert len(await memory.history(item["id"])) == 2
            await memory.undo(user_id="ann")
            assert (await memory.get_all(user_id="ann"))["results"][0]["memory"] == "Ann likes tea"
            assert (await memory.ask("What does Ann like?", user_id="ann")).hits
            await memory.delete(item["id"])
            await memory.delete_all(user_id="ann")
            with pytest.raises(UsageError, match="say whose memories"):
                await memory.search("tea")
            await memory.reset()

    asyncio.run(session())


def test_it_has_every_method_of_memory_with_the_same_arguments() -> None:
    others = {"close", "of", "from_config"}
    for name, method in inspect.getmembers(Memory, inspect.isfunction):
        if not name.startswith("_") and name not in others:
            assert inspect.signature(getattr(AsyncMemory, name)) == inspect.signature(method), name
            assert inspect.iscoroutinefunction(getattr(AsyncMemory, name)), name


def test_calls_made_together_open_one_store_and_lose_no_write(tiny_home: Path) -> None:
    async def session() -> None:
        memory = await AsyncMemory.from_config({"home": str(tiny_home)})
        calls = [memory.add(f"note {number}", user_id="ann", infer=False) for number in range(20)]
        await asyncio.gather(*calls)
        assert len((await memory.get_all(user_id="ann"))["results"]) == 20
        await memory.close()

    asyncio.run(session())


def test_cancelling_the_task_stops_the_add(tiny_home: Path) -> None:
    talk = [{"role": role, "content": f"{role} {n}"} for n in range(200) for role in ("user", "assistant")]

    async def session() -> int:
        async with AsyncMemory() as memory:
            await memory.add("a first note", user_id="ann", infer=False)  # the models are loaded
            work = asyncio.create_task(memory.add(talk, user_id="bob", infer=False))
            await asyncio.sleep(0.05)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
        with Memory() as memory:
            return len(memory.get_all(user_id="bob", limit=1000)["results"])

    assert asyncio.run(session()) < 400  # `close` waits for what runs, and not all of it ran
