"""`memlora bench` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_home import TALK
from locomo import QUESTIONS, locomo_file, sample

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def talks(tiny_home: Path, tmp_path: Path) -> Path:
    return locomo_file(tmp_path)


def test_a_run_leaves_a_file_and_a_report(run_memlora: Command, talks: Path, tmp_path: Path) -> None:
    code, out, err = run_memlora("bench", talks, "--systems", "oracle,rag", "--out", tmp_path / "run")
    assert (code, err.count("Traceback")) == (0, 0)
    assert "oracle" in out
    made = json.loads((tmp_path / "run" / "results.json").read_text())
    assert len(made["asked"]) == 2 * len(QUESTIONS)
    assert made["origin"]["command"].startswith(f"memlora bench {talks} --systems oracle,rag")
    for name in ("report.md", "report.html"):
        (tmp_path / "run" / name).unlink()

    code, out, _ = run_memlora("bench", "report", tmp_path / "run")

    assert code == 0
    assert (tmp_path / "run" / "report.md").is_file()
    assert (tmp_path / "run" / "report.html").is_file()


def test_ones_own_conversations_and_conflicts_need_no_file(
    run_memlora: Command, tiny_home: Path, tmp_path: Path
) -> None:
    talk = tmp_path / "talk.txt"
    talk.write_text(TALK)
    assert run_memlora("ingest", talk, "--limit", "4")[0] == 0
    code, out, _ = run_memlora("bench", "--mine", "--systems", "memlora,oracle", "--out", tmp_path / "mine")
    assert code == 0
    assert "memlora" in out
    assert "Rome" in (tmp_path / "mine" / "results.json").read_text()

    code, out, _ = run_memlora(
        "bench", "--conflict", "--systems", "base", "--questions", "1", "--out", tmp_path / "bare"
    )

    assert code == 0
    assert (tmp_path / "bare" / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "Give the path of LoCoMo's file, or use --mine"),
        (("FILE", "--split", "test"), "no conversation of the test split"),
        (("FILE", "--split", "some"), "there is no split 'some'"),
        (("FILE", "--conversations", "conv-7"), "there is no conversation 'conv-7'"),
        (("FILE", "--systems", "zep"), "there is no system 'zep'; known are memlora, base"),
        (("FILE", "--mine"), "Remove FILE"),
        (("nowhere.json",), "There is no file"),
        (("FILE", "--gold-corrections", "FILE"), "corrections are an object"),
        (("report", "FILE"), "is no benchmark run"),
        (("FILE", "--systems", "oracle", "--limit", "1", "--questions", "0"), "--questions"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(
    run_memlora: Command, talks: Path, options: tuple[str, ...], told: str
) -> None:
    code, out, err = run_memlora("bench", *(talks if option == "FILE" else option for option in options))
    assert code == 2
    assert out == ""
    assert told in err
    assert len(err.strip().splitlines()) == 1


def test_a_talk_that_asks_nothing(run_memlora: Command, tiny_home: Path, tmp_path: Path) -> None:
    talk = tmp_path / "talk.txt"
    talk.write_text("Ann: I moved to Rome.\nBob: Lovely!\nAnn: Yes.\nBob: Good.\n")
    code, _, err = run_memlora("bench", talk)
    assert code == 1
    assert "asks no questions" in err
    code, _, err = run_memlora("bench", locomo_file(tmp_path, sample(questions=())))
    assert code == 2
    assert "conv-26 has no questions" in err


def test_help_names_what_else_there_is(run_memlora: Command) -> None:
    code, out, _ = run_memlora("bench", "--help")
    assert code == 0
    assert "--efficiency" in out
    assert "memlora bench report" in out
