"""Records a session of MCP's official client with `memlora mcp`, as docs/mcp-session.md shows it.

python docs/examples/record_mcp_session.py > docs/mcp-session.md
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

TALK = [
    {"role": "user", "content": "I moved to Lisbon last week. I work at a bakery there."},
    {"role": "assistant", "content": "How nice! Lisbon is lovely in spring."},
]
LONGEST = 700  # characters of a result that are shown


async def record(environ: Mapping[str, str]) -> str:
    """The session as Markdown, with what the server really answered."""
    lines: list[str] = []
    server = StdioServerParameters(command=sys.executable, args=["-m", "memlora_mlx", "mcp"], env=dict(environ))
    async with Client(server, read_timeout_seconds=600) as client:

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(tool, arguments)
            found = result.structured_content if not result.is_error else {"error": result.content[0].text}
            first = {name: value for name, value in (found or {}).items() if name == "answer"}
            shown = json.dumps(_short({**first, **(found or {})}), indent=1, ensure_ascii=False)
            shown = shown if len(shown) <= LONGEST else shown[:LONGEST] + " …"
            lines.extend([f"`{tool}`", "", "```json", json.dumps(arguments, ensure_ascii=False), "```", ""])
            lines.extend(["```json", shown, "```", ""])
            return dict(found or {})

        tools = (await client.list_tools()).tools
        lines.extend(["The tools: " + ", ".join(f"`{tool.name}`" for tool in tools) + ".", ""])
        await call("add_memory", messages=TALK, user_id="maya", timestamp="2026-03-02")
        added = await call("add_memory", text="Maya drinks green tea", user_id="maya", infer=False)
        memory = added["results"][0]["id"]
        await call("search_memories", query="Where did I move to?", user_id="maya", limit=2)
        await call("ask_memory", question="Where did I move to?", user_id="maya")
        await call("update_memory", memory_id=memory, text="Maya drinks coffee")
        await call("undo", user_id="maya")
        await call("get_memory", memory_id=memory)
        await call("delete_all_memories")
    return "\n".join(lines)


def _short(value: Any) -> Any:
    """A result without its empty fields."""
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items() if item not in (None, [], {})}
    return [_short(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    from memlora_mlx import __version__
    from memlora_mlx.settings import load_settings

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "models").symlink_to(load_settings().models_folder)
        environ = {**os.environ, "MEMLORA_HOME": folder, "MEMLORA_STUDENT": "smollm2-135m"}
        session = asyncio.run(record(environ))
    print("# A session with MCP's client\n")
    print(
        f"`docs/examples/record_mcp_session.py` wrote this page: memlora {__version__}, the MCP SDK {version('mcp')}, the"
        " student smollm2-135m with its experts, an empty store. Empty fields and the ends of long results are left out."
    )
    print(f"\n{session}", end="")


if __name__ == "__main__":
    main()
