"""Every failure that a user can cause: one line that says what happened and what to do, and an exit code."""

from __future__ import annotations

from collections.abc import Sequence


class MemloraError(Exception):
    """`str(error)` is the line the user reads: what happened, then what to do about it."""

    exit_code = 1


class UsageError(MemloraError, ValueError):
    """An argument cannot be accepted: an unknown name, a value out of range, a file that does not exist."""

    exit_code = 2


class ExtraMissing(MemloraError):
    """An optional package is not installed; the message names the extra to install (see `memlora_mlx.extras`)."""


class BadConversation(MemloraError):
    """A conversation file cannot be read: not JSON, incomplete, wrongly encoded, or in an unknown format."""


class ModelMissing(MemloraError):
    """No student or embedder with this name is installed."""


class ModelBroken(MemloraError):
    """A model folder is incomplete or damaged: a partial download, a wrong checksum, an unreadable file."""


class DownloadFailed(MemloraError):
    """A model could not be downloaded: no network, no such repository, no such wheel in the package index."""


class AdapterMismatch(MemloraError):
    """An expert was trained for another base model, or its files do not fit together."""


class VisionMissing(MemloraError):
    """An image was given, but the student is not a vision model."""


class BadTrainingData(MemloraError):
    """A file of training data cannot be used: a malformed line, no examples, examples that are too long."""


class TeacherFailed(MemloraError):
    """A teacher's server cannot be reached or does not answer as expected; the answers so far are saved."""


class TrainingFailed(MemloraError):
    """A training run cannot start or continue: too little memory, a NaN loss, a full disk."""


class StoreError(MemloraError):
    """The memory store cannot do what was asked."""


class StoreTooNew(StoreError):
    """The store was written by a newer memlora than this one."""


class StoreReadOnly(StoreError):
    """The store's folder or file cannot be written."""


class StoreFull(StoreError):
    """The disk is full; everything stored before is intact."""


class StoreBusy(StoreError):
    """Another process has been writing for longer than we wait."""


class StoreBroken(StoreError):
    """The database file is damaged."""


class StoreLocked(StoreError):
    """The store is encrypted and its key cannot be had: no passphrase, a wrong one, or no keyring."""


class MemoryNotFound(StoreError, ValueError):
    """There is no memory with this id."""


class TooManyChanges(MemloraError):
    """One ingest would change more of the older memories than it may without being asked for.

    Attributes:
        waiting: the changes that were not made: the old text of each memory, and the new one, or None where it would go.
    """

    def __init__(self, message: str, waiting: Sequence[tuple[str, str | None]] = ()) -> None:
        super().__init__(message)
        self.waiting = tuple(waiting)


class EngineClosed(MemloraError):
    """The engine was closed while a request was waiting."""


class Cancelled(MemloraError):
    """A request was stopped before it finished; nothing of it is saved unless the message says so."""

    exit_code = 130
