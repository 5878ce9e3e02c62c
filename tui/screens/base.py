"""What all full screens share: the navigation line, the status bar, the footer, and the report of failures.

The same key means the same on every screen: Enter opens, e edits, d deletes, u undoes, h shows the history, s sorts,
x exports, / moves to the input field, Escape stops or goes back, Ctrl+R runs or refreshes. r redoes on memories and
resumes a training run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from memlora_mlx.tui.base_app import BaseApp
from memlora_mlx.tui.widgets.footer import ScreenFooter
from memlora_mlx.tui.widgets.navigation import Navigation
from memlora_mlx.tui.widgets.status import StatusBar

if TYPE_CHECKING:
    from memlora_mlx.tui.backend import Backend

SHORT = 20  # lines of a window; in one with fewer the prompt and notices are lower


class MainScreen(Screen[None]):
    """A full screen: its body above the status bar and the footer. Subclasses implement `compose_body`."""

    NAME: ClassVar[str] = ""  # shown in the palette and the help
    LEAST_SIZE: ClassVar[tuple[int, int]] = (70, 20)  # columns and lines that all parts of the screen need
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual declares it

    def compose(self) -> ComposeResult:
        # Textual sets it with the first resize, and then works out the styles of all parts once more.
        fitting = [name for least, name in self.HORIZONTAL_BREAKPOINTS if least <= self.app.size.width]
        self.add_class(fitting[-1], update=False)
        yield Navigation(self.NAME.lower())
        yield Static("", markup=False, id="too-small")
        with Container(id="body"):
            yield from self.compose_body()
        yield StatusBar()
        yield ScreenFooter(show_command_palette=True, compact=True)

    def on_resize(self, event: events.Resize) -> None:
        """Say of a window that is too small for the screen how large it must be."""
        width, height = event.size
        columns, lines = self.LEAST_SIZE
        is_tiny = width < columns or height < lines
        self.set_class(is_tiny, "-tiny").set_class(height < SHORT, "-short")
        if is_tiny:
            told = f"This window has {width}x{height} characters. Parts of {self.NAME} need {columns}x{lines}."
            self.query_one("#too-small", Static).update(told)

    def _on_screen_resume(self, event: events.ScreenResume) -> None:
        if not self.stack_updates:  # it is shown for the first time, and its parts have just been given their styles
            event.refresh_styles = False
        self.refresh_bindings()  # the footer did not follow them while another screen was on top

    def _compositor_refresh(self) -> None:
        """Draw what has changed, but not in the middle of a batch: Textual would work out what to draw and not show it."""
        if not self.app._batch_count:
            super()._compositor_refresh()

    def compose_body(self) -> Iterable[Widget]:
        raise NotImplementedError

    @property
    def memlora(self) -> BaseApp:
        """The app, as the type that it has."""
        return cast(BaseApp, self.app)

    @property
    def backend(self) -> Backend:
        return self.memlora.backend

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Report the failure of a worker that was started with `exit_on_error=False`. The app continues."""
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.memlora.report_error(event.worker.error)
