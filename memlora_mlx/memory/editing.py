"""The user's own changes of memories, for every client: the app, the command line, the plain chat and `Memory`.

Each change is written to the history. If it corrects the student, it also becomes a training example, and an undo or a
redo brings the examples up to date (see `corrections`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memlora_mlx.errors import BadTrainingData, MemoryNotFound, UsageError
from memlora_mlx.memory import inputs
from memlora_mlx.memory.changes import EmbedFunction
from memlora_mlx.memory.corrections import remove_forgotten_corrections, update_corrections
from memlora_mlx.memory.secrets import screen_text
from memlora_mlx.memory.store.backups import copies_with_conversation
from memlora_mlx.memory.store.conversations import delete_conversation, rename_conversation
from memlora_mlx.memory.store.history import redo_change, undo_change
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import MemoryRecord, Revision, Scope
from memlora_mlx.text import clean_line

UNCHANGED = "The text is unchanged, so nothing was saved."


@dataclass(frozen=True, slots=True)
class Edit:
    """The result of an edit or a deletion."""

    memory: MemoryRecord  # as it is now; as it was, if it was deleted
    is_change: bool = True  # False: the memory already had this text and metadata, and nothing was written
    problem: str | None = None  # why the training examples could not be written; the change itself is stored
    withheld: Mapping[str, int] = field(default_factory=dict)  # secrets that were not stored, by kind


@dataclass(frozen=True, slots=True)
class Reversal:
    """The result of an undo or a redo."""

    revision: Revision  # the new line of history
    problem: str | None = None  # as of `Edit`


class Editor:
    """Edits, deletes, undoes and redoes.

    Args:
        embed: computes embeddings; it is called only when a text is stored.
        home: the folder of the training examples (see `corrections.corrections_file`).
        keep_secrets: store secrets that the user writes; see `secrets`.
    """

    def __init__(self, store: Store, embed: EmbedFunction, home: Path, *, keep_secrets: bool = False) -> None:
        self._store, self._embed, self._home, self._keep_secrets = store, embed, home, keep_secrets

    def revise(self, memory_id: str, text: str | None = None, *, metadata: Mapping[str, Any] | None = None) -> Edit:
        """Give a memory a new text, new metadata, or both. What it already has is no change and leaves no trace.

        Args:
            text: put on one line; None keeps the text.
            metadata: replaces the values of the keys it has; other keys stay.

        Raises:
            MemoryNotFound: there is no such memory.
            UsageError: the text is empty, or longer than `inputs.MAX_MEMORY` characters.
            StoreError: metadata that is not JSON, or the store cannot be written.
        """
        old = self._store.get(memory_id)
        if old is None:
            raise MemoryNotFound(f"no memory has the id {memory_id}; `memlora memory list` shows them")
        screened = screen_text("" if text is None or text == old.text else text, keep_secrets=self._keep_secrets)
        words = old.text if text is None or text == old.text else clean_line(screened.text)
        if not words:
            raise UsageError("a memory needs some text; delete the memory to remove it")
        if len(words) > inputs.MAX_MEMORY:
            raise UsageError(
                f"a memory can have at most {inputs.MAX_MEMORY:,} characters; this text has {len(words):,}. Shorten it"
            )
        same_text = words in (old.text, clean_line(old.text))
        if same_text and {**old.metadata, **(metadata or {})} == dict(old.metadata):
            return Edit(old, is_change=False)
        [vector] = self._embed([words])
        memory = self._store.revise(memory_id, words, vector, metadata=metadata)
        return Edit(memory, problem=self._correct(memory_id), withheld=screened.withheld)

    def delete(self, memory_id: str) -> Edit:
        """Delete a memory. Raises MemoryNotFound, StoreError."""
        memory = self._store.delete(memory_id)
        return Edit(memory, problem=self._correct(memory_id))

    def delete_all(self, scope: Scope) -> int:
        """Delete the memories of every owner in scope with their conversations and the training examples made from them.

        Each memory can be restored by `undo`. Returns how many were deleted.

        Raises:
            StoreError: the store cannot be written.
            BadTrainingData, OSError: the training examples could not be removed; the memories are deleted all the same.
        """
        count = self._store.delete_all(scope)
        remove_forgotten_corrections(self._store, self._home)
        return count

    def rename_conversation(self, conversation: str, name: str) -> str:
        """Give a conversation a name without secrets. Returns it. Raises UsageError: the name is empty or too long."""
        return rename_conversation(self._store, conversation, screen_text(name, keep_secrets=self._keep_secrets).text)

    def copies_of_conversation(self, conversation: str) -> list[Path]:
        """The backups that hold a conversation, deleted or not."""
        return copies_with_conversation(self._store.folder, conversation)

    def delete_conversation(self, conversation: str, *, with_memories: bool) -> int:
        """Delete a conversation of the chat; see `store.conversations.delete_conversation`. Returns how many memories went.

        Backups of before still hold it; `copies_of_conversation` tells which.

        Raises:
            StoreError: the store cannot be written.
            BadTrainingData, OSError: the training examples could not be removed; the conversation is deleted all the same.
        """
        count = delete_conversation(self._store, conversation, with_memories=with_memories)
        if with_memories:
            remove_forgotten_corrections(self._store, self._home)
        return count

    def undo(
        self,
        revision_id: int | None = None,
        *,
        memory_id: str | None = None,
        scope: Scope = Scope(),  # noqa: B008 - frozen
        owner_exact: bool = False,
        facts: Sequence[str] = (),
    ) -> Reversal:
        """Revert a change: the given one, or the newest of this memory or scope that was not undone.

        Args:
            revision_id: the number of the change in the history.
            scope: whose changes; a None in it means any, or with `owner_exact` that the owner has none.
            facts: what the student had extracted, if that is known; see `update_corrections`.

        Raises:
            StoreError: there is nothing to undo, or the memory has changed since.
        """
        revision = undo_change(
            self._store, self._embed, revision_id, memory_id=memory_id, scope=scope, owner_exact=owner_exact
        )
        return Reversal(revision, self._correct(revision.memory_id, facts))

    def redo(
        self,
        revision_id: int | None = None,
        *,
        memory_id: str | None = None,
        scope: Scope = Scope(),  # noqa: B008 - frozen
        owner_exact: bool = False,
        facts: Sequence[str] = (),
    ) -> Reversal:
        """Make a change again that was undone, as long as nothing else has changed its memory since.

        Args: as of `undo`; `revision_id` is the number of the undo in the history.

        Raises:
            StoreError: there is nothing to redo, or the memory has changed since.
        """
        revision = redo_change(
            self._store, self._embed, revision_id, memory_id=memory_id, scope=scope, owner_exact=owner_exact
        )
        return Reversal(revision, self._correct(revision.memory_id, facts))

    def _correct(self, memory_id: str, facts: Sequence[str] = ()) -> str | None:
        """Bring the training examples up to date. Returns why that was not possible."""
        try:
            if self._store.database.keys is None:  # an encrypted store leaves no plain words beside it
                update_corrections(self._store, self._home, memory_id, facts=facts)
        except (OSError, BadTrainingData) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return f"The change was saved, but its training example could not be written: {reason}"
        return None
