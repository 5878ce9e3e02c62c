"""One memory in the panel beside the chat, with its keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from memlora_mlx.text import printable_line
from memlora_mlx.tui.times import format_time
from memlora_mlx.tui.widgets.exchange import EVENT_SIGNS, EVENT_WORDS

if TYPE_CHECKING:
    from memlora_mlx.records import Event, Hit

MemoryAction = Literal["source", "edit", "undo", "redo", "pin", "delete", "erase"]


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
    is_cited: bool = False  # the reply has its words
    is_memory: bool = True  # False: a message that no memory came from


class MemoryItem(Static, can_focus=True):
    """One memory in the panel. Its keys act on the memory."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act('source')", "Source", tooltip="Show its source and history", id="memory.source"),
        Binding("e", "act('edit')", "Edit", tooltip="Edit the text", id="memory.edit"),
        Binding("u", "act('undo')", "Undo", tooltip="Undo the last change to this memory", id="memory.undo"),
        Binding("r", "act('redo')", "Redo", tooltip="Redo the change that was undone last", id="memory.redo"),
        Binding("p", "act('pin')", "Pin", tooltip="Pin it: every reply is given it; again: unpin", id="memory.pin"),
        Binding(
            "space",
            "select",
            "Select",
            key_display="␣",
            tooltip="Select it; d deletes all that are selected",
            id="memory.select",
        ),
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
        self.is_selected = False

    def show(self, entry: PanelEntry) -> None:
        """Show this entry in place of the one before. The focus stays."""
        if entry != self.entry:
            self.entry = entry
            self._redraw()

    def _redraw(self) -> None:
        mark = Content.styled("◉ selected\n", "bold $text-accent") if self.is_selected else Content("")
        self.update(mark + _content(self.entry))

    def action_select(self) -> None:
        self.set_selected(not self.is_selected)

    def set_selected(self, is_selected: bool) -> None:
        if self.entry.is_memory and is_selected != self.is_selected:
            self.is_selected = is_selected
            self._redraw()

    def action_act(self, action: MemoryAction) -> None:
        if self.entry.is_memory:
            self.post_message(self.Acted(self.entry, action))
        else:
            self.notify("This is a message, not a memory, and cannot be changed here.")

    def on_click(self) -> None:
        self.focus()


def entry_from_hit(hit: Hit, state: str = "", *, is_cited: bool = False) -> PanelEntry:
    from memlora_mlx.memory.evidence import said_by  # here: the first frame has no use for it

    words = f"“{printable_line(said_by(hit.message))}”" if hit.message is not None else ""
    if hit.memory is not None and hit.message is None and hit.memory.metadata.get("pinned"):
        return PanelEntry(hit.id, hit.memory.text, "pinned", state=state, is_cited=is_cited)
    note = f"{format_time(hit.said_at)} · score {hit.score:.2f}"
    if hit.superseded_at is not None:
        note += f" · changed on {format_time(hit.superseded_at)}"
    if hit.memory is None:
        return PanelEntry(hit.id, words, note, is_memory=False, is_cited=is_cited)
    is_verbatim = hit.message is not None and hit.message.text == hit.memory.text
    note = f"{words}\n{note}" if words and not is_verbatim else note
    return PanelEntry(hit.id, hit.memory.text, note, state=state, is_cited=is_cited)


def _content(entry: PanelEntry) -> Content:
    parts: list[Content | tuple[str, str]] = [("● cited  ", "$text-accent")] if entry.is_cited else []
    if entry.event != "NONE":
        colour = {"ADD": "$text-success", "UPDATE": "$text-warning", "DELETE": "$text-error"}[entry.event]
        parts.append((f"{EVENT_SIGNS[entry.event]} {EVENT_WORDS[entry.event]}  ", colour))
    is_gone = entry.event == "DELETE" or entry.is_deleted
    parts.append((printable_line(entry.text), "strike" if is_gone else ""))
    if entry.event == "UPDATE" and entry.old_text:
        parts += [("\nwas  ", "$text-muted"), (printable_line(entry.old_text), "$text-muted")]
    if entry.note:
        parts.append((f"\n{entry.note}", "$text-muted"))
    if entry.state:
        parts.append((f"\n» {printable_line(entry.state)}", "bold"))
    return Content.assemble(*parts)
