"""`memlora ingest`: read conversations into memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memlora_mlx.cli.console import interrupt_event, open_workspace, print_json, require_files
from memlora_mlx.cli.ingest_files import FileOptions, note_undated, print_left_out, select_conversations
from memlora_mlx.cli.ingest_preview import preview
from memlora_mlx.cli.options import ConversationOption, ExchangesOption, JsonOption, ModelOptions
from memlora_mlx.cli.progress import ProgressLine
from memlora_mlx.text import format_duration, printable_line

if TYPE_CHECKING:
    from memlora_mlx.conversations import ReadOptions, ReadReport
    from memlora_mlx.conversations.period import Period
    from memlora_mlx.memory.ingest import IngestStats
    from memlora_mlx.memory.results import ExchangeResult


def ingest_command(
    *,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Exports of assistants and messengers (also as ZIP archives), OpenAI-style messages, or `Name: text`"
            " transcripts; docs/import.md lists them. Use - for standard input.",
            show_default=False,
        ),
    ],
    conversation: ConversationOption = None,
    limit: ExchangesOption = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Owner of memories from conversations without speaker names (default: the setting `user`, which is me).",
        ),
    ] = None,
    reading: FileOptions,
    models: ModelOptions,
    as_json: JsonOption = False,
) -> None:
    """Read conversations and store what they say as memories.

    You can stop at any time; the same command continues, and nothing is read twice.
    """
    from memlora_mlx.conversations import ReadReport
    from memlora_mlx.errors import Cancelled, TooManyChanges
    from memlora_mlx.memory.ingest import IngestStats, ingest

    options, period, report = reading.read_options(), reading.period(), ReadReport()
    if reading.watch:
        settings = models.settings() | {"user": user, "keep_secrets": reading.keep_secrets}
        _watch(files, options, period, limit, settings, may_change=reading.yes, as_json=as_json)
        return
    chosen = select_conversations(require_files(files), conversation, options, report)
    note_undated(chosen, period, report)
    if reading.dry_run:
        preview(chosen, report, user=user, limit=limit, period=period, as_json=as_json)
        _end(report)
        return
    tally = IngestStats()
    with (
        open_workspace(**models.settings(), user=user, keep_secrets=reading.keep_secrets) as opened,
        interrupt_event() as cancelled,
        IngestProgress() as display,
    ):
        display.note_grounding(opened.student_name, opened.verbatim_stages)

        def progress(now: IngestStats, last: ExchangeResult | None) -> None:
            nonlocal tally
            tally = now
            display.show(now, last)

        try:
            ingest(
                opened.pipeline,
                chosen,
                user=opened.settings.user,
                own_names=options.own_names,
                limit=limit,
                may_change=reading.yes,
                period=period,
                on_progress=progress,
                cancelled=cancelled,
            )
        except Cancelled:
            display.close()
            raise Cancelled(
                f"Stopped after {tally.already_stored + tally.done} of {tally.total} exchanges; all of them are saved. Run the"
                " same command to continue."
            ) from None
        except TooManyChanges:
            display.close()
            typer.echo(list_changes(tally))
            raise
    _print_result(tally, report, as_json=as_json)
    _end(report)


def _print_result(tally: IngestStats, report: ReadReport, *, as_json: bool) -> None:
    if as_json:
        print_json(ingest_as_json(tally) | {"left_out": dict(report.left_out), "not_read": report.problems})
        return
    typer.echo(summarise(tally))
    if tally.changes:
        typer.echo(list_changes(tally))


def _end(report: ReadReport) -> None:
    """Say what was left out. Conversations that could not be read make the command fail, when the rest is stored."""
    print_left_out(report)
    if report.problems:
        raise typer.Exit(1)


def _watch(
    files: list[Path],
    options: ReadOptions,
    period: Period,
    limit: int | None,
    settings: dict[str, Any],
    *,
    may_change: bool,
    as_json: bool,
) -> None:
    from memlora_mlx.cli.ingest_watch import require_folders, watch_folders

    folders = require_folders(files)
    with open_workspace(**settings) as opened, interrupt_event() as stopped:
        typer.echo("Watching; press Ctrl-C to stop.", err=True)
        total = watch_folders(opened, folders, options, period, limit=limit, may_change=may_change, stopped=stopped)
    if as_json:
        print_json(ingest_as_json(total))
    else:
        typer.echo(summarise(total))


def summarise(stats: IngestStats) -> str:
    """A few lines on what an ingest did."""
    from memlora_mlx.memory.secrets import describe_withheld

    before = f", {stats.already_stored} were read before" if stats.already_stored else ""
    line = (
        f"{stats.done} exchanges read in {stats.seconds:.1f} s{before}: {stats.added} memories added, "
        f"{stats.updated} updated, {stats.deleted} deleted"
    )
    odd = [
        f"{count} {what}"
        for count, what in (
            (stats.duplicates, "facts already stored"),
            (stats.rejected, "decisions rejected"),
            (stats.dropped.total(), f"facts dropped{_reasons(stats.dropped)}"),
            (stats.turned_to_add.total(), f"operations turned into ADD{_reasons(stats.turned_to_add)}"),
            (stats.kept, "memories kept that somebody else's words would have changed"),
            (stats.cut, "prompts truncated to fit"),
        )
        if count
    ]
    lost = len(stats.image_problems)
    told = [f"{lost} images could not be stored, the first because {stats.image_problems[0]}"] if lost else []
    told += [withheld] if (withheld := describe_withheld(stats.withheld)) else []
    return "\n".join([line, *([f"({'; '.join(odd)})"] if odd else []), *told])


def list_changes(stats: IngestStats, most: int = 50) -> str:
    """The updates and deletions of an ingest, one line each, so that a wrong one can be undone."""
    lines = [
        f"  ~ {printable_line(change.old_text)} -> {printable_line(change.text)}"
        if change.event == "UPDATE"
        else f"  - {printable_line(change.old_text)}"
        for change in stats.changes[:most]
    ]
    if (more := len(stats.changes) - most) > 0:
        lines.append(f"  and {more} more; --json shows all")
    return "\n".join(["Changed memories (`memlora memory undo` reverts the newest):", *lines])


def _reasons(counts: Counter[str]) -> str:
    """Behind a count: how many there were for each reason."""
    return ": " + ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) if counts else ""


def ingest_as_json(stats: IngestStats) -> dict[str, object]:
    names = ("total", "before", "done", "facts", "added", "updated", "deleted", "duplicates", "rejected", "cut")
    attributes = {"before": "already_stored"}  # the key stays what it was
    return {name: getattr(stats, attributes.get(name, name)) for name in names} | {
        "dropped": dict(stats.dropped),
        "turned_to_add": dict(stats.turned_to_add),
        "kept": stats.kept,
        "withheld": dict(stats.withheld),
        "changes": [
            {"event": c.event, "id": c.memory_id, "old_memory": c.old_text, "memory": c.text} for c in stats.changes
        ],
        "tokens": dict(stats.tokens),
        "image_problems": stats.image_problems,
        "seconds": round(stats.seconds, 3),
    }


class IngestProgress(ProgressLine):
    """The live line of an ingest on a terminal; a line now and then elsewhere."""

    def __init__(self) -> None:
        super().__init__("reading", "loading the student")

    def note_grounding(self, student: str, stages: Sequence[str]) -> None:
        if stages:
            self.print(
                f"{student} has no expert for {' and '.join(stages)}. memlora therefore stores whole sentences and does not "
                "change existing memories.",
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
