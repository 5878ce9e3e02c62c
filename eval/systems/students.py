"""Who answers each stage of a system: a student, with its expert or without."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from memlora_mlx.eval.systems.cache import Cache, content_key, folder_digest
from memlora_mlx.eval.systems.cached_engine import CachedEngine, ModelBinding, ModelClock
from memlora_mlx.eval.systems.system import RunContext
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import STAGES, Stage


def cached_engine_for(
    assignments: Mapping[Stage, tuple[Workspace, bool]], embedder: Workspace, context: RunContext
) -> CachedEngine:
    """Who answers each stage: a student, with its expert if it has one and is to use it."""
    answerers: dict[Stage, ModelBinding] = {}
    for stage, (workspace, wants_expert) in assignments.items():
        folder = workspace.expert_folders.get(stage) if wants_expert else None
        expert = folder and folder_digest(folder)
        # calls that had the student for themselves took other seconds than those that shared it
        tiles = [workspace.settings.image_tiles] if workspace.has_vision else []
        identity = content_key([folder_digest(workspace.student_folder), expert, device(), context.ahead == 1, *tiles])
        label = Path(workspace.student_name).name + (" + expert" if folder else "")
        answerers[stage] = ModelBinding(workspace.engine, label, identity, folder is not None)
    return CachedEngine(answerers, embedder.engine, context.cache, context.clock)


def device() -> list[str]:
    """A kept call is of this machine's kind and this MLX."""
    from memlora_mlx.distill.training_runs import describe_environment

    known = describe_environment()
    return [known["device"], known["mlx"]]


def run_context(workspace: Workspace, cache: Cache) -> RunContext:
    """What the benchmark would stand on with this workspace."""
    rules = replace(workspace.pipeline_options, verbatim_only=frozenset())
    return RunContext(
        cache, ModelClock(), workspace.embedding_fingerprint, rules, workspace.settings.limit, threading.Event()
    )


def engine_with_experts(workspace: Workspace, context: RunContext, experts: Collection[Stage]) -> CachedEngine:
    """The student's calls, with the experts of these stages alone."""
    return cached_engine_for({stage: (workspace, stage in experts) for stage in STAGES}, workspace, context)
