"""The stages of the memory: what each is asked, what it may answer, and how the answer is read.

The extraction and update prompts are the paper's short ones, word for word: trained
experts expect them, so none is edited without training its expert anew. The generation prompt is ours.

A stage writes under a grammar, so its answer always parses, and an update can only touch the memories it was offered.
A *grounded* grammar is for students that do not follow these prompts untrained: facts are then whole sentences of the
exchange, and nothing that is stored may be changed or removed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from memlora_mlx.records import Event, Exchange, Grammar, Message, Role

Chat = tuple[tuple[Role, str], ...]

MAX_FACTS = 8  # of one exchange; two messages seldom hold more
MAX_TEXT = 240  # characters of one fact or memory
EXTRACTION_TOKENS = 256
UPDATE_TOKENS = 512
ANSWER_TOKENS = 128
LOOK_TOKENS = 96
MAX_WORD = 30  # characters of a one-word answer

_EXTRACTION = (
    "Extract and organize relevant details. Response Format: Strictly JSON: "
    '{{"facts": ["fact1", "fact2"]}}.\n\nInput:\n{exchange}'
)
_UPDATE = (
    'Old memories:{old}. New retrieved facts: {facts}. Return memory update in JSON format: {{"memory" : '
    '[{{"id" : "<ID of the memory>", "text" : "<Content of the memory>", "event" : "<Operation, among ADD, UPDATE, '
    'DELETE, or NONE>", "old_memory" : "<Old memory content, only if UPDATE event>"}}]}}'
)
_ANSWER = (
    "Answer the question from these memories in a few words. Behind each stands the day it was said: turn yesterday or "
    "last week into a date. If no memory holds the answer, say that it was not mentioned.\n\n{memories}\n\n"
    "Question: {question}"
)
_LOOK = (
    "Look at the image and answer the question with one word, then say why. Response Format: Strictly JSON: "
    '{{"answer": "<one word>", "reason": "<what in the image shows it>"}}.\n\nQuestion: {question}'
)


# A JSON string of one line that begins with something to read; the only escapes are of quotes and backslashes.
_TEXT_RULE = (
    r'TEXT: /"([\p{L}\p{N}\p{S}¿¡(\[#@%&*\'-]|\\")([^"\\\x00-\x1f\x7f-\x9f]|\\["\\]){0,' + str(MAX_TEXT - 1) + r'}"/'
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that fits its token budget, and what had to be left out for it."""

    chat: Chat
    kept: int
    cut: int  # characters of an exchange, or memories of a list


def fit(build: Callable[[int], Chat], items: int, count_tokens: Callable[[Chat], int], budget: int) -> Fitted:
    """The prompt with as many leading items as fit into the budget.

    Instructions are never cut: with no item left the prompt is what it is.

    Args:
        build: the chat with the first n items.
        budget: tokens the whole prompt may have.
    """
    if count_tokens(build(items)) <= budget:
        return Fitted(build(items), items, 0)
    low, high = 0, items - 1  # `low` items fit, or nothing does
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count_tokens(build(middle)) <= budget else (low, middle - 1)
    return Fitted(build(low), low, items - low)


# ---------------------------------------------------------------------------------------------- extraction


def extraction_length(exchange: Exchange) -> int:
    """How many characters `extraction_chat` can keep."""
    return len(_exchange_text(exchange))


def extraction_chat(exchange: Exchange, characters: int | None = None) -> Chat:
    """Ask for the facts of an exchange, or of its first characters. A picture that the student is shown comes before them."""
    return (("user", _EXTRACTION.format(exchange=_exchange_text(exchange)[:characters])),)


def extraction_grammar(exchange: Exchange, *, grounded: bool) -> Grammar:
    """`{"facts": [...]}` with at most `MAX_FACTS` facts; grounded: sentences of the owner, verbatim and in order."""
    if not grounded:
        several = f'TEXT (", " TEXT){{0,{MAX_FACTS - 1}}}'
        rules = [f'start: "{{\\"facts\\": [" ("" | {several}) "]}}"', _TEXT_RULE]
        return Grammar("lark", "\n".join(rules), longest_ending='{"facts": [""]}')
    facts = [_json(sentence) for sentence in _owner_sentences(exchange)]
    rules = ['start: "{\\"facts\\": [" pick_0 "]}"']
    for i, fact in enumerate(facts):
        rules.append(f"pick_{i}: {_literal(fact)} more_{i + 1} | pick_{i + 1}")
        rules.append(f'more_{i}: "" | ", " next_{i}')
        rules.append(f"next_{i}: {_literal(fact)} more_{i + 1}" + (f" | next_{i + 1}" if i + 1 < len(facts) else ""))
    rules += [f'pick_{len(facts)}: ""', f'more_{len(facts)}: ""']
    return Grammar("lark", "\n".join(rules), longest_ending=max(facts, key=len, default="") + "]}")


def parse_facts(text: str) -> list[str]:
    """The facts of an extraction answer; text that is not such an answer has none."""
    try:
        facts = json.loads(text)["facts"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    if not isinstance(facts, list):
        return []
    clean = (clean_text(fact) for fact in facts if isinstance(fact, str))
    return list(dict.fromkeys(fact for fact in clean if fact))[:MAX_FACTS]


def _exchange_text(exchange: Exchange) -> str:
    return "\n".join(_line(message) for message in exchange.messages)


def _line(message: Message) -> str:
    name = f"{message.speaker}: " if message.speaker else ""
    caption = message.image.caption if message.image and message.image.caption else None
    shown = f" [shares an image: {caption}]" if caption else ""
    return f"{message.role}: {name}{message.text}{shown}"


def _owner_sentences(exchange: Exchange) -> list[str]:
    """Statements of the exchange's owner, each under the owner's name; a question states nothing."""
    sentences: list[str] = []
    for message in exchange.messages:
        if message.role != "user":
            continue
        name = f"{message.speaker}: " if message.speaker else ""
        for sentence in re.split(r"(?<=[.!?])\s+", message.text):
            sentence = clean_text(sentence)
            if len(sentence.split()) >= 3 and not sentence.endswith("?"):
                sentences.append((name + sentence)[:MAX_TEXT])
    return list(dict.fromkeys(sentences))[:MAX_FACTS]


# ---------------------------------------------------------------------------------------------- update


@dataclass(frozen=True, slots=True)
class Decision:
    """One entry of an update answer, in the prompt's small ids."""

    event: Event
    text: str
    number: int | None = None  # of the offered memory it touches; None for an ADD


@dataclass(frozen=True, slots=True)
class Decisions:
    """An update answer as read: what is to be done, and how many entries named what was not offered."""

    decisions: tuple[Decision, ...]
    rejected: int = 0


def update_chat(old: Sequence[str], facts: Sequence[str]) -> Chat:
    """Ask what the new facts change in the old memories, which get the ids "0", "1", ..."""
    offered = [{"id": str(number), "text": text} for number, text in enumerate(old)]
    return (("user", _UPDATE.format(old=_json(offered), facts=_json(list(facts)))),)


def offered(chat: Chat) -> tuple[list[str], list[str]] | None:
    """The old memories and the facts that `update_chat` was given; None for a chat of another form."""
    decode, words = json.JSONDecoder().raw_decode, chat[-1][1]
    try:
        rest = words.partition("Old memories:")[2]
        old, end = decode(rest)
        facts, _ = decode(rest[end:].partition("New retrieved facts: ")[2])
        return [memory["text"] for memory in old], [str(fact) for fact in facts]
    except (ValueError, TypeError, KeyError):
        return None


def update_grammar(
    old: Sequence[str], facts: Sequence[str], *, grounded: bool = False, copied: bool = False
) -> Grammar:
    """The entries an update may hold, in the order of their ids, each id at most once.

    An offered id may be updated (its old text is then given by the grammar), deleted or left; the ids after them add,
    no more of them than there are facts.

    Args:
        grounded: every fact is added as it is, and nothing else can happen.
        copied: texts are those of the prompt. What is updated or added takes the words of a new fact, what is deleted one or
            its own; facts are added in their order. For experts that were trained on such answers alone.
    """
    first_new, end = len(old), len(old) + len(facts)
    if grounded:
        entries = [
            f'{{"id": "{first_new + i}", "text": {_json(fact)}, "event": "ADD"}}' for i, fact in enumerate(facts)
        ]
        answer = '{"memory": [' + ", ".join(entries) + "]}"
        return Grammar("lark", f"start: {_literal(answer)}", longest_ending=answer)

    longest = max((_json(text) for text in old), key=len, default="")
    ending = f'{{"id": "{end}", "text": "x", "event": "UPDATE", "old_memory": {longest}}}]}}'
    if copied:
        longest_fact = max((_json(fact) for fact in facts), key=len, default="")
        return Grammar("lark", "\n".join(_copying_rules(old, facts)), longest_ending=ending + longest_fact + longest)
    rules = ['start: "{\\"memory\\": [" ("" | next_0) "]}"', _TEXT_RULE]
    for number in range(end):
        head = _literal(f'{{"id": "{number}", "text": ')
        if number < first_new:
            updated = _literal(f'"UPDATE", "old_memory": {_json(old[number])}}}')
            events = [_literal('"DELETE"}'), _literal('"NONE"}'), updated]
            tail = _literal(', "event": ') + f" ({' | '.join(events)})"
            skip = f" | next_{number + 1}" if number + 1 < end else ""
        else:
            tail, skip = _literal(', "event": "ADD"}'), ""
        rules.append(f"next_{number}: {head} TEXT {tail} more_{number + 1}{skip}")
        rules.append(f'more_{number + 1}: ""' + (f' | ", " next_{number + 1}' if number + 1 < end else ""))
    return Grammar("lark", "\n".join(rules), longest_ending=ending)


def _copying_rules(old: Sequence[str], facts: Sequence[str]) -> list[str]:
    """`next_i`: an entry for memory i or a later one, or the first addition; `add_c_f`: the c-th, of fact f or a later one."""
    offered, new = len(old), len(facts)
    rules = ['start: "{\\"memory\\": [" ("" | next_0) "]}"', f"FACT: {' | '.join(_literal(_json(f)) for f in facts)}"]
    for number, text in enumerate(old):
        head = _literal(f'{{"id": "{number}", "text": ')
        updated = _literal(f', "event": "UPDATE", "old_memory": {_json(text)}}}')
        own, deleted = _literal(_json(text)), _literal(', "event": "DELETE"}')
        rules.append(
            f"next_{number}: {head} (FACT ({updated} | {deleted}) | {own} {deleted}) more_{number + 1} | next_{number + 1}"
        )
        rules.append(f'more_{number + 1}: "" | ", " next_{number + 1}')
    rules.append(f"next_{offered}: add_0_0")
    for count in range(new):
        for first in range(count, new):
            head = f'{{"id": "{offered + count}", "text": {_json(facts[first])}, "event": "ADD"}}'
            goes_on = count + 1 < new and first + 1 < new
            more = f' ("" | ", " add_{count + 1}_{first + 1})' if goes_on else ""
            later = f" | add_{count}_{first + 1}" if first + 1 < new else ""
            rules.append(f"add_{count}_{first}: {_literal(head)}{more}{later}")
    return rules


def parse_update(text: str, old: Sequence[str]) -> Decisions:
    """Read an update answer. An id that was not offered, or an event that does not fit its id, is rejected.

    An UPDATE to the same words and a NONE do nothing and are left out.
    """
    try:
        entries = json.loads(text)["memory"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Decisions((), 0)
    if not isinstance(entries, list):
        return Decisions((), 0)
    decisions: list[Decision] = []
    seen: set[str] = set()
    rejected = 0
    for entry in entries:
        if not isinstance(entry, dict):
            rejected += 1
            continue
        key, event = str(entry.get("id", "")), entry.get("event")
        content = clean_text(entry["text"]) if isinstance(entry.get("text"), str) else ""
        number = int(key) if re.fullmatch(r"[0-9]{1,4}", key) else None
        offered = number is not None and number < len(old)
        if event == "NONE":
            continue
        if event == "ADD" and number is not None and not offered and content and key not in seen:
            decisions.append(Decision("ADD", content))
        elif event == "UPDATE" and offered and content and key not in seen:
            if content != old[int(key)]:
                decisions.append(Decision("UPDATE", content, number))
        elif event == "DELETE" and offered and key not in seen:
            decisions.append(Decision("DELETE", old[int(key)], number))
        else:
            rejected += 1
        seen.add(key)
    return Decisions(tuple(decisions), rejected)


# ---------------------------------------------------------------------------------------------- generation


@dataclass(frozen=True, slots=True)
class Recalled:
    """A memory as the answer stage reads it."""

    text: str
    said_at: datetime | None
    owner: str | None  # a name, where more than one owner is asked


def answer_chat(question: str, memories: Sequence[Recalled]) -> Chat:
    """Ask a question over memories, oldest first, each with the day it was said.

    The day stands behind the words, and no dash before them: an untrained small student goes on reciting dates that
    begin its lines (Mem0's form), and the items of a list.
    """
    ordered = sorted(memories, key=lambda memory: (memory.said_at is not None, _naive(memory.said_at)))
    lines = [f"{_owned(memory)} ({day(memory.said_at)})" for memory in ordered]
    return (("user", _ANSWER.format(memories="\n".join(lines) or "(no memories)", question=question)),)


def look_chat(question: str) -> Chat:
    """Ask about an image, which the student's own template puts in front."""
    return (("user", _LOOK.format(question=clean_text(question))),)


def look_grammar() -> Grammar:
    """`{"answer": "<one word>", "reason": "..."}`."""
    word = r'WORD: /"[\p{L}\p{N}][\p{L}\p{N}\p{M}\'’.,:%°+-]{0,' + str(MAX_WORD - 1) + r'}"/'
    rules = ['start: "{\\"answer\\": " WORD ", \\"reason\\": " TEXT "}"', word, _TEXT_RULE]
    return Grammar("lark", "\n".join(rules), longest_ending='{"answer": "x", "reason": "x"}')


def parse_look(text: str) -> tuple[str, str]:
    """The word and the reason of a look; both empty where the text is no such answer."""
    try:
        found = json.loads(text)
        return clean_text(found["answer"]), clean_text(found["reason"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", ""


def look_recalled(text: str, answer: str, reason: str) -> str:
    """A memory with what another look at its picture has found."""
    return f"{text} [its picture shows: {answer}. {reason}]"


def chat_turn(text: str, memories: Sequence[Recalled]) -> Chat:
    """What the user said, after the memories nearest to it; answered by the base, without an expert."""
    if not memories:
        return (("user", text),)
    lines = "\n".join(f"{memory.text} ({day(memory.said_at)})" for memory in memories)
    return (("user", f"What you remember about me:\n{lines}\n\n{text}"),)


def day(moment: datetime | None) -> str:
    """A date as people write it: "8 May 2023". Of a time with a zone it is the day on this machine's clock."""
    if moment is not None and moment.tzinfo is not None:
        moment = moment.astimezone()
    return f"{moment.day} {moment:%B %Y}" if moment else "undated"


def _owned(memory: Recalled) -> str:
    named = not memory.owner or re.search(rf"(?<!\w){re.escape(memory.owner)}(?!\w)", memory.text, re.IGNORECASE)
    return memory.text if named else f"{memory.owner}: {memory.text}"


def _naive(moment: datetime | None) -> datetime:
    return moment.replace(tzinfo=None) if moment else datetime.min


# ---------------------------------------------------------------------------------------------- text


def clean_text(text: str, limit: int | None = MAX_TEXT) -> str:
    """One line of text, at most `limit` characters, without what could drive a terminal or break Unicode.

    Control characters become spaces and bidirectional overrides go; joiners, which emoji and many scripts need, stay.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    kept = (" " if unicodedata.category(c) == "Cc" else c for c in text if c not in _BIDI)
    return " ".join("".join(kept).split())[:limit].rstrip()


_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _literal(text: str) -> str:
    """A text as a literal of the grammar language, whose escapes are JSON's; it takes no bare control character."""
    return re.sub(r"[\x7f-\x9f]", lambda c: f"\\u{ord(c[0]):04x}", json.dumps(text, ensure_ascii=False))
