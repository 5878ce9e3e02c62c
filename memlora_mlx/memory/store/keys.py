"""The key of an encrypted store: 32 random bytes, wrapped by a passphrase or kept in the system's keyring.

`<store>/key.json` says where the key is. It holds no secret by itself: with a passphrase, the key is in it encrypted
with AES-256-GCM under what Argon2id makes of the passphrase; with a keyring, only the name of the entry. While a store is
being encrypted, decrypted or given another key, the file says so, and names both keys. Each is then also wrapped by the
other, so that whoever opens one has both.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from memlora_mlx.errors import StoreBroken, StoreBusy, StoreLocked
from memlora_mlx.extras import require
from memlora_mlx.files import atomic_write, remove_file
from memlora_mlx.memory.store.encrypted_sqlite import is_plain
from memlora_mlx.memory.store.passphrases import PASSPHRASE, TRIES, ask, can_ask, from_environment, prepared
from memlora_mlx.sealed_files import PLAIN, Sealer, derived_key
from memlora_mlx.settings import KEY_FILE

DATABASE = "memories.db"
SERVICE = "memlora"  # in the keyring
REPLACING_SECONDS = 5.0  # how long one command waits for another that replaces the database
_FORMAT = 1
# Argon2id as RFC 9106 recommends it where 2 GiB are too much: 64 MiB, 3 passes, 4 lanes.
_MEMORY, _PASSES, _LANES = 65536, 3, 4
_MOST_MEMORY = 4 << 20  # KiB, of a key file

State = Literal["encrypted", "encrypting", "rekeying", "decrypting"]
_lock = threading.Lock()
_opened: dict[bytes, StoreKeys] = {}  # by the content of the key file, so that a passphrase is asked for once


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What `key.json` says.

    Attributes:
        slots: one for each key, the one that is written with first: its name, and where it is.
        links: each wrapped by another one.
    """

    state: State
    slots: tuple[Mapping[str, Any], ...]
    links: tuple[Mapping[str, Any], ...] = ()

    @property
    def kind(self) -> str:
        """Where the key is: "passphrase" or "keyring"."""
        return str(self.slots[0]["kind"])


@dataclass(frozen=True)
class StoreKeys:
    """The keys of an open store, the one that is written with first.

    Attributes:
        seals: False while the store is being decrypted: what is written now is plain.
    """

    masters: tuple[bytes, ...] = field(repr=False)
    seals: bool = True

    @cached_property
    def database_keys(self) -> tuple[bytes, ...]:
        return tuple(derived_key(master, "memlora database") for master in self.masters)

    @cached_property
    def sealer(self) -> Sealer:
        return Sealer([derived_key(master, "memlora files") for master in self.masters], seals=self.seals)


def read_key_file(folder: Path) -> KeyFile | None:
    """What the key file of a store says; None where the store is not encrypted.

    Raises:
        StoreBroken: it is damaged.
    """
    content = _content(folder)
    return None if content is None else _parse(folder, content)


def write_key_file(folder: Path, file: KeyFile | None) -> None:
    """Replace the key file of a store in one step, on the disk when this returns; None removes it."""
    if file is None:
        remove_file(folder / KEY_FILE)
        return
    said = {"format": _FORMAT, "state": file.state, "keys": list(file.slots), "links": list(file.links)}
    atomic_write(folder / KEY_FILE, json.dumps(said, indent=1) + "\n")


def unlock(folder: Path) -> StoreKeys | None:
    """The keys of a store; None where it is not encrypted. What was opened once stays open in this process.

    Raises:
        StoreLocked: there is no passphrase, it is wrong, or the keyring does not have the key.
        StoreBroken: the key file is damaged.
        ExtraMissing: a package is missing.
    """
    content = _content(folder)
    if content is None:
        return None
    with _lock:
        if (known := _opened.get(content)) is None:
            file = _parse(folder, content)
            known = _opened[content] = StoreKeys(
                _all_masters(file, *_first_master(folder, file)), file.state != "decrypting"
            )
        return known


def database_keys(folder: Path) -> StoreKeys | None:
    """The keys of the database of the store in `folder`; None where that is plain. Raises as `unlock` does."""
    file = read_key_file(folder)
    if file is None:
        return None
    # Only while it is being converted the database itself has to be looked at.
    if file.state in ("encrypting", "decrypting") and is_plain(folder / DATABASE):
        return None
    return unlock(folder)


def sealer_of(folder: Path) -> Sealer:
    """What seals and opens files under the key of the store in `folder`. Raises as `unlock` does."""
    keys = unlock(folder)
    return PLAIN if keys is None else keys.sealer


def key_lock(folder: Path) -> FileLock:
    """Held by whoever changes the key of a store, and while something is written under it without the store being open."""
    return FileLock(folder / "key.lock", mode=0o600)


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """Held by whoever puts another database in the place of a store's: two at once would undo what the other does.

    SQLite's own lock is not enough, for it is on the file that is replaced.

    Raises:
        StoreBusy: another process holds it.
    """
    try:
        with FileLock(folder / "replace.lock", timeout=REPLACING_SECONDS, mode=0o600):
            yield
    except Timeout as error:
        raise StoreBusy(
            f"another process encrypts, decrypts or restores the store in {folder}; wait for it to end"
        ) from error


def remember(folder: Path, keys: StoreKeys) -> None:
    """Take the keys of a store for opened: they were just made."""
    if (content := _content(folder)) is not None:
        with _lock:
            _opened[content] = keys


def new_slot(master: bytes, passphrase: str | None) -> Mapping[str, Any]:
    """Wrap a key by a passphrase, or put it into the keyring.

    Raises:
        StoreLocked: there is no keyring.
    """
    name = _name_of(master)
    if passphrase is None:
        _keyring("set_password", SERVICE, name, master.hex())
        return {"name": name, "kind": "keyring"}
    salt = secrets.token_bytes(16)
    costs = {"memory": _MEMORY, "passes": _PASSES, "lanes": _LANES}
    wrapped = _wrap(_stretched(prepared(passphrase), salt, costs), master, name)
    return {"name": name, "kind": "passphrase", "salt": salt.hex(), **costs, **wrapped}


def linked(file: KeyFile, masters: Sequence[bytes]) -> KeyFile:
    """The key file with each of its keys wrapped by the others, too."""
    links = [
        {"by": _name_of(one), "name": _name_of(other), **_wrap(one, other, _name_of(other))}
        for one in masters
        for other in masters
        if one != other
    ]
    return replace(file, links=tuple(links))


def forget_slot(slot: Mapping[str, Any]) -> None:
    """Remove a key from the keyring, once nothing needs it any more."""
    if slot["kind"] == "keyring":
        try:
            _keyring("delete_password", SERVICE, slot["name"])
        except StoreLocked:  # it opens nothing now
            return


def _first_master(folder: Path, file: KeyFile) -> tuple[str, bytes]:
    """Any of the keys, from wherever it is. Raises StoreLocked: none can be had."""
    require("encryption", "an encrypted store")
    problem = None
    for slot in file.slots:
        if slot["kind"] == "keyring":
            try:
                found = _keyring("get_password", SERVICE, slot["name"])
            except StoreLocked as error:
                problem = error
                continue
            if found and (master := _master_of(found)) is not None:
                return slot["name"], master
            problem = StoreLocked(
                f"the keyring has no key for the store in {folder}; log in as the user who encrypted it, or restore"
                f" the entry {slot['name']!r} of {SERVICE!r} in the keyring"
            )
    wrapped = [slot for slot in file.slots if slot["kind"] == "passphrase"]
    if wrapped:
        return _opened_by_passphrase(folder, wrapped)
    raise problem or StoreBroken(f"{folder / KEY_FILE} names no key; restore it from a copy")


def _master_of(entry: str) -> bytes | None:
    """The key in an entry of the keyring; None where somebody has written something else there."""
    try:
        master = bytes.fromhex(entry)
    except ValueError:
        return None
    return master if len(master) == 32 else None


def _opened_by_passphrase(folder: Path, slots: Sequence[Mapping[str, Any]]) -> tuple[str, bytes]:
    if given := from_environment(PASSPHRASE):
        if (found := _try(slots, given)) is not None:
            return found
        raise StoreLocked(f"{PASSPHRASE} is not the passphrase of the store in {folder}; set it to the right one")
    if not can_ask():
        raise StoreLocked(
            f"the store in {folder} is encrypted; set {PASSPHRASE}, or run `memlora rekey --keyring` to keep its key in"
            " the system's keyring"
        )
    for tries in range(1, TRIES + 1):
        typed = ask(f"Passphrase of {folder}: ")
        if typed and (found := _try(slots, typed)) is not None:
            return found
        if tries < TRIES:
            print("That is not the passphrase.", file=sys.stderr)
    raise StoreLocked(f"that is not the passphrase of the store in {folder}; try again with the right one")


def _try(slots: Sequence[Mapping[str, Any]], passphrase: str) -> tuple[str, bytes] | None:
    # As it is, too: the keys of earlier versions were made of passphrases that were not prepared.
    for form in dict.fromkeys((prepared(passphrase), passphrase)):
        for slot in slots:
            stretched = _stretched(form, bytes.fromhex(slot["salt"]), slot)
            if (master := _unwrap(stretched, slot)) is not None:
                return slot["name"], master
    return None


def _all_masters(file: KeyFile, name: str, master: bytes) -> tuple[bytes, ...]:
    """All keys of the file in its order, from one of them."""
    known = {name: master}
    for link in file.links:
        if link["by"] == name and (other := _unwrap(master, link)) is not None:
            known[link["name"]] = other
    return tuple(known[slot["name"]] for slot in file.slots if slot["name"] in known)


def _stretched(passphrase: str, salt: bytes, costs: Mapping[str, Any]) -> bytes:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    return Argon2id(
        salt=salt, length=32, iterations=costs["passes"], lanes=costs["lanes"], memory_cost=costs["memory"]
    ).derive(passphrase.encode())


def _wrap(key: bytes, master: bytes, name: str) -> dict[str, str]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(12)
    return {"nonce": nonce.hex(), "wrapped": AESGCM(key).encrypt(nonce, master, name.encode()).hex()}


def _unwrap(key: bytes, said: Mapping[str, Any]) -> bytes | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(bytes.fromhex(said["nonce"]), bytes.fromhex(said["wrapped"]), said["name"].encode())
    except InvalidTag:
        return None


def _name_of(master: bytes) -> str:
    return derived_key(master, "memlora key name")[:8].hex()


def _keyring(action: str, *values: str) -> Any:
    """Call the system's keyring. Raises StoreLocked: there is none, or it is locked."""
    require("encryption", "the keyring")
    import keyring
    import keyring.errors

    try:
        return getattr(keyring, action)(*values)
    except keyring.errors.NoKeyringError as error:
        raise StoreLocked(
            "this system has no keyring that can be used (no Keychain, no Secret Service); use a passphrase instead"
        ) from error
    except Exception as error:  # of any kind: keyrings are made by others, and plugged in
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreLocked(
            f"the system's keyring cannot be used ({reason}); unlock it, or use a passphrase instead"
        ) from error


def _content(folder: Path) -> bytes | None:
    try:
        return (folder / KEY_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreLocked(f"{folder / KEY_FILE} cannot be read ({error.strerror}); check its permissions") from error


def _parse(folder: Path, content: bytes) -> KeyFile:
    try:
        said = json.loads(content)
        slots, links = tuple(said["keys"]), tuple(said["links"])
        for slot in slots:
            _require_slot(slot)
        for link in links:
            _require_wrapped(link)
        if said["format"] != _FORMAT or said["state"] not in get_args(State) or not slots:
            raise ValueError
        return KeyFile(said["state"], slots, links)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreBroken(
            f"{folder / KEY_FILE} is damaged or of a newer memlora; without it the store cannot be opened, so restore it"
            " from a copy"
        ) from error


def _require_slot(slot: Mapping[str, Any]) -> None:
    """Raises ValueError and its like: it is not as `new_slot` makes it, or opening it would take endless time or memory."""
    if slot["kind"] == "keyring":
        slot["name"].encode()
        return
    _require_wrapped(slot)
    memory, passes, lanes = (slot[cost] for cost in ("memory", "passes", "lanes"))
    if slot["kind"] != "passphrase" or len(bytes.fromhex(slot["salt"])) < 8:
        raise ValueError
    if not all(type(cost) is int for cost in (memory, passes, lanes)):
        raise ValueError
    if not (1 <= lanes <= 64 and 8 * lanes <= memory <= _MOST_MEMORY and 1 <= passes <= 1000):
        raise ValueError


def _require_wrapped(said: Mapping[str, Any]) -> None:
    said["name"].encode()
    if len(bytes.fromhex(said["nonce"])) != 12 or len(bytes.fromhex(said["wrapped"])) != 48:
        raise ValueError
