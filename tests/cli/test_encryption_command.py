"""`memlora encrypt`, `decrypt` and `rekey`, and how the other commands find the key."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memlora_mlx import Memory
from memlora_mlx.memory.store import keys

pytest.importorskip("sqlcipher3")
keyring = pytest.importorskip("keyring")
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError

Command = Callable[..., tuple[int, str, str]]


class Entries(KeyringBackend):
    """A keyring in this process."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise KeyringLocked("it is locked")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop((service, username), None) is None:
            raise PasswordDeleteError("not there")


@pytest.fixture
def entries() -> Iterator[Entries]:
    before, made = keyring.get_keyring(), Entries()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


@pytest.fixture
def home(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keys, "_MEMORY", 32)
    with Memory() as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
    return tiny_home


@pytest.fixture
def run(run_memlora: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, as a process that was told a passphrase or none."""

    def command(*arguments: object, passphrase: str = "", new: str = "") -> tuple[int, str, str]:
        keys._opened.clear()
        monkeypatch.setenv("MEMLORA_PASSPHRASE", passphrase)
        monkeypatch.setenv("MEMLORA_NEW_PASSPHRASE", new)
        return run_memlora(*arguments)

    return command


def texts(output: str) -> list[str]:
    return [row["memory"] for row in json.loads(output)]


def test_with_a_passphrase(home: Path, run: Command) -> None:
    (home / "chat-history").write_text("what I typed\n")
    code, _, err = run("encrypt")
    assert code == 2 and "Set MEMLORA_PASSPHRASE, or use --keyring" in err
    code, out, _ = run("encrypt", passphrase="one")
    assert code == 0 and str(home / "chat-history") in out and (home / "chat-history").exists()
    code, out, _ = run("doctor", passphrase="one")
    assert code == 1 and "SQLCipher" in out and "AES-256-GCM" in out and "Left from before" in out
    (home / "chat-history").unlink()
    code, out, _ = run("doctor", passphrase="one")
    assert code == 0 and "PROBLEM" not in out
    for wrong, says in (("", "the store in"), ("two", "MEMLORA_PASSPHRASE is not the passphrase of the store")):
        code, out, err = run("memory", "list", passphrase=wrong)
        assert code == 1 and out == "" and err.count("\n") == 1 and err.startswith(f"memlora: {says}")
    assert run("rekey", passphrase="one")[0] == 2  # no new one
    assert run("rekey", passphrase="one", new="two")[0] == 0
    assert texts(run("memory", "list", "--json", passphrase="two")[1]) == ["Ann likes tea"]
    assert run("memory", "list", passphrase="one")[0] == 1
    code, _, err = run("decrypt", passphrase="two")
    assert code == 2 and "Use --yes" in err
    assert run("decrypt", "--yes", passphrase="two")[0] == 0
    assert texts(run("memory", "list", "--json")[1]) == ["Ann likes tea"]
    code, _, err = run("decrypt", "--yes")
    assert code == 2 and "`memlora encrypt` encrypts it" in err


def test_what_is_left_is_removed_on_a_yes(home: Path, run: Command) -> None:
    (home / "chat-history").write_text("what I typed\n")
    export = home / "mine.jsonl"
    assert run("memory", "export", export)[0] == 0
    code, out, _ = run("encrypt", "--yes", passphrase="one")
    assert code == 0 and "Removed 1 files" in out and not (home / "chat-history").exists()
    assert export.exists() and f"yours to keep or remove:\n  {export}" in out


def test_with_the_keyring(home: Path, run: Command, entries: Entries) -> None:
    assert run("encrypt", "--keyring")[0] == 0
    assert len(entries.entries) == 1
    assert all(value not in (home / "store" / "key.json").read_text() for value in entries.entries.values())
    assert texts(run("memory", "list", "--json")[1]) == ["Ann likes tea"]
    entries.is_locked = True
    code, _, err = run("memory", "list")
    assert code == 1 and "keyring cannot be used (it is locked)" in err and err.count("\n") == 1
    entries.is_locked = False
    first = set(entries.entries)
    assert run("rekey", "--keyring")[0] == 0
    assert len(entries.entries) == 1 and set(entries.entries) != first
    assert run("rekey", new="words")[0] == 0
    assert entries.entries == {}
    assert texts(run("memory", "list", "--json", passphrase="words")[1]) == ["Ann likes tea"]
    assert run("rekey", "--keyring", passphrase="words")[0] == 0
    kept = dict(entries.entries)
    entries.entries.clear()
    code, _, err = run("memory", "list")
    assert code == 1 and "the keyring has no key for the store" in err
    entries.entries |= kept
    assert run("decrypt", "--yes")[0] == 0 and entries.entries == {}


def test_corrections_are_not_kept_beside_an_encrypted_store(home: Path, run: Command) -> None:
    assert run("encrypt", passphrase="one")[0] == 0
    [memory] = json.loads(run("memory", "list", "--json", passphrase="one")[1])
    assert run("memory", "edit", memory["id"], "Ann likes rhubarb", passphrase="one")[0] == 0
    assert not [path for path in home.rglob("*") if path.is_file() and b"rhubarb" in path.read_bytes()]


def test_the_keyring_forgets_a_key_when_the_disk_knows_that_nothing_needs_it(
    home: Path, run: Command, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power must not bring back a key file whose key is gone."""
    folder, flushed, delete = home / "store", [], entries.delete_password
    assert run("encrypt", "--keyring")[0] == 0

    def flush(handle: int) -> None:
        if os.fstat(handle).st_ino == folder.stat().st_ino:
            flushed.append((folder / "key.json").exists())

    def forget(service: str, username: str) -> None:
        assert flushed[-1] is False
        delete(service, username)

    monkeypatch.setattr("memlora_mlx.files.flush_to_disk", flush)
    monkeypatch.setattr(entries, "delete_password", forget)
    code, _, err = run("decrypt", "--yes")
    assert code == 0 and entries.entries == {}, err
