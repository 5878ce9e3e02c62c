"""The JSON values of a text: the one of a JSON file, or those of a JSONL file."""

from __future__ import annotations

import json
import re
from typing import Any

from memlora_mlx.conversations.model import FormatError

_JSON_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(strict=False)  # control characters in strings are cleaned later
_HINT = "docs/import.md lists what memlora reads"


def json_values(text: str) -> tuple[list[tuple[int, Any]], list[FormatError]]:
    """The values, each with its line, and what is wrong with lines of a JSONL file whose other lines are right.

    Raises:
        FormatError: no value can be read.
    """
    values: list[tuple[int, Any]] = []
    at, line = _blank_end(text, 0), 1 + text.count("\n", 0, _blank_end(text, 0))
    try:
        while at < len(text):
            value, stop = _DECODER.raw_decode(text, at)
            values.append((line, value))
            at, before = _blank_end(text, stop), at
            line += text.count("\n", before, at)
    except (ValueError, RecursionError) as error:
        fault = _fault(text, line, error)
        lines = [(number, each) for number, each in enumerate(text.split("\n"), start=1) if each.strip()]
        if len(lines) < 2 or not all(each.lstrip().startswith("{") for _, each in lines):
            raise fault from error
        return _line_by_line(lines, fault)
    return values, []


def _line_by_line(lines: list[tuple[int, str]], fault: FormatError) -> tuple[list[tuple[int, Any]], list[FormatError]]:
    values: list[tuple[int, Any]] = []
    broken = 0
    for number, line in lines:
        try:
            values.append((number, _DECODER.decode(line)))
        except (ValueError, RecursionError):
            broken += 1
    if not values:
        raise fault
    more = f" ({broken} lines are not valid JSON)" if broken > 1 else ""
    return values, [FormatError(f"{fault}{more}")]


def _fault(text: str, line: int, error: ValueError | RecursionError) -> FormatError:
    if isinstance(error, RecursionError):
        return FormatError(f"is nested too deeply to be a conversation; {_HINT}")
    if not isinstance(error, json.JSONDecodeError):  # Python's limit on the digits of an integer
        return FormatError(f"has a number of too many digits in the value from line {line} on; remove it")
    end = len(text.rstrip())
    place = f"line {error.lineno}, column {error.colno}: {error.msg}"
    breaks_at_end = end - error.pos <= 6 and text[end - 1] not in "]}"  # in a number, a `tru`, an escape
    if error.pos >= end or error.msg.startswith("Unterminated") or breaks_at_end:
        return FormatError(f"looks cut off ({place}); get a complete copy")
    return FormatError(f"is not valid JSON ({place}); {_HINT}")


def _blank_end(text: str, at: int) -> int:
    blank = _JSON_BLANK.match(text, at)
    return blank.end() if blank else at
