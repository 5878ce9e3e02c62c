"""What the steps of the memory system depend on, apart from engine and store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from memlora_mlx.memory import stages
from memlora_mlx.records import Exchange, Grammar, Stage
from memlora_mlx.settings import Protocol


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Options of the pipeline, most of which go beyond the paper."""

    protocol: Protocol = "product"
    related: int = 5
    max_context: int = 4096
    verbatim_only: Collection[Stage] = field(
        default_factory=frozenset
    )  # stages that may only copy whole sentences, because the student has no expert for them
    copy_constrained: bool = False  # the update expert was trained to copy its texts from the prompt
    per_fact: bool = False  # the update expert was trained on one fact at a time, so each fact has an update of its own
    zero_shot: Collection[Stage] = field(default_factory=frozenset)  # stages whose prompts get rules and examples first
    supports_images: bool = False  # the student is a vision model
    least_cosine: float | None = None  # a question that nothing found is so near is not answered; None: all are
    talks_freely: bool = True  # False: the student only answers from memories in a chat, and notes what it is told
    use_expert_in_chat: bool = False  # the student can use memories only with its generation expert, in a chat too
    grounded_answers: bool = False  # answers may only have words of their evidence, because the student invents others
    keep_secrets: bool = False  # store secrets that are said; see `secrets`
    empty_handicap: float = 0.0  # nats by which an empty list of facts must be likelier than one with facts
    score_share: float = 0.0  # of the best result's score, which every result in an answer's prompt must have
    most_lines: int | None = None  # of evidence in an answer's prompt: what the generation expert was trained on

    def readable(self, scores: Sequence[float]) -> int:
        """How many results of a search an answer is given: without the last ones that fit far worse than the best.

        Args:
            scores: of the results, best first. A pinned memory, which has none, has 0.0 and stands before them.
        """
        count, least = len(scores), self.score_share * max(scores, default=0.0)
        while least > 0.0 and scores[count - 1] < least:
            count -= 1
        return count if self.most_lines is None else min(count, self.most_lines)

    def extraction_grammar(self, exchange: Exchange) -> Grammar:
        """What the student may write of an exchange's facts."""
        return stages.extraction_grammar(
            exchange, verbatim_only="extraction" in self.verbatim_only, empty_handicap=self.empty_handicap
        )
