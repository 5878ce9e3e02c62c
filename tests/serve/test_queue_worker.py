"""The queue of the resident process is worked off by one process at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from memlora_mlx.errors import MemloraError
from memlora_mlx.serve import queue_worker
from memlora_mlx.serve.queue_worker import QueueWorker
from memlora_mlx.serve.work_queue import LOCK_FILE, WorkQueue


def test_one_process_works_the_queue_off_and_leaves_it_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks: list[FileLock] = []

    def kept(path: Path) -> FileLock:
        locks.append(FileLock(path))  # what nobody holds any more would let go of the file
        return locks[-1]

    monkeypatch.setattr(queue_worker, "FileLock", kept)
    done: list[str] = []

    def run(operation: str, arguments: dict[str, Any], cancelled: threading.Event) -> None:
        done.append(operation)

    queue = WorkQueue(tmp_path)
    queue.put("add", {"messages": "I like tea."})
    worker = QueueWorker(queue, run)
    with FileLock(Path(queue.folder, LOCK_FILE)), pytest.raises(MemloraError, match="another process"):
        worker.work_off()
    assert worker.work_off() == 1 and done == ["add"] and queue.count() == 0
    assert not any(lock.is_locked for lock in locks)
