"""Cleaning a teacher's answers: what it looks like when all goes well, and every way in which it may not."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memlora_mlx.distill.answer_cleaning import CleanedAnswer, RejectedAnswer, clean_answer
from memlora_mlx.memory.stages import (
    MAX_FACTS,
    MAX_TEXT,
    clean_line,
    extraction_grammar,
    parse_facts,
    parse_update,
    update_grammar,
)
from memlora_mlx.models.decoding import _compiled
from memlora_mlx.records import Exchange, Grammar, Message, Scope

import llguidance  # isort: skip
from tiny_models import tokenizer

FACTS = '{"facts": ["Ann likes tea", "Ann moved to Rome"]}'
DRAFT = '{"facts": ["a draft"]}'
OLD = ["Ann lives in Oslo", "Ann likes tea", 'Ann said "no"']
EXCHANGE = Exchange("key", Scope("ann"), (Message("user", "Hi.", "Ann"),), None, "chat", 0)


def is_allowed(grammar: Grammar, text: str) -> bool:
    """Whether a student could write the text under the grammar, with a tokenizer that knows every byte."""
    built = tokenizer()
    tokens = llguidance.LLTokenizer(built.to_str(), n_vocab=built.get_vocab_size(), eos_token=2)
    matcher = llguidance.LLMatcher(tokens, _compiled(grammar.kind, grammar.text), log_level=0)
    wanted = tokens.tokenize_str(text)
    return matcher.validate_tokens(wanted) == len(wanted) and matcher.consume_tokens(wanted) and matcher.is_accepting()


@pytest.mark.parametrize(
    "raw",
    [
        FACTS,
        f"```json\n{FACTS}\n```",
        f"Sure! Here are the facts:\n```\n{FACTS}\n```\nLet me know if you need more.",
        f"<think>They like tea. Perhaps {DRAFT}?</think>\n{FACTS}",
        f"They like tea. Perhaps {DRAFT}?</think>{FACTS}",  # the template opened the reasoning
        f"<think>one</think><think>two {DRAFT}</think>{FACTS}",
        f"<|channel|>analysis<|message|>Perhaps {DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{FACTS}<|return|>",
        f"<|channel|>final <|constrain|>json<|message|>{FACTS}",
        f"analysisWe need facts: {DRAFT}. Done.assistantfinal{FACTS}",
        f"{DRAFT}\nOn reflection:\n{FACTS}",
        f'{FACTS} and {{"memory": []}}, {{"facts": "none"}}, {{broken',
        FACTS.replace(", ", ",\n\t").replace("{", "{ "),
        '{"thought": {"x": [1]}, "facts": ["Ann likes tea", " Ann  moved to\\nRome ", "Ann likes tea", "", "..."]}',
        '{"facts": ["Ann likes tea", "Ann moved\nto Rome"]}',  # a raw line end in a string
        f'{{"result": {FACTS}}}',
        "\ufeff" + FACTS,
    ],
)
def test_facts_are_found_and_written_in_the_minimal_form(raw: str) -> None:
    assert clean_answer("extraction", raw) == CleanedAnswer(FACTS)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        (f"<think>{DRAFT}</think>\n", "empty"),
        ("Ann likes tea.", "no JSON"),
        ("{'facts': ['Ann likes tea']}", "no JSON"),
        (f"<think>{DRAFT}</think> I would rather not.", "no JSON"),
        ('{"facts": ["Ann likes', "cut off"),
        ('{"facts": ["Ann likes tea",', "cut off"),
        ('Here: {"facts": [', "cut off"),
        (f"<think>Perhaps {DRAFT}", "cut off"),
        (f"<|channel|>analysis<|message|>Perhaps {DRAFT}", "cut off"),
        (f"analysisPerhaps {DRAFT}", "cut off"),
        (f'<think>{DRAFT}</think>{{"facts": ["Ann', "cut off"),
        ("analysisWe need", "cut off"),
        ('{"facts": "Ann likes tea"}', "wrong shape"),
        ('{"facts": [{"fact": "Ann likes tea"}]}', "wrong shape"),
        ('{"memory": []}', "wrong shape"),
        ('{"facts": ["fact1", "fact2"]}', "wrong shape"),  # the prompt's own example
        ('["Ann likes tea"]', "no JSON"),
    ],
)
def test_what_holds_no_facts_is_refused_with_a_reason(raw: str, reason: str) -> None:
    assert clean_answer("extraction", raw) == RejectedAnswer(reason)  # type: ignore[arg-type]


def test_the_check_by_grammar_sees_a_wrong_form() -> None:
    grammar = extraction_grammar(EXCHANGE, verbatim_only=False)
    assert is_allowed(grammar, FACTS)
    assert not is_allowed(grammar, FACTS[:-1]) and not is_allowed(grammar, FACTS.replace(", ", ","))


def test_no_facts_are_an_answer_too() -> None:
    assert clean_answer("extraction", 'Nothing here: {"facts": []}') == CleanedAnswer('{"facts": []}')


def test_markers_within_a_fact_are_only_words() -> None:
    fact = "Ann wrote </think> and <|channel|>final<|message|> and ```json and assistantfinal"
    written = json.dumps({"facts": [fact]})
    assert clean_answer("extraction", f"<think>hm</think>```json\n{written}\n```") == CleanedAnswer(written)


def test_facts_are_few_and_short() -> None:
    many = clean_answer("extraction", json.dumps({"facts": [f"{i} " + "é" * 500 for i in range(20)]}))
    assert isinstance(many, CleanedAnswer)
    facts = json.loads(many.text)["facts"]
    assert len(facts) == MAX_FACTS and {len(fact) for fact in facts} == {MAX_TEXT}


def update(*entries: object, raw: str = "{}") -> CleanedAnswer | RejectedAnswer:
    written = json.dumps({"memory": entries})
    return clean_answer("update", raw.replace("{}", written), old=OLD, facts=["Ann moved to Rome", "Ann has a cat"])


def test_an_update_is_put_into_the_order_and_form_of_the_grammar() -> None:
    cleaned = update(
        {"event": "add", "text": "Ann has a  cat", "id": "17", "why": "new"},
        {"id": 2, "event": "DELETE"},
        {"id": "1", "text": "Ann likes tea", "event": "NONE"},
        {"id": "0", "text": "Ann lives in Rome", "event": "UPDATE", "old_memory": "Ann lives somewhere"},
        {"id": "99", "text": "a ghost that stays as it is", "event": "NONE"},
        raw="Let me see.\n```json\n{}\n```",
    )
    assert cleaned == CleanedAnswer(
        '{"memory": [{"id": "0", "text": "Ann lives in Rome", "event": "UPDATE", "old_memory": "Ann lives in Oslo"}, '
        '{"id": "2", "text": "Ann said \\"no\\"", "event": "DELETE"}, '
        '{"id": "3", "text": "Ann has a cat", "event": "ADD"}]}'
    )


def test_what_changes_nothing_is_left_out() -> None:
    assert update(
        {"id": "0", "text": " Ann lives in Oslo ", "event": "UPDATE"},  # the same words
        {"id": "5", "text": "Ann likes tea", "event": "ADD"},  # known already
        {"id": "2", "text": 'Ann said "no"', "event": "NONE"},
    ) == CleanedAnswer('{"memory": []}')


def test_words_that_move_from_one_memory_to_another_are_kept() -> None:
    assert update(
        {"id": "1", "event": "DELETE"}, {"id": "3", "text": "Ann likes tea", "event": "ADD"}
    ) == CleanedAnswer(
        '{"memory": [{"id": "1", "text": "Ann likes tea", "event": "DELETE"}, '
        '{"id": "3", "text": "Ann likes tea", "event": "ADD"}]}'
    )


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"id": "3", "text": "x", "event": "UPDATE"}, "unknown id"),
        ({"id": "99", "event": "DELETE"}, "unknown id"),
        ({"id": "00", "event": "DELETE"}, "unknown id"),
        ({"id": "-1", "event": "DELETE"}, "unknown id"),
        ({"id": "٠", "event": "DELETE"}, "unknown id"),  # another script's zero
        ({"id": 0.0, "event": "DELETE"}, "wrong shape"),
        ({"id": True, "event": "DELETE"}, "wrong shape"),
        ({"id": "<ID of the memory>", "text": "<Content of the memory>", "event": "<Operation>"}, "wrong shape"),
        ({"id": "0", "text": "x", "event": "MERGE"}, "wrong shape"),
        ({"id": "0", "text": "", "event": "UPDATE"}, "wrong shape"),
        ({"id": "0", "text": None, "event": "ADD"}, "wrong shape"),
        ({"text": "x", "event": "ADD"}, "wrong shape"),
        ("not an entry", "wrong shape"),
    ],
)
def test_an_update_of_what_was_not_offered_is_refused_whole(entry: object, reason: str) -> None:
    assert update({"id": "7", "text": "Ann has a cat", "event": "ADD"}, entry) == RejectedAnswer(reason)  # type: ignore[arg-type]


def test_an_update_that_contradicts_itself_is_refused() -> None:
    twice = {"id": "0", "text": "Ann lives in Rome", "event": "UPDATE"}
    assert update(twice, {"id": "0", "event": "DELETE"}) == RejectedAnswer("id named twice")
    assert isinstance(update(twice, twice), CleanedAnswer)


def test_an_update_adds_no_more_than_there_are_facts() -> None:
    assert update(*({"id": str(i), "text": f"new {i}", "event": "ADD"} for i in range(3))) == RejectedAnswer(
        "more memories than facts"
    )


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("<think>hm</think> 7 May\n2023 ", CleanedAnswer("7 May 2023")),
        ("```text\n7 May 2023\n```", CleanedAnswer("7 May 2023")),
        ("analysisThe date is 7 May.assistantfinal7 May 2023", CleanedAnswer("7 May 2023")),
        ("<|channel|>final<|message|>7 May 2023<|return|>", CleanedAnswer("7 May 2023")),
        ("analysis of data", CleanedAnswer("analysis of data")),
        ("<think>hm</think>", RejectedAnswer("empty")),
        ("<think>hm", RejectedAnswer("cut off")),
    ],
)
def test_an_answer_is_one_line_of_text(raw: str, cleaned: CleanedAnswer | RejectedAnswer) -> None:
    assert clean_answer("generation", raw) == cleaned


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (
            '```{"reason": "The cat\\nis red.", "answer": " Red. "}```',
            CleanedAnswer('{"answer": "Red", "reason": "The cat is red."}'),
        ),
        (
            '{"answer": "red", "reason": "It is.", "second": {"answer": "blue", "reason": "It may be."}}',
            CleanedAnswer('{"answer": "red", "reason": "It is."}'),
        ),
        ('{"answer": 3, "reason": "Three cups."}', CleanedAnswer('{"answer": "3", "reason": "Three cups."}')),
        ('{"answer": "dark red", "reason": "x"}', RejectedAnswer("wrong shape")),
        ('{"answer": "red"}', RejectedAnswer("wrong shape")),
        ('{"answer": true, "reason": "x"}', RejectedAnswer("wrong shape")),
    ],
)
def test_a_visual_answer_is_one_word_with_a_reason(raw: str, cleaned: CleanedAnswer | RejectedAnswer) -> None:
    assert clean_answer("vqa", raw) == cleaned


@pytest.mark.parametrize("stage", ["extraction", "update", "generation", "vqa"])
@pytest.mark.parametrize(
    "raw",
    [
        "[" * 100_000,
        '{"facts":' * 60_000,
        '{"a":[' * 60_000,
        "{" * 500_000,
        '{"' * 100_000,
        '{"facts": [' + "9" * 10_000 + "]}",
        "<think>" * 50_000,
        '{"facts": ["' + "\\ud800" * 1000,
        "<|channel|>final" * 20_000,
        FACTS * 5_000 + "</think>",
    ],
    ids=range(10),
)
def test_monstrous_answers_are_refused_quickly(stage: str, raw: str) -> None:
    result = clean_answer(stage, raw)  # type: ignore[arg-type]
    assert isinstance(result, RejectedAnswer) or stage in ("generation", "extraction")


# ------------------------------------------------------------------------------------------------ properties

ANY = st.characters(exclude_categories=())  # lone surrogates too
PIECES = st.sampled_from(
    [
        *("<think>", "</think>", "```json\n", "```", "assistantfinal", "analysisWe", "<|channel|>analysis<|message|>"),
        *("<|channel|>final<|message|>", "<|end|>", "{", "}", "[", '"', "\\", "\\ud800", ",", '{"facts": ["', '"]}'),
        *(FACTS, DRAFT, '{"memory": [{"id": "0", "text": "x", "event": "UPDATE"}]}', '{"memory": [', "\u202e", "\x00"),
        *('{"answer": "red", "reason": "it is"}', "\ud83d", "🦊", "é", "\u2028", "\n", "Sure! "),
    ]
)
NASTY = st.lists(PIECES | st.text(ANY, max_size=8), max_size=12).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(ANY, max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
MEMORIES = st.lists(st.text(max_size=260).map(clean_line).filter(bool), max_size=4, unique=True)
ENTRIES = st.fixed_dictionaries(
    {
        "id": st.integers(-1, 6) | st.integers(0, 6).map(str),
        "event": st.sampled_from(["ADD", "UPDATE", "DELETE", "NONE"]),
        "text": st.text(ANY, max_size=300),
    },
    optional={"old_memory": VALUES},
)


@settings(deadline=None)
@given(NASTY, st.sampled_from(["extraction", "update", "generation", "vqa"]))
@example('{"facts": ["\\ud800"]}', "extraction")
def test_no_output_breaks_cleaning_and_cleaning_is_done_once(raw: str, stage: str) -> None:
    result = clean_answer(stage, raw, old=OLD, facts=["a", "b"])  # type: ignore[arg-type]
    if isinstance(result, CleanedAnswer):
        result.text.encode()  # no half of a surrogate pair is left
        assert result.text.isprintable() or not any(unicodedata.category(c) == "Cc" for c in result.text)
        if stage != "generation":
            assert clean_answer(stage, result.text, old=OLD, facts=["a", "b"]) == result  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(ANY, max_size=300), max_size=12), NASTY.filter(lambda text: "{" not in text))
def test_facts_that_are_kept_are_what_the_grammar_allows(facts: list[str], before: str) -> None:
    result = clean_answer("extraction", f"{before}</think>{json.dumps({'facts': facts})}")
    assert isinstance(result, CleanedAnswer)
    assert is_allowed(extraction_grammar(EXCHANGE, verbatim_only=False), result.text)
    assert parse_facts(result.text) == json.loads(result.text)["facts"]
    if all(fact[:1].isalpha() for fact in facts):
        assert parse_facts(result.text) == parse_facts(json.dumps({"facts": facts}))


@settings(deadline=None, max_examples=60)
@given(st.lists(ENTRIES, max_size=6), MEMORIES, MEMORIES.filter(bool))
def test_updates_that_are_kept_are_what_the_grammar_allows(
    entries: list[dict[str, object]], old: list[str], facts: list[str]
) -> None:
    result = clean_answer("update", json.dumps({"memory": entries}), old=old, facts=facts)
    if isinstance(result, CleanedAnswer):
        assert is_allowed(update_grammar(old, facts, verbatim_only=False), result.text)
        read = parse_update(result.text, old)
        assert read.rejected == 0
        assert len(read.operations) == len(json.loads(result.text)["memory"])


@settings(deadline=None)
@given(VALUES)
def test_no_json_at_all_breaks_cleaning(value: object) -> None:
    for text in (json.dumps(value), json.dumps({"memory": value, "facts": value, "answer": value, "reason": value})):
        for stage in ("extraction", "update", "generation", "vqa"):
            clean_answer(stage, text, old=OLD, facts=["a"])  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.integers(0, len(FACTS) - 1))
def test_an_answer_cut_off_anywhere_is_never_taken_for_a_whole_one(length: int) -> None:
    assert isinstance(clean_answer("extraction", FACTS[:length]), RejectedAnswer)
