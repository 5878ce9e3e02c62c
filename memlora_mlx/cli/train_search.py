"""What `memlora train --search` does: plan a search from options, show it at work, and print its leaderboard."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from memlora_mlx.cli.ingest import interrupt_event
from memlora_mlx.cli.options import open_workspace, print_json, require_files, stderr_console
from memlora_mlx.cli.progress import ProgressLine

if TYPE_CHECKING:
    from rich.table import Table

    from memlora_mlx.distill.hyperparameter_search import Grid, LeaderboardEntry, Search, SearchConfig, SearchEvent
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.models.student import Student as Model
    from memlora_mlx.records import Stage

T = TypeVar("T", int, float)
SEARCHABLE_STAGES: tuple[Stage, ...] = ("extraction", "update", "generation")
METRICS = ("f1", "L", "rouge_1", "meteor", "bert_score", "sentence_bert", "exact")  # of the pipeline


def run_search(
    stages: Sequence[str] = (),
    *,
    learning_rates: str | None = None,
    batch_sizes: str | None = None,
    metric: str | None = None,
    keep: int | None = None,
    data: Sequence[str] = (),
    rows: int | None = None,
    recipe: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    student: str | None = None,
    locomo: Path | None = None,
    questions: int | None = None,
    exchanges: int | None = None,
    splits: str = "paper",
    test: bool = True,
    folder: Path | None = None,
    resume: str | None = None,
    yes: bool = False,
    as_json: bool = False,
    command: str = "",
) -> None:
    """Search for the best experts and print the leaderboard; a None counts as not given.

    Args:
        stages: all three, if none is named.
        learning_rates, batch_sizes: numbers with commas between them.
        data: files of rows, FILE or FILE:N, of any of the stages; a stage without one takes those of the data folder.
        recipe: a YAML file, where a single stage is searched.
        changes: values that differ from the recipes', for all stages.
        locomo: what is measured on: the validation conversations of the split, and its test conversations, if there.
        questions, exchanges: measure on the first so many alone.
        resume: a search to go on with: its folder, its name in the data folder, or "newest". All is as it was asked, but
            for a grid, metric or keep given now.
        yes: make synthetic rows without asking, if there are none.
    """
    from memlora_mlx.distill.hyperparameter_search import Search, leaderboard
    from memlora_mlx.distill.search_state import read_state
    from memlora_mlx.errors import MemloraError, UsageError
    from memlora_mlx.extras import require
    from memlora_mlx.settings import load_settings

    if metric is not None and metric not in METRICS:  # before hours of training
        raise UsageError(f"there is no metric {metric!r}; known are {', '.join(METRICS)}")
    require("train", "training")
    require("bench", "scoring")
    home = load_settings().home
    if resume is None:
        where, plan = _new_search_folder(folder, home), None
        conditions = _search_conditions(locomo, splits, questions=questions, exchanges=exchanges)
    else:
        where = _existing_search_folder(resume, home)
        state = read_state(where)
        plan, conditions, student = state.plan, state.conditions, state.plan.grids[0].order.student
    with ExitStack() as entered:
        opened = entered.enter_context(open_workspace(student=student))
        if plan is None:  # it may ask, so nothing is drawn and Ctrl-C leaves
            plan = _plan(_stages(stages), data, opened, recipe, changes or {}, rows=rows, splits=splits, yes=yes)
        plan = _changed(plan, learning_rates, batch_sizes, metric, keep)
        cancelled, display = entered.enter_context(interrupt_event()), entered.enter_context(SearchProgress())
        search = Search(
            where,
            plan,
            lambda: _load(opened, plan.grids[0].order.student),
            _measure(opened, conditions),
            test=test and bool(conditions["test"]),
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
        from rich.console import Console

        Console().print(leaderboard_table(leaderboard(search), plan.metric))
        typer.echo(f"\nThe best together: {where / 'best'} (`memlora ask --experts` takes it)")


# ------------------------------------------------------------------------------------------------ what is asked


def parse_numbers(text: str, kind: Callable[[str], T], option: str) -> tuple[T, ...]:
    """Numbers above 0 with commas between them.

    Raises:
        UsageError: they are not.
    """
    from memlora_mlx.errors import UsageError

    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < number < math.inf for number in found):
        raise UsageError(f"{option} cannot be {text!r}; it takes numbers above 0 with commas between them")
    return tuple(dict.fromkeys(found))


def _plan(
    searched: Sequence[Stage],
    data: Sequence[str],
    opened: Workspace,
    recipe: Path | None,
    changes: Mapping[str, Any],
    *,
    rows: int | None,
    splits: str,
    yes: bool,
) -> SearchConfig:
    from memlora_mlx.cli.train import absolute_student, data_or_offer_synthetic
    from memlora_mlx.distill.hyperparameter_search import Grid, SearchConfig
    from memlora_mlx.distill.recipes import read_recipe
    from memlora_mlx.distill.training_runs import TrainingConfig
    from memlora_mlx.errors import UsageError

    if recipe is not None and len(searched) > 1:
        raise UsageError("--recipe is of one stage; name it with --stage")
    given, student = _data_by_stage(data, searched), absolute_student(opened.student_name, opened.settings.home)
    grids: list[Grid] = []
    for stage in searched:
        files = given.get(stage) or data_or_offer_synthetic(stage, opened.settings.home, yes)
        changed = read_recipe(stage, recipe, student=student).changed(**changes)
        grids.append(Grid(TrainingConfig(stage, student, tuple(files), changed, rows=rows, splits=splits)))
    return SearchConfig(tuple(grids))


def _changed(
    plan: SearchConfig, rates: str | None, sizes: str | None, metric: str | None, keep: int | None
) -> SearchConfig:
    from dataclasses import replace

    grids = plan.grids
    if rates is not None:
        given = parse_numbers(rates, float, "--learning-rates")
        grids = tuple(replace(grid, learning_rates=given) for grid in grids)
    if sizes is not None:
        counts = parse_numbers(sizes, int, "--batch-sizes")
        grids = tuple(replace(grid, batch_sizes=counts) for grid in grids)
    return replace(plan, grids=grids, metric=metric or plan.metric, keep=plan.keep if keep is None else keep)


def _stages(wanted: Sequence[str]) -> list[Stage]:
    from memlora_mlx.errors import UsageError

    if unknown := set(wanted) - set(SEARCHABLE_STAGES):
        raise UsageError(f"no search for {', '.join(sorted(unknown))}; it is for {', '.join(SEARCHABLE_STAGES)}")
    return [stage for stage in SEARCHABLE_STAGES if not wanted or stage in wanted]


def _data_by_stage(data: Sequence[str], searched: Sequence[Stage]) -> dict[Stage, list[str]]:
    """The files of each stage, told by their first rows."""
    from memlora_mlx.cli.train import absolute_data
    from memlora_mlx.distill.examples import read_examples
    from memlora_mlx.distill.training_runs import parse_file_and_count
    from memlora_mlx.errors import BadTrainingData, UsageError

    found: dict[Stage, list[str]] = {}
    for given in map(absolute_data, data):
        path = Path(parse_file_and_count(given)[0])
        first = next(read_examples(path), None)
        if first is None:
            raise BadTrainingData(f"{path} holds no rows; leave it away, or make some with `memlora teach`")
        if first.stage not in searched:
            raise UsageError(f"{path} holds rows of {first.stage}, which is not searched; leave it away")
        found.setdefault(first.stage, []).append(given)
    return found


def _search_conditions(
    locomo: Path | None, splits: str, *, questions: int | None, exchanges: int | None
) -> dict[str, Any]:
    """What is measured on, by the conversations' names."""
    from memlora_mlx.conversations import read_conversations
    from memlora_mlx.conversations.splits import SPLITS
    from memlora_mlx.errors import UsageError

    if splits not in SPLITS:
        raise UsageError(f"there is no split {splits!r}; known are {', '.join(sorted(SPLITS))}")
    validation, test = SPLITS[splits].validation, SPLITS[splits].test
    names = ", ".join(sorted(validation))
    if locomo is None:
        raise UsageError(f"a search measures the pipeline on {names}; give LoCoMo's file with --locomo FILE")
    [file] = require_files([locomo])
    found = {conversation.name for conversation in read_conversations(file)}
    if not validation <= found:
        raise UsageError(f"{file} does not hold {names}, which the split {splits!r} validates on; give LoCoMo's file")
    return {
        "locomo": str(file.absolute()),
        "validation": sorted(validation),
        "test": sorted(test & found),
        "questions": questions,
        "exchanges": exchanges,
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
        raise UsageError(f"{folder} holds a search already; --resume {folder} goes on with it")
    return folder


def _existing_search_folder(resume: str, home: Path) -> Path:
    from memlora_mlx.cli.train import NEWEST
    from memlora_mlx.errors import UsageError

    runs, folder = home / "runs", Path(resume).expanduser()
    if resume == NEWEST:
        begun = [(state.stat().st_mtime, state.parent) for state in runs.glob("*/search.json")]
        if not begun:
            raise UsageError(f"there is no search in {runs} to resume")
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


# ------------------------------------------------------------------------------------------------ what is shown


def leaderboard_table(places: Sequence[LeaderboardEntry], metric: str) -> Table:
    """Each stage's candidates, the combinations by their candidates' ranks, and the test."""
    from rich.table import Table
    from rich.text import Text

    measured = {name for place in places for name in place.scores or {}}
    shown = [metric, *(name for name in ("f1", "L") if name in measured and name != metric)]
    ranks = {one.name: place.rank for place in places if len(place.experts) == 1 for one in place.experts}
    failed = [f"{one}: {one.failure}" for place in places for one in place.experts if one.failure]
    table = Table(box=None, pad_edge=False, caption=Text("\n".join(failed)) if failed else None, caption_justify="left")
    table.add_column("Stage", no_wrap=True)
    table.add_column("Rank", no_wrap=True, justify="right")
    table.add_column("Expert")
    for name in shown:
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("Val. loss", no_wrap=True, justify="right")
    table.add_column("", no_wrap=True)
    part = ""
    for place in places:
        if place.part in ("combination", "test"):
            expert = ", ".join(f"{one.stage} {ranks.get(one.name) or '?'}" for one in place.experts)
            loss = ""
        else:
            [one] = place.experts
            expert = f"rate {one.learning_rate:g}, batch {one.batch_size}"
            loss = "" if one.validation_loss is None else f"{one.validation_loss:.4f}"
        found = place.scores or {}
        scores = [f"{found[name]:.2f}" if name in found else "" for name in shown]
        table.add_row(
            "" if place.part == part else place.part,
            str(place.rank or ""),
            expert,
            *scores,
            loss,
            place.status,
            style="bold" if place.status == "best" else None,
        )
        part = place.part
    return table


def leaderboard_as_json(search: Search, chosen: Mapping[Stage, Path]) -> dict[str, object]:
    """The leaderboard for programs."""
    from memlora_mlx.distill.hyperparameter_search import leaderboard

    lines = []
    for place in leaderboard(search):
        experts = {
            one.stage: {
                "learning_rate": one.learning_rate,
                "batch_size": one.batch_size,
                "validation_loss": one.validation_loss,
                "failure": one.failure,
            }
            for one in place.experts
        }
        scores = dict(place.scores) if place.scores else None
        line = {"part": place.part, "rank": place.rank, "status": place.status, "experts": experts, "scores": scores}
        lines.append(line)
    return {
        "folder": str(search.folder),
        "metric": search.plan.metric,
        "best": {stage: str(path) for stage, path in chosen.items()},
        "leaderboard": lines,
    }


class SearchProgress(ProgressLine):
    """The live line of a search on a terminal, and a line for each training and measurement that ends."""

    def __init__(self) -> None:
        super().__init__("searching", "", bar_width=16)

    def start(self, search: Search) -> None:
        count = sum(map(len, search.candidates.values()))
        self.print(f"{count} candidates, ranked by {search.plan.metric}: {search.folder}")

    def show(self, event: SearchEvent) -> None:
        self.update(description=event.what, completed=event.done, total=event.total, details=describe_event(event))
        if event.kind in ("trained", "failed", "measured"):
            self.print(f"{event.what}: {describe_event(event)}")


def describe_event(event: SearchEvent) -> str:
    """What an event says, in a few words."""
    if event.point is not None:
        point = event.point
        loss = "" if point.train_loss is None else f", loss {point.train_loss:.3f}"
        held = "" if point.validation_loss is None else f", validation loss {point.validation_loss:.3f}"
        return f"step {point.step} of at most {point.steps}{loss}{held}"
    if event.scores is not None:
        return ", ".join(f"{name} {value:.2f}" for name, value in event.scores.items())
    return f"failed, {event.reason}" if event.reason else event.kind
