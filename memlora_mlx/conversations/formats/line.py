"""LINE's chat history: a date alone on its line, then `time<tab>name<tab>text` for each message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from memlora_mlx.conversations.dates import is_date, parse_date_with_order
from memlora_mlx.conversations.formats.dated_turns import conversation_of_dated_turns
from memlora_mlx.conversations.formats.format import TextFormat
from memlora_mlx.conversations.model import Conversation, FormatError, Reading, quote_value
from memlora_mlx.text import DIRECTION_MARKS, clean_name

_TURN = re.compile(r"^((?:[^\t\d]{1,4})?\d{1,2}:\d{2}(?: ?[APap][Mm])?)\t([^\t\n]*)(?:\t(.*))?$")
_DAY = re.compile(r"^[0-9]{4}[/.-][0-9]{1,2}[/.-][0-9]{1,2}[ (（]?\S{0,6}$|^\w{3}, [0-9]{1,2}/[0-9]{1,2}/[0-9]{4}$")
_MEDIA = re.compile(
    r"^\[(?:写真|スタンプ|動画|ボイスメッセージ|ファイル|Photo|Sticker|Video|Voice message|File|사진|스티커|동영상|照片|貼圖|影片)\]$"
)


def read(text: str, reading: Reading) -> Iterable[Conversation]:
    day: str | None = None
    turns: list[tuple[str, datetime, list[str]]] = []
    words: list[str] | None = None
    for number, raw in enumerate(text.split("\n"), start=1):
        line = DIRECTION_MARKS.sub("", raw)
        if _DAY.match(line.strip()):
            day, words = line.strip(), None
        elif found := _TURN.match(line):
            stamp = f"{day} {found[1]}"
            if day is None or not is_date(stamp, reading.options.date_order):
                raise FormatError(f"line {number} has a time that cannot be read: {quote_value(line)}; correct it")
            if found[3] is None:  # "Ann joined the group." has no third field
                words = None
                continue
            words = [found[3].removeprefix('"')]
            turns.append((clean_name(found[2]), parse_date_with_order(stamp, reading.options.date_order), words))
        elif words is not None:
            words.append(raw)
    yield conversation_of_dated_turns(
        "line",
        turns,
        reading,
        placeholder=_MEDIA,
        left_out="pictures, stickers and files, which LINE's history does not hold",
    )


def recognises(text: str) -> bool:
    lines = [DIRECTION_MARKS.sub("", line) for line in text.split("\n", 40)[:40]]
    return any(_DAY.match(line.strip()) for line in lines) and any(_TURN.match(line) for line in lines)


FORMAT = TextFormat("line", "a LINE chat history", recognises, read)
