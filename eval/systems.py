"""The systems that a benchmark sets side by side: our pipeline, and what answers without a memory of facts.

Every system reads one conversation, answers its questions, and says what each answer was given and what it cost. Both
phases are kept in the cache; one that was killed goes on from the calls that were made.
"""

from __future__ import annotations

import inspect
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from memlora_mlx.errors import Cancelled
from memlora_mlx.eval.cache import Cache, digest
from memlora_mlx.eval.calls import Calls, ModelClock
from memlora_mlx.eval.provenance import Provenance, lost_at, recall
from memlora_mlx.eval.questions import Case, Question
from memlora_mlx.eval.results import Lost, Phase, StageCost
from memlora_mlx.memory import stages
from memlora_mlx.memory.changes import Space
from memlora_mlx.memory.pipeline import AHEAD, GUESSES, Pipeline, Rules
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Completion, Hit, Message, Request

if TYPE_CHECKING:
    from memlora_mlx.models.engine import Engine

OnDone = Callable[[str, int, int], None]  # phase, done, total


@dataclass(frozen=True, slots=True)
class Reply:
    """What a system said to one question."""

    answer: str
    retrieved: tuple[Mapping[str, Any], ...]
    recall: float | None
    lost_at: Lost | None  # should the answer be wrong
    input_tokens: int
    output_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One system on one conversation."""

    replies: tuple[Reply, ...]
    costs: tuple[StageCost, ...]
    phases: tuple[Phase, ...]
    memory: Mapping[str, Any] = field(default_factory=dict)  # sums: memories, facts, operations, rejected, duplicates


@dataclass(frozen=True, slots=True)
class Ground:
    """What all systems of a run stand on."""

    cache: Cache
    clock: ModelClock
    space: Space
    rules: Rules
    top_k: int  # memories of each owner that an answer is given
    cancelled: threading.Event
    ahead: int = AHEAD  # exchanges and questions worked on at once

    def check(self) -> None:
        """Raises Cancelled, where the run is to stop."""
        if self.cancelled.is_set():
            raise Cancelled("stopped")


class System(Protocol):
    name: str

    def run(self, case: Case, on_done: OnDone) -> Outcome:
        """Read the conversation and answer its questions."""


# ------------------------------------------------------------------------------------------------ with memories


class MemorySystem:
    """Our own pipeline: facts extracted, updated, retrieved, answered from; with experts or without."""

    def __init__(self, name: str, calls: Calls, ground: Ground) -> None:
        self.name, self.calls, self.ground = name, calls, ground

    def run(self, case: Case, on_done: OnDone) -> Outcome:
        ground = self.ground
        key = digest(
            [
                case.said,
                self.calls.identity("extraction", "update"),
                [ground.rules, ground.space, code_digest()],
            ]
        )
        known = ground.cache.phase("ingest", key)
        if known is None or not (ground.cache.store_folder(key) / "memories.db").is_file():
            known = self._ingest(case, key, on_done)
            fresh = True
        else:
            fresh = False
        provenance = Provenance.from_json(known["provenance"])
        folder = ground.cache.store_folder(key)
        _, replies, cost, answers = answers_from(self.name, folder, key, case, provenance, self.calls, ground, on_done)
        costs = [StageCost(self.name, stage, *numbers) for stage, numbers in known["costs"].items()]
        ingest = Phase(self.name, "ingest", known["seconds"], known["model_seconds"], not fresh, known["kept_seconds"])
        return Outcome(tuple(replies), (*costs, cost), (ingest, answers), known["memory"])

    def _ingest(self, case: Case, key: str, on_done: OnDone) -> dict[str, Any]:
        from memlora_mlx.models.engine import Priority

        ground = self.ground
        provenance = Provenance()
        costs: dict[str, list[float]] = {}
        memory: dict[str, Any] = {"facts": 0, "rejected": 0, "duplicates": 0, "cut": 0, "operations": {}}
        with tempfile.TemporaryDirectory(prefix="memlora-bench-") as folder, timed(ground.clock) as spent:
            with Store(Path(folder), ground.space) as store:
                pipeline = Pipeline(cast("Engine", self.calls), store, ground.rules)
                on_done("ingest", 0, len(case.exchanges))
                everything = pipeline.remember_all(
                    case.exchanges,
                    priority=Priority.BACKGROUND,
                    cancelled=ground.cancelled,
                    ahead=ground.ahead,
                    guesses=min(GUESSES, ground.ahead),
                )
                for done, one in enumerate(everything, 1):
                    refs = tuple(message.ref for message in one.exchange.messages if message.ref)
                    for change in one.applied:
                        if change.rejected is None:
                            provenance.wrote(change.event, change.memory_id, change.text, refs)
                            events = memory["operations"]
                            events[change.event] = events.get(change.event, 0) + 1
                    memory["facts"] += len(one.facts) + one.duplicates
                    memory["rejected"] += one.rejected
                    memory["duplicates"] += one.duplicates
                    for cost in one.costs:
                        memory["cut"] += cost.cut > 0
                        add_cost(costs, cost.stage, cost.prompt_tokens, cost.output_tokens, cost.seconds)
                    on_done("ingest", done, len(case.exchanges))
                memory["memories"] = store.count()
            ground.cache.keep_store(key, Path(folder))
        value = {"provenance": provenance.as_json(), "costs": costs, "memory": memory, **spent}
        ground.cache.keep_phase("ingest", key, value)
        return value


def answers_from(
    name: str,
    folder: Path,
    identity: object,
    case: Case,
    provenance: Provenance,
    calls: Calls,
    ground: Ground,
    on_done: OnDone,
) -> tuple[dict[str, Any], list[Reply], StageCost, Phase]:
    """The answers phase over the store in a folder.

    Args:
        identity: names what the store holds.
    """

    def ask() -> list[Reply]:
        owners = list(dict.fromkeys(exchange.owner for exchange in case.exchanges))
        with Store(folder, ground.space) as store:
            pipeline = Pipeline(cast("Engine", calls), store, ground.rules)
            vectors = calls.embed([question.text for question in case.questions], query=True)
            requests: list[Request] = []
            used: list[list[Hit]] = []
            for question, vector in zip(case.questions, vectors, strict=True):
                found = [hit for owner in owners for hit in store.search(vector, ground.top_k, scope=owner)]
                hits = sorted(found, key=lambda hit: hit.distance)
                request, cut = pipeline.question(question.text, hits, names=len(owners) > 1)
                requests.append(request)
                used.append(hits[: len(hits) - cut])
        answers = complete_all(calls, requests, ground, on_done)
        given, standing, known = provenance.given, provenance.standing, case.refs
        replies = []
        for question, hits, answer in zip(case.questions, used, answers, strict=True):
            shown = tuple(retrieved(hit.memory.text, provenance.refs_of(hit.memory.id), hit.distance) for hit in hits)
            refs = {ref for memory in shown for ref in memory["refs"]}
            replies.append(reply(question, answer, shown, refs, known=known, given=given, standing=standing))
        return replies

    everything = [identity, calls.identity("generation"), ground.top_k]
    return answered_phase(name, case, everything, ground, ask)


# ------------------------------------------------------------------------------------------------ without


class TurnSystem:
    """The turns themselves instead of memories: all that fit, the nearest, or those that hold the answer."""

    def __init__(self, name: str, calls: Calls, ground: Ground) -> None:
        self.name, self.calls, self.ground = name, calls, ground

    def run(self, case: Case, on_done: OnDone) -> Outcome:
        turns = case.turns
        said = [stages.Recalled(turn_text(turn), turn.said_at, speaker_of(turn)) for turn in turns]
        choose = {"full-context": self._last, "rag": self._nearest, "oracle": self._evidence}[self.name]

        def ask() -> list[Reply]:
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
            answers = complete_all(self.calls, requests, self.ground, on_done)
            everything, replies = set(case.refs), []
            for question, picked, answer in zip(case.questions, chosen, answers, strict=True):
                refs = {ref for i, _ in picked if (ref := turns[i].ref)}
                # a whole conversation under each question would be most of the report's file
                told = () if self.name == "full-context" else picked
                shown = tuple(
                    retrieved(said[i].text, tuple(filter(None, [turns[i].ref])), distance) for i, distance in told
                )
                replies.append(
                    reply(question, answer, shown, refs, known=everything, given=everything, standing=everything)
                )
            return replies

        where = [case.said, self.ground.space, self.ground.rules.max_context]
        identity = [self.name, where, self.calls.identity("generation"), self.ground.top_k]
        _, replies, cost, phase = answered_phase(self.name, case, identity, self.ground, ask)
        return Outcome(tuple(replies), (cost,), (phase,))

    def _last(
        self, case: Case, turns: Sequence[Message], said: Sequence[stages.Recalled]
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

    def _tokens_of(self, turn: stages.Recalled) -> int:
        """Tokens of one more line."""
        once, twice = (self.calls.count_tokens(stages.answer_chat("", [turn] * times)) for times in (1, 2))
        return twice - once

    def _tokens(self, question: Question, said: Sequence[stages.Recalled]) -> int:
        return self.calls.count_tokens(stages.answer_chat(question.text, said))

    def _nearest(
        self, case: Case, turns: Sequence[Message], said: Sequence[stages.Recalled]
    ) -> Iterator[list[tuple[int, float | None]]]:
        """As many turns as a memory system is given memories, by the same embedder."""
        count = self.ground.top_k * len({exchange.owner for exchange in case.exchanges})
        vectors = self.calls.embed([f"{one.owner}: {one.text}" if one.owner else one.text for one in said])
        asked = self.calls.embed([question.text for question in case.questions], query=True)
        budget = min(self.ground.rules.max_context, self.calls.student.context) - stages.ANSWER_TOKENS
        for question, vector in zip(case.questions, asked, strict=True):
            cosines = vectors @ vector
            picked = [int(i) for i in (-cosines).argsort(kind="stable")[:count]]
            while picked and self._tokens(question, [said[i] for i in picked]) > budget:
                picked.pop()
            yield [(i, float(max(0.0, 2.0 - 2.0 * cosines[i])) ** 0.5) for i in picked]

    def _evidence(
        self, case: Case, turns: Sequence[Message], said: Sequence[stages.Recalled]
    ) -> Iterator[list[tuple[int, float | None]]]:
        for question in case.questions:
            yield [(i, None) for i, turn in enumerate(turns) if turn.ref in question.evidence]


def turn_text(turn: Message) -> str:
    shown = turn.image.caption if turn.image and turn.image.caption else None
    return " ".join(f"{turn.text} {f'[shares an image: {shown}]' if shown else ''}".split())


def speaker_of(turn: Message) -> str:
    return turn.speaker or turn.role


# ------------------------------------------------------------------------------------------------ parts


def retrieved(text: str, refs: Sequence[str], distance: float | None) -> dict[str, Any]:
    return {"text": text, "refs": list(refs), "distance": None if distance is None else round(float(distance), 6)}


def reply(
    question: Question,
    completion: Completion,
    shown: tuple[Mapping[str, Any], ...],
    refs: set[str],
    *,
    known: set[str] | frozenset[str],
    given: set[str],
    standing: set[str],
) -> Reply:
    return Reply(
        answer=completion.text.strip(),
        retrieved=shown,
        recall=recall(question.evidence, known=known, retrieved=refs),
        lost_at=lost_at(question.evidence, known=known, given=given, standing=standing, retrieved=refs),
        input_tokens=completion.prompt_tokens,
        output_tokens=completion.output_tokens,
        seconds=completion.seconds,
    )


def answered_phase(
    name: str,
    case: Case,
    identity: object,
    ground: Ground,
    ask: Callable[[], list[Reply]],
    more: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[Reply], StageCost, Phase]:
    """The answers phase of any system, from the cache where it was done before.

    Args:
        more: what `ask` leaves to be kept beside its replies.
    """
    key = digest([identity, [asdict(question) for question in case.questions], code_digest()])
    value = ground.cache.phase("answers", key)
    is_cached = value is not None
    if value is None:
        with timed(ground.clock) as spent:
            replies = ask()
        value = {"replies": [asdict(one) for one in replies], **spent, **(more or {})}
        ground.cache.keep_phase("answers", key, value)
    replies = [Reply(**{**one, "retrieved": tuple(one["retrieved"])}) for one in value["replies"]]
    cost = StageCost(
        name,
        "generation",
        len(replies),
        sum(one.input_tokens for one in replies),
        sum(one.output_tokens for one in replies),
        sum(one.seconds for one in replies),
    )
    taken = [value[name] for name in ("seconds", "model_seconds", "kept_seconds")]
    return value, replies, cost, Phase(name, "answers", taken[0], taken[1], is_cached, taken[2])


def complete_all(calls: Calls, requests: Sequence[Request], ground: Ground, on_done: OnDone) -> list[Completion]:
    return calls.complete_all(
        requests,
        ahead=ground.ahead,
        on_done=lambda done: on_done("answers", done, len(requests)),
        cancelled=ground.cancelled,
    )


def add_cost(costs: dict[str, list[float]], stage: str, prompt: int, output: int, seconds: float) -> None:
    """Calls, input and output tokens, seconds of a stage, summed."""
    numbers = (1, prompt, output, seconds)
    costs[stage] = [a + b for a, b in zip(costs.get(stage, [0, 0, 0, 0.0]), numbers, strict=True)]


@contextmanager
def timed(clock: ModelClock) -> Iterator[dict[str, float]]:
    """Wall and model seconds of the block, and those of kept calls, filled in when it ends."""
    spent: dict[str, float] = {}
    wall, model, kept = time.perf_counter(), clock.seconds, clock.kept
    yield spent
    spent["seconds"], spent["model_seconds"] = time.perf_counter() - wall, clock.seconds - model
    spent["kept_seconds"] = clock.kept - kept


@once
def code_digest() -> str:
    """Names the code that decides what a phase gives: where it changes, phases are done again (from kept calls)."""
    from memlora_mlx import conversations
    from memlora_mlx.eval import calls, provenance
    from memlora_mlx.memory import pipeline
    from memlora_mlx.memory.retrieval import search
    from memlora_mlx.memory.store import rows, store, transactions

    parts = (conversations, calls, provenance, pipeline, rows, search, stages, store, transactions)
    return digest([inspect.getsource(part) for part in parts] + [Path(__file__).read_text(encoding="utf-8")])
