"""The Typer app of the `memlora` command: which commands it has, and the options that all of them share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from memlora_mlx.cli import adapters, bench, conversations, hook, mcp, memory, models, people, train, vqa
from memlora_mlx.cli.ask import ask_command
from memlora_mlx.cli.chat import chat_command
from memlora_mlx.cli.demo import demo_command
from memlora_mlx.cli.doctor import doctor_command
from memlora_mlx.cli.encryption import decrypt_command, encrypt_command, rekey_command
from memlora_mlx.cli.help import HelpGroup, command, examples
from memlora_mlx.cli.ingest import ingest_command
from memlora_mlx.cli.restore import restore_command
from memlora_mlx.cli.serve import serve_command
from memlora_mlx.cli.teach import teach_command


class RootGroup(HelpGroup):
    """Lists commands by what they are for; Typer itself would list all groups after all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for names in COMMANDS.values() for name in names]


# The panels of `memlora --help` and the commands in each, in the order in which they are shown.
COMMANDS = {
    "Remember and ask": ("chat", "ask", "ingest", "memory", "conversations", "people", "demo"),
    "Models and experts": ("models", "adapters", "teach", "train"),
    "Other programs": ("serve", "mcp", "hook"),
    "Measure": ("bench", "vqa"),
    "Maintenance": ("doctor", "restore", "encrypt", "decrypt", "rekey"),
}
PANEL = {name: panel for panel, names in COMMANDS.items() for name in names}

app = typer.Typer(
    cls=RootGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="A long-term memory for chat assistants. Everything runs on this machine.",
    epilog=examples(
        "memlora demo", "memlora chat", "memlora ingest conversations.json", 'memlora ask "Where does Maya work?"'
    ),
)
command(app, "chat", "memlora chat", "memlora chat --student qwen2.5-3b --plain", panel=PANEL["chat"])(chat_command)
command(app, "ask", 'memlora ask "Where does Maya work?" -k 5', panel=PANEL["ask"])(ask_command)
command(
    app,
    "ingest",
    "memlora ingest export.zip --dry-run",
    'memlora ingest chat.txt --own-name "Nora Berg" --since 2024-01-01',
    panel=PANEL["ingest"],
)(ingest_command)
command(app, "demo", "memlora demo", panel=PANEL["demo"])(demo_command)
command(
    app,
    "teach",
    "memlora teach --stage update --teacher synthetic",
    "memlora teach locomo10.json --stage extraction --base-url http://gpu:8000/v1 --model gpt-oss-120b",
    panel=PANEL["teach"],
)(teach_command)
command(app, "doctor", "memlora doctor", "memlora doctor --repair", panel=PANEL["doctor"])(doctor_command)
command(app, "restore", "memlora restore --list", "memlora restore --from 2026-11-29", panel=PANEL["restore"])(
    restore_command
)
command(app, "encrypt", "memlora encrypt", "memlora encrypt --keyring", panel=PANEL["encrypt"])(encrypt_command)
command(app, "decrypt", "memlora decrypt", panel=PANEL["decrypt"])(decrypt_command)
command(app, "rekey", "memlora rekey", "memlora rekey --keyring", panel=PANEL["rekey"])(rekey_command)
command(app, "serve", "memlora serve", "memlora serve --port 8765", panel=PANEL["serve"])(serve_command)
for module in (memory, conversations, people, models, adapters, train, bench, vqa, mcp, hook):
    name = module.__name__.rpartition(".")[2]
    app.add_typer(module.app, name=name, rich_help_panel=PANEL[name])


def _print_version(requested: bool) -> None:
    if requested:
        from memlora_mlx import __version__

        typer.echo(f"memlora {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of models, memories and config.toml (default: MEMLORA_HOME, else the user's data folder).",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    if home is not None:  # settings are read where they are needed, from the environment
        os.environ["MEMLORA_HOME"] = str(home.expanduser())
