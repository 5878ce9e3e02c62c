"""Who said what a fact says: its provenance class. The words decide, not the student.

A student that reads a chat cannot tell what its user said from what an assistant said, or what either of them quoted. So a
web page that says that somebody is no longer married could delete what the user has told. The applier of operations
(`memlora_mlx.memory.store.transactions`) lets no fact change a memory of a higher class; for that it has to know the class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from memlora_mlx.memory.grounding import answered_messages, occurs, sentences_of
from memlora_mlx.memory.quotes import split_quotes
from memlora_mlx.memory.retrieval.lexical import content_words
from memlora_mlx.records import PROVENANCES, Exchange, Message, Provenance

# Said of a fact, these turn it round; as stop words they are no content words.
_TURNING = re.compile(r"\b(?:no|not|never|nor|without|cannot|\w+n['’]t)\b", re.IGNORECASE)
_SPEAKERS = content_words("user assistant")
_ASSISTANTS = frozenset({"assistant", "ai", "bot", "chatbot", "chatgpt", "claude", "gemini", "copilot", "gpt", "llama"})
LEAST_SHARE = 0.6  # of a fact's words in one sentence, from which that sentence can be what the fact was taken from


def provenance_of(fact: str, exchange: Exchange) -> Provenance:
    """The class of a fact of an exchange: the owner's own, unless a sentence of somebody else says more of it.

    Of the owner are the statements and questions of the owner, and the questions of others after which the owner speaks,
    as the answer may be a mere yes; but not what a message quotes. Words are compared as for grounding, with the words
    that negate among them.
    """
    wanted = _words(fact) - _SPEAKERS.union(*(content_words(m.speaker) for m in exchange.messages if m.speaker))
    if not wanted:
        return "user"
    owned: set[str] = set()
    found: Provenance = "user"
    most = LEAST_SHARE
    others = list(_sentences_by_class(exchange))
    for provenance, sentence in others:
        if provenance == "user":
            owned |= {word for word in wanted if occurs(word, _words(sentence))}
    share = len(owned) / len(wanted)
    for provenance, sentence in sorted(others, key=lambda pair: PROVENANCES.index(pair[0])):
        if provenance == "user":
            continue
        spoken = _words(sentence)
        said = sum(occurs(word, spoken) for word in wanted) / len(wanted)
        if said > share and said >= most:
            found, share = provenance, said
    return found


class Provenances(dict[str, Provenance]):
    """The classes of an exchange's facts and texts, each found once. Without an exchange all are the owner's own."""

    def __init__(self, exchange: Exchange | None) -> None:
        super().__init__()
        self._exchange = exchange

    def __missing__(self, text: str) -> Provenance:
        found: Provenance = "user" if self._exchange is None else provenance_of(text, self._exchange)
        self[text] = found
        return found


def lowest(classes: Iterable[Provenance]) -> Provenance:
    """The lowest of some classes; "user" of none."""
    return max(classes, key=PROVENANCES.index, default="user")


def speaker_class(message: Message) -> Provenance:
    """The class of what a message says itself."""
    if message.role == "user":
        return "user"
    if message.role == "system":
        return "quoted"
    words = re.findall(r"[a-z]+", (message.speaker or "assistant").casefold())
    return "assistant" if _ASSISTANTS.intersection(words) else "other"


def _sentences_by_class(exchange: Exchange) -> Iterator[tuple[Provenance, str]]:
    for message, is_answered in answered_messages(exchange):
        own = speaker_class(message)
        said, quoted = split_quotes(message.text)
        for sentence in sentences_of(said, message.image.caption if message.image else None):
            is_confirmed = is_answered and own != "quoted" and sentence.rstrip(" \"'”’»)").endswith(("?", "？", "؟"))
            yield ("user" if is_confirmed else own), sentence
        for sentence in sentences_of(quoted, None):
            yield "quoted", sentence


def _words(text: str) -> frozenset[str]:
    return content_words(text) | ({"not"} if _TURNING.search(text) else frozenset())
