"""Who answers each stage of a system: a student, with its expert or without."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from memlora_mlx.eval.systems.cache import Cache, digest, folder_digest
from memlora_mlx.eval.systems.calls import Answerer, Calls, ModelClock
from memlora_mlx.eval.systems.system import Ground
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import STAGES, Stage


def calls_of(by: Mapping[Stage, tuple[Workspace, bool]], embedder: Workspace, ground: Ground) -> Calls:
    """Who answers each stage: a student, with its expert if it has one and is to use it."""
    answerers: dict[Stage, Answerer] = {}
    for stage, (workspace, wants_expert) in by.items():
        folder = workspace.expert_folders.get(stage) if wants_expert else None
        expert = folder and folder_digest(folder)
        # calls that had the student for themselves took other seconds than those that shared it
        tiles = [workspace.settings.image_tiles] if workspace.has_vision else []
        identity = digest([folder_digest(workspace.student_folder), expert, device(), ground.ahead == 1, *tiles])
        label = Path(workspace.student_name).name + (" + expert" if folder else "")
        answerers[stage] = Answerer(workspace.engine, label, identity, folder is not None)
    return Calls(answerers, embedder.engine, ground.cache, ground.clock)


def device() -> list[str]:
    """A kept call is of this machine's kind and this MLX."""
    from memlora_mlx.distill.workflow import environment

    known = environment()
    return [known["device"], known["mlx"]]


def ground_of(workspace: Workspace, cache: Cache) -> Ground:
    """What the benchmark would stand on with this workspace."""
    rules = replace(workspace.pipeline_options, verbatim_only=frozenset())
    return Ground(
        cache, ModelClock(), workspace.embedding_fingerprint, rules, workspace.settings.limit, threading.Event()
    )


def calls_with(workspace: Workspace, ground: Ground, experts: Collection[Stage]) -> Calls:
    """The student's calls, with the experts of these stages alone."""
    return calls_of({stage: (workspace, stage in experts) for stage in STAGES}, workspace, ground)
