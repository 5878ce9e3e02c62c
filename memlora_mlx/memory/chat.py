"""A conversation with the student that remembers: replies see the nearest memories, and every exchange is kept."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from memlora_mlx.memory import stages, visual_questions
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.results import ExchangeResult
from memlora_mlx.memory.search.find import embed_some_messages, find
from memlora_mlx.records import (
    ChatMessages,
    Completion,
    Exchange,
    Hit,
    Image,
    MemoryRecord,
    Message,
    Priority,
    Request,
    Role,
    Scope,
)
from memlora_mlx.text import clean_text

log = logging.getLogger(__name__)

MAX_TURNS = 6  # of the running conversation that a reply sees, questions and replies counted
REPLY_TOKENS = 256
INSTRUCTIONS_SHARE = 0.2  # of a prompt that a system prompt may take
LONGEST_SHARE = 0.75  # of a prompt that one message may take; the rest is for memories
MAX_CHARACTERS_PER_TOKEN = 16
_LEFT_OUT = "\n[...]\n"
# Named, as the speakers are whom the experts were trained on: without names the student's own chatter became facts of the user.
USER, ASSISTANT = "User", "Assistant"


class Chat:
    """One running conversation of one user.

    Args:
        limit: memories that a reply sees; with 0 none are looked for.
        instructions: a system prompt. One that is too long loses its middle.
        reply_tokens: the longest reply.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        user: str,
        *,
        limit: int,
        instructions: str = "",
        reply_tokens: int = REPLY_TOKENS,
    ) -> None:
        self.pipeline, self._limit = pipeline, limit
        self._instructions, self._reply_tokens = clean_text(instructions), reply_tokens
        self.owner = Scope(user_id=user)
        self.turns: list[tuple[Role, str]] = []
        self.hits: tuple[Hit, ...] = ()  # the memories that the last reply saw
        self.completion: Completion | None = None  # what the last reply cost, once it ended by itself

    def reply(
        self, text: str, *, image: Image | None = None, cancelled: threading.Event | None = None
    ) -> Generator[str]:
        """Reply in pieces. Closing the generator stops the student; what was said until then stays in the turns.

        Args:
            image: a picture's file that the user shows. A student that sees looks at it for this reply; later ones see
                what was said of it. Any other reads its caption.
            cancelled: set it on another thread to the same end, also while the prompt is being read.

        Raises:
            Cancelled: `cancelled` was set.
            UsageError: the picture cannot be read.
        """
        picture = None
        with contextlib.ExitStack() as until_the_end:
            if image is not None and self.pipeline.options.supports_images:
                picture = until_the_end.enter_context(visual_questions.normalised_copy(image.source))
            if image is not None and (image.caption or picture is None):
                text = f"{text}\n[shares an image: {image.caption or 'no caption'}]".strip()
            yield from self._reply(text, picture, cancelled)

    def _reply(self, text: str, picture: Path | None, cancelled: threading.Event | None) -> Generator[str]:
        text, engine = self._fitting(clean_text(text), picture, LONGEST_SHARE), self.pipeline.engine
        self.hits, self.completion = (), None
        hits = self._find(text) if self._limit else []
        if hits and picture is None and self.pipeline.options.use_expert_in_chat and text.rstrip().endswith("?"):
            request, truncated = self.pipeline.answer_request(text, hits)
            self.hits = tuple(hits[: len(hits) - truncated])
            request = replace(request, max_tokens=min(request.max_tokens, self._reply_tokens))
            yield from self._stream(request, text, cancelled)
            return
        prompt_memories = self.pipeline.evidence(text, hits)
        budget = self._budget
        system: ChatMessages = ()
        if self._instructions:
            system = (("system", self._fitting(self._instructions, None, INSTRUCTIONS_SHARE)),)
        earlier = tuple(self.turns[-MAX_TURNS:])
        while earlier and engine.count_tokens((*system, *earlier, ("user", text)), picture) > budget:
            earlier = earlier[2:]  # without the oldest question and its reply
        fitted = stages.fit_prompt(
            lambda kept: (*system, *earlier, *stages.chat_turn_with_memories(text, prompt_memories[:kept])),
            len(prompt_memories),
            lambda chat: engine.count_tokens(chat, picture),
            budget,
        )
        self.hits = tuple(hits[: fitted.kept])
        reply = Request(None, fitted.chat, max_tokens=self._longest_reply, image=picture, stop_repetition=True)
        yield from self._stream(reply, text, cancelled)

    def _find(self, text: str) -> list[Hit]:
        engine, protocol = self.pipeline.engine, self.pipeline.options.protocol
        [vector] = engine.embed([text], query=True)
        embed_some_messages(self.pipeline.store, engine.embed, protocol)
        return find(
            self.pipeline.store,
            text,
            vector,
            self._limit,
            protocol=protocol,
            scopes=[self.owner],
            owner_exact=True,
            show_superseded=False,
        )

    @property
    def _longest_reply(self) -> int:
        """Tokens that a reply may have: those asked for, but at most half of the context."""
        return min(self._reply_tokens, self._context // 2)

    @property
    def _budget(self) -> int:
        """Tokens that a reply's prompt may have."""
        return self._context - self._longest_reply

    @property
    def _context(self) -> int:
        return min(self.pipeline.options.max_context, self.pipeline.engine.student.context)

    def _fitting(self, text: str, picture: Path | None, share: float) -> str:
        """What a reply sees of a message: one that is too long loses its middle. All of it is remembered, in parts."""
        most = max(1, int(share * self._budget))
        kept = most * MAX_CHARACTERS_PER_TOKEN  # of a giant, most is not even counted
        while len(text) > kept or (tokens := self.pipeline.engine.count_tokens((("user", text),), picture)) > most:
            if len(text) <= kept:
                kept = min(len(text) - 1, int(len(text) * most / tokens * 0.95))
            text = _without_middle(text, kept)
        return text

    def _stream(self, request: Request, text: str, cancelled: threading.Event | None) -> Generator[str]:
        pieces: list[str] = []
        try:
            stream = self.pipeline.engine.stream(request, cancelled=cancelled)
            while True:
                try:
                    piece = next(stream)
                except StopIteration as end:
                    self.completion = end.value
                    break
                pieces.append(piece)
                yield piece
        finally:
            self.turns += [("user", text), ("assistant", "".join(pieces).strip())]

    def remember(
        self, said: str, replied: str, *, key: str, said_at: datetime, image: Image | None = None
    ) -> ExchangeResult:
        """Keep what matters of one exchange; it gives way to a reply that somebody waits for."""
        question = Message("user", clean_text(said), USER, said_at=said_at, image=image)
        messages = (question, Message("assistant", replied, ASSISTANT, said_at=said_at))
        exchange = Exchange(key, self.owner, messages, said_at, "chat", 0)
        # The user chose the file; one that cannot be kept must not cost what was said.
        exchange = self.pipeline.store.images.store_exchange_images(exchange, None, log.warning, trusted=True)
        return self.pipeline.remember(exchange, priority=Priority.BACKGROUND)

    def list_memories(self, limit: int = 20) -> list[MemoryRecord]:
        return self.pipeline.store.list(self.owner, limit=limit)


def _without_middle(text: str, characters: int) -> str:
    """The beginning and the end of a text, in at most so many characters; without the mark where there is no room."""
    room = characters - len(_LEFT_OUT)
    if room < 2:
        return text[:characters]
    return text[: room - room // 2] + _LEFT_OUT + text[len(text) - room // 2 :]
