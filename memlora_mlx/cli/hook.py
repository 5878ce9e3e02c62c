"""`memlora hook`: memories in Claude Code, and its sessions in memlora."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from memlora_mlx.cli.client_edits import DryRunOption, make_edit
from memlora_mlx.cli.help import HelpGroup, command, examples

app = typer.Typer(
    cls=HelpGroup,
    no_args_is_help=True,
    help="Give Claude Code memories for each prompt, and remember its sessions.",
    epilog=examples("memlora hook install claude-code --dry-run", "memlora hook install claude-code"),
)

ClientArgument = Annotated[str, typer.Argument(metavar="CLIENT", help="The client: claude-code.")]


@command(app, "install", "memlora hook install claude-code --dry-run")
def install_command(client: ClientArgument, dry_run: DryRunOption = False) -> None:
    """Add the hook to the client's settings file, after a backup, and show the change."""
    _edit(client, True, dry_run)


@command(app, "uninstall", "memlora hook uninstall claude-code")
def uninstall_command(client: ClientArgument, dry_run: DryRunOption = False) -> None:
    """Remove the hook from the client's settings file, after a backup, and show the change."""
    _edit(client, False, dry_run)


@command(app, "claude-code", "memlora hook claude-code")
def claude_code_command() -> None:
    """Handle one event of Claude Code, which is a JSON object on standard input.

    A prompt gets memories from `memlora serve` if that runs. The transcript of a session that ends is queued, and read by
    `memlora serve` or by `memlora hook work`.
    """
    from memlora_mlx.serve.claude_hook import main

    main([], sys.stdin, sys.stdout, sys.stderr)


@command(app, "work", "memlora hook work")
def work_command() -> None:
    """Read what is queued now, without `memlora serve`."""
    from functools import partial

    from memlora_mlx.cli.console import interrupt_event
    from memlora_mlx.serve.backends import LocalBackend
    from memlora_mlx.serve.queue_worker import QueueWorker, run_queued
    from memlora_mlx.serve.work_queue import WorkQueue
    from memlora_mlx.settings import load_settings

    settings = load_settings()
    backend = LocalBackend(settings)
    try:
        with interrupt_event() as stopped:
            done = QueueWorker(WorkQueue(settings.home), partial(run_queued, backend), stop=stopped).work_off()
    finally:
        backend.close()
    typer.echo(f"{done} queued things were read.")


def _edit(client: str, install: bool, dry_run: bool) -> None:
    from memlora_mlx.errors import UsageError
    from memlora_mlx.extras import require

    if client != "claude-code":
        raise UsageError(f"There is no hook for {client!r}. The only client is claude-code.")
    require("serve", "memlora hook install")
    from memlora_mlx.serve.hook_files import hook_command, planned_hook_edit

    make_edit(planned_hook_edit(hook_command() if install else None), client, dry_run=dry_run)
