"""Passphrases typed on a terminal: `encrypt`, `rekey` and whatever opens an encrypted store, the app too."""

from __future__ import annotations

import json
import os
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_home import environment
from pseudo_terminal import CTRL_C, CTRL_D, CTRL_Q, PseudoTerminal

from memlora_mlx import Memory
from memlora_mlx.errors import MemloraError
from memlora_mlx.memory.store import keys
from memlora_mlx.memory.store.converting import encrypt_store

pytest.importorskip("sqlcipher3")

Command = Callable[..., tuple[int, str, str]]
WORDS = "grün wie Öl "
OLD, NEW, AGAIN = "Passphrase of ", "New passphrase: ", "The same again: "


@pytest.fixture
def home(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keys, "_MEMORY", 32)
    with Memory() as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
    return tiny_home


@pytest.fixture
def encrypted(home: Path) -> Path:
    encrypt_store(home / "store", WORDS, lambda step: None)
    return home


@pytest.fixture
def environ(home: Path, tiny_student: Path, tiny_embedder: Path) -> dict[str, str]:
    return environment(home, tiny_student, tiny_embedder)


def test_a_new_passphrase_is_typed_twice_alike_and_opens_the_store(home: Path, environ: dict[str, str]) -> None:
    with PseudoTerminal(environ, "encrypt") as terminal:
        terminal.answer(NEW, "")
        terminal.answer(NEW, WORDS)
        terminal.answer(AGAIN, WORDS.upper())
        terminal.answer(NEW, WORDS)
        terminal.answer(AGAIN, WORDS)
        code, said = terminal.end()
    assert code == 0 and "is encrypted" in said and "cannot be empty" in said and "not the same" in said
    assert "wie" not in said and "WIE" not in said  # it is never shown
    with PseudoTerminal(environ, "memory", "list") as terminal:
        terminal.answer(OLD, "wrong")
        # The same to the eye, and other bytes: characters in two parts, and a blank that does not break.
        terminal.answer(OLD, unicodedata.normalize("NFD", WORDS).replace(" ", "\u00a0"))
        code, said = terminal.end()
    assert code == 0 and "Ann likes tea" in said and said.count("That is not the passphrase.") == 1


@pytest.mark.parametrize(
    ("arguments", "dialogue", "code", "line"),
    [
        (["memory", "list"], [(OLD, "x")] * 3, 1, "that is not the passphrase of the store"),
        (["memory", "list"], [(OLD, CTRL_D)], 1, "no passphrase was typed"),
        (["memory", "list"], [(OLD, "grün\n".encode("latin-1"))], 1, "not text in this terminal's encoding"),
        (["rekey"], [(OLD, WORDS), (NEW, CTRL_C)], 130, "Stopped."),
        (["decrypt"], [("[y/N]: ", "y"), (OLD, CTRL_C)], 130, "Stopped."),
        (["chat"], [(OLD, "")] * 3, 1, "that is not the passphrase of the store"),
    ],
    ids=["wrong", "end of input", "not UTF-8", "rekey stopped", "decrypt stopped", "the app"],
)
def test_without_the_passphrase_there_is_one_line_and_nothing_changes(
    encrypted: Path,
    environ: dict[str, str],
    arguments: list[str],
    dialogue: list[tuple[str, str | bytes]],
    code: int,
    line: str,
) -> None:
    files = {path: path.read_bytes() for path in encrypted.rglob("*") if path.is_file() and path.suffix != ".lock"}
    with PseudoTerminal(environ, *arguments) as terminal:
        for question, answer in dialogue:
            terminal.answer(question, answer)
        left, said = terminal.end()
    assert left == code, said
    last = said.splitlines()[-1]
    assert last.startswith("memlora: ") and line in last and "Traceback" not in said and "damaged" not in said
    assert {path: path.read_bytes() for path in files} == files


def test_the_doctor_asks_once_and_goes_on_without(encrypted: Path, environ: dict[str, str]) -> None:
    with PseudoTerminal(environ, "doctor") as terminal:
        for _ in range(3):
            terminal.answer(OLD, "x")
        code, said = terminal.end()
    assert code == 1 and said.count(OLD) == 3 and said.count("PROBLEM") == 1 and "serve:" in said


def test_the_app_opens_after_the_passphrase(encrypted: Path, environ: dict[str, str]) -> None:
    with PseudoTerminal(environ, "chat") as terminal:
        terminal.answer(OLD, WORDS)
        terminal.wait("Write a message")
        terminal.type(CTRL_Q)
        code, said = terminal.end()
    assert code == 0 and "Traceback" not in said and "wie" not in said


def test_no_keyring_no_store_and_no_text_are_one_line(
    home: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keyring = pytest.importorskip("keyring")
    from keyring.backends.fail import Keyring

    before = keyring.get_keyring()
    keyring.set_keyring(Keyring())
    try:
        code, _, err = run_memlora("encrypt", "--keyring")
    finally:
        keyring.set_keyring(before)
    assert code == 1 and err.splitlines()[-1].startswith("memlora: this system has no keyring that can be used")
    monkeypatch.setenv("MEMLORA_PASSPHRASE", os.fsdecode("grün".encode("latin-1")))
    code, _, err = run_memlora("encrypt")
    assert code == 1 and err.startswith("memlora: MEMLORA_PASSPHRASE is not text in UTF-8")
    assert not (home / "store" / "key.json").exists()
    monkeypatch.setenv("MEMLORA_HOME", str(tmp_path / "nothing"))
    for command in ("encrypt", "rekey", "decrypt"):
        code, _, err = run_memlora(command, *(["--yes"] if command == "decrypt" else []))
        assert code == 1 and err.startswith("memlora: no memory store at ")


def test_a_key_of_before_the_passphrase_was_prepared_still_opens(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(keys, "prepared", lambda passphrase: passphrase)
        encrypt_store(home / "store", unicodedata.normalize("NFD", WORDS), lambda step: None)
    keys._opened.clear()
    monkeypatch.setenv("MEMLORA_PASSPHRASE", unicodedata.normalize("NFD", WORDS))
    with Memory() as memory:
        assert [each["memory"] for each in memory.get_all(user_id="ann")["results"]] == ["Ann likes tea"]


def test_a_key_file_of_any_content_is_one_line(encrypted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMLORA_PASSPHRASE", "another")
    path, chance = encrypted / "store" / "key.json", random.Random(3)
    whole = path.read_text()
    values: list[object] = [None, "", "x", -1, 0, 1 << 40, 1.5, [], {}, True, "00" * 7]
    for _ in range(150):
        said = json.loads(whole)
        place = chance.choice([said, said["keys"][0], said["keys"][0]])
        name = chance.choice(list(place))
        if chance.random() < 0.2:
            del place[name]
        else:
            place[name] = chance.choice(values)
        path.write_text(json.dumps(said))
        keys._opened.clear()
        with pytest.raises(MemloraError) as raised:
            keys.unlock(path.parent)
        assert "\n" not in str(raised.value)
