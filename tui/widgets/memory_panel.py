"""The panel beside the chat: the memories that a reply used and those stored from its exchange, or search results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from memlora_mlx.memory.evidence import said_by
from memlora_mlx.records import Event, Hit
from memlora_mlx.text import printable_line
from memlora_mlx.tui.chat_controller import ChatTurn
from memlora_mlx.tui.memory_editor import MemoryChange
from memlora_mlx.tui.times import format_time
from memlora_mlx.tui.widgets.exchange import EVENT_SIGNS, EVENT_WORDS

MemoryAction = Literal["source", "edit", "undo", "redo", "delete", "erase"]

NO_REPLY = "The memories of a reply are shown here."


@dataclass(frozen=True, slots=True)
class PanelEntry:
    """One memory as the panel shows it."""

    memory_id: str
    text: str
    note: str  # below the text: the words that it came from, when they were said, and the score of the search
    event: Event = "NONE"  # what the exchange did to it
    old_text: str | None = None
    state: str = ""  # what the user has done to it since
    is_deleted: bool = False
    is_memory: bool = True  # False: a message that no memory came from


class MemoryItem(Static, can_focus=True):
    """One memory in the panel. Its keys act on the memory."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act('source')", "Source", tooltip="Show its source and history", id="memory.source"),
        Binding("e", "act('edit')", "Edit", tooltip="Edit the text", id="memory.edit"),
        Binding("u", "act('undo')", "Undo", tooltip="Undo the last change to this memory", id="memory.undo"),
        Binding("r", "act('redo')", "Redo", tooltip="Redo the change that was undone last", id="memory.redo"),
        Binding("d,delete", "act('delete')", "Delete", tooltip="Delete this memory; u undoes it", id="memory.delete"),
        Binding("D", "act('erase')", show=False, tooltip="Erase this memory for good", id="memory.erase"),
        Binding("down,j", "app.focus_next", show=False),
        Binding("up,k", "app.focus_previous", show=False),
    ]

    class Acted(Message):
        def __init__(self, entry: PanelEntry, action: MemoryAction) -> None:
            super().__init__()
            self.entry, self.action = entry, action

    def __init__(self, entry: PanelEntry) -> None:
        super().__init__(_content(entry), classes="memory", markup=False)
        self.entry = entry

    def show(self, entry: PanelEntry) -> None:
        """Show this entry in place of the one before. The focus stays."""
        if entry != self.entry:
            self.entry = entry
            self.update(_content(entry))

    def action_act(self, action: MemoryAction) -> None:
        if self.entry.is_memory:
            self.post_message(self.Acted(self.entry, action))
        else:
            self.notify("This is a message, not a memory, and cannot be changed here.")

    def on_click(self) -> None:
        self.focus()


class MemoryPanel(VerticalScroll, can_focus=False):
    """Shows the memories of one turn, or those that a search found, and what the user does to them.

    It keeps the items that stay, so that the focus and the scroll position stay too.
    """

    def __init__(self) -> None:
        super().__init__(id="panel")
        self._turn: ChatTurn | None = None
        self._search: tuple[str, tuple[Hit, ...]] | None = None  # title and hits, shown in place of the turn
        self._changes: dict[str, MemoryChange] = {}  # the user's last change of each memory
        self._keys: list[tuple[str, str]] = []  # of the children, in order

    def compose(self) -> ComposeResult:
        yield Static(NO_REPLY, classes="empty", markup=False)

    @property
    def turn(self) -> ChatTurn | None:
        """The turn whose memories the panel shows, or would show without the search."""
        return self._turn

    def facts_behind(self, memory_id: str) -> Sequence[str]:
        """The facts from which the turn's exchange made or changed this memory, if it did."""
        result = self._turn.remembered if self._turn else None
        if result is None or all(change.memory_id != memory_id for change in result.applied):
            return ()
        return result.facts

    def show_turn(self, turn: ChatTurn | None) -> None:
        """Show the memories of this turn. This ends the display of a search."""
        self._turn, self._search = turn, None
        self.refresh_items()

    def show_hits(self, title: str, hits: Sequence[Hit]) -> None:
        """Show the memories that a search found, until `show_turn`."""
        self._search = (title, tuple(hits))
        self.refresh_items()

    def show_change(self, change: MemoryChange) -> None:
        """Show what the user did to a memory, wherever the panel lists it."""
        self._changes[change.memory_id] = change
        self.refresh_items()

    @work(group="items", exclusive=True, exit_on_error=False)
    async def refresh_items(self) -> None:
        """Bring the list up to date with its turn or search."""
        rows: list[tuple[tuple[str, str], PanelEntry | str]] = []
        for title, entries, empty in self._sections():
            rows.append((("section", ""), f"{printable_line(title, 60)} ({len(entries)})"))
            rows += [((entry.event, entry.memory_id), entry) for entry in entries] or [(("empty", ""), empty)]
        keys = [key for key, _ in rows]
        same = 0
        while same < min(len(keys), len(self._keys)) and keys[same] == self._keys[same]:
            same += 1
        for widget, (_, shown) in zip(list(self.children)[:same], rows[:same], strict=True):
            if isinstance(widget, MemoryItem) and isinstance(shown, PanelEntry):
                widget.show(shown)
            elif isinstance(widget, Static) and isinstance(shown, str):
                widget.update(Content(shown))
        if keys == self._keys:
            return
        focused = self.screen.focused
        old = list(self.children)[same:]
        at = focused.entry if isinstance(focused, MemoryItem) and focused in old else None
        self._keys = keys[:same]  # until the rest is there: this worker may be cancelled on the way
        async with self.batch():
            await self.remove_children(old)
            await self.mount_all([_widget(key, shown) for key, shown in rows[same:]])
        self._keys = keys
        if at is not None:
            items = list(self.query(MemoryItem))
            matches = [item for item in items if item.entry.memory_id == at.memory_id] or items
            if matches:
                matches[0].focus()

    def _sections(self) -> list[tuple[str, list[PanelEntry], str]]:
        """Title, memories, and what stands there if there are none."""
        if self._search is not None:
            title, hits = self._search
            return [(title, [self._found(hit) for hit in hits], "○ none")]
        turn = self._turn
        if turn is None:
            return [("No reply yet", [], NO_REPLY)]
        used = [_from_hit(hit, state=self._state(hit.id)) for hit in turn.hits]
        stored = [
            PanelEntry(
                change.memory_id,
                change.text or change.old_text or "",
                "",
                change.event,
                change.old_text,
                self._state(change.memory_id),
            )
            for change in (turn.remembered.applied if turn.remembered else ())
            if change.rejected is None and change.event != "NONE"
        ]
        empty = {
            "waiting": "◌ when you pause",
            "working": "◔ being stored …",
            "failed": f"✗ {printable_line(turn.problem or '', 200)}",
            "done": "○ nothing new",
        }.get(turn.memory, "○ nothing yet")
        return [("Used for this reply", used, "○ none"), ("Stored from this exchange", stored, empty)]

    def _found(self, hit: Hit) -> PanelEntry:
        """A search result as the memory is now."""
        change = self._changes.get(hit.id)
        entry = _from_hit(hit)
        if change is None:
            return entry
        return replace(entry, text=change.text, state=change.label, is_deleted=change.is_deleted)

    def _state(self, memory_id: str) -> str:
        """What the user did to a memory that the exchange used or stored; its text there is that of the exchange."""
        change = self._changes.get(memory_id)
        if change is None:
            return ""
        return change.label if change.is_deleted else f"{change.label}; now: {change.text}"

    def focus_first(self) -> bool:
        """Put the focus on the first memory. Returns whether there is one."""
        items = list(self.query(MemoryItem))
        if items:
            items[0].focus()
        return bool(items)


def _from_hit(hit: Hit, state: str = "") -> PanelEntry:
    words = f"“{printable_line(said_by(hit.message))}”" if hit.message is not None else ""
    note = f"{format_time(hit.said_at)} · score {hit.score:.2f}"
    if hit.superseded_at is not None:
        note += f" · changed on {format_time(hit.superseded_at)}"
    if hit.memory is None:
        return PanelEntry(hit.id, words, note, is_memory=False)
    is_verbatim = hit.message is not None and hit.message.text == hit.memory.text
    note = f"{words}\n{note}" if words and not is_verbatim else note
    return PanelEntry(hit.id, hit.memory.text, note, state=state)


def _widget(key: tuple[str, str], shown: PanelEntry | str) -> Static:
    if isinstance(shown, PanelEntry):
        return MemoryItem(shown)
    return Static(Content(shown), classes=key[0], markup=False)


def _content(entry: PanelEntry) -> Content:
    parts: list[Content | tuple[str, str]] = []
    if entry.event != "NONE":
        colour = {"ADD": "$text-success", "UPDATE": "$text-warning", "DELETE": "$text-error"}[entry.event]
        parts.append((f"{EVENT_SIGNS[entry.event]} {EVENT_WORDS[entry.event]}  ", colour))
    is_gone = entry.event == "DELETE" or entry.is_deleted
    parts.append((printable_line(entry.text), "strike" if is_gone else ""))
    if entry.event == "UPDATE" and entry.old_text:
        parts += [("\nwas  ", "$foreground 60%"), (printable_line(entry.old_text), "$foreground 60%")]
    if entry.note:
        parts.append((f"\n{entry.note}", "$foreground 60%"))
    if entry.state:
        parts.append((f"\n» {printable_line(entry.state)}", "bold"))
    return Content.assemble(*parts)
