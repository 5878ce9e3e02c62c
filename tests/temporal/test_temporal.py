"""Times in what people say: found, written, asked about and compared."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from memlora_mlx.temporal import Span, asked, find, same_date, written

HERE = Path(__file__).parent
MONDAY = date(2023, 5, 8)


def load(name: str, entries: str) -> list[tuple[date, list[object]]]:
    groups = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    return [(group["said"], entry) for group in groups for entry in group[entries]]


def right(said: date, text: str, words: str, begins: date, ends: date, granularity: str) -> bool:
    at = text.index(words)
    found = [hit for hit in find(text, said) if hit.start < at + len(words) and at < hit.end]
    return [(hit.begins, hit.ends, hit.granularity) for hit in found] == [(begins, ends, granularity)]


@pytest.mark.parametrize(("part", "least"), [("rules", 1.0), ("held out", 0.95)])
def test_labelled_expressions_get_their_span_and_granularity(part: str, least: float) -> None:
    labels = [entry for n, entry in enumerate(load("english", "says")) if (n % 3 == 2) == (part == "held out")]
    wrong = [(said, *entry) for said, entry in labels if not right(said, *entry)]  # type: ignore[arg-type]
    assert len(labels) > 75 and len(wrong) <= (1 - least) * len(labels), wrong


def test_sentences_without_a_time_give_none() -> None:
    sentences = yaml.safe_load((HERE / "negatives.yaml").read_text(encoding="utf-8"))
    assert len(sentences) >= 60
    assert [text for text in sentences if find(text, MONDAY)] == []


def test_questions_ask_about_their_days() -> None:
    for now, (text, *expected) in load("questions", "asks"):
        span = asked(str(text), now)
        assert (span and [span.begins, span.ends, span.granularity]) == (expected or None), text


def test_an_expression_says_where_it_stands_and_which_way_it_looks() -> None:
    text = (
        "Yesterday I fell ill, so I'll stay in bed until Friday; I've had a cough since March and we leave in two days."
    )
    found = [(text[hit.start : hit.end], hit.direction, hit.begins, hit.ends) for hit in find(text, MONDAY)]
    assert found == [
        ("Yesterday", "past", date(2023, 5, 7), date(2023, 5, 7)),
        ("until Friday", "until", MONDAY, date(2023, 5, 12)),
        ("since March", "since", date(2023, 3, 1), MONDAY),
        ("in two days", "future", date(2023, 5, 10), date(2023, 5, 10)),
    ]


def test_the_hour_does_not_change_the_day() -> None:
    assert [hit.begins for hit in find("We danced last night.", datetime(2023, 5, 8, 0, 37))] == [date(2023, 5, 7)]


def test_the_tense_decides_between_the_day_before_and_the_day_after() -> None:
    for text, day in (("We met on Friday.", 5), ("We'll meet on Friday.", 12), ("I am meeting her on Friday.", 12)):
        assert [hit.begins for hit in find(text, MONDAY)] == [date(2023, 5, day)], text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I went there yesterday.", "7 May 2023"),
        ("I went there last week.", "the week of 1 May 2023"),
        ("I went there last weekend.", "the weekend of 6 May 2023"),
        ("I went there last month.", "April 2023"),
        ("I went there last summer.", "summer 2022"),
        ("I went there last winter.", "winter 2022-23"),
        ("I went there in 2019.", "2019"),
        ("I went there in the 1990s.", "the 1990s"),
        ("I went there a few days ago.", "3 to 6 May 2023"),
        ("I went there a few years ago.", "2018 to 2021"),
        ("I went there in early April.", "early April 2023"),
        ("I went there in late 2020.", "late 2020"),
        ("I went there from June to August 2021.", "June to August 2021"),
        ("I went there in the last week of March.", "the last week of March 2023"),
        ("I've been there since March 2021.", "since March 2021"),
        ("I've been there for three years.", "since 2020"),
        ("I've been there since last week.", "since the week of 1 May 2023"),
        ("I'm staying until Friday.", "until 12 May 2023"),
    ],
)
def test_spans_are_written_as_people_write_dates(text: str, words: str) -> None:
    assert [written(hit.span) for hit in find(text, MONDAY)] == [words]


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("8 May, 2023", "7 May 2023", "wrong"),
        ("May 7, 2023", "7 May 2023", "day"),
        ("7 May", "7 May 2023", "day"),
        ("Max was born on the 7th of May 2023.", "7 May 2023", "day"),
        ("7 May 2023 or 8 May 2023", "7 May 2023", "wrong"),
        ("the week of 1 May 2023", "7 May 2023", "span"),
        ("May 2023", "7 May 2023", "wrong"),
        ("not mentioned", "7 May 2023", "wrong"),
        ("21 May 2023", "The Sunday before 25 May 2023", "day"),
        ("the sunday before 25 May", "The Sunday before 25 May 2023", "day"),
        ("The week before 9 June 2023", "The week before 9 June 2023", "span"),
        ("3 June 2023", "the week before 9 June 2023", "span"),
        ("5 June 2023", "the week before 9 June 2023", "span"),
        ("10 June 2023", "the week before 9 June 2023", "wrong"),
        ("the week of 24 July 2023", "last week of July 2023", "span"),
        ("June 2023", "June 2023", "span"),
        ("June 2022", "June 2023", "wrong"),
        ("2022", "2022", "span"),
        ("since 2016", "2016", "span"),
        ("August 2023", "August", "span"),
        ("14 September 2022", "The Wednesday before 21September, 2022.", "day"),
        ("5 November 2022", "November 5-6, 2022", "span"),
        ("May 2023", "May 2023 and July 2023", "wrong"),
        ("in July and May 2023", "May 2023 and July 2023", "span"),
        ("July 2023 and May 2023", "May 2023 and July 2023", "span"),
        ("yesterday", "7 May 2023", "wrong"),
        ("3 weeks", "three weeks", "span"),
        ("two weeks", "three weeks", "wrong"),
        ("Chicago", "Chicago", None),
        ("7 May 2023", "Chicago", None),
    ],
)
def test_answers_are_judged_by_their_dates(answer: str, gold: str, verdict: str | None) -> None:
    assert same_date(answer, gold) == verdict


def test_a_relative_answer_counts_where_its_day_is_known() -> None:
    assert same_date("yesterday", "7 May 2023", said_at=MONDAY) == "day"
    assert same_date("last week", "the week before 8 May 2023", said_at=MONDAY) == "span"
    assert same_date("today", "7 May 2023", said_at=MONDAY) == "wrong"


_WORDS = [
    "in",
    "on",
    "at",
    "the",
    "a",
    "few",
    "last",
    "next",
    "this",
    "since",
    "until",
    "from",
    "to",
    "between",
    "and",
    "of",
    "before",
    "after",
    "early",
    "12",
    "12th",
    "3rd",
    "2023",
    "1999",
    "may",
    "March",
    "Friday",
    "Sat",
    "week",
    "weekend",
    "weeks",
    "month",
    "years",
    "days",
    "ago",
    "summer",
    "winter",
    "christmas",
    "New",
    "Year's",
    "Eve",
    "yesterday",
    "today",
    "first",
    "second",
    "couple",
    "half",
    "twenty",
    "for",
    "now",
    "I've",
    "been",
    "will",
    "was",
    "-",
    ",",
    ".",
    ";",
    "31",
    "30",
    "Feb",
    "29",
    "99999999999",
    "٣",
    "\n",
    "'",
    "more",
    "than",
    "about",
    "rest",
    "end",
]
texts = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(_WORDS), max_size=40).map(" ".join))


@settings(max_examples=300, deadline=None)
@given(texts, st.dates())
def test_any_text_on_any_day_gives_ordered_spans_inside_the_text(text: str, said: date) -> None:
    last = 0
    for hit in find(text, said):
        assert last <= hit.start < hit.end <= len(text)
        assert hit.begins <= hit.ends
        assert written(hit.span)
        last = hit.end
    span = asked(text, said)
    assert span is None or (span.begins <= span.ends and written(span))


@settings(max_examples=200, deadline=None)
@given(texts, texts)
def test_any_two_texts_can_be_compared(answer: str, gold: str) -> None:
    assert same_date(answer, gold) in ("day", "span", "wrong", None)


DAYS = st.dates(date(1901, 1, 1), date(2098, 12, 31))


@settings(max_examples=300, deadline=None)
@given(
    DAYS, st.sampled_from(("yesterday", "last week", "last weekend", "last month", "last year", "last summer")), DAYS
)
def test_what_is_written_is_read_again_on_any_day(said: date, words: str, later: date) -> None:
    (span,) = [hit.span for hit in find(f"We met {words}.", said)]
    (again,) = [hit.span for hit in find(f"in {written(span)}", later)]
    assert (again.begins, again.ends, again.granularity) == (span.begins, span.ends, span.granularity)
    assert same_date(written(span), written(span)) == ("day" if span.granularity == "day" else "span")


@given(DAYS, st.integers(1, 6))
def test_last_weekday_is_in_the_week_before_the_day(said: date, back: int) -> None:
    day = said - timedelta(back)
    assert [hit.begins for hit in find(f"We met last {day:%A}.", said)] == [day]


@pytest.mark.parametrize("unit", ["last ", "1 ", "1-", "12 May to ", "the week before the day before ", "'", "9"])
def test_the_work_grows_with_the_text_and_no_faster(unit: str) -> None:
    """Counted in calls of Python functions, since time depends on the machine."""
    import cProfile

    def calls(size: int) -> int:
        profile = cProfile.Profile()
        profile.runcall(find, (unit * size)[:size], MONDAY)
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(20_000) <= 4.2 * calls(5_000) + 1_000


def test_a_hundred_thousand_characters_are_read() -> None:
    text = "from May to the day before the last 12-15 weeks ago, " * 1_900
    assert len(text) > 100_000
    assert all(hit.begins <= hit.ends for hit in find(text, MONDAY))


def test_a_span_is_a_plain_value() -> None:
    assert Span(MONDAY, MONDAY, "day", "past") == Span(MONDAY, MONDAY, "day", "past")
