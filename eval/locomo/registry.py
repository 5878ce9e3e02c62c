"""Who takes part in a benchmark: the systems of Table 1, the rows of Tables 4 and 5, one's own memories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.eval.bench_config import BenchConfig
from memlora_mlx.eval.locomo import own_conversations
from memlora_mlx.eval.locomo.assembly import SystemEntry
from memlora_mlx.eval.systems.baselines import TranscriptBaseline
from memlora_mlx.eval.systems.cached_engine import CachedEngine
from memlora_mlx.eval.systems.memory_system import MemorySystem
from memlora_mlx.eval.systems.students import cached_engine_for
from memlora_mlx.eval.systems.system import RunContext, System
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.adapter_registry import WEIGHTS
from memlora_mlx.records import STAGES, Stage

SYSTEM_TITLES: Mapping[str, str] = {
    "memlora": "memlora (experts)",
    "base": "base (same student and prompts, no experts)",
    "mem0": "mem0ai (same student, its own prompts)",
    "full-context": "full context (the last turns that fit)",
    "rag": "turns instead of memories, found by the same search",
    "rag-dense": "turns instead of memories, the nearest vectors",
    "oracle": "the turns that hold the answer",
}

TRANSCRIPT_SYSTEMS = ("full-context", "rag", "rag-dense", "oracle")  # those that read the turns themselves


def build_systems(
    config: BenchConfig, workspace: Workspace, context: RunContext, opened: ExitStack, failures: list[str]
) -> list[SystemEntry]:
    """Everything of the plan that can run, in its order; what cannot is named in `failures`.

    Raises:
        UsageError: nothing can.
    """
    if config.mine:
        return _own_conversation_systems(config, workspace, context, failures)
    builders: list[Callable[[], SystemEntry]] = []
    for name in dict.fromkeys(config.systems):
        builders.append(lambda name=name: _system(name, workspace, context))  # type: ignore[misc]
    builders += _ablation_systems(config, workspace, context, opened, failures)
    made = []
    for make in builders:
        try:
            made.append(make())
        except MemloraError as error:
            failures.append(str(error))
    if not made and not config.predictions:
        raise UsageError(f"nothing can be run: {'; '.join(failures)}")
    return made


def _own_conversation_systems(
    config: BenchConfig, workspace: Workspace, context: RunContext, failures: list[str]
) -> list[SystemEntry]:
    calls = cached_engine_for({stage: (workspace, True) for stage in STAGES}, workspace, context)
    entries: list[SystemEntry] = []
    for name in config.systems:
        if name == "memlora":
            told = describe_system(calls, "memlora (your memories as they are)", "systems", workspace)
            entries.append(SystemEntry(own_conversations.StoredMemorySystem(name, calls, context), told))
        elif name in TRANSCRIPT_SYSTEMS:
            entries.append(
                SystemEntry(
                    TranscriptBaseline(name, calls, context),
                    describe_system(calls, SYSTEM_TITLES[name], "systems", workspace),
                )
            )
        else:
            failures.append(f"{name} is left out: with --mine your memories are measured as they are")
    return entries


def _system(name: str, workspace: Workspace, context: RunContext) -> SystemEntry:
    experts = workspace.expert_folders
    if name == "memlora" and not experts:
        raise UsageError(f"memlora is left out: {workspace.student_name} has no experts (`base` is the same without)")
    used: tuple[Stage, ...] = ()
    if name == "memlora":
        used = ("extraction", "update", "generation")
    elif name in TRANSCRIPT_SYSTEMS:
        used = ("generation",)  # so that the memory is all that differs from memlora
    calls = cached_engine_for({stage: (workspace, stage in used) for stage in STAGES}, workspace, context)
    system: System
    if name == "mem0":
        from memlora_mlx.eval.systems.mem0_system import Mem0System

        try:
            system = Mem0System(workspace, calls, context)
        except MemloraError as error:
            raise MemloraError(f"mem0 is left out: {error}") from error
    elif name in ("memlora", "base"):
        system = MemorySystem(name, calls, context)
    else:
        system = TranscriptBaseline(name, calls, context)
    return SystemEntry(system, describe_system(calls, SYSTEM_TITLES[name], "systems", workspace))


def _ablation_systems(
    config: BenchConfig, workspace: Workspace, context: RunContext, opened: ExitStack, failures: list[str]
) -> list[Callable[[], SystemEntry]]:
    """The rows of Table 4 and of Table 5."""
    made: list[Callable[[], SystemEntry]] = []

    def row(name: str, table: str, assignments: Sequence[tuple[Workspace, bool]]) -> None:
        def make() -> SystemEntry:
            stages: tuple[Stage, ...] = ("extraction", "update", "generation")
            calls = cached_engine_for(dict(zip(stages, assignments, strict=True)), workspace, context)
            return SystemEntry(
                MemorySystem(name, calls, context), describe_system(calls, name, table, assignments[-1][0])
            )

        made.append(make)

    def student(name: str) -> Workspace:
        settings = replace(workspace.settings, student=name, experts=None)
        return opened.enter_context(Workspace(settings, models_folder=workspace.models_folder))

    if config.ablation or config.ablation_with:
        base, expert = (workspace, False), (workspace, True)
        row("base/base/base", "ablation", [base, base, base])
        if config.ablation_with:
            large = (student(config.ablation_with), False)
            large[0].student_folder  # noqa: B018 - a wrong name is told before an hour's run
            name = Path(config.ablation_with).name
            row(f"{name}/base/base", "ablation", [large, base, base])
            row(f"{name}/{name}/base", "ablation", [large, large, base])
            row(f"{name}/{name}/{name}", "ablation", [large, large, large])
        if workspace.expert_folders:
            row("expert/base/base", "ablation", [expert, base, base])
            row("expert/expert/base", "ablation", [expert, expert, base])
            row("expert/expert/expert", "ablation", [expert, expert, expert])
        else:
            failures.append(f"the ablation has no rows with experts: {workspace.student_name} has none")
    if config.scales:
        from memlora_mlx.models.catalog import entries
        from memlora_mlx.models.downloads import installed

        here = [model.name for model in installed(workspace.models_folder) if model.is_complete]
        known = entries(workspace.settings.home)
        names = [n for n in here if n in known and known[n].kind == "student" and not known[n].needs_vision]
        for name in dict.fromkeys([*names, workspace.student_name]):
            one = workspace if name == workspace.student_name else student(name)
            short = Path(name).name
            row(short, "scales", [(one, False)] * 3)
            if one.expert_folders:
                row(f"{short}+experts", "scales", [(one, True)] * 3)
    return made


def describe_system(calls: CachedEngine, title: str, table: str, workspace: Workspace) -> dict[str, Any]:
    used = [stage for stage, answerer in calls.bindings.items() if answerer.has_expert]
    weights = workspace.student_folder.glob("*.safetensors")
    return {
        "title": title,
        "table": table,
        "stages": {stage: answerer.label for stage, answerer in calls.bindings.items() if stage != "vqa"},
        "has_experts": bool(used),
        "student": Path(workspace.student_name).name,
        "size_bytes": sum(path.stat().st_size for path in weights),
        "experts_bytes": sum(
            (workspace.expert_folders[stage] / WEIGHTS).stat().st_size
            for stage in used
            if stage in workspace.expert_folders
        ),
    }
