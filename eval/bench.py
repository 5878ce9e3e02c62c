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
from memlora_mlx.eval.cases import Case, cut, data_digest
from memlora_mlx.eval.locomo import mine
from memlora_mlx.eval.locomo.assembly import assemble, finished, not_read, predicted, unused
from memlora_mlx.eval.locomo.entrants import entrants
from memlora_mlx.eval.locomo.questions import read_cases
from memlora_mlx.eval.locomo.scoring import RULES, OnProgress, judged, scored
from memlora_mlx.eval.metrics.judges import is_elsewhere
from memlora_mlx.eval.plan import SYSTEMS, Plan
from memlora_mlx.eval.results import Run
from memlora_mlx.eval.systems.cache import Cache, bench_folder, digest, folder_digest
from memlora_mlx.eval.systems.calls import ModelClock
from memlora_mlx.eval.systems.students import calls_of, device
from memlora_mlx.eval.systems.system import Ground, Outcome, System, code_digest
from memlora_mlx.extras import require
from memlora_mlx.memory.changes import EmbeddingFingerprint
from memlora_mlx.memory.pipeline import MAX_IN_FLIGHT
from memlora_mlx.memory.workspace import Workspace


def run(
    plan: Plan,
    workspace: Workspace,
    *,
    on_progress: OnProgress = lambda *_: None,
    cancelled: threading.Event | None = None,
) -> Run:
    """Run what is planned.

    Raises:
        UsageError: nothing of the plan can be run: no such split, system, student; no questions.
        Cancelled: `cancelled` was set; the same run goes on from here.
    """
    if unknown := [name for name in plan.systems if name not in SYSTEMS]:
        raise UsageError(f"there is no system {unknown[0]!r}; known are {', '.join(SYSTEMS)}")
    stems = [file.stem for file in plan.predictions]
    if taken := [stem for stem in stems if stem in SYSTEMS or "/" in stem or stems.count(stem) > 1]:
        raise UsageError(f"a prediction file names its system, and {taken[0]!r} is taken; call it otherwise")
    if plan.judge and is_elsewhere(plan.judge) and plan.mine:
        raise UsageError("with --mine nothing leaves this machine; name a judge on it, such as mlx:qwen2.5-3b")
    if plan.file is not None or plan.mine:
        require("bench", "scoring")  # now rather than at the end of an hour's run
    workspace.student_folder  # noqa: B018 - without it nothing can be run
    started, clock = time.perf_counter(), ModelClock()
    failures: list[str] = []
    with ExitStack() as opened:
        kept = bench_folder(workspace) / "cache"
        if plan.mine:  # what the user said is kept in one place alone
            kept = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="memlora-mine-")))
        cache = opened.enter_context(Cache(kept))
        cases = _cases(plan, workspace, opened, failures)
        failures += unused(plan.corrections, cases)
        ground = Ground(
            cache,
            clock,
            workspace.embedding_fingerprint if plan.embeds else EmbeddingFingerprint("", 0),
            replace(
                workspace.pipeline_options, verbatim_only=frozenset()
            ),  # the same decoding with experts and without
            plan.top_k or workspace.settings.limit,
            cancelled or threading.Event(),
            1 if plan.efficiency else MAX_IN_FLIGHT,
        )
        taking_part = entrants(plan, workspace, ground, opened, failures) if cases else []
        origin = _origin(plan, workspace, cases, ground)
        origin["systems"] = [*(entrant.system.name for entrant in taking_part), *stems]
        outcomes = []
        for entrant, case in [(entrant, case) for case in cases for entrant in taking_part]:
            if outcome := _outcome(entrant.system, case, ground, on_progress, failures):
                outcomes.append((entrant, case, outcome))
        made = assemble(outcomes, plan.corrections)
        failures += not_read(made)
        made = replace(made, asked=(*made.asked, *predicted(plan.predictions, cases, plan.corrections, failures)))
        if made.asked:
            made = scored(made, workspace, ground, origin, on_progress)
            made = judged(made, plan.judge, workspace, ground, origin, failures, on_progress)
        extra = _others(plan, workspace, ground, on_progress)
        failures += cache.notes
    origin["seconds"] = round(time.perf_counter() - started, 3)
    origin["model_seconds"] = round(clock.seconds, 3)
    return finished(replace(made, origin=origin, failures=tuple(failures), extra=extra))


def _cases(plan: Plan, workspace: Workspace, opened: ExitStack, failures: list[str]) -> list[Case]:
    if plan.mine:
        return mine.cases(opened.enter_context(mine.snapshot(workspace)), plan.questions or mine.QUESTIONS)
    if plan.file is None:
        return []
    whole, problems = read_cases(plan.file, split=plan.split, names=plan.conversations)
    failures += problems
    cases = [cut(case, plan.limit, plan.questions) for case in whole]
    if not any(case.questions for case in cases):
        raise UsageError("no question can be answered from so few exchanges; give a larger --limit")
    return cases


def _outcome(
    system: System, case: Case, ground: Ground, on_progress: OnProgress, failures: list[str]
) -> Outcome | None:
    def told(phase: str, done: int, total: int) -> None:
        on_progress(system.name, case.name, phase, done, total)

    try:
        return system.run(case, told)
    except MemloraError as error:
        ground.check()
        failures.append(f"{system.name} on {case.name}: {error}")
        return None


def _others(plan: Plan, workspace: Workspace, ground: Ground, on_progress: OnProgress) -> dict[str, Any]:
    """The other benchmarks that were asked for, by name."""
    extra = {}
    if plan.conflict:
        extra["conflict"] = _conflict(plan, workspace, ground, on_progress)
    if plan.vqa is not None:
        extra["vqa"] = _vqa(plan, plan.vqa, workspace, ground, on_progress)
    return extra


def _vqa(plan: Plan, folder: Path, workspace: Workspace, ground: Ground, on_progress: OnProgress) -> dict[str, Any]:
    """The questions about images; what is kept of them are their calls."""
    from memlora_mlx.eval.vqa import benchmark as vqa

    notes: list[str] = []
    if not workspace.has_vision:
        notes.append(f"{workspace.student_name} reads text only: it is told captions and looks at nothing")
    looking = {}
    if "memlora" in plan.systems:
        if "vqa" in workspace.expert_folders:
            looking["memlora"] = calls_of({"vqa": (workspace, True)}, workspace, ground)
        else:
            notes.append(
                f"memlora: {workspace.student_name} has no vqa expert here; `memlora train --stage vqa` makes one"
            )
    if "base" in plan.systems:
        looking["base"] = calls_of({"vqa": (workspace, False)}, workspace, ground)

    def told(system: str, done: int, total: int) -> None:
        on_progress(system, "", "images", done, total)

    found = vqa.run(
        folder,
        looking,
        sees=workspace.has_vision,
        split=plan.split,
        limit=plan.questions,
        ahead=ground.ahead,
        on_progress=told,
        cancelled=ground.cancelled,
    )
    return found | {"notes": [*notes, *found["notes"]]}


def _conflict(plan: Plan, workspace: Workspace, ground: Ground, on_progress: OnProgress) -> dict[str, Any]:
    """The benchmark of memory operations, kept whole."""
    from memlora_mlx.eval.conflict import benchmark as conflict
    from memlora_mlx.eval.conflict import templates

    names = [name for name in plan.systems if name in conflict.SYSTEMS]
    students = [folder_digest(workspace.student_folder), *map(folder_digest, workspace.expert_folders.values())]
    code = [Path(str(part.__file__)).read_text(encoding="utf-8") for part in (conflict, templates)]
    key = digest([names, plan.questions, students, ground.rules, ground.space, code, code_digest(), device()])
    if (known := ground.cache.phase("conflict", key)) is not None:
        return known

    def told(system: str, done: int, total: int) -> None:
        ground.check()
        on_progress(system, "", "conflict", done, total)

    found = conflict.run(workspace, names, limit=plan.questions, on_progress=told, ground=ground)
    ground.cache.keep_phase("conflict", key, found)
    return found


def _origin(plan: Plan, workspace: Workspace, cases: Sequence[Case], ground: Ground) -> dict[str, Any]:
    from memlora_mlx.distill.workflow import environment

    experts = {
        stage: {"hash": folder_digest(folder), "folder": folder.parent.name}
        for stage, folder in workspace.expert_folders.items()
    }
    data: dict[str, Any] = {"file": None, "asked": data_digest(cases)}
    if plan.file is not None:
        data |= {"file": plan.file.name, "sha256": sha256(plan.file.read_bytes()).hexdigest()}
    rules = ground.rules
    return {
        "student": Path(workspace.student_name).name,
        "student_hash": folder_digest(workspace.student_folder),
        "experts": experts,
        "embedder": Path(workspace.settings.embedder).name,
        "space": ground.space.name,
        "data": data,
        "split": None if plan.conversations or plan.file is None else plan.split,
        "conversations": [case.name for case in cases],
        "questions": sum(len(case.questions) for case in cases),
        "exchanges": sum(len(case.exchanges) for case in cases),
        "limit": plan.limit,
        "limit_questions": plan.questions,
        "top_k": ground.top_k,
        "protocol": rules.protocol,
        "related": rules.related,
        "max_context": rules.max_context,
        "copied_texts": rules.copy_constrained,
        "one_fact_an_update": rules.per_fact,
        "calls": "one at a time" if ground.ahead == 1 else f"{ground.ahead} at once; a call's seconds are its share",
        "corrections": len(plan.corrections) or None,
        "seed": 0,  # greedy decoding throughout; resamples of the report are seeded with it
        "rules": dict(RULES),
        "environment": environment(),
        "command": plan.command,
    }
