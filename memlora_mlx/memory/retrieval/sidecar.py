"""The small file beside a saved graph: which state of which store it is of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What must hold for a saved graph to be used."""

    format: int
    store: str
    space: dict[str, Any]
    revision: int
    count: int
    reach: float
    sha256: str
    read_to: tuple[int, int] | None = None  # of a graph that is not complete: the revision and key of its last row


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
