"""The conversation behind the Chat screen: streams replies and stores exchanges while the user is idle.

An exchange is stored after its reply, once the user has been idle for a moment, at background priority. A question
that arrives meanwhile goes first, between two steps of the student.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Literal

from memlora_mlx.errors import Cancelled
from memlora_mlx.tui.backend import Backend

if TYPE_CHECKING:
    from memlora_mlx.memory.chat import Chat
    from memlora_mlx.memory.results import ExchangeResult
    from memlora_mlx.memory.store.conversations import SavedTurn
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.records import Hit, Image

IDLE_SECONDS = 0.8  # without a key press, before memory work starts

MemoryWorkState = Literal["none", "waiting", "working", "done", "failed"]


@dataclass(eq=False, slots=True)
class ChatTurn:
    """One question, its reply, and the state of its memory work."""

    question: str
    image: Image | None = None
    reply: str = ""
    hits: tuple[Hit, ...] = ()  # the memories given to the student for this reply
    cited: tuple[Hit, ...] = ()  # those of them whose words the reply has
    is_noted: bool = False  # a statement, to a student that cannot talk: the reply is what was noted of it
    stopped: bool = False
    key: str = field(default_factory=lambda: uuid.uuid4().hex)  # of its exchange
    said_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_saved: bool = False  # the question is stored in its conversation
    memory: MemoryWorkState = "none"
    remembered: ExchangeResult | None = None
    undone: set[str] = field(default_factory=set)  # memories whose change by this exchange the user has undone here
    problem: str | None = None  # why there is no reply, or why the exchange was not stored


class ChatController:
    """One conversation over the session's workspace.

    Args:
        changed: called on the event loop when a turn's memory work begins or ends.
    """

    def __init__(self, backend: Backend, changed: Callable[[ChatTurn], None]) -> None:
        self._backend, self._changed = backend, changed
        self._chat: Chat | None = None
        self._earlier: Sequence[SavedTurn] = ()  # of the conversation, before it was opened here
        self._waiting: deque[ChatTurn] = deque()
        self._wake = asyncio.Event()
        self._replying: asyncio.Future[None] | None = None
        self._active_at = monotonic()
        self.stop: asyncio.Event | None = None  # stops the running reply
        self.pending_replies = 0  # questions whose reply is not complete
        self.is_shutting_down = (
            False  # the app quits: no more replies, and memory work no longer waits until the user is idle
        )

    # ------------------------------------------------------------------ replies

    async def reply(self, turn: ChatTurn, stop: asyncio.Event) -> AsyncIterator[str]:
        """Yield the reply in pieces until it ends or `stop` is set; then the student stops before its next step.

        Raises:
            MemloraError: there is no student, or its experts do not fit it.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        cancelled = threading.Event()
        before = self._replying

        def produce(workspace: Workspace) -> None:
            chat = self._chat_of(workspace)
            if not chat.wants_reply(turn.question, turn.image):
                turn.is_noted = True
                return
            try:
                for piece in chat.reply(turn.question, image=turn.image, cancelled=cancelled):
                    turn.hits = chat.hits
                    loop.call_soon_threadsafe(pieces.put_nowait, piece)
            except Cancelled:
                pass
            finally:
                turn.hits, turn.cited = chat.hits, chat.cited

        async def run() -> None:
            try:
                while any(other.is_noted for other in self._waiting):  # the answer may be in what was just told
                    await asyncio.sleep(0.02)
                if before is not None:  # a stopped reply finishes its last step first
                    await asyncio.wait([before])
                await self._backend.run(produce)
            finally:
                pieces.put_nowait(None)

        running = self._replying = asyncio.ensure_future(run())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while True:
                getting = asyncio.ensure_future(pieces.get())
                await asyncio.wait([getting, stopping], return_when=asyncio.FIRST_COMPLETED)
                if stop.is_set():
                    getting.cancel()
                    turn.stopped = True
                    break
                piece = getting.result()
                if piece is None:
                    break
                turn.reply += piece
                yield piece
            if not turn.stopped:
                await running
        finally:
            cancelled.set()
            stopping.cancel()
            running.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # retrieve the exception, so that asyncio does not log it

    def resume(self, turns: Sequence[SavedTurn]) -> None:
        """Continue a stored conversation, or begin a new one without turns. Memories stay."""
        self._chat, self._earlier = None, turns

    def take_back(self, turn: ChatTurn) -> None:
        """Forget the last question and reply of the running conversation, so that it can be answered again."""
        if self._chat is None:
            self._earlier = [saved for saved in self._earlier if saved.exchange_key != turn.key]
        elif self._chat.turns:
            del self._chat.turns[-2:]
        turn.reply, turn.hits, turn.cited, turn.stopped, turn.problem = "", (), (), False, None

    def _chat_of(self, workspace: Workspace) -> Chat:
        """The conversation with this workspace. If the student was changed, it continues with the turns so far."""
        from memlora_mlx.memory.chat import Chat

        pipeline = workspace.pipeline
        if self._chat is None or self._chat.pipeline is not pipeline:
            chat = Chat(pipeline, workspace.settings.user, limit=workspace.settings.limit)
            if self._chat is None:
                chat.resume(self._earlier)
            else:
                chat.turns = self._chat.turns
            self._chat = chat
        self._chat.limit = self._backend.settings.limit  # the Settings screen may have changed it
        return self._chat

    # ------------------------------------------------------------------ memory work

    @property
    def pending(self) -> int:
        """Number of exchanges that are not stored yet."""
        return len(self._waiting) + self.pending_replies

    def shut_down(self) -> None:
        """Stop the reply and store the waiting exchanges now; see `pending`."""
        self.is_shutting_down = True
        if self.stop is not None:
            self.stop.set()

    def note_activity(self) -> None:
        """Note that the user is active: memory work that has not started waits longer."""
        self._active_at = monotonic()

    def remember(self, turn: ChatTurn) -> None:
        """Store this turn when the user is idle."""
        turn.memory, turn.problem = "waiting", None
        self._waiting.append(turn)
        self._wake.set()
        self._changed(turn)

    async def run_memory_worker(self) -> None:
        """Do the memory work of the turns, one after the other. A failure is noted in its turn."""
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            turn = self._waiting[0]
            await self._wait_until_idle()
            turn.memory = "working"
            self._changed(turn)
            try:
                turn.remembered = await self._backend.run(partial(self._remember, turn))
                turn.memory = "done"
            except Exception as error:  # such as a full disk: the store is unchanged and the chat continues
                turn.memory, turn.problem = "failed", str(error) or type(error).__name__
            self._waiting.popleft()
            self._changed(turn)

    async def _wait_until_idle(self) -> None:
        """Wait until nobody types or waits for a reply.

        For a note the user waits, and so does the next question: then what stands before it is not put off either.
        """
        while not self.is_shutting_down and not any(turn.is_noted for turn in self._waiting):
            replying = self._replying is not None and not self._replying.done()
            left = IDLE_SECONDS - (monotonic() - self._active_at)
            if not replying and left <= 0:
                return
            await asyncio.sleep(max(left, 0.05))

    def _remember(self, turn: ChatTurn, workspace: Workspace) -> ExchangeResult:
        chat = self._chat_of(workspace)
        reply = "" if turn.is_noted else turn.reply
        result = chat.remember(turn.question, reply, key=turn.key, said_at=turn.said_at, image=turn.image)
        if turn.is_noted:
            turn.reply = chat.noted(turn.question, result)
        return result
