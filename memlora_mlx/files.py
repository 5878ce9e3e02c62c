"""Files and folders that appear whole or not at all. Every room writes its files with these functions.

New content goes to a scratch name beside its target, is flushed to the disk, and then takes the target's name in one
step. A crash at any moment leaves the old content or the new, never a mixture. A failure removes the scratch file; a
kill may leave one, named `.*.part` (a file) or `.saving-*` (a folder).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def atomic_write(path: Path, content: bytes | str, *, private: bool = True) -> None:
    """Write a file whole, or leave what is there. Text is written as UTF-8.

    Args:
        private: only the user may read the file. False leaves that to the umask, as `open` does; it is for files that
            the user asked for by name and may want to share.

    Raises:
        OSError: the file cannot be written; the error names it, not the scratch file.
    """
    with atomic_file(path, private=private) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_file(path: Path, *, private: bool = True) -> Iterator[BinaryIO]:
    """A new file to write to, which takes the name `path` at the end of the `with` block unless the block raises.

    Args and errors are those of `atomic_write`.
    """
    scratch = path.with_name(f".{secrets.token_hex(8)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC  # a link at that name is not followed
    with _errors_naming(path, scratch):
        handle = os.open(scratch, flags, 0o600 if private else 0o666)
        try:
            with open(handle, "wb") as file:
                yield file
                file.flush()
                flush_to_disk(file.fileno())
            _rename(scratch, path)
        except BaseException:
            with contextlib.suppress(OSError):
                scratch.unlink()
            raise


@contextlib.contextmanager
def atomic_paths(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Scratch paths for what a library writes by path. At the end of the `with` block each takes its target's name.

    The paths lie in a folder that only the user can enter, and have their targets' suffixes. They are moved in the
    order given, so the file that says that the others are there comes last. If the block raises, nothing is moved.

    Args:
        targets: files of one folder, which must exist.
    """
    with tempfile.TemporaryDirectory(dir=targets[0].parent, prefix=".saving-") as folder:
        scratches = tuple(Path(folder, target.name) for target in targets)
        yield scratches
        for scratch in scratches:
            _sync(scratch)
        for scratch, target in zip(scratches, targets, strict=True):
            _rename(scratch, target)


def is_scratch(path: Path) -> bool:
    """Whether a name is one that an unfinished save has."""
    name = path.name
    return name.startswith(".saving-") or (name.startswith(".") and name.endswith(".part"))


def private_folder(path: Path) -> None:
    """Make a folder, and the folders above it that are missing, for their user alone."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(folder.parent)


def new_private_file(path: Path) -> None:
    """Make an empty file that only its user may read, for a library that writes by path. Raises FileExistsError."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600))  # a link is not followed


def replace_file(scratch: Path, path: Path) -> None:
    """Give a finished scratch file of the same file system its final name."""
    _sync(scratch)
    _sync_folder(scratch.parent)  # a disk may forget the rename of a name that it has never had
    _rename(scratch, path)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there, so that a loss of power does not bring it back."""
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


def replace_folder(new: Path, place: Path) -> None:
    """Give a finished folder its final name; the folder that is there is put aside first, and removed afterwards.

    Raises:
        OSError: it cannot be moved; what was there is there again.
    """
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".saving-", ignore_cleanup_errors=True) as scratch:
        old = Path(scratch, "old")
        if place.is_symlink() or place.exists():
            place.rename(old)
        try:
            _rename(new, place)
        except BaseException:
            if old.is_symlink() or old.exists():
                old.rename(place)
            raise


@contextlib.contextmanager
def atomic_folder(place: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the name `place` at the end of the `with` block unless the block raises.

    Raises:
        OSError: it cannot be written; what was there is there again.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=".saving-"))
    try:
        made = scratch / place.name
        made.mkdir()
        yield made
        replace_folder(made, place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def flush_to_disk(handle: int) -> None:
    """Return when the disk has what was written to an open file or folder, as far as the system can tell."""
    if sys.platform == "darwin":  # there, fsync leaves it in the disk's own cache
        with contextlib.suppress(OSError):  # a file system that does not know it
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            return
    os.fsync(handle)


def _rename(scratch: Path, path: Path) -> None:
    os.replace(scratch, path)
    _sync_folder(path.parent)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        flush_to_disk(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush the new name to the disk; some network file systems cannot, and the file is in place all the same."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flush_to_disk(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _errors_naming(path: Path, scratch: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename == scratch or error.filename == str(scratch):
            error.filename, error.filename2 = str(path), None
        raise
