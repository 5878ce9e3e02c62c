"""The vqa stage: a question about an image in, one word and a reason out."""

from __future__ import annotations

import json

from memlora_mlx.memory.stages.grammars import TEXT_RULE
from memlora_mlx.memory.stages.text import clean_line
from memlora_mlx.records import ChatMessages, Grammar

VISUAL_ANSWER_TOKENS = 96
MAX_ANSWER_WORD = 30  # characters of a one-word answer
_VISUAL_QUESTION = (
    "Look at the image and answer the question with one word, then say why. Response Format: Strictly JSON: "
    '{{"answer": "<one word>", "reason": "<what in the image shows it>"}}.\n\nQuestion: {question}'
)


def visual_question_chat(question: str) -> ChatMessages:
    """Ask about an image, which the student's own template puts in front."""
    return (("user", _VISUAL_QUESTION.format(question=clean_line(question))),)


def visual_answer_grammar() -> Grammar:
    """`{"answer": "<one word>", "reason": "..."}`."""
    word = r'WORD: /"[\p{L}\p{N}][\p{L}\p{N}\p{M}\'’.,:%°+-]{0,' + str(MAX_ANSWER_WORD - 1) + r'}"/'
    rules = ['start: "{\\"answer\\": " WORD ", \\"reason\\": " TEXT "}"', word, TEXT_RULE]
    return Grammar("lark", "\n".join(rules), longest_closing='{"answer": "x", "reason": "x"}')


def parse_visual_answer(text: str) -> tuple[str, str]:
    """The word and the reason of a look; both empty where the text is no such answer."""
    try:
        found = json.loads(text)
        return clean_line(found["answer"]), clean_line(found["reason"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", ""


def with_visual_answer(text: str, answer: str, reason: str) -> str:
    """A memory with what another look at its picture has found."""
    return f"{text} [its picture shows: {answer}. {reason}]"
