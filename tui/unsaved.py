"""What was sent and does not stand in its conversation yet, kept in files.

The first frame is there before the store is open. What is sent meanwhile waits for the store, and the terminal may be closed
before that. Each message has a file of its own, `unsaved/<process>-<key>.jsonl`, and the app that starts next stores it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from memlora_mlx.json_lines import JsonLines, read_json_lines
from memlora_mlx.settings import UNSAVED
from memlora_mlx.tui.chat_controller import ChatTurn


class UnsavedTurns:
    """The files of one app.

    Args:
        keep_secrets: keep secrets in them; see `memlora_mlx.memory.secrets`.
        is_encrypted: write none, because the files would be plain beside an encrypted store.
    """

    def __init__(self, home: Path, *, keep_secrets: bool, is_encrypted: bool = False) -> None:
        self._folder, self._keep_secrets, self._is_encrypted = home / UNSAVED, keep_secrets, is_encrypted
        self._kept: set[str] = set()  # keys of turns

    def keep(self, turn: ChatTurn) -> None:
        """Write down what was said, as it would be stored. If that fails, storing the turn will say so."""
        from memlora_mlx.memory.secrets import screen_text  # here: the first frame has no use for it

        def screened(text: str) -> str:
            return screen_text(text, keep_secrets=self._keep_secrets).text

        if self._is_encrypted or turn.is_saved or turn.key in self._kept:
            return
        self._kept.add(turn.key)
        line: dict[str, Any] = {"text": screened(turn.question), "said_at": turn.said_at.isoformat()}
        if turn.image is not None:
            line["image"] = {"source": turn.image.source, "caption": screened(turn.image.caption or "") or None}
        if not line["text"]:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with JsonLines(self._folder / f"{os.getpid()}-{turn.key}.jsonl") as file:
                file.append(line)

    def drop(self, turn: ChatTurn) -> None:
        """Forget the file of a turn that is stored, whichever process wrote it."""
        for file in self._folder.glob(f"*-{turn.key}.jsonl"):
            with contextlib.suppress(OSError):
                file.unlink()

    def left_by_others(self) -> list[ChatTurn]:
        """What apps that have ended did not store, the oldest first."""
        return sorted(self._left_by_others(), key=lambda turn: turn.said_at)

    def _left_by_others(self) -> Iterator[ChatTurn]:
        from memlora_mlx.records import Image

        for file in self._folder.glob("*-*.jsonl"):
            process, _, key = file.stem.partition("-")
            if key in self._kept or not process.isdecimal() or _is_another(int(process)):
                continue
            with contextlib.suppress(OSError, KeyError, TypeError, ValueError):  # not written by this class
                for line in read_json_lines(file):
                    image = Image(**line["image"]) if "image" in line else None
                    yield ChatTurn(line["text"], image, key=key, said_at=datetime.fromisoformat(line["said_at"]))


def _is_another(process: int) -> bool:
    """Whether another process that runs has this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return process != os.getpid()
