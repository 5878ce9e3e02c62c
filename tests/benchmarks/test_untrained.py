"""How a student without experts does with short prompts and with examples: every part runs, and says both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from locomo import locomo_file, sample

from benchmarks import untrained
from memlora_mlx.eval.conflict import benchmark, templates


def test_every_part_is_measured_in_both_ways(
    tiny_home: Path,
    tiny_student: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = templates.generate(0, 1, ("flip", "deletion"))
    monkeypatch.setattr(benchmark, "generate", lambda *_: two)
    told = {"Ann": [["Ann moved to Rome", "D1:1"]], "Bob": [["Bob bought a red bicycle", "D1:2"]]}
    talks = locomo_file(tmp_path, {**sample(), "observation": {"session_1_observation": told}})
    few = ("--exchanges", "4")
    parts = ("--only", "extraction", "--only", "conflicts", "--only", "questions")
    untrained.main([str(talks), "--student", str(tiny_student), *few, *parts])
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith(tuple(f"| {way} |" for way in untrained.WAYS))]
    assert len(rows) == 6, out
    assert [row.split(" | ")[1] for row in rows[:2]] == ["4", "4"], "exchanges"
    assert all(" of 2 | " in row for row in rows[2:4]), "dialogues"
    assert all(row.endswith(" | 3 |") for row in rows[4:]), "the questions that four exchanges answer"
