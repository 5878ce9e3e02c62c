"""A conversation of a benchmark, and what is asked about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memlora_mlx.eval.systems.cache import content_key
from memlora_mlx.records import Exchange, Message


@dataclass(frozen=True, slots=True)
class Question:
    id: str  # "conv-26/12": its place in the file
    text: str
    gold: str  # "" in category 5
    category: int
    evidence: tuple[str, ...]  # turns


@dataclass(frozen=True, slots=True)
class BenchmarkCase:
    """A conversation, in all owners' views, and what is asked about it."""

    name: str
    exchanges: tuple[Exchange, ...]
    questions: tuple[Question, ...]

    @property
    def turns(self) -> list[Message]:
        """What was said, once, in order."""
        first = self.exchanges[0].owner if self.exchanges else None
        return [message for exchange in self.exchanges if exchange.owner == first for message in exchange.messages]

    @property
    def content_key(self) -> str:
        """Names what is read, turn ids included."""
        return content_key(
            [[exchange.key, [message.ref for message in exchange.messages]] for exchange in self.exchanges]
        )

    @property
    def refs(self) -> frozenset[str]:
        return frozenset(message.ref for message in self.turns if message.ref)


def limit_case(case: BenchmarkCase, exchanges: int | None, questions: int | None) -> BenchmarkCase:
    """The first exchanges, and of the questions that can be answered from them so many, spread evenly.

    A question without evidence stands only where the conversation is whole.
    """
    kept = case if exchanges is None else replace(case, exchanges=case.exchanges[:exchanges])
    asked = case.questions
    if len(kept.exchanges) < len(case.exchanges):
        refs = kept.refs
        asked = tuple(question for question in asked if question.evidence and set(question.evidence) <= refs)
    if questions is not None and questions < len(asked):
        asked = tuple(asked[i * len(asked) // questions] for i in range(questions))
    return replace(kept, questions=asked)


def data_fingerprint(cases: Sequence[BenchmarkCase]) -> str:
    """Names what is read and asked."""
    return content_key([[case.name, case.content_key, case.questions] for case in cases])
