"""The measurement of looking runs on whatever vision student is named, and what it measures is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.vision_speed import main
from memlora_mlx.errors import VisionMissing


def test_looking_is_measured(
    tiny_home: Path, tiny_vision_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--student", str(tiny_vision_student), "--pictures", "2", "--tokens", "8"])
    shown, _, report = capsys.readouterr().out.rstrip().rpartition("\n")
    told = json.loads(report)
    assert told["features"] == 20 and set(told["seconds"]) == {"tower", "anew", "seen", "followed"}
    assert all(seconds > 0 for seconds in told["seconds"].values())
    assert told["expert_bytes"] > 0 and told["with_experts_over_base"] > 1
    assert "times as fast as the first" in shown
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    main(["--student", str(tiny_vision_student), "--image", str(tmp_path / "a.png"), "--tokens", "8"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["features"] == 4


def test_a_text_student_cannot_be_measured(tiny_home: Path, tiny_student: Path) -> None:
    with pytest.raises(VisionMissing, match="reads text only"):
        main(["--student", str(tiny_student)])
