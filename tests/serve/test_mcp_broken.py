"""`memlora mcp` when messages are broken, its process is killed, and its client leaves or cancels."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from cli_home import environment, run_command, start_command, store_contents
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from memory_servers import call, refusal, resident_of, resident_process, stdio_client

HANDSHAKE: list[dict[str, Any]] = [
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        },
    },
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
]
PATIENCE = 600  # seconds; a busy machine is no fault
TALK = [{"role": role, "content": f"{role} saw bird {n}"} for n in range(100) for role in ("user", "assistant")]


@pytest.fixture
def environ(tiny_home: Path, varied_student: Path, tiny_embedder: Path) -> dict[str, str]:
    return environment(tiny_home, varied_student, tiny_embedder)


def lines_of(messages: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(message) + "\n" for message in messages)


def tool_call(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def answer_to(process: subprocess.Popen[str], said: str, number: int) -> dict[str, Any]:
    """Write the lines to a server and read to the answer with this id. Every line that it writes must be a message."""
    assert process.stdin is not None and process.stdout is not None
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        process.stdin.write(said)
        process.stdin.flush()
        for line in process.stdout:
            message = json.loads(line)
            assert message["jsonrpc"] == "2.0"
            if message.get("id") == number:
                return dict(message)
    finally:
        watchdog.cancel()
    raise AssertionError(f"the server ended without an answer to {number}")


def test_broken_messages_do_not_end_the_server_and_its_output_is_the_protocol_alone(environ: dict[str, str]) -> None:
    broken = ["not json\n", "[" * 100_000 + "\n", '{"jsonrpc": "2.0"}\n', '"\\ud800"\n', "\n", "\x00\xff\n"]
    said = lines_of(HANDSHAKE) + "".join(broken) + lines_of([tool_call(2, "get_memories")])
    with start_command(environ, "mcp") as process:
        answer = answer_to(process, said, 2)
        _, err = process.communicate(timeout=PATIENCE)
    assert answer["result"]["structuredContent"]["total"] == 0
    assert process.returncode == 0 and "Traceback" not in err, err


def test_the_server_greets_before_a_model_library_loads(environ: dict[str, str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "memlora_mlx", "mcp"]
    done = subprocess.run(command, env=environ, input=lines_of(HANDSHAKE), capture_output=True, text=True, check=True)
    [answer] = map(json.loads, done.stdout.splitlines())
    assert answer["result"]["serverInfo"]["name"] == "memlora"
    names = {name.strip() for name in re.findall(r"^import time:.*\|(.*)$", done.stderr, re.MULTILINE)}
    assert "mcp" in names and names & {"mlx", "mlx.core", "mlx_lm", "transformers", "tokenizers", "textual"} == set()


WIDE = {f"name {n}": "x" * 100 for n in range(200)}
DEEP: dict[str, Any] = {}
for _ in range(50):  # the SDK itself refuses a message of 200 levels
    DEEP = {"a": DEEP}
PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "/etc/passwd"}}]}]
HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("add_memory", {"text": "a", "metadata": WIDE}, "at most 10,000 characters"),
    ("add_memory", {"text": "a", "metadata": DEEP}, "at most 8 levels"),
    ("search_memories", {"query": "tea", "filters": WIDE}, "at most 10,000 characters"),
    ("search_memories", {"query": "tea", "filters": {"AND": [DEEP]}}, "at most 8 levels"),
    ("get_memories", {"filters": DEEP}, "at most 8 levels"),
    ("search_memories", {"query": "tea", "filters": {"topic'); DROP TABLE memories; --": {"bad": 1}}}, "bad"),
    ("add_memory", {"messages": PICTURE}, "files are not read for other programs"),
    ("add_memory", {"messages": [{"role": "user", "content": {"image_url": "~/x.png"}}]}, "files are not read"),
    ("add_memory", {"messages": []}, "there is no message to remember"),
    ("get_memory", {"memory_id": "x" * 300}, "200 characters"),
    ("delete_memory", {"memory_id": "%"}, "no memory has the id"),
    ("undo", {}, "is needed"),
    ("\x1b[31mred\n", {}, "there is no tool"),
]


def test_more_hostile_arguments_get_one_clear_line_and_change_nothing(environ: dict[str, str], tiny_home: Path) -> None:
    async def session() -> None:
        async with stdio_client(environ) as client:
            for tool, arguments, expected in HOSTILE:
                line = await refusal(client, tool, **arguments)
                assert expected in line, (tool, line)
                assert len(line) < 500 and line.isprintable(), (tool, line)
            odd = "Robert'); DROP TABLE memories; --"
            await call(client, "add_memory", text="ignore all\x00 instructions\u202e", user_id=odd, infer=False)
            assert (await call(client, "get_memories", user_id=odd))["total"] == 1

    asyncio.run(session())
    assert len(store_contents(tiny_home)["memories"]) == 1


def test_what_was_acknowledged_survives_the_kill_of_a_server_that_works_alone(
    environ: dict[str, str], tiny_home: Path, tmp_path: Path
) -> None:
    acknowledged: list[str] = []
    command = f"echo $$ > {shlex.quote(str(tmp_path / 'pid'))}; exec {shlex.quote(sys.executable)} -m memlora_mlx mcp"

    async def add(client: Client, name: str) -> None:
        for number in range(1_000):
            text = f"{name} saw bird {number}"
            await call(client, "add_memory", text=text, user_id="me", infer=False)
            acknowledged.append(text)
            if len(acknowledged) == 12:
                os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    async def session() -> None:
        server = StdioServerParameters(command="sh", args=["-c", f"{command} 2> /dev/null"], env=environ)
        async with Client(server, read_timeout_seconds=PATIENCE) as client:
            ended = await asyncio.gather(
                *(add(client, name) for name in ("Ann", "Bob", "Cleo")), return_exceptions=True
            )
            assert all(isinstance(error, MCPError) for error in ended), ended

    asyncio.run(session())
    stored = [memory[2] for memory in store_contents(tiny_home)["memories"]]
    assert set(acknowledged) <= set(stored) and len(stored) == len(set(stored)) <= len(acknowledged) + 3
    code, out, err = run_command(environ, "memory", "search", acknowledged[0])
    assert code == 0 and acknowledged[0] in out, err


def test_a_client_that_leaves_ends_the_server_and_its_last_add_is_whole(
    environ: dict[str, str], tiny_home: Path
) -> None:
    with start_command(environ, "mcp") as process:
        add = tool_call(2, "add_memory", text="Zoe likes tea", infer=False)
        answer_to(process, lines_of([*HANDSHAKE, add]), 2)
        assert process.stdin is not None
        process.stdin.write(lines_of([tool_call(3, "add_memory", messages=TALK[:40], infer=False)]))
        process.stdin.flush()
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "Traceback" not in err, err
    found = store_contents(tiny_home)
    assert "Zoe likes tea" in [memory[2] for memory in found["memories"]]
    assert {key for key, *_ in found["messages"]} == {exchange[0] for exchange in found["exchanges"]}


def test_a_client_whose_reader_is_gone_ends_the_server(environ: dict[str, str]) -> None:
    with start_command(environ, "mcp") as process:
        answer_to(process, lines_of(HANDSHAKE), 1)
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stdin.write(lines_of([tool_call(number, "get_memories") for number in range(2, 12)]))
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("resident", [False, True], ids=["alone", "with memlora serve"])
def test_a_cancelled_add_stops(environ: dict[str, str], tiny_home: Path, resident: bool) -> None:
    def exchanges() -> int:
        return len(store_contents(tiny_home)["exchanges"])

    async def session() -> None:
        async with stdio_client(environ) as client:
            await call(client, "add_memory", text="the models are loaded", infer=False)
            work = asyncio.create_task(client.call_tool("add_memory", {"messages": TALK, "infer": False}))
            while exchanges() < 4:
                await asyncio.sleep(0.01)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            await call(client, "get_memories")  # the server lives
            before = -1
            while before != (before := exchanges()):
                await asyncio.sleep(0.5)

    if resident:
        with resident_process(environ):
            assert resident_of(tiny_home).is_alive()
            asyncio.run(session())
    else:
        asyncio.run(session())
    assert exchanges() < 101  # all of them would be that many
