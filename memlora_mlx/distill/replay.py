"""A temporary store that replays a teacher's facts and operations, so that later prompts contain the right memories.

It retrieves with the pipeline's own embedder and search, and writes what it finds as the pipeline does, so a student is trained
on the same kind of prompts that it will get.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.conversations.splits import Splits
from memlora_mlx.distill.examples import TrainingExample
from memlora_mlx.memory import stages
from memlora_mlx.memory.abstention import NOT_MENTIONED
from memlora_mlx.memory.evidence import evidence
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.results import UpdateInput
from memlora_mlx.memory.search.hits import find_hits
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.upkeep import embed_messages
from memlora_mlx.records import ChatMessages, Exchange, Scope

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

ANSWER_LINES = (4, 6, 8, 10)  # hits of a prompt, taken in turn, so that a student learns lists of many lengths
DEEPEST = 60  # hits among which the evidence of a question is looked for


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

    def embed(self, facts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of facts, shape (facts, dimensions), for `related`: many at once take less time than one by one."""
        return self._pipeline.engine.embed(facts)

    def related(self, owner: Scope, facts: Sequence[str], vectors: NDArray[np.float32] | None = None) -> UpdateInput:
        """New facts with the memories that they may concern. Facts that are stored word for word already are dropped.

        Args:
            vectors: those of the facts, if they are known already.
        """
        return self._pipeline.find_related(owner, facts, vectors)

    def prompt(self, related: UpdateInput) -> ChatMessages:
        return stages.update_chat([memory.text for memory in related.memories], related.facts)

    def apply(self, exchange: Exchange, related: UpdateInput, answer: str) -> None:
        """Store an exchange with its messages, and apply the operations of an update answer."""
        decisions = stages.parse_update(answer, [memory.text for memory in related.memories])
        changes = self._pipeline.decide_changes(exchange, [(related, decisions)])
        self._pipeline.store.commit(exchange.owner, changes, exchange=exchange)

    def keep(self, exchange: Exchange) -> None:
        """Store an exchange that gives no memory: its messages are found all the same."""
        self._pipeline.store.commit(exchange.owner, [], exchange=exchange)

    def evidence(
        self, question: str, owners: Sequence[Scope], lines: int, *, needed: Collection[str] = ()
    ) -> list[stages.PromptMemory] | None:
        """What an answer is based on: the best hits, as the pipeline writes them.

        Args:
            owners: whose memories, all in one ranking.
            lines: how many hits.
            needed: the turns that hold the answer. Those that are not among the first `lines` hits, but among the first
                `DEEPEST`, take the place of the last ones.

        Returns None if turns are needed, and none of them was found.
        """
        embed_messages(self._pipeline.store, self._pipeline.engine.embed)  # only questions search them
        [vector] = self._pipeline.engine.embed([question], query=True)
        hits = find_hits(self._pipeline.store, question, vector, max(DEEPEST, lines), scopes=owners, owner_exact=True)
        wanted = [hit for hit in hits if hit.message is not None and hit.message.ref in needed][:lines]
        if needed and not wanted:
            return None
        late = [hit for hit in wanted if hit not in hits[:lines]]
        on_time = [hit for hit in hits[:lines] if hit in wanted]
        others = [hit for hit in hits[:lines] if hit not in wanted][: lines - len(wanted)]
        kept = sorted([*on_time, *others, *late], key=hits.index)
        return evidence(question, kept, names=len(owners) > 1)


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
    lines: Sequence[int] = ANSWER_LINES,
    unanswered: float = 0.12,
) -> Iterator[TrainingExample]:
    """Questions about the store's conversation, with gold answers (the paper's Algorithm B2; categories 1 to 4).

    A question whose evidence the search does not find is left out: its answer could only be invented.

    Args:
        lines: how many hits a prompt has, taken in turn, so that a student learns lists of many lengths.
        unanswered: additional examples whose hits do not contain the answer (category 5), as a share of the others;
            their answer is `NOT_MENTIONED`.
    """
    split = splits.split_of(conversation)
    answered = [question for question in questions if question.category != 5 and question.answer]
    adversarial = [question for question in questions if question.category == 5]
    chosen = [*answered, *adversarial[: round(unanswered * len(answered))]]
    for number, question in enumerate(chosen):
        is_answered = question.category != 5
        needed = question.evidence if is_answered else ()
        recalled = store.evidence(question.text, owners, lines[number % len(lines)], needed=needed)
        if recalled is None:
            continue
        answer = question.answer if is_answered else NOT_MENTIONED
        chat = stages.answer_chat(question.text, recalled)
        yield TrainingExample("generation", chat, answer, teacher, conversation, f"question {number}", split)
