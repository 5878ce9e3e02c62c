"""The `/` commands of the chat: the method `command_<name>` runs the command of that name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.errors import UsageError
from memlora_mlx.text import printable_line
from memlora_mlx.tui import conversation_queries, memory_queries
from memlora_mlx.tui.commands import Command
from memlora_mlx.tui.memory_editor import MemoryChange

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.records import Hit, MemoryRecord
    from memlora_mlx.tui.screens.chat import ChatScreen

FORGETTABLE = 20  # memories nearest to the words of /forget that are looked at


class ChatCommands:
    """The commands of one Chat screen."""

    def __init__(self, chat: ChatScreen) -> None:
        self.chat = chat

    def run(self, command: Command, argument: str) -> None:
        """Run a command in the background. A failure is reported and changes nothing."""
        work = getattr(self, f"command_{command.name}")(argument)
        self.chat.run_worker(work, group="command", exit_on_error=False)

    async def command_help(self, _: str) -> None:
        await self.chat.memlora.action_help()

    async def command_memories(self, _: str) -> None:
        self.chat.memlora.action_page("memories")

    async def command_ingest(self, _: str) -> None:
        self.chat.memlora.action_page("ingest")

    async def command_train(self, _: str) -> None:
        self.chat.memlora.action_page("train")

    async def command_bench(self, _: str) -> None:
        self.chat.memlora.action_page("bench")

    async def command_models(self, _: str) -> None:
        self.chat.memlora.action_page("models")

    async def command_theme(self, _: str) -> None:
        self.chat.memlora.action_toggle_theme()

    async def command_quit(self, _: str) -> None:
        await self.chat.memlora.action_quit()

    async def command_panel(self, _: str) -> None:
        self.chat.action_toggle_panel()

    async def command_search(self, words: str) -> None:
        limit = self.chat.backend.settings.limit
        search = read_search(words)
        hits = await self.chat.backend.run(partial(_found, search=search, limit=limit))
        self.chat.show_panel()
        self.chat.panel.show_hits(f"Nearest to “{printable_line(words, 30)}”", hits)

    async def command_today(self, _: str) -> None:
        self.chat.show_panel()
        self.chat.panel.show_turn(None)
        await self.chat.refresh_panel()

    async def command_remember(self, words: str) -> None:
        if not words:
            raise UsageError("Add the text to store, for example: /remember I am allergic to nuts")
        await self.chat.backend.run(partial(_store, text=words))
        await self.chat.backend.refresh_counts()
        self.chat.notify(printable_line(words), title="+ added", markup=False)

    async def command_forget(self, words: str) -> None:
        if not words:
            raise UsageError(
                "Add some words of the memory to delete, for example: /forget my old address. /undo takes back the last change."
            )
        memory = await self.chat.backend.run(partial(_nearest, text=words))
        if memory is None:
            raise UsageError("No memory has these words. F3 lists the memories; d deletes one.")
        question = "Delete this memory? /undo restores it."
        self._show(await self.chat.editor.delete(memory.id, memory.text, confirm=question))

    async def command_undo(self, _: str) -> None:
        self._show(await self.chat.editor.undo())

    async def command_redo(self, _: str) -> None:
        self._show(await self.chat.editor.redo())

    def _show(self, change: MemoryChange | None) -> None:
        if change is not None:
            self.chat.show_change(change)
            self.chat.notify(printable_line(change.text), title=change.title, markup=False)

    async def command_image(self, argument: str) -> None:
        path, caption = _path_and_words(argument) if argument else (await self._pick_image(), "")
        if path is not None:
            self.chat.attach(path, caption)

    async def _pick_image(self) -> Path | None:
        from textual_fspicker import FileOpen, Filters

        images = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
        filters = Filters(("Images", lambda path: path.suffix.lower() in images), ("All", lambda _: True))
        return await self.chat.memlora.push_screen_wait(FileOpen(".", "Attach an image", filters=filters))

    async def command_conversations(self, _: str) -> None:
        self.chat.action_conversations()

    async def command_clear(self, _: str) -> None:
        await self.chat.conversation.begin()

    async def command_rename(self, name: str) -> None:
        conversation = self._open_conversation()
        named = await self.chat.backend.run(lambda workspace: workspace.editor.rename_conversation(conversation, name))
        self.chat.conversation.show_name(named)

    def _open_conversation(self) -> str:
        """The id of the conversation. Raises UsageError: nothing was said in it yet."""
        if self.chat.conversation.id is None:
            raise UsageError("Nothing was said in this conversation yet.")
        return self.chat.conversation.id

    async def command_retry(self, _: str) -> None:
        failed = [turn for turn in self.chat.turns if turn.memory == "failed"]
        for turn in failed:
            if not turn.is_saved:
                await self.chat.conversation.save_question(turn)
            self.chat.controller.remember(turn)
        if not failed:
            raise UsageError("There is nothing to retry: every exchange has been stored.")

    async def command_export(self, path: str) -> None:
        target = Path(path or "memories.jsonl").expanduser().absolute()
        count = await self.chat.backend.run(partial(memory_queries.export, path=target))
        self.chat.notify(
            f"{count:,} memories, with the messages they came from, in {printable_line(str(target), 120)}",
            title="Exported",
            markup=False,
        )

    async def command_save(self, path: str) -> None:
        target = Path(path or "conversation.md").expanduser().absolute()
        export = partial(conversation_queries.export, conversation=self._open_conversation(), path=target)
        await self.chat.backend.run(export)
        self.chat.notify(printable_line(str(target), 120), title="Saved", markup=False)


@dataclass(frozen=True, slots=True)
class PanelSearch:
    """What `/search` looks for."""

    text: str
    person: str | None = None  # whose memories; the user's own by default
    since: datetime | None = None
    until: datetime | None = None


def read_search(words: str) -> PanelSearch:
    """The argument of `/search`: a text, and filters such as `person:ann`, `since:2026-03-01` and `before:2026-04-01`.

    Raises:
        UsageError: a date cannot be read, or there is no text.
    """
    found: dict[str, str] = {}

    def take(match: re.Match[str]) -> str:
        found[match[1].lower()] = match[2]
        return " "

    text = " ".join(_FILTER.sub(take, words).split())
    if not text:
        raise UsageError("Add what to look for, for example: /search my cat since:2026-03-01 person:ann")
    days = {}
    for name in ("since", "before"):
        if name in found:
            try:
                days[name] = datetime.fromisoformat(found[name]).astimezone()
            except ValueError:
                raise UsageError(f"{name}:{found[name]} is no date. Write it as {name}:2026-03-01.") from None
    return PanelSearch(text, found.get("person"), days.get("since"), days.get("before"))


_FILTER = re.compile(r"(?<!\S)(person|since|before):(\S+)", re.IGNORECASE)


def _found(workspace: Workspace, search: PanelSearch, limit: int) -> list[Hit]:
    """The memories and messages that fit a search best."""
    from memlora_mlx.memory.api import Memory
    from memlora_mlx.records import Scope

    owner = Scope(user_id=search.person or workspace.settings.user)
    return Memory.of(workspace).find(
        search.text,
        scopes=[owner],
        limit=limit,
        owner_exact=True,
        said_after=search.since,
        said_before=search.until,
    )


def _nearest(workspace: Workspace, text: str) -> MemoryRecord | None:
    """The nearest of the user's memories that have a content word of the text; of a text without any, the nearest."""
    from memlora_mlx.memory.retrieval.lexical import content_words
    from memlora_mlx.records import Scope

    [vector] = workspace.memory_engine.embed([text], query=True)
    found = workspace.store.search(vector, FORGETTABLE, scope=Scope(user_id=workspace.settings.user), owner_exact=True)
    words = content_words(text)
    fitting = [hit.memory for hit in found if not words or words & content_words(hit.memory.text)]
    return fitting[0] if fitting else None


def _store(workspace: Workspace, text: str) -> None:
    """Store the text as a memory, without the student."""
    from memlora_mlx.memory.api import Memory

    Memory.of(workspace).add(text, user_id=workspace.settings.user, infer=False)


def _path_and_words(argument: str) -> tuple[Path, str]:
    """A path and the text after it. The path is the longest start that names a file, because paths may contain spaces."""
    words = argument.split(" ")
    for count in range(len(words), 0, -1):
        path = Path(" ".join(words[:count]).strip("\"'")).expanduser()
        if path.is_file():
            return path, " ".join(words[count:]).strip()
    raise UsageError(f"There is no file {printable_line(argument, 120)}. Check the path.")
