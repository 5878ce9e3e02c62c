"""What a training session has done so far, as a file: a session that was stopped or killed continues from it.

A session trains the experts of all stages, one after the other (`memlora train`). Its folder has `session.json`, which is
written whole after every step, and at the end `report.md`. The runs of its stages are ordinary runs beside it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from memlora_mlx.distill.training_config import without_version
from memlora_mlx.errors import TrainingFailed, UsageError
from memlora_mlx.files import atomic_write
from memlora_mlx.models.typed_json import from_json, to_json
from memlora_mlx.records import Stage

STATE = "session.json"
REPORT = "report.md"
VERSION = 1  # of session.json

# planned: not trained yet. trained: better on held-out rows, not judged in the pipeline yet. no better, failed, too long: it
# has no new expert. rejected: the pipeline is worse with it. kept: better, and not installed because that was not wanted.
Outcome = Literal["planned", "trained", "no better", "failed", "too long", "rejected", "kept", "installed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What a session was asked to do. It keeps this when it is resumed."""

    student: str
    budget: float | None = None  # seconds for all of it; None: as long as the recipes take
    locomo: str | None = None  # LoCoMo's file, whose annotations are training data too
    validation: str | None = None  # a file of conversations with questions; None: generated lives
    install: bool = True


@dataclass(slots=True)
class StageState:
    """One stage of a session."""

    stage: Stage
    files: tuple[str, ...] = ()  # its training data
    available: int = 0  # training examples in them
    config: Mapping[str, Any] | None = None  # of its run, as `config_to_json` writes it
    tokens_per_second: float | None = None  # of a training step, measured
    memory: int = 0  # bytes of a step, estimated
    steps: int = 0  # planned
    planned_seconds: float = 0.0
    run: str | None = None  # the folder of its run
    seconds: float = 0.0  # spent in training
    loss_before: float | None = None  # on held-out rows, of the expert in use or the base
    loss_after: float | None = None
    scores: tuple[float, ...] | None = None  # token F1 of each question, with this expert and those kept before it
    outcome: Outcome = "planned"
    reason: str = ""  # why it failed or was not tried


@dataclass(slots=True)
class SessionState:
    """All of a session. The names of the fields are keys of session.json."""

    options: SessionOptions
    command: str = ""
    device: str = ""
    seconds: float = 0.0  # spent in all
    lives: int = 0  # generated lives, or conversations of the validation file, that the pipeline is measured on
    measure_seconds: float = 0.0  # one measurement of the pipeline
    before: tuple[float, ...] | None = None  # token F1 of each question with the experts in use at the beginning
    stages: tuple[StageState, ...] = ()
    is_planned: bool = False
    is_finished: bool = False

    def write(self, folder: Path) -> None:
        """Write the state whole. Raises TrainingFailed."""
        value = {"version": VERSION, **to_json(self)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / STATE, json.dumps(value, indent=1, ensure_ascii=False), private=False)
        except OSError as error:
            raise TrainingFailed(
                f"Cannot write to {folder} ({error.strerror}). Free disk space and try again."
            ) from error


def read_session(folder: Path) -> SessionState:
    """The state of the session in a folder. Raises UsageError: it holds none, or it cannot be read."""
    try:
        value = without_version(json.loads((folder / STATE).read_text(encoding="utf-8")), VERSION)
        return from_json(SessionState, value)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{folder} contains no training session to continue ({reason}). Use --new to begin another one."
        ) from error


def unfinished_session(home: Path, student: str) -> Path | None:
    """The folder of the newest session of a student that has not finished."""
    found = []
    for path in (home / "runs").glob(f"*/{STATE}"):
        state = read_session(path.parent)
        if not state.is_finished and state.options.student == student:
            found.append((path.stat().st_mtime, path.parent))
    return max(found)[1] if found else None


def new_session_folder(home: Path, day: date) -> Path:
    """A folder for a new session whose name is free, such as session-2026-11-29-1."""
    names = (home / "runs" / f"session-{day.isoformat()}-{number}" for number in itertools.count(1))
    return next(folder for folder in names if not folder.exists())
