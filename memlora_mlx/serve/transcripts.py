"""Reads the transcripts of sessions that a hook has queued."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from memlora_mlx.conversations import read_conversations
from memlora_mlx.errors import UsageError
from memlora_mlx.memory.api import Memory
from memlora_mlx.memory.ingest import ingest

FORMAT = "claude-code"
MAX_BYTES = 64 << 20


def read_transcript(memory: Memory, path: str, user: str, cancelled: threading.Event) -> dict[str, Any]:
    """Remember what was said in a session. What was read before, of a session that went on, is not read again.

    Raises:
        UsageError: it is no file of a session.
        BadConversation: it cannot be read.
        TooManyChanges: it would change too many of the older memories.
    """
    file = Path(path)
    if file.suffix != ".jsonl" or not file.is_file():
        raise UsageError(f"{path} is not there, or not a transcript; it was queued by the hook of Claude Code")
    if file.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path} has more than {MAX_BYTES >> 20} MB; read it with `memlora ingest`")
    conversations = read_conversations(file)
    if any(conversation.format != FORMAT for conversation in conversations):
        raise UsageError(f"{path} is not a session of Claude Code; read it with `memlora ingest`")
    stats = ingest(memory.workspace.pipeline, conversations, user=user, cancelled=cancelled)
    return {"exchanges": stats.done, "added": stats.added, "updated": stats.updated, "deleted": stats.deleted}
