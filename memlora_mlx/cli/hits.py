"""Print what a search found: a memory, and the words that it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from memlora_mlx.cli.console import print_columns, print_json

if TYPE_CHECKING:
    from memlora_mlx.memory.store.store import Store
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


def show_message(store: Store, message_id: str, *, as_json: bool) -> None:
    """A message that a search found and no memory came from, with the exchange around it.

    Args:
        message_id: see `Hit.id`.

    Raises:
        MemoryNotFound: there is no such message.
    """
    from memlora_mlx.errors import MemoryNotFound, StoreError
    from memlora_mlx.memory.evidence import owner_name
    from memlora_mlx.memory.stages import format_day

    key, _, place = message_id.rpartition(":")
    try:
        exchange = store.exchange(key)
        message = exchange.messages[int(place)]
    except (StoreError, ValueError, IndexError) as error:
        raise MemoryNotFound(f"no message has the id {message_id!r}; `memlora memory search` finds messages") from error
    said_at = message.said_at or exchange.said_at
    if as_json:
        said = [{"role": m.role, "speaker": m.speaker, "text": m.text, "ref": m.ref} for m in exchange.messages]
        about = {"kind": "message", "said_at": said_at.isoformat() if said_at else None, "source": exchange.source}
        print_json({"id": message_id, "memory": message.text, **about, "exchange": said})
        return
    typer.echo(f"{message.text}\n")
    rows = [("id", message_id), ("owner", owner_name(exchange.owner)), ("said", format_day(said_at))]
    for name, value in [*rows, ("source", exchange.source)]:
        typer.echo(f"{name:>9}  {value}")
    typer.echo()
    for each in exchange.messages:
        typer.echo(f"    {each.speaker or each.role}: {each.text}")
