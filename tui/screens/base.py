"""What all full screens share: a title line, the status bar, the footer, and how a failure is told.

The same key means the same thing everywhere: Enter opens, e edits, d deletes, u undoes, h shows the history, s sorts,
x exports, / goes to the search field, Escape stops or goes back, Ctrl+R runs or refreshes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer
from textual.worker import Worker, WorkerState

from memlora_mlx.tui.widgets.navigation import Navigation
from memlora_mlx.tui.widgets.status import StatusBar

if TYPE_CHECKING:
    from memlora_mlx.tui.app import MemloraApp
    from memlora_mlx.tui.backend import Backend


class MainScreen(Screen[None]):
    """A full screen: its body above the status bar and the footer. Subclasses give `compose_body`."""

    NAME: ClassVar[str] = ""  # as the palette and the help call it
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual declares it

    def compose(self) -> ComposeResult:
        yield Navigation(self.NAME.lower())
        with Container(id="body"):
            yield from self.compose_body()
        yield StatusBar()
        yield Footer(show_command_palette=True, compact=True)

    def compose_body(self) -> Iterable[Widget]:
        raise NotImplementedError

    @property
    def memlora(self) -> MemloraApp:
        """The app, by its own type."""
        return cast("MemloraApp", self.app)

    @property
    def backend(self) -> Backend:
        return self.memlora.backend

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A worker started with `exit_on_error=False` that fails is told of, and the app goes on."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.memlora.report_error(event.worker.error)
