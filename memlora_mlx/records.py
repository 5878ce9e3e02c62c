"""The records that cross the borders between rooms: frozen, plain values, no behaviour beyond naming."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Literal

Role = Literal["system", "user", "assistant"]
Event = Literal["ADD", "UPDATE", "DELETE", "NONE"]
Stage = Literal["extraction", "update", "generation", "vqa"]
STAGES: tuple[Stage, ...] = ("extraction", "update", "generation", "vqa")
Provenance = Literal["user", "other", "assistant", "quoted"]  # who said what a memory says: its owner, ...
PROVENANCES: tuple[Provenance, ...] = ("user", "other", "assistant", "quoted")  # the highest class first
ChatMessages = tuple[tuple[Role, str], ...]  # what a model is asked, in its order: role and text


@dataclass(frozen=True, slots=True)
class Image:
    """An image that came with a message: where it is, and what it shows in words."""

    source: str  # a URL or a path, as the conversation gave it
    caption: str | None = None
    sha256: str | None = None  # of its picture in the store; None: nothing but a reference


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, seen from one owner: the owner has the role `user`."""

    role: Role
    text: str
    speaker: str | None = None  # a display name, where the conversation has one
    said_at: datetime | None = None  # when it was said, not when it was ingested; aware ones are UTC
    image: Image | None = None
    ref: str | None = None  # the turn's id in its source (LoCoMo's dia_id)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose memories: Mem0's three ids. As an owner it is exact; as a query, `None` means any."""

    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one `add` reads: one or two messages (or a user turn with its replies), in one owner's view."""

    key: str  # the same words of the same conversation for the same owner always give the same key
    owner: Scope
    messages: tuple[Message, ...]
    said_at: datetime | None
    source: str  # names the conversation: "conv-26", a file's name, a ChatGPT title
    position: int  # 0-based within the source, for this owner
    before: tuple[
        Message, ...
    ] = ()  # the turn before, for a message that makes no sense without it; it is read, not stored


@dataclass(frozen=True, slots=True)
class MessageKey:
    """Names one message of an exchange."""

    exchange_key: str
    position: int  # 0-based within the exchange


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """One fact, as it stands in the store."""

    id: str
    text: str
    owner: Scope
    said_at: datetime | None  # when its words were first said; an UPDATE never changes it
    stored_at: datetime  # UTC
    changed_at: datetime | None  # UTC; None while as first stored
    revised_at: datetime | None = None  # when the words of its last UPDATE were said
    exchange_key: str | None = None  # the exchange it came from
    source: str | None = None  # the conversation of that exchange
    refs: tuple[str, ...] = ()  # the turns of that exchange in their source, for provenance
    image: Image | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    message: MessageKey | None = None  # the message its words came from; None where that is not known
    provenance: Provenance = "user"  # see `memlora_mlx.memory.provenance`


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """A message as a search finds it: what was said, by whom, when and in which conversation."""

    key: MessageKey
    owner: Scope
    role: Role
    text: str
    speaker: str | None
    said_at: datetime | None
    image: Image | None
    ref: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Hit:
    """What a search found: a message with the memory that came from it, or one of the two alone."""

    memory: MemoryRecord | None
    message: SourceMessage | None
    score: float  # what the order of a search goes by, from about 0.0 to 1.5; higher is better
    superseded_at: datetime | None = None  # UTC; when the last memory of the message was changed or withdrawn

    @property
    def id(self) -> str:
        """The memory's id, else one of the message, which is always the same."""
        if self.memory is not None:
            return self.memory.id
        assert self.message is not None
        return f"{self.message.key.exchange_key}:{self.message.key.position}"

    @property
    def text(self) -> str:
        """The memory, else the words of the message."""
        found = self.memory or self.message
        assert found is not None
        return found.text

    @property
    def owner(self) -> Scope:
        found = self.memory or self.message
        assert found is not None
        return found.owner

    @property
    def said_at(self) -> datetime | None:
        """When the words were said."""
        found = self.message or self.memory
        assert found is not None
        return found.said_at


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A memory found by the distance between its vector and another."""

    memory: MemoryRecord
    distance: float  # Euclidean, between unit vectors: 0.0 to 2.0; lower is closer

    @property
    def score(self) -> float:
        """Cosine similarity, -1.0 to 1.0; higher is closer. For unit vectors it is 1 - distance^2 / 2."""
        return 1.0 - self.distance * self.distance / 2.0


@dataclass(frozen=True, slots=True)
class Revision:
    """One line of a memory's history."""

    id: int
    memory_id: str
    event: Event
    old_text: str | None
    new_text: str | None
    at: datetime  # UTC
    actor: str  # "model", "request" (the owner asked to forget it), "user", "undo" or "import"
    exchange_key: str | None = None
    undone: bool = False


@dataclass(frozen=True, slots=True)
class Handicap:
    """What an output that begins in one way has to make up for: it is chosen only where it is so much likelier."""

    start: str  # of the output, to the character that decides
    nats: float  # taken from the logits of the tokens that end this start


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a stage may write."""

    kind: Literal["lark", "json_schema"]
    text: str
    longest_closing: str  # the longest text needed to complete an output from anywhere in it
    handicap: Handicap | None = None


class Priority(IntEnum):
    INTERACTIVE = 0  # somebody waits for it
    BACKGROUND = 1  # memory work; gives way within one step


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the student: a chat, the expert that answers it, and what the answer may look like."""

    stage: Stage | None  # None: the base alone, for chatting
    chat: ChatMessages
    grammar: Grammar | None = None  # None: free text
    max_tokens: int = 256  # of output
    image: Path | None = None  # the file of a picture the chat is about
    stop_repetition: bool = False  # end free text that goes in circles, without the repetition


@dataclass(frozen=True, slots=True)
class Completion:
    """The student's answer and what it cost."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    output_tokens: int
    steps: int  # forward passes that chose tokens; fewer than the tokens where some were forced or looked up
    seconds: float  # of the engine's time, prompt included


@dataclass(frozen=True, slots=True)
class Activity:
    """What an engine is doing, for a status line."""

    doing: tuple[str, ...]  # "chat", "extraction expert", "update (base)"; empty while idle
    tokens: int  # written since the engine began
    reading: tuple[int, int]  # tokens read and to read, of long prompts; (0, 0) if there are none
    bytes: int  # that MLX takes in this process: its arrays, and freed buffers that it keeps
