"""The extraction stage: an exchange in, facts out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from memlora_mlx.memory.stages.grammars import TEXT_RULE, as_json, literal
from memlora_mlx.memory.stages.text import MAX_TEXT, answer_text, clean_line
from memlora_mlx.records import ChatMessages, Exchange, Grammar, Handicap, Message

MAX_FACTS = 8  # of one exchange; two messages seldom hold more
EXTRACTION_TOKENS = 256
# Characters of a part of a long exchange. The longest exchanges that the experts were trained on have about 800.
PART_CHARACTERS = 1600
SHORTEST_PART_CHARACTERS = 100  # of a part that is cut rather than split again

_EXTRACTION = (
    "Extract and organize relevant details. Response Format: Strictly JSON: "
    '{{"facts": ["fact1", "fact2"]}}.\n\nInput:\n{exchange}'
)


def extraction_characters(exchange: Exchange) -> int:
    """How many characters `extraction_chat` can keep."""
    return len(_exchange_text(exchange))


def extraction_chat(exchange: Exchange, characters: int | None = None) -> ChatMessages:
    """Ask for the facts of an exchange, or of its first characters. A picture that the student is shown comes before them."""
    return (("user", _EXTRACTION.format(exchange=_exchange_text(exchange)[:characters])),)


def with_reply(exchange: Exchange) -> Exchange:
    """A user's message that nobody has answered, with a reply that says nothing; any other exchange as it is.

    The experts know chats with an assistant as exchanges of two messages: of six messages alone the starter's expert
    found a fact in one, and with this reply in all six.
    """
    if [message.role for message in exchange.messages] != ["user"] or exchange.messages[0].speaker:
        return exchange
    return replace(exchange, messages=(*exchange.messages, Message("assistant", "I see.")))


def split_exchange(exchange: Exchange, characters: int) -> list[Exchange]:
    """An exchange in parts that are read one by one, each with at most so many characters of text.

    Messages are split at the ends of lines and sentences, and a longer sentence at a blank, if it has one. Every part of a
    message has its speaker, and the first part has its image. Nothing is left out but blanks at the borders. A part with
    words of an assistant without a name alone is not read, as nothing in it is the owner's.
    """
    parts: list[list[Message]] = [[]]
    room = characters
    for message in exchange.messages:
        for number, piece in enumerate(_pieces(message.text, characters)):
            if len(piece) > room and parts[-1]:
                parts.append([])
                room = characters
            if number and parts[-1]:
                parts[-1][-1] = replace(parts[-1][-1], text=parts[-1][-1].text + piece)
            else:
                parts[-1].append(replace(message, text=piece, image=None if number else message.image))
            room -= len(piece)
    return [
        replace(exchange, messages=tuple(replace(message, text=message.text.strip()) for message in part))
        for part in parts
        if any(message.role == "user" or message.speaker for message in part)
    ]


def without_repeats(exchange: Exchange) -> Exchange:
    """An exchange in which each message says every sentence once: what it repeats adds no fact, and hides the others."""

    def said_once(text: str) -> str:
        sentences: dict[str, str] = {}
        for piece in _pieces(text, len(text)):
            sentences.setdefault(" ".join(piece.split()), piece)
        return "".join(sentences.values()).strip()

    return replace(
        exchange, messages=tuple(replace(message, text=said_once(message.text)) for message in exchange.messages)
    )


def extraction_grammar(exchange: Exchange, *, verbatim_only: bool, empty_handicap: float = 0.0) -> Grammar:
    """`{"facts": [...]}` with at most `MAX_FACTS` facts; `verbatim_only`: sentences of the owner, verbatim and in order.

    Args:
        empty_handicap: nats by which an empty list must be likelier than one with facts.
    """
    if not verbatim_only:
        several = f'TEXT (", " TEXT){{0,{MAX_FACTS - 1}}}'
        handicap = Handicap('{"facts": []', empty_handicap) if empty_handicap else None
        rules = [f'start: "{{\\"facts\\": [" ("" | {several}) "]}}"', TEXT_RULE]
        return Grammar("lark", "\n".join(rules), longest_closing='{"facts": [""]}', handicap=handicap)
    facts = [as_json(sentence) for sentence in _owner_statements(exchange)]
    rules = ['start: "{\\"facts\\": [" pick_0 "]}"']
    for i, fact in enumerate(facts):
        rules.append(f"pick_{i}: {literal(fact)} more_{i + 1} | pick_{i + 1}")
        rules.append(f'more_{i}: "" | ", " next_{i}')
        rules.append(f"next_{i}: {literal(fact)} more_{i + 1}" + (f" | next_{i + 1}" if i + 1 < len(facts) else ""))
    rules += [f'pick_{len(facts)}: ""', f'more_{len(facts)}: ""']
    return Grammar("lark", "\n".join(rules), longest_closing=max(facts, key=len, default="") + "]}")


def parse_facts(text: str) -> list[str]:
    """The facts of an extraction answer; text that is not such an answer has none."""
    try:
        facts = json.loads(text)["facts"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    if not isinstance(facts, list):
        return []
    clean = (clean_line(fact) for fact in facts if isinstance(fact, str))
    return list(dict.fromkeys(fact for fact in clean if fact))[:MAX_FACTS]


def extraction_answer(facts: Sequence[str]) -> str:
    """The answer with these facts, in the one form that `extraction_grammar` allows."""
    clean = dict.fromkeys(filter(None, map(answer_text, facts)))
    return as_json({"facts": list(clean)[:MAX_FACTS]})


def _exchange_text(exchange: Exchange) -> str:
    return "\n".join(_line(message) for message in exchange.messages)


def _pieces(text: str, characters: int) -> Iterator[str]:
    """A text in lines and sentences with the blanks behind them, none longer than so many characters."""
    for sentence in re.findall(r".*?(?:\n+|[.!?…]+\s+|[。！？]+\s*|$)", text, re.DOTALL) if text else [""]:
        while len(sentence) > characters:
            end = sentence.rfind(" ", 1, characters) + 1 or characters
            yield sentence[:end]
            sentence = sentence[end:]
        if sentence or not text:
            yield sentence


def _line(message: Message) -> str:
    name = f"{message.speaker}: " if message.speaker else ""
    caption = message.image.caption if message.image and message.image.caption else None
    shown = f" [shares an image: {caption}]" if caption else ""
    return f"{message.role}: {name}{message.text}{shown}"


def _owner_statements(exchange: Exchange) -> list[str]:
    """Statements of the exchange's owner, each under the owner's name; a question states nothing."""
    sentences: list[str] = []
    for message in exchange.messages:
        if message.role != "user":
            continue
        name = f"{message.speaker}: " if message.speaker else ""
        for sentence in re.split(r"(?<=[.!?])\s+", message.text):
            sentence = clean_line(sentence)
            if len(sentence.split()) >= 3 and not sentence.endswith("?"):
                sentences.append((name + sentence)[:MAX_TEXT])
    return list(dict.fromkeys(sentences))[:MAX_FACTS]
