"""The part of `Memory` that erases for good."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from memlora_mlx.memory.erasing import Selection, erase, erased_as_json, preview_erasing
from memlora_mlx.memory.mem0_format import moment_of
from memlora_mlx.memory.workspace import Workspace


class ErasingMemory:
    """What `Memory` inherits."""

    workspace: Workspace

    def erase(
        self,
        ids: str | Iterable[str] = (),
        *,
        user_id: str | None = None,
        before: datetime | date | str | None = None,
        containing: str | None = None,
        everything: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Erase for good, unlike `delete`, which `undo` reverts. Give exactly one of the first five arguments.

        The history goes, too, and the messages that the memories came from, with all traces in the data folder.

        Args:
            ids: of memories; a deleted memory can be erased, too.
            user_id: a person: all that is stored of them, and what they said in conversations of others.
            before: what was said before this time.
            containing: memories with this text, and the sentences of messages with it.
            dry_run: change nothing, and say what would go.

        Returns counts ("memories", "messages", "history", ...), the "files" and "lines" beside the store, and what is not
        touched: "exports", "left" and memories that are "staying" although they came from the same words.

        Raises:
            UsageError: none of the arguments is given, or several.
            StoreError: there is no such memory or person, or another process reads the store; repeat the call then.
        """
        selection = Selection(
            ids=(ids,) if isinstance(ids, str) else tuple(ids),
            person=user_id,
            before=None if before is None else moment_of(before),
            containing=containing,
            everything=everything,
        )
        store, home = self.workspace.store, self.workspace.settings.home
        work = preview_erasing if dry_run else erase
        return erased_as_json(work(store, home, selection), done=not dry_run)

    def reset(self) -> None:
        """Erase everything: the store, what was typed in chats, training examples, trainings, benchmarks and scraps.

        Models, installed experts and settings stay.
        """
        erase(self.workspace.store, self.workspace.settings.home, Selection(everything=True))
