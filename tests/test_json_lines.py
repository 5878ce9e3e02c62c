"""JSON lines: what was appended is read back, wherever a kill tore the file, and a full disk leaves whole lines."""

from __future__ import annotations

import json
import resource
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memlora_mlx.json_lines import JsonLines, json_line, read_json_lines

WORDS = st.text()  # line separators, controls and quotes too
ROWS = st.lists(st.one_of(WORDS, st.dictionaries(WORDS, WORDS, max_size=3), st.lists(WORDS, max_size=3)), max_size=6)
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)


@FILES
@given(ROWS, ROWS, st.integers(0, 10_000))
def test_a_torn_file_is_repaired_and_goes_on(tmp_path: Path, rows: list[Any], more: list[Any], cut: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.unlink(missing_ok=True)
    with JsonLines(path) as file:
        for row in rows:
            file.append(row)
    data = path.read_bytes()
    assert list(read_json_lines(path)) == rows and data == b"".join(map(json_line, rows))
    path.write_bytes(data[: cut % (len(data) + 1)])
    ends = [sum(map(len, map(json_line, rows[:number]))) - 1 for number in range(1, len(rows) + 1)]
    whole = rows[: sum(end <= cut % (len(data) + 1) for end in ends)]  # a line that lacks only its end is whole
    assert list(read_json_lines(path)) == whole
    with JsonLines(path, sync=True) as file:
        for row in more:
            file.append(row)
    assert list(read_json_lines(path)) == [*whole, *more]
    assert path.read_bytes() == b"".join(map(json_line, [*whole, *more]))


def test_damaged_lines_are_left_out_and_a_missing_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert list(read_json_lines(path)) == []
    path.write_bytes(b'{"a": 1}\n\xff\xfe\n\n{"a": \n' + b"[" * 100_000 + b'\n"last"\n')
    assert list(read_json_lines(path)) == [{"a": 1}, "last"]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with JsonLines(path) as file:
        file.append("x" * 500)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            with pytest.raises(OSError):
                file.append("y" * 5000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == json_line("x" * 500)
        file.append("z")
    assert list(read_json_lines(path)) == ["x" * 500, "z"]


def test_many_threads_add_whole_lines(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "rows.jsonl") as file:
        threads = [
            threading.Thread(target=lambda n=n: [file.append([n, "x" * 3000]) for _ in range(20)]) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(list(read_json_lines(tmp_path / "rows.jsonl"))) == 80


def test_half_a_surrogate_pair_can_be_written(tmp_path: Path) -> None:
    assert json.loads(json_line({"text": "half \ud83d"})) == {"text": "half ?"}
