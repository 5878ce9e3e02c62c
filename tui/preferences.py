"""Settings that the app keeps for the next time: lines of config.toml, all others left as they are."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from memlora_mlx.errors import UsageError
from memlora_mlx.files import atomic_write


def save_preferences(home: Path, **changes: str | bool) -> None:
    """Write settings into <home>/config.toml.

    Raises:
        UsageError: the file is no TOML, writes a setting in a way that we do not touch, or cannot be written.
    """
    file = home / "config.toml"
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        before = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid TOML ({error}); mend or remove it") from error
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}; check its permissions") from error
    for name, value in changes.items():
        line = f"{name} = {_quoted(value)}"
        text, count = re.subn(rf"(?m)^[ \t]*{name}[ \t]*=.*$", lambda _, line=line: line, text, count=1)  # type: ignore[misc]
        if not count:
            text = f"{line}\n{text}"  # first: behind a table's heading it would be the table's
    try:
        whole = tomllib.loads(text) == {**before, **changes}
    except tomllib.TOMLDecodeError:
        whole = False
    if not whole:
        raise UsageError(f"{file} says {' or '.join(changes)} in more than a line; change it there by hand")
    try:
        home.mkdir(parents=True, exist_ok=True)
        atomic_write(file, text)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}; the choice holds until you leave") from error


def is_overridden(name: str) -> bool:
    """Whether the environment says otherwise at the next start."""
    return bool(os.environ.get(f"MEMLORA_{name.upper()}"))


def _quoted(value: str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    escaped = "".join(f"\\u{ord(c):04x}" if c in '"\\' or ord(c) < 32 or ord(c) == 127 else c for c in value)
    return f'"{escaped}"'
