"""The panel beside the chat: the memories a reply used, and what was remembered of its exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from memlora_mlx.records import Event, Hit
from memlora_mlx.text import printable_line
from memlora_mlx.tui.chat_controller import ChatTurn
from memlora_mlx.tui.times import format_time
from memlora_mlx.tui.widgets.exchange import EVENT_SIGNS, EVENT_WORDS

MemoryAction = Literal["source", "edit", "undo", "delete"]


@dataclass(frozen=True, slots=True)
class PanelEntry:
    """One memory as the panel shows it."""

    memory_id: str
    text: str
    note: str  # below the words: when it was said, how far it is
    event: Event = "NONE"  # of an exchange's own changes
    old_text: str | None = None
    state: str = ""  # what the user has done to it since


class MemoryItem(Static, can_focus=True):
    """One entry; its keys act on the memory."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act('source')", "Source", tooltip="Where it came from, and its history", id="memory.source"),
        Binding("e", "act('edit')", "Edit", tooltip="Give it other words", id="memory.edit"),
        Binding("u", "act('undo')", "Undo", tooltip="Take back its last change", id="memory.undo"),
        Binding("d,delete", "act('delete')", "Delete", tooltip="Remove it; undo brings it back", id="memory.delete"),
        Binding("down,j", "app.focus_next", show=False),
        Binding("up,k", "app.focus_previous", show=False),
    ]

    class Acted(Message):
        def __init__(self, entry: PanelEntry, action: MemoryAction) -> None:
            super().__init__()
            self.entry, self.action = entry, action

    def __init__(self, entry: PanelEntry) -> None:
        super().__init__(self._words(entry), classes="memory", markup=False)
        self.entry = entry

    def action_act(self, action: MemoryAction) -> None:
        self.post_message(self.Acted(self.entry, action))

    def on_click(self) -> None:
        self.focus()

    @staticmethod
    def _words(entry: PanelEntry) -> Content:
        parts: list[Content | tuple[str, str]] = []
        if entry.event != "NONE":
            colour = {"ADD": "$text-success", "UPDATE": "$text-warning", "DELETE": "$text-error"}[entry.event]
            parts.append((f"{EVENT_SIGNS[entry.event]} {EVENT_WORDS[entry.event]}  ", colour))
        parts.append((printable_line(entry.text), "strike" if entry.event == "DELETE" else ""))
        if entry.event == "UPDATE" and entry.old_text:
            parts += [("\nwas  ", "$foreground 60%"), (printable_line(entry.old_text), "$foreground 60%")]
        if entry.note:
            parts.append((f"\n{entry.note}", "$foreground 60%"))
        if entry.state:
            parts.append((f"\n» {entry.state}", "bold"))
        return Content.assemble(*parts)


class MemoryPanel(VerticalScroll, can_focus=False):
    """Shows one turn at a time, anew whenever something of it changes."""

    def __init__(self) -> None:
        super().__init__(id="panel")
        self._entries: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield Static("The memories of a reply show here.", classes="empty", markup=False)

    async def show(self, turn: ChatTurn | None, states: dict[str, str]) -> None:
        """
        Args:
            states: what the user has done to memories since, by their ids.
        """
        if turn is None:
            await self._fill([("No reply yet", [], "The memories of a reply show here.")])
            return
        used = [_entry_from_hit(hit, states) for hit in turn.hits]
        kept = (
            []
            if turn.remembered is None
            else [
                PanelEntry(
                    change.memory_id,
                    change.text or change.old_text or "",
                    "",
                    change.event,
                    change.old_text,
                    states.get(change.memory_id, ""),
                )
                for change in turn.remembered.applied
                if change.rejected is None and change.event != "NONE"
            ]
        )
        empty = {
            "waiting": "◌ when you pause",
            "working": "◔ remembering …",
            "failed": f"✗ {printable_line(turn.problem or '', 200)}",
            "done": "○ nothing new",
        }.get(turn.memory, "○ nothing yet")
        await self._fill([("Used for this reply", used, "○ none"), ("Remembered from it", kept, empty)])

    async def show_hits(self, title: str, hits: Sequence[Hit]) -> None:
        """The memories that a search found."""
        await self._fill([(title, [_entry_from_hit(hit, {}) for hit in hits], "○ none")])

    async def _fill(self, sections: list[tuple[str, list[PanelEntry], str]]) -> None:
        wanted = tuple((title, tuple(entries), empty) for title, entries, empty in sections)
        if wanted == self._entries:
            return
        self._entries = ()  # until it is done: who fills it may be stopped half-way
        focused = self.screen.focused
        at = focused.entry if isinstance(focused, MemoryItem) else None
        widgets: list[Static] = []
        for title, entries, empty in sections:
            widgets.append(
                Static(Content(f"{printable_line(title, 60)} ({len(entries)})"), classes="section", markup=False)
            )
            widgets += [MemoryItem(entry) for entry in entries] or [Static(empty, classes="empty", markup=False)]
        async with self.batch():
            await self.remove_children()
            await self.mount_all(widgets)
        self._entries = wanted
        if at is not None:
            items = list(self.query(MemoryItem))
            same = [item for item in items if item.entry.memory_id == at.memory_id]
            again = [item for item in same if item.entry.event == at.event] or same or items
            if again:
                again[0].focus()

    def focus_first(self) -> bool:
        """Put the focus on the first memory. Whether there is one."""
        items = list(self.query(MemoryItem))
        if items:
            items[0].focus()
        return bool(items)


def _entry_from_hit(hit: Hit, states: dict[str, str]) -> PanelEntry:
    note = f"{format_time(hit.memory.said_at)} · distance {hit.distance:.2f}"
    return PanelEntry(hit.memory.id, hit.memory.text, note, state=states.get(hit.memory.id, ""))
