"""KakaoTalk's text export, of the telephone (`date time, name : text`) and of the computer (`[name] [time] text`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from memlora_mlx.conversations.dates import parse_date
from memlora_mlx.conversations.formats.dated_turns import conversation_of_dated_turns
from memlora_mlx.conversations.formats.format import TextFormat
from memlora_mlx.conversations.model import Conversation, FormatError, Reading, quote_value
from memlora_mlx.text import DIRECTION_MARKS, clean_name

_DATE = r"[0-9]{4}년 [0-9]{1,2}월 [0-9]{1,2}일"
_CLOCK = r"(?:오전|오후) [0-9]{1,2}:[0-9]{2}"
_EN_STAMP = r"[A-Z][a-z]+ [0-9]{1,2}, [0-9]{4},? (?:at )?[0-9]{1,2}:[0-9]{2} [AP]M"
_TELEPHONE = re.compile(rf"^({_DATE} {_CLOCK}|{_EN_STAMP}), ([^:\n]{{1,60}}?) : (.*)$")
_NOTICE = re.compile(rf"^({_DATE} {_CLOCK}|{_EN_STAMP})(?:, .*)?$")
_LIKE_STAMP = re.compile(r"^[0-9]{4}년 [0-9]+월 [0-9]+일 \S+ [0-9]+:[0-9]+")
_DAY = re.compile(rf"^(?:-+ )?({_DATE})(?: \S요일)?(?: -+)?$")
_COMPUTER = re.compile(r"^\[([^\[\]\n]{1,60})\] \[((?:오전|오후) [0-9]{1,2}:[0-9]{2})\] (.*)$")
_MEDIA = re.compile(r"^(?:사진|사진 \d+장|동영상|이모티콘|음성메시지|삭제된 메시지입니다\.|Photo|Video|Emoticon)$")


def read(text: str, reading: Reading) -> Iterable[Conversation]:
    turns: list[tuple[str, datetime, list[str]]] = []
    words: list[str] | None = None
    day = ""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = DIRECTION_MARKS.sub("", raw)
        if found := _DAY.match(line):
            day, words = found[1], None
            continue
        stamp = name = ""
        if found := _TELEPHONE.match(line):
            stamp, name, said = found[1], found[2], found[3]
        elif day and (found := _COMPUTER.match(line)):
            stamp, name, said = f"{day} {found[2]}", found[1], found[3]
        elif _NOTICE.match(line):
            words = None
            continue
        elif _LIKE_STAMP.match(line):
            raise FormatError(f"line {number} looks like a dated message and cannot be read: {quote_value(line)}")
        if stamp:
            try:
                said_at = parse_date(stamp)
            except ValueError as error:
                raise FormatError(f"line {number} has a time that cannot be read: {quote_value(line)}") from error
            words = [said]
            turns.append((clean_name(name), said_at, words))
        elif words is not None:
            words.append(raw)
    yield conversation_of_dated_turns(
        "kakaotalk", turns, reading, placeholder=_MEDIA, left_out="pictures, videos and deleted messages"
    )


def recognises(text: str) -> bool:
    lines = [DIRECTION_MARKS.sub("", line) for line in text.split("\n", 60)[:60]]
    has_day = any(_DAY.match(line) for line in lines)
    return any(_TELEPHONE.match(line) or (has_day and _COMPUTER.match(line)) for line in lines)


FORMAT = TextFormat("kakaotalk", "a KakaoTalk chat", recognises, read)
