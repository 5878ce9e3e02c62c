"""The files that a command reads: the options for them, the conversations in them, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from memlora_mlx.cli.options import KeepSecretsOption

if TYPE_CHECKING:
    from memlora_mlx.conversations import Conversation, DateOrder, ReadOptions, ReadReport
    from memlora_mlx.conversations.period import Period


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What files cannot say by themselves, which part of them is meant, and what may be done with them."""

    since: Annotated[
        str | None,
        typer.Option(
            metavar="DAY", help="Read only what was said on this day or later, such as 2023-05-08 (default: all)."
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(metavar="DAY", help="Read only what was said before this day, such as 2023-06-01 (default: all)."),
    ] = None
    own_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Your own name in the files; what you said goes to the memories of --user. May be repeated (default: Me, You"
            " and User in chats with an assistant).",
        ),
    ] = None
    date_order: Annotated[
        str | None,
        typer.Option(
            metavar="dmy|mdy|ymd",
            help="Order of day, month and year in dates such as 5/8/2023 (default: what the file leaves no doubt about).",
        ),
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what would be read, by conversation and person, with dates and counts. Nothing is stored, and no"
            " model is loaded.",
        ),
    ] = False
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Watch folders instead of reading files: read each file in them that is new or changed, until Ctrl-C.",
        ),
    ] = False
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Let the conversations change or delete any share of the older memories (default: stop before a tenth).",
        ),
    ] = False

    keep_secrets: KeepSecretsOption = None

    def read_options(self) -> ReadOptions:
        """Raises UsageError: there is no such order."""
        from memlora_mlx.conversations import ReadOptions
        from memlora_mlx.errors import UsageError

        if self.date_order not in (None, "dmy", "mdy", "ymd"):
            raise UsageError(f"There is no date order {self.date_order!r}. Choose dmy, mdy or ymd.")
        return ReadOptions(cast("DateOrder | None", self.date_order), frozenset(self.own_name or ()))

    def period(self) -> Period:
        """Raises UsageError: a day cannot be read, or the first is not before the second."""
        from memlora_mlx.conversations.period import Period
        from memlora_mlx.errors import UsageError

        since, until = (_day(text) for text in (self.since, self.until))
        if since and until and since >= until:
            raise UsageError(f"Nothing was said from {self.since} on and before {self.until}. Exchange the two days.")
        return Period(since, until)


def _day(text: str | None) -> datetime | None:
    from memlora_mlx.conversations import parse_date
    from memlora_mlx.errors import UsageError

    if not text:
        return None
    try:
        return parse_date(text).replace(tzinfo=None)
    except ValueError as error:
        raise UsageError(f"Cannot read the day {text!r}. Write it as 2023-05-08.") from error


def select_conversations(
    files: list[Path],
    names: list[str] | None,
    options: ReadOptions | None = None,
    report: ReadReport | None = None,
) -> list[Conversation]:
    """The conversations of the files, or those of these names.

    Args:
        report: is told what could not be read and what was left out; without one, standard error is.
    """
    from memlora_mlx.conversations import ReadReport, read_conversations
    from memlora_mlx.errors import UsageError

    own = report or ReadReport()
    found = [conversation for file in files for conversation in read_conversations(file, options, own)]
    if report is None:
        print_left_out(own)
    if names:
        known = {conversation.name for conversation in found}
        for name in names:
            if name not in known:
                raise UsageError(f"There is no conversation {name!r}. Choose one of: {', '.join(sorted(known)[:20])}.")
        found = [conversation for conversation in found if conversation.name in names]
    return found


def note_undated(conversations: list[Conversation], period: Period, report: ReadReport) -> None:
    """Count the exchanges that have no date, and so lie in no period."""
    from memlora_mlx.conversations import conversation_exchanges

    if period.is_open:
        return
    for conversation in conversations:
        count = sum(exchange.said_at is None for exchange in conversation_exchanges(conversation, user=""))
        if count:
            report.left_out["exchanges without a date, which are in no period"] += count
            report.places.setdefault("exchanges without a date, which are in no period", conversation.name)


def print_left_out(report: ReadReport, most: int = 20) -> None:
    """Say on standard error what was left out of the files, and which conversations could not be read."""
    from memlora_mlx.text import printable_line

    for line in report.notes():
        typer.echo(f"Left out: {printable_line(line)}", err=True)
    for line in report.problems[:most]:
        typer.echo(f"Not read: {printable_line(line)}", err=True)
    if (more := len(report.problems) - most) > 0:
        typer.echo(f"Not read: {more} more conversations.", err=True)
