"""A benchmark run: conversations read by every system, questions asked, answers scored and judged, all of it kept.

Nothing of it touches the user's own memories. A run can be stopped anywhere and started again, or split over machines;
the figures are the same.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from memlora_mlx.errors import MemloraError, ModelMissing, UsageError
from memlora_mlx.eval import results
from memlora_mlx.eval.cache import Cache, Shelf, digest, folder_digest
from memlora_mlx.eval.calls import Answerer, Calls, ModelClock
from memlora_mlx.eval.questions import Case, cut, data_digest, read_cases
from memlora_mlx.eval.results import Asked, Phase, Run, StageCost
from memlora_mlx.eval.systems import Ground, MemorySystem, Outcome, Reply, System, TurnSystem, timed
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.expert_folders import WEIGHTS
from memlora_mlx.records import STAGES, Stage

SYSTEMS = ("memlora", "base", "mem0", "full-context", "rag", "oracle")
TITLES: Mapping[str, str] = {
    "memlora": "memlora (experts)",
    "base": "base (same student and prompts, no experts)",
    "mem0": "mem0ai (same student, its own prompts)",
    "full-context": "full context (the last turns that fit)",
    "rag": "turns instead of memories",
    "oracle": "the turns that hold the answer",
}
RIGHT_F1 = 0.5
RULES: Mapping[str, str] = {
    "right": f"without a judge an answer counts as right from a token F1 of {RIGHT_F1}, or as an exact match; with one, by"
    " its generous rubric",
    "abstained": "an answer abstains if it is empty or says that there is no answer (not mentioned, no information, do not"
    " know, unknown, cannot be determined and the like)",
    "lost": "the first stage that one of the evidence turns did not pass: its exchange gave no memory (not extracted); all it"
    " gave was deleted, or replaced by words that keep less than half of its own (updated away); none of it was among"
    " what the answer was given (not retrieved); else the answer was wrong (answered wrongly)",
}
_ABSTAINS = re.compile(
    r"\b(not (explicitly |directly )?(mentioned|stated|specified|said|provided|given|known|available|discussed|clear)"
    r"|no (information|mention|answer|memory|memories|evidence)|never (mentioned|said|stated)"
    r"|(do|does|did) ?n[o']t (know|mention|say|state|specify)|does not (hold|contain)|unknown|unanswerable|n/a"
    r"|cannot be (determined|answered|known)|can ?n[o']t (tell|say|answer))\b",
    re.IGNORECASE,
)

OnProgress = Callable[[str, str, str, int, int], None]  # system, conversation, phase, done, total


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    file: Path | None
    split: str = "val"
    conversations: tuple[str, ...] = ()
    systems: tuple[str, ...] = SYSTEMS
    limit: int | None = None  # exchanges of each conversation
    questions: int | None = None  # of each conversation
    top_k: int | None = None  # memories of each owner; the settings' own
    ablation: bool = False
    ablation_with: str | None = None  # a second student: Table 4's rows
    scales: bool = False
    shard: tuple[int, int] = (1, 1)
    judge: str | None = None
    predictions: tuple[Path, ...] = ()
    corrections: Mapping[str, str] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A system that takes part, and what the report says of it."""

    system: System
    about: Mapping[str, Any]


def bench_folder(workspace: Workspace) -> Path:
    return workspace.settings.home / "bench"


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
    assert plan.file is not None
    if unknown := [name for name in plan.systems if name not in SYSTEMS]:
        raise UsageError(f"there is no system {unknown[0]!r}; known are {', '.join(SYSTEMS)}")
    whole, problems = read_cases(plan.file, split=plan.split, names=plan.conversations)
    cases = [cut(case, plan.limit, plan.questions) for case in whole]
    if not any(case.questions for case in cases):
        raise UsageError("no question can be answered from so few exchanges; give a larger --limit")
    started, clock = time.perf_counter(), ModelClock()
    failures = list(problems)
    with Cache(bench_folder(workspace) / "cache") as cache, ExitStack() as opened:
        space = workspace.space
        rules = replace(workspace.rules, grounded=frozenset())  # the same decoding with experts and without
        top_k = plan.top_k or workspace.settings.limit
        ground = Ground(cache, clock, space, rules, top_k, cancelled or threading.Event())
        entrants = _entrants(plan, workspace, ground, opened, failures)
        origin = _origin(plan, workspace, cases, space.name, rules, top_k)
        origin["systems"] = [entrant.system.name for entrant in entrants] + [file.stem for file in plan.predictions]
        units = [(entrant, case) for case in cases for entrant in entrants]
        number, of = plan.shard
        outcomes: list[tuple[Entrant, Case, Outcome]] = []
        for entrant, case in units[number - 1 :: of]:
            system = entrant.system

            def told(phase: str, done: int, total: int, name: str = system.name, of: str = case.name) -> None:
                on_progress(name, of, phase, done, total)

            try:
                outcomes.append((entrant, case, system.run(case, told)))
            except MemloraError as error:
                ground.check()
                failures.append(f"{system.name} on {case.name}: {error}")
        run = assemble(outcomes, plan.corrections)
        run = replace(run, asked=(*run.asked, *predicted(plan, cases, failures)) if number == 1 else run.asked)
        run = scored(run, workspace, cache, clock, origin, on_progress)
        run = judged(run, plan.judge, workspace, cache, origin, failures, on_progress, ground)
        origin["seconds"] = round(time.perf_counter() - started, 3)
        origin["model_seconds"] = round(clock.seconds, 3)
        failures += cache.notes
    return finished(replace(run, origin=origin, failures=tuple(failures)))


# ------------------------------------------------------------------------------------------------ who takes part


def _entrants(
    plan: Plan, workspace: Workspace, ground: Ground, opened: ExitStack, failures: list[str]
) -> list[Entrant]:
    makers: list[Callable[[], Entrant]] = []
    for name in dict.fromkeys(plan.systems):
        makers.append(lambda name=name: _system(name, workspace, ground))  # type: ignore[misc]
    makers += _rows(plan, workspace, ground, opened, failures)
    entrants = []
    for make in makers:
        try:
            entrants.append(make())
        except (ModelMissing, UsageError) as error:
            if not workspace.models_folder.is_dir():
                raise
            failures.append(str(error))
        except MemloraError as error:
            failures.append(str(error))
    if not entrants and not plan.predictions:
        raise UsageError(f"nothing can be run: {'; '.join(failures)}")
    return entrants


def _system(name: str, workspace: Workspace, ground: Ground) -> Entrant:
    experts = workspace.expert_folders
    if name == "memlora" and not experts:
        raise UsageError(f"memlora is left out: {workspace.student_name} has no experts (`base` is the same without)")
    used: tuple[Stage, ...] = ()
    if name == "memlora":
        used = ("extraction", "update", "generation")
    elif name in ("full-context", "rag", "oracle"):
        used = ("generation",)  # so that the memory is all that differs from memlora
    calls = calls_of({stage: (workspace, stage in used) for stage in STAGES}, workspace, ground)
    system: System
    if name == "mem0":
        from memlora_mlx.eval.mem0_system import Mem0System

        try:
            system = Mem0System(workspace, calls, ground)
        except MemloraError as error:
            raise MemloraError(f"mem0 is left out: {error}") from error
    elif name in ("memlora", "base"):
        system = MemorySystem(name, calls, ground)
    else:
        system = TurnSystem(name, calls, ground)
    return Entrant(system, about(calls, TITLES[name], "systems", workspace))


def _rows(
    plan: Plan, workspace: Workspace, ground: Ground, opened: ExitStack, failures: list[str]
) -> list[Callable[[], Entrant]]:
    """The rows of Table 4 and of Table 5."""
    made: list[Callable[[], Entrant]] = []

    def row(name: str, table: str, by: Sequence[tuple[Workspace, bool]]) -> None:
        def make() -> Entrant:
            stages: tuple[Stage, ...] = ("extraction", "update", "generation")
            calls = calls_of(dict(zip(stages, by, strict=True)), workspace, ground)
            return Entrant(MemorySystem(name, calls, ground), about(calls, name, table, by[-1][0]))

        made.append(make)

    def student(name: str) -> Workspace:
        settings = replace(workspace.settings, student=name, experts=None)
        return opened.enter_context(Workspace(settings, models_folder=workspace.models_folder))

    if plan.ablation or plan.ablation_with:
        base, expert = (workspace, False), (workspace, True)
        row("base/base/base", "ablation", [base, base, base])
        if plan.ablation_with:
            large = (student(plan.ablation_with), False)
            large[0].student_folder  # noqa: B018 - a wrong name is told before an hour's run
            name = Path(plan.ablation_with).name
            row(f"{name}/base/base", "ablation", [large, base, base])
            row(f"{name}/{name}/base", "ablation", [large, large, base])
            row(f"{name}/{name}/{name}", "ablation", [large, large, large])
        if workspace.expert_folders:
            row("expert/base/base", "ablation", [expert, base, base])
            row("expert/expert/base", "ablation", [expert, expert, base])
            row("expert/expert/expert", "ablation", [expert, expert, expert])
        else:
            failures.append(f"the ablation has no rows with experts: {workspace.student_name} has none")
    if plan.scales:
        from memlora_mlx.models.catalog import ENTRIES
        from memlora_mlx.models.downloads import installed

        here = [model.name for model in installed(workspace.models_folder) if model.is_whole]
        names = [n for n in here if n in ENTRIES and ENTRIES[n].kind == "student" and not ENTRIES[n].needs_vision]
        for name in names or [workspace.student_name]:
            one = workspace if name == workspace.student_name else student(name)
            row(name, "scales", [(one, False)] * 3)
            if one.expert_folders:
                row(f"{name}+experts", "scales", [(one, True)] * 3)
    return made


def calls_of(by: Mapping[Stage, tuple[Workspace, bool]], embedder: Workspace, ground: Ground) -> Calls:
    """Who answers each stage: a student, with its expert if it has one and is to use it."""
    answerers: dict[Stage, Answerer] = {}
    for stage, (workspace, wants_expert) in by.items():
        folder = workspace.expert_folders.get(stage) if wants_expert else None
        identity = digest([folder_digest(workspace.student_folder), folder and folder_digest(folder), _device()])
        label = Path(workspace.student_name).name + (" + expert" if folder else "")
        answerers[stage] = Answerer(workspace.engine, label, identity, folder is not None)
    return Calls(answerers, embedder.engine, ground.cache, ground.clock)


def about(calls: Calls, title: str, table: str, workspace: Workspace) -> dict[str, Any]:
    used = [stage for stage, answerer in calls.answerers.items() if answerer.has_expert]
    weights = workspace.student_folder.glob("*.safetensors")
    return {
        "title": title,
        "table": table,
        "stages": {stage: answerer.label for stage, answerer in calls.answerers.items() if stage != "vqa"},
        "has_experts": bool(used),
        "student": Path(workspace.student_name).name,
        "size_bytes": sum(path.stat().st_size for path in weights),
        "experts_bytes": sum(
            (workspace.expert_folders[stage] / WEIGHTS).stat().st_size
            for stage in used
            if stage in workspace.expert_folders
        ),
    }


def _device() -> list[str]:
    """A kept call is of this machine's kind and this MLX."""
    from memlora_mlx.distill.workflow import environment

    known = environment()
    return [known["device"], known["mlx"]]


# ------------------------------------------------------------------------------------------------ what came of it


def assemble(outcomes: Sequence[tuple[Entrant, Case, Outcome]], corrections: Mapping[str, str]) -> Run:
    asked: list[Asked] = []
    costs: list[StageCost] = []
    phases: list[Phase] = []
    systems: dict[str, dict[str, Any]] = {}
    for entrant, case, outcome in outcomes:
        name = entrant.system.name
        for question, reply in zip(case.questions, outcome.replies, strict=True):
            asked.append(asked_of(name, case.name, question, reply, corrections))
        costs += outcome.costs
        phases += outcome.phases
        known = systems.setdefault(name, {**entrant.about, "conversations": 0})
        known["conversations"] += 1
        known |= add_counts(known, outcome.memory)
    return Run({}, tuple(asked), tuple(costs), tuple(phases), systems)


def asked_of(system: str, conversation: str, question: Any, reply: Reply, corrections: Mapping[str, str]) -> Asked:
    return Asked(
        system=system,
        conversation=conversation,
        question_id=question.id,
        category=question.category,
        question=question.text,
        gold=question.gold,
        evidence=question.evidence,
        answer=reply.answer,
        retrieved=reply.retrieved,
        recall=reply.recall,
        lost=reply.lost_at,  # `finished` takes it back where the answer is right
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        seconds=round(reply.seconds, 4),
        corrected_gold=corrections.get(question.id),
    )


def predicted(plan: Plan, cases: Sequence[Case], failures: list[str]) -> list[Asked]:
    """The answers of prediction files, each a system named like its file."""
    from memlora_mlx.eval.questions import read_predictions

    made = []
    for file in plan.predictions:
        answers = read_predictions(file)
        questions = [(case, question) for case in cases for question in case.questions]
        missing = [question.id for _, question in questions if question.id not in answers]
        if missing:
            few = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            failures.append(
                f"{file.name} has no answer to {len(missing)} of {len(questions)} questions, which count as wrong ({few})"
            )
        for case, question in questions:
            reply = Reply(answers.get(question.id, ""), (), None, None, 0, 0, 0.0)
            made.append(asked_of(file.stem, case.name, question, reply, plan.corrections))
    return made


def scored(
    run: Run,
    workspace: Workspace,
    cache: Cache,
    clock: ModelClock,
    origin: dict[str, Any],
    on_progress: OnProgress,
) -> Run:
    """The run with every answer scored against its gold answer, and its corrected one."""
    from memlora_mlx.eval.metrics import workspace_scorer

    scorer = workspace_scorer(workspace)
    origin["metrics"] = scorer.origin
    known: dict[tuple[str, str], dict[str, float]] = {}
    phases = []
    names = list(dict.fromkeys(one.system for one in run.asked))
    for name in names:
        mine = [one for one in run.asked if one.system == name and one.category != 5]
        golds = [(one.answer, gold) for one in mine for gold in (one.gold, one.corrected_gold) if gold]
        before = scorer.model_seconds
        with timed(clock) as spent:
            keys = {pair: digest(["score", scorer.origin, pair]) for pair in golds if pair not in known}
            known |= {pair: found for pair, key in keys.items() if (found := cache.get(key)) is not None}
            missing = [pair for pair in keys if pair not in known]
            on_progress(name, "", "scores", len(golds) - len(missing), len(golds))
            for pair, found in zip(missing, scorer.score(missing), strict=True):
                known[pair] = {part: round(value, 6) for part, value in asdict(found).items()}
                cache.put(keys[pair], known[pair])
        phases.append(
            Phase(name, "scores", spent["seconds"], scorer.model_seconds - before, bool(golds) and not missing)
        )
    asked = []
    for one in run.asked:
        abstained = {"abstained": float(abstains(one.answer))}
        scores = {} if one.category == 5 else known[one.answer, one.gold]
        corrected = known[one.answer, one.corrected_gold] if one.corrected_gold and one.category != 5 else {}
        asked.append(replace(one, scores={**scores, **abstained}, corrected_scores=corrected))
    return replace(run, asked=tuple(asked), phases=(*run.phases, *phases))


def judged(
    run: Run,
    spec: str | None,
    workspace: Workspace,
    cache: Cache,
    origin: dict[str, Any],
    failures: list[str],
    on_progress: OnProgress,
    ground: Ground,
) -> Run:
    """The run with a judge's verdicts by both rubrics; what it said before is not asked again."""
    origin["judge"] = None
    if spec is None:
        return run
    from memlora_mlx.eval.judges import RUBRICS, Item, open_judge

    try:
        judge = open_judge(spec, workspace, cache=Shelf(cache, "judge"))
    except MemloraError as error:
        failures.append(f"no answer was judged: {error}")
        return run
    origin["judge"] = {"name": judge.name, "prompts": dict(judge.prompt_hashes)}
    verdicts: dict[int, dict[str, bool]] = {i: {} for i in range(len(run.asked))}
    phases = []
    with judge:
        for name in dict.fromkeys(one.system for one in run.asked):
            rows = [i for i, one in enumerate(run.asked) if one.system == name and one.category != 5]
            items = [Item(run.asked[i].question, run.asked[i].gold, run.asked[i].answer) for i in rows]
            is_known = True
            with timed(ground.clock) as spent:
                for rubric in RUBRICS:
                    ground.check()
                    steps: list[int] = []

                    def told(more: int, steps: list[int] = steps, of: str = name, by: str = rubric) -> None:
                        steps.append(more)
                        on_progress(of, by, "judge", sum(steps), len(items))  # noqa: B023 - called before it changes

                    for i, verdict in zip(rows, judge.verdicts(items, rubric, on_progress=told), strict=True):
                        if verdict is not None:
                            verdicts[i][rubric] = verdict
                    is_known = is_known and steps[:1] == [len(rows)]
            phases.append(Phase(name, "judge", spent["seconds"], spent["seconds"], is_known))
    if judge.failures:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in judge.failures.most_common())
        failures.append(f"{judge.name} gave no verdict on some answers, and J is of the others: {reasons}")
    asked = tuple(replace(one, verdicts=verdicts[i]) for i, one in enumerate(run.asked))
    return replace(run, asked=asked, phases=(*run.phases, *phases))


def finished(run: Run) -> Run:
    """The run as it is kept: nothing lost where the answer was right, rows in order, costs and phases summed."""
    systems, conversations = run.origin["systems"], run.origin["conversations"]

    def place(one: Asked) -> tuple[int, int, int]:
        number = int(one.question_id.rpartition("/")[2])
        return systems.index(one.system), conversations.index(one.conversation), number

    return replace(
        run,
        asked=tuple(replace(one, lost=None if is_right(one) else one.lost) for one in sorted(run.asked, key=place)),
        costs=tuple(sorted(_summed_costs(run.costs), key=lambda cost: systems.index(cost.system))),
        phases=tuple(sorted(_summed_phases(run.phases), key=lambda phase: systems.index(phase.system))),
        systems={name: run.systems[name] for name in systems if name in run.systems},
    )


def is_right(one: Asked) -> bool:
    """By `RULES["right"]`; in category 5, whether it abstained."""
    if one.category == 5:
        return one.scores.get("abstained") == 1.0
    if "generous" in one.verdicts:
        return one.verdicts["generous"]
    return one.scores.get("token_f1", 0.0) >= RIGHT_F1 or one.scores.get("exact") == 1.0


def abstains(answer: str) -> bool:
    """By `RULES["abstained"]`."""
    return not answer.strip() or _ABSTAINS.search(answer.replace("\u2019", "'")) is not None


def add_counts(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of `b` added to those of `a`."""
    summed: dict[str, Any] = {}
    for name, value in b.items():
        if isinstance(value, Mapping):
            summed[name] = {**a.get(name, {}), **add_counts(a.get(name, {}), value)}
        else:
            summed[name] = a.get(name, 0) + value
    return summed


def _summed_costs(costs: Sequence[StageCost]) -> tuple[StageCost, ...]:
    sums: dict[tuple[str, str], StageCost] = {}
    for cost in costs:
        known = sums.get((cost.system, cost.stage), StageCost(cost.system, cost.stage, 0, 0, 0, 0.0))
        sums[cost.system, cost.stage] = StageCost(
            cost.system,
            cost.stage,
            int(known.calls + cost.calls),
            int(known.input_tokens + cost.input_tokens),
            int(known.output_tokens + cost.output_tokens),
            known.seconds + cost.seconds,
        )
    return tuple(sums.values())


def _summed_phases(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    sums: dict[tuple[str, str], Phase] = {}
    for phase in phases:
        known = sums.get((phase.system, phase.name), Phase(phase.system, phase.name, 0.0, 0.0, True))
        sums[phase.system, phase.name] = Phase(
            phase.system,
            phase.name,
            known.seconds + phase.seconds,
            known.model_seconds + phase.model_seconds,
            known.from_cache and phase.from_cache,
        )
    return tuple(sums.values())


def _origin(
    plan: Plan, workspace: Workspace, cases: Sequence[Case], space: str, rules: Any, top_k: int
) -> dict[str, Any]:
    from memlora_mlx.distill.workflow import environment

    assert plan.file is not None
    experts = {
        stage: {"hash": folder_digest(folder), "folder": folder.parent.name}
        for stage, folder in workspace.expert_folders.items()
    }
    return {
        "format": results.FORMAT,
        "student": Path(workspace.student_name).name,
        "student_hash": folder_digest(workspace.student_folder),
        "experts": experts,
        "embedder": Path(workspace.settings.embedder).name,
        "space": space,
        "data": {
            "file": plan.file.name,
            "sha256": sha256(plan.file.read_bytes()).hexdigest(),
            "asked": data_digest(cases),
        },
        "split": None if plan.conversations else plan.split,
        "conversations": [case.name for case in cases],
        "questions": sum(len(case.questions) for case in cases),
        "exchanges": sum(len(case.exchanges) for case in cases),
        "limit": plan.limit,
        "limit_questions": plan.questions,
        "top_k": top_k,
        "protocol": rules.protocol,
        "related": rules.related,
        "max_context": rules.max_context,
        "copied_texts": rules.copied,
        "corrections": len(plan.corrections) or None,
        "seed": 0,  # greedy decoding throughout; resamples of the report are seeded with it
        "rules": dict(RULES),
        "environment": environment(),
        "shard": None if plan.shard[1] == 1 else f"{plan.shard[0]}/{plan.shard[1]}",
        "command": plan.command,
    }
