"""A backend for Claude's memory tool (`memory_20250818`): files that Claude writes for itself, kept as memories.

Each file below the virtual folder /memories is one memory: its text is found by every search, its history shows the
earlier versions, and `undo` brings one back. No path reaches the disk.

The commands and their answers are those of Anthropic's page on the memory tool.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.secrets import describe_withheld, screen_text
from memlora_mlx.text import clean_line, clean_text

ROOT = "/memories"
AGENT = "claude-memory-tool"  # the agent_id of the memories
MAX_FILES, MAX_FILE = 1_000, 100_000  # of one user, and characters of each
MAX_PATH = 300
SHOWN_LEVELS = 2  # of a folder that is viewed


class ClaudeMemoryTool:
    """Executes the tool's commands for one user.

    Put `{"type": "memory_20250818", "name": "memory"}` among the tools of a request, and answer each `tool_use` of that name
    with what `call` returns for its input.

    Args:
        memory: the store, which the caller opens and closes.
        user: whose files these are.
    """

    def __init__(self, memory: Memory, user: str) -> None:
        self._memory = memory
        self._owner: dict[str, Any] = {"user_id": user, "agent_id": AGENT}
        self._lock = threading.Lock()  # a command reads a file and then writes it

    def call(self, command: Mapping[str, Any]) -> tuple[str, bool]:
        """Execute one command: the input of a `tool_use`.

        Returns the text of the `tool_result`, and whether it is an error (its field `is_error`). A wrong command is such an
        error and raises nothing.
        """
        name = str(command.get("command"))
        method = _COMMANDS.get(name)
        given = {key: value for key, value in command.items() if key != "command"}
        if method is None:
            return f"Error: there is no command {name[:40]!r}; known are {', '.join(_COMMANDS)}", True
        try:
            with self._lock:
                return method(self, **given), False
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise
            return f"Error: {name}: the arguments do not fit", True
        except MemloraError as error:
            return f"Error: {error}", True

    def _view(self, path: str, view_range: Any = None) -> str:
        place, files = _checked(path), self._files()
        if place in files:
            return _numbered(place, files[place]["content"], view_range)
        below = sorted(name for name in files if name.startswith(f"{place}/"))
        if not below and place != ROOT:
            raise UsageError(f"The path {path} does not exist. Please provide a valid path.")
        lines = [f"{_size(sum(len(files[name]['content'].encode()) for name in below))}\t{place}"]
        for shown in sorted({_cut(name, place) for name in below}):
            inside = [name for name in below if name == shown or name.startswith(f"{shown}/")]
            lines.append(f"{_size(sum(len(files[name]['content'].encode()) for name in inside))}\t{shown}")
        return (
            f"Here're the files and directories up to {SHOWN_LEVELS} levels deep in {place}, excluding hidden items and"
            " node_modules:\n" + "\n".join(lines)
        )

    def _create(self, path: str, file_text: str) -> str:
        place, files = _checked(path), self._files()
        if place in files:
            raise UsageError(f"File {path} already exists")
        self._check_free(place, files)
        if len(files) >= MAX_FILES:
            raise UsageError(f"there are {MAX_FILES:,} files already; delete some first")
        content, note = self._screened(_content(file_text))
        said = [{"role": "assistant", "content": _text(place, content)}]
        self._memory.add(said, **self._owner, metadata=_metadata(place, content), infer=False)
        return f"File created successfully at: {place}{note}"

    def _str_replace(self, path: str, old_str: str, new_str: str = "") -> str:
        place, file = self._existing(path)
        content, old, new = file["content"], _content(old_str), _content(new_str)
        places = _starts(content, old) if old else []
        if not places:
            raise UsageError(f"No replacement was performed, old_str `{old[:200]}` did not appear verbatim in {place}.")
        if len(places) > 1:
            lines = ", ".join(str(content.count("\n", 0, at) + 1) for at in places[:20])
            raise UsageError(
                f"No replacement was performed. Multiple occurrences of old_str `{old[:200]}` in lines: {lines}."
                " Please ensure it is unique"
            )
        written, note = self._write(file["id"], place, content.replace(old, new))
        line = content.count("\n", 0, places[0]) + 1
        first = max(0, line - 4)
        snippet = written.split("\n")[first : line + new.count("\n") + 3]
        return f"The memory file has been edited.{note}\n" + _lines(snippet, first + 1)

    def _insert(self, path: str, insert_line: int, insert_text: str) -> str:
        place, file = self._existing(path)
        lines = file["content"].split("\n") if file["content"] else []
        is_number = isinstance(insert_line, int) and not isinstance(insert_line, bool)
        if not is_number or not 0 <= insert_line <= len(lines):
            raise UsageError(
                f"Invalid `insert_line` parameter: {str(insert_line)[:40]}. It should be within the range of lines of the"
                f" file: [0, {len(lines)}]"
            )
        lines[insert_line:insert_line] = _content(insert_text).removesuffix("\n").split("\n")
        _, note = self._write(file["id"], place, "\n".join(lines))
        return f"The file {place} has been edited.{note}"

    def _delete(self, path: str) -> str:
        place, files = _checked(path), self._files()
        if place == ROOT:
            raise UsageError(f"{ROOT} itself cannot be deleted")
        for name in self._named(place, files, path):
            self._memory.delete(files[name]["id"])
        return f"Successfully deleted {place}"

    def _rename(self, old_path: str, new_path: str) -> str:
        old, new, files = _checked(old_path), _checked(new_path), self._files()
        moved = self._named(old, files, old_path)
        if new in files or any(name.startswith(f"{new}/") for name in files):
            raise UsageError(f"The destination {new_path} already exists")
        if ROOT in (old, new) or new.startswith(f"{old}/"):
            raise UsageError(f"{old_path} cannot be moved to {new_path}")
        self._check_free(new, {name: file for name, file in files.items() if name not in moved})
        for name in moved:
            self._write(files[name]["id"], new + name.removeprefix(old), files[name]["content"])
        return f"Successfully renamed {old} to {new}"

    # ------------------------------------------------------------------ files as memories

    def _files(self) -> dict[str, dict[str, Any]]:
        """The files by their paths, each with its content and the id of its memory."""
        found = self._memory.get_all(**self._owner, limit=MAX_FILES + 1)["results"]
        named = [(item, item.get("metadata") or {}) for item in found]
        return {
            str(metadata["file"]): {"id": item["id"], "content": str(metadata.get("content", ""))}
            for item, metadata in named
            if metadata.get("file")
        }

    def _existing(self, path: str) -> tuple[str, dict[str, Any]]:
        place = _checked(path)
        file = self._files().get(place)
        if file is None:
            raise UsageError(f"The path {path} does not exist. Please provide a valid path.")
        return place, file

    def _named(self, place: str, files: Mapping[str, Any], path: str) -> list[str]:
        """The file at a path, or all files below the folder."""
        found = [name for name in files if name == place or name.startswith(f"{place}/")]
        if not found:
            raise UsageError(f"The path {path} does not exist")
        return found

    def _check_free(self, place: str, files: Mapping[str, Any]) -> None:
        if place == ROOT or any(name.startswith(f"{place}/") for name in files):
            raise UsageError(f"{place} is a folder")
        if any(place.startswith(f"{name}/") for name in files):
            raise UsageError(f"a part of {place} is a file, not a folder")

    def _write(self, memory_id: str, place: str, content: str) -> tuple[str, str]:
        """Give a file its new content; returns what is stored of it, and a note on what is not."""
        if len(content) > MAX_FILE:
            raise UsageError(f"a file can have at most {MAX_FILE:,} characters")
        kept, note = self._screened(content)
        self._memory.update(memory_id, _text(place, kept), metadata=_metadata(place, kept))
        return kept, note

    def _screened(self, content: str) -> tuple[str, str]:
        """A content without secrets and private passages, and a note on what was taken out."""
        screened = screen_text(content, keep_secrets=self._memory.workspace.settings.keep_secrets)
        note = describe_withheld(screened.withheld)
        return screened.text, f" {note}" if note else ""


_COMMANDS: dict[str, Callable[..., str]] = {
    name: getattr(ClaudeMemoryTool, f"_{name}")
    for name in ("view", "create", "str_replace", "insert", "delete", "rename")
}


def _checked(path: Any) -> str:
    """A path below /memories in its one way of writing. Raises UsageError: it leads elsewhere."""
    if not isinstance(path, str) or not path or len(path) > MAX_PATH:
        raise UsageError(f"a path is a text of at most {MAX_PATH} characters that begins with {ROOT}")
    parts = PurePosixPath(path).parts
    is_plain = clean_line(path) == path and not any(sign in path for sign in ("\\", "%", "//"))
    if not is_plain or parts[:2] != ("/", "memories") or any(part in (".", "..") for part in path.split("/")):
        raise UsageError(
            f"the path {clean_line(path)[:80]!r} is not below {ROOT}, or has parts that are not allowed there"
        )
    return "/" + "/".join(parts[1:])


def _content(text: Any) -> str:
    if not isinstance(text, str):
        raise UsageError("the text is missing")
    if len(text) > MAX_FILE:
        raise UsageError(f"a file can have at most {MAX_FILE:,} characters")
    return clean_text(text)


def _text(place: str, content: str) -> str:
    """What the memory of a file says: its name and its words, on one line."""
    return clean_line(f"{place.removeprefix(ROOT + '/')}: {content}")


def _metadata(place: str, content: str) -> dict[str, str]:
    return {"file": place, "content": content}


def _starts(text: str, part: str) -> list[int]:
    places, at = [], text.find(part)
    while at >= 0:
        places.append(at)
        at = text.find(part, at + 1)
    return places


def _numbered(place: str, content: str, view_range: Any) -> str:
    lines = content.split("\n")
    first, last = 1, len(lines)
    if view_range is not None:
        if not isinstance(view_range, list) or len(view_range) != 2 or not all(isinstance(n, int) for n in view_range):
            raise UsageError("view_range must be two line numbers")
        first, last = view_range[0], len(lines) if view_range[1] == -1 else view_range[1]
        if not 1 <= first <= last <= len(lines):
            raise UsageError(
                f"Invalid `view_range`: {view_range}. It should be within the lines of the file: [1, {len(lines)}]"
            )
    return f"Here's the content of {place} with line numbers:\n" + _lines(lines[first - 1 : last], first)


def _lines(lines: list[str], first: int) -> str:
    return "\n".join(f"{number:6}\t{line}" for number, line in enumerate(lines, start=first))


def _cut(name: str, folder: str) -> str:
    """A path below a folder, or the folder at the last level that is shown."""
    return "/".join([folder, *name.removeprefix(f"{folder}/").split("/")[:SHOWN_LEVELS]])


def _size(count: int) -> str:
    return f"{count}B" if count < 1024 else f"{count / 1024:.1f}K"
