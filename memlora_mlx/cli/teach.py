"""`memlora teach`: ask a large model on a server for the rows that students are trained on."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memlora_mlx.cli.ingest import interrupt_event, select_conversations
from memlora_mlx.cli.options import JsonOption, open_workspace, print_json, require_files, stderr_console
from memlora_mlx.cli.progress import ProgressLine
from memlora_mlx.text import format_duration

if TYPE_CHECKING:
    from memlora_mlx.conversations.splits import Splits
    from memlora_mlx.distill.annotation import AnnotationJob, AnnotationStats
    from memlora_mlx.distill.examples import TrainingExample
    from memlora_mlx.distill.local_teachers import GeneratedExamples, LocalTeacher
    from memlora_mlx.distill.teacher_prompts import SelectedExchanges
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.records import Stage


def teach_command(
    stage: Annotated[
        str,
        typer.Option(
            help="extraction, update or generation; rows of vqa are made by `memlora vqa build`.", show_default=False
        ),
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATA...", help="Conversations, as `memlora ingest` reads them.", show_default=False),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="One that needs no server: observations (LoCoMo's own) or synthetic.", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The teacher, as its server calls it.", show_default=False)] = None,
    base_url: Annotated[
        list[str] | None,
        typer.Option(help="An OpenAI-compatible server, such as http://host:8000/v1; may be given several times."),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="Its key; by default OPENAI_API_KEY, or none.", show_default=False)
    ] = None,
    conversation: Annotated[
        list[str] | None, typer.Option(help="Only the conversation of this name; may be given several times.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which conversations validate and test.")] = "paper",
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Requests in flight at each server.")] = 16,
    max_tokens: Annotated[int, typer.Option(min=16, help="Of one answer, reasoning included.")] = 4096,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many exchanges of each.")] = None,
    lives: Annotated[int, typer.Option(min=1, help="With --teacher synthetic: lives to train on.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="With --teacher synthetic: which lives.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Ask a teacher about conversations, and keep its cleaned answers as training rows.

    Stop it any time and run it again: it goes on where it stopped, and nothing is asked twice.
    """
    from memlora_mlx.conversations.splits import SPLITS
    from memlora_mlx.distill.annotation import AnnotationJob
    from memlora_mlx.distill.answer_files import AnswerFiles, teacher_file
    from memlora_mlx.distill.teacher_client import Teacher
    from memlora_mlx.distill.teacher_prompts import select_exchanges
    from memlora_mlx.errors import Cancelled, UsageError

    wanted = _stage(stage)  # before anything is read or asked
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r}; known are {', '.join(sorted(SPLITS))}")
    if teacher is not None:
        local = _local_teacher(teacher)
        if model is not None or base_url:
            raise UsageError(f"the teacher {teacher} needs no server; leave --model and --base-url out, or --teacher")
        given, names = require_files(files or []), conversation or []
        made = _generate_locally(local, wanted, SPLITS[split], files=given, names=names, count=lives, seed=seed)
        if as_json:
            print_json({"rows": made.examples, "file": str(made.path), "skipped_test_conversations": made.skipped})
        else:
            typer.echo(f"{made.examples} rows written: {made.path}")
        return
    if model is None or not files:
        raise UsageError("name DATA, --model and --base-url of a server, or --teacher synthetic, which needs none")
    conversations = select_conversations(require_files(files), conversation)
    with open_workspace(models=False) as opened, interrupt_event() as cancelled, TeachProgress(model) as display:
        selection = select_exchanges(conversations, SPLITS[split], user=opened.settings.user, limit=limit)
        display.note_skipped(selection)
        key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        path = teacher_file(opened.settings.home, wanted, model)
        if wanted == "generation":
            written = _generation(model, selection, opened, require_files(files), SPLITS[split], path)
            display.close()
            if as_json:
                print_json({"rows": written, "file": str(path), "skipped_test_exchanges": selection.skipped})
            else:
                typer.echo(f"{written} rows written: {path}")
            return
        server = Teacher(base_url or [], model, api_key=key, concurrency=concurrency, max_tokens=max_tokens)
        with AnswerFiles(path) as answers:
            lesson = AnnotationJob(server, answers, on_progress=display.show)
            try:
                tally = _ask(lesson, wanted, selection, opened, cancelled)
            except Cancelled:
                display.close()
                raise Cancelled(
                    f"stopped after {lesson.stats.done} of {lesson.stats.total} questions; all answers are kept, and"
                    " the same command goes on from here"
                ) from None
    if as_json:
        print_json(teach_as_json(tally, path, selection))
    else:
        typer.echo(summarise(tally, path))


def _stage(name: str) -> Stage:
    from memlora_mlx.errors import UsageError
    from memlora_mlx.records import STAGES

    for stage in STAGES:
        if stage == name:
            if stage == "vqa":
                raise UsageError("vqa rows are made by `memlora vqa build`")
            return stage
    raise UsageError(f"there is no stage {name!r}; known are {', '.join(STAGES)}")


def _local_teacher(name: str) -> LocalTeacher:
    from memlora_mlx.errors import UsageError

    if name not in ("observations", "synthetic"):
        raise UsageError(f"there is no teacher {name!r} without a server; known are observations and synthetic")
    return "observations" if name == "observations" else "synthetic"


def _generate_locally(teacher: LocalTeacher, stage: Stage, splits: Splits, **options: Any) -> GeneratedExamples:
    from rich.progress import Progress

    from memlora_mlx.distill.local_teachers import make_examples

    console = stderr_console()
    with (
        open_workspace(models=False) as opened,
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task(f"{teacher}, {stage}", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return make_examples(teacher, stage, opened, splits, on_progress=progress, **options)


def generate_synthetic_examples(stage: Stage, lives: int, seed: int) -> GeneratedExamples:
    """Rows of so many synthetic lives for a stage, as `--teacher synthetic --seed` makes them."""
    from memlora_mlx.conversations.splits import SPLITS

    return _generate_locally("synthetic", stage, SPLITS["paper"], count=lives, seed=seed)


def _generation(
    model: str, selection: SelectedExchanges, opened: Workspace, files: list[Path], splits: Splits, path: Path
) -> int:
    """Questions over the bank that this teacher's facts and decisions build; nobody is asked."""
    from memlora_mlx.distill.annotation import AnnotationJob
    from memlora_mlx.distill.answer_files import AnswerFiles, read_answers, teacher_file
    from memlora_mlx.distill.examples import write_examples
    from memlora_mlx.distill.observations_teacher import read_annotated
    from memlora_mlx.distill.replay import generation_examples, temporary_store
    from memlora_mlx.distill.teacher_client import Teacher
    from memlora_mlx.distill.teacher_prompts import annotate_updates
    from memlora_mlx.errors import UsageError

    home = opened.settings.home
    extracted = read_answers(teacher_file(home, "extraction", model))
    updates = teacher_file(home, "update", model)
    if not updates.is_file():
        raise UsageError(f"there are no update rows of {model}; run the same command with `--stage update` first")
    annotated = [conversation for file in files for conversation in read_annotated(file)]
    rows: list[TrainingExample] = []
    with temporary_store(opened) as bank, AnswerFiles(updates) as answers:
        silent = AnnotationJob(Teacher(["http://127.0.0.1:9/v1"], model), answers)
        tally = annotate_updates(silent, selection, extracted, bank, cancelled=threading.Event())
        if tally.written or tally.waiting:
            raise UsageError(f"the update rows of {model} are not complete; run the same command with `--stage update`")
        for conversation in annotated:
            owners = list(dict.fromkeys(exchange.owner for exchange in conversation.exchanges))
            if splits.split_of(conversation.name) != "test":
                rows += generation_examples(
                    bank, owners, conversation.questions, conversation=conversation.name, teacher=model, splits=splits
                )
    return write_examples(path, rows)


def _ask(
    job: AnnotationJob, stage: Stage, selection: SelectedExchanges, opened: Workspace, cancelled: threading.Event
) -> AnnotationStats:
    from memlora_mlx.distill.answer_files import read_answers, teacher_file
    from memlora_mlx.distill.replay import temporary_store
    from memlora_mlx.distill.teacher_prompts import annotate_extraction, annotate_updates
    from memlora_mlx.errors import UsageError

    if stage == "extraction":
        return annotate_extraction(job, selection, cancelled=cancelled)
    if stage == "update":
        extracted = read_answers(teacher_file(opened.settings.home, "extraction", job.teacher.model))
        with temporary_store(opened) as bank:
            return annotate_updates(job, selection, extracted, bank, cancelled=cancelled)
    raise UsageError(f"{stage} rows are not made yet")


def summarise(stats: AnnotationStats, path: Path) -> str:
    """A few lines on what a run did."""
    before = f", {stats.before} were answered before" if stats.before else ""
    lines = [
        f"{stats.written} rows written in {stats.seconds:.1f} s{before}: {path}",
        f"{stats.prompt_tokens} tokens in, {stats.output_tokens} out, {stats.retries} requests tried again",
    ]
    if stats.refused:
        reasons = ", ".join(f"{count} {reason}" for reason, count in stats.refused.most_common())
        lines.append(f"{stats.refused.total()} answers could not be cleaned and are kept aside: {reasons}")
    if stats.waiting:
        lines.append(f"{stats.waiting} exchanges wait for facts before them; run `--stage extraction` again first")
    return "\n".join(lines)


def teach_as_json(stats: AnnotationStats, path: Path, selection: SelectedExchanges) -> dict[str, object]:
    names = ("total", "before", "written", "waiting", "retries", "prompt_tokens", "output_tokens")
    return {name: getattr(stats, name) for name in names} | {
        "refused": dict(stats.refused),
        "seconds": round(stats.seconds, 3),
        "skipped_test_exchanges": selection.skipped,
        "file": str(path),
    }


class TeachProgress(ProgressLine):
    """The live line of a run on a terminal; a line now and then elsewhere."""

    def __init__(self, teacher: str) -> None:
        super().__init__(teacher, "waiting for the first answer")
        self._teacher = teacher

    def note_skipped(self, selection: SelectedExchanges) -> None:
        if selection.skipped:
            self.print(
                f"{selection.skipped} exchanges of test conversations are left out: no student may see them",
                style="dim",
            )

    def show(self, stats: AnnotationStats) -> None:
        pace = f"{stats.output_tokens / stats.seconds:.0f} tokens/s" if stats.seconds else ""
        if stats.refused:
            pace += f", {stats.refused.total()} put aside"
        if (left := stats.seconds_left) is not None:
            pace += f", {format_duration(left)} left"
        self.update(completed=stats.done, total=stats.total, details=pace)
        self.log_every(stats.seconds, f"{self._teacher}: {stats.done}/{stats.total} questions, {pace}")
