"""Passphrases: from the environment, or typed on a terminal without being shown.

The same passphrase can come as other bytes: one keyboard gives "ü" as one character and another as two, and Option-Space is
a blank to the eye only. So what is typed is prepared as RFC 8265 ("OpaqueString") says before a key is made of it.
"""

from __future__ import annotations

import getpass
import os
import sys
import unicodedata

from memlora_mlx.errors import StoreLocked, UsageError
from memlora_mlx.text import well_formed

PASSPHRASE = "MEMLORA_PASSPHRASE"
NEW_PASSPHRASE = "MEMLORA_NEW_PASSPHRASE"
TRIES = 3


def prepared(passphrase: str) -> str:
    """A passphrase in the one form of all that look like it: any blank is a space, and characters are composed (NFC)."""
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in passphrase)
    return unicodedata.normalize("NFC", spaced)


def from_environment(variable: str) -> str | None:
    """The passphrase in an environment variable; None where it is not set, or empty.

    Raises:
        StoreLocked: it is not UTF-8.
    """
    given = os.environ.get(variable)
    if given and well_formed(given) != given:  # Python shows other bytes as surrogates
        raise StoreLocked(f"{variable} is not text in UTF-8; set it to a passphrase in UTF-8")
    return given or None


def can_ask() -> bool:
    """Whether there is a terminal to ask on."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, variable: str = PASSPHRASE) -> str:
    """What is typed after a question on the terminal, which does not show it.

    Args:
        variable: the environment variable that would do instead.

    Raises:
        StoreLocked: the input ended, or is not text.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    try:
        return getpass.getpass(question)
    except EOFError:
        print(file=sys.stderr)
        raise StoreLocked(f"no passphrase was typed; type it, or set {variable}") from None
    except UnicodeDecodeError as error:
        print(file=sys.stderr)
        raise StoreLocked(
            f"what was typed is not text in this terminal's encoding ({error.encoding}); set its locale to one with UTF-8,"
            f" or set {variable}"
        ) from None
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise


def new_passphrase(variable: str) -> str:
    """A new passphrase from the environment, or typed twice.

    Raises:
        UsageError: there is no terminal, or no passphrase was typed twice alike.
        StoreLocked: as `from_environment` and `ask` do.
    """
    if given := from_environment(variable):
        return given
    if not can_ask():
        raise UsageError(f"There is no terminal to type a passphrase on. Set {variable}, or use --keyring.")
    for _ in range(TRIES):
        passphrase = ask("New passphrase: ", variable)
        if not passphrase:
            print("A passphrase cannot be empty.", file=sys.stderr)
        elif prepared(ask("The same again: ", variable)) == prepared(passphrase):
            return passphrase
        else:
            print("The two are not the same.", file=sys.stderr)
    raise UsageError("No new passphrase was typed twice, so nothing was changed. Run the same command again.")
