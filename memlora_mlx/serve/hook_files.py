"""The hooks in the settings file of Claude Code: memlora's are put in or taken out, and nothing else is touched."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from memlora_mlx.errors import MemloraError
from memlora_mlx.serve.claude_hook import EVENTS
from memlora_mlx.serve.client_files import ClientFile, PlannedEdit, parse_settings, read_settings, written_settings

MODULE = "memlora_mlx.serve.claude_hook"
TIMEOUT_SECONDS = 10  # after which Claude Code ends the hook; it gives up long before


def hook_command() -> str:
    """The shell's command line that starts this installation's hook."""
    words = [sys.executable, "-m", MODULE]
    if home := os.environ.get("MEMLORA_HOME"):
        words += ["--home", str(Path(home).expanduser().absolute())]
    return shlex.join(words)


def planned_hook_edit(command: str | None, *, home: Path | None = None) -> PlannedEdit:
    """The change that puts the hook into Claude Code's settings, or takes it out where the command is None.

    Raises:
        MemloraError: the file cannot be read, or is not what Claude Code writes; it is left as it is.
    """
    folder = Path(os.environ.get("CLAUDE_CONFIG_DIR") or (home or Path.home()) / ".claude")
    file = ClientFile(folder / "settings.json", "hooks")
    old = read_settings(file.path)
    content = parse_settings(file, old or "")
    hooks = content.get("hooks", {})
    if not isinstance(hooks, dict) or not all(isinstance(hooks.get(event, []), list) for event in EVENTS):
        raise MemloraError(f"{file.path}: hooks is not a table of lists; mend the file first. It was not changed")
    changed = dict(hooks)
    for event in EVENTS:
        others = [entry for entry in hooks.get(event, []) if not _is_ours(entry)]
        ours = [{"hooks": [{"type": "command", "command": command, "timeout": TIMEOUT_SECONDS}]}] if command else []
        changed[event] = [*others, *ours]
        if not changed[event]:
            del changed[event]
    if changed == hooks:
        return PlannedEdit(file.path, old, old or "")
    content["hooks"] = changed
    if not changed:
        del content["hooks"]
    return PlannedEdit(file.path, old, written_settings(file, content, old or ""))


def _is_ours(entry: Any) -> bool:
    inner = entry.get("hooks") if isinstance(entry, dict) else None
    return isinstance(inner, list) and any(
        isinstance(each, dict) and MODULE in str(each.get("command")) for each in inner
    )
