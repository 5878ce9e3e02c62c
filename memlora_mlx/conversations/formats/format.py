"""The interface of a format: how it is recognised, and how it is read.

There are three kinds. In an `ItemFormat` each JSON object is a conversation; a file has one of them, a list, or one on
each line. In a `RowFormat` the objects of a file are messages or events, which together make conversations. A
`TextFormat` is text that is no JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from memlora_mlx.conversations.model import Conversation, Reading


class Item(NamedTuple):
    """A JSON value of a file."""

    where: str  # "item 3" or "line 3"
    value: Any
    position: int  # 0-based


@dataclass(frozen=True, slots=True)
class ItemFormat:
    """A format in which each JSON object is a conversation.

    Args:
        name: kept in the store with each conversation; it never changes.
        title: for people, as in "an export of Claude".
        recognises: whether an object is in this format. It must not raise, whatever the object holds.
        read: the conversation of an object. Raises FormatError with the place of the fault.
    """

    name: str
    title: str
    recognises: Callable[[dict[str, Any]], bool]
    read: Callable[[Item, Reading], Conversation]


@dataclass(frozen=True, slots=True)
class RowFormat:
    """A format in which the JSON objects of a file are messages or events.

    Args:
        recognises: whether an object can only be in this format. One of the first hundred decides for the whole file.
        read: the conversations of all objects, in which every one may be of any shape. Raises FormatError, or
            reports what is wrong with one conversation by `Reading.each_alone`.
    """

    name: str
    title: str
    recognises: Callable[[dict[str, Any]], bool]
    read: Callable[[Sequence[Item], Reading], Iterable[Conversation]]
    by_folder: bool = False  # an archive has a folder for each conversation, with a file for each day or part


@dataclass(frozen=True, slots=True)
class TextFormat:
    """A format that is text.

    Args:
        recognises: whether a text is in this format, told by its first lines.
        read: the conversations of a text. Raises FormatError with the number of the line.
    """

    name: str
    title: str
    recognises: Callable[[str], bool]
    read: Callable[[str, Reading], Iterable[Conversation]]


@dataclass(frozen=True, slots=True)
class UnreadFormat:
    """A form that is known and not read: it is refused by its name.

    Args:
        title: what it is, as in "is a web page".
        advice: what to do instead.
    """

    title: str
    advice: str
    recognises: Callable[[Any], bool]  # of a JSON value, or of a text


Format = ItemFormat | RowFormat | TextFormat
