"""The line above the prompt that shows the image which goes with the next message."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from memlora_mlx.text import printable_line
from memlora_mlx.tui.backend import BackendStatus

if TYPE_CHECKING:
    from memlora_mlx.records import Image


class Attachment(Static):
    """Hidden while there is no image."""

    def __init__(self) -> None:
        super().__init__(id="attachment", markup=False)
        self.image: Image | None = None

    def on_mount(self) -> None:
        self.display = False

    async def attach(self, path: Path, caption: str, status: BackendStatus) -> None:
        """Show this image and what the student does with it.

        Raises:
            UsageError: the file is not an image, or it is too large.
        """
        from memlora_mlx.records import Image
        from memlora_mlx.tui.terminal_images import thumbnail

        await asyncio.to_thread(thumbnail, path)
        self.image = Image(str(path), caption or None)
        student = printable_line(status.student or "the student", 30)
        note = f"caption: {printable_line(caption, 60)}" if caption else "add a caption with /image PATH TEXT"
        if status.has_vision:
            use = f"{student} sees the image."
        else:
            use = f"{student} cannot read images; it gets your text and the caption."
        self.update(Content(f"▣ {printable_line(path.name, 40)} ({note})\n  {use} Press Backspace to remove it."))
        self.display = True

    def detach(self) -> None:
        self.image = None
        self.display = False
