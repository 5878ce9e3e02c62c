"""`memlora train search`: plan a search from its options, run it, and print its leaderboard."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from memlora_mlx.cli.console import interrupt_event, open_workspace, print_json, require_files, stderr_console
from memlora_mlx.cli.options import RecipeOptions, require_split_scheme
from memlora_mlx.cli.printing import clean_console
from memlora_mlx.cli.search_leaderboard import SearchProgress, leaderboard_as_json, leaderboard_table
from memlora_mlx.cli.training_inputs import NEWEST, absolute_data, absolute_student, data_or_offer_synthetic

if TYPE_CHECKING:
    from memlora_mlx.distill.hyperparameter_search import Grid, SearchConfig
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.models.student import Student as Model
    from memlora_mlx.records import Stage

T = TypeVar("T", int, float)
SEARCHABLE_STAGES: tuple[Stage, ...] = ("extraction", "update", "generation")
METRICS = ("f1", "L", "rouge_1", "meteor", "bert_score", "sentence_bert", "exact")  # of the pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What to search; None means that the option was not given."""

    stages: Sequence[str] = ()  # all three, if none is named
    recipe: RecipeOptions = field(default_factory=RecipeOptions)  # values that differ from the recipes', for all stages
    learning_rates: str | None = None  # numbers separated by commas
    batch_sizes: str | None = None
    metric: str | None = None
    keep: int | None = None  # candidates of each stage to combine
    data: Sequence[str] = ()  # FILE or FILE:N of any of the stages; a stage without one uses the data folder
    rows: int | None = None
    student: str | None = None
    locomo: Path | None = None  # measured on its validation conversations, and on its test conversations, if there
    questions: int | None = None  # at most this many per conversation
    exchanges: int | None = None  # only the first so many of each conversation
    splits: str = "paper"
    test: bool = True
    folder: Path | None = None
    resume: str | None = None  # a search to continue: its folder, its name in the data folder, or NEWEST
    yes: bool = False  # generate synthetic examples without asking, if there are none

    def check(self) -> None:
        """Raises UsageError for what is wrong whatever the data: it must not show after hours of training."""
        from memlora_mlx.errors import UsageError

        if "vqa" in self.stages:
            raise UsageError(
                "A search cannot rank vqa experts, because the memory pipeline does not use them. Train with `memlora train"
                " --stage vqa` and compare with `memlora bench --vqa`."
            )
        if self.metric is not None and self.metric not in METRICS:
            raise UsageError(f"Unknown metric {self.metric!r}. Choose one of: {', '.join(METRICS)}.")
        fixed = (*self.recipe.changes().values(), self.recipe.recipe, self.student, self.rows, self.folder, self.locomo)
        if self.resume is not None and (self.data or any(value is not None for value in fixed)):
            raise UsageError(
                "--resume keeps the settings of the search. Only the grid, --metric and --keep can change."
            )


def run_search(request: SearchRequest, *, as_json: bool = False, command: str = "") -> None:
    """Search for the best experts and print the leaderboard.

    Args:
        command: the command line, for the experts' cards.
    """
    from memlora_mlx.distill.hyperparameter_search import Search, leaderboard
    from memlora_mlx.distill.search_state import read_state
    from memlora_mlx.errors import MemloraError
    from memlora_mlx.extras import require
    from memlora_mlx.settings import load_settings

    request.check()
    require("train", "training")
    require("bench", "scoring")
    home, student = load_settings().home, request.student
    if request.resume is None:
        where, plan = _new_search_folder(request.folder, home), None
        conditions = _search_conditions(request)
    else:
        where = _existing_search_folder(request.resume, home)
        state = read_state(where)
        plan, conditions, student = state.plan, state.conditions, state.plan.grids[0].order.student
    with ExitStack() as entered:
        opened = entered.enter_context(open_workspace(student=student))
        if plan is None:  # it may ask, so nothing is drawn and Ctrl-C leaves
            plan = _plan(request, opened)
        plan = _changed(plan, request)
        cancelled, display = entered.enter_context(interrupt_event()), entered.enter_context(SearchProgress())
        search = Search(
            where,
            plan,
            lambda: _load(opened, plan.grids[0].order.student),
            _measure(opened, conditions),
            test=request.test and bool(conditions["test"]),
            conditions=conditions,
            on_event=display.show,
            cancelled=cancelled,
            command=command,
        )
        display.start(search)
        try:
            chosen = search.run()
        except MemloraError:
            display.close()
            stderr_console().print(leaderboard_table(leaderboard(search), plan.metric))
            raise
    if as_json:
        print_json(leaderboard_as_json(search, chosen))
    else:
        clean_console().print(leaderboard_table(leaderboard(search), plan.metric))
        typer.echo(f"\nBest combination: {where / 'best'}. Use it with `memlora ask --experts {where / 'best'}`.")


# ------------------------------------------------------------------------------------------------ what is asked


def parse_numbers(text: str, kind: Callable[[str], T], option: str) -> tuple[T, ...]:
    """Numbers above 0 separated by commas.

    Raises:
        UsageError: the text is anything else.
    """
    from memlora_mlx.errors import UsageError

    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < number < math.inf for number in found):
        raise UsageError(f"{option} takes numbers above 0 separated by commas, not {text!r}.")
    return tuple(dict.fromkeys(found))


def _plan(request: SearchRequest, opened: Workspace) -> SearchConfig:
    from memlora_mlx.distill.hyperparameter_search import Grid, SearchConfig
    from memlora_mlx.distill.recipes import read_recipe
    from memlora_mlx.distill.training_runs import TrainingConfig
    from memlora_mlx.errors import UsageError

    searched, recipe = _stages(request.stages), request.recipe.recipe
    if recipe is not None and len(searched) > 1:
        raise UsageError("--recipe applies to one stage. Name it with --stage.")
    by_stage, student = (
        _data_by_stage(request.data, searched),
        absolute_student(opened.student_name, opened.settings.home),
    )
    grids: list[Grid] = []
    for stage in searched:
        files = by_stage.get(stage) or data_or_offer_synthetic(stage, opened.settings.home, request.yes)
        changed = read_recipe(stage, recipe, student=student).changed(**request.recipe.changes())
        config = TrainingConfig(stage, student, tuple(files), changed, rows=request.rows, splits=request.splits)
        grids.append(Grid(config))
    return SearchConfig(tuple(grids))


def _changed(plan: SearchConfig, request: SearchRequest) -> SearchConfig:
    """The plan with the grid, metric and number of candidates that were asked for."""
    rate, size, grids = request.recipe.learning_rate, request.recipe.batch_size, plan.grids
    if (rates := request.learning_rates or (str(rate) if rate else None)) is not None:
        numbers = parse_numbers(rates, float, "--learning-rates")
        grids = tuple(replace(grid, learning_rates=numbers) for grid in grids)
    if (sizes := request.batch_sizes or (str(size) if size else None)) is not None:
        counts = parse_numbers(sizes, int, "--batch-sizes")
        grids = tuple(replace(grid, batch_sizes=counts) for grid in grids)
    keep = plan.keep if request.keep is None else request.keep
    return replace(plan, grids=grids, metric=request.metric or plan.metric, keep=keep)


def _stages(wanted: Sequence[str]) -> list[Stage]:
    from memlora_mlx.errors import UsageError

    if unknown := set(wanted) - set(SEARCHABLE_STAGES):
        raise UsageError(
            f"A search does not cover {', '.join(sorted(unknown))}. Choose one of: {', '.join(SEARCHABLE_STAGES)}."
        )
    return [stage for stage in SEARCHABLE_STAGES if not wanted or stage in wanted]


def _data_by_stage(data: Sequence[str], searched: Sequence[Stage]) -> dict[Stage, list[str]]:
    """The files of each stage; the first example of a file tells its stage."""
    from memlora_mlx.distill.examples import read_examples
    from memlora_mlx.distill.training_runs import parse_file_and_count
    from memlora_mlx.errors import BadTrainingData, UsageError

    found: dict[Stage, list[str]] = {}
    for given in map(absolute_data, data):
        path = Path(parse_file_and_count(given)[0])
        first = next(read_examples(path), None)
        if first is None:
            raise BadTrainingData(
                f"{path} contains no training examples. Remove it from --data, or create some with `memlora teach`."
            )
        if first.stage not in searched:
            raise UsageError(
                f"{path} contains examples for {first.stage}, which this search does not cover. Remove it from --data."
            )
        found.setdefault(first.stage, []).append(given)
    return found


def _search_conditions(request: SearchRequest) -> dict[str, Any]:
    """What the candidates are measured on, by the conversations' names."""
    from memlora_mlx.conversations import read_conversations
    from memlora_mlx.conversations.splits import SPLITS
    from memlora_mlx.errors import UsageError

    locomo, splits = request.locomo, request.splits
    require_split_scheme(splits)
    validation, test = SPLITS[splits].validation, SPLITS[splits].test
    names = ", ".join(sorted(validation))
    if locomo is None:
        raise UsageError(
            f"A search measures the pipeline on the conversations {names}. Give the path of LoCoMo's file with --locomo FILE."
        )
    [file] = require_files([locomo])
    found = {conversation.name for conversation in read_conversations(file)}
    if not validation <= found:
        raise UsageError(
            f"{file} does not contain {names}, on which the split {splits!r} validates. Use LoCoMo's file."
        )
    return {
        "locomo": str(file.absolute()),
        "validation": sorted(validation),
        "test": sorted(test & found),
        "questions": request.questions,
        "exchanges": request.exchanges,
    }


def _new_search_folder(folder: Path | None, home: Path) -> Path:
    """The folder asked for, or the first of today's names that is not taken: search-2025-05-08-1."""
    from datetime import date
    from itertools import count

    from memlora_mlx.errors import UsageError

    if folder is None:
        names = (home / "runs" / f"search-{date.today()}-{number}" for number in count(1))
        return next(name for name in names if not name.exists())
    folder = folder.expanduser().resolve()
    if (folder / "search.json").is_file():
        raise UsageError(
            f"{folder} already contains a search. Resume it with `memlora train search --resume {folder}`."
        )
    return folder


def _existing_search_folder(resume: str, home: Path) -> Path:
    from memlora_mlx.errors import UsageError

    runs, folder = home / "runs", Path(resume).expanduser()
    if resume == NEWEST:
        begun = [(state.stat().st_mtime, state.parent) for state in runs.glob("*/search.json")]
        if not begun:
            raise UsageError(f"There is no search to resume in {runs}. Remove --resume to start one.")
        return max(begun)[1]
    return (folder if folder.exists() else runs / resume).resolve()


def _load(opened: Workspace, student: str) -> Model:
    from memlora_mlx.models.downloads import resolve
    from memlora_mlx.models.loading import load_student

    name = None if Path(student).is_absolute() else student
    return load_student(resolve(student, opened.models_folder), name)


def _measure(
    opened: Workspace, conditions: Mapping[str, Any]
) -> Callable[[Mapping[Stage, Path], str], dict[str, float]]:
    """The full pipeline, on the conversations of a part of the split."""

    def measure(experts: Mapping[Stage, Path], part: str) -> dict[str, float]:
        from memlora_mlx.eval.experts.end_to_end import pipeline_scores

        limits = {name: conditions[name] for name in ("questions", "exchanges")}
        return pipeline_scores(opened, experts, Path(conditions["locomo"]), conditions[part], **limits)

    return measure
