"""`memlora mcp`: the MCP server, and its entry in the settings of MCP clients."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, ClassVar

import typer

from memlora_mlx.cli.client_edits import DryRunOption, make_edit
from memlora_mlx.cli.help import DefaultCommandGroup, command, examples
from memlora_mlx.cli.printing import drop_output


class McpGroup(DefaultCommandGroup):
    """`memlora mcp` alone runs the server, because that is what clients start."""

    default: ClassVar[str] = "run"


app = typer.Typer(
    cls=McpGroup,
    help="Serve the memory to MCP clients. Without a command, `memlora mcp` runs the server on standard input and output.",
    epilog=examples("memlora mcp install claude-desktop", "memlora mcp install codex --dry-run"),
)

ClientArgument = Annotated[
    str, typer.Argument(metavar="CLIENT", help="One of claude-desktop, claude-code, cursor, lm-studio and codex.")
]


@command(app, "run", "memlora mcp")
def run_command() -> None:
    """Run the MCP server on standard input and output.

    It uses the resident process (`memlora serve`) while that runs, and works alone when it does not.
    """
    from memlora_mlx.extras import require
    from memlora_mlx.settings import load_settings

    require("serve", "memlora mcp")
    from memlora_mlx.serve.backends import ChoosingBackend
    from memlora_mlx.serve.mcp_server import memory_server

    backend = ChoosingBackend(load_settings())
    try:
        # The protocol needs the stream of bytes, which the command line's clean stream does not give; its JSON escapes
        # control characters.
        with contextlib.redirect_stdout(sys.__stdout__):
            memory_server(backend).run("stdio")
    except* BrokenPipeError:  # the client is gone, and there is nobody to answer
        drop_output(sys.__stdout__.fileno() if sys.__stdout__ else 1)
    finally:
        backend.close()


@command(app, "install", "memlora mcp install claude-desktop", "memlora mcp install codex --dry-run")
def install_command(client: ClientArgument, dry_run: DryRunOption = False) -> None:
    """Add memlora to an MCP client's settings file, after a backup, and show the change."""
    _edit(client, True, dry_run)


@command(app, "uninstall", "memlora mcp uninstall claude-desktop")
def uninstall_command(client: ClientArgument, dry_run: DryRunOption = False) -> None:
    """Remove memlora from an MCP client's settings file, after a backup, and show the change."""
    _edit(client, False, dry_run)


def _edit(client: str, install: bool, dry_run: bool) -> None:
    from memlora_mlx.extras import require

    require("serve", "memlora mcp install")
    from memlora_mlx.serve.client_files import planned_edit, server_entry

    make_edit(planned_edit(client, server_entry() if install else None), client, dry_run=dry_run)
