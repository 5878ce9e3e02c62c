"""Power that fails at any moment: what a process wrote is recorded, and replayed up to a moment without what was not synced.

`strace` records the calls that change files. The disk of the model keeps only what was synced: the content of a file up to
its last fsync, and the names in a folder up to the folder's last fsync. Of what came later it keeps nothing, everything, or
any part: some of the writes, some of them torn at a sector's end, and the first few changes of names.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
_CALLS = (
    "openat,write,pwrite64,writev,pwritev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,"
    "mkdirat,rmdir,link,linkat,lseek,dup,dup2,copy_file_range,sendfile,fallocate"
)
_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass
class File:
    """A file of the model.

    Attributes:
        synced: what the disk has for certain.
        later: what was written after that: places and bytes, or a new length and None.
    """

    synced: bytearray = field(default_factory=bytearray)
    later: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.later:
            _write(self.synced, *change)
        self.later.clear()

    def survives(self, how: str, chance: random.Random) -> bytes:
        content = bytearray(self.synced)
        for place, data in self.later:
            if how == "all" or (how == "some" and chance.random() < 0.5):
                if data is not None and how == "some" and chance.random() < 0.3:
                    data = data[: chance.randrange(0, len(data) + 1, SECTOR)]
                _write(content, place, data)
        return bytes(content)


def _write(content: bytearray, place: int, data: bytes | None) -> None:
    if data is None:
        del content[place:]
        content.extend(bytes(place - len(content)))
        return
    content.extend(bytes(max(0, place - len(content))))
    content[place : place + len(data)] = data


@dataclass
class Disk:
    """The files and names below a folder, as programs see them and as the disk has them.

    Attributes:
        names: as programs see them; None is a folder.
        changes: of names, in order: kind, path, new path or None, file, and whether the disk has it for certain.
        said: what the process had written to its standard output.
    """

    root: str
    names: dict[str, File | None] = field(default_factory=dict)
    before: dict[str, File | None] = field(default_factory=dict)
    changes: list[list[object]] = field(default_factory=list)
    handles: dict[int, tuple[File | str, int]] = field(default_factory=dict)  # file or folder, and position
    said: bytes = b""

    @classmethod
    def of(cls, folder: Path) -> Disk:
        disk = cls(str(folder))
        for path in sorted(folder.rglob("*")):
            disk.names[str(path)] = None if path.is_dir() else File(bytearray(path.read_bytes()))
        disk.before = dict(disk.names)
        return disk

    def change(self, kind: str, path: str, new: str | None = None, file: File | None = None) -> None:
        self.changes.append([kind, path, new, file, False])
        _rename(self.names, kind, path, new, file)

    def put(self, handle: int, place: int | None, data: bytes) -> None:
        target, position = self.handles.get(handle, ("", 0))
        if isinstance(target, File):
            target.later.append((position if place is None else place, data))
            if place is None:
                self.handles[handle] = (target, position + len(data))

    def crash(self, folder: Path, how: str, chance: random.Random) -> None:
        """Write to `folder` what the disk has after a loss of power: "none", "some" or "all" of what was not synced."""
        names = dict(self.before)
        loose = [change for change in self.changes if not change[4]]
        taken = {"none": 0, "all": len(loose)}.get(how, chance.randrange(len(loose) + 1))
        allowed = {id(change) for change in loose[:taken]}
        for change in self.changes:
            if change[4] or id(change) in allowed:
                _rename(names, *change[:4])  # type: ignore[arg-type]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path, file in sorted(names.items()):
            target = folder / Path(path).relative_to(self.root)
            if file is None:
                target.mkdir(parents=True, exist_ok=True)
            elif not path.endswith("-shm") and target.parent.is_dir():  # shared memory is not on the disk
                target.write_bytes(file.survives(how, chance))


def _rename(names: dict[str, File | None], kind: str, path: str, new: str | None, file: File | None) -> None:
    if kind == "create":
        names[path] = file
    elif kind == "unlink":
        names.pop(path, None)
    elif new is not None:
        for name in [name for name in names if name == path or name.startswith(path + "/")]:
            names[new + name[len(path) :]] = names.pop(name)


def record(folder: Path, program: str, *arguments: str, limit: float = 200) -> list[tuple[str, str, int]]:
    """Run a program in Python and return its calls that change files: name, arguments as text, result."""
    log = folder.parent / "calls.log"
    command = ["strace", "-f", "-xx", "-s", "5000000", "-e", f"trace={_CALLS}", "-o", str(log)]
    subprocess.run(
        [*command, sys.executable, "-c", program, *arguments], check=True, timeout=limit, capture_output=True
    )
    calls = []
    for line in log.read_text(encoding="ascii").splitlines():
        if (match := _LINE.match(line)) and int(match[3]) >= 0:
            calls.append((match[1], match[2], int(match[3])))
    log.unlink()
    return calls


def replay(disk: Disk, calls: list[tuple[str, str, int]]) -> Iterator[int]:
    """Apply the calls one after the other, and stop after each that changed the disk, with its number."""
    for number, (name, text, result) in enumerate(calls):
        strings = [bytes.fromhex(each.replace("\\x", "")) for each in _TEXT.findall(text)]
        if _apply(disk, name, text, result, strings):
            yield number


def _apply(disk: Disk, name: str, text: str, result: int, strings: list[bytes]) -> bool:
    paths = [each.decode("utf-8", "replace") for each in strings] if name not in ("write", "pwrite64") else []
    handle = int(text.split(",", 1)[0]) if text.split(",", 1)[0].isdecimal() else -1
    if name == "openat":
        return _open(disk, paths[0], text, result)
    if name == "write" and handle == 1:
        disk.said += strings[0]
        return False
    if name in ("write", "pwrite64"):
        disk.put(handle, int(text.rsplit(",", 1)[1]) if name == "pwrite64" else None, strings[0][:result])
    elif name == "lseek":
        disk.handles[handle] = (disk.handles.get(handle, ("", 0))[0], result)
        return False
    elif name in ("fsync", "fdatasync"):
        _sync(disk, handle)
    elif name == "ftruncate":
        if isinstance(target := disk.handles.get(handle, ("", 0))[0], File):
            target.later.append((int(text.split(",")[1]), None))
    elif name in ("writev", "pwritev", "copy_file_range", "sendfile", "fallocate", "link", "linkat"):
        assert handle not in disk.handles, f"{name} is not in the model"
    elif not paths or not paths[0].startswith(disk.root + "/"):
        return False
    elif name.startswith("rename"):
        disk.change("rename", paths[0], paths[1])
    elif name.startswith("mkdir"):
        disk.change("create", paths[0])
    elif name.startswith(("unlink", "rmdir")):
        disk.change("unlink", paths[0])
    return True


def _open(disk: Disk, path: str, text: str, result: int) -> bool:
    disk.handles.pop(result, None)
    if path == disk.root or disk.names.get(path, 0) is None:
        disk.handles[result] = (path, 0)
        return False
    if not path.startswith(disk.root + "/"):
        return False
    is_new = path not in disk.names
    if is_new:
        disk.change("create", path, file=File())
    file = disk.names[path]
    assert file is not None
    if "O_TRUNC" in text:
        file.later.append((0, None))
    disk.handles[result] = (file, 0)
    return is_new or "O_TRUNC" in text


def _sync(disk: Disk, handle: int) -> None:
    target = disk.handles.get(handle, ("", 0))[0]
    if isinstance(target, File):
        target.sync()
    elif target:
        for change in disk.changes:
            if target in (str(Path(str(change[1])).parent), str(Path(str(change[2] or "")).parent)):
                change[4] = True
