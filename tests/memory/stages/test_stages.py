"""What the stages ask, word for word, and how they read answers that a student, or an attacker, may give."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlora_mlx.memory.stages import (
    MAX_TEXT,
    PromptMemory,
    answer_chat,
    clean_line,
    extraction_chat,
    fit_prompt,
    parse_facts,
    parse_update,
    update_chat,
)
from memlora_mlx.records import Exchange, Image, Message, Scope

EXCHANGE = Exchange(
    "key",
    Scope("Ann_1"),
    (Message("user", "I moved to Rome.", "Ann"), Message("assistant", "When?", "Bob")),
    datetime(2023, 5, 8, 13, 56),
    "conv-1",
    0,
)


def test_the_extraction_prompt_is_the_papers() -> None:
    assert extraction_chat(EXCHANGE) == (
        (
            "user",
            (
                "Extract and organize relevant details. Response Format: Strictly JSON: "
                '{"facts": ["fact1", "fact2"]}.\n\nInput:\nuser: Ann: I moved to Rome.\nassistant: Bob: When?'
            ),
        ),
    )


def test_the_update_prompt_is_the_papers() -> None:
    assert update_chat(["Ann lives in Oslo"], ["Ann moved to Rome"]) == (
        (
            "user",
            (
                'Old memories:[{"id": "0", "text": "Ann lives in Oslo"}]. New retrieved facts: ["Ann moved to Rome"]. '
                'Return memory update in JSON format: {"memory" : [{"id" : "<ID of the memory>", "text" : "<Content of the '
                'memory>", "event" : "<Operation, among ADD, UPDATE, DELETE, or NONE>", "old_memory" : "<Old memory '
                'content, only if UPDATE event>"}]}'
            ),
        ),
    )


def test_the_answer_prompt_is_short_and_dated_and_oldest_first() -> None:
    memories = [
        PromptMemory("Ann moved to Rome", datetime(2023, 7, 1), "Ann"),
        PromptMemory("I like tea", datetime(2023, 5, 8, 13, 56), "Bob"),
        PromptMemory("undated words", None, None),
    ]
    [(role, text)] = answer_chat("Where does Ann live?", memories)
    assert role == "user"
    assert len(text.partition("\n\n")[0].split()) <= 50
    assert text.index("undated words") < text.index("\nBob: I like tea (8 May 2023)")
    assert text.index("Bob: I like") < text.index("\nAnn moved to Rome (1 July 2023)")
    assert text.endswith("Question: Where does Ann live?")


def test_a_text_student_is_told_what_an_image_shows() -> None:
    seen = Message("user", "Look!", "Ann", image=Image("http://x/y.jpg", "a grey kitten"))
    [(_, text)] = extraction_chat(Exchange("k", Scope("a"), (seen,), None, "s", 0))
    assert "user: Ann: Look! [shares an image: a grey kitten]" in text
    assert "http" not in text


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ('{"facts": ["a b", "c"]}', ["a b", "c"]),
        ('{"facts": ["a", "a", " a "]}', ["a"]),
        ('{"facts": []}', []),
        ('{"facts": "a"}', []),
        ('{"facts": [1, null, {"x": 2}, "ok"]}', ["ok"]),
        ('{"fact": ["a"]}', []),
        ("[]", []),
        ("not json", []),
        ('{"facts": ["cut of', []),
        ("[" * 100_000, []),
        ('{"facts": ["\\ud800 half a pair", "tab\\tand\\u0000nul"]}', ["? half a pair", "tab and nul"]),
    ],
)
def test_facts_are_read_or_there_are_none(text: str, facts: list[str]) -> None:
    assert parse_facts(text) == facts


def test_an_update_touches_only_what_was_offered() -> None:
    """Hallucinated ids (mem0 3931, 3945) are rejected and counted, never guessed."""
    old = ["Ann lives in Oslo", "Ann likes tea"]
    entries = [
        {"id": "0", "text": "Ann lives in Rome", "event": "UPDATE", "old_memory": "whatever"},
        {"id": "1", "text": "", "event": "DELETE"},
        {"id": "2", "text": "Ann has a cat", "event": "ADD"},
        {"id": "12", "text": "ghost", "event": "UPDATE"},
        {"id": "99", "text": "ghost", "event": "DELETE"},
        {"id": "-1", "text": "ghost", "event": "DELETE"},
        {"id": "0", "text": "again", "event": "UPDATE"},
        {"id": "1", "text": "overwrite", "event": "ADD"},
        {"id": "3", "text": "  ", "event": "ADD"},
        {"id": "4", "text": "unknown event", "event": "MERGE"},
        "not an entry",
    ]
    read = parse_update(json.dumps({"memory": entries}), old)
    assert [(d.event, d.text, d.memory_index) for d in read.operations] == [
        ("UPDATE", "Ann lives in Rome", 0),
        ("DELETE", "Ann likes tea", 1),  # also without a text: mem0 loses such a delete
        ("ADD", "Ann has a cat", None),
    ]
    assert read.rejected == 8


def test_an_update_to_the_same_words_does_nothing() -> None:
    answer = {"memory": [{"id": "0", "text": "tea", "event": "UPDATE"}, {"id": "0", "text": "tea", "event": "NONE"}]}
    assert parse_update(json.dumps(answer), ["tea"]).operations == ()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_json_at_all_can_break_the_readers(value: object) -> None:
    for text in (json.dumps(value), json.dumps({"memory": value, "facts": value}), str(value)):
        parse_facts(text)
        read = parse_update(text, ["one", "two"])
        assert all(d.memory_index is None or 0 <= d.memory_index < 2 for d in read.operations)


@given(st.text(max_size=400))
def test_clean_text_is_one_safe_line(text: str) -> None:
    clean = clean_line(text)
    assert len(clean) <= MAX_TEXT and clean == clean.strip()
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in clean)
    clean.encode("utf-8")
    assert clean_line(clean) == clean


def test_joined_emoji_and_joined_letters_survive_cleaning() -> None:
    text = "Zoë 👩‍🚀 می‌خواهم"
    assert clean_line(text) == text


@given(st.integers(0, 40), st.integers(0, 60))
def test_fit_keeps_as_much_as_fits_and_never_cuts_instructions(items: int, budget: int) -> None:
    def build(count: int) -> tuple[tuple[str, str], ...]:
        return (("user", "instructions " + "x" * count),)

    fitted = fit_prompt(build, items, lambda chat: len(chat[0][1]) - len("instructions "), budget)  # type: ignore[arg-type]
    assert fitted.kept == min(items, budget) and fitted.truncated == items - fitted.kept
    assert fitted.chat[0][1].startswith("instructions ")


def test_an_owner_is_named_unless_the_words_name_them() -> None:
    told = [
        PromptMemory("I sold some tea", None, "me"),
        PromptMemory("To me it is home", None, "me"),
        PromptMemory("Hi", None, "Ann"),
    ]
    [(_, prompt)] = answer_chat("What?", told)
    assert "me: I sold some tea" in prompt and "\nTo me it is home" in prompt and "Ann: Hi" in prompt
