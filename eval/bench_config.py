"""What a benchmark run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SYSTEMS = ("memlora", "base", "mem0", "full-context", "rag", "rag-dense", "oracle")


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """What to run."""

    file: Path | None = None
    split: str = "val"
    conversations: tuple[str, ...] = ()
    systems: tuple[str, ...] = SYSTEMS
    limit: int | None = None  # exchanges of each conversation
    questions: int | None = None  # of each conversation
    top_k: int | None = None  # memories of each owner; the settings' own
    ablation: bool = False
    ablation_with: str | None = None  # a second student: Table 4's rows
    scales: bool = False
    efficiency: bool = False  # one call at a time, so that its seconds can be set beside the paper's
    conflict: bool = False  # also the benchmark of memory operations; without a file that alone
    vqa: Path | None = None  # also the questions about images of the benchmark in this folder; the same
    mine: bool = False  # ask about the user's own conversations
    judge: str | None = None
    predictions: tuple[Path, ...] = ()
    corrections: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    @property
    def embeds(self) -> bool:
        """Whether an embedder is needed; questions about images need none."""
        return self.file is not None or self.mine or self.conflict
