"""The search for experts: what is ranked, what is kept, and that no kill costs a training."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_models import Q_V, mx

from memlora_mlx.cli.options import RecipeOptions
from memlora_mlx.cli.search_leaderboard import leaderboard_table
from memlora_mlx.cli.train_search import SearchRequest, parse_numbers, run_search
from memlora_mlx.conversations.splits import Split
from memlora_mlx.distill.datasets import tokenize_examples, training_batches
from memlora_mlx.distill.examples import TrainingExample, write_examples
from memlora_mlx.distill.hyperparameter_search import (
    Grid,
    LeaderboardEntry,
    Search,
    SearchConfig,
    SearchEvent,
    leaderboard,
)
from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.distill.training_runs import TrainingConfig
from memlora_mlx.errors import BadTrainingData, Cancelled, TrainingFailed, UsageError
from memlora_mlx.models.experts import ExpertTable, read_expert
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.student import Student
from memlora_mlx.records import Stage

TAUGHT: Mapping[Stage, str] = {
    "extraction": '{{"facts": ["{} moved to Rome"]}}',
    "update": '{{"memory": [{{"id": "0", "text": "{}", "event": "UPDATE"}}]}}',
}
WANTED: Mapping[Stage, str] = {  # what the pipeline is measured by: the more of update is learnt, the worse
    "extraction": '{{"facts": ["{} moved to Oslo"]}}',
    "update": "I cancelled {}; sounds lovely",
}
TOO_HIGH = 1e30  # a learning rate that leaves no weight a number


def rows(stage: Stage, answer: str, split: Split) -> list[TrainingExample]:
    things = ("Ann", "Bob", "the doctor", "the red bicycle", "seven apples", "tea")
    return [
        TrainingExample(
            stage, (("user", f"Where is {thing}?"),), answer.format(thing), "synthetic", f"life-{i}", "1", split
        )
        for i, thing in enumerate(things)
    ]


def grid(folder: Path, stage: Stage, *rates: float, sizes: tuple[int, ...] = (2,)) -> Grid:
    file = folder / f"{stage}.jsonl"
    if not file.exists():
        write_examples(file, [*rows(stage, TAUGHT[stage], "train"), *rows(stage, TAUGHT[stage], "validation")])
    recipe = Recipe(stage, Q_V, rank=2, epochs=2, validations=1)
    return Grid(TrainingConfig(stage, "tiny", (str(file),), recipe), rates, sizes)


def plan(folder: Path, *, keep: int = 2, metric: str = "f1") -> SearchConfig:
    """Two stages of two candidates each, and one that must fail."""
    grids = (grid(folder, "update", 3e-2, 1e-3), grid(folder, "extraction", 1e-3, TOO_HIGH, 3e-2))
    return SearchConfig(grids, keep=keep, metric=metric)


@dataclass
class SearchBench:
    """Counts what a search loads and measures; the measure is what the trained weights make of other rows."""

    student: Path
    events: list[SearchEvent] = field(default_factory=list)
    loads: int = 0
    measured: list[tuple[dict[Stage, str], str]] = field(default_factory=list)

    def load(self) -> Student:
        self.loads += 1
        return load_student(self.student)

    def measure(self, experts: Mapping[Stage, Path], part: str) -> dict[str, float]:
        self.measured.append(({stage: path.parent.name for stage, path in experts.items()}, part))
        student = load_student(self.student)
        table = ExpertTable(
            student.model, {s: read_expert(path, s, student.fingerprint) for s, path in experts.items()}
        )
        losses, taught = [], []
        for stage in experts:
            table.use(stage)
            losses.append(loss(student, rows(stage, WANTED[stage], "test")))
            taught.append(loss(student, rows(stage, TAUGHT[stage], "test")))
        return {"f1": -sum(losses) / len(losses), "L": -sum(taught) / len(taught)}

    def search(self, folder: Path, plan: SearchConfig, **options: Any) -> Search:
        options = {"on_event": self.events.append, **options}
        return Search(folder, plan, self.load, self.measure, **options)

    def trained(self) -> list[str]:
        return [event.what for event in self.events if event.kind == "trained"]


def loss(student: Student, data: Sequence[TrainingExample]) -> float:
    made, _ = tokenize_examples(student, data, longest=1000, decision_weight=1.0)
    [batch] = training_batches(made, len(made), seed=None)
    hidden = student.model.model(mx.array(batch.tokens))
    logits = student.logits(hidden.reshape(-1, hidden.shape[-1])[mx.array(batch.positions)])
    chosen = mx.take_along_axis(logits, mx.array(batch.targets)[:, None], axis=-1)[:, 0]
    losses = (mx.logsumexp(logits, axis=-1) - chosen) * mx.array(batch.weights)
    return float(losses.sum()) / float(batch.weights.sum())


def said(places: Sequence[LeaderboardEntry]) -> list[tuple[Any, ...]]:
    """A leaderboard as plain values."""
    return [
        (place.part, place.rank, tuple(map(str, place.experts)), dict(place.scores or {}), place.status)
        + tuple((one.validation_loss, one.ended, one.failure) for one in place.experts)
        for place in places
    ]


class KilledProcess(BaseException):
    pass


@pytest.fixture
def bench(tiny_student: Path) -> SearchBench:
    return SearchBench(tiny_student)


@dataclass
class FinishedProcess:
    """A search that ran to its end undisturbed, with a test set."""

    folder: Path
    search: Search
    bench: SearchBench
    chosen: Mapping[Stage, Path]


@pytest.fixture(scope="module")
def done(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedProcess:
    folder, bench = tmp_path_factory.mktemp("done"), SearchBench(tiny_student)
    search = bench.search(folder / "search", plan(folder), test=True)
    return FinishedProcess(folder, search, bench, search.run())


# ------------------------------------------------------------------------------------------------ what is chosen


def test_the_pipeline_ranks_and_not_the_validation_loss(done: FinishedProcess) -> None:
    places = [place for place in leaderboard(done.search) if place.part == "update"]

    assert [place.experts[0].learning_rate for place in places] == [1e-3, 3e-2]
    losses = [place.experts[0].validation_loss or 0.0 for place in places]
    assert losses[0] > losses[1] + 1  # the loser had learnt its rows far better
    assert [place.rank for place in places] == [1, 2]
    assert done.chosen["update"] == done.search.folder / "best" / "update"


def test_stages_are_searched_in_the_pipelines_order_each_alone_and_then_together(done: FinishedProcess) -> None:
    assert done.bench.measured == [
        ({"extraction": "lr-0.001-batch-2"}, "validation"),
        ({"extraction": "lr-0.03-batch-2"}, "validation"),
        ({"update": "lr-0.03-batch-2"}, "validation"),
        ({"update": "lr-0.001-batch-2"}, "validation"),
        *(
            ({"extraction": one, "update": other}, "validation")
            for one in ("lr-0.03-batch-2", "lr-0.001-batch-2")
            for other in ("lr-0.001-batch-2", "lr-0.03-batch-2")
        ),
        ({"extraction": "lr-0.03-batch-2", "update": "lr-0.001-batch-2"}, "test"),
    ]


def test_the_best_combination_is_the_one_given_back(done: FinishedProcess) -> None:
    together = [place for place in leaderboard(done.search) if place.part == "combination"]
    values = [(place.scores or {})["f1"] for place in together]

    assert len(together) == 4 and values == sorted(values, reverse=True)
    assert [place.status for place in together] == ["best", *["measured"] * 3]
    for one in together[0].experts:
        wanted = (done.search.folder / one.name / "expert" / "adapters.safetensors").read_bytes()
        assert (done.chosen[one.stage] / "adapters.safetensors").read_bytes() == wanted


def test_the_loss_on_the_card_is_that_of_the_weights_on_the_disk(done: FinishedProcess) -> None:
    for candidate in done.search.candidates["update"]:
        scores = done.search.scores((candidate,))
        assert scores is not None and scores["L"] == pytest.approx(-(candidate.validation_loss or 0.0), abs=0.01)


def test_fewer_are_kept_if_fewer_are_asked_for(done: FinishedProcess, bench: SearchBench, tmp_path: Path) -> None:
    search = bench.search(tmp_path / "search", plan(done.folder, keep=1))
    search.run()
    assert [place.part for place in leaderboard(search)].count("combination") == 1
    assert len(bench.measured) == 5 and all(part == "validation" for _, part in bench.measured)


def test_candidates_of_a_single_stage_are_measured_once(bench: SearchBench, tmp_path: Path) -> None:
    search = bench.search(tmp_path / "search", SearchConfig((grid(tmp_path, "update", 1e-3, 3e-2, sizes=(3, 6)),)))
    chosen = search.run()

    assert len(bench.measured) == 4 and list(chosen) == ["update"]
    assert [place.status for place in leaderboard(search)] == ["best", "kept", "measured", "measured"]
    assert {place.part for place in leaderboard(search)} == {"update"}


# ------------------------------------------------------------------------------------------------ the test set


def test_the_test_set_is_measured_once_after_choosing(done: FinishedProcess, bench: SearchBench) -> None:
    parts = [part for _, part in done.bench.measured]
    assert parts.count("test") == 1 and parts[-1] == "test"
    last = leaderboard(done.search)[-1]
    assert (last.part, last.experts) == ("test", done.search.best())

    again = bench.search(done.search.folder, plan(done.folder), test=True)
    again.run()
    assert (bench.loads, bench.measured) == (0, [])
    assert said(leaderboard(again)) == said(leaderboard(done.search))


def test_what_has_seen_the_test_set_is_searched_no_further(done: FinishedProcess, bench: SearchBench) -> None:
    for other in (plan(done.folder, keep=1), plan(done.folder, metric="L")):
        with pytest.raises(UsageError, match="already used the test set and cannot continue"):
            bench.search(done.search.folder, other)


def test_a_search_without_a_test_set_can_be_tested_later(bench: SearchBench, tmp_path: Path) -> None:
    asked = SearchConfig((grid(tmp_path, "update", 1e-3),))
    bench.search(tmp_path / "search", asked).run()
    bench.search(tmp_path / "search", asked, test=True).run()
    assert [part for _, part in bench.measured] == ["validation", "test"] and bench.loads == 1


# ------------------------------------------------------------------------------------------------ going on


def test_killed_at_every_step_it_ends_with_the_same_leaderboard(
    done: FinishedProcess, bench: SearchBench, tmp_path: Path
) -> None:
    seen: set[tuple[Any, ...]] = set()

    def kill(event: SearchEvent) -> None:
        bench.events.append(event)
        name = (event.kind, event.what, event.point and (event.point.step, event.point.validation_loss is None))
        if name not in seen:
            seen.add(name)
            raise KilledProcess

    kills = 0
    while True:
        search = bench.search(tmp_path / "search", plan(done.folder), test=True, on_event=kill)
        try:
            search.run()
            break
        except KilledProcess:
            kills += 1
    assert kills == len(seen) > 50
    assert said(leaderboard(search)) == said(leaderboard(done.search))
    assert sorted(bench.trained()) == sorted(done.bench.trained())
    over: set[str] = set()
    for event in bench.events:  # nothing is trained after it was reported as trained
        assert event.what not in over or event.kind not in ("training", "step")
        if event.kind in ("trained", "failed"):
            over.add(event.what)
    assert bench.measured == done.bench.measured  # nor is anything measured twice


def test_an_expert_written_just_before_a_kill_is_not_trained_again(bench: SearchBench, tmp_path: Path) -> None:
    asked, folder = SearchConfig((grid(tmp_path, "update", 1e-3, 3e-2),)), tmp_path / "search"
    before: list[bytes] = []

    def kill(event: SearchEvent) -> None:
        if event.kind == "step":
            before.append((folder / "search.json").read_bytes())
        if event.kind == "trained":
            raise KilledProcess

    with pytest.raises(KilledProcess):
        bench.search(folder, asked, on_event=kill).run()
    (folder / "search.json").write_bytes(before[-1])  # as a kill leaves it between the expert and the note of it

    bench.search(folder, asked).run()
    assert bench.loads == 2 and len(bench.trained()) == 2


_CHILD = """
import os, signal, sys
from pathlib import Path
from test_hyperparameter_search import SearchBench, plan

def kill(event):
    if "update" in event.what and event.kind == "step" and event.point.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)

data, folder, student = map(Path, sys.argv[1:])
SearchBench(student).search(folder, plan(data), test=True, on_event=kill).run()
"""


def test_a_killed_process_is_gone_on_from(done: FinishedProcess, bench: SearchBench, tmp_path: Path) -> None:
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), *sys.path])
    command = [sys.executable, "-c", _CHILD, str(done.folder), str(tmp_path / "search"), str(bench.student)]
    environ = {**os.environ, "PYTHONPATH": paths}
    left = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert left.returncode == -signal.SIGKILL, left.stderr

    search = bench.search(tmp_path / "search", plan(done.folder), test=True)
    search.run()
    assert bench.loads == 2  # the half-trained one and the one after it
    assert next(event.point.step for event in bench.events if event.point) > 0
    assert said(leaderboard(search)) == said(leaderboard(done.search))


def test_stopped_by_the_user_it_goes_on_from_there(done: FinishedProcess, bench: SearchBench, tmp_path: Path) -> None:
    cancelled = threading.Event()

    def stop(event: SearchEvent) -> None:
        if event.kind == "step" and event.what.startswith("update") and event.point and event.point.step == 3:
            cancelled.set()

    search = bench.search(tmp_path / "search", plan(done.folder), test=True, on_event=stop, cancelled=cancelled)
    with pytest.raises(Cancelled, match="--resume"):
        search.run()
    assert [place.status for place in leaderboard(search)] == ["kept", "kept", "failed", "waiting", "waiting"]

    again = bench.search(tmp_path / "search", plan(done.folder), test=True)
    again.run()
    assert said(leaderboard(again)) == said(leaderboard(done.search))


def test_a_wider_grid_trains_only_what_is_new(bench: SearchBench, tmp_path: Path) -> None:
    bench.search(tmp_path / "search", SearchConfig((grid(tmp_path, "update", 1e-3),))).run()
    wider = SearchConfig((grid(tmp_path, "update", 3e-2, 1e-3), grid(tmp_path, "extraction", 3e-2)), metric="L")
    search = bench.search(tmp_path / "search", wider)
    search.run()

    assert bench.loads == 3
    assert [p.experts[0].learning_rate for p in leaderboard(search) if p.part == "update"] == [3e-2, 1e-3]


def test_a_folder_holds_one_search(bench: SearchBench, tmp_path: Path) -> None:
    asked = SearchConfig((grid(tmp_path, "update", 1e-3),))
    bench.search(tmp_path / "search", asked, conditions={"questions": 20}).run()
    order = asked.grids[0].order
    longer = replace(order, recipe=order.recipe.changed(epochs=3))
    for other, conditions in (
        (asked, {"questions": 30}),
        (SearchConfig((Grid(longer, (1e-3,), (2,)),)), {"questions": 20}),
    ):
        with pytest.raises(UsageError, match="a search with other settings"):
            bench.search(tmp_path / "search", other, conditions=conditions)


def test_rows_that_changed_meanwhile_are_noticed(bench: SearchBench, tmp_path: Path) -> None:
    asked = SearchConfig((grid(tmp_path, "update", 1e-3, 3e-2),))

    def kill(event: SearchEvent) -> None:
        if event.kind == "measured":
            raise KilledProcess

    with pytest.raises(KilledProcess):
        bench.search(tmp_path / "search", asked, on_event=kill).run()
    write_examples(tmp_path / "update.jsonl", [*rows("update", "{}", "train"), *rows("update", "{}", "validation")])
    with pytest.raises(BadTrainingData, match="training data for update has changed"):
        bench.search(tmp_path / "search", asked).run()


def test_a_damaged_state_says_so(bench: SearchBench, tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "search.json").write_text("{")
    with pytest.raises(UsageError, match="contains no search to resume"):
        bench.search(tmp_path / "search", SearchConfig((grid(tmp_path, "update", 1e-3),)))


# ------------------------------------------------------------------------------------------------ what fails


def test_a_loss_that_is_no_number_is_noted_and_passed_over(done: FinishedProcess) -> None:
    [place] = [place for place in leaderboard(done.search) if place.status == "failed"]

    assert place.experts[0].learning_rate == TOO_HIGH and place.rank is None and place.scores is None
    assert "the loss is NaN" in (place.experts[0].failure or "")
    [event] = [event for event in done.bench.events if event.kind == "failed"]
    assert event.reason == place.experts[0].failure
    assert all("1e+30" not in what for what in done.bench.trained())


def test_too_little_memory_is_noted_and_passed_over(
    bench: SearchBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: Iterator[int] = iter([1 << 10, 1 << 40])
    monkeypatch.setattr("memlora_mlx.models.device.usable_memory", lambda: next(free))
    search = bench.search(tmp_path / "search", SearchConfig((grid(tmp_path, "update", 3e-2, 1e-3),)))
    search.run()

    assert [place.status for place in leaderboard(search)] == ["best", "failed"]
    assert "GiB" in (leaderboard(search)[1].experts[0].failure or "")


def test_memory_that_runs_out_while_training_is_noted_and_passed_over(bench: SearchBench, tmp_path: Path) -> None:
    def load() -> Student:
        if bench.loads == 0:
            bench.loads += 1
            raise RuntimeError("[metal::malloc] Unable to allocate 99 bytes.\nmore")
        return bench.load()

    asked = SearchConfig((grid(tmp_path, "update", 3e-2, 1e-3),))
    search = Search(tmp_path / "search", asked, load, bench.measure)
    search.run()
    assert search.candidates["update"][0].failure == "[metal::malloc] Unable to allocate 99 bytes."


def test_a_bug_is_no_failed_candidate(bench: SearchBench, tmp_path: Path) -> None:
    def load() -> Student:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        Search(tmp_path / "search", SearchConfig((grid(tmp_path, "update", 1e-3),)), load, bench.measure).run()


def test_a_stage_whose_candidates_all_fail_ends_the_search(bench: SearchBench, tmp_path: Path) -> None:
    search = bench.search(tmp_path / "search", SearchConfig((grid(tmp_path, "update", TOO_HIGH, 1e31),)))
    with pytest.raises(TrainingFailed, match="Every candidate for update has failed.*1e.30.*NaN.*1e.31"):
        search.run()
    assert [place.status for place in leaderboard(search)] == ["failed", "failed"]
    assert bench.measured == []


@pytest.mark.parametrize("in_the_way", ["run.json", "metrics.jsonl", "state.safetensors"])
def test_a_folder_that_cannot_be_written_blames_no_candidate(
    in_the_way: str, bench: SearchBench, tmp_path: Path
) -> None:
    search = bench.search(tmp_path / "search", SearchConfig((grid(tmp_path, "update", 1e-3),)))
    (tmp_path / "search" / search.candidates["update"][0].name / in_the_way / "x").mkdir(parents=True)
    with pytest.raises(TrainingFailed, match="Cannot write"):
        search.run()
    assert [place.status for place in leaderboard(search)] == ["waiting"]


def test_an_unknown_metric_costs_no_training_twice(bench: SearchBench, tmp_path: Path) -> None:
    grids = (grid(tmp_path, "update", 1e-3),)
    with pytest.raises(UsageError, match="no metric 'F'.*one of: L, f1"):
        bench.search(tmp_path / "search", SearchConfig(grids, metric="F")).run()
    bench.search(tmp_path / "search", SearchConfig(grids, metric="f1")).run()
    assert bench.loads == 1 and len(bench.measured) == 1


def test_a_score_that_is_no_number_is_not_kept(bench: SearchBench, tmp_path: Path) -> None:
    def measure(experts: Mapping[Stage, Path], part: str) -> dict[str, float]:
        return {"f1": float("nan") if "lr-0.03" in str(experts["update"]) else 1.0}

    asked = SearchConfig((grid(tmp_path, "update", 3e-2, 1e-3),))
    search = Search(tmp_path / "search", asked, bench.load, measure)
    search.run()
    assert [(p.rank, p.status) for p in leaderboard(search)] == [(1, "best"), (None, "measured")]
    assert said(leaderboard(Search(tmp_path / "search", asked, bench.load, measure)))[0][1] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda folder: SearchConfig(()),
        lambda folder: SearchConfig((grid(folder, "update", 1e-3),), keep=0),
        lambda folder: SearchConfig((grid(folder, "update", 1e-3), grid(folder, "update", 3e-3))),
        lambda folder: SearchConfig((grid(folder, "update"),)),
        lambda folder: SearchConfig((grid(folder, "update", -1.0),)),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(
    wrong: Callable[[Path], SearchConfig], bench: SearchBench, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        bench.search(tmp_path / "search", wrong(tmp_path))


# ------------------------------------------------------------------------------------------------ the command's part


def printed(places: Sequence[LeaderboardEntry], metric: str = "f1") -> str:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as shown:
        console.print(leaderboard_table(places, metric))
    return shown.get()


def test_the_table_shows_ranks_scores_and_why_one_failed(done: FinishedProcess) -> None:
    lines = printed(leaderboard(done.search)).splitlines()

    assert lines[0].split() == ["Stage", "Rank", "Expert", "f1", "L", "Val.", "loss"]
    assert "rate 0.03, batch 2" in lines[1] and lines[1].startswith("extraction")
    assert "rate 1e+30, batch 2" in lines[3] and lines[3].rstrip().endswith("failed")
    assert "extraction 1, update 1" in lines[6] and lines[6].rstrip().endswith("best")
    assert lines[10].startswith("test") and "extraction 1, update 1" in lines[10]
    reason = " ".join(" ".join(lines[11:]).split())
    assert reason.startswith("extraction, learning rate 1e+30, batch 2: ") and reason.endswith("(the loss is NaN)")


@pytest.fixture
def locomo(tmp_path: Path) -> Path:
    talk = {"speaker_a": "Ann", "speaker_b": "Bob", "session_1_date_time": "1:56 pm on 8 May, 2023"}
    turns = [{"speaker": "Ann", "dia_id": "D1:1", "text": "I moved to Rome."}]
    samples = [
        {"sample_id": name, "conversation": talk | {"session_1": turns}, "qa": []} for name in ("conv-26", "conv-30")
    ]
    file = tmp_path / "locomo.json"
    file.write_text(json.dumps(samples))
    return file


@pytest.fixture
def pipeline(bench: SearchBench, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The measurements asked of the pipeline; their values come of the weights."""
    asked: list[tuple[Any, ...]] = []

    def scores(workspace: Any, experts: Any, file: Path, names: Sequence[str], **limits: Any) -> dict[str, float]:
        asked.append((file.name, list(names), limits))
        return bench.measure(experts, "")

    monkeypatch.setattr("memlora_mlx.eval.experts.end_to_end.pipeline_scores", scores)
    return asked


def test_the_command_searches_and_goes_on(
    tiny_home: Path, locomo: Path, pipeline: list[tuple[Any, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = grid(tmp_path, "update").order.data[0], tmp_path / "search"
    options: dict[str, Any] = {"learning_rates": "1e-3,3e-2", "batch_sizes": "3", "data": [f"{file}:4"]}
    recipe = RecipeOptions(epochs=2, validations=1, rank=2)
    request = SearchRequest(stages=["update"], **options, recipe=recipe, locomo=locomo, questions=7, folder=folder)
    run_search(replace(request, test=False))

    out, err = capsys.readouterr()
    assert "rate 0.001, batch 3" in out and str(folder / "best") in out
    assert "2 candidates, ranked by f1" in err and "batch 3 (validation): f1" in err
    assert pipeline == [("locomo.json", ["conv-26"], {"questions": 7, "exchanges": None})] * 2

    run_search(SearchRequest(resume=str(folder)), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert pipeline[2:] == [("locomo.json", ["conv-30"], {"questions": 7, "exchanges": None})]
    assert [line["part"] for line in found["leaderboard"]] == ["update", "update", "test"]
    assert found["best"] == {"update": str(folder / "best" / "update")} and found["metric"] == "f1"

    with pytest.raises(UsageError, match="already contains a search"):
        run_search(SearchRequest(stages=["update"], **options, locomo=locomo, folder=folder))


def test_a_search_without_a_folder_is_found_again(
    tiny_home: Path, locomo: Path, pipeline: list[tuple[Any, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="no search to resume in .*runs"):
        run_search(SearchRequest(resume="newest"))
    data, recipe = list(grid(tmp_path, "update").order.data), RecipeOptions(epochs=1, rank=2)
    grid_options = {"learning_rates": "3e-2", "batch_sizes": "3"}
    run_search(SearchRequest(stages=["update"], **grid_options, data=data, recipe=recipe, locomo=locomo, test=False))
    [folder] = (tiny_home / "runs").iterdir()

    run_search(SearchRequest(resume="newest", learning_rates="1e-3,3e-2", test=False))
    run_search(SearchRequest(resume=folder.name, metric="L"))
    assert [names for _, names, _ in pipeline] == [["conv-26"], ["conv-26"], ["conv-30"]]
    assert "rate 0.001, batch 3" in capsys.readouterr().out


def test_a_search_that_fails_still_shows_its_table(
    tiny_home: Path, locomo: Path, pipeline: list[tuple[Any, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = grid(tmp_path, "update").order.data[0]
    with pytest.raises(TrainingFailed):
        run_search(
            SearchRequest(
                stages=["update"], learning_rates="1e30", data=[file], locomo=locomo, folder=tmp_path / "search"
            )
        )
    said = capsys.readouterr()
    assert said.out == "" and "failed" in said.err and "the loss is NaN" in said.err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"stages": ["vqa"]}, "cannot rank vqa experts"),
        ({"metric": "J"}, "Choose one of: f1, L"),
        ({"learning_rates": "1e-3,fast"}, "--learning-rates takes numbers"),
        ({"batch_sizes": "0"}, "--batch-sizes takes numbers"),
        ({"locomo": None}, "conv-26. Give the path of LoCoMo's file"),
        ({"splits": "mine"}, "Choose one of: paper"),
        ({"stages": [], "recipe": RecipeOptions(Path("mine.yaml"))}, "--recipe applies to one stage"),
        ({"data": ["nowhere.jsonl"]}, "no file nowhere.jsonl"),
        ({"stages": ["extraction"]}, "contains examples for update, which this search does not cover"),
    ],
)
def test_wrong_options_are_named(
    wrong: dict[str, Any], words: str, tiny_home: Path, locomo: Path, tmp_path: Path
) -> None:
    options = {"stages": ["update"], "data": list(grid(tmp_path, "update").order.data), "locomo": locomo} | wrong
    with pytest.raises(UsageError, match=words):
        run_search(SearchRequest(**options))


def test_another_file_than_locomos_is_refused(tiny_home: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.txt"
    file.write_text("Ann: I moved to Rome.\n")
    with pytest.raises(UsageError, match="does not contain conv-26"):
        run_search(SearchRequest(stages=["update"], locomo=file))


def test_numbers_are_read_once_each() -> None:
    assert parse_numbers("5e-4, 1e-3,5e-4", float, "--learning-rates") == (5e-4, 1e-3)
