"""Conversation files -> conversations -> exchanges.

Four forms are told apart by what a file holds, never by its name: LoCoMo samples; OpenAI-style messages, as JSON or
JSONL; ChatGPT's `conversations.json`; plain `Name: text` transcripts. A conversation is hostile data: sizes are
bounded, text is cleaned, and whatever is wrong ends in one line that names the place.
"""

from memlora_mlx.conversations.dates import parse_date
from memlora_mlx.conversations.exchanges import conversation_exchanges, conversation_owners
from memlora_mlx.conversations.files import read_conversations
from memlora_mlx.conversations.model import Conversation, ConversationFormat, Session, Turn

__all__ = [
    "Conversation",
    "ConversationFormat",
    "Session",
    "Turn",
    "conversation_exchanges",
    "conversation_owners",
    "parse_date",
    "read_conversations",
]
