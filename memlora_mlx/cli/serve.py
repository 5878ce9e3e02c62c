"""`memlora serve`: the resident process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memlora_mlx.cli.options import ModelOptions

if TYPE_CHECKING:
    from memlora_mlx.serve.connection import Resident


def serve_command(
    *,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=65535, help="Also listen on this TCP port; 0 chooses a free one (default: none)."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address for --port. Any but the loopback address needs a token.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the token that clients of --port must send (default: no token)."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Host name by which clients reach --port. May be repeated (default: none)."),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Pass chats of the OpenAI API on to this server, with memories put in, as in http://127.0.0.1:1234/v1"
            " (default: the student answers).",
        ),
    ] = None,
    upstream_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the key that is sent to --upstream only (default: no key)."),
    ] = None,
    install: Annotated[
        bool,
        typer.Option(
            "--install",
            help="Run it as a service of your session, with the other options given: a launchd agent on macOS, a systemd"
            " user unit on Linux.",
        ),
    ] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="End that service and remove its file.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --install or --uninstall, show what would be done.")
    ] = False,
    models: ModelOptions,
) -> None:
    """Keep models and memories open for other programs.

    It answers MCP at /mcp and the OpenAI API at /v1. With --upstream it is a proxy: memories for the last user message are
    put in, and the exchange is remembered afterwards.

    MCP clients and commands such as `memlora ask` use this process while it runs, and work alone when it does not. Models
    are unloaded after the minutes of the setting `unload_after` without a call, which are 15 by default, and loaded at the
    next call.
    """
    from memlora_mlx.errors import UsageError
    from memlora_mlx.extras import require
    from memlora_mlx.memory.store.keys import unlock
    from memlora_mlx.serve.listening import ListenOptions, check_options
    from memlora_mlx.settings import load_settings

    require("serve", "memlora serve")
    token = _read_token(token_file) if token_file is not None else None
    key = _read_secret(upstream_key_file) if upstream_key_file is not None else None
    options = ListenOptions(port, host, token, tuple(allow_host or ()), upstream, key)
    settings = load_settings(models.settings())
    check_options(options)
    if install or uninstall:
        words = _arguments(port, host, token_file, allow_host, upstream, upstream_key_file, models)
        _change_service(settings.home, [] if uninstall else words, uninstall, dry_run)
        return
    if dry_run:
        raise UsageError("--dry-run goes with --install or --uninstall.")
    from memlora_mlx.serve.resident import serve

    unlock(settings.store_folder)  # where the key cannot be had, it says so now and not at the first call
    serve(settings, options, _say_ready)


def _arguments(
    port: int | None,
    host: str,
    token_file: Path | None,
    allow_host: list[str] | None,
    upstream: str | None,
    upstream_key_file: Path | None,
    models: ModelOptions,
) -> list[str]:
    """The command's options as the service is to be started with, with whole paths."""
    given: list[tuple[str, object]] = [
        ("--port", port),
        ("--host", None if host == "127.0.0.1" else host),
        ("--token-file", token_file and token_file.expanduser().absolute()),
        *(("--allow-host", name) for name in allow_host or ()),
        ("--upstream", upstream),
        ("--upstream-key-file", upstream_key_file and upstream_key_file.expanduser().absolute()),
        ("--student", models.student),
        ("--experts", models.experts),
        ("--expert-mode", models.mode),
    ]
    return [word for name, value in given if value is not None for word in (name, str(value))]


def _change_service(home: Path, arguments: list[str], uninstall: bool, dry_run: bool) -> None:
    """Install or uninstall the service, and say what was done."""
    from memlora_mlx.errors import MemloraError
    from memlora_mlx.serve.service import service

    wanted = service(home.expanduser().absolute(), arguments)
    if uninstall and not wanted.is_installed:
        typer.echo(f"There is no {wanted.path}; nothing was changed.")
        return
    commands = [" ".join(command) for command in (wanted.stop if uninstall else wanted.start)]
    if dry_run:
        typer.echo(f"Would {'remove' if uninstall else 'write'} {wanted.path}" + ("" if uninstall else ":"))
        if not uninstall:
            typer.echo(wanted.content, nl=False)
        typer.echo("\n".join(["Would run:", *(f"  {command}" for command in commands)]))
        return
    problems = wanted.uninstall() if uninstall else wanted.install()
    typer.echo(f"{'Removed' if uninstall else 'Wrote'} {wanted.path}.")
    if problems:
        raise MemloraError(
            f"{'; '.join(problems)}. The file is in place; run the commands yourself: {', '.join(commands)}"
        )
    typer.echo("The service is ended." if uninstall else "The service runs; `memlora doctor` says whether it lives.")


def _read_secret(file: Path) -> str:
    from memlora_mlx.errors import UsageError

    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read the file {file}: {error}. Check its path and permissions.") from error
    if not secret or not secret.isprintable() or not secret.isascii():
        raise UsageError(f"The file {file} must hold one line of printable ASCII characters.")
    return secret


def _read_token(file: Path) -> str:
    from memlora_mlx.errors import UsageError

    token = _read_secret(file)
    if len(token) < 16:
        raise UsageError(f"The token in {file} has {len(token)} characters. Use at least 16.")
    return token


def _say_ready(resident: Resident) -> None:
    typer.echo(
        f"memlora listens on {resident.socket_path}" + (f" and {resident.url}" if resident.url else ""), err=True
    )
