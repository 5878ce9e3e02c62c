"""Samples of the LoCoMo benchmark: two people, in numbered sessions."""

from __future__ import annotations

import re
from typing import Any

from memlora_mlx.conversations.fields import date_of, name_of, object_of, ref_of, text_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import (
    Conversation,
    FormatError,
    Reading,
    Session,
    Turn,
    nonempty_turns,
    quote_value,
)
from memlora_mlx.records import Image


def read(item: Item, reading: Reading) -> Conversation:
    sample, where = item.value, item.where
    said = sample["conversation"]
    name = name_of(sample.get("sample_id"), f"{where}: sample_id")
    where = name or where
    pair = [name_of(said.get(key), f"{where}: {key}") for key in ("speaker_a", "speaker_b")]
    if not all(pair) or pair[0] == pair[1]:
        raise FormatError(f"{where}: speaker_a is {pair[0]!r} and speaker_b {pair[1]!r}; give two names")
    # date keys may stand for sessions that do not exist, so the lists of turns decide
    numbers = [int(key[8:]) for key in said if re.fullmatch("session_[1-9][0-9]{0,5}", key)]
    sessions = []
    for number in sorted(numbers):
        key = f"session_{number}"
        place = f"{where}, {key}"
        if not isinstance(said[key], list):
            raise FormatError(f"{place} is {quote_value(said[key])} where a list of turns is expected; correct it")
        date = date_of(said, where, [f"{key}_date_time"])
        turns = [_turn(turn, f"{place}, turn {at}", pair) for at, turn in enumerate(said[key], start=1)]
        sessions.append(Session(date, nonempty_turns(turns)))
    return Conversation(name, name, "locomo", tuple(s for s in sessions if s.turns), tuple(pair), item.position)


def _turn(value: object, where: str, pair: list[str]) -> Turn:
    turn = object_of(value, where)
    speaker = name_of(turn.get("speaker"), f"{where}: speaker")
    if speaker not in pair:
        raise FormatError(
            f"{where}: speaker {quote_value(speaker)} is neither {pair[0]!r} nor {pair[1]!r}; correct the name"
        )
    urls = turn.get("img_url")
    url = text_of(urls[0] if isinstance(urls, list) and urls else urls or None, f"{where}: img_url")
    caption = name_of(turn.get("blip_caption"), f"{where}: blip_caption")
    image = Image(url, caption or None) if url else None
    ref = ref_of(turn.get("dia_id"), f"{where}: dia_id")
    return Turn(speaker, text_of(turn.get("text"), f"{where}: text"), image=image, ref=ref)


def recognises(value: dict[str, Any]) -> bool:
    return isinstance(value.get("conversation"), dict)


FORMAT = ItemFormat("locomo", "a LoCoMo sample", recognises, read)
