"""Generated chats with an assistant, and between friends who say little about themselves.

Like the synthetic dialogues, whose statements they use, they are exchanges with known facts and operations. Most of what is
said in them is no fact about the owner: questions and what they take for granted, thoughts, pasted words of other people, long
notes, and an assistant that advises, lists, guesses, errs and quotes. A seed always gives the same chat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeVar

from memlora_mlx.distill.chat_phrases import ChatPhrases, ForeignFact, ForeignPhrases, load_chat_phrases
from memlora_mlx.distill.phrases import Attribute, load_phrases, select_phrases
from memlora_mlx.distill.synthetic_dialogues import (
    DialogueStep,
    DialogueWriter,
    Fact,
    FilledPhrase,
    SyntheticDialogue,
    filled,
)
from memlora_mlx.records import Role

T = TypeVar("T")
Turns = tuple[tuple[Role, str], ...]

FOREIGN_SHARE = 0.15  # of chats, all of them with an assistant
FRIENDS_SHARE = 0.25  # of chats in English
FACT_COUNTS = {1: 0.7, 2: 0.22, 3: 0.08}  # facts of a step that has any
ASSISTANT_STEPS = {
    "tell": 0.24,
    "tell_and_ask": 0.16,
    "tell_alone": 0.1,
    "tell_in_a_long_message": 0.05,
    "correct_a_slip": 0.05,
    "ask": 0.11,
    "muse": 0.07,
    "paste": 0.07,
    "set_a_task": 0.06,
    "follow_up": 0.05,
    "send_notes": 0.04,
}
FRIEND_STEPS = {"tell": 0.3, "correct_a_slip": 0.03, "muse": 0.12, "chatter": 0.55}
REPLY_WORDS = (5, 15, 30, 60, 100, 140)  # how long replies want to be, each as often; a sentence more may come
LOWER_CASED = 0.12  # share of the owner's messages without capitals


def generate_chat(seed: int, *, steps: int = 12, held_out: bool = False) -> SyntheticDialogue:
    """The chat of a seed. With `held_out` it uses only the phrases that no training chat uses."""
    name = f"chat-held-{seed}" if held_out else f"chat-{seed}"  # the names are seeds: never change them
    random = Random(name)
    phrases = load_chat_phrases()
    if random.random() < FOREIGN_SHARE:
        foreign = _ForeignWriter(random, random.choice(phrases.languages), held_out)
        return SyntheticDialogue(seed, name, None, None, tuple(foreign.step() for _ in range(steps)))
    names = load_phrases().first_names
    owner, other = random.sample(names, 2) if random.random() < FRIENDS_SHARE else (None, None)
    writer = _ChatWriter(random, phrases, DialogueWriter(random, load_phrases(), owner, held_out))
    return SyntheticDialogue(seed, name, owner, other, tuple(writer.step() for _ in range(steps)))


@dataclass(slots=True)
class _ChatWriter:
    """Writes a chat in English step by step. The order of the random draws is part of the seed: keep it."""

    random: Random
    phrases: ChatPhrases
    statements: DialogueWriter

    def step(self) -> DialogueStep:
        kinds = FRIEND_STEPS if self.statements.owner else ASSISTANT_STEPS
        [kind] = self.random.choices(list(kinds), list(kinds.values()))
        step: DialogueStep = getattr(self, f"_{kind}")()
        if self.statements.owner and self.random.random() < 0.5:  # the friend speaks first
            step = replace(step, turns=(*step.turns[::-1],))
        if not self.statements.owner and self.random.random() < LOWER_CASED:
            step = replace(
                step, turns=tuple((role, _lower(text) if role == "user" else text) for role, text in step.turns)
            )
        return step

    # ------------------------------------------------------------------------------------- steps with facts

    def _tell(self) -> DialogueStep:
        facts, said = self._facts()
        if len(said) > 1 and self.random.random() < 0.25:  # a message for each fact
            users: Turns = tuple(("user", filled(one.phrase.said, one.slots)) for one in said)
        else:
            users = (("user", self.statements.turn(said)),)
        return DialogueStep((*users, ("assistant", self._reply(said))), facts)

    def _tell_and_ask(self) -> DialogueStep:
        [fact], [said] = self._facts(1)
        sentence = filled(said.phrase.said, said.slots, after=",").rstrip(".!")
        if fact.event in ("ADD", "NONE") and not set(".!?:") & set(sentence) and self.random.random() < 0.5:
            text = _capital(self._choose(self.phrases.requests_with_statement).format(s=sentence))
        else:
            text = f"{self.statements.turn([said])} {self._choose(self.phrases.requests)}"
        return DialogueStep((("user", text), ("assistant", self._reply([said]))), (fact,))

    def _tell_alone(self) -> DialogueStep:
        """One message that nobody answers; now and then one that states nothing."""
        if self.random.random() < 0.25:
            return DialogueStep((("user", self._fill(self._choose(self.phrases.questions, self.phrases.musings))),), ())
        facts, said = self._facts()
        bare = " ".join(filled(one.phrase.said, one.slots) for one in said)
        return DialogueStep((("user", bare if self.random.random() < 0.6 else self.statements.turn(said)),), facts)

    def _tell_in_a_long_message(self) -> DialogueStep:
        facts, said = self._facts(1)
        pieces = self._fillers()
        pieces.insert(self.random.randrange(len(pieces) + 1), self.statements.turn(said))
        return DialogueStep((("user", self._notes(pieces)), ("assistant", self._reply(said))), facts)

    def _correct_a_slip(self) -> DialogueStep:
        [fact], [said] = self._facts(1)
        right = filled(said.phrase.said, said.slots)
        if fact.event == "ADD":
            attribute = self.statements.known[-1].attribute
            other = self.random.choice([value for value in attribute.values if value != said.slots["v"]])
            wrong = filled(said.phrase.said, {**said.slots, "v": other})
            right = self._choose(self.phrases.slips).format(wrong=wrong, right=right)
        return DialogueStep((("user", right), ("assistant", self._reply([said]))), (fact,))

    # ---------------------------------------------------------------------------------- steps without facts

    def _ask(self) -> DialogueStep:
        return self._without_facts(self._fill(self._choose(self.phrases.questions)))

    def _muse(self) -> DialogueStep:
        return self._without_facts(self._fill(self._choose(self.phrases.musings)))

    def _follow_up(self) -> DialogueStep:
        return self._without_facts(self._choose(self.phrases.follow_ups))

    def _set_a_task(self) -> DialogueStep:
        task = self._choose(self.phrases.tasks)
        values = _Values(self.random, self.statements)
        values |= {name: values[name] for name in ("home city", "pets", "language", "first name", "hobbies")}
        return DialogueStep((("user", task.said.format_map(values)), ("assistant", task.answer.format_map(values))), ())

    def _paste(self) -> DialogueStep:
        """Words of somebody else, now and then beside a fact about the owner."""
        quoted = " ".join(self._statement_of_another() for _ in range(self.random.choice((1, 1, 2, 3))))
        pasted = self._fill(self._choose(self.phrases.pastes), q=quoted)
        if self.random.random() >= 0.25:
            return self._without_facts(pasted)
        facts, said = self._facts(1)
        return DialogueStep(
            (("user", f"{self.statements.turn(said)} {pasted}"), ("assistant", self._reply(said))), facts
        )

    def _send_notes(self) -> DialogueStep:
        return self._without_facts(self._notes(self._fillers()))

    def _chatter(self) -> DialogueStep:
        """Friends who say nothing about the owner; the other one may tell something."""
        asides = self._choices(self.phrases.friend_asides, self.random.choice((1, 2, 2, 3)))
        return self._without_facts(" ".join(asides))

    def _without_facts(self, text: str) -> DialogueStep:
        return DialogueStep((("user", text), ("assistant", self._reply(()))), ())

    # --------------------------------------------------------------------------------------------- parts

    def _facts(self, count: int | None = None) -> tuple[tuple[Fact, ...], list[FilledPhrase]]:
        if count is None:
            [count] = self.random.choices(list(FACT_COUNTS), list(FACT_COUNTS.values()))
        touched = set[Attribute]()
        drawn = [self.statements.next_change(touched) for _ in range(count)]
        return tuple(fact for fact, _ in drawn), [said for _, said in drawn]

    def _reply(self, said: Sequence[FilledPhrase]) -> str:
        if self.statements.owner:
            return self._friends_reply()
        words = self.random.choice(REPLY_WORDS)
        if words == REPLY_WORDS[0]:
            return self.statements.reply()
        parts = [self._choose(self.phrases.acknowledgements)]
        if said and self.random.random() < 0.3:
            parts.append(_capital(self._choose(self.phrases.echoes).format(v=self.random.choice(said).slots["v"])))
        pieces = self._pieces_of_advice()
        while sum(len(part.split()) for part in parts) < words and pieces:
            parts.append(self._fill(pieces.pop()))
        if self.random.random() < 0.25:
            items = self._choices(self.phrases.list_items, self.random.randint(2, 5))
            entries = (f"\n{number}. {self._fill(item)}" for number, item in enumerate(items, 1))
            parts.insert(self.random.randint(1, len(parts)), "".join(entries) + "\n")
        if self.random.random() < 0.5:
            parts.append(self._fill(self._choose(self.phrases.offers)))
        return " ".join(parts).replace(" \n", "\n").replace("\n ", "\n").strip()

    def _pieces_of_advice(self) -> list[str]:
        """What a reply may say, each once: mostly advice, and some guesses, claims and quotations."""
        shares = (
            (self.phrases.advice, 12),
            (self.phrases.guesses, 4),
            (self.phrases.claims, 2),
            (self.phrases.quotations, 3),
        )
        pieces = [piece for phrases, count in shares for piece in self._choices(phrases, count)]
        self.random.shuffle(pieces)
        return pieces

    def _friends_reply(self) -> str:
        """What the other friend says: asides, and often statements about themselves."""
        parts = self._choices(self.phrases.friend_asides, self.random.choice((0, 1, 1, 2)))
        parts += [self._statement_of_another() for _ in range(self.random.choice((0, 1, 1, 2)))]
        self.random.shuffle(parts)
        return " ".join(parts) or self.statements.reply()

    def _statement_of_another(self) -> str:
        attribute = self.random.choice(self.statements.phrases.attributes)
        return filled(self._choose(attribute.state).said, {"v": self.random.choice(attribute.values)})

    def _fillers(self) -> list[str]:
        return self._choices(self.phrases.fillers, self.random.randint(3, 9))

    def _notes(self, pieces: Sequence[str]) -> str:
        request = [self._choose(self.phrases.filler_requests)] if self.random.random() < 0.7 else []
        return self.random.choice((" ", "\n")).join([*pieces, *request])

    def _fill(self, template: str, **slots: str) -> str:
        return _capital(template.format_map(_Values(self.random, self.statements, **slots)))

    def _choose(self, *lists: Sequence[T]) -> T:
        return self.statements.choose(*lists)

    def _choices(self, phrases: Sequence[str], count: int) -> list[str]:
        free = select_phrases(phrases, self.statements.held_out)
        return self.random.sample(free, min(count, len(free)))


class _Values(dict[str, str]):
    """Texts for slots: those given, and for the name of an attribute any of its values, each once."""

    def __init__(self, random: Random, statements: DialogueWriter, **slots: str) -> None:
        super().__init__(slots)
        self._random, self._phrases = random, statements.phrases
        self._used = set[str]()

    def __missing__(self, name: str) -> str:
        attributes = self._phrases.attributes
        values = (
            self._phrases.first_names if name == "first name" else next(a.values for a in attributes if a.name == name)
        )
        value = self._random.choice([value for value in values if value not in self._used])
        self._used.add(value)
        return value


@dataclass(slots=True)
class _ForeignWriter:
    """Writes a simple chat in another language. Everything it states is new."""

    random: Random
    phrases: ForeignPhrases
    held_out: bool
    said: set[ForeignFact] = field(default_factory=set)

    def step(self) -> DialogueStep:
        new = [fact for fact in select_phrases(self.phrases.facts, self.held_out) if fact not in self.said]
        reply = " ".join(self._some(self.phrases.replies, self.random.choice((1, 1, 2, 3))))
        answered: Turns = (("assistant", reply),) if self.random.random() < 0.8 else ()
        if not new or self.random.random() < 0.4:
            value = self.random.choice(self.phrases.facts[0].values)
            [question] = self._some(self.phrases.questions, 1)
            return DialogueStep((("user", question.format(x=value)), *answered), ())
        chosen = self.random.sample(new, min(len(new), self.random.choice((1, 1, 2))))
        self.said.update(chosen)
        values = [self.random.choice(fact.values) for fact in chosen]
        parts = self._some(self.phrases.openers, 1) if self.random.random() < 0.4 else []
        for fact, value in zip(chosen, values, strict=True):
            parts.append(filled(fact.said, {"v": value}, after=parts[-1] if parts else "."))
        if self.random.random() < 0.2:
            parts += [question.format(x=values[0]) for question in self._some(self.phrases.questions, 1)]
        facts = (Fact(fact.fact.format(v=value), "ADD", None) for fact, value in zip(chosen, values, strict=True))
        return DialogueStep((("user", " ".join(parts)), *answered), tuple(facts))

    def _some(self, phrases: Sequence[str], count: int) -> list[str]:
        free = select_phrases(phrases, self.held_out)
        return self.random.sample(free, min(count, len(free)))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _lower(text: str) -> str:
    return text.lower().removesuffix(".")
