"""`memlora memory erase`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memlora_mlx.cli.console import open_workspace, print_json, stderr_console
from memlora_mlx.cli.options import JsonOption
from memlora_mlx.text import printable_line

if TYPE_CHECKING:
    from memlora_mlx.memory.erasing import Erased, Selection
    from memlora_mlx.memory.store.store import Store

SHOWN = 20  # memories that are listed before the question


def erase_memories(
    *,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...",
            help="Ids of memories, also of deleted ones; their first characters are enough.",
            show_default=False,
        ),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Erase this person: their memories and conversations, and what they said in conversations of others.",
        ),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Erase what was said before this day, such as 2023-05-08."),
    ] = None,
    containing: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Erase memories that contain this text, and the sentences of messages that contain it. Case and"
            " punctuation do not matter.",
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Erase everything but models, experts and settings."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be erased, and erase nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Erase without asking first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase memories for good, with their history and the messages and conversations that they came from.

    Nothing can undo it, and no byte of the text is left in the data folder: not in indexes, training examples, benchmark
    runs, caches or the queue. Backups are deleted, and one is made of what is left. `memory delete` only forgets, and can be undone. A command that was interrupted is finished by the same
    command. Exports and the files that conversations came from are named, but not touched.
    """
    from memlora_mlx.memory.erasing import erase, preview_erasing

    with open_workspace(models=False) as opened:
        store, home = opened.require_store(), opened.settings.home
        chosen = _selection(store, ids or [], person, before, containing, everything)
        if dry_run or not yes:
            found = preview_erasing(store, home, chosen)
            if dry_run:
                _print(found, home, as_json=as_json, done=False)
                return
            if found.is_empty:
                typer.echo("There is nothing to erase.")
                for note in _notes(found, done=False):
                    stderr_console().print(note, markup=False)
                return
            _print(found, home, as_json=False, done=False, err=True)
            _confirm()
        erased = erase(store, home, chosen)
    _print(erased, home, as_json=as_json, done=True)


def _selection(
    store: Store, ids: list[str], person: str | None, before: str | None, containing: str | None, everything: bool
) -> Selection:
    from memlora_mlx.errors import MemoryNotFound
    from memlora_mlx.memory.mem0_format import moment_of
    from memlora_mlx.memory.store.erase_plan import Selection
    from memlora_mlx.memory.store.erasure import finish_erasing
    from memlora_mlx.memory.store.lookup import resolve_id

    try:
        whole = tuple(resolve_id(store, one) for one in ids)
    except MemoryNotFound:
        if finish_erasing(store):  # the same command was interrupted while it cleaned up
            typer.echo("An erasing that was interrupted is finished now.")
            raise typer.Exit from None
        raise
    return Selection(
        ids=whole,
        person=person or None,
        before=moment_of(before) if before else None,
        containing=containing or None,
        everything=everything,
    )


def _confirm() -> None:
    from memlora_mlx.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError("Nothing was erased: there is nobody to ask. Repeat the command with --yes to erase this.")
    typer.confirm("Erase this for good? Nothing can undo it.", abort=True, err=True)


def _print(erased: Erased, home: Path, *, as_json: bool, done: bool, err: bool = False) -> None:
    if as_json:
        from memlora_mlx.memory.erasing import erased_as_json

        print_json(erased_as_json(erased, done=done))
        return
    for line in _lines(erased, home, done=done):
        typer.echo(line, err=err)
    for note in _notes(erased, done=done):
        stderr_console().print(note, markup=False)


def _lines(erased: Erased, home: Path, *, done: bool) -> Iterator[str]:
    if not done:
        for memory in erased.memories[:SHOWN]:
            yield f"  {memory.id[:8]}  {printable_line(memory.text)}"
        if (more := len(erased.memories) - SHOWN) > 0:
            yield f"  and {more} more memories"
    counts = [
        (erased.memory_count, "memories"),
        (erased.messages, "messages"),
        (erased.shortened, "messages shortened by some sentences"),
        (erased.history, "lines of history"),
        (erased.turns, "messages of chats"),
    ]
    told = ", ".join(f"{count} {what}" for count, what in counts if count) or "nothing in the store"
    yield f"{'Erased' if done else 'To be erased'}: {told}"
    for path, count in sorted(erased.traces.lines.items()):
        yield f"  {count} lines of {printable_line(_short(path, home), tail=60)}"
    for path in sorted(erased.traces.files):
        yield f"  {printable_line(_short(path, home), tail=60)}"


def _notes(erased: Erased, *, done: bool) -> Iterator[str]:
    if erased.staying:
        verb = "stayed" if done else "stay"
        yield f"{len(erased.staying)} memories came from the same words and {verb}; erase them by their ids if need be:"
        for memory in erased.staying[:SHOWN]:
            yield f"  {memory.id[:8]}  {printable_line(memory.text)}"
    if erased.backups:
        yield (
            f"{erased.backups} backups {'were' if done else 'will be'} deleted, because they hold the words, and a backup of"
            " what is left is made."
        )
    for name in erased.names[:SHOWN]:
        yield (
            f"The words stand in a name, which stays: {printable_line(name)}. `memlora people list` shows who there is;"
            " --person erases all of a person."
        )
    for path in sorted(erased.traces.trained):
        yield f"This expert was trained on some of it and may repeat it: {printable_line(path, tail=80)}. Train it again."
    for path in sorted(erased.traces.left):
        yield f"This file or folder holds words of it and is not touched: {printable_line(path, tail=80)}"
    for path in erased.exports:
        yield f"This export may hold the words and is not touched: {printable_line(path, tail=80)}"


def _short(path: Path, home: Path) -> str:
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)
