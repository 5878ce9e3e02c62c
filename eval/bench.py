"""A benchmark run: conversations read by every system, questions asked, answers scored and judged, all of it kept.

Nothing of it touches the user's own memories. A run can be stopped anywhere and started again; the figures are the
same.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.eval.bench_config import SYSTEMS, BenchConfig
from memlora_mlx.eval.cases import BenchmarkCase, data_fingerprint, limit_case
from memlora_mlx.eval.locomo import own_conversations
from memlora_mlx.eval.locomo.assembly import (
    assemble,
    finalise_run,
    prediction_results,
    unread_exchanges_warnings,
    unused_corrections_warning,
)
from memlora_mlx.eval.locomo.questions import read_cases
from memlora_mlx.eval.locomo.registry import build_systems
from memlora_mlx.eval.locomo.scoring import RULES, OnRunProgress, judge_run, score_run
from memlora_mlx.eval.metrics.judges import is_remote
from memlora_mlx.eval.results import BenchRun
from memlora_mlx.eval.systems.cache import Cache, bench_folder, content_key, folder_digest
from memlora_mlx.eval.systems.cached_engine import ModelClock
from memlora_mlx.eval.systems.students import cached_engine_for, device
from memlora_mlx.eval.systems.system import RunContext, System, SystemResult, code_fingerprint
from memlora_mlx.extras import require
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.scheduling import MAX_IN_FLIGHT
from memlora_mlx.memory.workspace import Workspace


def run(
    config: BenchConfig,
    workspace: Workspace,
    *,
    on_progress: OnRunProgress = lambda *_: None,
    cancelled: threading.Event | None = None,
) -> BenchRun:
    """Run what is planned.

    Raises:
        UsageError: nothing of the plan can be run: no such split, system, student; no questions.
        Cancelled: `cancelled` was set; the same run goes on from here.
    """
    if unknown := [name for name in config.systems if name not in SYSTEMS]:
        raise UsageError(f"there is no system {unknown[0]!r}; known are {', '.join(SYSTEMS)}")
    stems = [file.stem for file in config.predictions]
    if taken := [stem for stem in stems if stem in SYSTEMS or "/" in stem or stems.count(stem) > 1]:
        raise UsageError(f"a prediction file names its system, and {taken[0]!r} is taken; call it otherwise")
    if config.judge and is_remote(config.judge) and config.mine:
        raise UsageError("with --mine nothing leaves this machine; name a judge on it, such as mlx:qwen2.5-3b")
    if config.file is not None or config.mine:
        require("bench", "scoring")  # now rather than at the end of an hour's run
    workspace.student_folder  # noqa: B018 - without it nothing can be run
    started, clock = time.perf_counter(), ModelClock()
    failures: list[str] = []
    with ExitStack() as opened:
        kept = bench_folder(workspace) / "cache"
        if config.mine:  # what the user said is kept in one place alone
            kept = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="memlora-mine-")))
        cache = opened.enter_context(Cache(kept))
        cases = _cases(config, workspace, opened, failures)
        failures += unused_corrections_warning(config.corrections, cases)
        ground = RunContext(
            cache,
            clock,
            workspace.embedding_fingerprint if config.embeds else EmbeddingFingerprint("", 0),
            replace(
                workspace.pipeline_options, verbatim_only=frozenset()
            ),  # the same decoding with experts and without
            config.top_k or workspace.settings.limit,
            cancelled or threading.Event(),
            1 if config.efficiency else MAX_IN_FLIGHT,
        )
        taking_part = build_systems(config, workspace, ground, opened, failures) if cases else []
        origin = _origin(config, workspace, cases, ground)
        origin["systems"] = [*(entrant.system.name for entrant in taking_part), *stems]
        outcomes = []
        for entrant, case in [(entrant, case) for case in cases for entrant in taking_part]:
            if outcome := _system_result(entrant.system, case, ground, on_progress, failures):
                outcomes.append((entrant, case, outcome))
        made = assemble(outcomes, config.corrections)
        failures += unread_exchanges_warnings(made)
        made = replace(
            made, asked=(*made.asked, *prediction_results(config.predictions, cases, config.corrections, failures))
        )
        if made.asked:
            made = score_run(made, workspace, ground, origin, on_progress)
            made = judge_run(made, config.judge, workspace, ground, origin, failures, on_progress)
        extra = _others(config, workspace, ground, on_progress)
        failures += cache.warnings
    origin["seconds"] = round(time.perf_counter() - started, 3)
    origin["model_seconds"] = round(clock.seconds, 3)
    return finalise_run(replace(made, origin=origin, failures=tuple(failures), extra=extra))


def _cases(config: BenchConfig, workspace: Workspace, opened: ExitStack, failures: list[str]) -> list[BenchmarkCase]:
    if config.mine:
        return own_conversations.cases(
            opened.enter_context(own_conversations.snapshot_store(workspace)),
            config.questions or own_conversations.QUESTIONS,
        )
    if config.file is None:
        return []
    whole, problems = read_cases(config.file, split=config.split, names=config.conversations)
    failures += problems
    cases = [limit_case(case, config.limit, config.questions) for case in whole]
    if not any(case.questions for case in cases):
        raise UsageError("no question can be answered from so few exchanges; give a larger --limit")
    return cases


def _system_result(
    system: System, case: BenchmarkCase, context: RunContext, on_progress: OnRunProgress, failures: list[str]
) -> SystemResult | None:
    def told(phase: str, done: int, total: int) -> None:
        on_progress(system.name, case.name, phase, done, total)

    try:
        return system.run(case, told)
    except MemloraError as error:
        context.check()
        failures.append(f"{system.name} on {case.name}: {error}")
        return None


def _others(
    config: BenchConfig, workspace: Workspace, context: RunContext, on_progress: OnRunProgress
) -> dict[str, Any]:
    """The other benchmarks that were asked for, by name."""
    extra = {}
    if config.conflict:
        extra["conflict"] = _conflict(config, workspace, context, on_progress)
    if config.vqa is not None:
        extra["vqa"] = _vqa(config, config.vqa, workspace, context, on_progress)
    return extra


def _vqa(
    config: BenchConfig, folder: Path, workspace: Workspace, context: RunContext, on_progress: OnRunProgress
) -> dict[str, Any]:
    """The questions about images; what is kept of them are their calls."""
    from memlora_mlx.eval.vqa import benchmark as vqa

    notes: list[str] = []
    if not workspace.has_vision:
        notes.append(f"{workspace.student_name} reads text only: it is told captions and looks at nothing")
    looking = {}
    if "memlora" in config.systems:
        if "vqa" in workspace.expert_folders:
            looking["memlora"] = cached_engine_for({"vqa": (workspace, True)}, workspace, context)
        else:
            notes.append(
                f"memlora: {workspace.student_name} has no vqa expert here; `memlora train --stage vqa` makes one"
            )
    if "base" in config.systems:
        looking["base"] = cached_engine_for({"vqa": (workspace, False)}, workspace, context)

    def told(system: str, done: int, total: int) -> None:
        on_progress(system, "", "images", done, total)

    found = vqa.run(
        folder,
        looking,
        has_vision=workspace.has_vision,
        split=config.split,
        limit=config.questions,
        ahead=context.ahead,
        on_progress=told,
        cancelled=context.cancelled,
    )
    return found | {"notes": [*notes, *found["notes"]]}


def _conflict(
    config: BenchConfig, workspace: Workspace, context: RunContext, on_progress: OnRunProgress
) -> dict[str, Any]:
    """The benchmark of memory operations, kept whole."""
    from memlora_mlx.eval.conflict import benchmark as conflict
    from memlora_mlx.eval.conflict import templates

    names = [name for name in config.systems if name in conflict.SYSTEMS]
    students = [folder_digest(workspace.student_folder), *map(folder_digest, workspace.expert_folders.values())]
    code = [Path(str(part.__file__)).read_text(encoding="utf-8") for part in (conflict, templates)]
    key = content_key(
        [names, config.questions, students, context.rules, context.space, code, code_fingerprint(), device()]
    )
    if (known := context.cache.get_phase("conflict", key)) is not None:
        return known

    def told(system: str, done: int, total: int) -> None:
        context.check()
        on_progress(system, "", "conflict", done, total)

    found = conflict.run(workspace, names, limit=config.questions, on_progress=told, context=context)
    context.cache.put_phase("conflict", key, found)
    return found


def _origin(
    config: BenchConfig, workspace: Workspace, cases: Sequence[BenchmarkCase], context: RunContext
) -> dict[str, Any]:
    from memlora_mlx.distill.training_runs import describe_environment

    experts = {
        stage: {"hash": folder_digest(folder), "folder": folder.parent.name}
        for stage, folder in workspace.expert_folders.items()
    }
    data: dict[str, Any] = {"file": None, "asked": data_fingerprint(cases)}
    if config.file is not None:
        data |= {"file": config.file.name, "sha256": sha256(config.file.read_bytes()).hexdigest()}
    rules = context.rules
    return {
        "student": Path(workspace.student_name).name,
        "student_hash": folder_digest(workspace.student_folder),
        "experts": experts,
        "embedder": Path(workspace.settings.embedder).name,
        "space": context.space.name,
        "data": data,
        "split": None if config.conversations or config.file is None else config.split,
        "conversations": [case.name for case in cases],
        "questions": sum(len(case.questions) for case in cases),
        "exchanges": sum(len(case.exchanges) for case in cases),
        "limit": config.limit,
        "limit_questions": config.questions,
        "top_k": context.top_k,
        "protocol": rules.protocol,
        "related": rules.related,
        "max_context": rules.max_context,
        "copied_texts": rules.copy_constrained,
        "one_fact_an_update": rules.per_fact,
        "calls": "one at a time" if context.ahead == 1 else f"{context.ahead} at once; a call's seconds are its share",
        "corrections": len(config.corrections) or None,
        "seed": 0,  # greedy decoding throughout; resamples of the report are seeded with it
        "rules": dict(RULES),
        "environment": describe_environment(),
        "command": config.command,
    }
