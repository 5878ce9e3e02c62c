"""Transcripts of meetings as subtitles: WebVTT (Zoom, Teams, Meet) and SRT."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from memlora_mlx.conversations.formats.format import TextFormat
from memlora_mlx.conversations.model import Conversation, FormatError, Reading, Session, Turn, turn_text
from memlora_mlx.text import clean_name

_TIME = r"(?:[0-9]+:)?[0-9]{2}:[0-9]{2}[.,][0-9]{1,3}"
_CUE = re.compile(rf"^{_TIME} +--> +{_TIME}(?: .*)?$")
_VOICE = re.compile(r"<v(?:\.[\w.-]+)? ([^<>]*)>")
_TAG = re.compile(r"</?[^<>]*>")
_NAME = re.compile(r"^(?:- ?)?([^:<>]{1,60}): +(.*)$", re.DOTALL)


def read(text: str, reading: Reading) -> Iterable[Conversation]:
    """The cues, in their order; those that follow each other of one speaker are one turn.

    They have a time within the meeting, and no date.
    """
    turns: list[tuple[str, list[str]]] = []
    unnamed = 0
    for block in re.split(r"\n\s*\n", text):
        lines = block.strip().split("\n")
        at = next((at for at, line in enumerate(lines) if _CUE.match(line.strip())), None)
        if at is None:  # the head, a note, a style
            continue
        said = "\n".join(lines[at + 1 :])
        voice = _VOICE.search(said)
        plain = turn_text(html.unescape(_TAG.sub("", said)))
        named = None if voice else _NAME.match(plain)
        speaker = clean_name(html.unescape(voice[1])) if voice else clean_name(named[1]) if named else ""
        words = turn_text(named[2]) if named else plain
        if speaker and (not turns or turns[-1][0] != speaker):
            turns.append((speaker, [words]))
        elif turns:
            turns[-1][1].append(words)
        else:
            unnamed += 1
    if not turns:
        raise FormatError("are subtitles that name no speakers; memlora needs to know who says what")
    reading.leave_out("subtitles before the first that names its speaker", count=unnamed)
    made = tuple(Turn(speaker, "\n".join(words)) for speaker, words in turns if any(words))
    names = tuple(dict.fromkeys(turn.speaker for turn in made))
    yield Conversation("", "", "subtitles", (Session(None, made),) if made else (), names)


def recognises(text: str) -> bool:
    lines = text.lstrip("\ufeff \n").split("\n", 4)[:4]
    return bool(lines) and (lines[0].startswith("WEBVTT") or any(_CUE.match(line.strip()) for line in lines[:2]))


FORMAT = TextFormat("subtitles", "subtitles (WebVTT or SRT)", recognises, read)
