"""What the `/` commands of the chat do: one method each, called `command_<name>`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.widgets import Static

from memlora_mlx.errors import UsageError
from memlora_mlx.tui import changes
from memlora_mlx.tui.commands import Command
from memlora_mlx.tui.screens.dialogs import ConfirmDialog
from memlora_mlx.tui.talk import Turn, as_markdown
from memlora_mlx.tui.text import plain
from memlora_mlx.tui.widgets.exchange import ExchangeView

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.records import Hit
    from memlora_mlx.tui.screens.chat import ChatScreen as Chat
else:
    Chat = object


class ChatCommands:
    """Mixed into the Chat screen."""

    def run_command(self: Chat, command: Command, argument: str) -> None:
        """Do what a command says. What fails is told and changes nothing."""
        self._command(getattr(self, f"command_{command.name}"), argument)

    @work(group="command", exit_on_error=False)
    async def _command(self: Chat, method, argument: str) -> None:  # type: ignore[no-untyped-def]
        await method(argument)

    async def command_help(self: Chat, _: str) -> None:
        await self.memlora.action_help()

    async def command_memories(self: Chat, _: str) -> None:
        self.memlora.action_page("memories")

    async def command_ingest(self: Chat, _: str) -> None:
        self.memlora.action_page("ingest")

    async def command_train(self: Chat, _: str) -> None:
        self.memlora.action_page("train")

    async def command_bench(self: Chat, _: str) -> None:
        self.memlora.action_page("bench")

    async def command_models(self: Chat, _: str) -> None:
        self.memlora.action_page("models")

    async def command_theme(self: Chat, _: str) -> None:
        self.memlora.action_toggle_theme()

    async def command_quit(self: Chat, _: str) -> None:
        await self.memlora.action_quit()

    async def command_panel(self: Chat, _: str) -> None:
        self.action_toggle_panel()

    async def command_search(self: Chat, words: str) -> None:
        hits = await self.session.run(partial(_nearest, words=words or " ", limit=self.session.settings.limit))
        self.show_panel()
        await self.panel.show_hits(f"Nearest to “{plain(words, 30)}”", hits)

    async def command_remember(self: Chat, words: str) -> None:
        if not words:
            raise UsageError("say what to remember: /remember I am allergic to nuts")
        await self.session.run(partial(_keep, words=words))
        await self.session.count()
        self.notify(plain(words), title="+ remembered", markup=False)

    async def command_forget(self: Chat, words: str) -> None:
        if not words:
            await self.command_undo("")
            return
        hits = await self.session.run(partial(_nearest, words=words, limit=1))
        if not hits:
            raise UsageError("there are no memories yet")
        memory = hits[0].memory
        if await self.memlora.push_screen_wait(ConfirmDialog("Delete this memory? /undo brings it back.", memory.text)):
            await self.session.run(partial(changes.delete, memory_id=memory.id))
            self._states[memory.id] = "deleted; u brings it back"
            await self.session.count()
            self.refresh_panel()
            self.notify(plain(memory.text), title="- removed", markup=False)

    async def command_undo(self: Chat, _: str) -> None:
        line = await self.session.run(changes.undo)
        self._states[line.memory_id] = f"undone; now: {line.new_text or 'gone'}"
        await self.session.count()
        self.refresh_panel()
        self.notify(plain(line.old_text or line.new_text or ""), title="Undone", markup=False)

    async def command_image(self: Chat, argument: str) -> None:
        path, caption = _path_and_words(argument) if argument else (await self._pick_image(), "")
        if path is not None:
            self.attach(path, caption)

    async def _pick_image(self: Chat) -> Path | None:
        from textual_fspicker import FileOpen, Filters

        images = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
        filters = Filters(("Images", lambda path: path.suffix.lower() in images), ("All", lambda _: True))
        return await self.memlora.push_screen_wait(FileOpen(".", "Attach an image", filters=filters))

    async def command_clear(self: Chat, _: str) -> None:
        self.action_stop_reply()
        self.talk.forget_turns()
        self.turns.clear()
        self._current = None
        await self.query(ExchangeView).remove()
        self.query_one("#welcome", Static).display = True
        self.refresh_panel()

    async def command_retry(self: Chat, _: str) -> None:
        failed = [turn for turn in self.turns if turn.memory == "failed"]
        for turn in failed:
            self.talk.remember(turn)
        if not failed:
            raise UsageError("nothing has failed to be remembered")

    async def command_export(self: Chat, path: str) -> None:
        target = Path(path or "memories.jsonl").expanduser()
        count = await self.session.run(partial(_export, path=target))
        self.notify(f"{count} lines in {plain(str(target), 120)}", title="Exported", markup=False)

    async def command_save(self: Chat, path: str) -> None:
        target = Path(path or "conversation.md").expanduser()
        turns: Sequence[Turn] = list(self.turns)
        await self.session.run(lambda _: _write_new(target, as_markdown(list(turns))))
        self.notify(plain(str(target), 120), title="Saved", markup=False)


def _nearest(workspace: Workspace, words: str, limit: int) -> list[Hit]:
    from memlora_mlx.records import Scope

    [vector] = workspace.engine.embed([words], query=True)
    return workspace.store.search(vector, limit, scope=Scope(user_id=workspace.settings.user), owner_exact=True)


def _keep(workspace: Workspace, words: str) -> None:
    from memlora_mlx.memory.system import Memory

    Memory.of(workspace).add(words, user_id=workspace.settings.user, infer=False)


def _export(workspace: Workspace, path: Path) -> int:
    lines = [json.dumps(line, ensure_ascii=False) for line in workspace.store.export()]
    _write_new(path, "\n".join(lines) + "\n")
    return len(lines)


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet. Raises UsageError."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already; give another name") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; give another place") from error


def _path_and_words(argument: str) -> tuple[Path, str]:
    """A path and what stands behind it; the longest beginning that is a file, as paths may hold blanks."""
    words = argument.split(" ")
    for count in range(len(words), 0, -1):
        path = Path(" ".join(words[:count]).strip("\"'")).expanduser()
        if path.is_file():
            return path, " ".join(words[count:]).strip()
    raise UsageError(f"there is no file {plain(argument, 120)}; check the path")
