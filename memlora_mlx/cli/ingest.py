"""`memlora ingest`: read conversations into memory."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memlora_mlx.cli.live import LiveLine, duration
from memlora_mlx.cli.options import AsJson, Experts, Mode, Student, existing_files, print_json, workspace

if TYPE_CHECKING:
    from memlora_mlx.conversations import Conversation
    from memlora_mlx.memory.ingest import IngestStats
    from memlora_mlx.memory.pipeline import ExchangeResult


def ingest(
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
    student: Student = None,
    experts: Experts = None,
    mode: Mode = None,
    as_json: AsJson = False,
) -> None:
    """Read conversations and remember what they say.

    Stop it any time and run it again: it goes on where it stopped, and what was read is not read twice.
    """
    from memlora_mlx.errors import Cancelled
    from memlora_mlx.memory.ingest import IngestStats
    from memlora_mlx.memory.ingest import ingest as read_in

    chosen = conversations_of(existing_files(files), conversation)
    tally = IngestStats()
    with (
        workspace(student=student, experts=experts, expert_mode=mode, user=user) as opened,
        interruptible() as cancelled,
        Display() as display,
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
        print_json(as_dict(tally))
    else:
        typer.echo(summary(tally))


def summary(tally: IngestStats) -> str:
    """One or two lines on what an ingest did."""
    before = f", {tally.already_stored} were read before" if tally.already_stored else ""
    line = (
        f"{tally.done} exchanges read in {tally.seconds:.1f} s{before}: {tally.added} memories added, "
        f"{tally.updated} updated, {tally.deleted} deleted"
    )
    odd = [
        f"{count} {what}"
        for count, what in (
            (tally.duplicates, "facts known already"),
            (tally.rejected, "decisions rejected"),
            (tally.cut, "prompts cut to fit"),
        )
        if count
    ]
    lost = len(tally.image_problems)
    told = [f"{lost} images could not be kept, the first because {tally.image_problems[0]}"] if lost else []
    return "\n".join([line, *([f"({', '.join(odd)})"] if odd else []), *told])


def as_dict(tally: IngestStats) -> dict[str, object]:
    names = ("total", "before", "done", "facts", "added", "updated", "deleted", "duplicates", "rejected", "cut")
    attributes = {"before": "already_stored"}  # the key stays what it was
    return {name: getattr(tally, attributes.get(name, name)) for name in names} | {
        "tokens": dict(tally.tokens),
        "image_problems": tally.image_problems,
        "seconds": round(tally.seconds, 3),
    }


def conversations_of(files: list[Path], names: list[str] | None) -> list[Conversation]:
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
def interruptible() -> Iterator[threading.Event]:
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


class Display(LiveLine):
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

    def show(self, tally: IngestStats, last: ExchangeResult | None) -> None:
        pace = f"{tally.output_tokens / tally.seconds:.0f} tokens/s" if tally.seconds else "loading the student"
        if (left := tally.seconds_left) is not None:
            pace += f", {duration(left)} left"
        memories = f"+{tally.added} ~{tally.updated} -{tally.deleted}"
        name = last.exchange.source if last else "reading"
        done = tally.already_stored + tally.done
        self.update(description=name, completed=done, total=tally.total, says=f"{memories} {pace}")
        self.tell(tally.seconds, f"{name}: {done}/{tally.total} exchanges, {memories}, {pace}")
