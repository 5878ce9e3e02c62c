"""A conversation with the student that remembers: replies see the nearest memories, and every exchange is kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from datetime import datetime

from memlora_mlx.memory import stages
from memlora_mlx.memory.pipeline import Pipeline, Remembered
from memlora_mlx.records import Exchange, Hit, Image, Memory, Message, Request, Role, Scope

log = logging.getLogger(__name__)

TURNS = 6  # of the running conversation that a reply sees, questions and replies counted
REPLY_TOKENS = 256


class Chat:
    """One running conversation of one user.

    Args:
        limit: memories that a reply sees.
    """

    def __init__(self, pipeline: Pipeline, user: str, *, limit: int) -> None:
        self.pipeline, self._limit = pipeline, limit
        self.owner = Scope(user_id=user)
        self.turns: list[tuple[Role, str]] = []
        self.hits: tuple[Hit, ...] = ()  # the memories that the last reply saw

    def reply(self, text: str, *, cancelled: threading.Event | None = None) -> Generator[str]:
        """Reply in pieces. Closing the generator stops the student; what was said until then stays in the turns.

        Args:
            cancelled: set it on another thread to the same end, also while the prompt is being read.

        Raises:
            Cancelled: `cancelled` was set.
        """
        [vector] = self.pipeline.engine.embed([text], query=True)
        hits = self.pipeline.store.search(vector, self._limit, scope=self.owner, owner_exact=True)
        recalled = [stages.Recalled(hit.memory.text, hit.memory.said_at, None) for hit in hits]
        engine = self.pipeline.engine
        budget = min(self.pipeline.rules.max_context, engine.student.context) - REPLY_TOKENS
        earlier = tuple(self.turns[-TURNS:])
        while earlier and engine.count_tokens((*earlier, ("user", text))) > budget:
            earlier = earlier[2:]  # without the oldest question and its reply
        fitted = stages.fit(
            lambda kept: (*earlier, *stages.chat_turn(text, recalled[:kept])),
            len(recalled),
            engine.count_tokens,
            budget,
        )
        self.hits = tuple(hits[: fitted.kept])
        pieces: list[str] = []
        try:
            for piece in engine.stream(Request(None, fitted.chat, max_tokens=REPLY_TOKENS), cancelled=cancelled):
                pieces.append(piece)
                yield piece
        finally:
            self.turns += [("user", text), ("assistant", "".join(pieces).strip())]

    def remember(
        self, said: str, replied: str, *, key: str, said_at: datetime, image: Image | None = None
    ) -> Remembered:
        """Keep what matters of one exchange; it gives way to a reply that somebody waits for."""
        from memlora_mlx.models.engine import Priority

        question = Message("user", said, said_at=said_at, image=image)
        messages = (question, Message("assistant", replied, said_at=said_at))
        exchange = Exchange(key, self.owner, messages, said_at, "chat", 0)
        # The user chose the file; one that cannot be kept must not cost what was said.
        exchange = self.pipeline.store.images.kept_exchange(exchange, None, log.warning, trusted=True)
        return self.pipeline.remember(exchange, priority=Priority.BACKGROUND)

    def memories(self, limit: int = 20) -> list[Memory]:
        return self.pipeline.store.list(self.owner, limit=limit)

    def undo(self) -> str:
        """Take back the newest change of the store; returns the words concerned."""
        line = self.pipeline.store.undo(self.pipeline.engine.embed)
        return line.old_text or line.new_text or ""
