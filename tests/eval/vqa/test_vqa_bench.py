"""Questions about images: V as it can be counted by hand, the same after a stop, and what is said where nobody can look."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import ALL_LINEAR, expert_folder, vision_model

from memlora_mlx.distill import vqa_dataset as benchmark
from memlora_mlx.distill.examples import read_examples
from memlora_mlx.errors import BadTrainingData, Cancelled, UsageError
from memlora_mlx.eval import report
from memlora_mlx.eval.bench import run
from memlora_mlx.eval.bench_config import BenchConfig
from memlora_mlx.eval.metrics.intervals import wilson
from memlora_mlx.eval.metrics.statistics import mcnemar
from memlora_mlx.eval.report.markdown import as_markdown
from memlora_mlx.eval.results import BenchRun
from memlora_mlx.eval.vqa import drawings
from memlora_mlx.eval.vqa.benchmark import questions
from memlora_mlx.memory import stages
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.vision_student import LanguageModel
from memlora_mlx.settings import Settings, load_settings

Command = Callable[..., tuple[int, str, str]]
LOOKING = ("memlora", "memlora captions", "base", "captions")


@pytest.fixture(scope="module", autouse=True)
def short_outputs() -> Iterator[None]:
    """Random weights rarely end an output."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stages, "VISUAL_ANSWER_TOKENS", 16)
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vqa") / "drawings"
    drawings.build(folder, count=10)
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_vision_student: Path, tiny_embedder: Path) -> Settings:
    home = tmp_path_factory.mktemp("home")
    base = LanguageModel(vision_model()[0])
    expert_folder(home / "experts" / "vqa", base, ALL_LINEAR)
    models = {"student": tiny_vision_student, "embedder": tiny_embedder, "experts": home / "experts"}
    return load_settings({"home": str(home), "image_tiles": 1} | {name: str(path) for name, path in models.items()}, {})


@pytest.fixture(scope="module")
def whole(settings: Settings, drawn: Path) -> BenchRun:
    with Workspace(settings) as opened:
        return run(BenchConfig(vqa=drawn, split="test"), opened)


def test_v_is_what_can_be_counted_by_hand(whole: BenchRun, drawn: Path) -> None:
    found = whole.extra["vqa"]
    rows = [row for row in read_examples(drawn / "rows.jsonl") if row.split == "test"]
    assert [one["gold"] for one in found["questions"]] == [benchmark.answer_word(row) for row in rows]
    assert [one["image"] for one in found["questions"]] == [row.image for row in rows]
    assert (found["benchmark"], found["split"], found["images"], found["notes"]) == ("drawings", "test", 2, [])
    assert list(found["systems"]) == ["memlora", "base", "captions", "memlora captions", "blind"]
    for name, told in found["systems"].items():
        for kind in (None, *benchmark.KINDS):
            asked = [one for one in found["questions"] if kind in (None, one["kind"])]
            right = sum(one["answers"][name].strip().lower() == one["gold"] for one in asked)
            figure = told["overall"] if kind is None else told["kinds"][kind]
            share = wilson(right, len(asked))
            assert figure == {"n": len(asked), "right": right, "interval": [round(share.low, 4), round(share.high, 4)]}
    for name in LOOKING:
        assert all(one["answers"][name] for one in found["questions"]), "the grammar always gives a word"
        assert all(re.fullmatch(r"\S{1,30}", one["answers"][name]) for one in found["questions"])
        assert found["systems"][name]["seconds"] > 0 and found["systems"][name]["output_tokens"] > 0
    tokens = {name: found["systems"][name]["input_tokens"] for name in LOOKING}
    assert tokens["memlora"] == tokens["base"] and tokens["captions"] != tokens["base"]
    answers = {name: [one["answers"][name] for one in found["questions"]] for name in LOOKING}
    assert len({tuple(given) for given in answers.values()}) > 1, "expert, image and caption make a difference"


def test_guessing_is_that_of_the_manifest(whole: BenchRun, drawn: Path) -> None:
    blind = whole.extra["vqa"]["systems"]["blind"]["kinds"]
    of_manifest = json.loads((drawn / "manifest.json").read_text())["blind"]["test"]
    assert {kind: round(one["right"] / one["n"], 4) for kind, one in blind.items()} == {
        kind: one["right"] for kind, one in of_manifest.items()
    }


def test_the_first_system_is_tested_against_the_others_on_the_same_questions(whole: BenchRun) -> None:
    found = whole.extra["vqa"]
    assert [(test["a"], test["b"]) for test in found["tests"]] == [
        ("memlora", name) for name in ("base", "captions", "memlora captions", "blind")
    ]
    for test in found["tests"]:
        right = [[one["answers"][test[part]].lower() == one["gold"] for one in found["questions"]] for part in "ab"]
        expected = mcnemar(*right)
        assert (test["only_a"], test["only_b"], test["p"]) == (expected.only_a, expected.only_b, expected.p_value)
        assert test["p"] <= test["p_holm"] <= 1


def test_a_run_that_was_stopped_goes_on_to_the_same_figures(settings: Settings, drawn: Path, whole: BenchRun) -> None:
    stop = threading.Event()

    def on_progress(system: str, conversation: str, phase: str, done: int, total: int) -> None:
        if (system, phase) == ("base", "images") and done:
            stop.set()

    with Workspace(replace(settings, home=settings.home / "stopped")) as opened:
        with pytest.raises(Cancelled):
            run(BenchConfig(vqa=drawn, split="test"), opened, on_progress=on_progress, cancelled=stop)
        made = run(BenchConfig(vqa=drawn, split="test"), opened).extra["vqa"]
    assert made["questions"] == whole.extra["vqa"]["questions"]
    assert made["tests"] == whole.extra["vqa"]["tests"]


def test_a_student_that_reads_text_only_is_told_captions(settings: Settings, drawn: Path, tiny_student: Path) -> None:
    with Workspace(replace(settings, student=str(tiny_student), experts=None)) as opened:
        found = run(BenchConfig(vqa=drawn, split="val", questions=1), opened).extra["vqa"]
    assert list(found["systems"]) == ["captions", "blind"] and found["systems"]["captions"]["overall"]["n"] == 3
    assert any("reads text only" in note for note in found["notes"])
    assert any("`memlora train --stage vqa`" in note for note in found["notes"])


def test_the_report_shows_v_and_the_papers_only_beside_its_own_images(whole: BenchRun) -> None:
    text = as_markdown(report.build(whole))
    assert "V: the right word" in text and "these figures say nothing about photographs" in text
    assert "McNemar" in text and "paper: V" not in text and "81.3" not in text
    found = whole.extra["vqa"]
    overall = found["systems"]["memlora"]["overall"]
    share = wilson(overall["right"], overall["n"])
    assert f"{100 * share.value:.1f} \\[{100 * share.low:.1f}, {100 * share.high:.1f}\\]" in text or (
        f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]" in text
    )
    of_locomo = replace(whole, extra={"vqa": {**found, "benchmark": "locomo"}})
    text = as_markdown(report.build(of_locomo))
    assert "paper: V" in text and "81.3" in text and "say nothing about photographs" not in text
    again = BenchRun.from_json(json.loads(json.dumps(whole.as_json())))
    assert as_markdown(report.build(again)) == as_markdown(report.build(whole))


# What cannot be asked


def test_questions_whose_image_is_gone_are_left_out_and_counted(drawn: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(drawn, mine)
    rows, notes = questions(mine, "test")
    assert len(rows) == 6 and notes == []
    benchmark.image_of.cache_clear()
    (mine / str(rows[0].image)).unlink()
    left, notes = questions(mine, "test")
    assert len(left) == 3 and notes == ["3 questions are left out: their images are not there, or not what they were"]
    assert len(questions(drawn, "all", 2)[0]) == 6
    with pytest.raises(UsageError, match="no split 'valid'"):
        questions(drawn, "valid")
    shutil.rmtree(mine / "images")
    benchmark.image_of.cache_clear()
    with pytest.raises(BadTrainingData, match="none of the images of its 6 questions is there"):
        questions(mine, "test")


def test_without_a_benchmark_one_line_says_how_to_get_one(run_memlora: Command, tiny_home: Path, drawn: Path) -> None:
    code, _, err = run_memlora("bench", "--vqa")
    assert code == 1 and err.count("\n") == 1 and "`memlora vqa build --drawings` creates a small one" in err
    shutil.copytree(drawn, tiny_home / "vqa" / "drawings")
    (tiny_home / "vqa" / "drawings" / "manifest.json").write_text("{")
    code, _, err = run_memlora("bench", "--vqa")
    assert code == 1 and "cannot be read" in err and "Traceback" not in err
