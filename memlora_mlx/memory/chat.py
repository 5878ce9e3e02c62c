"""A conversation with the student that remembers: replies see the nearest memories, and every exchange is kept."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Sequence
from datetime import datetime
from pathlib import Path

from memlora_mlx.memory import stages, visual_questions
from memlora_mlx.memory.chat_turns import is_question, noted, refers_back, with_person
from memlora_mlx.memory.conversation_export import questions_and_replies
from memlora_mlx.memory.memory_replies import reply_from_memory
from memlora_mlx.memory.offered import cited, near_enough, without_talk
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.results import ExchangeResult
from memlora_mlx.memory.search.find import embed_some_messages, find
from memlora_mlx.memory.second_person import to_first_person
from memlora_mlx.memory.secrets import screen_turns
from memlora_mlx.memory.store.conversations import SavedTurn, mark_remembered
from memlora_mlx.memory.store.store import Store
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
KEEPS = "I keep what matters of this."  # to a statement, where nobody waits for what was noted of it
PINNED = "pinned"  # metadata of a memory that every reply is given
MAX_PINNED = 10  # of an owner's pinned memories, those pinned last


def pinned_memories(store: Store, owner: Scope) -> list[MemoryRecord]:
    """The memories of an owner that every reply is given."""
    return store.list(owner, {PINNED: True}, limit=MAX_PINNED, order="changed")


class Chat:
    """One running conversation of one user.

    Args:
        limit: memories that a reply sees; with 0 none are looked for.
        instructions: a system prompt. One that is too long loses its middle.
        reply_tokens: the longest reply; by default `REPLY_TOKENS`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        user: str,
        *,
        limit: int,
        instructions: str = "",
        reply_tokens: int | None = None,
    ) -> None:
        self.pipeline, self.limit = pipeline, limit
        self._instructions, self._reply_tokens = clean_text(instructions), reply_tokens or REPLY_TOKENS
        self.owner = Scope(user_id=user)
        self.turns: list[tuple[Role, str]] = []
        self.hits: tuple[Hit, ...] = ()  # the memories that the last reply was given
        self.cited: tuple[Hit, ...] = ()  # those of them whose words it has
        self.completion: Completion | None = None  # what the last reply cost, once it ended by itself

    def resume(self, turns: Sequence[SavedTurn]) -> None:
        """Continue a conversation: the next reply sees its last questions and replies."""
        self.turns.clear()
        for question, reply in questions_and_replies(turns):
            self._end_turn(question.text, reply.text if reply is not None else "")

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

    def wants_reply(self, text: str, image: Image | None = None) -> bool:
        """Whether the student replies to this. One that cannot talk freely answers questions; anything else is noted."""
        sees = image is not None and self.pipeline.options.supports_images
        return self.pipeline.options.talks_freely or sees or is_question(text)

    def _reply(self, text: str, picture: Path | None, cancelled: threading.Event | None) -> Generator[str]:
        text, engine = self._fitting(clean_text(text), picture, LONGEST_SHARE), self.pipeline.engine
        self.hits, self.cited, self.completion = (), (), None
        if self.limit and picture is None and not self.pipeline.options.talks_freely:
            yield from self._reply_from_memory(text, cancelled)
            return
        hits = self._offered(text) if self.limit else []
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
        self.cited = cited(text, self.turns[-1][1], self.hits)

    def _reply_from_memory(self, text: str, cancelled: threading.Event | None) -> Generator[str]:
        reply = "" if is_question(text) else KEEPS
        try:
            if not reply:
                question = with_person(text, self.turns)
                found = reply_from_memory(self.pipeline, self.owner, question, self._find(question), cancelled)
                self.hits, self.cited, reply = found.offered, found.cited, found.text
            yield reply
        finally:
            self._end_turn(text, reply)

    def _offered(self, text: str) -> list[Hit]:
        """The pinned memories, then those that have to do with the message, best first."""
        pinned = [Hit(memory, None, 0.0) for memory in pinned_memories(self.pipeline.store, self.owner)]
        ids = {hit.id for hit in pinned}
        return pinned + [hit for hit in near_enough(self._find(text), self.pipeline.options) if hit.id not in ids]

    def _find(self, text: str) -> list[Hit]:
        """The hits for a message, best first, without what was only talk."""
        engine, protocol = self.pipeline.engine, self.pipeline.options.protocol
        [vector] = engine.embed([text], query=True)
        embed_some_messages(self.pipeline.store, engine.embed, protocol)
        hits = find(
            self.pipeline.store,
            text,
            vector,
            self.limit * (1 if protocol == "paper" else 3),
            protocol=protocol,
            scopes=[self.owner],
            owner_exact=True,
            show_superseded=False,
        )
        return without_talk(hits)[: self.limit]

    def _end_turn(self, text: str, reply: str) -> None:
        # Later replies could repeat what must not be stored.
        question, reply = screen_turns(text, reply, keep_secrets=self.pipeline.options.keep_secrets)
        self.turns += [("user", question), ("assistant", reply)]

    def noted(self, said: str, result: ExchangeResult) -> str:
        """What to say to a message that `wants_reply` says no to, after it was remembered; it is then one of the turns."""
        reply = noted(result)
        self._end_turn(clean_text(said), reply)
        return reply

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
            self._end_turn(text, "".join(pieces).strip())

    def remember(
        self, said: str, replied: str, *, key: str, said_at: datetime, image: Image | None = None
    ) -> ExchangeResult:
        """Keep what matters of one exchange; it gives way to a reply that somebody waits for."""
        question = Message("user", clean_text(said), USER, said_at=said_at, image=image)
        answer = (Message("assistant", replied, ASSISTANT, said_at=said_at),) if replied else ()
        messages = (question, *answer)
        before = self._turn_before(question.text, replied) if refers_back(question.text) else ()
        exchange = Exchange(key, self.owner, messages, said_at, "chat", 0, before)
        # The user chose the file; one that cannot be kept must not cost what was said.
        exchange = self.pipeline.store.images.store_exchange_images(exchange, None, log.warning, trusted=True)
        result = self.pipeline.remember(exchange, priority=Priority.BACKGROUND)
        mark_remembered(self.pipeline.store, key)
        return result

    def _turn_before(self, said: str, replied: str) -> tuple[Message, ...]:
        """The question and the reply before an exchange, which is the last of the turns unless it has no reply yet."""
        at = len(self.turns)
        if replied:
            of_it = [i for i in range(0, at - 1, 2) if self.turns[i][1] == said and self.turns[i + 1][1] == replied]
            at = of_it[-1] if of_it else 0
        if at < 2:
            return ()
        (_, asked), (_, told) = self.turns[at - 2 : at]
        # The experts know corrections of what somebody has told, and not of what they were answered.
        if is_question(asked) and (claim := to_first_person(told)) is not None:
            asked, told = claim, f"Noted: {told}"
        return tuple(
            each for each in (Message("user", asked, USER), Message("assistant", told, ASSISTANT)) if each.text
        )

    def list_memories(self, limit: int = 20) -> list[MemoryRecord]:
        return self.pipeline.store.list(self.owner, limit=limit)


def _without_middle(text: str, characters: int) -> str:
    """The beginning and the end of a text, in at most so many characters; without the mark where there is no room."""
    room = characters - len(_LEFT_OUT)
    if room < 2:
        return text[:characters]
    return text[: room - room // 2] + _LEFT_OUT + text[len(text) - room // 2 :]
