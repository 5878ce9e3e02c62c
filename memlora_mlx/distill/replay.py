"""A temporary store that replays a teacher's facts and operations, so that later prompts contain the right memories.

It retrieves with the pipeline's own embedder, order and number of memories, so a student is trained on the same kind of
prompts that it will get.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.conversations.splits import Splits
from memlora_mlx.distill.examples import TrainingExample
from memlora_mlx.memory import stages
from memlora_mlx.memory.evidence import owner_name
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.results import UpdateInput
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import ChatMessages, Exchange, Neighbour, Scope

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

NOT_MENTIONED = "Not mentioned"


@dataclass(frozen=True, slots=True)
class AnnotatedQuestion:
    """A question about a conversation, with LoCoMo's gold answer."""

    text: str
    answer: str
    category: int  # 1 multi-hop, 2 temporal, 3 open-domain, 4 single-hop, 5 adversarial
    evidence: tuple[str, ...]  # turns that hold the answer


class ReplayStore:
    """The memories of some owners, and the pipeline's operations on them."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def related(self, owner: Scope, facts: Sequence[str]) -> UpdateInput:
        """New facts with the memories that they may concern. Facts that are stored word for word already are dropped."""
        return self._pipeline.find_related(owner, facts)

    def prompt(self, related: UpdateInput) -> ChatMessages:
        return stages.update_chat([memory.text for memory in related.memories], related.facts)

    def apply(self, exchange: Exchange, related: UpdateInput, answer: str) -> None:
        """Apply the operations of an update answer."""
        decisions = stages.parse_update(answer, [memory.text for memory in related.memories])
        changes = self._pipeline.decide_changes(exchange, [(related, decisions)])
        self._pipeline.store.commit(exchange.owner, changes, exchange=exchange)

    def search(self, question: str, owners: Sequence[Scope], limit: int) -> list[Neighbour]:
        """The memories nearest to a question, at most `limit` of each owner, nearest first."""
        [vector] = self._pipeline.engine.embed([question], query=True)
        hits = [hit for owner in owners for hit in self._pipeline.store.search(vector, limit, scope=owner)]
        return sorted(hits, key=lambda hit: hit.distance)


@contextmanager
def temporary_store(workspace: Workspace) -> Iterator[ReplayStore]:
    """A store that exists during the `with` block and uses the workspace's embedder."""
    options = PipelineOptions(related=workspace.settings.related, max_context=workspace.settings.max_context)
    with (
        tempfile.TemporaryDirectory(prefix="memlora-replay-") as folder,
        Store(Path(folder), workspace.embedding_fingerprint) as store,
    ):
        yield ReplayStore(Pipeline(workspace.engine, store, options))


def generation_examples(
    store: ReplayStore,
    owners: Sequence[Scope],
    questions: Sequence[AnnotatedQuestion],
    *,
    conversation: str,
    teacher: str,
    splits: Splits,
    limits: Sequence[int] = (3, 4, 5, 6),
    unanswered: float = 0.03,
) -> Iterator[TrainingExample]:
    """Questions about the store's memories, with gold answers (the paper's Algorithm B2; categories 1 to 4).

    Args:
        limits: how many memories of each owner a prompt has, taken in turn, so that a student learns lists of many lengths.
        unanswered: additional examples whose memories do not contain the answer (category 5), as a share of the others;
            their answer is `NOT_MENTIONED`.
    """
    split = splits.split_of(conversation)
    answered = [question for question in questions if question.category != 5 and question.answer]
    adversarial = [question for question in questions if question.category == 5]
    chosen = [*answered, *adversarial[: round(unanswered * len(answered))]]
    for number, question in enumerate(chosen):
        hits = store.search(question.text, owners, limits[number % len(limits)])
        recalled = [stages.PromptMemory(h.memory.text, h.memory.said_at, owner_name(h.memory.owner)) for h in hits]
        answer = NOT_MENTIONED if question.category == 5 else question.answer
        chat = stages.answer_chat(question.text, recalled)
        yield TrainingExample("generation", chat, answer, teacher, conversation, f"question {number}", split)
