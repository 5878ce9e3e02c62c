"""Every failure a user can cause: one line that says what happened and what to do, and an exit code."""


class MemloraError(Exception):
    """`str(error)` is the line the user reads: what happened, then what to do about it."""

    exit_code = 1


class UsageError(MemloraError, ValueError):
    """Something was given that cannot be accepted: a wrong name, a file that is not there."""

    exit_code = 2


class ExtraMissing(MemloraError):
    """An optional package is not installed; the line names the extra that brings it (see `memlora_mlx.extras`)."""


class BadConversation(MemloraError):
    """A conversation file cannot be read: not JSON, truncated, wrongly encoded, of no known form."""


class ModelMissing(MemloraError):
    """No student or embedder of that name is on this disk."""


class ModelBroken(MemloraError):
    """A model folder is incomplete or damaged: half a download, a wrong checksum, an unreadable file."""


class DownloadFailed(MemloraError):
    """A model could not be fetched: no network, no such repository, no such wheel in the package index."""


class AdapterMismatch(MemloraError):
    """An expert was trained for another base model, or its files do not fit together."""


class VisionMissing(MemloraError):
    """An image was given, but the student cannot see."""


class BadTrainingData(MemloraError):
    """A file of teacher data cannot be trained on: a malformed line, no rows, rows that are too long."""


class TeacherFailed(MemloraError):
    """A teacher's server cannot be reached or does not answer as one; what was answered is kept."""


class TrainingFailed(MemloraError):
    """A training run cannot start or go on: too little memory, a loss that is no number, a full disk."""


class StoreError(MemloraError):
    """The memory store cannot be used as asked."""


class StoreTooNew(StoreError):
    """The store was written by a newer memlora than this one."""


class StoreReadOnly(StoreError):
    """The store's folder or file cannot be written."""


class StoreFull(StoreError):
    """The disk is full; what was stored before is whole."""


class StoreBusy(StoreError):
    """Another process has been writing for longer than we wait."""


class StoreBroken(StoreError):
    """The database file is damaged."""


class MemoryNotFound(StoreError, ValueError):
    """No memory of that id."""


class EngineClosed(MemloraError):
    """The engine was closed while a request waited."""


class Cancelled(MemloraError):
    """A request was stopped before it ended; nothing of it is kept."""

    exit_code = 130
