"""The search field and the filters above the list of memories."""

from __future__ import annotations

from dataclasses import replace

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Select

from memlora_mlx.text import printable_line
from memlora_mlx.tui.memory_queries import FilterChoices, MemoryQuery

ALL = ""


class MemoryFilters(Vertical):
    """Search text, person, source and dates. It posts `Changed` when one of them changes."""

    DEFAULT_CSS = """
    MemoryFilters { height: auto; }
    """

    class Changed(Message):
        pass

    def compose(self) -> ComposeResult:
        with Horizontal(classes="fields"):
            yield Input(placeholder='/ search by meaning, or "exact text"', compact=True, id="words")
        with Horizontal(classes="fields"):
            yield Select[str]([("all people", ALL)], value=ALL, allow_blank=False, compact=True, id="person")
            yield Select[str]([("all sources", ALL)], value=ALL, allow_blank=False, compact=True, id="source")
            yield Input(placeholder="since 2023-05-08", compact=True, classes="date", id="since")
            yield Input(placeholder="before", compact=True, classes="date", id="until")

    @on(Input.Changed)
    @on(Select.Changed)
    def filter_changed(self, event: Message) -> None:
        event.stop()
        self.post_message(self.Changed())

    @property
    def search(self) -> Input:
        return self.query_one("#words", Input)

    def applied_to(self, query: MemoryQuery) -> MemoryQuery:
        """The query with the search text and the filters that are set now."""

        def chosen(name: str) -> str | None:
            value = self.query_one(f"#{name}", Select).value
            return str(value) if value not in (ALL, Select.NULL) else None

        return replace(
            query,
            text=self.search.value,
            since=self.query_one("#since", Input).value,
            until=self.query_one("#until", Input).value,
            owner=chosen("person"),
            source=chosen("source"),
        )

    def offer(self, choices: FilterChoices) -> None:
        """Offer these people and sources. What is chosen stays chosen if it is still among them."""
        for name, every, options in (
            ("person", "all people", choices.owners),
            ("source", "all sources", tuple((source, source) for source in choices.sources)),
        ):
            select = self.query_one(f"#{name}", Select)
            shown: list[tuple[Text, str]] = [(Text(every), ALL)]
            shown += [(Text(printable_line(label, 40)), value) for label, value in options]
            before = select.value
            with self.prevent(Select.Changed):
                select.set_options(shown)
                select.value = before if before in [value for _, value in shown] else ALL
