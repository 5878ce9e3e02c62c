"""The `/` commands of the chat: one table for completion, help and palette."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `ChatCommands.command_<name>` runs it."""

    name: str
    argument: str  # as the help shows it; empty if there is none
    purpose: str
    takes_path: bool = False


COMMANDS: tuple[Command, ...] = (
    Command("help", "", "Show all keys and commands"),
    Command("memories", "", "Search, edit and export memories"),
    Command("search", "TEXT", "Search memories in the panel; also person:NAME, since:2026-03-01, before:2026-04-01"),
    Command("today", "", "Show in the panel what was learned, changed and withdrawn today"),
    Command("remember", "TEXT", "Store this text as a memory"),
    Command("forget", "TEXT", "Delete the memory nearest to this text"),
    Command("undo", "", "Undo the last change to the memories"),
    Command("redo", "", "Redo the change that was undone last"),
    Command("image", "PATH TEXT", "Attach an image with a caption; without a path, choose a file", takes_path=True),
    Command("panel", "", "Show or hide the memory panel"),
    Command("conversations", "", "Search, open, rename, delete and export conversations"),
    Command("clear", "", "Start a new conversation; memories stay"),
    Command("rename", "NAME", "Give this conversation another name; so does e in the list of conversations"),
    Command("retry", "", "Retry exchanges that could not be stored"),
    Command("export", "PATH", "Write all memories to a JSONL or .md file", takes_path=True),
    Command("save", "PATH", "Write this conversation to a Markdown file", takes_path=True),
    Command("ingest", "", "Import conversation files"),
    Command("train", "", "Train an expert"),
    Command("bench", "", "Run benchmarks and open their reports"),
    Command("models", "", "List, download and choose models"),
    Command("theme", "", "Switch between dark and light"),
    Command("quit", "", "Quit after the last messages are stored"),
)
BY_NAME = {command.name: command for command in COMMANDS}


def parse(text: str) -> tuple[Command, str] | None:
    """The command and its argument, if the text is one line that begins with a known command.

    Other text that begins with a slash, such as a path, is just text.
    """
    if not text.startswith("/") or "\n" in text.strip():
        return None
    name, _, argument = text.strip()[1:].partition(" ")
    command = BY_NAME.get(name.lower())
    return None if command is None else (command, argument.strip())


def unknown_command(text: str) -> str | None:
    """Why a line that looks like a command is refused, or None if it is a command or just text, such as a path."""
    line = text.strip()
    found = re.fullmatch(r"/([A-Za-z][\w-]*)(?: .*)?", line)
    if found is None or parse(line) is not None or Path(f"/{found[1]}").exists():
        return None
    near = difflib.get_close_matches(found[1].lower(), BY_NAME, n=1)
    return f"There is no command /{found[1]}. {f'Did you mean /{near[0]}?' if near else 'Type / to see all commands.'}"


def complete(text: str, *, limit: int = 40) -> Sequence[tuple[str, str]]:
    """Completions of the text: pairs of a new text and a note. Empty if there is nothing to complete."""
    if not text.startswith("/") or "\n" in text:
        return []
    name, blank, argument = text[1:].partition(" ")
    if not blank:
        found = [command for command in COMMANDS if command.name.startswith(name.lower())]
        return [
            (f"/{command.name}{' ' if command.argument else ''}", f"{command.argument}  {command.purpose}".strip())
            for command in found
        ]
    command = BY_NAME.get(name.lower())
    if command is None or not command.takes_path or not argument:
        return []
    return [(f"/{name} {path}", "") for path in _paths(argument, limit)]


def _paths(beginning: str, limit: int) -> list[str]:
    """Files and folders whose path starts so. A folder ends in a slash."""
    folder, _, head = beginning.rpartition("/")
    base = Path(f"{folder}/" if folder or beginning.startswith("/") else ".").expanduser()
    try:
        found = sorted(
            path for path in base.iterdir() if path.name.startswith(head) and (head or not path.name.startswith("."))
        )
        lead = f"{folder}/" if "/" in beginning else ""
        named = [f"{lead}{path.name}{'/' if path.is_dir() else ''}" for path in found[:limit]]
    except (OSError, RuntimeError):  # not readable, or an unknown home folder
        return []
    return [path for path in named if path.isprintable() and path != beginning]
