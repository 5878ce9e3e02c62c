"""A home for the command: tiny models, a short conversation, the real command in it, and what its store then holds."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TALK = """8 May 2023
Ann: I moved to Rome last week.
Bob: Lovely! I bought a red bicycle.
Ann: The doctor said no to coffee.
Bob: I like tea, seven cups a day.
Ann: My cat is called Moss.
Bob: We went to the market yesterday.

1 June 2023
Ann: I will run in May.
Bob: I sold the bicycle.
Ann: I moved on to Oslo.
Bob: The green apples were good.
Ann: I cancelled the run.
Bob: My doctor is from Oslo.
"""
EXCHANGES = 12  # of TALK: two turns each, once for Ann and once for Bob


def varied_student_folder(folder: Path, *, has_vision: bool = False) -> Path:
    """A student of random weights whose blind decisions add, change and delete, in few signs.

    Most random students write one token for ever: here attention is strong, and so are the tokens that end a text. Words
    are weak, so that its facts are mere signs: words that no exchange says would be dropped.
    """
    from tiny_models import mx, student_folder, tokenizer, vision_student_folder

    vision_student_folder(folder, seed=11) if has_vision else student_folder(folder, seed=5)
    weights = dict(mx.load(str(folder / "model.safetensors")))
    strong = {
        name: 12.0 * matrix for name, matrix in weights.items() if name.endswith(("o_proj.weight", "down_proj.weight"))
    }
    quotes = mx.array([number for token, number in tokenizer().get_vocab().items() if token.startswith('"')])
    signs = {chr(code) for code in range(33, 127) if not chr(code).isalnum()}
    words = mx.array([number for token, number in tokenizer().get_vocab().items() if not set(token) <= signs])
    head = next(name for name in weights if name.endswith("lm_head.weight"))
    weights[head][words] = weights[head][words] * 0.1
    name = "language_model.model.embed_tokens.weight" if has_vision else "model.embed_tokens.weight"
    tokens = weights[name]
    tokens[quotes] = tokens[quotes] * 6.0
    mx.save_safetensors(str(folder / "model.safetensors"), {**weights, **strong, name: tokens})
    return folder


def environment(home: Path, student: Path, embedder: Path, **settings: object) -> dict[str, str]:
    """The process's environment with only these settings of memlora in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEMLORA_")}
    given = {"home": home, "student": student, "embedder": embedder, **settings}
    return kept | {f"MEMLORA_{name.upper()}": str(value) for name, value in given.items()}


def start_command(environ: Mapping[str, str], *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "memlora_mlx", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)


def run_command(environ: Mapping[str, str], *arguments: object, said: str = "", **options: Any) -> tuple[int, str, str]:
    """Its exit code, standard output and standard error."""
    with start_command(environ, *arguments, **options) as process:
        out, err = process.communicate(said, timeout=600)
        return process.returncode, out, err


_WITHOUT_THE_CLOCK = {
    "exchanges": "SELECT x.key, o.user_id, source, position, said_at FROM exchanges x JOIN owners o ON o.id = x.owner",
    "messages": "SELECT x.key, m.position, role, speaker, text, m.said_at, ref FROM messages m"
    " JOIN exchanges x ON x.id = m.exchange ORDER BY x.id, m.position",
    "memories": "SELECT public_id, o.user_id, text, m.said_at, revised_at, changed_at IS NULL, x.key, metadata"
    " FROM memories m JOIN owners o ON o.id = m.owner LEFT JOIN exchanges x ON x.id = m.exchange ORDER BY m.id",
    "history": "SELECT memory_id, event, old_text, new_text, exchange_key, actor FROM history ORDER BY id",
    "sources": "SELECT name, kind, exchanges, finished_at IS NOT NULL FROM sources",
}


def store_contents(home: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that a store holds but for what the clock said."""
    connection = sqlite3.connect(home / "store" / "memories.db")
    try:
        return {name: connection.execute(query).fetchall() for name, query in _WITHOUT_THE_CLOCK.items()}
    finally:
        connection.close()


def dump_store(home: Path) -> list[str]:
    """Every byte of meaning in a store, the clock's too."""
    connection = sqlite3.connect(home / "store" / "memories.db")
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def exchanges_done(home: Path) -> int:
    """How far an ingest is that may be running now."""
    if not (home / "store" / "memories.db").exists():  # to open it would make it
        return 0
    try:
        return len(store_contents(home)["exchanges"])
    except sqlite3.OperationalError:  # it has not made its tables yet
        return 0
