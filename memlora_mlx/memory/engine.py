"""What the memory needs of an engine: it answers requests, computes embeddings and counts tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.records import Activity, Completion, Priority, Request


class StudentLimits(Protocol):
    """What the memory needs to know of the student model."""

    @property
    def context(self) -> int:
        """The longest prompt with its answer, in tokens."""


class MemoryEngine(Protocol):
    """An engine, as the memory sees it; `models.engine.Engine` is one. Every method can be called from any thread."""

    @property
    def student(self) -> StudentLimits:
        """The student model, loaded if need be. Raises MemloraError: it cannot be loaded."""

    def submit(
        self,
        request: Request,
        *,
        priority: Priority = Priority.INTERACTIVE,
        on_text: Callable[[str], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Future[Completion]:
        """Put a request into the queue; the future raises Cancelled after `cancelled` was set."""

    def complete(self, request: Request, *, on_text: Callable[[str], None] | None = None) -> Completion:
        """Answer a request and wait for it. `on_text` gets each piece of the answer, on the engine's thread."""

    def stream(self, request: Request, *, cancelled: threading.Event | None = None) -> Generator[str, None, Completion]:
        """The answer in pieces, then what it cost. Closing the generator or setting `cancelled` stops the student."""

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Unit vectors, float32, shape (len(texts), dim); `query` selects the embedder's prompt for questions."""

    def count_tokens(self, chat: Sequence[tuple[str, str]], image: Path | None = None) -> int:
        """The tokens of a chat, with an image if there is one, in the student's chat template."""


class RemoteEngine(MemoryEngine, Protocol):
    """An engine of another process."""

    def activity(self) -> Activity:
        """What it does for this process."""

    def close(self) -> None:
        """Cancel what still runs."""
