"""`memlora ingest --watch`: files that appear or change in a folder are read.

The folder is looked through again and again. A library that is told of changes by the system would not spare that: a
file is read when it has stopped changing, and that takes two looks in any case.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memlora_mlx.cli.ingest_files import print_left_out
from memlora_mlx.text import printable_line

if TYPE_CHECKING:
    from memlora_mlx.conversations import ReadOptions
    from memlora_mlx.conversations.period import Period
    from memlora_mlx.memory.ingest import IngestStats
    from memlora_mlx.memory.workspace import Workspace

INTERVAL = 5.0  # seconds between two looks
SUFFIXES = (".json", ".jsonl", ".txt", ".md", ".vtt", ".srt", ".zip")
State = tuple[int, int, int]  # of a file: inode, size in bytes, time of the last change in nanoseconds


class FolderWatcher:
    """Finds the files below folders that are new or have changed, once they are at rest."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._seen: dict[Path, State] = {}
        self._given: dict[Path, State] = {}

    def settled(self) -> list[Path]:
        """The files that have changed since they were last given, and not since the last look."""
        now = dict(self._files())
        found = [path for path, state in now.items() if self._seen.get(path) == state != self._given.get(path)]
        self._seen = now
        self._given |= {path: now[path] for path in found}
        return sorted(found)

    def _files(self) -> Iterator[tuple[Path, State]]:
        for folder in self._folders:
            for place, folders, names in os.walk(folder):  # links to folders are not followed
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    path = Path(place, name)
                    if name.startswith(".") or path.suffix.lower() not in SUFFIXES or path.is_symlink():
                        continue
                    try:
                        found = path.stat()
                    except OSError:  # it is gone, or not ours
                        continue
                    yield path, (found.st_ino, found.st_size, found.st_mtime_ns)


def watch_folders(
    opened: Workspace,
    folders: Sequence[Path],
    options: ReadOptions,
    period: Period,
    *,
    limit: int | None,
    may_change: bool,
    stopped: threading.Event,
) -> IngestStats:
    """Read what appears in the folders, until `stopped` is set. Returns the totals.

    A file that cannot be read, or would change too many memories, is named on standard error, and is read again when
    it has changed.

    Raises:
        Cancelled: it was stopped while a file was being read; what was read until then is stored.
    """
    from memlora_mlx.conversations import ReadReport, read_conversations
    from memlora_mlx.errors import BadConversation, TooManyChanges, UsageError
    from memlora_mlx.memory.ingest import IngestStats, ingest

    watcher = FolderWatcher(folders)
    total = IngestStats()
    while not stopped.is_set():
        for path in watcher.settled():
            report = ReadReport()
            try:
                found = read_conversations(path, options, report)
            except (BadConversation, UsageError) as error:
                typer.echo(f"Not read: {printable_line(error)}", err=True)
                continue
            print_left_out(report)
            try:
                stats = ingest(
                    opened.pipeline,
                    found,
                    user=opened.settings.user,
                    own_names=options.own_names,
                    limit=limit,
                    period=period,
                    may_change=may_change,
                    cancelled=stopped,
                )
            except TooManyChanges as error:
                typer.echo(f"Stopped reading {printable_line(path)}: {printable_line(error)}", err=True)
                continue
            if stats.done:
                added = f"{stats.added} memories added, {stats.updated} updated, {stats.deleted} deleted"
                typer.echo(f"{printable_line(path)}: {stats.done} exchanges read; {added}")
            for name in ("total", "already_stored", "done", "added", "updated", "deleted", "seconds"):
                setattr(total, name, getattr(total, name) + getattr(stats, name))
        stopped.wait(INTERVAL)
    return total


def require_folders(paths: Sequence[Path]) -> Sequence[Path]:
    """The paths. Raises UsageError: one is no folder."""
    from memlora_mlx.errors import UsageError

    for path in paths:
        if not path.is_dir():
            raise UsageError(f"{path} is no folder. --watch takes folders.")
    return paths
