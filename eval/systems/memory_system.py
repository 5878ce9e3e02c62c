"""The systems that answer from memories: our pipeline, with experts or without."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memlora_mlx.eval.cases import BenchmarkCase
from memlora_mlx.eval.results import PhaseCost, StageCost
from memlora_mlx.eval.systems.cache import content_key
from memlora_mlx.eval.systems.cached_engine import CachedEngine
from memlora_mlx.eval.systems.provenance import Provenance
from memlora_mlx.eval.systems.system import (
    OnPhaseProgress,
    RunContext,
    SystemAnswer,
    SystemResult,
    add_cost,
    cached_answer_phase,
    code_fingerprint,
    complete_all,
    measure_phase,
    reply,
    retrieved_turn,
)
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.scheduling import SPECULATIVE_UPDATES
from memlora_mlx.memory.search.find import find
from memlora_mlx.memory.store.full_text import ended_and_standing
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Completion, Hit, MessageKey, Priority, Request


class MemorySystem:
    """Our own pipeline: facts extracted, updated, retrieved, answered from; with experts or without."""

    def __init__(self, name: str, calls: CachedEngine, context: RunContext) -> None:
        self.name, self.calls, self.context = name, calls, context

    def run(self, case: BenchmarkCase, on_done: OnPhaseProgress) -> SystemResult:
        ground = self.context
        key = content_key(
            [
                case.content_key,
                self.calls.identity("extraction", "update"),
                [ground.rules, ground.space, code_fingerprint()],
            ]
        )
        known = ground.cache.get_phase("ingest", key)
        if known is None or not (ground.cache.store_folder(key) / "memories.db").is_file():
            known = self._ingest(case, key, on_done)
            fresh = True
        else:
            fresh = False
        provenance = Provenance.from_json(known["provenance"])
        folder = ground.cache.store_folder(key)
        _, replies, cost, answers = answer_from_store(
            self.name, folder, key, case, provenance, self.calls, ground, on_done
        )
        costs = [StageCost(self.name, stage, *numbers) for stage, numbers in known["costs"].items()]
        ingest = PhaseCost(
            self.name, "ingest", known["seconds"], known["model_seconds"], not fresh, known["kept_seconds"]
        )
        return SystemResult(tuple(replies), (*costs, cost), (ingest, answers), known["memory"])

    def _ingest(self, case: BenchmarkCase, key: str, on_done: OnPhaseProgress) -> dict[str, Any]:
        ground = self.context
        provenance = Provenance()
        costs: dict[str, list[float]] = {}
        memory: dict[str, Any] = {"facts": 0, "rejected": 0, "duplicates": 0, "cut": 0, "operations": {}}
        with tempfile.TemporaryDirectory(prefix="memlora-bench-") as folder, measure_phase(ground.clock) as spent:
            with Store(Path(folder), ground.space) as store:
                pipeline = Pipeline(self.calls, store, ground.rules)
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
                            provenance.record_write(change.event, change.memory_id, change.text, refs)
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
            ground.cache.put_store(key, Path(folder))
        value = {"provenance": provenance.as_json(), "costs": costs, "memory": memory, **spent}
        ground.cache.put_phase("ingest", key, value)
        return value


def answer_from_store(
    name: str,
    folder: Path,
    identity: object,
    case: BenchmarkCase,
    provenance: Provenance,
    calls: CachedEngine,
    context: RunContext,
    on_done: OnPhaseProgress,
) -> tuple[dict[str, Any], list[SystemAnswer], StageCost, PhaseCost]:
    """The answers phase over the store in a folder.

    Args:
        identity: names what the store holds.
    """

    def ask() -> list[SystemAnswer]:
        owners = list(dict.fromkeys(exchange.owner for exchange in case.exchanges))
        with Store(folder, context.space) as store:
            pipeline = Pipeline(calls, store, context.rules)
            vectors = calls.embed([question.text for question in case.questions], query=True)
            requests: list[Request | str] = []  # a text: answered without the student
            used: list[list[Hit]] = []
            protocol = context.rules.protocol
            with store.snapshot() as connection:
                ended, standing_keys = ended_and_standing(connection)
            for question, vector in zip(case.questions, vectors, strict=True):
                hits = find(
                    store,
                    question.text,
                    vector,
                    context.top_k,
                    protocol=protocol,
                    scopes=owners,
                    show_superseded=False,
                )
                request, cut = pipeline.answer_request(question.text, hits, names=len(owners) > 1)
                by_rule = pipeline.answer_by_rule(question.text, hits)
                requests.append(request if by_rule is None else by_rule)
                used.append(hits[: len(hits) - cut])
        asked = [request for request in requests if isinstance(request, Request)]
        completed = iter(complete_all(calls, asked, context, on_done))
        answers = [
            Completion(request, "stop", 0, 0, 0, 0.0) if isinstance(request, str) else next(completed)
            for request in requests
        ]
        given, standing, known = provenance.ever_stored, provenance.still_stored, case.refs
        refs_by_key = _refs_by_key(case)
        if protocol == "product":  # every turn can be found; only what was changed or withdrawn is left out
            superseded = {refs_by_key.get(key) for key in ended} - {refs_by_key.get(key) for key in standing_keys}
            given, standing = set(known), {ref for ref in known if ref not in superseded}
        replies = []
        for question, hits, answer in zip(case.questions, used, answers, strict=True):
            shown = tuple(
                retrieved_turn(line.text, _refs(hit, refs_by_key, provenance), hit.score)
                for hit, line in zip(hits, pipeline.evidence(question.text, hits), strict=True)
            )
            refs = {ref for memory in shown for ref in memory["refs"]}
            replies.append(reply(question, answer, shown, refs, known=known, given=given, standing=standing))
        return replies

    everything = [identity, calls.identity("generation"), context.top_k]
    return cached_answer_phase(name, case, everything, context, ask)


def _refs_by_key(case: BenchmarkCase) -> dict[MessageKey, str]:
    """The turn that each message is in the case; the store keeps an id only where the source had one."""
    return {
        MessageKey(exchange.key, position): message.ref
        for exchange in case.exchanges
        for position, message in enumerate(exchange.messages)
        if message.ref
    }


def _refs(hit: Hit, refs_by_key: Mapping[MessageKey, str], provenance: Provenance) -> tuple[str, ...]:
    """The turns that a hit was made of: the message, or those whose words stand in a memory alone."""
    if hit.message is not None:
        ref = refs_by_key.get(hit.message.key)
        return (ref,) if ref else ()
    assert hit.memory is not None
    return provenance.refs_of(hit.memory.id)
