"""The files of a teacher's answers: the training examples of a stage, and beside them the rejected answers."""

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

RESUME_HINT = "The answers so far are saved; run the same command to continue."


def teacher_file(home: Path, stage: Stage, teacher: str) -> Path:
    """The file of a teacher's examples for a stage. The rejected answers are beside it, see `rejected_file`."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "--", teacher).strip("-.") or "teacher"
    return home / "teacher" / stage / f"{slug}.jsonl"


def rejected_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}.refused.jsonl")


def read_answers(path: Path) -> dict[str, CleanedAnswer | RejectedAnswer]:
    """The answers in a teacher's two files, by the hash of the prompt.

    Raises:
        BadTrainingData: a line is not valid.
    """
    answers: dict[str, CleanedAnswer | RejectedAnswer] = {}
    if path.is_file():
        answers |= {example.prompt_hash: CleanedAnswer(example.answer) for example in read_examples(path)}
    rejected = rejected_file(path)
    if rejected.is_file():
        for number, line in enumerate(rejected.read_bytes().split(b"\n"), 1):
            if line.strip():
                try:
                    value = json.loads(line)
                    answers.setdefault(value["prompt_hash"], RejectedAnswer(value["reason"]))
                except (ValueError, KeyError, TypeError) as error:
                    raise BadTrainingData(
                        f"{rejected}, line {number} is not a rejected answer. Remove that line."
                    ) from error
    return answers


class AnswerFiles:
    """The files of one teacher and stage. Examples are added one by one, each as a whole.

    Use it in a `with` statement. It removes a last line that is incomplete because the process was killed.

    Raises:
        UsageError: another process is writing the files.
        BadTrainingData: a line is not valid.
        TeacherFailed: the files cannot be written, or the disk is full; what was written before is intact.
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
                raise UsageError(
                    f"Another `memlora teach` is writing {self.path}. Wait for it, or stop it first."
                ) from None
            with contextlib.ExitStack() as undo:
                undo.callback(self._open.close)
                self._examples = self._open.enter_context(JsonLines(self.path))
                self._rejected = self._open.enter_context(JsonLines(rejected_file(self.path)))
                self._known = read_answers(self.path)
                undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def get(self, prompt_hash: str) -> CleanedAnswer | RejectedAnswer | None:
        return self._known.get(prompt_hash)

    def add(self, example: TrainingExample, result: CleanedAnswer | RejectedAnswer) -> None:
        """Add an example, or a rejected answer with its reason."""
        value = example.as_json()
        if isinstance(result, CleanedAnswer):
            self._append(self._examples, value)
        else:
            self._append(self._rejected, {**value, "messages": value["messages"][:-1], "reason": result.reason})
        self._known[example.prompt_hash] = result

    def _append(self, file: JsonLines, value: dict[str, Any]) -> None:
        with self._explained():
            file.append(value)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise TeacherFailed(
                    f"The disk of {self.path.parent} is full. Free some space. {RESUME_HINT}"
                ) from error
            raise TeacherFailed(f"Cannot write {self.path}: {error.strerror or error}. {RESUME_HINT}") from error
