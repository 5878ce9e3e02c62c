"""Traces of erased words in the queue: calls that wait in the data folder until the resident process has time.

A call is what somebody said and nobody has read yet, so it loses only the sentences that are erased. It goes as a whole if
no words of a user are left, if the person it is about is erased, or if it was said before the day that was given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memlora_mlx.memory.inputs import encode_time
from memlora_mlx.memory.store.erase_plan import Selection
from memlora_mlx.memory.store.erased_texts import ErasedTexts
from memlora_mlx.sealed_files import Sealer
from memlora_mlx.settings import WORK_QUEUE
from memlora_mlx.text import clean_name

Arguments = Mapping[str, Any]


def is_call(home: Path, path: Path) -> bool:
    """Whether a file below the data folder is a call of the queue."""
    return path.suffix == ".json" and path.relative_to(home).parts[0] == WORK_QUEUE


def goes_as_a_whole(selection: Selection) -> Callable[[Arguments, float], bool]:
    """Whether a selection means a whole call, whatever is said in it: by its arguments and the time it was queued at."""
    if selection.person is not None:
        person = clean_name(selection.person)
        return lambda arguments, queued_at: arguments.get("user_id") == person
    if selection.before is not None:
        day = encode_time(selection.before) or ""
        return lambda arguments, queued_at: _said_at(arguments, queued_at) < day
    return lambda arguments, queued_at: False


def rest_of_call(data: bytes, texts: ErasedTexts, is_meant: Callable[[Arguments, float], bool], at: float) -> bytes:
    """A queued call without the words; empty where it goes.

    Args:
        at: when it was queued, as of `Path.stat`.
    """
    raw = data.decode("utf-8", "replace")
    try:
        call = json.loads(raw)
        arguments = call["arguments"]
        if is_meant(arguments, at):
            return b""
        if not texts.found_in(raw):
            return data
        arguments["messages"] = _kept(arguments["messages"], texts)
        left = json.dumps(call)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # not what memlora writes there
        return b"" if texts.found_in(raw) else data
    return b"" if texts.found_in(left) or not arguments["messages"] else left.encode()


def sweep_call(
    path: Path, texts: ErasedTexts, is_meant: Callable[[Arguments, float], bool], sealer: Sealer, *, dry_run: bool
) -> bytes | None:
    """Take the words out of a queued call. Returns what is left of it, empty where it goes; None where nothing changes."""
    data = sealer.read(path)
    left = rest_of_call(data, texts, is_meant, path.stat().st_mtime)
    if left == data:
        return None
    if not dry_run:
        if left:
            sealer.write(path, left)
        else:
            path.unlink()
    return left


def _kept(messages: Any, texts: ErasedTexts) -> Any:
    """The messages without the words; none where no user says anything any more."""
    if isinstance(messages, str):
        return texts.cut_from(messages)
    kept = []
    for message in messages:
        content = texts.cut_from(message["content"]) if texts.found_in(message["content"]) else message["content"]
        if content:
            kept.append({**message, "content": content})
    return kept if any(message.get("role", "user") == "user" for message in kept) else []


def _said_at(arguments: Arguments, queued_at: float) -> str:
    said = arguments.get("timestamp")
    at = datetime.fromisoformat(said) if isinstance(said, str) else datetime.fromtimestamp(queued_at, UTC)
    return encode_time(at) or ""
