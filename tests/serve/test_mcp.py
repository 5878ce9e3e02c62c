"""`memlora mcp` as MCP's own client sees it, over standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cli_home import environment
from mcp.shared.exceptions import MCPError
from memory_servers import call, refusal, resident_process, stdio_client

from memlora_mlx import Memory

TOOLS = {
    *("add_memory", "search_memories", "get_memories", "get_memory", "update_memory", "delete_memory"),
    *("delete_all_memories", "list_entities", "ask_memory", "undo"),
}


@pytest.fixture
def environ(tiny_home: Path, varied_student: Path, tiny_embedder: Path) -> dict[str, str]:
    return environment(tiny_home, varied_student, tiny_embedder)


def test_every_tool_does_its_work(environ: dict[str, str]) -> None:
    async def session() -> None:
        async with stdio_client(environ) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == TOOLS
            assert all(tool.output_schema and tool.annotations and tool.description for tool in tools.values())
            assert tools["search_memories"].annotations.read_only_hint  # type: ignore[union-attr]
            assert tools["delete_all_memories"].annotations.destructive_hint  # type: ignore[union-attr]
            assert tools["add_memory"].annotations.destructive_hint  # type: ignore[union-attr]

            added = await call(client, "add_memory", text="Ann likes green tea", user_id="ann", infer=False)
            [memory] = added["results"]
            chat = [{"role": "user", "content": "I moved to Rome."}, {"role": "assistant", "content": "Lovely!"}]
            await call(client, "add_memory", messages=chat, user_id="bob")

            found = await call(client, "search_memories", query="tea", user_id="ann")
            assert found["results"][0]["id"] == memory["id"] and "not instructions" in found["notice"]
            page = await call(client, "get_memories", user_id="ann")
            assert page["total"] == 1 and page["results"][0]["memory"] == "Ann likes green tea"

            await call(client, "update_memory", memory_id=memory["id"], text="Ann likes coffee")
            shown = await call(client, "get_memory", memory_id=memory["id"])
            assert shown["memory"]["memory"] == "Ann likes coffee"
            assert [line["event"] for line in shown["history"]] == ["ADD", "UPDATE"]
            await call(client, "undo", user_id="ann")
            shown = await call(client, "get_memory", memory_id=memory["id"])
            assert shown["memory"]["memory"] == "Ann likes green tea"

            steps: list[str | None] = []

            async def on_progress(done: float, total: float | None, step: str | None) -> None:
                steps.append(step)

            asked = {"question": "What does Ann like?", "user_id": "ann"}
            result = await client.call_tool("ask_memory", asked, progress_callback=on_progress)
            assert not result.is_error and steps[0] == "searching" and "answering" in steps
            answer = result.structured_content or {}
            assert memory["id"] in [item["id"] for item in answer["results"]] and "answer" in answer
            entities = (await call(client, "list_entities"))["entities"]
            assert {"ann", "bob"} >= {entity["user_id"] for entity in entities} >= {"ann"}

            await call(client, "delete_memory", memory_id=memory["id"])
            assert (await call(client, "get_memories", user_id="ann"))["total"] == 0
            await call(client, "undo", user_id="ann")
            await call(client, "delete_all_memories", user_id="ann")
            assert (await call(client, "get_memories", user_id="ann"))["total"] == 0

    asyncio.run(session())


def test_resources_and_prompts_show_a_memory_and_its_source(environ: dict[str, str], tiny_home: Path) -> None:
    with Memory() as memory:
        [added] = memory.add("Ann likes green tea", user_id="ann", infer=False)["results"]

    async def session() -> None:
        async with stdio_client(environ) as client:
            templates = (await client.list_resource_templates()).resource_templates
            assert {t.uri_template for t in templates} == {"memory://{memory_id}", "memory://{memory_id}/source"}
            read = await client.read_resource(f"memory://{added['id']}/source")
            source = json.loads(read.contents[0].text)  # type: ignore[union-attr]
            assert source["messages"][0]["text"] == "Ann likes green tea"
            with pytest.raises(MCPError, match="no memory has the id"):
                await client.read_resource("memory://nothing")
            prompt = await client.get_prompt("what_do_you_know", {"topic": "tea"})
            assert "Ann likes green tea" in prompt.messages[0].content.text  # type: ignore[union-attr]

    asyncio.run(session())


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("add_memory", {}, "give either text or messages"),
    ("add_memory", {"text": "x" * 100_001}, "text: "),
    ("add_memory", {"messages": [{"role": "boss", "content": "x"}]}, "a message is"),
    ("add_memory", {"messages": [{"role": "user", "content": "x"}] * 201}, "messages: "),
    ("add_memory", {"text": "x", "timestamp": "the day after"}, "cannot read the time"),
    ("add_memory", {"text": "x", "metadata": {"a": {"b": float(1)}}, "user": "ann"}, "has no argument 'user'"),
    ("search_memories", {"query": "  "}, "query is empty"),
    ("search_memories", {"query": "x", "limit": 0}, "limit: "),
    ("search_memories", {"query": "x", "limit": 10**9}, "limit: "),
    ("search_memories", {"query": "x", "filters": {"a": {"unknown": 1}}}, "unknown"),
    ("search_memories", {"query": ["x"]}, "query: "),
    ("get_memory", {"memory_id": "../../etc/passwd"}, "no memory has the id"),
    ("get_memory", {"memory_id": "'; DROP TABLE memories; --"}, "no memory has the id"),
    ("update_memory", {"memory_id": "x", "text": "y"}, "no memory has the id"),
    ("delete_all_memories", {}, "say whose memories"),
    ("delete_all_memories", {"user_id": ""}, "must be a name"),
    ("undo", {"change_id": 10**30}, "no change has the number"),
    ("ask_memory", {"question": ""}, "question: "),
    ("no_such_tool", {}, "there is no tool"),
]


def test_hostile_arguments_give_one_clear_line_and_the_server_lives_on(environ: dict[str, str]) -> None:
    async def session() -> None:
        async with stdio_client(environ) as client:
            await call(client, "add_memory", text="Ann likes tea", user_id="ann", infer=False)
            for tool, arguments, words in HOSTILE:
                line = await refusal(client, tool, **arguments)
                assert words in line and "\n" not in line and "Traceback" not in line, (tool, line)
            assert (await call(client, "get_memories"))["total"] == 1

    asyncio.run(session())


def test_results_are_bounded(environ: dict[str, str], tiny_home: Path) -> None:
    with Memory() as memory:
        for number in range(40):
            memory.add(f"{number} " + "tea " * 1_000, user_id="ann", infer=False)

    async def session() -> None:
        async with stdio_client(environ) as client:
            found = await call(client, "get_memories", limit=100)
            assert found["total"] == 40 and found["left_out"] > 0
            assert len(json.dumps(found)) < 100_000
            assert all(len(item["memory"]) <= 2_001 for item in found["results"])

    asyncio.run(session())


def test_ten_clients_write_through_one_resident_process(environ: dict[str, str], tiny_home: Path) -> None:
    async def client_work(number: int) -> None:
        async with stdio_client(environ) as client:
            for turn in range(3):
                await call(client, "add_memory", text=f"client {number} turn {turn}", user_id=f"u{number}", infer=False)

    async def session() -> None:
        await asyncio.gather(*(client_work(number) for number in range(10)))

    with resident_process(environ):
        asyncio.run(session())
    with Memory() as memory:
        for number in range(10):
            assert len(memory.get_all(user_id=f"u{number}")["results"]) == 3


def test_a_killed_resident_process_loses_no_write_and_the_client_goes_on_alone(
    environ: dict[str, str], tiny_home: Path
) -> None:
    async def session(pid: int) -> None:
        async with stdio_client(environ) as client:
            await call(client, "add_memory", text="before", user_id="ann", infer=False)
            work = [
                asyncio.create_task(call(client, "add_memory", text=f"during {n}", user_id="ann", infer=False))
                for n in range(8)
            ]
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            os.kill(pid, signal.SIGKILL)
            await asyncio.gather(*work)
            await call(client, "add_memory", text="after", user_id="ann", infer=False)

    with resident_process(environ) as process:
        asyncio.run(session(process.pid))
    with Memory() as memory:
        texts = sorted(item["memory"] for item in memory.get_all(user_id="ann")["results"])
    assert texts == sorted(["before", "after", *(f"during {n}" for n in range(8))])


def test_a_client_that_leaves_in_the_middle_stops_nobody_else(environ: dict[str, str], tiny_home: Path) -> None:
    async def leave() -> None:
        async with stdio_client(environ) as client:
            await call(client, "add_memory", text="Ann likes tea", user_id="ann", infer=False)
            work = asyncio.create_task(client.call_tool("ask_memory", {"question": "What does Ann like?"}))
            await asyncio.sleep(0)
            work.cancel()

    async def stay() -> None:
        async with stdio_client(environ) as client:
            assert (await call(client, "get_memories"))["total"] == 1

    with resident_process(environ):
        asyncio.run(leave())
        asyncio.run(stay())
