"""The files a teacher's answers go into: rows of a stage, and beside them what could not be cleaned."""

from __future__ import annotations

import contextlib
import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from memlora_mlx.distill.answer_cleaning import CleanedAnswer, RejectedAnswer
from memlora_mlx.distill.examples import TrainingExample, read_examples
from memlora_mlx.errors import BadTrainingData, TeacherFailed, UsageError
from memlora_mlx.json_lines import JsonLines
from memlora_mlx.records import Stage

RESUME_HINT = "what was answered is kept, and the same command goes on from there"


def teacher_file(home: Path, stage: Stage, teacher: str) -> Path:
    """Where a teacher's rows of a stage are kept; those that could not be cleaned lie beside it."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "--", teacher).strip("-.") or "teacher"
    return home / "teacher" / stage / f"{slug}.jsonl"


def rejected_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}.refused.jsonl")


def read_answers(path: Path) -> dict[str, CleanedAnswer | RejectedAnswer]:
    """What a teacher's two files hold, by the hash of the prompt.

    Raises:
        BadTrainingData: a line is no row.
    """
    known: dict[str, CleanedAnswer | RejectedAnswer] = {}
    if path.is_file():
        known |= {row.prompt_hash: CleanedAnswer(row.answer) for row in read_examples(path)}
    aside = rejected_file(path)
    if aside.is_file():
        for number, line in enumerate(aside.read_bytes().split(b"\n"), 1):
            if line.strip():
                try:
                    value = json.loads(line)
                    known.setdefault(value["prompt_hash"], RejectedAnswer(value["reason"]))
                except (ValueError, KeyError, TypeError) as error:
                    raise BadTrainingData(f"{aside}, line {number} is no refused row; remove that line") from error
    return known


class AnswerFiles:
    """The files of one teacher and stage. Rows are added one by one, each whole or not at all.

    Use it in a `with` statement. A last line that a kill has torn is cut off; `get` knows all that is kept.

    Raises:
        UsageError: another process is writing them.
        BadTrainingData: a line is no row.
        TeacherFailed: they cannot be written, or the disk is full; what was written before is whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, CleanedAnswer | RejectedAnswer] = {}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        import filelock

        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path.parent / f".{self.path.name}.lock", timeout=0)
            try:
                self._open.enter_context(lock)
            except filelock.Timeout:
                raise UsageError(f"another `memlora teach` is writing {self.path}; wait for it or stop it") from None
            with contextlib.ExitStack() as undo:
                undo.callback(self._open.close)
                self._rows = self._open.enter_context(JsonLines(self.path))
                self._rejected = self._open.enter_context(JsonLines(rejected_file(self.path)))
                self._known = read_answers(self.path)
                undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def get(self, prompt_hash: str) -> CleanedAnswer | RejectedAnswer | None:
        return self._known.get(prompt_hash)

    def add(self, row: TrainingExample, result: CleanedAnswer | RejectedAnswer) -> None:
        """Add a row, or put it aside with the reason."""
        value = row.as_json()
        if isinstance(result, CleanedAnswer):
            self._append(self._rows, value)
        else:
            self._append(self._rejected, {**value, "messages": value["messages"][:-1], "reason": result.reason})
        self._known[row.prompt_hash] = result

    def _append(self, file: JsonLines, value: dict[str, Any]) -> None:
        with self._explained():
            file.append(value)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise TeacherFailed(f"the disk of {self.path.parent} is full; free some: {RESUME_HINT}") from error
            raise TeacherFailed(f"cannot write {self.path}: {error.strerror or error}; {RESUME_HINT}") from error
