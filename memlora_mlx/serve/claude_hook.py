"""Claude Code's hook: memories for a prompt, and the transcript of a session that ends.

Claude Code starts `python -m memlora_mlx.serve.claude_hook` at each event, and waits for it. So this module loads the
standard library and little else, gives up soon, and never fails: a prompt without memories is better than none.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from memlora_mlx.errors import MemloraError
from memlora_mlx.serve import connection
from memlora_mlx.serve.work_queue import WorkQueue

EVENTS = ("UserPromptSubmit", "SessionEnd")
WAIT_SECONDS = 1.0  # for the resident process; models that it has unloaded come with the next prompt
MAX_EVENT = 4 << 20  # characters of what Claude Code says
MAX_PROMPT = 4_000  # characters by which memories are looked for


def main(arguments: list[str], stdin: TextIO, stdout: TextIO, stderr: TextIO) -> None:
    """Handle one event, which is a JSON object on standard input.

    Args:
        arguments: `--home FOLDER` names the data folder.
    """
    try:
        home = Path(arguments[arguments.index("--home") + 1]) if "--home" in arguments else _default_home()
        event = json.loads(stdin.read(MAX_EVENT))
        if event.get("hook_event_name") == "UserPromptSubmit":
            if block := memories_for(home, str(event.get("prompt") or "")):
                said = {"hookEventName": "UserPromptSubmit", "additionalContext": block}
                stdout.write(json.dumps({"hookSpecificOutput": said}))
        elif event.get("hook_event_name") == "SessionEnd":
            queue_transcript(home, event)
    except (MemloraError, OSError, ValueError, AttributeError, IndexError) as error:
        stderr.write(f"memlora: {error}\n")


def memories_for(home: Path, prompt: str) -> str:
    """The memories for a prompt as a text; "" where there are none, or no resident process that answers in time."""
    resident = connection.find(home)
    if resident is None or not prompt.strip() or prompt.startswith("/"):
        return ""
    way = connection.UnixConnection(resident.socket_path, WAIT_SECONDS)
    try:
        way.request("POST", "/call/recall", json.dumps({"query": prompt[:MAX_PROMPT]}))
        return str(connection.read_answer(way.getresponse(), lambda _: None)["block"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, MemloraError):
        return ""
    finally:
        way.close()


def queue_transcript(home: Path, event: Mapping[str, Any]) -> None:
    """Queue the session's file; the resident process reads it when it has time."""
    path = event.get("transcript_path")
    if isinstance(path, str) and path.strip():
        WorkQueue(home).put("read_transcript", {"path": os.path.abspath(os.path.expanduser(path))})


def _default_home() -> Path:
    if home := os.environ.get("MEMLORA_HOME"):
        return Path(home).expanduser()
    from memlora_mlx.settings import default_home

    return default_home()


if __name__ == "__main__":
    main(sys.argv[1:], sys.stdin, sys.stdout, sys.stderr)
