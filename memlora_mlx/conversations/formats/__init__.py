"""Every format that memlora reads, each in a file of its own, and how a file finds its format: by its content.

To add one, write a file with a `FORMAT` and put it into `FORMATS`; docs/import.md says how.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from memlora_mlx.conversations.formats import (
    ai_studio,
    chatgpt,
    claude,
    claude_code,
    codex,
    discord,
    gemini_takeout,
    header_lines,
    imessage,
    kakaotalk,
    librechat,
    line,
    llm_logs,
    lm_studio,
    locomo,
    markdown,
    messages,
    messenger,
    open_webui,
    sharegpt,
    signal,
    slack,
    subtitles,
    telegram,
    transcript,
    unread,
)
from memlora_mlx.conversations.formats.format import Format, Item, ItemFormat, RowFormat, TextFormat, UnreadFormat
from memlora_mlx.conversations.json_values import json_values
from memlora_mlx.conversations.model import Conversation, FormatError, Reading, quote_value
from memlora_mlx.conversations.stamps import split_line

# The first that recognises a file reads it. Those that ask for less come later.
FORMATS: tuple[Format, ...] = (
    *(claude_code.FORMAT, codex.FORMAT, gemini_takeout.FORMAT, llm_logs.FORMAT, slack.FORMAT, discord.PACKAGE),
    *(signal.FORMAT, chatgpt.FORMAT, locomo.FORMAT, claude.FORMAT, open_webui.FORMAT, lm_studio.FORMAT),
    *(librechat.FORMAT, sharegpt.FORMAT, ai_studio.FORMAT, discord.FORMAT, messenger.FORMAT, telegram.FORMAT),
    messages.FORMAT,
    *(subtitles.FORMAT, line.FORMAT, kakaotalk.FORMAT, imessage.FORMAT, markdown.FORMAT, header_lines.FORMAT),
    transcript.FORMAT,
)
KNOWN_FORMATS = "docs/import.md lists what memlora reads"
_ROWS = tuple(each for each in FORMATS if isinstance(each, RowFormat))
_ITEMS = tuple(each for each in FORMATS if isinstance(each, ItemFormat))
_TEXTS = tuple(each for each in FORMATS if isinstance(each, TextFormat))
_LOOKED_AT = 100  # rows that may decide what a file is


def format_named(name: str) -> Format:
    return next(each for each in FORMATS if each.name == name)


def parse_conversations(text: str, reading: Reading) -> Iterator[Conversation]:
    """The conversations of a file's text. Raises FormatError: it is in no known form, or wrong as a whole."""
    start = len(text) - len(text.lstrip(" \t\n\r"))
    first_line = text[start : start + 200].partition("\n")[0]
    # "[2023-05-08 13:56] Ann: hello" opens with a bracket as well
    if text[start : start + 1] in ("{", "[") and not _is_text_line(first_line):
        if (refused := _unread(text, unread.TEXT)) is not None:
            raise refused
        yield from _parse_json(text, reading)
        return
    if (refused := _unread(text, unread.TEXT)) is not None:
        raise refused
    chosen = next(each for each in _TEXTS if each.recognises(text))
    try:
        yield from chosen.read(text, reading)
    except FormatError as error:
        hint = f"; {KNOWN_FORMATS}" if "neither JSON" in str(error) or "no conversation" in str(error) else ""
        raise FormatError(f"{error}{hint}") from error


def _is_text_line(line: str) -> bool:
    stamped = split_line(1, line)
    return stamped.form is not None or any(line.startswith(f"[{word}") for word in ("LINE]", "라인]", "Chat history"))\
        or line.startswith("[") and "] " in line[:60] and not line.rstrip().endswith(("]", ",", "{"))  # fmt: skip


def _parse_json(text: str, reading: Reading) -> Iterator[Conversation]:
    values, broken = json_values(text)
    items = _items(values)
    objects = [item.value for item in items[:_LOOKED_AT] if isinstance(item.value, dict)]
    rows = next((each for each in _ROWS if any(each.recognises(value) for value in objects)), None)
    if rows is not None:
        for error in broken:
            reading.report.problems.append(f"{reading.name}: {error}")
        yield from rows.read(items, reading)
        return
    if len(values) == 1 and (refused := _unread(values[0][1], unread.JSON)) is not None:
        raise refused
    loose: list[Item] = []  # messages that lie in the file itself make one conversation
    for item in items:
        if messages.is_message(item.value) and not isinstance(item.value.get("messages"), list):
            loose.append(item)
            continue
        with reading.each_alone():
            yield _one(item, reading)
    if loose and broken:  # a part of the only conversation is missing
        raise broken[0]
    for error in broken:
        reading.report.problems.append(f"{reading.name}: {error}")
    if loose:
        with reading.each_alone():
            pairs = [(item.where, item.value) for item in loose]
            yield messages.read_messages(pairs, {}, "messages", len(items) - len(loose), reading)


def _items(values: Sequence[tuple[int, Any]]) -> list[Item]:
    """The JSON values of a file, each with its place: its lines, the entries of its list, or its one value."""
    if len(values) > 1:
        return [Item(f"line {line}", value, at) for at, (line, value) in enumerate(values)]
    value = values[0][1]
    if isinstance(value, dict):
        value = telegram.chats_of_account(value) or [value]
    entries = value if isinstance(value, list) else [value]
    return [Item(f"item {at + 1}", entry, at) for at, entry in enumerate(entries)]


def _one(item: Item, reading: Reading) -> Conversation:
    if isinstance(item.value, list):
        return messages.read(item, reading)
    if isinstance(item.value, dict):
        for each in _ITEMS:
            if each.recognises(item.value):
                return each.read(item, reading)
        if (refused := _unread(item.value, unread.JSON)) is not None:
            raise FormatError(f"{item.where} {refused}")
    raise FormatError(f"{item.where} is {quote_value(item.value)}, of no known form; {KNOWN_FORMATS}")


def _unread(content: Any, known: Sequence[UnreadFormat]) -> FormatError | None:
    found = next((each for each in known if each.recognises(content)), None)
    return None if found is None else FormatError(f"{found.title}; {found.advice}")
