"""The `/` commands of the chat: one table for completion, help and the palette."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Command:
    """One command. Its method on the Chat screen is `command_<name>`."""

    name: str
    argument: str  # as the help shows it; empty for none
    purpose: str
    takes_path: bool = False


COMMANDS: tuple[Command, ...] = (
    Command("help", "", "All keys and commands"),
    Command("memories", "", "Search, edit and export what is remembered"),
    Command("search", "WORDS", "The memories nearest to these words, in the panel"),
    Command("remember", "WORDS", "Keep these words as they are"),
    Command("forget", "WORDS", "Delete the memory nearest to these words; without words, undo"),
    Command("undo", "", "Take back the last change of the memories"),
    Command("image", "PATH WORDS", "Attach an image, with a caption; without a path, pick one", takes_path=True),
    Command("panel", "", "Show or hide the memories beside the chat"),
    Command("clear", "", "Begin a new conversation; the memories stay"),
    Command("retry", "", "Try again what could not be remembered"),
    Command("export", "PATH", "Write all memories to a JSONL or .md file", takes_path=True),
    Command("save", "PATH", "Write this conversation to a Markdown file", takes_path=True),
    Command("ingest", "", "Read conversation files into the memory"),
    Command("train", "", "Train an expert"),
    Command("bench", "", "Run benchmarks and open their reports"),
    Command("models", "", "See, fetch and choose models"),
    Command("theme", "", "Between dark and light"),
    Command("quit", "", "Leave; what was said is kept"),
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


def complete(text: str, *, limit: int = 40) -> Sequence[tuple[str, str]]:
    """What the text could become: pairs of the new text and a word on it. Empty where nothing is to be completed."""
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
    """Files and folders whose path begins so; a folder ends in a slash."""
    folder, _, head = beginning.rpartition("/")
    base = Path(f"{folder}/" if folder or beginning.startswith("/") else ".").expanduser()
    try:
        found = sorted(
            path for path in base.iterdir() if path.name.startswith(head) and (head or not path.name.startswith("."))
        )
        lead = f"{folder}/" if "/" in beginning else ""
        named = [f"{lead}{path.name}{'/' if path.is_dir() else ''}" for path in found[:limit]]
    except (OSError, RuntimeError):  # not to be read; a home folder of nobody
        return []
    return [path for path in named if path.isprintable() and path != beginning]
