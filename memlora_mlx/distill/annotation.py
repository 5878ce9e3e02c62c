"""An annotation job: a run of questions to a teacher, whose cleaned answers become training examples.

An answer is on the disk before it is counted, so a job can be stopped at any time, and the next one asks only the questions
that have no answer yet.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

from memlora_mlx.distill.answer_cleaning import CleanedAnswer, RejectedAnswer, clean_answer
from memlora_mlx.distill.answer_files import AnswerFiles
from memlora_mlx.distill.examples import ChatMessages, TrainingExample
from memlora_mlx.distill.teacher_client import RejectedRequest, Teacher, TeacherResponse


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """A question to a teacher, and the training example that its answer will complete."""

    example: TrainingExample  # without an answer
    chat: ChatMessages  # the example's chat, with instructions for a teacher that is not trained for the stage
    old_memories: tuple[str, ...] = ()  # of an update: what the answer may refer to
    facts: tuple[str, ...] = ()


@dataclass(slots=True)
class AnnotationStats:
    """The progress of an annotation job."""

    total: int = 0  # questions that are known so far
    before: int = 0  # of them, those that an earlier job or an equal question has answered
    written: int = 0  # examples of this job
    refused: Counter[str] = field(default_factory=Counter)  # answers of this job that could not be cleaned, by reason
    waiting: int = 0  # exchanges that no update is asked about yet, because facts of earlier ones are missing
    retries: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    @property
    def asked(self) -> int:
        return self.written + self.refused.total()

    @property
    def done(self) -> int:
        return self.before + self.asked

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the pace so far; None before the first answer."""
        return self.seconds / self.asked * (self.total - self.done) if self.asked else None


class AnnotationJob:
    """Questions to a teacher. A question that its files already answer is not asked again."""

    def __init__(
        self,
        teacher: Teacher,
        answers: AnswerFiles,
        *,
        total: int = 0,
        on_progress: Callable[[AnnotationStats], None] | None = None,
    ) -> None:
        self.teacher, self.answers = teacher, answers
        self.stats = AnnotationStats(total)
        self._on_progress = on_progress
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._started = time.perf_counter()

    async def answer(self, question: TeacherRequest) -> CleanedAnswer | RejectedAnswer:
        """The cleaned answer. The same question is never asked twice."""
        key = question.example.prompt_hash
        async with self._locks[key]:
            if (answered := self.answers.get(key)) is not None:
                self.stats.before += 1
                self._show()
                return answered
            try:
                reply = await self.teacher.ask(question.chat)
            except RejectedRequest as error:
                result: CleanedAnswer | RejectedAnswer = RejectedAnswer(error.reason)
                reply = TeacherResponse(str(error), True, 0, 0)
            else:
                result = clean_answer(
                    question.example.stage, reply.text, old=question.old_memories, facts=question.facts
                )
                if not reply.is_complete:
                    result = RejectedAnswer("cut off")
            answer = result.text if isinstance(result, CleanedAnswer) else ""
            raw = reply.text if reply.text != answer else None
            self.answers.add(replace(question.example, answer=answer, teacher_answer=raw), result)
            if isinstance(result, CleanedAnswer):
                self.stats.written += 1
            else:
                self.stats.refused[result.reason] += 1
            self.stats.prompt_tokens += reply.prompt_tokens
            self.stats.output_tokens += reply.output_tokens
            self._show()
            return result

    def run(
        self, jobs: Iterable[Callable[[], Awaitable[object]]], *, cancelled: threading.Event | None = None
    ) -> AnnotationStats:
        """Run the jobs. Each asks one question by `answer`, or several one after the other.

        Raises:
            Cancelled, TeacherFailed: see `Teacher.run_jobs` and `AnswerFiles`.
        """
        self._started = time.perf_counter()
        self.teacher.run_jobs(jobs, cancelled=cancelled)
        return self.stats

    def _show(self) -> None:
        self.stats.retries = self.teacher.retries
        self.stats.seconds = time.perf_counter() - self._started
        if self._on_progress:
            self._on_progress(self.stats)
