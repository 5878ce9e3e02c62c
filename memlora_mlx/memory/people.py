"""Whose memories a speaker of a conversation has: a display name alone makes nobody the owner of what is there.

Two conversations can have two people of one name, and a stranger can call himself as he likes. So a name that another
conversation, or the user, already has gets an owner of its own, "Ann (chat2)", until the user says that the two are one
(`memlora people merge`). Which speaker the user is, only the user says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

from memlora_mlx.conversations import Conversation, conversation_exchanges
from memlora_mlx.conversations.model import OWN_NAMES
from memlora_mlx.memory.store.people import is_taken, known_person, owner_of_exchanges, record_person
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, Scope


def exchanges_of_owners(
    store: Store, conversation: Conversation, *, user: str, own_names: Collection[str] = ()
) -> list[Exchange]:
    """The exchanges of a conversation, each with the owner that its speaker has in this store.

    Args:
        user: the user's own name as an owner, which no speaker gets by being called so.
        own_names: speakers that are the user.
    """
    planned = conversation_exchanges(conversation, user=user)
    if conversation.format == "locomo" or not conversation.speakers:  # LoCoMo's owners have a number of their sample
        return planned
    chosen: dict[str, tuple[str, str]] = {}
    for speaker in conversation.speakers:
        read_as = user if speaker in conversation.own_speakers else speaker
        if _is_user(conversation, speaker, own_names):
            chosen[read_as] = user, user
        elif read_as not in chosen:
            theirs = [exchange for exchange in planned if exchange.owner == Scope(user_id=read_as)]
            chosen[read_as] = _owner_of(store, conversation, speaker, theirs, user)
    return [_owned(exchange, *chosen[exchange.owner.user_id or ""]) for exchange in planned]


def _is_user(conversation: Conversation, speaker: str, own_names: Collection[str]) -> bool:
    """Whether a speaker is the user: by name, as the user said, or as the one who talks with an assistant.

    Among people, to be called "me" is not enough: whoever wrote or exported the file calls himself so.
    """
    if speaker.casefold() in {name.casefold() for name in own_names}:
        return True
    turns = (turn for session in conversation.sessions for turn in session.turns)
    is_told = speaker.casefold() not in OWN_NAMES  # then it was an option that named this speaker
    return speaker in conversation.own_speakers and (is_told or any(turn.role == "assistant" for turn in turns))


def _owner_of(
    store: Store, conversation: Conversation, speaker: str, theirs: Sequence[Exchange], user: str
) -> tuple[str, str]:
    """The name in the keys, and the owner: those that these words were stored under before, else a name nobody else has.

    The two differ where the user has renamed or merged somebody since: the keys stay, so that nothing is read twice.
    """
    known = known_person(store, conversation.name, speaker)
    number = 0
    while True:
        number += 1
        mark = conversation.name if number == 1 else f"{conversation.name} {number}"
        candidates = [speaker, f"{speaker} ({mark})"] if number == 1 else [f"{speaker} ({mark})"]
        for name in dict.fromkeys([*candidates, *([known] if known else [])]):
            # Are they the same conversation as before, by its words?
            if owner := owner_of_exchanges(store, [_owned(exchange, name, name).key for exchange in theirs]):
                record_person(store, conversation.name, speaker, owner)
                return name, owner
        for name in candidates:
            if name.casefold() != user.casefold() and not is_taken(store, name, conversation.name, speaker):
                record_person(store, conversation.name, speaker, name)
                return name, name


def _owned(exchange: Exchange, name: str, owner: str) -> Exchange:
    """The exchange as this owner's, with a key that says under which name its words are known."""
    if exchange.owner != Scope(user_id=name):
        exchange = replace(exchange, key=hashlib.sha256(f"{name}\0{exchange.key}".encode()).hexdigest()[:32])
    return replace(exchange, owner=Scope(user_id=owner))
