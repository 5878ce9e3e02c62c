"""`memlora memory`: view and change the stored memories."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from memlora_mlx.cli.console import open_workspace, print_columns, print_json, stderr_console
from memlora_mlx.cli.help import HelpGroup, command, examples
from memlora_mlx.cli.hits import print_hit, show_message
from memlora_mlx.cli.memory_erase import erase_memories
from memlora_mlx.cli.memory_transfer import export_memories, import_memories
from memlora_mlx.cli.options import JsonOption, OldLimitOption, UserOption, top_k_or_old_limit
from memlora_mlx.text import printable_json

if TYPE_CHECKING:
    from memlora_mlx.records import Hit, MemoryRecord

app = typer.Typer(
    cls=HelpGroup,
    no_args_is_help=True,
    help="List, search, show, edit, delete, erase, undo, redo, export and import memories.",
    epilog=examples("memlora memory list", 'memlora memory search "where Maya works"'),
)

SAID_BY = {"user": "", "other": "another person", "assistant": "an assistant", "quoted": "a quoted page or tool"}
IdArgument = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id of a memory, as `memory list` shows it; its first characters are enough."),
]

OneUserOption = Annotated[
    list[str] | None,
    typer.Option("--user", metavar="NAME", help="Look only at changes of this user's memories (default: all users)."),
]


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Which memories are meant."""

    user: UserOption = None
    source: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Use only memories from the conversation with this name (default: all)."),
    ] = None
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DAY",
            help="Use only memories of things said on this day or later, such as 2023-05-08 (default: all).",
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(
            metavar="DAY", help="Use only memories of things said before this day, such as 2023-06-01 (default: all)."
        ),
    ] = None

    def filters(self) -> dict[str, Any] | None:
        """As `Store.list` and `Store.search` take them. Raises UsageError for a day that cannot be read."""
        from memlora_mlx.memory.retrieval.filters import parse_filters

        return parse_filters(self.user or (), self.source, self.since or "", self.until or "")


@command(app, "list", "memlora memory list --user Ann --since 2023-05-08")
def list_memories(
    *,
    chosen: FilterOptions,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=1_000_000, help="Show at most this many memories (default: 50; with --json, all)."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List memories, the newest first."""
    from memlora_mlx.memory.mem0_format import memory_to_mem0

    filters = chosen.filters()
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


@command(app, "search", 'memlora memory search "where Maya works" -k 5')
def search(
    *,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The text to search for, by its meaning.")],
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            "-k",
            metavar="N",
            min=1,
            max=1_000_000,
            help="Return at most this many memories (default: the setting `limit`, which is 10).",
        ),
    ] = None,
    limit: OldLimitOption = None,
    chosen: FilterOptions,
    as_json: JsonOption = False,
) -> None:
    """Find the memories and messages that match a text best, by meaning and by shared terms."""
    from memlora_mlx.memory.api import Memory as System
    from memlora_mlx.memory.mem0_format import hit_to_mem0

    filters, top_k = chosen.filters(), top_k_or_old_limit(top_k, limit)
    with open_workspace(models=False) as opened:
        opened.require_store()
        hits: list[Hit] = System.of(opened).find(query, limit=top_k or opened.settings.limit, filters=filters)
    if as_json:
        print_json([hit_to_mem0(hit) for hit in hits])
        return
    for hit in hits:
        print_hit(hit, f"{hit.score:5.2f}  ")


@command(app, "show", "memlora memory show 3f2a91c0")
def show(memory_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show one memory: its text, times, owner and image, and the exchange it came from.

    The id of a message (with a colon), as `memory search --json` and programs show it, shows that message.
    """
    from memlora_mlx.memory.happening import times_line
    from memlora_mlx.memory.mem0_format import memory_to_mem0
    from memlora_mlx.memory.stages import format_day
    from memlora_mlx.memory.store.lookup import find_by_prefix

    with open_workspace(models=False) as opened:
        store = opened.require_store()
        if ":" in memory_id:
            show_message(store, memory_id, as_json=as_json)
            return
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
        ("said by", SAID_BY[memory.provenance]),
        ("said", format_day(memory.said_at)),
        ("happens", times_line(memory)),
        ("stored", f"{memory.stored_at:%Y-%m-%d %H:%M} UTC"),
        ("changed", f"{memory.changed_at:%Y-%m-%d %H:%M} UTC" if memory.changed_at else ""),
        ("expires", f"{memory.expires_at:%Y-%m-%d %H:%M} UTC" if memory.expires_at else ""),
        ("source", memory.source or ""),
        ("image", _image_line(memory, picture) if memory.image else ""),
        ("metadata", printable_json(json.dumps(dict(memory.metadata), ensure_ascii=False)) if memory.metadata else ""),
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


@command(app, "edit", 'memlora memory edit 3f2a91c0 "Maya works at a bakery."')
def edit(
    memory_id: IdArgument,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The new text (default: opens your editor).", show_default=False),
    ] = None,
) -> None:
    """Change the text of a memory. `memlora memory undo` reverts it."""
    from memlora_mlx.errors import UsageError
    from memlora_mlx.memory.secrets import describe_withheld
    from memlora_mlx.memory.store.lookup import find_by_prefix

    with open_workspace(models=False) as opened:
        memory = find_by_prefix(opened.require_store(), memory_id)
        edited = opened.editor.revise(memory.id, _edited(memory.text) if text is None else text)
        if not edited.is_change:
            raise UsageError(
                "Nothing was changed: the memory already has this text. Give the new text after the id, or save it in the editor."
            )
        print_columns(_head(edited.memory), edited.memory.text)
        _print_problem(edited.problem)
        _print_problem(describe_withheld(edited.withheld) or None)


@command(app, "delete", "memlora memory delete 3f2a91c0")
def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of memories; their first characters are enough.")],
) -> None:
    """Forget memories; this can be undone.

    `memlora memory undo` restores each one, but not an image that no other memory uses. Until then the history keeps the
    text: `memlora memory erase` removes it for good.
    """
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
                    "Its image was erased because no other memory uses it. Undo restores the text but not the image."
                )


@command(app, "history", "memlora memory history 3f2a91c0")
def history(memory_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show the history of a memory, also of a deleted one."""
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


@command(app, "undo", "memlora memory undo", "memlora memory undo 42")
def undo(
    revision: Annotated[
        int | None,
        typer.Argument(
            metavar="NUMBER",
            help="Number of the change, as `memory history` shows it (default: the newest change).",
            show_default=False,
        ),
    ] = None,
    user: OneUserOption = None,
) -> None:
    """Undo one change of a memory."""
    _reverse("undo", revision, user)


@command(app, "redo", "memlora memory redo")
def redo(
    revision: Annotated[
        int | None,
        typer.Argument(
            metavar="NUMBER",
            help="Number of the undo, as `memory history` shows it (default: the newest undo).",
            show_default=False,
        ),
    ] = None,
    user: OneUserOption = None,
) -> None:
    """Make a change again that was undone, unless the memory has changed since."""
    _reverse("redo", revision, user)


def _reverse(verb: Literal["undo", "redo"], revision: int | None, users: Sequence[str] | None) -> None:
    from memlora_mlx.errors import UsageError
    from memlora_mlx.records import Scope

    if users and len(users) > 1:
        raise UsageError(f"`memlora memory {verb}` takes one --user.")
    with open_workspace(models=False) as opened:
        opened.require_store()
        reverse = opened.editor.redo if verb == "redo" else opened.editor.undo
        reversal = reverse(revision, scope=Scope(user_id=users[0] if users else None))
    line = reversal.revision
    was = {"ADD": "restored", "DELETE": "deleted again", "UPDATE": "changed back to"}[line.event]
    typer.echo(f"{was}: {line.new_text or line.old_text}")
    _print_problem(reversal.problem)


def _print_problem(problem: str | None) -> None:
    """Print that a change is saved, but not its training example."""
    if problem is not None:
        stderr_console().print(problem, markup=False)


def _edited(text: str) -> str:
    """The text after the user has changed it in an editor."""
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
            raise UsageError(f"The editor {editor!r} failed ({error}). Give the new text after the id.") from error
        return file.read_text(encoding="utf-8", errors="replace").strip()


def _image_line(memory: MemoryRecord, picture: Path | None) -> str:
    """Where an image came from, what it shows, and whether it is still stored."""
    assert memory.image is not None
    is_gone = memory.image.sha256 is not None and picture is None
    parts = [memory.image.source, memory.image.caption, "(the image was erased)" if is_gone else None]
    return "  ".join(filter(None, parts))


def _head(memory: MemoryRecord) -> str:
    """What a listing prints before the text of a memory."""
    from memlora_mlx.memory.evidence import owner_name
    from memlora_mlx.memory.stages import format_day

    return f"{memory.id[:8]}  {format_day(memory.said_at):<17} {owner_name(memory.owner) or '':<12} "


command(
    app,
    "erase",
    "memlora memory erase 3f2a91c0",
    'memlora memory erase --containing "Elm Street 12"',
    "memlora memory erase --person Ann --dry-run",
)(erase_memories)
command(app, "export", "memlora memory export memories.jsonl", "memlora memory export > memories.jsonl")(
    export_memories
)
command(app, "import", "memlora memory import memories.jsonl")(import_memories)
