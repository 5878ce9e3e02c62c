"""Works off the calls that wait in the data folder's queue."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from memlora_mlx.errors import BadConversation, Cancelled, EngineClosed, MemloraError, TooManyChanges, UsageError
from memlora_mlx.serve.backends import LocalBackend
from memlora_mlx.serve.transcripts import read_transcript
from memlora_mlx.serve.work_queue import LOCK_FILE, QueuedCall, WorkQueue

log = logging.getLogger(__name__)
POLL_SECONDS = 1.0  # hooks put files into the folder and tell nobody
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds before a call is tried again that failed for now

# Errors of a call that will not go away by waiting.
_LASTING = (UsageError, BadConversation, TooManyChanges)

Run = Callable[[str, dict[str, Any], threading.Event], Any]


def run_queued(backend: LocalBackend, operation: str, arguments: dict[str, Any], cancelled: threading.Event) -> Any:
    """Run a queued call on this thread: an operation, or what only this user's own hooks may ask for.

    No client can reach `read_transcript`, which reads a file that it is named.
    """
    if operation == "read_transcript":
        with backend.opened() as memory:
            return read_transcript(memory, str(arguments.get("path")), backend.settings.user, cancelled)
    return backend.run(operation, arguments, lambda done, what: None, cancelled)


class QueueWorker:
    """A thread that does the waiting calls one after the other, in order.

    A call that cannot be done for now, because a model is missing or the disk is full, stays first and is tried again. One
    that can never be done is set aside, and `memlora doctor` counts it.

    Args:
        run: runs a call; see `run_queued`.
        stop: set it to stop, as `stop` does.
    """

    def __init__(self, queue: WorkQueue, run: Run, *, stop: threading.Event | None = None) -> None:
        self.queue, self._run_call = queue, run
        self._stop = stop or threading.Event()
        self._thread = threading.Thread(target=self._work, name="memlora-queue", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop before the next step of the call that runs; it stays in the queue."""
        self._stop.set()
        self._thread.join(60)

    def work_off(self) -> int:
        """Do all calls that wait, on this thread; returns how many were done.

        Raises:
            MemloraError: one cannot be done for now, or another process is at work.
        """
        done = 0
        with self._lock():
            while not self._stop.is_set() and (call := self.queue.next()) is not None:
                done += self._do(call)
        return done

    def _lock(self) -> AbstractContextManager[object]:
        """The lock of the queue, to be released by a `with` statement."""
        self.queue.make_folder()
        try:
            return FileLock(Path(self.queue.folder, LOCK_FILE)).acquire(timeout=0)
        except Timeout as error:
            raise MemloraError("another process works off the queue already; wait for it") from error

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.wait(POLL_SECONDS):
            if self.queue.next() is None:
                continue
            try:
                self.work_off()
                pause = FIRST_PAUSE
            except MemloraError as error:
                if self._stop.is_set():
                    return
                log.warning("what was said waits to be remembered: %s", error)
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except Exception:
                log.exception("the queue's worker failed")
                self._stop.wait(pause)

    def _do(self, call: QueuedCall) -> bool:
        started = time.monotonic()
        try:
            self._run_call(call.operation, call.arguments, self._stop)
        except (Cancelled, EngineClosed):
            self._stop.set()
            raise
        except _LASTING as error:
            log.error("a queued %s can never be done: %s", call.operation, error)
            self.queue.fail(call)
            return False
        except MemloraError:
            raise
        except Exception:
            log.exception("a queued %s failed", call.operation)
            self.queue.fail(call)
            return False
        self.queue.done(call)
        log.info("%s done in %.1f s", call.operation, time.monotonic() - started)
        return True
