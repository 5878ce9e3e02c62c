"""Forms that are known and not read: each is refused by its name, with what to do instead."""

from __future__ import annotations

import re
from typing import Any

from memlora_mlx.conversations.formats.format import UnreadFormat


def _keys(*names: str) -> Any:
    return lambda value: isinstance(value, dict) and set(names) <= value.keys()


def _rows(*names: str) -> Any:
    return lambda value: isinstance(value, list) and bool(value) and _keys(*names)(value[0])


def _begins(*starts: str) -> Any:
    return lambda text: text[:400].lstrip("\ufeff \n").lower().startswith(starts)


def _matches(pattern: str) -> Any:
    found = re.compile(pattern, re.IGNORECASE | re.DOTALL)
    return lambda text: found.match(text[:400].lstrip("\ufeff \n")) is not None


JSON: tuple[UnreadFormat, ...] = (
    UnreadFormat("is ChatGPT's account data, not its conversations", "read conversations.json", _keys("chatgpt_plus_user")),
    UnreadFormat("is ChatGPT's feedback data, not its conversations", "read conversations.json",
                 _rows("conversation_id", "rating")),
    UnreadFormat("lists Claude's users or projects, not conversations", "read conversations.json",
                 _rows("uuid", "full_name")),
    UnreadFormat("is a project of Claude, not a conversation", "read conversations.json", _keys("uuid", "prompt_template")),
    UnreadFormat("are Claude's own memories, not a conversation", "read conversations.json", _rows("conversations_memory")),
    UnreadFormat("lists Slack's users or channels", "read the whole ZIP archive", _rows("id", "team_id")),
    UnreadFormat("lists Slack's channels", "read the whole ZIP archive", _rows("id", "creator", "members")),
    UnreadFormat("is training data of prompts and completions, not a conversation",
                 "write it as messages with roles if these are your words", _keys("prompt", "completion")),
    UnreadFormat("is training data of instructions, not a conversation",
                 "write it as messages with roles if these are your words", _keys("instruction", "output")),
    UnreadFormat("is a transcript of Whisper, which does not say who speaks", "use subtitles with names",
                 _keys("text", "segments")),
    UnreadFormat("is a Google Chat export, which memlora does not read yet", "copy its messages into a text file",
                 lambda value: _keys("messages")(value) and isinstance(value["messages"], list) and any(
                     isinstance(m, dict) and "creator" in m for m in value["messages"][:20])),
    UnreadFormat("is a Skype export, which memlora does not read yet", "copy its messages into a text file",
                 _keys("userId", "conversations")),
    UnreadFormat("is activity of another product in Google Takeout", "choose Gemini Apps in Takeout",
                 lambda value: _rows("header", "title", "time")(value)),
)  # fmt: skip

TEXT: tuple[UnreadFormat, ...] = (
    UnreadFormat("is a Telegram export as a web page", "export the chat again with the format JSON",
                 _matches(r"<!doctype html>.*(?:tgme|telegram|export_page|css/style\.css)")),
    UnreadFormat("is a web page", "export the chat again as JSON or as text", _begins("<!doctype html", "<html", "<div", "<head")),
    UnreadFormat("is XML, such as a backup of text messages", "export the chat again as JSON or as text", _begins("<?xml", "<smses")),
    UnreadFormat("is a PDF document", "export the chat again as JSON or as text", _begins("%pdf-")),
    UnreadFormat("is a formatted document (RTF)", "save it as plain text", _begins("{\\rtf")),
    UnreadFormat("is a database (SQLite), such as that of a messenger", "export the chat as JSON or as text",
                 _begins("sqlite format 3")),
    UnreadFormat("is a table (CSV)", "export the chat again as JSON or as text",
                 _matches(r"\"?(?:date|time|timestamp|sender|from|user|author|authorid|message)\"?[,;]\"?\w+\"?[,;][^\n:]*\n")),
    UnreadFormat("is mail", "copy its text into a file with `Name: text` lines", _matches(r"(?:from |return-path:|received:|delivered-to:)[^\n]*\n[\w-]+:")),
)  # fmt: skip

# The first bytes of files that are no text.
BYTES: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF-", "is a PDF document", "export the chat again as JSON or as text"),
    (b"SQLite format 3\0", "is a database (SQLite), such as that of a messenger", "export the chat as JSON or as text"),
    (bytes.fromhex("1f8b"), "is compressed with gzip", "decompress it first"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "extract it first, or pack it as a ZIP archive"),
    (b"Rar!", "is a RAR archive", "extract it first, or pack it as a ZIP archive"),
    (b"\x89PNG", "is a picture", "add it with `memlora images add`"),
    (b"\xff\xd8\xff", "is a picture", "add it with `memlora images add`"),
    (b"bplist00", "is a property list", "export the chat as JSON or as text"),
)
