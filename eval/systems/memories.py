"""The systems that answer from memories: our pipeline, with experts or without."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from memlora_mlx.eval.cases import Case
from memlora_mlx.eval.results import Phase, StageCost
from memlora_mlx.eval.systems.cache import digest
from memlora_mlx.eval.systems.calls import Calls
from memlora_mlx.eval.systems.provenance import Provenance
from memlora_mlx.eval.systems.system import (
    Ground,
    OnDone,
    Outcome,
    Reply,
    add_cost,
    answered_phase,
    code_digest,
    complete_all,
    reply,
    retrieved,
    timed,
)
from memlora_mlx.memory.pipeline import SPECULATIVE_UPDATES, Pipeline
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Hit, Priority, Request

if TYPE_CHECKING:
    from memlora_mlx.models.engine import Engine


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
                    max_in_flight=ground.ahead,
                    speculative_updates=min(SPECULATIVE_UPDATES, ground.ahead),
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
                        memory["cut"] += cost.truncated > 0
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
                request, cut = pipeline.answer_request(question.text, hits, names=len(owners) > 1)
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
