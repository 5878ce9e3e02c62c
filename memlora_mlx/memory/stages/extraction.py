"""The extraction stage: an exchange in, facts out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from memlora_mlx.memory.stages.grammars import TEXT_RULE, as_json, literal
from memlora_mlx.memory.stages.text import MAX_TEXT, answer_text, clean_line
from memlora_mlx.records import ChatMessages, Exchange, Grammar, Message

MAX_FACTS = 8  # of one exchange; two messages seldom hold more
EXTRACTION_TOKENS = 256

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


def extraction_grammar(exchange: Exchange, *, verbatim_only: bool) -> Grammar:
    """`{"facts": [...]}` with at most `MAX_FACTS` facts; `verbatim_only`: sentences of the owner, verbatim and in order."""
    if not verbatim_only:
        several = f'TEXT (", " TEXT){{0,{MAX_FACTS - 1}}}'
        rules = [f'start: "{{\\"facts\\": [" ("" | {several}) "]}}"', TEXT_RULE]
        return Grammar("lark", "\n".join(rules), longest_closing='{"facts": [""]}')
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
