"""`memlora encrypt`, `decrypt` and `rekey`: whether the store on the disk can be read without a key."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from memlora_mlx.settings import Settings

KeyringOption = Annotated[
    bool,
    typer.Option(
        "--keyring",
        help="Keep the key in the system's keyring (Keychain, Secret Service) instead of under a passphrase.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def encrypt_command(keyring: KeyringOption = False, yes: YesOption = False) -> None:
    """Encrypt the store: its database, backups, images and indexes, and what waits to be read.

    The passphrase is asked for, or read from MEMLORA_PASSPHRASE. There is no way to read the store without it.
    """
    from memlora_mlx.memory.encryption import plain_files
    from memlora_mlx.memory.store.converting import encrypt_store
    from memlora_mlx.memory.store.passphrases import PASSPHRASE, new_passphrase
    from memlora_mlx.settings import load_settings

    settings = load_settings()
    _require_plain(settings)
    encrypt_store(settings.store_folder, None if keyring else new_passphrase(PASSPHRASE), _say)
    typer.echo(f"The store in {settings.store_folder} is encrypted.")
    leftovers, others = plain_files(settings.home)
    _offer_removal(leftovers, yes)
    if others:
        typer.echo("Not encrypted, and yours to keep or remove:")
        for path in others:
            typer.echo(f"  {path}")
    typer.echo(
        "Deleted plain files may stay readable on the disk until their space is used again; the disk's own encryption"
        " covers that."
    )


def decrypt_command(yes: YesOption = False) -> None:
    """Decrypt the store, so that it can be read without a key."""
    from memlora_mlx.errors import UsageError
    from memlora_mlx.memory.store.converting import decrypt_store
    from memlora_mlx.memory.store.keys import read_key_file
    from memlora_mlx.settings import load_settings

    settings = load_settings()
    question = f"Decrypt the store in {settings.store_folder}?"
    if read_key_file(settings.store_folder) is not None and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{question} Nothing was changed. Use --yes to do it without a question.")
        if not typer.confirm(question, err=True):
            raise typer.Abort
    decrypt_store(settings.store_folder, _say)
    typer.echo(f"The store in {settings.store_folder} is no longer encrypted.")


def rekey_command(keyring: KeyringOption = False) -> None:
    """Encrypt the store again with another key and another passphrase, or move the key to the system's keyring.

    The new passphrase is asked for, or read from MEMLORA_NEW_PASSPHRASE; the present one from MEMLORA_PASSPHRASE.
    """
    from memlora_mlx.errors import UsageError
    from memlora_mlx.memory.store.converting import rekey_store
    from memlora_mlx.memory.store.database import require_database
    from memlora_mlx.memory.store.keys import DATABASE, unlock
    from memlora_mlx.memory.store.passphrases import NEW_PASSPHRASE, new_passphrase
    from memlora_mlx.settings import load_settings

    settings = load_settings()
    folder = settings.store_folder
    require_database(folder / DATABASE)
    if unlock(folder) is None:
        raise UsageError(f"The store in {folder} is not encrypted. `memlora encrypt` encrypts it.")
    rekey_store(folder, None if keyring else new_passphrase(NEW_PASSPHRASE), _say)
    typer.echo(f"The store in {folder} has another key now.")


def _require_plain(settings: Settings) -> None:
    """Raises before a passphrase is asked for: there is no store, it is encrypted already, or a package is missing."""
    from memlora_mlx.errors import UsageError
    from memlora_mlx.extras import require
    from memlora_mlx.memory.store.database import require_database
    from memlora_mlx.memory.store.keys import DATABASE, read_key_file

    require("encryption", "`memlora encrypt`")
    require_database(settings.store_folder / DATABASE)
    file = read_key_file(settings.store_folder)
    if file is not None and file.state == "encrypted":
        raise UsageError(
            f"The store in {settings.store_folder} is encrypted already. `memlora rekey` gives it another key."
        )


def _offer_removal(paths: list[Path], yes: bool) -> None:
    if not paths:
        return
    typer.echo("Plain files from before the encryption that are left:")
    for path in paths:
        typer.echo(f"  {path}")
    if not yes and not (sys.stdin.isatty() and typer.confirm("Remove them?", err=True)):
        typer.echo("They were not removed. `memlora doctor` names them; delete them, or keep them elsewhere.")
        return
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    typer.echo(f"Removed {len(paths)} files.")


def _say(step: str) -> None:
    typer.echo(step, err=True)
