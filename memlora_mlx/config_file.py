"""Settings that memlora itself saves in config.toml. All other lines of the file stay as they are."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from memlora_mlx.errors import UsageError
from memlora_mlx.files import atomic_write


def save_preferences(home: Path, **changes: str | bool | int) -> None:
    """Write settings into <home>/config.toml.

    Raises:
        UsageError: the file is not TOML, sets a value over several lines, or cannot be read or written.
    """
    file = home / "config.toml"
    text, before = _read(file)
    for name, value in changes.items():
        line = f"{name} = {_quoted(value)}"
        text, count = re.subn(rf"(?m)^[ \t]*{name}[ \t]*=.*$", lambda _, line=line: line, text, count=1)  # type: ignore[misc]
        if not count:
            text = f"{line}\n{text}"  # at the top: after a table's heading it would belong to the table
    try:
        whole = tomllib.loads(text) == {**before, **changes}
    except tomllib.TOMLDecodeError:
        whole = False
    if not whole:
        raise UsageError(f"{file} sets {' or '.join(changes)} over several lines. Change it in the file.")
    _write(file, text, "The setting")


def save_key(home: Path, action: str, key: str) -> None:
    """Give an action of the app another key, in the table [keys] of <home>/config.toml. An empty key gives it its own back.

    Raises:
        UsageError: the file is not TOML, or writes the table in a way that is not changed here, or cannot be written.
    """
    file = home / "config.toml"
    text, before = _read(file)
    wanted = {name: value for name, value in {**before.get("keys", {}), action: key}.items() if value}
    line = re.compile(rf"(?m)^[ \t]*[\"']{re.escape(action)}[\"'][ \t]*=.*\n?")
    text = line.sub("", text)
    if key:
        entry = f"{_quoted(action)} = {_quoted(key)}\n"
        text, count = re.subn(r"(?m)^[ \t]*\[keys\][ \t]*\n", lambda found: found[0] + entry, text, count=1)
        text = text if count else f"{text.rstrip()}\n\n[keys]\n{entry}".lstrip()
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        found = {}
    if found.get("keys", {}) != wanted or {**found, "keys": None} != {**before, "keys": None}:
        raise UsageError(f"{file} has a table [keys] that cannot be changed here. Change it in the file.")
    _write(file, text, "The key")


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    """The text of the file and what it sets; nothing of a file that is not there. Raises UsageError: see `save_preferences`."""
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        before = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}. Correct or remove the file.") from error
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}. Check its permissions.") from error
    return text, before


def _write(file: Path, text: str, what: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text)
    except OSError as error:
        raise UsageError(f"Cannot write {file}: {error.strerror}. {what} applies until you quit.") from error


def is_overridden(name: str) -> bool:
    """Whether an environment variable takes precedence over this setting."""
    return bool(os.environ.get(f"MEMLORA_{name.upper()}"))


def _quoted(value: str | bool | int) -> str:
    if isinstance(value, bool | int):
        return str(value).lower()
    escaped = "".join(f"\\u{ord(c):04x}" if c in '"\\' or ord(c) < 32 or ord(c) == 127 else c for c in value)
    return f'"{escaped}"'
