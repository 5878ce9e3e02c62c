"""`memlora train` without a stage: all experts, judged, installed where they are better, and resumed after a kill."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cli_home import environment, run_command, start_command
from locomo import locomo_file

from memlora_mlx.cli import teach, train_all
from memlora_mlx.distill.examples import TrainingExample, write_examples
from memlora_mlx.distill.session_state import SessionOptions, read_session
from memlora_mlx.distill.training_config import TrainingConfig
from memlora_mlx.errors import Cancelled
from memlora_mlx.eval.experts.generated_lives import PipelineMeasure
from memlora_mlx.memory import stages
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models import adapter_registry
from memlora_mlx.models.adapter_registry import experts_in, read_card
from memlora_mlx.records import Stage
from memlora_mlx.settings import load_settings

Command = Callable[..., tuple[int, str, str]]
THINGS = ("tea", "apples", "Rome")


@pytest.fixture(autouse=True)
def nothing_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_registry, "SHIPPED", tmp_path / "shipped")


def example(stage: Stage, number: int) -> TrainingExample:
    thing, other = THINGS[number % 3], THINGS[(number + 1) % 3]
    fact = f"Ann likes {thing}"
    if stage == "extraction":
        chat, answer = (("user", f"user: Ann: I like {thing} for {number} days."),), json.dumps({"facts": [fact]})
    elif stage == "update":
        chat = stages.update_chat([f"Ann likes {other}"], [fact])
        answer = json.dumps({"memory": [{"id": "1", "text": fact, "event": "ADD"}]})
    else:
        known = [stages.PromptMemory(fact, None, None)]
        chat, answer = stages.answer_chat(f"What does Ann like on day {number}?", known), thing
    split = "train" if number % 4 else "validation"
    return TrainingExample(stage, chat, answer, "synthetic", f"life-{number}", "0", split)  # type: ignore[arg-type]


@pytest.fixture
def data(tiny_home: Path) -> Path:
    """Training data of all stages in the data folder."""
    for stage in ("extraction", "update", "generation"):
        rows = [example(stage, number) for number in range(24)]  # type: ignore[arg-type]
        write_examples(tiny_home / "teacher" / stage / "synthetic.jsonl", rows)
    return tiny_home


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of two epochs."""
    config = train_all._Parts.config

    def two_epochs(self: train_all._Parts, stage: Stage, files: Sequence[str]) -> TrainingConfig:
        made = config(self, stage, files)
        return replace(made, recipe=made.recipe.changed(epochs=2.0, batch_size=4))

    monkeypatch.setattr(train_all._Parts, "config", two_epochs)


def session_of(home: Path) -> Path:
    [folder] = (home / "runs").glob("session-*")
    return folder


def test_all_experts_are_made_judged_and_installed(
    data: Path, short: None, tmp_path: Path, run_memlora: Command
) -> None:
    talks = locomo_file(tmp_path)
    code, out, err = run_memlora("train", "--val", talks)
    assert code == 0, err
    folder = session_of(data)
    installed = experts_in(data / "adapters" / "tiny-llama")
    assert set(installed) == {"extraction", "update", "generation"}
    for stage, expert in installed.items():
        card = read_card(expert)
        assert card.metrics is not None and card.data is not None
        assert card.metrics.validation_loss["expert"] < card.metrics.validation_loss["base"]
        assert (
            card.data.rows == 18
            and card.licence == "Apache-2.0 (memlora)"
            and card.command == f"memlora train --val {talks.name}"
        )
        assert (
            card.metrics.chosen_by is not None
            and "5 questions about the file given with --val" in card.metrics.chosen_by
        )
        assert f"{stage}: 18 of 18 examples, at most 10 steps" in err and f"{stage}: better: installed (loss" in out
    report = (folder / "report.md").read_text()
    assert out.splitlines()[-1] == f"Report: {folder / 'report.md'}"
    assert "| update | 18 | 10 |" in report and "5 questions" in report and "teacher/update/synthetic.jsonl" in report
    state = read_session(folder)
    assert state.is_finished and state.before is not None and len(state.before) == 5
    assert {stage.outcome for stage in state.stages} == {"installed"}

    code, _, err = run_memlora("train", "--val", talks, "--plan")
    assert code == 0 and len(list((data / "runs").glob("session-*"))) == 2, "what has finished is not continued"


def test_a_killed_session_goes_on_where_it_was(
    data: Path, tiny_student: Path, tiny_embedder: Path, tmp_path: Path
) -> None:
    for stage in ("extraction", "update", "generation"):  # so few that fifty epochs are short on a busy machine too
        rows = [example(stage, number) for number in range(8)]  # type: ignore[arg-type]
        write_examples(data / "teacher" / stage / "synthetic.jsonl", rows)
    environ = environment(data, tiny_student, tiny_embedder)
    asked = ("train", "--val", locomo_file(tmp_path), "--budget", "3h")
    with start_command(environ, *asked) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("update: step") and "step 0" not in line:
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
    folder = session_of(data)
    before = read_session(folder)
    assert not before.is_finished and [one.outcome for one in before.stages][1:] == ["planned", "planned"]
    code, out, err = run_command(environ, *asked)
    assert code == 0, err
    assert "continued with the settings it began with" in err
    assert session_of(data) == folder and "extraction: training" not in err and "update: training\n" in err
    after = read_session(folder)
    assert after.is_finished and after.seconds > before.seconds and after.stages[0].run == before.stages[0].run
    assert f"Report: {folder / 'report.md'}" in out
    assert len(list((data / "runs").glob("update-*"))) == 1, "the run that was killed was continued"


def test_ctrl_c_leaves_a_session_that_can_be_continued(
    data: Path, tiny_student: Path, tiny_embedder: Path, tmp_path: Path
) -> None:
    environ = environment(data, tiny_student, tiny_embedder)
    asked = ("train", "--val", locomo_file(tmp_path))
    with start_command(environ, *asked) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("extraction: step") and "step 0" not in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait(60) == 130
    last = rest.splitlines()[-1]
    assert last.startswith("memlora: Stopped;") and "The same command continues." in last and "Traceback" not in rest
    assert not read_session(session_of(data)).is_finished


def test_an_expert_with_which_the_pipeline_is_worse_is_left(
    data: Path, short: None, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(self: PipelineMeasure, experts: Mapping[Stage, Path], cases: Sequence[object]) -> list[float]:
        return [0.25, 0.25] if "update" in experts else [0.5, 0.75 if experts else 0.25]

    monkeypatch.setattr(PipelineMeasure, "__call__", measure)
    code, out, err = run_memlora("train")
    assert code == 0, err
    assert set(experts_in(data / "adapters" / "tiny-llama")) == {"extraction", "generation"}
    assert "update: the pipeline is worse with it: left" in out and "37.5 before, 62.5 now" in out
    assert (
        "| 62.5 -> 25.0 (-50.0 to -25.0) | the pipeline is worse with it: left |"
        in (session_of(data) / "report.md").read_text()
    )


def test_an_expert_that_is_no_better_on_held_out_rows_is_left(
    data: Path, tmp_path: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_all._Parts.config

    def slow(self: train_all._Parts, stage: Stage, files: Sequence[str]) -> TrainingConfig:
        made = config(self, stage, files)
        return replace(made, recipe=made.recipe.changed(epochs=1.0, learning_rate=1e-12))

    monkeypatch.setattr(train_all._Parts, "config", slow)
    code, out, _ = run_memlora("train", "--val", locomo_file(tmp_path))
    assert code == 0 and out.count("no better on held-out rows: left") == 3 and ", as before." in out
    assert not (data / "adapters").exists()


def test_better_experts_are_only_kept_if_that_is_asked(
    data: Path, short: None, tmp_path: Path, run_memlora: Command
) -> None:
    code, out, _ = run_memlora("train", "--val", locomo_file(tmp_path), "--no-install", "--json")
    assert code == 0 and not (data / "adapters").exists()
    told = json.loads(out)
    assert {stage["outcome"] for stage in told["stages"]} == {"kept"} and Path(told["report"]).is_file()


def test_a_plan_is_printed_and_the_next_call_trains_by_it(
    data: Path, short: None, tmp_path: Path, run_memlora: Command
) -> None:
    talks = locomo_file(tmp_path)
    code, out, err = run_memlora("train", "all", "--plan", "--budget", "3h", "--val", talks)
    assert (code, out) == (0, "") and "in all: about " in err and not list((data / "runs").glob("update-*"))
    code, _, err = run_memlora("train", "--budget", "3h", "--val", talks)
    assert code == 0 and "measuring two training steps" not in err and len(list((data / "runs").glob("session-*"))) == 1


def test_data_is_made_where_there_is_none_or_only_corrections(
    tiny_home: Path, short: None, tmp_path: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def make(teacher: str, stage: Stage, **_: object) -> None:
        asked.append((teacher, stage))
        rows = [example(stage, number) for number in range(24)]
        write_examples(tiny_home / "teacher" / stage / f"{teacher}.jsonl", rows)

    monkeypatch.setattr(teach, "generate_examples", make)
    write_examples(tiny_home / "teacher" / "update" / "corrections.jsonl", [example("update", 99)])
    write_examples(tiny_home / "teacher" / "generation" / "gpt.jsonl", [example("generation", n) for n in range(24)])
    code, _, err = run_memlora("train", "--val", locomo_file(tmp_path))
    assert code == 0, err
    assert asked == [("synthetic", "extraction"), ("synthetic", "update")]
    assert "update: 19 of 19 examples" in err, "the corrections are trained on too"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--budget", "soon"), "--budget takes a time such as 20m, 2h or 1h30m, not 'soon'"),
        (("--val", "nowhere.json"), "There is no file nowhere.json"),
        (("--epochs", "3"), "No such option: --epochs (see `memlora train all --help`)"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tiny_home: Path, run_memlora: Command, arguments: tuple[str, ...], says: str
) -> None:
    code, _, err = run_memlora("train", *arguments)
    assert code == 2 and says in err.splitlines()[-1] and "Traceback" not in err
    assert not (tiny_home / "runs").exists()


def test_making_examples_stops_at_once_and_leaves_no_half_file(tiny_home: Path) -> None:
    asked_to_stop = threading.Event()
    asked_to_stop.set()
    with Workspace(load_settings()) as opened:
        options = SessionOptions(student=opened.student_name, budget=60.0)
        measure = PipelineMeasure(opened, tiny_home / "measured", asked_to_stop)
        parts = train_all._Parts(opened, options, measure, asked_to_stop)
        with pytest.raises(Cancelled, match="The same command continues"):
            parts.data("extraction")
    assert not list((tiny_home / "teacher" / "extraction").glob("*"))
