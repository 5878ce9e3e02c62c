"""Scoring a benchmark's answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

from benchmarks.measurements import Measurement
from memlora_mlx.distill.synthetic_teacher import generate_dialogues
from memlora_mlx.eval.metrics.scorer import workspace_scorer
from memlora_mlx.memory.workspace import Workspace

ANSWERS = 1540  # LoCoMo's questions of categories 1 to 4


def scoring(workspace: Workspace) -> Iterator[Measurement]:
    """All parts of L, token F1 and exact match: facts of synthetic lives, each against the one said next."""
    said = (fact.text for life in generate_dialogues(100, "test") for step in life.steps for fact in step.facts)
    facts = list(dict.fromkeys(said))[: ANSWERS + 1]
    pairs = list(pairwise(facts))
    scorer = workspace_scorer(workspace)
    scorer.score(pairs[:8])
    started = time.perf_counter()
    scorer.score(pairs)
    seconds = time.perf_counter() - started
    yield Measurement(
        "scoring", f"{len(pairs):,} answers without a judge", seconds, "s", target="< 60 s", met=seconds < 60
    )
