"""Conversation files -> conversations -> exchanges.

What a file is, is told by what it holds, never by its name: `formats` has a file for each format. A conversation is
hostile data: sizes are bounded, text is cleaned, and whatever is wrong ends in one line that names the place.
"""

from memlora_mlx.conversations.dates import DateOrder, parse_date
from memlora_mlx.conversations.exchanges import conversation_exchanges, conversation_owners
from memlora_mlx.conversations.fields import DATE_FIELDS
from memlora_mlx.conversations.files import read_conversations
from memlora_mlx.conversations.model import Conversation, ReadOptions, ReadReport, Session, Turn

__all__ = [
    "DATE_FIELDS",
    "Conversation",
    "DateOrder",
    "ReadOptions",
    "ReadReport",
    "Session",
    "Turn",
    "conversation_exchanges",
    "conversation_owners",
    "parse_date",
    "read_conversations",
]
