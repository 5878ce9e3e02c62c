"""Files that only their user may read: the umask of commands, and the modes of what is below the data folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OTHERS = 0o077  # the bits of a mode that let the group or everybody in
_PUBLIC = ("models",)  # below the data folder: what everybody can download


@contextmanager
def private_umask() -> Iterator[None]:
    """A block in which this process makes files and folders for its user alone."""
    before = os.umask(OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def find_open_paths(home: Path) -> list[Path]:
    """The data folder and all below it but models, where others than its user may enter or read. Links are not followed."""
    if not home.is_dir():
        return []
    found = [home, *_below(home)]
    return [path for path in found if not path.is_symlink() and stat.S_IMODE(path.lstat().st_mode) & OTHERS]


def make_private(home: Path) -> int:
    """Take the rights of all others away. Returns of how many files and folders.

    Raises:
        OSError: one belongs to somebody else.
    """
    paths = find_open_paths(home)
    for path in paths:
        path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~OTHERS)
    return len(paths)


def _below(home: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(home):
        if Path(folder) == home:
            folders[:] = [name for name in folders if name not in _PUBLIC]
        yield from (Path(folder, name) for name in (*folders, *files))
