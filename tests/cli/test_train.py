"""`memlora train`: an expert from the command line, and what is said when there is none."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_home import environment, run_command, start_command

from memlora_mlx.cli import teach
from memlora_mlx.cli.training_progress import TrainingProgress
from memlora_mlx.distill import training_runs
from memlora_mlx.distill.examples import TrainingExample, write_examples
from memlora_mlx.distill.recipes import CONTINUE_LEARNING_RATE_FACTOR, read_recipe
from memlora_mlx.distill.training_metrics import MetricsPoint
from memlora_mlx.models import adapter_registry
from memlora_mlx.models.adapter_registry import experts_in

Command = Callable[..., tuple[int, str, str]]

STEPS = ("--epochs", "2", "--batch-size", "4", "--learning-rate", "0.005", "--validations", "2")


@pytest.fixture(autouse=True)
def nothing_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_registry, "SHIPPED", tmp_path / "shipped")


def rows(count: int = 24) -> list[TrainingExample]:
    found = []
    for number in range(count):
        thing = ("tea", "apples", "Rome")[number % 3]
        answer = json.dumps({"facts": [f"Ann likes {thing}"]})
        chat = (("user", f"user: Ann: I like {thing} for {number} days."),)
        split = "train" if number % 4 else "validation"
        found.append(TrainingExample("extraction", chat, answer, "synthetic", f"life-{number}", "0", split))
    return found


@pytest.fixture
def data(tiny_home: Path) -> Path:
    """Teacher data where `memlora train` looks for it."""
    path = tiny_home / "teacher" / "extraction" / "synthetic.jsonl"
    write_examples(path, rows())
    return path


def one_line(done: tuple[int, str, str], code: int, *parts: str) -> None:
    """It failed so, and its last line on standard error says this."""
    assert done[0] == code, done
    last = done[2].splitlines()[-1]
    assert last.startswith("memlora: ") and "Traceback" not in done[2]
    for part in parts:
        assert part in last


def test_a_stage_is_trained_with_no_further_argument(data: Path, tiny_home: Path, run_memlora: Command) -> None:
    code, out, err = run_memlora("train", "--stage", "extraction", *STEPS)
    [folder] = (tiny_home / "runs").iterdir()
    assert code == 0 and folder.name.startswith("extraction-20") and folder.name.endswith("-1")
    expert = folder / "expert"
    result, where, always, once = out.splitlines()
    assert result.startswith("extraction expert for tiny-llama: validation loss ") and "(the base) -> " in result
    assert where == str(expert) and always == f"To use it from now on: memlora adapters install {expert}"
    assert once.endswith(f"--experts {expert}")
    assert "18 examples to train on, 6 to validate with, by synthetic" in err
    assert "step 0 of at most 10: validation loss" in err and ", the base" in err
    assert "• training" not in out and "validation" in err and "┤" in err, "the curve is drawn on standard error"
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert {"run.json", "metrics.jsonl", "state.safetensors"} <= {path.name for path in folder.iterdir()}
    order = json.loads((folder / "run.json").read_text())
    assert order["recipe"]["learning_rate"] == 0.005 and order["data"] == [str(data)]
    assert order["command"].startswith("memlora train --stage extraction --epochs 2")

    code, out, _ = run_memlora("ask", "Where did Ann go?", "--experts", expert)
    assert code == 1 or out  # nothing is remembered yet, but the expert is not refused
    assert run_memlora("adapters", "verify", expert)[0] == 0


def test_a_run_goes_on_from_the_expert_in_use(data: Path, tiny_home: Path, run_memlora: Command) -> None:
    assert run_memlora("train", "--stage", "extraction", *STEPS, "--out", tiny_home / "runs" / "first")[0] == 0
    assert run_memlora("adapters", "install", tiny_home / "runs" / "first" / "expert")[0] == 0
    going_on = [value for value in STEPS if value not in ("--learning-rate", "0.005")]

    code, out, _ = run_memlora("train", "--stage", "extraction", *going_on, "--out", tiny_home / "runs" / "second")
    assert code == 0 and "(the expert it began with) -> " in out
    order = json.loads((tiny_home / "runs" / "second" / "run.json").read_text())
    card = (tiny_home / "runs" / "second" / "expert" / "adapter_config.json").read_text()
    assert "--out runs/second" in card and str(tiny_home) not in card, "a card tells nothing of the machine's folders"
    assert (
        order["start"].endswith("adapters/tiny-llama/extraction")
        and order["recipe"]["learning_rate"] == 0.002 * CONTINUE_LEARNING_RATE_FACTOR
    )

    for anew in (("--from", "none"), ("--layers", "all")):  # the base; other layers than the expert's
        code, out, _ = run_memlora("train", "--stage", "extraction", *STEPS, *anew)
        assert code == 0 and "(the base) -> " in out


def test_json_is_one_object(data: Path, run_memlora: Command) -> None:
    code, out, err = run_memlora("train", "--stage", "extraction", *STEPS, "--json", "--layers", "all", "--rank", 2)
    told = json.loads(out)
    assert (code, told["stage"], told["is_better"], told["ended"]) == (0, "extraction", True, "all epochs")
    assert told["validation_loss"]["expert"] < told["validation_loss"]["base"]
    config = json.loads((Path(told["expert"]) / "adapter_config.json").read_text())
    assert config["lora_parameters"]["rank"] == 2 and len(config["lora_parameters"]["keys"]) == 14
    assert "┤" not in err


def test_rows_are_taken_from_the_files_named(data: Path, tmp_path: Path, run_memlora: Command) -> None:
    shutil.copy(data, tmp_path / "mine.jsonl")
    code, _, err = run_memlora(
        "train", "--stage", "extraction", "--data", tmp_path / "mine.jsonl", "--data", f"{data}:5", *STEPS
    )
    assert code == 0 and "23 examples to train on, 12 to validate with" in err
    code, _, err = run_memlora("train", "--stage", "extraction", "--rows", 7, *STEPS)
    assert code == 0 and "7 examples to train on" in err


def test_without_data_it_says_which_command_makes_some_or_makes_it(
    tiny_home: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def make(stage: str, *_: object) -> None:
        asked.append(stage)
        write_examples(tiny_home / "teacher" / stage / "synthetic.jsonl", rows())

    monkeypatch.setattr(teach, "generate_synthetic_examples", make)
    one_line(
        run_memlora("train", "--stage", "extraction"),
        1,
        "`memlora teach --stage extraction --teacher synthetic`",
        "--yes",
    )
    assert asked == [] and not (tiny_home / "runs").exists()
    assert run_memlora("train", "--stage", "extraction", *STEPS, "--yes")[0] == 0
    assert asked == ["extraction"]


@pytest.mark.parametrize(("answer", "code"), [(True, 0), (False, 1)])
def test_on_a_terminal_it_offers_to_make_some(
    tiny_home: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch, answer: bool, code: int
) -> None:
    def make(stage: str, *_: object) -> None:
        write_examples(tiny_home / "teacher" / stage / "synthetic.jsonl", rows())

    monkeypatch.setattr(teach, "generate_synthetic_examples", make)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question, **_: answer)
    assert run_memlora("train", "--stage", "extraction", *STEPS)[0] == code


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("run",), 2, "Missing option --stage. Choose one of: extraction, update, generation, vqa"),
        (("--stage", "vqa"), 1, "`memlora vqa build --drawings` creates a small one"),
        (("--stage", "everything"), 2, "Unknown stage 'everything'. Choose one of: extraction"),
        (("--stage", "extraction", "--data", "nowhere.jsonl"), 2, "There is no file nowhere.jsonl"),
        (("--stage", "extraction", "--layers", "some"), 2, "--layers takes qv or all"),
        (("--stage", "extraction", "--recipe", "nowhere.yaml"), 2, "Cannot read the recipe nowhere.yaml"),
        (("--stage", "extraction", "--learning-rate", "-1"), 2, "learning_rate is -1.0. It must be above 0"),
        (("--stage", "extraction", "--epochs", "0"), 2, "epochs is 0.0. It must be above 0"),
        (("--stage", "extraction", "--batch-size", "0"), 2, "--batch-size"),
        (("--stage", "extraction", "--student", "qwen2.5-0.5"), 1, "did you mean"),
        (("--resume",), 2, "There is no unfinished run in"),
        (("--resume", "--stage", "update"), 2, "There is no unfinished update run in"),
        (("--resume", "nowhere"), 2, "contains no training run to resume"),
        (("--resume", "nowhere", "--epochs", "3"), 2, "No such option: --epochs (see `memlora train resume --help`)"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    data: Path, tiny_home: Path, run_memlora: Command, arguments: tuple[str, ...], code: int, says: str
) -> None:
    one_line(run_memlora("train", *arguments), code, says)
    assert not (tiny_home / "runs").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 training and 0 validation examples"),
        ('{"stage": ', "line 1 is not JSON"),
        ("[]", "line 1 is not a training example"),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder(
    data: Path, tiny_home: Path, run_memlora: Command, text: str, says: str
) -> None:
    data.write_text(text)
    one_line(run_memlora("train", "--stage", "extraction"), 1, says)
    assert not any((tiny_home / "runs").glob("*"))


def test_an_expert_no_better_than_the_base_is_called_that(data: Path, run_memlora: Command) -> None:
    code, out, _ = run_memlora("train", "--stage", "extraction", "--epochs", 1, "--learning-rate", 1e-12)
    assert code == 0 and "no better than the base" in out and "adapters install" not in out


def test_a_loss_that_is_no_number_is_a_failure(data: Path, run_memlora: Command) -> None:
    done = run_memlora("train", "--stage", "extraction", "--epochs", 2, "--learning-rate", 1e30)
    one_line(done, 1, "the loss is NaN at step", "No validation was better than the base", "Lower --learning-rate")


def test_a_folder_holds_one_run(data: Path, tmp_path: Path, run_memlora: Command) -> None:
    out = tmp_path / "mine"
    assert run_memlora("train", "--stage", "extraction", *STEPS, "--out", out)[0] == 0
    one_line(run_memlora("train", "--stage", "extraction", "--out", out), 2, "already contains a run")
    code, said, _ = run_memlora("train", "--resume", out)
    assert code == 0 and str(out / "expert") in said, "a finished run says again what came of it"
    one_line(run_memlora("train", "--resume", out, "--stage", "update"), 2, "trains extraction, not update")


@pytest.mark.parametrize(
    ("how", "by"), [("--resume", signal.SIGINT), ("name", signal.SIGTERM), ("folder", signal.SIGINT)]
)
def test_an_interrupted_run_goes_on_to_the_same_expert(
    data: Path,
    tiny_home: Path,
    tiny_student: Path,
    tiny_embedder: Path,
    tmp_path: Path,
    run_memlora: Command,
    how: str,
    by: signal.Signals,
) -> None:
    environ = environment(tiny_home, tiny_student, tiny_embedder)
    asked = ("train", "--stage", "extraction", *STEPS, "--epochs", "8", "--patience", "99")
    with start_command(environ, *asked) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "step 6 of" in line:
                process.send_signal(by)
                break
        said = process.stderr.read()
        assert process.wait(60) == 130
    [folder] = (tiny_home / "runs").iterdir()
    last, best = said.splitlines()[-1], folder / training_runs.BEST_SO_FAR
    assert f"the run is saved. Run `memlora train resume {folder}` to continue." in last
    assert last.endswith(f"--experts {best}") and set(experts_in(best)) == {"extraction"}

    which = {"--resume": (), "name": (folder.name,), "folder": (folder,)}[how]
    code, _, err = run_memlora("train", "--resume", *which)
    assert code == 0 and "step 40 of at most 40" in err and "step 2 of" not in err
    whole = tmp_path / "whole"
    assert run_memlora(*asked, "--out", whole)[0] == 0
    weights = "expert/adapters.safetensors"
    assert (folder / weights).read_bytes() == (whole / weights).read_bytes()
    assert json.loads((folder / "expert" / "adapter_config.json").read_text())["memlora"]["command"].endswith(
        "--patience 99"
    ), "the card names the command that began it"


def test_the_newest_unfinished_run_of_a_stage_is_taken(tiny_home: Path, data: Path) -> None:
    for number, stage in enumerate(("extraction", "update", "extraction")):
        recipe = read_recipe(stage)  # type: ignore[arg-type]
        folder = tiny_home / "runs" / f"{stage}-{number}"
        training_runs.create_run(training_runs.TrainingConfig(stage, "tiny", (), recipe), folder)  # type: ignore[arg-type]
        os.utime(folder / "run.json", (number, number))
    finished = tiny_home / "runs" / "extraction-2" / "expert"
    finished.mkdir()
    assert training_runs.newest_unfinished(tiny_home, "extraction").name == "extraction-2"
    (finished / "adapter_config.json").write_text("{}")
    assert training_runs.newest_unfinished(tiny_home, "extraction").name == "extraction-0"
    assert training_runs.newest_unfinished(tiny_home, None).name == "update-1"


def test_a_run_in_a_pipe_prints_its_result_alone(
    data: Path, tiny_home: Path, tiny_student: Path, tiny_embedder: Path
) -> None:
    environ = environment(tiny_home, tiny_student, tiny_embedder)
    code, out, err = run_command(environ, "train", "--stage", "extraction", *STEPS)
    assert code == 0 and len(out.splitlines()) == 4 and "\x1b" not in out + err


def test_a_folder_that_cannot_be_made_is_one_line(data: Path, tmp_path: Path, run_memlora: Command) -> None:
    (tmp_path / "afile").write_text("")
    code, out, err = run_memlora("train", "--stage", "extraction", *STEPS, "--out", tmp_path / "afile" / "run")
    assert (code, out) == (1, "") and err.splitlines()[-1].startswith("memlora: Cannot write to")


def test_a_resumed_run_knows_the_best_of_before(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    order = training_runs.TrainingConfig("extraction", "tiny-llama", (str(data),), read_recipe("extraction", None))
    before = [MetricsPoint(5, 20, 0.5, validation_loss=0.5, seconds=1.0)]
    with TrainingProgress(order, before, quiet=False) as progress:
        progress.show(MetricsPoint(10, 20, 1.0, validation_loss=1.9, seconds=2.0))
        progress.show(MetricsPoint(15, 20, 1.5, validation_loss=0.4, seconds=3.0))
    worse, better = capsys.readouterr().err.splitlines()
    assert worse.endswith("1.9000") and better.endswith("0.4000, the best so far")
