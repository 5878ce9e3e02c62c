"""A conversation as each owner of memories sees it: exchanges."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from memlora_mlx.conversations.model import Conversation, Session, Turn
from memlora_mlx.records import Exchange, Message, Scope

INTERLEAVED_EXCHANGES = 2  # turns per exchange where each speaker has a memory (Mem0's LoCoMo protocol)
MAX_REPLIES = 6  # turns per exchange of a chat with an assistant


def conversation_owners(conversation: Conversation, *, user: str) -> list[Scope]:
    """Whose memories a conversation feeds: every named speaker's own, else those of `user` alone.

    A speaker that is the user himself ("Me") feeds the memories of `user`.
    """
    return list(dict.fromkeys(owner for owner, _ in _views(conversation, user)))


def _views(conversation: Conversation, user: str) -> list[tuple[Scope, str | None]]:
    """Each speaker whose memories a conversation feeds, with their owner; None stands for whoever has the role user."""
    if conversation.format == "locomo":
        numbers = re.findall("[0-9]+", conversation.id)
        number = numbers[-1] if numbers else conversation.position
        return [(Scope(user_id=f"{speaker}_{number}"), speaker) for speaker in conversation.speakers]
    if conversation.speakers:
        own = conversation.own_speakers
        return [(Scope(user_id=user if name in own else name), name) for name in conversation.speakers]
    return [(Scope(user_id=user), None)]


def conversation_exchanges(conversation: Conversation, *, user: str) -> list[Exchange]:
    """Every owner's exchanges in the order to ingest them: batch by batch, so that all memories grow together.

    Between named speakers an exchange is two turns (the last of a session may be one), and there is one of it for each
    owner who speaks in it, who has the role `user` there. LoCoMo's two have one of every exchange, as its readers
    count them. With an assistant an exchange is the user's turns and the replies to them.

    Args:
        user: the owner of conversations that name nobody, and of the words of "Me" and "You".
    """
    names: dict[Scope, set[str | None]] = {}
    for owner, speaker in _views(conversation, user):
        names.setdefault(owner, set()).add(speaker)
    has_assistant = any(turn.role == "assistant" for session in conversation.sessions for turn in session.turns)
    cut = _two_person_exchanges if conversation.speakers and not has_assistant else _group_exchanges
    made: list[Exchange] = []
    seen: Counter[tuple[Scope, str]] = Counter()
    positions: Counter[Scope] = Counter()
    for session in conversation.sessions:
        for turns in cut(session.turns):
            for owner, own in names.items():
                messages = tuple(_message(turn, own, session.said_at) for turn in turns)
                speaks = any(message.role == "user" for message in messages)
                if conversation.speakers and conversation.format != "locomo" and not speaks:
                    continue
                content = _content(conversation, session, messages)
                made.append(
                    Exchange(
                        key=_digest([owner.user_id, content, seen[owner, content]]),
                        owner=owner,
                        messages=messages,
                        said_at=messages[0].said_at,
                        source=conversation.name,
                        position=positions[owner],
                    )
                )
                seen[owner, content] += 1
                positions[owner] += 1
    return made


def _two_person_exchanges(turns: tuple[Turn, ...]) -> Iterator[tuple[Turn, ...]]:
    for start in range(0, len(turns), INTERLEAVED_EXCHANGES):
        yield turns[start : start + INTERLEAVED_EXCHANGES]


def _group_exchanges(turns: tuple[Turn, ...]) -> Iterator[tuple[Turn, ...]]:
    """Cut before a user's turn that follows a reply; a greeting that opens the chat stays with the first."""
    start = 0
    asked = False
    for at, turn in enumerate(turns):
        is_next_question = turn.role != "assistant" and asked and turns[at - 1].role == "assistant"
        if is_next_question or at - start == MAX_REPLIES:
            yield turns[start:at]
            start = at
        asked = asked or turn.role != "assistant"
    yield turns[start:]


def _message(turn: Turn, own: set[str | None], session_date: datetime | None) -> Message:
    """A turn as an owner sees it, who is called by one of the names; None among them: by the role user."""
    if None in own and turn.role is not None:
        role = turn.role
    else:
        role = "user" if turn.role != "assistant" and turn.speaker in own else "assistant"
    return Message(role, turn.text, turn.speaker or None, turn.said_at or session_date, turn.image, turn.ref)


def _content(conversation: Conversation, session: Session, messages: Iterable[Message]) -> str:
    said_at = session.said_at.isoformat() if session.said_at else None
    parts = [(m.role, m.speaker, m.text, m.image and [m.image.source, m.image.caption]) for m in messages]
    return _digest([conversation.id, said_at, parts])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
