"""Print what a search found: a memory, and the words that it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memlora_mlx.cli.console import print_columns

if TYPE_CHECKING:
    from memlora_mlx.records import Hit


def print_hit(hit: Hit, before: str = "") -> None:
    """One hit: its memory with the message below it, or the message alone.

    Args:
        before: stands at the beginning of the line.
    """
    from memlora_mlx.memory.evidence import owner_name, said_by
    from memlora_mlx.memory.stages import format_day

    head = f"{before}{hit.memory.id[:8] if hit.memory else '-':<8}  {format_day(hit.said_at):<17} "
    head += f"{owner_name(hit.owner) or '':<12} "
    mark = f"(changed on {format_day(hit.superseded_at)}) " if hit.superseded_at else ""
    words = f"“{said_by(hit.message)}”" if hit.message is not None else None
    print_columns(head, mark + (hit.memory.text if hit.memory is not None else words or ""))
    if hit.memory is not None and hit.message is not None and words and hit.message.text != hit.memory.text:
        print_columns(" " * len(head), words)
