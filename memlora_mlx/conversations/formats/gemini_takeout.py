"""Gemini's activity in Google Takeout: `MyActivity.json`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from memlora_mlx.conversations.fields import date_of, list_of, object_of, text_of
from memlora_mlx.conversations.formats.format import Item, RowFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn, daily_sessions, turn_text

# "Prompted ..." in the language of the account; what stands before the first space is the verb
_VERBS = ("Prompted ", "Asked ", "Said ", "Gefragt ", "Prompt: ", "Has preguntado ", "Requête : ", "Hai chiesto ")
_BREAK = re.compile(r"<(?:br|/p|/li|/h[1-6]|/tr|/div)[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def read(items: Sequence[Item], reading: Reading) -> Iterable[Conversation]:
    """One conversation: Takeout does not say where a chat ends. Each day is a session."""
    spoken = []
    for item in items:
        row = object_of(item.value, item.where)
        date = date_of(row, item.where, ["time"])
        answers = [
            object_of(part, f"{item.where}: safeHtmlItem").get("html")
            for part in list_of(row.get("safeHtmlItem"), f"{item.where}: safeHtmlItem")
        ]
        title = text_of(row.get("title"), f"{item.where}: title")
        verb = next((verb for verb in _VERBS if title.startswith(verb)), None)
        if verb is None and not answers:  # "Used an Assistant feature", "Created Gemini Canvas"
            reading.leave_out("activities without a prompt", item.where)
            continue
        pair = [Turn("", title.removeprefix(verb or ""), "user", date)]
        pair += [Turn("", _plain(text_of(answer, f"{item.where}: html")), "assistant", date) for answer in answers]
        spoken.append((date.timestamp() if date else 0.0, pair))
    spoken.sort(key=lambda each: each[0])  # Takeout begins with the newest
    turns = [turn for _, pair in spoken for turn in pair]
    yield Conversation("gemini-activity", "Gemini activity", "gemini-takeout", daily_sessions(turns))


def _plain(markup: str) -> str:
    return turn_text(html.unescape(_TAG.sub("", _BREAK.sub("\n", markup))))


def recognises(row: dict[str, Any]) -> bool:
    products = row.get("products")
    is_gemini = row.get("header") in ("Gemini Apps", "Bard") or (
        isinstance(products, list) and "Gemini Apps" in products
    )
    return is_gemini and "title" in row


FORMAT = RowFormat("gemini-takeout", "Gemini's activity in Google Takeout", recognises, read)
