"""The first start, with no models on the disk: one key downloads them, and the next offers to import an export."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Footer, ProgressBar, Static

from memlora_mlx.errors import MemloraError
from memlora_mlx.text import format_bytes, printable_line
from memlora_mlx.tui.base_app import BaseApp
from memlora_mlx.tui.first_models import facts_about, purpose_of
from memlora_mlx.tui.jobs import Job
from memlora_mlx.tui.key_names import key_name

if TYPE_CHECKING:
    from memlora_mlx.models.catalog import CatalogModel

INTERVAL = 0.25  # seconds between two looks at a download
READY = """\
Both models are here. Nothing leaves this machine from now on.

Tell memlora something about you, for example: I live in Vienna. Then ask about it. If it is no longer so, say what is so \
now, or press {panel} and edit the memory.

Do you have an export of another assistant or of a messenger? memlora reads it: press i. You see first what is in it, and \
nothing is stored before you say so."""
FirstRunPhase = Literal["offer", "download", "ready"]


class FirstRunScreen(ModalScreen[bool | None]):
    """Offer the models that are missing. The result is True to import an export, None for anything else.

    Args:
        missing: the models, in the order of their download.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "download", "Download", tooltip="Download the models", id="first.download"),
        Binding("enter", "begin", "Begin", tooltip="Begin to chat", id="first.begin"),
        Binding("i", "ingest", "Import an export", tooltip="Choose a file of conversations", id="first.ingest"),
        Binding("escape", "leave", "Later", tooltip="Close this; F7 downloads models, too", id="first.leave"),
    ]

    def __init__(self, missing: Sequence[CatalogModel]) -> None:
        super().__init__()
        self._missing = list(missing)
        self._phase: FirstRunPhase = "offer"
        self._job: Job | None = None

    @property
    def memlora(self) -> BaseApp:
        """The app, as the type that it has."""
        return cast(BaseApp, self.app)

    def compose(self) -> ComposeResult:
        one = len(self._missing) == 1
        with Vertical(classes="dialog wide first-run"):
            yield Static("Welcome to memlora", classes="dialog-title", markup=False)
            with Vertical(id="offer"):
                yield Static(
                    f"memlora needs {'one more model' if one else 'two models'}. Press Enter to download "
                    f"{'it' if one else 'them'}: after that, everything runs on this machine.",
                    markup=False,
                )
                for model in self._missing:
                    head = (f"\n{model.kind.capitalize()}: {facts_about(model)}\n", "bold")
                    yield Static(Content.assemble(head, purpose_of(model)), markup=False)
            yield ProgressBar(total=None, show_eta=False, id="progress")
            yield Static("", id="says", markup=False)
            yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#progress").display = False
        self.set_interval(INTERVAL, self._watch)

    def on_unmount(self) -> None:
        if self._job is not None:
            self._job.stop()
            self.memlora.backend.has_network_activity = "offline"

    # ------------------------------------------------------------------ keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "download":
            return self._phase == "offer"
        if action in ("begin", "ingest"):
            return self._phase == "ready"
        return True

    def action_download(self) -> None:
        self._set_phase("download")
        self._start()

    def action_begin(self) -> None:
        self.dismiss(None)

    def action_ingest(self) -> None:
        self.dismiss(True)

    def action_leave(self) -> None:
        """Stop the download, which continues from there the next time, or close the screen."""
        if self._job is not None:
            self._job.stop()
        else:
            self.dismiss(None)

    # ------------------------------------------------------------------ the download

    def _set_phase(self, phase: FirstRunPhase) -> None:
        self._phase = phase
        self.query_one("#progress").display = phase == "download"
        self.query_one("#offer").display = phase != "ready"
        self.refresh_bindings()

    def _start(self) -> None:
        """Download the first of the models that are still missing."""
        model, settings = self._missing[0], self.memlora.backend.settings
        log = Path(tempfile.gettempdir()) / f"memlora-pull-{model.name.replace('/', '--')}.log"
        arguments = ["memlora_mlx.tui.download_process", model.name, str(self.memlora.backend.models_folder)]
        self._job = Job(arguments, settings, log)
        self.memlora.backend.has_network_activity = f"downloading {printable_line(model.name, 30)}"
        self.query_one("#progress", ProgressBar).update(total=None, progress=0)
        self._say(f"{model.name}: beginning …")

    def _watch(self) -> None:
        """Show the progress of the download, and go on with the next model when it has ended."""
        if (job := self._job) is None:
            return
        model = self._missing[0]
        if (fields := job.progress_fields()) is not None:
            phase, done, total = fields
            self.query_one("#progress", ProgressBar).update(total=total or None, progress=done)
            of = f" {format_bytes(done)} of {format_bytes(total)}" if total else ""
            self._say(f"{model.name}: {phase}{of}")
        if (code := job.poll()) is None:
            return
        self._job, self.memlora.backend.has_network_activity = None, "offline"
        if code == 0:
            self._missing.pop(0)
            if self._missing:
                self._start()
            else:
                self._set_phase("ready")
                self.say_ready()
                self.memlora.load_models()
            return
        self._set_phase("offer")
        if job.is_stopped:
            self._say("The download was stopped. Press Enter to continue it.")
        else:
            self._say(f"✗ {job.failure_reason()}\nPress Enter to try again.")
            self.memlora.log.error(MemloraError(job.failure_reason()))

    def say_ready(self) -> None:
        """Say what to do now, with the user's own key of the panel."""
        panel = self.app._keymap.get("chat.panel", "ctrl+o")  # Textual has no other way to ask for it
        self._say(READY.format(panel=key_name(panel.split(",")[0])))

    def _say(self, words: str) -> None:
        self.query_one("#says", Static).update(Content(words))
