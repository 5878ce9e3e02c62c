"""`memlora ingest`: read conversations into memory."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memlora_mlx.cli.options import (
    ExpertsOption,
    JsonOption,
    ModeOption,
    StudentOption,
    open_workspace,
    print_json,
    require_files,
)
from memlora_mlx.cli.progress import ProgressLine
from memlora_mlx.text import format_duration

if TYPE_CHECKING:
    from memlora_mlx.conversations import Conversation
    from memlora_mlx.memory.ingest import IngestStats
    from memlora_mlx.memory.results import ExchangeResult


def ingest_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="LoCoMo, OpenAI-style messages (JSON or JSONL), a ChatGPT export, or a `Name: text` transcript;"
            " - reads standard input.",
            show_default=False,
        ),
    ],
    conversation: Annotated[
        list[str] | None, typer.Option(help="Only the conversation of this name; may be given several times.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many exchanges of each.")] = None,
    user: Annotated[str | None, typer.Option(help="The owner of conversations that name nobody.")] = None,
    student: StudentOption = None,
    experts: ExpertsOption = None,
    mode: ModeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read conversations and remember what they say.

    Stop it any time and run it again: it goes on where it stopped, and what was read is not read twice.
    """
    from memlora_mlx.errors import Cancelled
    from memlora_mlx.memory.ingest import IngestStats
    from memlora_mlx.memory.ingest import ingest as read_in

    chosen = select_conversations(require_files(files), conversation)
    tally = IngestStats()
    with (
        open_workspace(student=student, experts=experts, expert_mode=mode, user=user) as opened,
        interrupt_event() as cancelled,
        IngestProgress() as display,
    ):
        display.note_grounding(opened.student_name, opened.verbatim_stages)

        def progress(now: IngestStats, last: ExchangeResult | None) -> None:
            nonlocal tally
            tally = now
            display.show(now, last)

        try:
            read_in(
                opened.pipeline,
                chosen,
                user=opened.settings.user,
                limit=limit,
                on_progress=progress,
                cancelled=cancelled,
            )
        except Cancelled:
            display.close()
            raise Cancelled(
                f"stopped after {tally.already_stored + tally.done} of {tally.total} exchanges; all of them are kept, and the"
                " same command goes on from here"
            ) from None
    if as_json:
        print_json(ingest_as_json(tally))
    else:
        typer.echo(summarise(tally))


def summarise(stats: IngestStats) -> str:
    """One or two lines on what an ingest did."""
    before = f", {stats.already_stored} were read before" if stats.already_stored else ""
    line = (
        f"{stats.done} exchanges read in {stats.seconds:.1f} s{before}: {stats.added} memories added, "
        f"{stats.updated} updated, {stats.deleted} deleted"
    )
    odd = [
        f"{count} {what}"
        for count, what in (
            (stats.duplicates, "facts known already"),
            (stats.rejected, "decisions rejected"),
            (stats.cut, "prompts cut to fit"),
        )
        if count
    ]
    lost = len(stats.image_problems)
    told = [f"{lost} images could not be kept, the first because {stats.image_problems[0]}"] if lost else []
    return "\n".join([line, *([f"({', '.join(odd)})"] if odd else []), *told])


def ingest_as_json(stats: IngestStats) -> dict[str, object]:
    names = ("total", "before", "done", "facts", "added", "updated", "deleted", "duplicates", "rejected", "cut")
    attributes = {"before": "already_stored"}  # the key stays what it was
    return {name: getattr(stats, attributes.get(name, name)) for name in names} | {
        "tokens": dict(stats.tokens),
        "image_problems": stats.image_problems,
        "seconds": round(stats.seconds, 3),
    }


def select_conversations(files: list[Path], names: list[str] | None) -> list[Conversation]:
    """The conversations of the files, or those of these names."""
    from memlora_mlx.conversations import read_conversations
    from memlora_mlx.errors import UsageError

    found = [conversation for file in files for conversation in read_conversations(file)]
    if names:
        known = {conversation.name for conversation in found}
        for name in names:
            if name not in known:
                raise UsageError(f"there is no conversation {name!r}; the files hold {', '.join(sorted(known)[:20])}")
        found = [conversation for conversation in found if conversation.name in names]
    return found


@contextmanager
def interrupt_event() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, and a `kill` as well; a second one interrupts at once."""
    event = threading.Event()
    handled = (signal.SIGINT, signal.SIGTERM)

    def on_signal(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = [signal.signal(number, on_signal) for number in handled]
    try:
        yield event
    finally:
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)


class IngestProgress(ProgressLine):
    """The live line of an ingest on a terminal; a line now and then elsewhere."""

    def __init__(self) -> None:
        super().__init__("reading", "loading the student")

    def note_grounding(self, student: str, stages: Sequence[str]) -> None:
        if stages:
            self.print(
                f"{student} has no trained expert for {' and '.join(stages)}: whole sentences are kept, "
                "and nothing stored is changed",
                style="dim",
            )

    def show(self, stats: IngestStats, last: ExchangeResult | None) -> None:
        pace = f"{stats.output_tokens / stats.seconds:.0f} tokens/s" if stats.seconds else "loading the student"
        if (left := stats.seconds_left) is not None:
            pace += f", {format_duration(left)} left"
        memories = f"+{stats.added} ~{stats.updated} -{stats.deleted}"
        name = last.exchange.source if last else "reading"
        done = stats.already_stored + stats.done
        self.update(description=name, completed=done, total=stats.total, details=f"{memories} {pace}")
        self.log_every(stats.seconds, f"{name}: {done}/{stats.total} exchanges, {memories}, {pace}")
