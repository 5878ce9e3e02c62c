"""The settings files of MCP clients: memlora's entry is put in or taken out, and nothing else is touched."""

from __future__ import annotations

import difflib
import json
import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.files import atomic_write

NAME = "memlora"  # of the entry


@dataclass(frozen=True, slots=True)
class ClientFile:
    """Where a client keeps its MCP servers."""

    path: Path
    table: str  # the key that holds the servers by name
    is_toml: bool = False


@dataclass(frozen=True, slots=True)
class PlannedEdit:
    """A change of a client's file that was worked out and not made yet."""

    path: Path
    old: str | None  # None: there is no file yet
    new: str

    @property
    def is_change(self) -> bool:
        return self.new != (self.old or "")

    @property
    def diff(self) -> str:
        old, new = (self.old or "").splitlines(True), self.new.splitlines(True)
        return "".join(difflib.unified_diff(old, new, str(self.path), str(self.path)))

    def apply(self) -> Path | None:
        """Write the file, after a backup beside it. Returns the backup's path; None if there was no file.

        Raises:
            MemloraError: the file was changed since the edit was worked out, or cannot be written.
        """
        target = self.path.resolve()  # a link, to a folder of settings under version control say, stays a link
        try:
            if read_settings(target) != self.old:
                raise MemloraError(f"{self.path} was changed meanwhile; try again")
            backup = None
            if self.old is not None:
                stamp = time.strftime("%Y%m%d-%H%M%S")
                backup = target.with_name(f"{target.name}.memlora-{stamp}.bak")
                atomic_write(backup, self.old)
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(target, self.new)
        except OSError as error:
            raise MemloraError(f"cannot write {self.path}: {error.strerror}; check its permissions") from error
        return backup


def client_files(home: Path | None = None, platform: str = sys.platform) -> dict[str, ClientFile]:
    """The file of each client that can be installed into, below this home folder of the user."""
    home = home or Path.home()
    mac = home / "Library" / "Application Support"
    settings = mac if platform == "darwin" else home / ".config"
    codex = Path(os.environ.get("CODEX_HOME") or home / ".codex")
    return {
        "claude-desktop": ClientFile(settings / "Claude" / "claude_desktop_config.json", "mcpServers"),
        "claude-code": ClientFile(home / ".claude.json", "mcpServers"),
        "cursor": ClientFile(home / ".cursor" / "mcp.json", "mcpServers"),
        "lm-studio": ClientFile(home / ".lmstudio" / "mcp.json", "mcpServers"),
        "codex": ClientFile(codex / "config.toml", "mcp_servers", is_toml=True),
    }


def server_entry() -> dict[str, Any]:
    """The entry that starts this installation of memlora; clients do not know the user's shell or its PATH."""
    entry: dict[str, Any] = {"command": sys.executable, "args": ["-m", "memlora_mlx", "mcp"]}
    if home := os.environ.get("MEMLORA_HOME"):
        entry["env"] = {"MEMLORA_HOME": str(Path(home).expanduser().absolute())}
    return entry


def planned_edit(client: str, entry: Mapping[str, Any] | None, *, home: Path | None = None) -> PlannedEdit:
    """The change that puts memlora's entry into the client's file, or takes it out where the entry is None.

    Raises:
        UsageError: there is no such client.
        MemloraError: the file cannot be read, or is not what the client writes; it is left as it is.
    """
    files = client_files(home)
    if client not in files:
        raise UsageError(f"there is no client {client!r}; known are {', '.join(files)}")
    file = files[client]
    old = read_settings(file.path)
    content = parse_settings(file, old or "")
    servers = content.get(file.table)
    if servers is not None and not isinstance(servers, MutableMapping):
        raise MemloraError(f"{file.path}: {file.table} is not a table; mend the file first. It was not changed")
    if entry is None:
        if servers is None or NAME not in servers:
            return PlannedEdit(file.path, old, old or "")
        del servers[NAME]
    else:
        if servers is not None and NAME in servers and _plain(servers[NAME]) == dict(entry):
            return PlannedEdit(file.path, old, old or "")
        if servers is None:
            content[file.table] = tomlkit.table(is_super_table=True) if file.is_toml else {}
            servers = content[file.table]
        servers[NAME] = dict(entry)
    return PlannedEdit(file.path, old, written_settings(file, content, old or ""))


def read_settings(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise MemloraError(f"{path} is not UTF-8; mend it first. It was not changed") from error
    except OSError as error:
        raise MemloraError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def parse_settings(file: ClientFile, text: str) -> MutableMapping[str, Any]:
    try:
        if file.is_toml:
            return tomlkit.parse(text)
        content = json.loads(text, object_pairs_hook=_no_duplicates) if text.strip() else {}
    except (ValueError, RecursionError, ParseError) as error:
        kind = "TOML" if file.is_toml else "JSON"
        reason = str(error).splitlines()[0]
        raise MemloraError(f"{file.path} is not valid {kind} ({reason}); mend it first. It was not changed") from error
    if not isinstance(content, dict):
        raise MemloraError(f"{file.path} is not a JSON object; mend it first. It was not changed")
    return content


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; one that has a key twice would lose an entry when it is written again."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def written_settings(file: ClientFile, content: MutableMapping[str, Any], old: str) -> str:
    if file.is_toml:
        return tomlkit.dumps(content)
    indent = next((line[: len(line) - len(line.lstrip())] for line in old.splitlines() if line[:1] in " \t"), "  ")
    return json.dumps(content, ensure_ascii=False, indent=indent or "  ") + "\n"


def _plain(value: Any) -> Any:
    return value.unwrap() if hasattr(value, "unwrap") else value
