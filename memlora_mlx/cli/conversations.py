"""`memlora conversations`: the conversations of the chat."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memlora_mlx.cli.console import open_workspace, print_columns, print_json, stderr_console
from memlora_mlx.cli.help import HelpGroup, command, examples
from memlora_mlx.cli.options import JsonOption
from memlora_mlx.text import printable_json

if TYPE_CHECKING:
    from memlora_mlx.memory.store.conversations import SavedConversation

app = typer.Typer(
    cls=HelpGroup,
    no_args_is_help=True,
    help="List, show, search, rename, delete and export the conversations of the chat.",
    epilog=examples("memlora conversations list", "memlora conversations search lighthouse"),
)

IdArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Id of a conversation, as `conversations list` shows it; its first characters are enough."
    ),
]
UserOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="List only conversations of this user (default: all users)."),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, max=1_000_000, help="List at most this many conversations (default: 50; with --json, all)."
    ),
]


class ExportFormat(StrEnum):
    MARKDOWN = "markdown"
    JSON = "json"


@command(app, "list", "memlora conversations list")
def list_all(user: UserOption = None, limit: LimitOption = None, as_json: JsonOption = False) -> None:
    """List conversations, the one that was changed last first."""
    _list(user, limit, as_json)


@command(app, "search", "memlora conversations search lighthouse")
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Terms that one message or the name must contain.")],
    user: UserOption = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find conversations in which one message, or the name, contains all of the terms."""
    _list(user, limit, as_json, query)


def _list(user: str | None, limit: int | None, as_json: bool, words: str = "") -> None:
    from memlora_mlx.memory.conversation_export import conversation_row
    from memlora_mlx.memory.store.conversations import list_conversations
    from memlora_mlx.records import Scope

    with open_workspace(models=False) as opened:
        owner = None if user is None else Scope(user_id=user)
        most = limit or (None if as_json else 50)
        found = list_conversations(opened.require_store(), owner, words=words, limit=most)
    if as_json:
        print_json([conversation_row(one) for one in found])
        return
    for one in found:
        print_columns(_head(one), f"{one.name}{f': {one.excerpt}' if one.excerpt else ''}")


@command(app, "show", "memlora conversations show 3f2a91c0")
def show(conversation_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show the messages of one conversation."""
    from memlora_mlx.memory.conversation_export import conversation_json, conversation_markdown
    from memlora_mlx.memory.store.conversations import find_conversation, read_turns

    with open_workspace(models=False) as opened:
        store = opened.require_store()
        found = find_conversation(store, conversation_id)
        turns = read_turns(store, found.id)
    if as_json:
        print_json(conversation_json(found, turns))
    else:
        typer.echo(conversation_markdown(found, turns), nl=False)


@command(app, "rename", 'memlora conversations rename 3f2a91c0 "Trains of Ireland"')
def rename(
    conversation_id: IdArgument, name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")]
) -> None:
    """Give a conversation another name. At first it has the name of its first message."""
    from memlora_mlx.memory.store.conversations import find_conversation

    with open_workspace(models=False) as opened:
        store = opened.require_store()
        found = find_conversation(store, conversation_id)
        typer.echo(f"{found.id[:8]}  {opened.editor.rename_conversation(found.id, name)}")


@command(app, "delete", "memlora conversations delete 3f2a91c0", "memlora conversations delete 3f2a91c0 --memories")
def delete(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID", help="Ids of conversations; their first characters are enough.")
    ],
    memories: Annotated[
        bool | None,
        typer.Option(
            "--memories/--keep-memories",
            help="Delete or keep the memories made from the conversation (default: ask on a terminal, else keep).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Delete conversations; this cannot be undone.

    With --memories, the memories made from them are deleted too, with their source. `memlora memory undo` restores such a
    memory without its source. Backups keep the text until they are replaced; the command names them. `memlora memory erase`
    reaches backups, too.
    """
    from memlora_mlx.memory.store.conversations import find_conversation, remembered_count

    held: set[Path] = set()
    with open_workspace(models=False) as opened:
        store = opened.require_store()
        for found in [find_conversation(store, conversation_id) for conversation_id in ids]:
            with_memories = memories
            if with_memories is None and sys.stdin.isatty() and (count := remembered_count(store, found.id)):
                noun = "memory" if count == 1 else "memories"
                with_memories = typer.confirm(f"{found.name}: delete its {count} {noun} too?", default=False, err=True)
            count = opened.editor.delete_conversation(found.id, with_memories=bool(with_memories))
            print_columns(f"deleted  {_head(found)}", found.name)
            if with_memories:
                stderr_console().print(f"{count} {'memory' if count == 1 else 'memories'} deleted")
            held |= set(opened.editor.copies_of_conversation(found.id))
    if held:
        paths = ", ".join(str(path) for path in sorted(held))
        line = f"Backups still hold it: {paths}. `memlora memory erase --containing TEXT` reaches backups, too."
        stderr_console().print(line, markup=False, soft_wrap=True)


@command(
    app,
    "export",
    "memlora conversations export 3f2a91c0 talk.md",
    "memlora conversations export 3f2a91c0 --format json > talk.json",
)
def export(
    conversation_id: IdArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Output file; - or no value writes to standard output.", show_default=False
        ),
    ] = Path("-"),
    kind: Annotated[
        ExportFormat | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Format: markdown or json, which `memlora ingest` reads (default: by the file's ending, else markdown).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write one conversation as Markdown or JSON. A file that exists is not overwritten."""
    from memlora_mlx.memory.conversation_export import conversation_json, conversation_markdown, write_new_file
    from memlora_mlx.memory.store.conversations import find_conversation, read_turns

    with open_workspace(models=False) as opened:
        store = opened.require_store()
        found = find_conversation(store, conversation_id)
        turns = read_turns(store, found.id)
    if kind is ExportFormat.JSON or (kind is None and file.suffix.lower() == ".json"):
        text = printable_json(json.dumps(conversation_json(found, turns), ensure_ascii=False, indent=1)) + "\n"
    else:
        text = conversation_markdown(found, turns)
    if str(file) == "-":
        typer.echo(text, nl=False)
        return
    write_new_file(file, text)
    stderr_console().print(f"{found.turns} messages in {file}", markup=False)


def _head(conversation: SavedConversation) -> str:
    """What a listing prints before the name of a conversation."""
    count = f"{conversation.turns} {'message' if conversation.turns == 1 else 'messages'}"
    return f"{conversation.id[:8]}  {conversation.changed_at.astimezone():%Y-%m-%d %H:%M}  {count:>13}  "
