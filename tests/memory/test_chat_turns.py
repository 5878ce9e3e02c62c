"""What a message of a chat wants, whom a follow-up is about, and how memories are said back: rules over text."""

from __future__ import annotations

import pytest

from memlora_mlx.memory.chat_turns import is_question, newly_said, refers_back, with_full_stops, with_person
from memlora_mlx.memory.offered import about_asked_person, cited, near_enough, without_talk
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.second_person import to_first_person, to_second_person, without_subject
from memlora_mlx.records import Exchange, Hit, Message, MessageKey, Role, Scope, SourceMessage


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("I live in Vienna", "I live in Vienna."),
        ("I live in Vienna 😊", "I live in Vienna. 😊"),
        ("where do i live", "where do i live?"),
        ("I live in Vienna!", "I live in Vienna!"),
        ("Wow…", "Wow…"),
        ("I live in (the old part of) Vienna (Austria)", "I live in (the old part of) Vienna (Austria)"),
        ("", ""),
    ],
)
def test_a_message_without_a_full_stop_is_read_with_one(typed: str, read: str) -> None:
    exchange = Exchange("k", Scope("me"), (Message("user", typed), Message("assistant", "ok")), None, "chat", 0)
    assert [each.text for each in with_full_stops(exchange).messages] == [read, "ok."]


def said(text: str, score: float = 0.5, role: Role = "user") -> Hit:
    message = SourceMessage(MessageKey(text, 0), Scope("me"), role, text, "User", None, None, None, "chat")
    return Hit(None, message, score)


@pytest.mark.parametrize(
    "text",
    ["Where do I live?", "where do i live", "I moved. Where do I live now?", "tell me where I live", "And what about Tom?",
     "Can you list my cats", "Is Tom a nurse", "住んでいますか？"],
)  # fmt: skip
def test_a_question_is_known_by_its_mark_or_its_beginning(text: str) -> None:
    assert is_question(text)


@pytest.mark.parametrize(
    "text",
    ["I live in Vienna.", "Do I? No: I live in Vienna.", "Can you remember that I like tea?", "What a day!", "Hello there!", "",
     "My sister asked what I do.", "Whatever. I am fine"],
)  # fmt: skip
def test_what_tells_something_is_no_question(text: str) -> None:
    assert not is_question(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("User lives in Vienna", "You live in Vienna"),
        ("User's sister Maya adopted a cat", "Your sister Maya adopted a cat"),
        ("User is a nurse and has two cats", "You are a nurse and have two cats"),
        ("User studies law and likes cats and dogs", "You study law and like cats and dogs"),
        ("User always teaches on Mondays", "You always teach on Mondays"),
        ("User no longer drinks coffee and now drinks tea", "You no longer drink coffee and now drink tea"),
        ("I was born in Cork. I'm a nurse", "You were born in Cork. You are a nurse"),
        ("My mother called me and I've told her", "Your mother called you and you've told her"),
        ("User's brother Tom lives in Graz and works there", "Your brother Tom lives in Graz and works there"),
        ("Tom works as a nurse", "Tom works as a nurse"),
        ("the users of I-95 like it", "The users of I-95 like it"),
    ],
)
def test_a_memory_is_said_back_in_the_second_person(text: str, told: str) -> None:
    assert to_second_person(text) == told


def test_what_is_noted_has_no_subject_if_it_is_about_the_user() -> None:
    assert without_subject("User lives in Vienna") == "lives in Vienna"
    assert without_subject("User's sister is Maya") == "Your sister is Maya"


def test_a_pronoun_is_read_as_the_name_in_the_turn_before() -> None:
    turns: list[tuple[Role, str]] = [("user", "Tom lives in Graz."), ("assistant", "Noted: Tom lives in Graz")]
    assert with_person("And where does he work?", turns) == "And where does Tom work?"
    assert with_person("What is his job?", turns) == "What is Tom's job?"
    assert with_person("Where does Ann work, and he?", turns) == "Where does Ann work, and he?"
    assert with_person("Where does he work?", []) == "Where does he work?"


def test_what_is_far_or_only_talk_is_not_offered() -> None:
    near, far, low = said("I live in Vienna", 0.6), said("I like tea", 0.2), said("Hello there", 0.1)
    known, unknown = PipelineOptions(least_cosine=0.35), PipelineOptions()
    assert near_enough([near, far, low], known) == [near]
    assert near_enough([low], known) == []
    assert near_enough([near, far, low], unknown) == [near, far, low], "the scale of this embedder is not known"
    asked, replied = said("Where do I live?"), said("Not mentioned", role="assistant")
    assert without_talk([asked, near, replied]) == [near]


def test_a_question_about_oneself_is_answered_from_what_is_about_oneself() -> None:
    mine, toms = said("I work at the harbour"), said("Tom works in Graz")
    assert about_asked_person("Where do I work?", [toms, mine]) == [mine]
    assert about_asked_person("Where does Tom work?", [mine, toms]) == [toms]
    assert about_asked_person("Where does Ann work?", [mine, toms]) == [mine, toms]


def test_those_are_cited_whose_words_the_reply_has() -> None:
    mine, toms = said("I work at the harbour"), said("Tom works in Graz")
    assert cited("Where does Tom work?", "He works in Graz.", [mine, toms]) == (toms,)
    assert cited("Where does Tom work?", "I do not know.", [mine, toms]) == ()


@pytest.mark.parametrize(
    "text", ["No, it is green.", "Sorry, I meant Graz.", "Actually it was 1985.", "She is called Minka now."]
)
def test_a_message_that_makes_no_sense_alone_is_read_with_the_turn_before(text: str) -> None:
    assert refers_back(text)


@pytest.mark.parametrize(
    "text", ["I live in Graz.", "No?", "Nobody lives here.", "Itsy lives in Graz.", "No, " + "and on " * 20]
)
def test_a_message_that_says_what_it_is_about_is_read_alone(text: str) -> None:
    assert not refers_back(text)


def test_of_a_message_read_with_the_turn_before_only_its_own_facts_are_kept() -> None:
    before = (Message("user", "My favourite colour is blue.", "User"), Message("assistant", "Noted.", "Assistant"))
    said = Message("user", "No, it is green.", "User")
    read = Exchange("k", Scope("me"), (*before, said), None, "chat", 0, before)
    facts = ["User's favourite colour is green", "User's favourite colour is blue"]
    assert newly_said(read, facts) == facts[:1]
    assert newly_said(Exchange("k", Scope("me"), (said,), None, "chat", 0), facts) == facts


def test_what_was_said_back_is_what_the_user_would_say() -> None:
    assert to_first_person("Your favourite colour is blue.") == "My favourite colour is blue."
    assert to_first_person("You are a nurse and your cat is old.") == "I am a nurse and my cat is old."
    assert to_first_person("Tom lives in Graz.") is None and to_first_person("Youth is short.") is None
