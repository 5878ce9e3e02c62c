"""The panel beside the chat: the memories that a reply used and those stored from its exchange, or search results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from memlora_mlx.text import printable_line
from memlora_mlx.tui.chat_controller import ChatTurn
from memlora_mlx.tui.memory_editor import MemoryChange
from memlora_mlx.tui.widgets.memory_item import MemoryItem, PanelEntry, entry_from_hit

if TYPE_CHECKING:
    from memlora_mlx.records import Event, Hit, MemoryRecord, Revision

NO_REPLY = "The memories of a reply are shown here."
TODAY: tuple[tuple[Event, str], ...] = (
    ("ADD", "Learned today"),
    ("UPDATE", "Changed today"),
    ("DELETE", "Withdrawn today"),
)

NEARLY_THE_SAME = "≈ nearly the same as one above: d deletes it, u undoes it"


class MemoryPanel(VerticalScroll, can_focus=False):
    """Shows the memories of one turn, or those that a search found, and what the user does to them.

    It keeps the items that stay, so that the focus and the scroll position stay too.
    """

    def __init__(self) -> None:
        super().__init__(id="panel")
        self._turn: ChatTurn | None = None
        self._search: tuple[str, tuple[Hit, ...]] | None = None  # title and hits, shown in place of the turn
        self._changes: dict[str, MemoryChange] = {}  # the user's last change of each memory
        self._corrections = 0
        self._pinned: tuple[MemoryRecord, ...] = ()
        self._today: tuple[Revision, ...] = ()
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
        self.scroll_home(animate=False)

    def show_change(self, change: MemoryChange) -> None:
        """Show what the user did to a memory, wherever the panel lists it."""
        self._changes[change.memory_id] = change
        self.refresh_items()

    def show_background(self, pinned: Sequence[MemoryRecord], today: Sequence[Revision]) -> None:
        """Show the pinned memories above all else, and the changes of today while no reply is shown."""
        self._pinned, self._today = tuple(pinned), tuple(today)
        self.refresh_items()

    def selected_entries(self) -> list[PanelEntry]:
        """The memories that are selected, each once."""
        return list({item.entry.memory_id: item.entry for item in self.query(MemoryItem) if item.is_selected}.values())

    def select_none(self) -> None:
        for item in self.query(MemoryItem):
            item.set_selected(False)

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

    def show_corrections(self, count: int) -> None:
        """Say below the memories how many corrections there are to train on."""
        if count != self._corrections:
            self._corrections = count
            noun = "correction" if count == 1 else "corrections"
            self.border_subtitle = f"[@click=app.page('train')]{count:,} {noun} - /train[/]" if count else ""
            self.set_class(count > 0, "-corrections")

    def _sections(self) -> list[tuple[str, list[PanelEntry], str]]:
        """Title, memories, and what stands there if there are none."""
        pinned = [PanelEntry(memory.id, memory.text, "", state=self._label(memory.id)) for memory in self._pinned]
        above = [("Pinned", pinned, "")] if pinned else []
        if self._search is not None:
            title, hits = self._search
            return [*above, (title, _marked([self._found(hit) for hit in hits], hits), "○ none")]
        turn = self._turn
        if turn is None:
            return [*above, *(self._of_today() or [("No reply yet", [], NO_REPLY)])]
        cited = {hit.id for hit in turn.cited}
        given = [entry_from_hit(hit, self._state(hit.id), is_cited=hit.id in cited) for hit in turn.hits]
        used = _marked(given, turn.hits)
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
        return [*above, ("Given for this reply", used, "○ none"), ("Stored from this exchange", stored, empty)]

    def _of_today(self) -> list[tuple[str, list[PanelEntry], str]]:
        """What was learned, changed and withdrawn today, the newest first; without what there is none of."""
        sections = []
        for event, title in TODAY:
            lines = [line for line in self._today if line.event == event and line.old_text != line.new_text]
            entries = [
                PanelEntry(
                    line.memory_id,
                    line.new_text or line.old_text or "",
                    "",
                    event,
                    line.old_text,
                    self._state(line.memory_id),
                )
                for line in {line.memory_id: line for line in reversed(lines)}.values()
            ]
            if entries:
                sections.append((title, entries[::-1], ""))
        return sections

    def _found(self, hit: Hit) -> PanelEntry:
        """A search result as the memory is now."""
        change = self._changes.get(hit.id)
        entry = entry_from_hit(hit)
        if change is None:
            return entry
        return replace(entry, text=change.text, state=change.label, is_deleted=change.is_deleted)

    def _label(self, memory_id: str) -> str:
        """What the user did to a memory that is shown as it is now."""
        change = self._changes.get(memory_id)
        return "" if change is None else change.label

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


def _marked(entries: list[PanelEntry], hits: Sequence[Hit]) -> list[PanelEntry]:
    """The entries of hits, with a line below each that says nearly the same as one before it."""
    if len(hits) < 2:
        return entries
    from memlora_mlx.memory.near_duplicates import near_duplicates  # here: the first frame has no use for it

    same = near_duplicates([hit.memory for hit in hits if hit.memory is not None])
    return [
        replace(entry, note=f"{entry.note}\n{NEARLY_THE_SAME}")
        if entry.memory_id in same and not entry.state
        else entry
        for entry in entries
    ]


def _widget(key: tuple[str, str], shown: PanelEntry | str) -> Static:
    if isinstance(shown, PanelEntry):
        return MemoryItem(shown)
    return Static(Content(shown), classes=key[0], markup=False)
