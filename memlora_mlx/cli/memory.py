"""`memlora memory`: look at what is remembered, and change it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from memlora_mlx.cli.options import (
    JsonOption,
    LimitOption,
    UserOption,
    open_workspace,
    print_columns,
    print_json,
    stderr_console,
)
from memlora_mlx.files import atomic_file

if TYPE_CHECKING:
    from memlora_mlx.records import Hit, MemoryRecord

app = typer.Typer(no_args_is_help=True, help="List, search, show, edit, delete, undo, export and import memories.")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A memory's id; its first characters are enough.")]
SourceOption = Annotated[str | None, typer.Option(help="Only from the conversation of this name.")]
SinceOption = Annotated[str | None, typer.Option(help="Only what was said on this day or later.")]
UntilOption = Annotated[str | None, typer.Option(help="Only what was said before this day.")]


@app.command("list")
def list_memories(
    user: UserOption = None,
    source: SourceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is remembered, the newest first."""
    from memlora_mlx.memory.mem0_format import memory_to_mem0
    from memlora_mlx.memory.retrieval.filters import parse_filters

    filters = parse_filters(user or (), source, since or "", until or "")
    with open_workspace(models=False) as opened:
        store = opened.require_store()
        memories = store.list(filters=filters, limit=limit or (None if as_json else 50))
        total = store.count(filters=filters)
    if as_json:
        print_json([memory_to_mem0(memory) for memory in memories])
        return
    for memory in memories:
        print_columns(_head(memory), memory.text)
    if total > len(memories):
        stderr_console().print(f"{len(memories)} of {total} memories; --limit shows more", style="dim")


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    user: UserOption = None,
    source: SourceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the memories nearest to some words."""
    from memlora_mlx.memory.api import Memory as System
    from memlora_mlx.memory.mem0_format import hit_to_mem0
    from memlora_mlx.memory.retrieval.filters import parse_filters

    filters = parse_filters(user or (), source, since or "", until or "")
    with open_workspace(models=False, limit=limit) as opened:
        opened.require_store()
        hits: list[Hit] = System.of(opened).find(query, limit=opened.settings.limit, filters=filters)
    if as_json:
        print_json([hit_to_mem0(hit) for hit in hits])
        return
    for hit in hits:
        print_columns(f"{hit.score:5.2f}  {_head(hit.memory)}", hit.memory.text)


@app.command()
def show(memory_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show one memory: its words, times, owner, picture, and the exchange it came from."""
    from memlora_mlx.memory.mem0_format import memory_to_mem0
    from memlora_mlx.memory.stages import format_day
    from memlora_mlx.memory.store.lookup import find_by_prefix

    with open_workspace(models=False) as opened:
        store = opened.require_store()
        memory = find_by_prefix(store, memory_id)
        exchange = store.exchange(memory.exchange_key) if memory.exchange_key else None
        picture = store.images.path(memory.image.sha256) if memory.image else None
        small = store.images.thumbnail(memory.image.sha256) if memory.image else None
    if as_json:
        said = (
            [{"role": m.role, "speaker": m.speaker, "text": m.text, "ref": m.ref} for m in exchange.messages]
            if exchange
            else []
        )
        shown = {"picture": str(picture)} if picture else {}
        print_json({**memory_to_mem0(memory), **shown, "exchange": said})
        return
    typer.echo(memory.text)
    typer.echo()
    rows = [
        ("id", memory.id),
        ("owner", ", ".join(v for v in (memory.owner.user_id, memory.owner.agent_id, memory.owner.run_id) if v)),
        ("said", format_day(memory.said_at)),
        ("stored", f"{memory.stored_at:%Y-%m-%d %H:%M} UTC"),
        ("changed", f"{memory.changed_at:%Y-%m-%d %H:%M} UTC" if memory.changed_at else ""),
        ("expires", f"{memory.expires_at:%Y-%m-%d %H:%M} UTC" if memory.expires_at else ""),
        ("source", memory.source or ""),
        ("image", _image_line(memory, picture) if memory.image else ""),
        ("metadata", json.dumps(dict(memory.metadata), ensure_ascii=False) if memory.metadata else ""),
    ]
    for name, value in rows:
        if value:
            typer.echo(f"{name:>9}  {value}")
    if exchange:
        typer.echo()
        for message in exchange.messages:
            typer.echo(f"    {message.speaker or message.role}: {message.text}")
    if small is not None and sys.stdout.isatty():
        from memlora_mlx.cli.terminal_image import print_picture
        from memlora_mlx.errors import ExtraMissing

        typer.echo()
        try:
            print_picture(small)
        except ExtraMissing as missing:  # all that is known of the memory is on the screen already
            typer.echo(str(missing), err=True)


@app.command()
def edit(
    memory_id: IdArgument,
    text: Annotated[str | None, typer.Argument(help="The new words; without them your editor opens.")] = None,
) -> None:
    """Give a memory new words. `memlora memory undo` takes it back."""
    from memlora_mlx.errors import UsageError
    from memlora_mlx.memory.store.lookup import find_by_prefix

    with open_workspace(models=False) as opened:
        memory = find_by_prefix(opened.require_store(), memory_id)
        edited = opened.editor.revise(memory.id, _edited(memory.text) if text is None else text)
        if not edited.is_change:
            raise UsageError(
                "nothing was changed: the memory already has this text; give the new text after the id, or save it in the editor"
            )
        print_columns(_head(edited.memory), edited.memory.text)
        _print_problem(edited.problem)


@app.command()
def delete(ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids, or their first characters.")]) -> None:
    """Delete memories. `memlora memory undo` brings each back, but not a picture that no other memory uses."""
    from memlora_mlx.memory.store.lookup import find_by_prefix

    with open_workspace(models=False) as opened:
        store = opened.require_store()
        for memory in [find_by_prefix(store, memory_id) for memory_id in ids]:
            had = memory.image is not None and store.images.path(memory.image.sha256) is not None
            deleted = opened.editor.delete(memory.id)
            print_columns(f"deleted  {_head(memory)}", memory.text)
            _print_problem(deleted.problem)
            if had and memory.image and store.images.path(memory.image.sha256) is None:
                stderr_console().print(
                    "no other memory used its picture, which is erased: undo brings back the words alone"
                )


@app.command()
def history(memory_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show all that happened to a memory, also to one that is gone."""
    from memlora_mlx.memory.api import Memory as System
    from memlora_mlx.memory.store.lookup import resolve_id

    with open_workspace(models=False) as opened:
        store = opened.require_store()
        lines = System.of(opened).history(resolve_id(store, memory_id))
    if as_json:
        print_json(lines)
        return
    for line in lines:
        words = line["new_memory"] if line["event"] != "DELETE" else line["old_memory"]
        undone = "  (undone)" if line["undone"] else ""
        typer.echo(
            f"{line['id']:>6}  {line['created_at'][:16]}  {line['event']:<7} {line['actor_id']:<6} {words}{undone}"
        )


@app.command()
def undo(
    revision: Annotated[
        int | None,
        typer.Argument(
            help="The number of a change in `memory history`. Default: the newest change that still counts."
        ),
    ] = None,
    user: UserOption = None,
) -> None:
    """Undo one change of a memory."""
    _reverse("undo", revision, user)


@app.command()
def redo(
    revision: Annotated[
        int | None, typer.Argument(help="The number of an undo in `memory history`. Default: the newest undo.")
    ] = None,
    user: UserOption = None,
) -> None:
    """Make a change again that was undone, unless the memory has changed since."""
    _reverse("redo", revision, user)


def _reverse(verb: Literal["undo", "redo"], revision: int | None, users: Sequence[str] | None) -> None:
    from memlora_mlx.errors import UsageError
    from memlora_mlx.records import Scope

    if users and len(users) > 1:
        raise UsageError(f"`memlora memory {verb}` takes one --user")
    with open_workspace(models=False) as opened:
        opened.require_store()
        reverse = opened.editor.redo if verb == "redo" else opened.editor.undo
        reversal = reverse(revision, scope=Scope(user_id=users[0] if users else None))
    line = reversal.revision
    was = {"ADD": "brought back", "DELETE": "removed again", "UPDATE": "put back to"}[line.event]
    typer.echo(f"{was}: {line.new_text or line.old_text}")
    _print_problem(reversal.problem)


def _print_problem(problem: str | None) -> None:
    """Say that a change is saved, but not its training example."""
    if problem is not None:
        stderr_console().print(problem, markup=False)


@app.command("export")
def export_memories(
    file: Annotated[Path, typer.Argument(help="Where to; - or nothing is standard output.")] = Path("-"),
) -> None:
    """Write all memories as JSON lines, for a backup or another machine."""
    from memlora_mlx.errors import UsageError
    from memlora_mlx.memory.store.export_import import export_lines

    with open_workspace(models=False) as opened:
        lines = (json.dumps(row, ensure_ascii=False) for row in export_lines(opened.require_store()))
        if str(file) == "-":
            for line in lines:
                typer.echo(line)
            return
        count = 0
        if not file.name:
            raise UsageError(f"cannot write {file}: it is a folder; name a file")
        try:
            with atomic_file(file, private=False) as out:
                for line in lines:
                    out.write(f"{line}\n".encode())
                    count += line.startswith('{"kind": "memory"')
        except OSError as error:
            raise UsageError(f"cannot write {file}: {error.strerror}; choose another place") from error
    stderr_console().print(f"{count} memories in {file}")


@app.command("import")
def import_memories(file: Annotated[Path, typer.Argument(help="What `export` wrote; - is standard input.")]) -> None:
    """Take in exported memories; those already here are left as they are."""
    from memlora_mlx.cli.options import require_files
    from memlora_mlx.errors import UsageError
    from memlora_mlx.memory.store.export_import import import_lines

    require_files([file])
    with open_workspace(models=False) as opened, contextlib.ExitStack() as stack:
        lines: TextIO = sys.stdin
        if str(file) != "-":
            try:
                lines = stack.enter_context(file.open(encoding="utf-8", errors="replace"))
            except OSError as error:
                raise UsageError(f"cannot read {file}: {error.strerror}; check the path") from error
        result = import_lines(opened.store, lines, opened.engine.embed)
    typer.echo(f"{result.added} memories added, {result.skipped} were here already")


def _edited(text: str) -> str:
    """The words as the user's editor leaves them."""
    import os
    import shlex
    import subprocess
    import tempfile

    from memlora_mlx.errors import UsageError

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="memlora-") as folder:
        file = Path(folder, "memory.txt")
        file.write_text(text + "\n", encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise UsageError(f"the editor {editor!r} failed ({error}); give the new words after the id") from error
        return file.read_text(encoding="utf-8", errors="replace").strip()


def _image_line(memory: MemoryRecord, picture: Path | None) -> str:
    """Where it came from and what it shows, and whether its picture is here."""
    assert memory.image is not None
    is_gone = memory.image.sha256 is not None and picture is None
    parts = [memory.image.source, memory.image.caption, "(its picture was erased)" if is_gone else None]
    return "  ".join(filter(None, parts))


def _head(memory: MemoryRecord) -> str:
    """What stands before a memory's words in a listing."""
    from memlora_mlx.memory.pipeline import owner_name
    from memlora_mlx.memory.stages import format_day

    return f"{memory.id[:8]}  {format_day(memory.said_at):<17} {owner_name(memory.owner) or '':<12} "
