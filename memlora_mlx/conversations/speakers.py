"""Who is who in a file that only has names: the user, assistants, and people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from memlora_mlx.conversations.model import (
    ROLES,
    Conversation,
    ReadOptions,
    Session,
    Turn,
    daily_sessions,
    nonempty_turns,
    people_of,
)

_ASSISTANT = re.compile(
    r"(?:openai )?chat ?gpt(?:[ -].*)?|gpt(?:-?[0-9].*)?|(?:ai )?assistant|ai(?: bot)?|(?:meta|claude|my) ai|chatbot|bot|"
    r"(?:microsoft |bing |github )?copilot|bing(?: chat)?|(?:google )?gemini(?: .*)?|google bard|perplexity|le chat|"
    r"deepseek.*|grok(?: ?[0-9].*)?|qwen.*|llama.*|mistral.*|claude (?:[0-9].*|opus.*|sonnet.*|haiku.*|code)|model|response|answer"
)
_ALSO_FIRST_NAMES = frozenset({"claude", "bard"})  # they are people in a dated chat, which is one of a messenger


def is_assistant(name: str, *, is_dated: bool) -> bool:
    """Whether a name is that of an assistant. In a dated chat Claude may be somebody's friend."""
    name = name.casefold()
    return bool(_ASSISTANT.fullmatch(name)) or (not is_dated and name in _ALSO_FIRST_NAMES)


def conversation_of_names(
    kind: str, turns: Iterable[Turn], options: ReadOptions, *, is_dated: bool, name: str = "",
    sessions: tuple[Session, ...] | None = None,
) -> Conversation:  # fmt: skip
    """The conversation of turns that have names, with roles where the names say who is the user and who an assistant.

    Args:
        is_dated: whether the turns have times, as those of messengers do.
        sessions: how the turns are divided, if not by their days.
    """
    if sessions is None:
        sessions = daily_sessions(turns)
    names = people_of(sessions)
    assistants = {n for n in names if is_assistant(n, is_dated=is_dated)}
    if not is_dated or any(options.is_own_name(n) for n in names):
        others = set(names) - assistants
        only_own = all(options.is_own_name(n) or n.lower() in ROLES for n in others)
        if only_own and assistants:  # the user and an assistant: a chat with roles
            return _with_roles(kind, sessions, assistants, name)
        if not assistants and others and all(n.lower() in ROLES for n in others):
            return _with_roles(kind, sessions, assistants, name)
    if assistants == set(names):
        return _with_roles(kind, sessions, assistants, name)
    sessions = tuple(
        replace(s, turns=tuple(replace(t, role="assistant") if t.speaker in assistants else t for t in s.turns))
        for s in sessions
    )
    return Conversation("", name, kind, sessions, people_of(sessions))


def _with_roles(kind: str, sessions: tuple[Session, ...], assistants: set[str], name: str) -> Conversation:
    made = []
    for session in sessions:
        said = []
        for turn in session.turns:
            role = "assistant" if turn.speaker in assistants else ROLES.get(turn.speaker.lower(), "user")
            if role is not None:
                said.append(replace(turn, speaker="", role=role))
        made.append(replace(session, turns=nonempty_turns(said)))
    kind = "messages" if kind == "transcript" else kind
    return Conversation("", name, kind, tuple(s for s in made if s.turns))
