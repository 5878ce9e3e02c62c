"""The teacher `synthetic`, which needs no server: synthetic dialogues, whose correct operations are known.

Each dialogue is replayed through a real store, so the update prompts contain what retrieval finds, in its order.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np

from memlora_mlx.conversations.splits import Split
from memlora_mlx.distill.assistant_chats import generate_chat
from memlora_mlx.distill.examples import TrainingExample
from memlora_mlx.distill.replay import ANSWER_LINES, ReplayStore
from memlora_mlx.distill.synthetic_dialogues import DialogueStep, Fact, SyntheticDialogue, generate_dialogue
from memlora_mlx.distill.synthetic_questions import generate_questions
from memlora_mlx.distill.synthetic_talks import SyntheticTalk, generate_talk, talk_exchanges
from memlora_mlx.memory import stages
from memlora_mlx.records import Exchange, Message, Scope

TEACHER = "synthetic"
STEPS = 16  # of one dialogue
CHAT_STEPS = 32  # of one chat; about half of them state nothing
VALIDATION_SEED = 1_000_000  # dialogues from this seed on are for validation, and from twice this seed on for testing
_BEGIN = datetime(2024, 1, 1, 9)


def synthetic_extraction_examples(dialogue: SyntheticDialogue, split: Split) -> Iterator[TrainingExample]:
    """For each exchange, the facts that it states about its owner."""
    for number, step in enumerate(dialogue.steps):
        answer = json.dumps({"facts": [fact.text for fact in step.facts]}, ensure_ascii=False)
        exchange = dialogue_exchange(dialogue, number, step)
        yield TrainingExample(
            "extraction", stages.extraction_chat(exchange), answer, TEACHER, dialogue.name, str(number), split
        )


def synthetic_update_examples(
    dialogue: SyntheticDialogue, store: ReplayStore, split: Split
) -> Iterator[TrainingExample]:
    """For each fact, the correct operations on the memories that retrieval finds for it.

    If retrieval does not find the memory that a fact changes or withdraws, no correct answer is possible, and the rest of
    the dialogue is left out.

    Args:
        store: without memories of the dialogue's owner; afterwards it holds the memories of the dialogue.
    """
    vectors = iter(store.embed([fact.text for step in dialogue.steps for fact in step.facts]))
    for number, step in enumerate(dialogue.steps):
        exchange = dialogue_exchange(dialogue, number, step)
        if not step.facts:
            store.keep(exchange)
            continue
        of_step = np.stack(list(itertools.islice(vectors, len(step.facts))))
        together = store.related(exchange.owner, [fact.text for fact in step.facts], of_step)
        apart = [
            store.related(exchange.owner, [fact.text], vector[np.newaxis])
            for fact, vector in zip(step.facts, of_step, strict=True)
        ]
        answers = [
            expected_update_answer([fact], [memory.text for memory in related.memories])
            for fact, related in zip(step.facts, apart, strict=True)
        ]
        answer = expected_update_answer(step.facts, [memory.text for memory in together.memories])
        if answer is None or None in answers:
            return
        for i, (related, own) in enumerate(zip(apart, answers, strict=True)):
            if (
                related.memories or dialogue.seed % 4 == 0
            ):  # every dialogue begins without memories, and such examples are easy
                yield TrainingExample(
                    "update", store.prompt(related), str(own), TEACHER, dialogue.name, f"{number}/{i}", split
                )
        store.apply(exchange, together, answer)


def synthetic_generation_examples(
    talk: SyntheticTalk, store: ReplayStore, split: Split, *, held_out: bool = False
) -> Iterator[TrainingExample]:
    """Questions about a talk, asked at its end, with what the search finds for them.

    A question is left out if what the search finds does not hold the whole answer, or if it still holds what the owner
    asked to forget.

    Args:
        store: without memories of the talk's owner; afterwards it holds the memories of the talk.
    """
    for exchange, step in zip(talk_exchanges(talk), talk.steps, strict=True):
        if not step.facts:
            store.keep(exchange)
            continue
        related = store.related(exchange.owner, [fact.text for fact in step.facts])
        answer = expected_update_answer(step.facts, [memory.text for memory in related.memories])
        if answer is None:  # the memory that it changes was not found: the exchange is only heard
            store.keep(exchange)
        else:
            store.apply(exchange, related, answer)
    for number, question in enumerate(generate_questions(talk, held_out=held_out)):
        lines = ANSWER_LINES[number % len(ANSWER_LINES)]
        recalled = store.evidence(question.text, [talk.scope], lines, needed=question.evidence)
        if recalled is not None and question.follows_from(recalled):
            chat = stages.answer_chat(question.text, recalled)
            yield TrainingExample("generation", chat, question.answer, TEACHER, talk.name, f"question {number}", split)


def expected_update_answer(facts: Sequence[Fact], offered: Sequence[str]) -> str | None:
    """The correct update answer; None if a memory that the facts change is not among those offered."""
    entries: list[tuple[int, dict[str, str]]] = []
    for fact in facts:
        if fact.event == "ADD":
            entries.append((len(offered), {"text": fact.text, "event": "ADD"}))
        elif fact.replaces is None or fact.replaces not in offered:
            return None
        elif fact.event == "UPDATE":
            change = {"text": fact.text, "event": "UPDATE", "old_memory": fact.replaces}
            entries.append((offered.index(fact.replaces), change))
        elif fact.event == "DELETE":
            entries.append((offered.index(fact.replaces), {"text": fact.replaces, "event": "DELETE"}))
    entries.sort(key=lambda entry: entry[0])  # the grammar's order: offered ids first, then added memories
    added = 0
    for position, entry in entries:
        entry_id = position
        if entry["event"] == "ADD":
            entry_id, added = position + added, added + 1
        entry |= {"id": str(entry_id)}
    memory = [{"id": entry.pop("id"), **entry} for _, entry in entries]
    return json.dumps({"memory": memory}, ensure_ascii=False)


def generate_dialogues(
    count: int, split: Split, *, seed: int = 0, held_out: bool = False
) -> Iterator[SyntheticDialogue]:
    """Synthetic dialogues of a split. Splits and seeds from 0 to 9 have no dialogue in common."""
    for number in _numbers(count, split, seed):
        yield generate_dialogue(number, steps=STEPS, held_out=held_out)


def generate_chats(count: int, split: Split, *, seed: int = 0, held_out: bool = False) -> Iterator[SyntheticDialogue]:
    """Generated chats of a split: as `generate_dialogues`, with much that is no fact."""
    for number in _numbers(count, split, seed):
        yield generate_chat(number, steps=CHAT_STEPS, held_out=held_out)


def generate_talks(count: int, split: Split, *, seed: int = 0, held_out: bool = False) -> Iterator[SyntheticTalk]:
    """The same dialogues as talks, which questions are asked about."""
    for number in _numbers(count, split, seed):
        yield generate_talk(number, steps=STEPS, held_out=held_out)


def _numbers(count: int, split: Split, seed: int) -> range:
    begin = {"train": 0, "validation": VALIDATION_SEED, "test": 2 * VALIDATION_SEED}[split]
    first = begin + 100_000 * (seed % 10) + 3 * VALIDATION_SEED * (seed // 10)
    return range(first, first + count)


def dialogue_exchange(dialogue: SyntheticDialogue, number: int, step: DialogueStep) -> Exchange:
    """A step of a dialogue as the exchange that a memory would get."""
    said_at = _BEGIN + timedelta(days=3 * number)
    names = {"user": dialogue.owner, "assistant": dialogue.other}
    messages = tuple(
        Message("user" if role == "user" else "assistant", text, names[role], said_at) for role, text in step.turns
    )
    owner = Scope(user_id=f"{dialogue.owner or 'User'} {dialogue.name}")
    return Exchange(f"{dialogue.name}/{number}", owner, messages, said_at, dialogue.name, number)
