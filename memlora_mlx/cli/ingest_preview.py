"""`memlora ingest --dry-run`: what would be read, before any model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from memlora_mlx.cli.console import print_json
from memlora_mlx.text import printable_line

if TYPE_CHECKING:
    from memlora_mlx.conversations import Conversation, ReadReport
    from memlora_mlx.conversations.period import Period
    from memlora_mlx.records import Scope


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """What one owner has in one conversation."""

    conversation: str
    format: str
    first: str | None  # the day of the first exchange, as 2023-05-08
    last: str | None
    owner: str
    messages: int  # said by the owner
    exchanges: int


def preview_rows(
    conversations: Sequence[Conversation], *, user: str, limit: int | None, period: Period
) -> list[PreviewRow]:
    """A row for each owner in each conversation, in the order of the files."""
    from memlora_mlx.conversations import conversation_exchanges

    rows = []
    for conversation in conversations:
        chosen = [e for e in conversation_exchanges(conversation, user=user) if period.holds(e)][:limit]
        dates = sorted(m.said_at.replace(tzinfo=None) for e in chosen for m in e.messages if m.said_at)
        first, last = (str(dates[at].date()) if dates else None for at in (0, -1))
        exchanges: Counter[Scope] = Counter(exchange.owner for exchange in chosen)
        messages: Counter[Scope] = Counter()
        for exchange in chosen:
            messages[exchange.owner] += sum(message.role == "user" for message in exchange.messages)
        rows += [
            PreviewRow(
                conversation.name,
                conversation.format,
                first,
                last,
                owner.user_id or "",
                messages[owner],
                exchanges[owner],
            )
            for owner in exchanges
        ]
    return rows


def preview(
    conversations: Sequence[Conversation],
    report: ReadReport,
    *,
    user: str | None,
    limit: int | None,
    period: Period,
    as_json: bool,
) -> None:
    """Print what an ingest would read."""
    from memlora_mlx.settings import load_settings

    owner = load_settings({"user": user}).user
    _print(preview_rows(conversations, user=owner, limit=limit, period=period), report, as_json=as_json)


def _print(rows: Sequence[PreviewRow], report: ReadReport, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "conversations": [asdict(row) for row in rows],
                "left_out": dict(report.left_out),
                "not_read": report.problems,
            }
        )
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("Conversation", "Format", "From", "To", "Memories of"):
        table.add_column(name, no_wrap=name in ("From", "To"), overflow="fold")
    for name in ("Messages", "Exchanges"):
        table.add_column(name, no_wrap=True, justify="right")
    before = None
    for row in rows:
        head = (row.conversation, row.format, row.first or "-", row.last or "-")
        shown = head if head != before else ("", "", "", "")
        before = head
        cells = (*shown, row.owner, f"{row.messages:,}", f"{row.exchanges:,}")
        table.add_row(*(Text(printable_line(cell)) for cell in cells))
    console = Console()
    console.print(table)
    names = len({row.conversation for row in rows})
    messages, exchanges = sum(row.messages for row in rows), sum(row.exchanges for row in rows)
    console.print(
        f"{names:,} conversations with {messages:,} messages in {exchanges:,} exchanges; nothing was stored.",
        highlight=False,
    )
