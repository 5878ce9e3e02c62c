"""What the figures are measured on."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memlora_mlx.conversations import conversation_exchanges, read_conversations
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange, Stage

if TYPE_CHECKING:
    from memlora_mlx.models.experts import Expert

STAGES: tuple[Stage, ...] = ("extraction", "update", "generation")
LOCOMO: list[Path] = []  # LoCoMo's file, where one is given; its text is never copied
# Update prompts of our own, of the kinds that happen: a fact that is new, one that changes, one that ends.
UPDATES: tuple[tuple[list[str], list[str]], ...] = (
    (
        [
            "Maya lives in a small flat near the river in Lisbon",
            "Maya drinks two espressos every morning before work",
            "Maya is allergic to peanuts",
            "Maya runs along the river three times a week",
        ],
        ["Maya stopped drinking coffee and switched to mint tea"],
    ),
    (
        [
            "Tom booked a trip to Norway in June to see the fjords",
            "Tom is repairing an old sailing boat called Gaivota",
            "Tom only drinks green tea because coffee keeps him awake",
        ],
        ["Tom's trip to Norway is cancelled", "Tom will sail to Madeira in August with his uncle"],
    ),
    (
        ["Anna is a nurse in Porto", "Anna drinks six coffees on a night shift", "Anna wants to see the ocean"],
        ["Anna saw the ocean at sunrise in Cascais", "Anna works night shifts"],
    ),
)


def conversation(count: int) -> tuple[list[Exchange], str]:
    """LoCoMo's validation conversation where its file is given, else the demo's."""
    for file in LOCOMO:
        conversation = next(c for c in read_conversations(file) if c.name == "conv-26")
        return conversation_exchanges(conversation, user="me")[:count], f"first {count} exchanges of LoCoMo conv-26"
    [conversation] = read_conversations(Path(str(files("memlora_mlx"))) / "data" / "demo.txt")
    return conversation_exchanges(conversation, user="me")[:count], f"first {count} exchanges of the demo"


def clustered_vectors(size: int, dim: int, *, clusters: int = 200, spread: float = 0.35, seed: int = 0) -> np.ndarray:
    """Unit vectors in clusters, as sentences are: float32, (size, dim)."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((clusters, dim)).astype(np.float32)
    rows = centres[random.integers(0, clusters, size)]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows + spread / np.sqrt(dim) * 3 * random.standard_normal((size, dim)).astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32)


def random_experts(workspace: Workspace, folder: Path) -> dict[Stage, Expert]:
    from memlora_mlx.models.experts import ADAPTED, random_matrices, read_experts, write_expert

    student = workspace.engine.student

    def write() -> dict[Stage, Expert]:
        for seed, stage in enumerate(STAGES):
            write_expert(folder / stage, random_matrices(student.model, ADAPTED[stage], seed=seed), scale=2.0)
        return read_experts(folder, student.fingerprint)

    return workspace.engine.call(write)
