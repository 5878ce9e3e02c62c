"""The names of speakers in facts: a small student misspells them, or calls a speaker with a name "User"."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from memlora_mlx.records import Exchange

_CAPITALISED = re.compile(r"\b[^\W\d_]\w{2,}")
_USER = re.compile(r"^(?:The )?[Uu]ser\b(?!-|\w)")
_ALIKE = 0.85  # of difflib's ratio: "Melani" and "Melanie" have 0.92, "Anna" and "Anne" 0.75


def with_speaker_names(fact: str, exchange: Exchange) -> str:
    """The fact with its speakers called by their names.

    "User" at its beginning becomes the owner's name where the owner has one. A capitalised word that stands nowhere in the
    exchange and is almost a speaker's name becomes that name.
    """
    names = {message.speaker.split()[0] for message in exchange.messages if message.speaker and message.speaker.strip()}
    owners = {m.speaker.split()[0] for m in exchange.messages if m.role == "user" and m.speaker and m.speaker.strip()}
    if len(owners) == 1:
        [owner] = owners
        fact = _USER.sub(lambda _: owner, fact)
    said = " ".join(message.text for message in exchange.messages).casefold()

    def spelt(match: re.Match[str]) -> str:
        word = match[0]
        if not word[0].isupper() or word.casefold() in said or word in names:
            return word
        meant = [name for name in names if SequenceMatcher(None, word.casefold(), name.casefold()).ratio() >= _ALIKE]
        return meant[0] if len(meant) == 1 else word

    return _CAPITALISED.sub(spelt, fact)
