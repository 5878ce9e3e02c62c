"""Exchanges on their way into the store."""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.measurements import Measurement
from benchmarks.workloads import conversation
from memlora_mlx.extras import has
from memlora_mlx.memory import stages
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.results import ExchangeResult
from memlora_mlx.memory.store.erasure import erase_everything
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange, Priority, Request


def pipeline(workspace: Workspace) -> Iterator[Measurement]:
    """Exchanges remembered one after the other: seconds and tokens of each stage."""
    said, source = conversation(30)
    results = _remember(workspace, said)
    calls = [cost for result in results for cost in result.costs]
    for stage, paper in (("extraction", (102.94, "21 to 47")), ("update", (172.56, "55 to 132"))):
        costs = [cost for cost in calls if cost.stage == stage]
        if not costs:
            continue
        count = len(costs)
        yield Measurement(
            "pipeline", f"{stage}, {source}", statistics.mean(c.seconds for c in costs), "s/call", runs=count
        )
        yield Measurement(
            "pipeline",
            f"{stage}: input tokens (the paper's MemLoRA prompt: {paper[0]})",
            statistics.mean(c.prompt_tokens for c in costs),
            "tokens",
            runs=count,
        )
        yield Measurement(
            "pipeline",
            f"{stage}: output tokens (the paper's small students: {paper[1]})",
            statistics.mean(c.output_tokens for c in costs),
            "tokens",
            runs=count,
        )
    grounded = workspace.verbatim_stages
    if grounded:
        yield Measurement("pipeline", f"stages without an expert, grounded: {', '.join(grounded)}", len(grounded), "")


def ingesting(workspace: Workspace) -> Iterator[Measurement]:
    """Whole exchanges a second: one call at a time, as `memlora ingest` does it, and by mem0 on the same student."""
    from memlora_mlx.eval.experts.end_to_end import workspace_with_experts
    from memlora_mlx.eval.systems import mem0_server

    said, source = conversation(24)
    own_rate = 0.0
    for name, experts in (("with the experts", workspace.expert_folders), ("base alone, free facts", {})):
        with workspace_with_experts(workspace, experts) as opened:
            rules = replace(opened.pipeline_options, verbatim_only=frozenset())
            plain, first = plain_seconds(opened, said, rules)
            fast, second, peak = ingest_seconds(opened, said, rules)
        if second != first:
            yield Measurement("ingest", f"{name}: DIFFERENT memories from plain decoding", 1, "", met=False)
        rate = len(said) / fast
        yield Measurement("ingest", f"{name}, {source}: exchanges a second", rate, "/s", runs=len(said))
        yield Measurement(
            "ingest", f"{name}: plain guided decoding, one call at a time", len(said) / plain, "/s", runs=len(said)
        )
        ratio = plain / fast
        yield Measurement("ingest", f"{name}: times the rate of plain", ratio, "x", target=">= 6", met=ratio >= 6)
        if not own_rate:
            yield Measurement("ingest", "resident memory at its highest, over that at the start", peak, "x")
            own_rate = rate
    if has("mem0"):
        with mem0_server.mem0_memory(workspace) as memory:
            taken, stored = mem0_server.add_seconds(memory, said[:7])
        theirs = 1 / statistics.mean(taken[1:])
        yield Measurement(
            "ingest", f"mem0ai {version('mem0ai')}, same student, {stored} memories stored", theirs, "/s", runs=6
        )
        ratio = own_rate / theirs
        yield Measurement("ingest", "times the rate of mem0ai", ratio, "x", target=">= 10", met=ratio >= 10)


def _remember(workspace: Workspace, said: list[Exchange]) -> list[ExchangeResult]:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), workspace.embedding_fingerprint) as store:
        pipeline = Pipeline(workspace.engine, store, workspace.pipeline_options)
        pipeline.remember(said[0])  # warm-up
        return [pipeline.remember(exchange) for exchange in said[1:]]


def ingest_seconds(
    workspace: Workspace, said: list[Exchange], rules: PipelineOptions
) -> tuple[float, list[str], float]:
    """`memlora ingest`'s own way: seconds, the memories in order, and the growth of resident memory."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), workspace.embedding_fingerprint) as store:
        pipeline = Pipeline(workspace.engine, store, rules)
        list(pipeline.remember_all(said[:4], priority=Priority.BACKGROUND))  # warm-up, and not in this store's measure
        erase_everything(store)
        start, resident = time.perf_counter(), [_resident()]
        for _ in pipeline.remember_all(said, priority=Priority.BACKGROUND):
            resident.append(_resident())
        seconds = time.perf_counter() - start
        memories = [memory.text for memory in store.list(order="stored")]
        return seconds, memories, max(resident) / resident[0]


def plain_seconds(workspace: Workspace, said: list[Exchange], rules: PipelineOptions) -> tuple[float, list[str]]:
    """The same pipeline, but every call alone, token by token, with nothing known of its prompt."""
    from benchmarks.model_timings import answer_seconds

    engine, student = workspace.engine, workspace.engine.student
    table = engine.experts
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), workspace.embedding_fingerprint) as store:
        pipeline = Pipeline(engine, store, rules)

        def ask(request: Request) -> str:
            _, row = engine.call(
                lambda: answer_seconds(
                    student,
                    table,
                    request.chat,
                    request.grammar,
                    stage=request.stage,
                    max_tokens=request.max_tokens,
                    lookup=0,
                    force=False,
                )
            )
            return student.decode(row.tokens)

        ask(pipeline.extraction_request(said[0])[0])  # warm-up
        start = time.perf_counter()
        for exchange in said:
            related = pipeline.find_related(
                exchange.owner, stages.parse_facts(ask(pipeline.extraction_request(exchange)[0]))
            )
            answered = []
            for part in pipeline.split_by_fact(related):
                request, _, offered = pipeline.update_request(part)
                decisions = stages.parse_update(ask(request), [memory.text for memory in offered.memories])
                answered.append((offered, decisions))
            store.commit(exchange.owner, pipeline.decide_changes(exchange, answered), exchange=exchange)
        return time.perf_counter() - start, [memory.text for memory in store.list(order="stored")]


def _resident() -> int:
    """Bytes of this process in memory now; on macOS the highest so far."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
