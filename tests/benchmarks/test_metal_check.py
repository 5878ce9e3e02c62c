"""What a Mac is to measure runs on this back end too, for few cases, and says what it is to say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import student_folder

from benchmarks import batch_speed, metal_check
from memlora_mlx.models.decoding import DecodingSequence
from memlora_mlx.models.loading import load_student


def test_one_command_writes_the_file_to_send(
    tiny_home: Path, tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "metal-check.json"
    metal_check.main(["--exchanges", "12", "--cases", "9", "--tokens", "6", "--out", str(out)])
    report, said = json.loads(out.read_text()), capsys.readouterr()
    assert report["equality"] == {"outputs": 9, "same": 9, "near_ties": 0, "gaps_in_nats": []}
    assert report["kl"]["tokens"] == 256 and abs(report["kl"]["token_by_token"]["largest"]) < 1e-4
    held = report["memory"]
    assert held["exchanges"] == 12 and 0 < held["last_tenth_mb"] <= held["most_mb"]
    assert [row["batch"] for row in report["speed"]] == [1, 4, 16]
    assert "9 of 9 outputs are the same" in said.out and f"Please send this file: {out}" in said.err
    assert str(Path.home()) not in json.dumps(report["machine"]) and "tiny-llama" in report["machine"]["student"]


def test_where_outputs_part_the_distance_of_the_tokens_is_told(tiny_student: Path) -> None:
    student = load_student(tiny_student)
    [case] = metal_check.cases(3)[2:]
    [plain] = metal_check._write(student, [case], 1, lookup=0, force=False)
    assert metal_check._gap(student, plain, plain) is None
    other = DecodingSequence(student, None, plain.prompt, guide=None, max_tokens=4)
    other.tokens = [*plain.tokens[:2], (plain.tokens[2] + 1) % student.vocabulary]
    gap = metal_check._gap(student, plain, other)
    assert gap is not None and gap > 0


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "lfm2", "qwen3_5"])
def test_the_engines_batches_write_what_one_row_writes(family: str, tmp_path: Path) -> None:
    student = load_student(student_folder(tmp_path / family, family=family, seed=1))  # one that writes something
    rows = batch_speed.measure(student, tokens=6, rounds=1)
    assert [row["batch"] for row in rows] == [1, 4, 16]
    for row in rows:
        assert row["same_as_one_at_a_time"]["engine"] == row["batch"]
        assert row["same_as_one_at_a_time"]["engine, look-up"] == row["batch"]
        assert all(pace > 0 for pace in row["tokens_per_second"].values())
    assert "| 16 |" in batch_speed.as_markdown(rows)
