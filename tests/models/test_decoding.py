"""Decoding: always valid, never past its budget, and the same greedy text whatever shortcuts are on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import CORPUS, student_folder

from memlora_mlx.memory.stages import (
    UPDATE_TOKENS,
    clean_line,
    extraction_chat,
    extraction_grammar,
    parse_facts,
    parse_update,
    update_chat,
    update_grammar,
)
from memlora_mlx.models.batching import DecodingBatch
from memlora_mlx.models.decoding import DecodingSequence, GrammarMatcher, PromptLookup
from memlora_mlx.models.experts import ExpertTable
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.student import Student
from memlora_mlx.records import ChatMessages, Exchange, Grammar, Message, Scope

import mlx.core as mx  # isort: skip

TEXT = st.text(max_size=60).filter(str.strip)
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", params=[0, 1, 2])
def student(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Student:
    return load_student(student_folder(tmp_path_factory.mktemp("students") / "tiny", seed=request.param))


def exchange(*texts: str) -> Exchange:
    messages = tuple(Message("user" if i % 2 == 0 else "assistant", text, "Ann") for i, text in enumerate(texts))
    return Exchange("key", Scope("ann"), messages, None, "chat", 0)


def run(
    student: Student, chat: ChatMessages, grammar: Grammar | None, max_tokens: int, **options: Any
) -> DecodingSequence:
    guide = GrammarMatcher(student, grammar) if grammar else None
    row = DecodingSequence(student, None, student.encode(chat), guide=guide, max_tokens=max_tokens, **options)
    batch = DecodingBatch(student, ExpertTable(student.model, {}), 1)
    batch.add(row)
    while batch.is_busy:
        _, failed = batch.step()
        assert not failed
    return row


def test_an_empty_list_needs_to_be_likelier_by_its_handicap(student: Student) -> None:
    """The threshold between nothing and a fact moves; everything after the first fact stays the student's own."""
    chats = [exchange(text, "I see.") for text in CORPUS[:8]]
    found = {}
    for nats in (0.0, 1000.0, -1000.0):
        found[nats] = [
            run(
                student,
                extraction_chat(one),
                extraction_grammar(one, verbatim_only=False, empty_handicap=nats),
                96,
            ).text
            for one in chats
        ]
    assert all(text != '{"facts": []}' for text in found[1000.0])
    assert all(text == '{"facts": []}' for text in found[-1000.0])
    for free, late in zip(found[0.0], found[1000.0], strict=True):
        assert free in ('{"facts": []}', late)


@SLOW
@given(
    old=st.lists(TEXT, max_size=5, unique=True),
    facts=st.lists(TEXT, min_size=1, max_size=3, unique=True),
    budget=st.integers(1, 120),
)
def test_random_weights_under_any_budget_still_write_valid_operations(
    student: Student, old: list[str], facts: list[str], budget: int
) -> None:
    result = run(student, update_chat(old, facts), update_grammar(old, facts, verbatim_only=False), budget)

    answer = json.loads(student.decode(result.tokens))
    ids = [int(entry["id"]) for entry in answer["memory"]]
    assert result.finish == "stop"
    assert ids == sorted(set(ids)) and all(number < len(old) + len(facts) for number in ids)
    for entry in answer["memory"]:
        offered = int(entry["id"]) < len(old)
        assert entry["event"] in (("UPDATE", "DELETE", "NONE") if offered else ("ADD",))
        if entry["event"] == "UPDATE":
            assert entry["old_memory"] == old[int(entry["id"])]
    assert parse_update(student.decode(result.tokens), old).rejected == 0


@SLOW
@given(text=TEXT, budget=st.integers(1, 80))
def test_random_weights_under_any_budget_still_write_valid_facts(student: Student, text: str, budget: int) -> None:
    result = run(
        student, extraction_chat(exchange(text)), extraction_grammar(exchange(text), verbatim_only=False), budget
    )
    assert result.finish == "stop"
    assert isinstance(json.loads(student.decode(result.tokens))["facts"], list)


@SLOW
@given(texts=st.lists(TEXT, min_size=1, max_size=4))
def test_grounded_facts_are_sentences_of_the_exchange(student: Student, texts: list[str]) -> None:
    said = exchange(*texts)
    result = run(student, extraction_chat(said), extraction_grammar(said, verbatim_only=True), 200)
    for fact in parse_facts(student.decode(result.tokens)):
        assert any(fact.removeprefix("Ann: ") in clean_line(text) for text in texts[::2])


def test_a_grounded_update_adds_every_fact_without_asking_the_model(student: Student) -> None:
    old, facts = ["Ann likes tea"], ["Ann moved to Rome", 'She said "ciao"']
    result = run(student, update_chat(old, facts), update_grammar(old, facts, verbatim_only=True), UPDATE_TOKENS)
    done = parse_update(student.decode(result.tokens), old)
    assert [(d.event, d.text) for d in done.operations] == [("ADD", fact) for fact in facts]
    assert result.counters.steps == 0


@SLOW
@given(old=st.lists(TEXT, max_size=4, unique=True), facts=st.lists(TEXT, min_size=1, max_size=3, unique=True))
def test_a_copying_update_takes_its_texts_from_the_prompt(student: Student, old: list[str], facts: list[str]) -> None:
    result = run(student, update_chat(old, facts), update_grammar(old, facts, copy_constrained=True), UPDATE_TOKENS)
    entries = json.loads(student.decode(result.tokens))["memory"]
    added = [entry["text"] for entry in entries if entry["event"] == "ADD"]
    assert added == [fact for fact in facts if fact in added]  # each once, in the order of the facts
    assert [int(entry["id"]) for entry in entries if entry["event"] == "ADD"] == list(
        range(len(old), len(old) + len(added))
    )
    for entry in entries:
        if entry["event"] == "UPDATE":
            assert entry["text"] in facts and entry["old_memory"] == old[int(entry["id"])]
        elif entry["event"] == "DELETE":
            assert entry["text"] in (*facts, old[int(entry["id"])])


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("shortcuts", [{"lookup": 0}, {"lookup": 4}, {"lookup": 8}, {"force": False}, {}])
def test_shortcuts_leave_every_token_as_it_was(student: Student, guided: bool, shortcuts: dict[str, object]) -> None:
    for text in CORPUS:
        old = [text[:40], text[40:90] or "x", "Ann likes tea"]
        facts = ["Ann moved to Rome", text[-30:]]
        chat = update_chat(old, facts)
        grammar = update_grammar(old, facts, verbatim_only=False) if guided else None
        plain = run(student, chat, grammar, 90, lookup=0, force=False)
        fast = run(student, chat, grammar, 90, **shortcuts)
        assert fast.tokens == plain.tokens
        assert fast.finish == plain.finish
        assert fast.counters.steps <= plain.counters.steps


def test_in_bfloat16_shortcuts_differ_at_ties_alone(tmp_path: Path) -> None:
    """Half precision rounds differently for one token and for nine; only a near tie may then fall the other way."""
    student = load_student(student_folder(tmp_path / "tiny"))
    student.model.set_dtype(mx.bfloat16)
    differing = 0
    for text in CORPUS:
        for chat in ((("user", text),), update_chat([text[:40]], ["Ann moved to Rome"])):
            plain = run(student, chat, None, 60, lookup=0, force=False).tokens
            fast = run(student, chat, None, 60).tokens
            if plain == fast:
                continue
            differing += 1
            at = next(i for i, (a, b) in enumerate(zip(plain, fast, strict=False)) if a != b)
            tokens = mx.array([student.encode(chat) + plain[:at]])
            logits = student.logits(student.hidden(tokens, student.make_cache()))[0, -1].astype(mx.float32)
            gap = abs(logits[plain[at]].item() - logits[fast[at]].item())
            assert gap <= 2**-6 * mx.abs(logits).max().item()
    assert differing <= len(CORPUS)  # of twice as many


def test_a_prompt_longer_than_one_prefill_reads_the_same(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = (("user", CORPUS[0] * 3),)
    whole = run(student, chat, None, 30)
    monkeypatch.setattr("memlora_mlx.models.batching.PREFILL_TOKENS", 16)
    assert run(student, chat, None, 30).tokens == whole.tokens


def test_free_text_stops_at_its_budget(student: Student) -> None:
    result = run(student, (("user", "hello"),), None, 7)
    assert len(result.tokens) <= 7 and (result.finish == "length" or len(result.tokens) < 7)


def test_lookup_proposes_what_followed_the_latest_match() -> None:
    lookup = PromptLookup([1, 2, 3, 9, 1, 2, 3, 4, 5, 1, 2, 3])
    assert lookup.propose(4) == [4, 5, 1, 2]
    lookup.extend([7])
    assert lookup.propose(4) == []


def test_a_truncated_real_json_schema_output_never_happens(tmp_path: Path, student: Student) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string", "maxLength": 300}}, "required": ["answer"]}
    grammar = Grammar(
        "json_schema", json.dumps({**schema, "additionalProperties": False}), longest_closing='answer": ""}'
    )
    for budget in (1, 30, 60):
        json.loads(student.decode(run(student, (("user", "go"),), grammar, budget).tokens))
