"""The words that a small student's answer may have: those of its evidence, and those that carry no content."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memlora_mlx.memory.abstention import NOT_MENTIONED
from memlora_mlx.memory.retrieval.lexical import STOP_WORDS
from memlora_mlx.memory.stages import PromptMemory
from memlora_mlx.memory.stages.text import format_day
from memlora_mlx.records import Grammar, Handicap
from memlora_mlx.temporal.words import MONTHS, SEASON_WORDS, WEEKDAYS, words

# How much likelier than another answer "Not mentioned" must be, in nats. A student of 135M parameters can hardly tell a question
# without an answer from one with: see docs/decisions/0028-answers-from-few-lines-and-their-words.md.
DECLINING_HANDICAP = 1.5
_WORD = re.compile(r"\w+(?:[-'’]\w+)*")
FUNCTION_WORDS = STOP_WORDS | words(
    "yes no not none nothing nobody never always likely unlikely probably maybe yet still since until before after ago during"
    " one two three four five six seven eight nine ten eleven twelve once twice both several many few all"
)
TIME_WORDS = frozenset({*MONTHS, *WEEKDAYS, *SEASON_WORDS}) | words(
    "day days week weeks weekend weekends month months year years today yesterday tomorrow morning afternoon evening night"
    " early late mid last next previous around"
)


def answer_grammar(question: str, memories: Sequence[PromptMemory]) -> Grammar:
    """An answer whose words stand in its evidence or in the question, in any inflection that only changes the ending.

    Beside them it may have numbers, times and the words that carry no content. A small student, which otherwise completes
    "She lives in" with any city it knows, can then only name one that was said.
    """
    lines = [question, NOT_MENTIONED]
    lines += [f"{memory.owner or ''} {memory.text} {format_day(memory.said_at)}" for memory in memories]
    said = {word.casefold() for line in lines for word in _WORD.findall(line)}
    allowed = sorted({form for word in said for form in _inflections(word)} | FUNCTION_WORDS | TIME_WORDS)
    alternatives = "|".join(re.escape(word).replace("/", r"\/") for word in allowed)
    text = (
        "start: WORD (SEPARATOR WORD)* END\n"
        rf'WORD: /["“‘(\[]?((?i:{alternatives})|[$€£]?\d[\d.,:]*(st|nd|rd|th|s|am|pm|%)?)(["”’)\]]|[\'’]s?)?/'
        "\n"
        r"SEPARATOR: /[,;:.!?]? |[-–\/&]/"
        "\n"
        r"END: /[.!?]?/"
    )
    # "Not" decides: with a whole word as its start, the handicap would come a token too late.
    return Grammar("lark", text, max(allowed, key=len), Handicap(NOT_MENTIONED.split()[0], DECLINING_HANDICAP))


def _inflections(word: str) -> set[str]:
    """A word with other endings: "paint" for painting, painted, paints and the other way round."""
    forms = {word}
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return forms
    stem = re.sub(r"(?:ing|ed|es|s)$", "", word)
    if len(stem) >= 3:
        forms |= {stem, stem + "s", stem + "ed", stem + "ing", stem + "e", stem + "es"}
        if len(stem) > 3 and stem[-1] == stem[-2]:
            forms.add(stem[:-1])
    return forms
