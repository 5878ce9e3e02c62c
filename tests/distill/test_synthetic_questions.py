"""Questions about synthetic talks: every answer follows from what was said, and no held-out wording is trained on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tiny_models import embedder_folder

from memlora_mlx import temporal
from memlora_mlx.conversations.splits import SPLITS
from memlora_mlx.distill import synthetic_teacher
from memlora_mlx.distill.examples import read_examples
from memlora_mlx.distill.local_teachers import make_examples
from memlora_mlx.distill.phrases import Attribute, load_phrases, select_phrases
from memlora_mlx.distill.question_phrases import (
    Milestone,
    Questions,
    addressed,
    load_questions,
    parse_milestones,
    parse_questions,
)
from memlora_mlx.distill.replay import ANSWER_LINES
from memlora_mlx.distill.synthetic_dialogues import generate_dialogue
from memlora_mlx.distill.synthetic_questions import SyntheticQuestion, generate_questions
from memlora_mlx.distill.synthetic_talks import SyntheticTalk, generate_talk, message_ref, talk_exchanges
from memlora_mlx.memory.abstention import NOT_MENTIONED
from memlora_mlx.memory.evidence import with_dates
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import Settings

PHRASES, QUESTIONS = load_phrases(), load_questions()
Asked = tuple[SyntheticTalk, SyntheticQuestion]


@cache
def talks(held_out: bool = False) -> list[SyntheticTalk]:
    return [generate_talk(seed, held_out=held_out) for seed in range(80)]


@cache
def asked(held_out: bool = False) -> list[Asked]:
    return [(talk, question) for talk in talks(held_out) for question in generate_questions(talk, held_out=held_out)]


def words_of(talk: SyntheticTalk, ref: str) -> str:
    """The message that `ref` names, with and without the dates that evidence puts into it and behind it."""
    [message] = [message for exchange in talk_exchanges(talk) for message in exchange.messages if message.ref == ref]
    assert message.said_at is not None
    day = message.said_at.date()
    return f"{with_dates(message.text, day)} ({day.day} {day:%B %Y}) {message.text}"


def wordings(questions: Questions) -> Iterator[tuple[str, ...]]:
    yield from (lines for lines in (questions.ask, questions.check, questions.count, questions.when) if lines)


# ------------------------------------------------------------------------------------------------ the files


@pytest.mark.parametrize("attribute", PHRASES.attributes, ids=lambda attribute: attribute.name)
def test_every_attribute_has_questions_in_several_wordings(attribute: Attribute) -> None:
    questions = QUESTIONS.of(attribute)
    assert questions.check and bool(questions.when) == (attribute.kind == "event")
    assert questions.ask or attribute.name == "belongings"  # "what does she own?" has too many answers
    for lines in wordings(questions):
        assert len(set(lines)) == len(lines) >= 3
    assert all("{v}" in line for lines in (questions.check, questions.when) for line in lines)
    assert not any("{v}" in line for lines in (questions.ask, questions.count) for line in lines)


@pytest.mark.parametrize("milestone", QUESTIONS.milestones, ids=lambda milestone: milestone.name)
def test_every_milestone_can_be_told_and_asked_about(milestone: Milestone) -> None:
    assert len(milestone.values) >= 5 and len(milestone.said) >= 3 and len(milestone.questions.when) >= 3
    assert set(milestone.not_with) <= {attribute.name for attribute in PHRASES.attributes}
    assert not any("{v}" in line for line in milestone.questions.ask)
    for said in milestone.said:
        for value in milestone.values:
            [found] = temporal.find(said.format(v=value, t="last week"), talks()[0].steps[0].day)
            assert found.granularity == "week"  # nothing else in it is read as a time


def test_all_questions_are_questions_for_both_persons() -> None:
    files = (*QUESTIONS.own.values(), *QUESTIONS.relatives.values(), *(m.questions for m in QUESTIONS.milestones))
    for line in {line for questions in files for lines in wordings(questions) for line in lines}:
        third = addressed(line, "Ana", v="VALUE", r="aunt")
        first = addressed(line, None, v="VALUE", r="aunt")
        assert "Ana" in third and not re.search(r"[{}]", third + first) and third.endswith("?") and first.endswith("?")
        assert re.search(r"\b(I|me|my|My|mine)\b", first) and "Ana" not in first
        assert not re.search(r"\bI (is|has|does|was [a-z]+ed by)\b|\b(does|has|is|Is|Does|Has) I\b", first), first


@pytest.mark.parametrize(
    ("wording", "first"),
    [
        ("Where does {n} live?", "Where do I live?"),
        ("Is {n}'s car {v}?", "Is my car a Fiat?"),
        ("Is {n} allergic to {v}?", "Am I allergic to a Fiat?"),
        ("What is the number of countries that {n} has seen?", "What is the number of countries that I have seen?"),
        ("Is {v} a friend of {n}?", "Is a Fiat a friend of mine?"),
        ("Who shares a flat with {n}?", "Who shares a flat with me?"),
    ],
)
def test_the_user_of_an_assistant_asks_about_themselves(wording: str, first: str) -> None:
    assert addressed(wording, None, v="a Fiat") == first


def test_a_mistake_in_a_file_of_questions_is_named_with_its_place() -> None:
    with pytest.raises(ValueError, match="q.yaml, car: 'What {x}\\?' must be a question about {n}"):
        parse_questions("q.yaml", "car:\n  ask: |\n    What {x}?\n")
    with pytest.raises(ValueError, match="q.yaml, car: unknown keys: asks"):
        parse_questions("q.yaml", "car:\n  asks: |\n    What does {n} drive?\n")
    with pytest.raises(ValueError, match="q.yaml, trip: needs `times`"):
        parse_milestones("q.yaml", "trip:\n  times: soon\n  values: a, b\n  said: I went {t} to {v}.\n")
    with pytest.raises(ValueError, match=r"'I went.' must have the slots t and v"):
        parse_milestones("q.yaml", "trip:\n  times: past\n  values: a, b\n  said: I went.\n")


# ------------------------------------------------------------------------------------------------ talks


def test_a_talk_holds_the_dialogue_of_its_seed_with_days_that_go_on() -> None:
    for seed, talk in enumerate(talks()):
        dialogue = generate_dialogue(seed, steps=synthetic_teacher.STEPS)
        rest = iter(talk.steps)  # the dialogue's steps, in order, with others between them
        assert all(any((s.turns[0], s.facts) == (step.turns[0], step.facts) for s in rest) for step in dialogue.steps)
        assert len(talk.steps) > len(dialogue.steps)
        days = [step.day for step in talk.steps]
        assert days == sorted(set(days)) and (talk.name, talk.owner) == (dialogue.name, dialogue.owner)
        assert talk == generate_talk(seed)
    gaps = {(b.day - a.day).days for talk in talks() for a, b in zip(talk.steps, talk.steps[1:], strict=False)}
    assert len(gaps) > 5 and len({talk.steps[0].day.year for talk in talks()}) > 5


def test_nobody_contradicts_themselves() -> None:
    for talk in talks() + talks(held_out=True):
        for role in ("user", "assistant"):
            own = [saying for saying in talk.sayings if saying.role == role and saying.change == "add"]
            told: Counter[str] = Counter(saying.subject.name for saying in own)
            for saying in own:
                if isinstance(saying.subject, Milestone):
                    assert told[saying.subject.name] == 1 and set(told).isdisjoint(saying.subject.not_with)


def test_what_is_stated_stands_in_its_message() -> None:
    for talk in talks() + talks(held_out=True):
        messages = {m.ref: m.text for exchange in talk_exchanges(talk) for m in exchange.messages}
        for saying in talk.sayings:
            assert saying.said.rstrip(".!").casefold() in messages[message_ref(saying.step, saying.role)].casefold()


def test_dates_are_those_that_temporal_finds() -> None:
    forms: Counter[str] = Counter()
    for talk in talks():
        for saying in talk.sayings:
            found = temporal.find(saying.said, saying.day)
            expected = temporal.written(found[0].span) if found else saying.day_text
            assert temporal.same_date(saying.date_answer, expected) in ("day", "span")
            forms[re.sub("[0-9]+", "0", re.sub(r"\b[A-Z][a-z]+(?= 0| [0-9])", "M", saying.date_answer))] += 1
    assert {"0 M 0", "M 0", "0", "The week before 0 M 0", "The weekend before 0 M 0"} <= set(forms)


# ------------------------------------------------------------------------------------------------ answers


@pytest.mark.parametrize("held_out", [False, True])
def test_an_answer_stands_in_its_evidence(held_out: bool) -> None:
    for talk, question in asked(held_out):
        if question.kind == "unanswerable":
            assert question.answer == NOT_MENTIONED and not question.evidence
            continue
        words = " ".join(words_of(talk, ref) for ref in question.evidence).casefold()
        assert question.evidence and all(shown.casefold() in words for shown in question.shown)
        if question.kind in ("fact", "changed", "relative", "two hops", "list", "milestone"):
            assert all(part.casefold() in words for part in question.answer.split(", "))
        elif question.kind == "when" and " before " not in question.answer:
            assert question.answer.casefold() in words
        elif question.kind == "count":
            assert int(question.answer) == len(question.shown)
        elif question.kind == "check":
            assert question.answer in ("Yes", "No")


def test_a_value_that_was_replaced_or_has_ended_is_never_the_answer() -> None:
    seen: Counter[str] = Counter()
    for talk, question in asked():
        if question.kind not in ("fact", "changed", "relative", "list"):
            continue
        [ref, *_] = question.evidence
        role = ref.partition("/")[2]
        own = [s for s in talk.sayings if s.role == role and s.subject in subjects(talk, question)]
        alive: list[str] = []
        for saying in own:
            if saying.change == "change":
                alive.remove(str(saying.old))
            if saying.change in ("withdraw", "forget"):
                alive.remove(saying.value)
            elif saying.value not in alive:
                alive.append(saying.value)
        assert sorted(question.answer.split(", ")) == sorted(alive)
        seen[question.kind] += 1
    assert min(seen[kind] for kind in ("fact", "changed", "relative", "list")) > 20


def subjects(talk: SyntheticTalk, question: SyntheticQuestion) -> set[Attribute]:
    """What the evidence of a question is about: the one subject that has the question among its wordings."""
    found = set()
    for saying in talk.sayings:
        if saying.ref in question.evidence and isinstance(saying.subject, Attribute):
            texts = {addressed(line, talk.name_of(saying.role)) for line in QUESTIONS.of(saying.subject).ask}
            found |= {saying.subject} if question.text in texts else set()
    assert len(found) == 1
    return found


def test_a_question_of_two_hops_needs_two_messages() -> None:
    hops = [(talk, question) for talk, question in asked() if question.kind == "two hops"]
    assert len(hops) > 20
    for talk, question in hops:
        [told, named] = [s for ref in question.evidence for s in talk.sayings if s.ref == ref]
        relative = named.subject.name.removesuffix("'s name")
        assert named.value in told.said and relative in question.text and relative not in told.said
        assert question.answer == told.value and named.value not in question.text


def test_what_was_not_said_is_not_mentioned() -> None:
    for talk, question in asked():
        if question.kind != "unanswerable" or question.forgotten is not None:
            continue
        for saying in talk.sayings:
            name = talk.name_of(saying.role)
            if isinstance(saying.subject, Milestone):
                lines = [*saying.subject.questions.ask, *saying.subject.questions.when]
            else:
                lines = [*QUESTIONS.of(saying.subject).ask, *QUESTIONS.of(saying.subject).when]
            assert question.text not in {addressed(line, name, v=saying.value) for line in lines}


def test_a_fifth_of_the_questions_has_no_answer_and_all_kinds_occur() -> None:
    for held_out in (False, True):
        kinds = Counter(question.kind for _, question in asked(held_out))
        assert kinds["unanswerable"] / kinds.total() == pytest.approx(0.2, abs=0.03)
        assert len(kinds) == 10 and min(kinds.values()) > 0.01 * kinds.total()
        assert any(question.forgotten for _, question in asked(held_out))
        checks = Counter(question.answer for _, question in asked(held_out) if question.kind == "check")
        assert 0.3 < checks["Yes"] / checks.total() < 0.7
    names = [talk.owner for talk, _ in asked()]
    assert 0.1 < names.count(None) / len(names) < 0.5


def test_no_held_out_wording_is_used_for_training() -> None:
    for lines in (lines for attribute in PHRASES.attributes for lines in wordings(QUESTIONS.of(attribute))):
        assert set(select_phrases(lines, held_out=False)).isdisjoint(select_phrases(lines, held_out=True))
    mine = {question.text for talk, question in asked() if talk.owner is None}
    theirs = {question.text for talk, question in asked(held_out=True) if talk.owner is None}
    assert mine and theirs and mine.isdisjoint(theirs)


# ------------------------------------------------------------------------------------------------ examples


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    home = tmp_path_factory.mktemp("home")
    embedder = embedder_folder(Path(home) / "models" / "tiny-embedder")
    with Workspace(Settings(home=home, student="none-here", embedder=str(embedder))) as opened:
        yield opened


def test_examples_have_the_prompts_of_the_product_and_answers_that_follow_from_them(workspace: Workspace) -> None:
    made = make_examples("synthetic", "generation", workspace, SPLITS["paper"], count=4)
    rows = list(read_examples(made.path))
    assert made.examples == len(rows) > 100 and {row.split for row in rows} == {"train", "validation"}
    for row in rows:
        [(role, prompt)] = row.chat
        assert role == "user" and prompt.startswith("Answer the question from these memories in a few words.")
        lines = prompt.partition("\n\n")[2].partition("\n\nQuestion: ")[0].splitlines()
        assert 1 <= len(lines) <= max(ANSWER_LINES)
        assert all(re.fullmatch(r"[A-Z]?[A-Za-z]+: .+ \([0-9]+ [A-Z][a-z]+ [0-9]{4}\)", line) for line in lines)
        if row.answer not in (NOT_MENTIONED, "Yes", "No") and not re.fullmatch("[0-9]|The week.*", row.answer):
            assert all(part.casefold() in prompt.casefold() for part in row.answer.split(", "))
    assert 0.1 < sum(row.answer == NOT_MENTIONED for row in rows) / len(rows) < 0.3
    before = made.path.read_bytes()
    assert make_examples("synthetic", "generation", workspace, SPLITS["paper"], count=4).path.read_bytes() == before
