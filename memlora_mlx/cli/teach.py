"""`memlora teach`: create the examples that students are trained on, with a teacher model or without one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memlora_mlx.cli.console import interrupt_event, open_workspace, print_json, require_files, stderr_console
from memlora_mlx.cli.ingest_files import select_conversations
from memlora_mlx.cli.options import (
    ApiKeyOption,
    BaseUrlOption,
    ConversationOption,
    ExchangesOption,
    JsonOption,
    SplitsOption,
    parse_stage,
    require_split_scheme,
)
from memlora_mlx.cli.progress import ProgressLine
from memlora_mlx.cli.teach_all import ALL_STAGES, Taught, commands_for_a_mac, have_questions
from memlora_mlx.text import format_duration

if TYPE_CHECKING:
    from memlora_mlx.conversations import Conversation
    from memlora_mlx.conversations.splits import Splits
    from memlora_mlx.distill.annotation import AnnotationJob, AnnotationStats
    from memlora_mlx.distill.examples import TrainingExample
    from memlora_mlx.distill.local_teachers import GeneratedExamples, LocalTeacher
    from memlora_mlx.distill.teacher_client import Teacher
    from memlora_mlx.distill.teacher_prompts import SelectedExchanges
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.records import Stage


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """A teacher behind a server, and how it is asked."""

    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the teacher's model as the server knows it.")
    ] = None
    base_url: BaseUrlOption = None
    api_key: ApiKeyOption = None
    concurrency: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=1024, help="Requests in flight at each server (default: 16).", show_default=False
        ),
    ] = 16
    max_tokens: Annotated[
        int,
        typer.Option(
            metavar="TOKENS",
            min=16,
            help="Maximum tokens of one answer, including reasoning (default: 4096).",
            show_default=False,
        ),
    ] = 4096

    def teacher(self) -> Teacher:
        from memlora_mlx.distill.server_keys import server_keys
        from memlora_mlx.distill.teacher_client import Teacher

        return Teacher(
            self.base_url or [],
            self.model or "",
            api_key=server_keys(self.base_url or [], self.api_key, os.environ),
            concurrency=self.concurrency,
            max_tokens=self.max_tokens,
        )


def teach_command(
    *,
    stage: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="Stage to create examples for: extraction, update or generation. `memlora vqa build` creates those for vqa."
            " Required without --all.",
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="Ask for all stages, one after the other, and say how a Mac trains on the answers."),
    ] = False,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATA", help="Conversations, as `memlora ingest` reads them.", show_default=False),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Use a teacher that needs no server: observations (LoCoMo's annotations) or synthetic (generated dialogues).",
        ),
    ] = None,
    server: ServerOptions,
    conversation: ConversationOption = None,
    split: SplitsOption = "paper",
    limit: ExchangesOption = None,
    lives: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="With --teacher synthetic: number of dialogues to generate (default: 400).",
            show_default=False,
        ),
    ] = 400,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="With --teacher synthetic: random seed of the dialogues (default: 0).",
            show_default=False,
        ),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Create training examples: ask a teacher model about conversations and store its checked answers.

    You can stop at any time; the same command continues, and nothing is asked twice.
    """
    from memlora_mlx.conversations.splits import SPLITS
    from memlora_mlx.errors import UsageError

    if every == (stage is not None):
        raise UsageError("Give --stage STAGE, or --all for all stages.")
    requested = ALL_STAGES if every else (_stage(stage or ""),)  # before anything is read or asked
    require_split_scheme(split)
    if teacher is not None:
        local = _local_teacher(teacher)
        if server.model is not None or server.base_url:
            raise UsageError(f"The teacher {teacher} needs no server. Remove --model and --base-url, or --teacher.")
        sources: dict[str, Any] = {"files": require_files(files or []), "names": conversation or []}
        made = [_generate_locally(local, one, SPLITS[split], **sources, count=lives, seed=seed) for one in requested]
        _print_taught([_locally_taught(result) for result in made], every=every, as_json=as_json)
        return
    if server.model is None or not files:
        raise UsageError(
            "Give DATA with --model and --base-url of a server, or --teacher synthetic, which needs neither."
        )
    conversations = select_conversations(require_files(files), conversation)
    taught = [
        _ask_server(server, one, conversations, SPLITS[split], limit=limit, files=files)
        for one in requested
        if one != "generation" or not every or have_questions(files)
    ]
    _print_taught(taught, every=every, as_json=as_json)


def _print_taught(taught: list[Taught], *, every: bool, as_json: bool) -> None:
    if as_json:
        print_json([one.as_json for one in taught] if every else taught[0].as_json)
        return
    for one in taught:
        typer.echo(one.text)
    if every:
        for line in commands_for_a_mac(taught[0].path.parents[1], {one.path.parent.name for one in taught}):
            typer.echo(line)


def _locally_taught(result: GeneratedExamples) -> Taught:
    told = {"rows": result.examples, "file": str(result.path), "skipped_test_conversations": result.skipped}
    return Taught(result.path, f"{result.examples} examples written: {result.path}", told)


def _ask_server(
    options: ServerOptions,
    stage: Stage,
    conversations: list[Conversation],
    splits: Splits,
    *,
    limit: int | None,
    files: list[Path],
) -> Taught:
    """Ask the teacher for examples of a stage."""
    from memlora_mlx.distill.annotation import AnnotationJob
    from memlora_mlx.distill.answer_files import AnswerFiles, teacher_file
    from memlora_mlx.distill.teacher_prompts import select_exchanges
    from memlora_mlx.errors import Cancelled

    model = options.model or ""
    with open_workspace(models=False) as opened, interrupt_event() as cancelled, TeachProgress(model) as display:
        selection = select_exchanges(conversations, splits, user=opened.settings.user, limit=limit)
        display.note_skipped(selection)
        path = teacher_file(opened.settings.home, stage, model)
        if stage == "generation":
            written = _generation(model, selection, opened, files, splits, path)
            told = {"rows": written, "file": str(path), "skipped_test_exchanges": selection.skipped}
            return Taught(path, f"{written} examples written: {path}", told)
        teacher = options.teacher()
        with AnswerFiles(path) as answers:
            job = AnnotationJob(teacher, answers, on_progress=display.show)
            try:
                stats = _ask(job, stage, selection, opened, cancelled)
            except Cancelled:
                display.close()
                raise Cancelled(
                    f"Stopped after {job.stats.done} of {job.stats.total} questions; all answers are saved. Run the same"
                    " command to continue."
                ) from None
    return Taught(path, summarise(stats, path), teach_as_json(stats, path, selection))


def _stage(name: str) -> Stage:
    from memlora_mlx.errors import UsageError

    if (stage := parse_stage(name)) == "vqa":
        raise UsageError("`memlora teach` does not create vqa examples. Use `memlora vqa build`.")
    return stage


def _local_teacher(name: str) -> LocalTeacher:
    from memlora_mlx.errors import UsageError

    if name not in ("observations", "synthetic"):
        raise UsageError(
            f"Unknown teacher {name!r}. Choose one of: observations, synthetic; or use --model and --base-url of a server."
        )
    return "observations" if name == "observations" else "synthetic"


def _generate_locally(
    teacher: LocalTeacher,
    stage: Stage,
    splits: Splits,
    *,
    before_each: Callable[[], None] = lambda: None,
    **options: Any,
) -> GeneratedExamples:
    """Make the examples of a stage. `before_each` is called before each dialogue; it may raise to stop."""
    from rich.progress import Progress

    from memlora_mlx.distill.local_teachers import make_examples

    console = stderr_console()
    with (
        open_workspace(models=False) as opened,
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task(f"{teacher}, {stage}", total=None)

        def progress(done: int, total: int) -> None:
            before_each()
            bar.update(task, completed=done, total=total)

        return make_examples(teacher, stage, opened, splits, on_progress=progress, **options)


def generate_examples(teacher: LocalTeacher, stage: Stage, **options: Any) -> GeneratedExamples:
    """Make the examples of a stage with a teacher that needs no server; for the options see `make_examples`."""
    from memlora_mlx.conversations.splits import SPLITS

    return _generate_locally(teacher, stage, SPLITS["paper"], **options)


def generate_synthetic_examples(stage: Stage, lives: int, seed: int) -> GeneratedExamples:
    """Generate examples for a stage from this many synthetic dialogues, as `--teacher synthetic --seed` does."""
    return generate_examples("synthetic", stage, count=lives, seed=seed)


def _generation(
    model: str, selection: SelectedExchanges, opened: Workspace, files: list[Path], splits: Splits, path: Path
) -> int:
    """Write questions over the memories that this teacher's facts and decisions build; no server is asked."""
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
        raise UsageError(f"There are no update examples of {model}. Run the same command with `--stage update` first.")
    annotated = [conversation for file in files for conversation in read_annotated(file)]
    rows: list[TrainingExample] = []
    with temporary_store(opened) as bank, AnswerFiles(updates) as answers:
        silent = AnnotationJob(Teacher(["http://127.0.0.1:9/v1"], model), answers)
        tally = annotate_updates(silent, selection, extracted, bank, cancelled=threading.Event())
        if tally.written or tally.waiting:
            raise UsageError(
                f"The update examples of {model} are not complete. Run the same command with `--stage update` first."
            )
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
    raise UsageError(f"memlora cannot create {stage} examples.")


def summarise(stats: AnnotationStats, path: Path) -> str:
    """A few lines about what a run did."""
    before = f", {stats.before} were answered before" if stats.before else ""
    lines = [
        f"{stats.written} examples written in {stats.seconds:.1f} s{before}: {path}",
        f"{stats.prompt_tokens} input tokens, {stats.output_tokens} output tokens, {stats.retries} requests repeated",
    ]
    if stats.refused:
        reasons = ", ".join(f"{count} {reason}" for reason, count in stats.refused.most_common())
        lines.append(f"{stats.refused.total()} answers were rejected and saved separately: {reasons}")
    if stats.waiting:
        lines.append(
            f"{stats.waiting} exchanges were not asked about because earlier facts are missing. Run `--stage extraction` again"
            " first."
        )
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
                f"{selection.skipped} exchanges from test conversations were skipped; they are never used for training.",
                style="dim",
            )

    def show(self, stats: AnnotationStats) -> None:
        pace = f"{stats.output_tokens / stats.seconds:.0f} tokens/s" if stats.seconds else ""
        if stats.refused:
            pace += f", {stats.refused.total()} rejected"
        if (left := stats.seconds_left) is not None:
            pace += f", {format_duration(left)} left"
        self.update(completed=stats.done, total=stats.total, details=pace)
        self.log_every(stats.seconds, f"{self._teacher}: {stats.done}/{stats.total} questions, {pace}")
