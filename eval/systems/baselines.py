"""The systems that answer without a memory of facts: from the turns themselves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from memlora_mlx.eval.cases import BenchmarkCase, Question
from memlora_mlx.eval.systems.cached_engine import CachedEngine
from memlora_mlx.eval.systems.system import (
    OnPhaseProgress,
    RunContext,
    SystemAnswer,
    SystemResult,
    cached_answer_phase,
    complete_all,
    reply,
    retrieved_turn,
)
from memlora_mlx.memory import stages
from memlora_mlx.memory.search.hits import find_hits
from memlora_mlx.memory.store.messages import exchange_texts
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Message, Request


class TranscriptBaseline:
    """The turns themselves instead of memories: all that fit, the nearest, or those that hold the answer."""

    def __init__(self, name: str, calls: CachedEngine, context: RunContext) -> None:
        self.name, self.calls, self.context = name, calls, context

    def run(self, case: BenchmarkCase, on_done: OnPhaseProgress) -> SystemResult:
        turns = case.turns
        said = [stages.PromptMemory(turn_text(turn), turn.said_at, speaker_of(turn)) for turn in turns]
        choose = {
            "full-context": self._last,
            "rag": self._found,
            "rag-dense": self._nearest,
            "oracle": self._evidence,
        }[self.name]

        def ask() -> list[SystemAnswer]:
            chosen = list(choose(case, turns, said))
            requests = [
                Request(
                    "generation",
                    stages.answer_chat(question.text, [said[i] for i, _ in picked]),
                    None,
                    stages.ANSWER_TOKENS,
                )
                for question, picked in zip(case.questions, chosen, strict=True)
            ]
            answers = complete_all(self.calls, requests, self.context, on_done)
            everything, replies = set(case.refs), []
            for question, picked, answer in zip(case.questions, chosen, answers, strict=True):
                refs = {ref for i, _ in picked if (ref := turns[i].ref)}
                # a whole conversation under each question would be most of the report's file
                told = () if self.name == "full-context" else picked
                shown = tuple(
                    retrieved_turn(said[i].text, tuple(filter(None, [turns[i].ref])), score) for i, score in told
                )
                replies.append(
                    reply(question, answer, shown, refs, known=everything, given=everything, standing=everything)
                )
            return replies

        where = [case.content_key, self.context.space, self.context.rules.max_context]
        identity = [self.name, where, self.calls.identity("generation"), self.context.top_k]
        _, replies, cost, phase = cached_answer_phase(self.name, case, identity, self.context, ask)
        return SystemResult(tuple(replies), (cost,), (phase,))

    def _last(
        self, case: BenchmarkCase, turns: Sequence[Message], said: Sequence[stages.PromptMemory]
    ) -> Iterator[list[tuple[int, float | None]]]:
        """The last turns that fit into the student's own window beside the longest question.

        The same for every question, so that they are read once.
        """
        budget = self.calls.student.context - stages.ANSWER_TOKENS
        if not case.questions:
            return
        longest = max(case.questions, key=lambda question: self._tokens(question, []))
        sizes = [self._tokens_of(turn) for turn in said]
        left = budget - self._tokens(longest, [])
        first = len(said)
        while first and sizes[first - 1] <= left:
            first -= 1
            left -= sizes[first]
        # lines were counted one by one, which can be a few tokens off together
        while first < len(said) and self._tokens(longest, said[first:]) > budget:
            first += 1
        for _ in case.questions:
            yield [(i, None) for i in range(first, len(said))]

    def _tokens_of(self, turn: stages.PromptMemory) -> int:
        """Tokens of one more line."""
        once, twice = (self.calls.count_tokens(stages.answer_chat("", [turn] * times)) for times in (1, 2))
        return twice - once

    def _tokens(self, question: Question, said: Sequence[stages.PromptMemory]) -> int:
        return self.calls.count_tokens(stages.answer_chat(question.text, said))

    def _found(
        self, case: BenchmarkCase, turns: Sequence[Message], said: Sequence[stages.PromptMemory]
    ) -> Iterator[list[tuple[int, float | None]]]:
        """As many turns as a memory system is given hits, by the product's own search, in a store without memories.

        The student reads as many of them as it would of a memory system's hits.
        """
        owners = list(dict.fromkeys(exchange.owner for exchange in case.exchanges))
        one_view = [exchange for exchange in case.exchanges if exchange.owner == owners[0]] if owners else []
        asked = self.calls.embed([question.text for question in case.questions], query=True)
        with (
            tempfile.TemporaryDirectory(prefix="memlora-bench-") as folder,
            Store(Path(folder), self.context.space) as store,
        ):
            positions: dict[tuple[str, int], int] = {}
            vectors = iter(self.calls.embed([text for exchange in one_view for text in exchange_texts(exchange)]))
            for exchange in one_view:
                given = [next(vectors) for _ in exchange.messages]
                store.commit(exchange.owner, [], exchange=exchange, message_vectors=given)
                positions |= {(exchange.key, at): len(positions) + at for at in range(len(exchange.messages))}
            for question, vector in zip(case.questions, asked, strict=True):
                hits = find_hits(store, question.text, vector, self.context.top_k * len(owners))
                keys = [hit.message.key for hit in hits if hit.message is not None]
                picked = [positions[key.exchange_key, key.position] for key in keys]
                self._fit(question, picked, said)
                readable = self.context.rules.readable([hit.score for hit in hits])
                yield [(at, hit.score) for at, hit in zip(picked[:readable], hits, strict=False)]

    def _fit(self, question: Question, picked: list[int], said: Sequence[stages.PromptMemory]) -> None:
        """Leave out the last turns until the prompt fits."""
        budget = min(self.context.rules.max_context, self.calls.student.context) - stages.ANSWER_TOKENS
        while picked and self._tokens(question, [said[i] for i in picked]) > budget:
            picked.pop()

    def _nearest(
        self, case: BenchmarkCase, turns: Sequence[Message], said: Sequence[stages.PromptMemory]
    ) -> Iterator[list[tuple[int, float | None]]]:
        """As many turns as a memory system is given memories, by the same embedder."""
        count = self.context.top_k * len({exchange.owner for exchange in case.exchanges})
        vectors = self.calls.embed([f"{one.owner}: {one.text}" if one.owner else one.text for one in said])
        asked = self.calls.embed([question.text for question in case.questions], query=True)
        for question, vector in zip(case.questions, asked, strict=True):
            cosines = vectors @ vector
            picked = [int(i) for i in (-cosines).argsort(kind="stable")[:count]]
            self._fit(question, picked, said)
            yield [(i, float(cosines[i])) for i in picked[: self.context.rules.most_lines]]

    def _evidence(
        self, case: BenchmarkCase, turns: Sequence[Message], said: Sequence[stages.PromptMemory]
    ) -> Iterator[list[tuple[int, float | None]]]:
        for question in case.questions:
            yield [(i, None) for i, turn in enumerate(turns) if turn.ref in question.evidence]


def turn_text(turn: Message) -> str:
    shown = turn.image.caption if turn.image and turn.image.caption else None
    return " ".join(f"{turn.text} {f'[shares an image: {shown}]' if shown else ''}".split())


def speaker_of(turn: Message) -> str:
    return turn.speaker or turn.role
