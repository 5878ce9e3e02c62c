"""Requests of OpenAI's chat API, read and checked, and the last user turn in them that memories are looked for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from memlora_mlx.errors import UsageError
from memlora_mlx.memory.secrets import screen_exchange
from memlora_mlx.records import Exchange, Message, Scope
from memlora_mlx.text import clean_text

Mode = Literal["full", "read", "off"]
USER_HEADER = "x-memlora-user"
MODE_HEADER = "x-memlora-mode"
MAX_QUERY = 4_000  # characters of a turn by which memories are looked for
MAX_LEARNED = 45_000  # characters of a turn that are remembered
MAX_NAME = 500
TEXT_PARTS = ("text", "input_text")  # types of the parts of a message that are its words
# How Open WebUI begins what it asks for itself: titles, tags, follow-up questions. Nobody said these words.
_TASK = "### Task:"
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)  # of a model that reasons; nobody said them


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request for a reply. `body` is what the client sent, with fields that memlora does not know."""

    body: Mapping[str, Any]
    model: str
    messages: Sequence[Mapping[str, Any]]
    user: str
    mode: Mode

    @property
    def is_stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def wants_usage(self) -> bool:
        options = self.body.get("stream_options")
        return isinstance(options, Mapping) and bool(options.get("include_usage"))

    @property
    def last_user(self) -> int | None:
        """The place of the last user message; None where there is none."""
        places = [at for at, message in enumerate(self.messages) if message.get("role") == "user"]
        return places[-1] if places else None

    @property
    def said(self) -> str:
        """What the user said last."""
        return "" if self.last_user is None else text_of(self.messages[self.last_user])

    @property
    def recalls(self) -> bool:
        """Whether memories are looked for."""
        return self.mode != "off" and bool(self.said.strip())

    def learned(self, reply: str, *, keep_secrets: bool = False) -> dict[str, Any] | None:
        """The arguments of the `add` that remembers this turn and its reply; None where nothing is to be remembered.

        Secrets and private passages are taken out, because the arguments wait on the disk.

        The key is made from the day and all that was said before the reply, so a reply that is asked for again, or a
        request that a client repeats, is remembered once.
        """
        if self.mode != "full" or not self.said.strip():
            return None
        now = datetime.now(UTC)
        before = json.dumps([self.user, now.date().isoformat(), list(self.messages)], sort_keys=True, default=str)
        reply = _THOUGHTS.sub("", reply)
        turns = [Message("user", self.said[:MAX_LEARNED], "User")]
        if reply.strip():
            turns.append(Message("assistant", reply[:MAX_LEARNED], "Assistant"))
        exchange = Exchange("", Scope(), tuple(turns), now, "api", 0)
        screened = screen_exchange(exchange, keep_secrets=keep_secrets).exchange or exchange
        if not any(turn.role == "user" for turn in screened.messages):
            return None
        return {
            "messages": [{"role": m.role, "name": m.speaker, "content": m.text} for m in screened.messages],
            "user_id": self.user,
            "timestamp": now.isoformat(),
            "key": hashlib.sha256(before.encode(errors="replace")).hexdigest(),
            "background": True,
        }


def read_chat_request(content: bytes, headers: Mapping[str, str], default_user: str) -> ChatRequest:
    """A request from its body and headers.

    Args:
        default_user: whose memories are used where neither the header X-Memlora-User nor the field `user` names somebody.

    Raises:
        UsageError: the body is not JSON, or not a chat.
    """
    body = json_object(content)
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model:
        raise UsageError("model is missing; GET /v1/models lists those that are served")
    if not isinstance(messages, list) or not messages:
        raise UsageError("messages must be a list with at least one {role, content}")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise UsageError("each of messages must be an object with a role")
    named = headers.get(USER_HEADER) or body.get("user")
    user = named.strip() if isinstance(named, str) and named.strip() else default_user
    if len(user) > MAX_NAME:
        raise UsageError(f"the user's name can have at most {MAX_NAME} characters")
    mode = headers.get(MODE_HEADER, "full").strip().lower()
    if mode not in ("full", "read", "off"):
        raise UsageError(f"X-Memlora-Mode must be full, read or off, not {mode[:20]!r}")
    request = ChatRequest(body, model, messages, clean_text(user), mode)  # type: ignore[arg-type]
    return ChatRequest(body, model, messages, request.user, "off") if request.said.startswith(_TASK) else request


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises UsageError: it is none."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body must be a JSON object") from error
    if not isinstance(body, dict):
        raise UsageError("the body must be a JSON object")
    return body


def text_of(message: Mapping[str, Any]) -> str:
    """The words of a message, whose content is a text or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") in TEXT_PARTS]
    return "\n".join(text for text in texts if isinstance(text, str))
