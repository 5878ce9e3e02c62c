"""`memlora people`: who has memories, and who is who."""

from __future__ import annotations

from typing import Annotated

import typer

from memlora_mlx.cli.console import open_workspace, print_json
from memlora_mlx.cli.help import HelpGroup, command, examples
from memlora_mlx.cli.options import JsonOption

app = typer.Typer(
    cls=HelpGroup,
    no_args_is_help=True,
    help="List the people who have memories, and say who is who.",
    epilog=examples("memlora people list", 'memlora people merge "Ann (chat2)" Ann'),
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A person, as `memlora people list` shows them.")]


@command(app, "list", "memlora people list")
def list_everybody(as_json: JsonOption = False) -> None:
    """List everybody who has memories, with how many and from which conversations."""
    from memlora_mlx.memory.store.people import list_people

    with open_workspace(models=False) as opened:
        people = list_people(opened.require_store())
    if as_json:
        print_json([{"name": one.user_id, "memories": one.memories, "sources": list(one.sources)} for one in people])
        return
    for one in people:
        typer.echo(f"{one.memories:>6}  {one.user_id}" + (f"  from {', '.join(one.sources)}" if one.sources else ""))


@command(app, "merge", 'memlora people merge "Ann (chat2)" Ann')
def merge(
    name: NameArgument, into: Annotated[str, typer.Argument(metavar="INTO", help="The person who stays.")]
) -> None:
    """Make two people one: the memories and conversations of the first become the second's."""
    from memlora_mlx.memory.store.people import merge_people

    with open_workspace(models=False) as opened:
        count = merge_people(opened.require_store(), name, into)
    typer.echo(f"{count} memories of {name} are {into}'s now")


@command(app, "rename", "memlora people rename Ann Anna")
def rename(name: NameArgument, new: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")]) -> None:
    """Give a person another name."""
    from memlora_mlx.memory.store.people import rename_person

    with open_workspace(models=False) as opened:
        rename_person(opened.require_store(), name, new)
    typer.echo(f"{name} is called {new} now")


@command(app, "split", 'memlora people split Ann chat2 "Ann from work"')
def split(
    name: NameArgument,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The conversation whose memories are another person's.")
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name of that person.")],
) -> None:
    """Make a new person of what somebody has from one conversation."""
    from memlora_mlx.memory.store.people import split_person

    with open_workspace(models=False) as opened:
        count = split_person(opened.require_store(), name, source, new)
    typer.echo(f"{count} memories of {name} from {source} are {new}'s now")
