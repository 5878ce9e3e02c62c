"""Cleaning of text: what is kept can be stored, what is shown can drive no terminal, and cleaning twice changes nothing."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memlora_mlx.text import (
    clean_line,
    clean_name,
    clean_text,
    format_bytes,
    format_duration,
    parse_duration,
    printable,
    printable_line,
    well_formed,
)

ODD = [
    "\ud83d",
    "\ude00",
    "\ud800",
    "\x00",
    "\x1b[2J",
    "\x9b",
    "\x7f",
    "\r\n",
    "\r",
    "\t",
    "\u2028",
    "\u202e",
    "\u2066",
]
ODD += ["\ufeff", "\u200d", "\u200f", "🦊", "é", " ", "word"]
TEXTS = st.lists(st.one_of(st.text(st.characters(exclude_categories=())), st.sampled_from(ODD))).map("".join)
TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def controls(text: str) -> set[str]:
    return {letter for letter in text if unicodedata.category(letter) == "Cc"}


@given(TEXTS)
@example("\ud83d\x00\ude00")
def test_what_is_kept_can_be_stored_and_loses_only_what_cannot(text: str) -> None:
    kept = clean_text(text)
    kept.encode("utf-8")
    assert controls(kept) <= {"\n", "\t", "\r"} and clean_text(kept) == kept
    plain = "".join(c for c in text if c in "\n\t\r" or unicodedata.category(c) not in ("Cc", "Cs"))
    assert plain == text or len(kept) < len(text) or "\ufffd" in kept
    assert clean_text(plain) == plain, "words, direction marks and line ends stay as they are"


@given(TEXTS)
def test_a_name_is_the_kept_text_on_one_line(text: str) -> None:
    assert clean_name(text) == " ".join(clean_text(text).split())


@given(TEXTS, st.one_of(st.none(), st.integers(1, 40)))
def test_a_line_of_a_prompt_turns_and_breaks_nothing(text: str, limit: int | None) -> None:
    line = clean_line(text, limit)
    line.encode("utf-8")
    assert not controls(line) and not TURNING & set(line) and line == " ".join(line.split())
    assert limit is None or len(line) <= limit
    assert clean_line(line, limit) == line


@given(st.text())
def test_a_line_of_a_prompt_is_what_the_experts_were_trained_on(text: str) -> None:
    """The rule by which the rows were cleaned, letter by letter; surrogates, which no row can hold, apart."""
    letters = (" " if unicodedata.category(c) == "Cc" else c for c in text if c not in TURNING)
    assert clean_line(text, 240) == " ".join("".join(letters).split())[:240].rstrip()


@given(TEXTS)
def test_what_is_shown_drives_no_terminal(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert controls(shown) <= {"\n", "\t"} and not TURNING & set(shown) and printable(shown) == shown


@given(st.lists(st.text(), max_size=5))
def test_a_stream_may_be_shown_piece_by_piece(pieces: list[str]) -> None:
    assert "".join(map(printable, pieces)) == printable("".join(pieces))


@given(TEXTS, st.integers(2, 50), st.integers(0, 50))
def test_a_shown_line_is_short_and_keeps_its_end(text: str, limit: int, tail: int) -> None:
    tail = min(tail, limit - 1)
    line = printable_line(text, limit, tail=tail)
    assert len(line) <= limit and not controls(line) and not TURNING & set(line)
    whole = clean_line(text)
    if len(whole) <= limit and len(text) <= 4 * limit:
        assert line == whole
    if tail and len(whole) > limit:
        assert line.endswith(whole[-tail:]) and "…" in line


def test_a_shown_line_takes_any_value() -> None:
    assert printable_line(ValueError("no\nsuch \x1b[31mfile")) == "no such [31mfile"
    assert printable_line(7) == "7" and printable_line("x" * 10**6, 9) == "x" * 8 + "…"


@given(TEXTS)
def test_surrogates_are_joined_or_replaced(text: str) -> None:
    whole = well_formed(text)
    whole.encode("utf-8")
    assert whole == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert re.sub("[?\ufffd]", "", whole) == re.sub("[?\ufffd]", "", well_formed(text, "?"))


def test_surrogates_by_name() -> None:
    assert well_formed("\ud83d\ude00") == "😀" and well_formed("a\ud83d b") == "a\ufffd b"
    assert clean_text("\ud800") == "\ufffd" and clean_line("\ud800") == "?"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (41.6, "0:42"), (59.6, "1:00"), (185, "3:05"), (3900, "1:05:00"), (90000, "25:00:00")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("20 min", 1200), ("2h", 7200), ("1h30m", 5400), ("1.5H", 5400), ("15", 900)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-5m", "5d", "m", "1m2h", "٣m", "²"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_bytes() -> None:
    assert format_bytes(412e6) == "412 MB" and format_bytes(1.23e9) == "1.2 GB"
