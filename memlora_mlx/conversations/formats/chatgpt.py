"""ChatGPT's data export: `conversations.json`, also inside its ZIP archive."""

from __future__ import annotations

import json
import re
from typing import Any

from memlora_mlx.conversations.fields import chat, date_of, name_of, object_of, ref_of
from memlora_mlx.conversations.formats.format import Item, ItemFormat
from memlora_mlx.conversations.model import ROLES, Conversation, FormatError, Reading, Turn, quote_value, turn_text
from memlora_mlx.records import Image

# What ChatGPT's own pages show as a link: U+E200, a kind, U+E202 before each field, U+E201; and an older form.
_CITATION = re.compile("\ue200([^\ue200\ue201]*)\ue201|【[0-9:]*†[^】]*】")
_POINTER = re.compile(r"^(?:file-service|sediment)://")


def read(item: Item, reading: Reading) -> Conversation:
    """The branch that was on the screen last: from `current_node` up to the root."""
    value, where = item.value, item.where
    title = name_of(value.get("title"), "title")
    mapping = value.get("mapping")
    if not isinstance(mapping, dict):
        raise FormatError(f"{where} ({quote_value(title)}) has no messages; export the conversation again")
    leaves = [key for key, node in mapping.items() if isinstance(node, dict) and not node.get("children")]
    at = value.get("current_node") or (leaves[-1] if leaves else None)
    branch: list[Turn | None] = []
    visited: set[str] = set()
    while isinstance(at, str) and at not in visited:  # a loop of parents would never end
        visited.add(at)
        if at not in mapping:
            raise FormatError(
                f"{where}: node {quote_value(at)} is missing from its mapping; export the conversation again"
            )
        node = object_of(mapping[at], f"{where}, node {quote_value(at)}")
        if node.get("message") is not None:
            place = f"{where}, message {quote_value(at)}"
            branch.append(_turn(object_of(node["message"], place), place, reading))
        at = node.get("parent")
    ids = [name_of(value.get(key), key) for key in ("conversation_id", "id")]
    date = date_of(value, where, ["create_time"])
    id = next(filter(None, ids), "")
    return chat("chatgpt", branch[::-1], id=id, title=title, date=date, position=item.position)


def _turn(message: dict[str, Any], where: str, reading: Reading) -> Turn | None:
    author, content, metadata = (message.get(key) or {} for key in ("author", "content", "metadata"))
    role = object_of(author, f"{where}: author").get("role")
    content = object_of(content, f"{where}: content")
    is_hidden = object_of(metadata, f"{where}: metadata").get("is_visually_hidden_from_conversation")
    is_to_tool = message.get("recipient") not in (None, "all")
    is_text = content.get("content_type") in ("text", "multimodal_text")
    if role not in ("user", "assistant") or is_hidden or is_to_tool or not is_text:
        return None
    parts = content.get("parts")
    texts: list[str] = []
    image: Image | None = None
    for part in parts if isinstance(parts, list) else []:
        if (text := _content_text(part)) is not None:
            texts.append(turn_text(_CITATION.sub(_citation_text, text)))
        elif isinstance(part, dict) and part.get("content_type") == "image_asset_pointer":
            pointer = _POINTER.sub("", str(part.get("asset_pointer")))
            image = image or reading.picture(pointer, where)
    ref = ref_of(message.get("id"), f"{where}: id")
    text = "\n".join(filter(None, texts))
    return Turn("", text, ROLES[role], date_of(message, where, ["create_time"]), image, ref)


def _content_text(part: object) -> str | None:
    """The text of one part of a message: typed, or spoken and written down."""
    if isinstance(part, dict) and part.get("content_type") == "audio_transcription":
        part = part.get("text")
    return part if isinstance(part, str) else None


def _citation_text(found: re.Match[str]) -> str:
    """What a mark shows: the name of an entity, and nothing of a citation."""
    kind, _, fields = (found[1] or "").partition("\ue202")
    if kind != "entity":
        return ""
    try:
        values = json.loads(fields)
    except (ValueError, RecursionError):
        return ""
    return values[1] if isinstance(values, list) and len(values) > 1 and isinstance(values[1], str) else ""


def recognises(value: dict[str, Any]) -> bool:
    is_shell = "conversation_id" in value and "title" in value and "messages" not in value
    return isinstance(value.get("mapping"), dict) or is_shell


FORMAT = ItemFormat("chatgpt", "ChatGPT's data export", recognises, read)
