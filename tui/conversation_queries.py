"""What the Chat screen reads of stored conversations. The functions run on a thread (`Backend.run`)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.errors import MemloraError, StoreError
from memlora_mlx.tui.chat_controller import ChatTurn

if TYPE_CHECKING:
    from memlora_mlx.memory.results import ExchangeResult
    from memlora_mlx.memory.store.conversations import SavedConversation, SavedTurn
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.records import Scope

MAX_LISTED = 500  # conversations in the list


@dataclass(frozen=True, slots=True)
class LoadedConversation:
    """A conversation, or its newest part."""

    saved: SavedConversation
    saved_turns: tuple[SavedTurn, ...]
    turns: tuple[ChatTurn, ...]
    earlier: int  # messages before them


def owner_of(workspace: Workspace) -> Scope:
    from memlora_mlx.records import Scope

    return Scope(user_id=workspace.settings.user)


def listed(workspace: Workspace, words: str) -> list[SavedConversation]:
    """The user's conversations with these words, or all of them; the one that was changed last first."""
    from memlora_mlx.memory.store.conversations import list_conversations

    return list_conversations(workspace.store, owner_of(workspace), words=words, limit=MAX_LISTED)


def first_conversation(workspace: Workspace, beginning: str | None) -> SavedConversation | None:
    """The conversation whose id begins so, else the last one. Raises StoreError: no id begins so."""
    from memlora_mlx.memory.store.conversations import find_conversation, latest_conversation

    if beginning is not None:
        return find_conversation(workspace.store, beginning)
    return latest_conversation(workspace.store, owner_of(workspace))


def load(workspace: Workspace, conversation: str, last: int, since: str | None = None) -> LoadedConversation:
    """The newest `last` questions of a conversation with their replies, and all from the question with the key `since` on.

    Raises:
        StoreError: the conversation was deleted.
    """
    from memlora_mlx.memory.conversation_export import questions_and_replies
    from memlora_mlx.memory.store.conversations import find_conversation, read_turns

    saved = find_conversation(workspace.store, conversation)
    found = read_turns(workspace.store, conversation, last=last, since=since)
    turns = tuple(_turn(workspace, question, reply) for question, reply in questions_and_replies(found))
    return LoadedConversation(saved, tuple(found), turns, saved.turns - len(found))


def export(workspace: Workspace, conversation: str, path: Path) -> int:
    """Write a conversation to a new Markdown file. Returns the number of messages. Raises UsageError: the file exists."""
    from memlora_mlx.memory.conversation_export import conversation_markdown, write_new_file
    from memlora_mlx.memory.store.conversations import find_conversation, read_turns

    saved = find_conversation(workspace.store, conversation)
    write_new_file(path, conversation_markdown(saved, read_turns(workspace.store, conversation)))
    return saved.turns


def _turn(workspace: Workspace, question: SavedTurn, reply: SavedTurn | None) -> ChatTurn:
    from memlora_mlx.records import Image

    turn = ChatTurn(
        question.text,
        image=question.image and Image(question.image.source, question.image.caption),
        reply=reply.text if reply is not None else "",
        stopped=reply is None or reply.state == "cut",
        key=question.exchange_key,
        said_at=question.said_at,
        is_saved=True,
    )
    if question.is_remembered:
        turn.memory, turn.remembered = "done", _remembered(workspace, turn.key)
    elif reply is None:
        turn.is_noted = _is_to_be_noted(workspace, turn)
        turn.stopped = not turn.is_noted
    return turn


def _is_to_be_noted(workspace: Workspace, turn: ChatTurn) -> bool:
    """Whether what was noted of the turn is its reply; False where the models are not there."""
    from memlora_mlx.memory.chat import Chat

    with contextlib.suppress(MemloraError):
        chat = Chat(workspace.pipeline, workspace.settings.user, limit=workspace.settings.limit)
        return not chat.wants_reply(turn.question, turn.image)
    return False


def _remembered(workspace: Workspace, key: str) -> ExchangeResult | None:
    """What was stored from an exchange, by its history; None where the exchange is gone."""
    from memlora_mlx.memory.changes import AppliedChange
    from memlora_mlx.memory.results import ExchangeResult
    from memlora_mlx.memory.store.history import exchange_history

    try:
        exchange = workspace.store.exchange(key)
    except StoreError:
        return None
    return ExchangeResult(
        exchange,
        applied=tuple(
            AppliedChange(line.event, line.memory_id, line.new_text, line.old_text)
            for line in exchange_history(workspace.store, key)
            if line.actor in ("model", "request") and not line.undone
        ),
    )
