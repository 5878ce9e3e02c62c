"""Clean a teacher's answer: the exact text that a student is trained on, or the reason why the answer is rejected.

Reasoning, code fences, harmony's markers and prose are removed. The last JSON object of the stage's form is kept and written
in the only form that the stage's grammar allows (see `memory.stages`). Nothing is guessed: an answer that refers to something
it was not given, or contradicts itself, is rejected as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memlora_mlx.memory import stages
from memlora_mlx.memory.stages import clean_line
from memlora_mlx.records import Stage

RejectionReason = Literal[
    "empty",  # nothing but spaces
    "cut off",  # it ends inside the reasoning or inside the JSON
    "no JSON",
    "wrong shape",  # JSON, but not of the stage's form
    "unknown id",  # changes or deletes a memory that was not offered
    "id named twice",  # two different operations on one memory
    "more memories than facts",  # it adds more memories than it was given facts
    "too long",  # the prompt does not fit the teacher's context
    "no answer",  # the server fails on this prompt only
]

MAX_ANSWER_CHARACTERS = 200_000  # only this many characters at the end are read; useful answers are shorter

MAX_OBJECTS = 1000  # beginnings of JSON objects that are tried, from the end

# "analysisWe need ...assistantfinal{...}" is harmony after a server has dropped its special tokens.
_OPENING = re.compile(
    r"<think(?:ing)?>|<reasoning>|\[THINK\]|<\|channel\|>\s*(?:analysis|commentary)|\A\s*(?-i:analysis(?=[^\sa-z]))",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"</think(?:ing)?>|</reasoning>|\[/THINK\]|<\|channel\|>\s*final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"|(?-i:assistantfinal)",
    re.IGNORECASE,
)
_MARKER = re.compile(r"<\|[a-z_]{1,20}\|>")
_OBJECT = re.compile(r'\{\s*"')
_FENCE = re.compile(r"^\s*```[a-z]*\s*\n?|\n?\s*```\s*$", re.IGNORECASE)
_DECODER = json.JSONDecoder(strict=False)  # allows line ends in strings; `clean_line` removes them
_TEMPLATE = ["fact1", "fact2"]  # the example in the prompt, which a teacher repeats while it reasons


@dataclass(frozen=True, slots=True)
class CleanedAnswer:
    """The answer that the student should give."""

    text: str


@dataclass(frozen=True, slots=True)
class RejectedAnswer:
    """Why an answer cannot be used."""

    reason: RejectionReason


def clean_answer(
    stage: Stage, raw: str, *, old: Sequence[str] = (), facts: Sequence[str] = ()
) -> CleanedAnswer | RejectedAnswer:
    """Clean one answer of a teacher.

    Args:
        raw: the answer as the server gave it.
        old: for an update, the old memories in the order of their ids "0", "1", ...
        facts: for an update, the new facts; it must not add more memories than there are facts.
    """
    raw = raw[-MAX_ANSWER_CHARACTERS:]
    if not raw.strip():
        return RejectedAnswer("empty")
    if stage == "generation":
        return _generation(raw)
    is_shape, rewrite = {
        "extraction": (_is_extraction, _extraction),
        "update": (_is_update, lambda value: _update(value, old, facts)),
        "vqa": (_is_vqa, _vqa),
    }[stage]
    value = last_object(raw, is_shape)
    return value if isinstance(value, RejectedAnswer) else rewrite(value)


def strip_reasoning(raw: str) -> str | None:
    """The text after a model's reasoning, without markers and code fences; None if the reasoning never ends."""
    if _is_open(raw):
        return None
    closing = _last(_CLOSING, raw)
    return _FENCE.sub("", _MARKER.sub(" ", raw[closing.end() :] if closing else raw).strip())


def _generation(raw: str) -> CleanedAnswer | RejectedAnswer:
    said = strip_reasoning(raw)
    if said is None:
        return RejectedAnswer("cut off")
    text = clean_line(said)
    return CleanedAnswer(text) if text else RejectedAnswer("empty")


# ------------------------------------------------------------------------------------------------ finding the JSON


def last_object(raw: str, is_shape: Callable[[Any], bool]) -> Any:
    """The last JSON object of a form outside the reasoning, or a `RejectedAnswer`.

    Objects are found before markers, because their strings may contain text that looks like a marker.
    """
    was_json = was_cut = False
    whole = len(raw.rstrip())
    begin, end, last = 0, 0, None
    starts = [match.start() for match in _OBJECT.finditer(raw)]
    for start in reversed(starts[-MAX_OBJECTS:]):
        try:
            value, stop = _DECODER.raw_decode(raw, start)
        except json.JSONDecodeError as error:
            was_cut |= error.pos >= whole or error.msg.startswith("Unterminated")
        except (ValueError, RecursionError):  # a number with too many digits; nested too deeply
            pass
        else:
            was_json = True
            if stop > end and is_shape(value):  # the last object, or one that contains it
                begin, end, last = start, stop, value
    if last is not None:
        if closing := _last(_CLOSING, raw, end):  # it was a draft; the answer follows and has no such object
            answer = raw[closing.end() :]
            return last_object(answer, is_shape) if answer.strip() else RejectedAnswer("empty")
        return RejectedAnswer("cut off") if _is_open(raw[:begin]) else last
    if was_cut or _is_open(raw):
        return RejectedAnswer("cut off")
    return RejectedAnswer("wrong shape" if was_json else "no JSON")


def _is_open(text: str) -> bool:
    """Whether the text ends inside reasoning."""
    opening, closing = _last(_OPENING, text), _last(_CLOSING, text)
    return opening is not None and (closing is None or closing.start() < opening.start())


def _last(pattern: re.Pattern[str], text: str, start: int = 0) -> re.Match[str] | None:
    last = None
    for last in pattern.finditer(text, start):  # noqa: B007
        pass
    return last


# ------------------------------------------------------------------------------------------------ shapes


def _is_extraction(value: Any) -> bool:
    facts = value.get("facts")
    return isinstance(facts, list) and all(isinstance(fact, str) for fact in facts) and facts != _TEMPLATE


def _is_update(value: Any) -> bool:
    entries = value.get("memory")
    return isinstance(entries, list) and all(_is_entry(entry) for entry in entries)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or type(entry.get("id")) not in (str, int):
        return False
    event, text = _event(entry), entry.get("text")
    return event in ("DELETE", "NONE") or (
        event in ("ADD", "UPDATE") and isinstance(text, str) and bool(stages.answer_text(text))
    )


def _event(entry: dict[str, Any]) -> str:
    event = entry.get("event")
    return event.strip().upper() if isinstance(event, str) else ""


def _is_vqa(value: Any) -> bool:
    answer, reason = value.get("answer"), value.get("reason")
    is_word = type(answer) is int or (isinstance(answer, str) and len(clean_line(answer).split()) == 1)
    return is_word and isinstance(reason, str) and bool(clean_line(reason))


# ------------------------------------------------------------------------------------------------ the minimal form


def _extraction(value: Any) -> CleanedAnswer:
    return CleanedAnswer(stages.extraction_answer(value["facts"]))


def _update(value: Any, old: Sequence[str], facts: Sequence[str]) -> CleanedAnswer | RejectedAnswer:
    entries = [
        stages.UpdateEntry(str(entry["id"]).strip(), _event(entry), entry.get("text") or "")
        for entry in value["memory"]
    ]
    try:
        return CleanedAnswer(stages.update_answer(entries, old, facts))
    except stages.InvalidUpdate as error:
        return RejectedAnswer(error.reason)


def _vqa(value: Any) -> CleanedAnswer:
    answer = clean_line(str(value["answer"]))
    return CleanedAnswer(_json({"answer": answer.rstrip(".!") or answer, "reason": clean_line(value["reason"])}))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
