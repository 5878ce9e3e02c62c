"""Questions about a time are answered by rule, from the best hit."""

from __future__ import annotations

from datetime import datetime

import pytest

from memlora_mlx.memory.dated_answers import dated_answer
from memlora_mlx.records import Hit, MessageKey, Scope, SourceMessage

SAID = datetime(2023, 5, 8, 13, 56)  # a Monday


def hit(text: str, said_at: datetime | None = SAID) -> Hit:
    return Hit(
        None,
        SourceMessage(MessageKey("x", 0), Scope(user_id="Ann"), "user", text, "Ann", said_at, None, None, None),
        1.0,
    )


@pytest.mark.parametrize(
    ("question", "said", "answer"),
    [
        ("When did Ann go to the support group?", "I went to a support group yesterday.", "7 May 2023"),
        ("When did Ann move?", "We moved. Last Friday I slept late.", "5 May 2023"),
        ("When did Ann finish the course?", "I am so glad the course is over!", "8 May 2023"),
        ("when was Ann in Rome", "I was in Rome in March 2022", "March 2022"),
        ("When does Ann go running?", "I go running every evening.", None),  # the day it was said is no answer
        ("Where did Ann go?", "I went to Rome yesterday.", None),
        ("Whenever did Ann smile?", "I smiled yesterday.", None),
    ],
)
def test_the_time_of_the_best_hit_answers_when(question: str, said: str, answer: str | None) -> None:
    assert dated_answer(question, [hit(said), hit("I went to Oslo on 1 January 2020.")]) == answer


def test_without_a_day_or_a_hit_there_is_no_answer_by_rule() -> None:
    assert dated_answer("When did Ann move?", []) is None
    assert dated_answer("When did Ann move?", [hit("I moved yesterday.", None)]) is None


def test_of_several_times_the_one_beside_the_question_counts() -> None:
    said = "I cleaned the flat yesterday. Two weeks ago I adopted a puppy."
    assert dated_answer("When did Ann adopt the puppy?", [hit(said)]) != "7 May 2023"
