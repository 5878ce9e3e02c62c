"""Telegram Desktop's export as JSON: `result.json` of one chat, or of the whole account."""

from __future__ import annotations

from typing import Any

from memlora_mlx.conversations.fields import date_of, list_of, name_of, numbered, object_of, ref_of, text_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import Conversation, Reading, Turn, daily_sessions, people_of, turn_text


def read(item: Item, reading: Reading) -> Conversation:
    value, where = item.value, item.where
    messages = numbered(list_of(value["messages"], where), where)
    sessions = daily_sessions(_turn(message, place, reading) for place, message in messages)
    name = name_of(value.get("name"), f"{where}: name")
    id = name_of(value.get("id"), f"{where}: id")
    return Conversation(f"telegram {id}" if id else name, name or "saved messages", "telegram", sessions,
                        people_of(sessions), item.position)  # fmt: skip


def _turn(value: object, where: str, reading: Reading) -> Turn | None:
    message = object_of(value, where)
    if message.get("type") != "message":  # calls, new members, changed titles
        return None
    speaker = name_of(message.get("from") or message.get("from_id"), f"{where}: from")
    text = turn_text("".join(
        part if isinstance(part, str) else text_of(object_of(part, f"{where}: text").get("text"), f"{where}: text")
        for part in ([message["text"]] if isinstance(message.get("text"), str)
                     else list_of(message.get("text"), f"{where}: text"))
    ))  # fmt: skip
    if message.get("forwarded_from"):
        # somebody else wrote it: an assistant's turn makes no memory of the one who passed it on
        reading.leave_out("forwarded messages", where)
        return None
    if isinstance(poll := message.get("poll"), dict):
        answers = [
            text_of(object_of(answer, where).get("text"), where) for answer in list_of(poll.get("answers"), where)
        ]
        text = f"[poll] {text_of(poll.get('question'), f'{where}: question')} Options: {', '.join(answers)}"
    photo = message.get("photo")
    image = reading.picture(photo, where) if isinstance(photo, str) else None
    if not text and not photo:
        reading.leave_out("messages that are stickers, voice messages or files", where)
    date = date_of(message, where, ["date", "date_unixtime"])
    return Turn(speaker, text, None, date, image, ref_of(message.get("id"), f"{where}: id"))


def recognises(value: dict[str, Any]) -> bool:
    messages = value.get("messages")
    return isinstance(messages, list) and (
        "type" in value and any(isinstance(m, dict) and ("date_unixtime" in m or "from" in m or "actor" in m)
                                 for m in messages[:20])
    )  # fmt: skip


def chats_of_account(value: dict[str, Any]) -> list[Any] | None:
    """The chats in an export of a whole account; None if it is none."""
    chats = value.get("chats")
    found = chats.get("list") if isinstance(chats, dict) else None
    return found if isinstance(found, list) else None


FORMAT = ItemFormat("telegram", "a Telegram export", recognises, read)
