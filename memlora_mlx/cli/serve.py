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
    models: ModelOptions,
) -> None:
    """Keep models and memories open for other programs.

    It answers MCP at /mcp and the OpenAI API at /v1. With --upstream it is a proxy: memories for the last user message are
    put in, and the exchange is remembered afterwards.

    MCP clients use this process while it runs, and work alone when it does not. Models are unloaded after the minutes of the
    setting `unload_after` without a call, which are 15 by default, and loaded at the next call.
    """
    from memlora_mlx.extras import require
    from memlora_mlx.settings import load_settings

    require("serve", "memlora serve")
    from memlora_mlx.serve.resident import ListenOptions, serve

    token = _read_token(token_file) if token_file is not None else None
    key = _read_secret(upstream_key_file) if upstream_key_file is not None else None
    options = ListenOptions(port, host, token, tuple(allow_host or ()), upstream, key)
    serve(load_settings(models.settings()), options, _say_ready)


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
