"""What the experts add, measured on tiny models by the one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from locomo import SESSIONS, locomo_file, sample

from memlora_mlx.eval.experts.__main__ import ABLATION, main
from memlora_mlx.eval.experts.end_to_end import answerable
from memlora_mlx.memory import stages
from memlora_mlx.models.engine import Engine

PARTS = ("extraction", "update", "update_held_out_phrases", "generation", "pipeline")


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """The made-up talk with what an annotator would have seen in it."""
    said = [
        (speaker, [text, f"D{number}:{turn}"])
        for number, (_, turns) in enumerate(SESSIONS, 1)
        for turn, (speaker, text) in enumerate(turns, 1)
    ]
    seen = {name: [fact for speaker, fact in said if speaker == name] for name in ("Ann", "Bob")}
    return locomo_file(tmp_path, sample() | {"observation": {"session_1_observation": seen}})


@pytest.fixture
def with_experts(tiny_home: Path, varied_student: Path, tiny_experts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLORA_STUDENT", str(varied_student))
    monkeypatch.setenv("MEMLORA_EXPERTS", str(tiny_experts))


def test_one_command_makes_the_table_and_asks_nothing_twice(
    with_experts: None, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("EXTRACTION_TOKENS", "UPDATE_TOKENS", "ANSWER_TOKENS"):
        monkeypatch.setattr(stages, limit, 64)  # random weights never end by themselves
    out = tmp_path / "experts.json"
    command = [str(annotated), "--lives", "1", "--out", str(out)]
    main(command)
    report, told = json.loads(out.read_text()), out.with_suffix(".md").read_text()
    assert all(set(report[part]) >= {"base", "experts"} for part in PARTS[:-1])
    assert list(report["pipeline"]) == [name for name, _ in ABLATION]
    about = report["measured"]["pipeline"]
    assert (about["exchanges"], about["questions"]) == (8, 5)  # of either speaker; not the one of category 5
    assert report["extraction"]["experts"] != report["extraction"]["base"]
    for row in report["pipeline"].values():
        low, high = row["f1_interval"]
        assert low <= row["f1"] + 0.05 and row["f1"] - 0.05 <= high
    for title in ("Extraction", "Update, held-out synthetic dialogues", "Generation", "End to end"):
        assert f"## {title}" in told
    assert "expert / expert / base" in told

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(Engine, "submit", asked)
    main([*command, "--only", "generation", "--only", "pipeline"])
    assert json.loads(out.read_text()) == report  # the parts that were not asked for are kept
    main([*command, "--only", "generation", "--questions", "2"])
    measured = json.loads(out.read_text())["measured"]
    assert (measured["generation"]["questions"], measured["pipeline"]["questions"]) == (2, 5)
    assert "then 5 questions answered" in out.with_suffix(".md").read_text()


def test_a_student_without_experts_has_nothing_to_add(
    tiny_home: Path, annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(annotated), "--out", str(tmp_path / "experts.json")])
    assert "has no experts that could be measured" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(annotated), "--out", str(tmp_path / "nowhere" / "experts.json")])
    assert "there is no folder" in capsys.readouterr().err


def test_what_can_be_answered_is_asked(annotated: Path) -> None:
    [whole] = answerable(annotated, ["conv-26"], None, None)
    assert [question.category for question in whole.questions] == [4, 4, 4, 2, 1]
    [first] = answerable(annotated, ["conv-26"], 1, None)  # two turns
    assert [question.gold for question in first.questions] == ["Rome", "a red bicycle"]
    [few] = answerable(annotated, ["conv-26"], None, 2)
    assert len(few.questions) == 2
