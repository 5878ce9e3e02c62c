"""The Typer app of the `memlora` command: which commands it has, and the options that all of them share."""

from __future__ import annotations

import os
from collections import UserDict
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_group

from memlora_mlx.cli.help import HelpGroup, command, examples

# The panels of `memlora --help` and the commands in each, in the order in which they are shown.
COMMANDS = {
    "Remember and ask": ("chat", "ask", "ingest", "memory", "conversations", "people", "demo"),
    "Models and experts": ("models", "adapters", "teach", "train"),
    "Other programs": ("serve", "mcp", "hook"),
    "Measure": ("bench", "vqa"),
    "Maintenance": ("doctor", "restore", "encrypt", "decrypt", "rekey"),
}
PANEL = {name: panel for panel, names in COMMANDS.items() for name in names}

# Commands without commands below them, with the examples of their help. The others are groups, each the `app` of a module.
EXAMPLES = {
    "chat": ("memlora chat", "memlora chat --student qwen2.5-3b --plain"),
    "ask": ('memlora ask "Where does Maya work?" -k 5',),
    "ingest": (
        "memlora ingest export.zip --dry-run",
        'memlora ingest chat.txt --own-name "Nora Berg" --since 2024-01-01',
    ),
    "demo": ("memlora demo",),
    "teach": (
        "memlora teach --stage update --teacher synthetic",
        "memlora teach locomo10.json --stage extraction --base-url http://gpu:8000/v1 --model gpt-oss-120b",
    ),
    "serve": ("memlora serve", "memlora serve --port 8765"),
    "doctor": ("memlora doctor", "memlora doctor --repair"),
    "restore": ("memlora restore --list", "memlora restore --from 2026-11-29"),
    "encrypt": ("memlora encrypt", "memlora encrypt --keyring"),
    "decrypt": ("memlora decrypt",),
    "rekey": ("memlora rekey", "memlora rekey --keyring"),
}
MODULES = dict.fromkeys(("encrypt", "decrypt", "rekey"), "encryption")  # the others have a module of their name


class LazyCommands(UserDict[str, Any]):
    """The commands by name. Each is imported and built when it is first looked up: a start needs one of them."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(dict.fromkeys(names))

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            self.data[name] = _build(name)
        return self.data[name]


def _build(name: str) -> Any:
    module = import_module(f"memlora_mlx.cli.{MODULES.get(name, name)}")
    parent = typer.Typer()  # Typer builds a command only as a part of another
    if name in EXAMPLES:
        command(parent, name, *EXAMPLES[name], panel=PANEL[name])(getattr(module, f"{name}_command"))
    else:
        parent.add_typer(module.app, name=name, rich_help_panel=PANEL[name])
    return get_group(parent).commands[name]


class RootGroup(HelpGroup):
    """Lists commands by what they are for, and loads them when they are needed."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": LazyCommands(PANEL)})


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
