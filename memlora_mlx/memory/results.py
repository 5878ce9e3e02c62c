"""The results of the pipeline: of one exchange, of one question, and what each call of the student cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.memory.changes import AppliedChange
from memlora_mlx.memory.grounding import DropReason, TurnReason
from memlora_mlx.memory.visual_questions import VisualAnswer
from memlora_mlx.records import Completion, Exchange, Hit, MemoryRecord, Request, Stage


@dataclass(frozen=True, slots=True)
class CallCost:
    """The cost of one call of the student."""

    stage: Stage
    prompt_tokens: int
    output_tokens: int
    seconds: float
    truncated: int = 0  # characters or memories that did not fit into the prompt

    @classmethod
    def of(cls, stage: Stage, completion: Completion, truncated: int) -> CallCost:
        return cls(stage, completion.prompt_tokens, completion.output_tokens, completion.seconds, truncated)


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """The result of one exchange."""

    exchange: Exchange
    facts: tuple[str, ...] = ()
    applied: tuple[AppliedChange, ...] = ()
    duplicates: int = 0  # facts that were already stored word for word
    rejected: int = 0  # operations on memories that were not offered
    costs: tuple[CallCost, ...] = ()
    was_already_stored: bool = False  # it was remembered before, and nothing was written
    dropped: Mapping[DropReason, int] = field(default_factory=dict)  # facts that the exchange does not say, by reason
    turned_to_add: Mapping[TurnReason, int] = field(default_factory=dict)  # operations without ground, by reason
    withheld: Mapping[str, int] = field(default_factory=dict)  # secrets and private passages not stored, by kind

    def count(self, event: str) -> int:
        return sum(1 for change in self.applied if change.event == event and change.rejected is None)


@dataclass(frozen=True, slots=True, eq=False)
class ExtractionInput:
    """The input of an extraction: an exchange, or one part of a long one."""

    exchange: Exchange
    request: Request
    truncated: int = 0  # characters that did not fit


@dataclass(frozen=True, slots=True, eq=False)
class UpdateInput:
    """The input of an update: new facts, and the memories that they may change."""

    facts: tuple[str, ...]
    vectors: NDArray[np.float32]  # of the facts: (len(facts), dim)
    memories: tuple[MemoryRecord, ...]  # an id in the update prompt is a position in this
    duplicates: int = 0
    nearest_by_fact: tuple[tuple[MemoryRecord, ...], ...] = ()  # the memories nearest to each fact

    def in_groups_of(self, count: int) -> list[UpdateInput]:
        """The same as several inputs with at most so many facts each, and the memories nearest to those."""
        if len(self.facts) <= count:
            return [self]
        groups = []
        for start in range(0, len(self.facts), count):
            these = slice(start, start + count)
            nearest = self.nearest_by_fact[these]
            memories = {memory.id: memory for found in nearest for memory in found}
            groups.append(
                UpdateInput(self.facts[these], self.vectors[these], tuple(memories.values()), nearest_by_fact=nearest)
            )
        return groups


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and the memories that it is based on."""

    text: str
    hits: tuple[Hit, ...]
    cost: CallCost
    look: VisualAnswer | None = None  # if an image was looked at
