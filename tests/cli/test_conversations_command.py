"""`memlora conversations` and the plain chat that fills them; the chat is killed at any moment and nothing said is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_home import environment, run_command, store_contents
from killing import kill_chats, only_conversation, said_in_chats


@pytest.fixture
def environ(tiny_home: Path, varied_student: Path, tiny_embedder: Path) -> dict[str, str]:
    return environment(tiny_home, varied_student, tiny_embedder, user="zoe")


def listed(environ: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    code, out, err = run_command(environ, "conversations", *(arguments or ("list",)), "--json")
    assert code == 0, err
    found: list[dict[str, Any]] = json.loads(out)
    return found


def test_a_plain_chat_is_kept_found_renamed_exported_and_deleted(
    environ: dict[str, str], tiny_home: Path, tmp_path: Path
) -> None:
    code, _, err = run_command(environ, "chat", said="I moved to Rome.\nMy cat is called Moss.\n")
    assert code == 0, err
    run_command(environ, "chat", said="The lighthouse was closed.\n/new\nAnother thing.\n")
    assert [(one["title"], one["turns"]) for one in listed(environ)] == [
        ("Another thing.", 2),
        ("The lighthouse was closed.", 2),
        ("I moved to Rome.", 4),
    ]
    [found] = listed(environ, "search", "moss")
    assert found["excerpt"] == "My cat is called Moss."
    beginning = found["id"][:8]
    code, out, _ = run_command(environ, "conversations", "rename", beginning, "Card 4111 1111 1111 1111")
    assert code == 0 and "4111" not in out + str(listed(environ)) and "secret removed" in out
    assert run_command(environ, "conversations", "rename", beginning, "Rome and the cat")[0] == 0
    code, out, _ = run_command(environ, "conversations", "list", "--user", "zoe")
    assert code == 0 and "Rome and the cat" in out and "4 messages" in out and beginning in out

    code, out, _ = run_command(environ, "conversations", "show", beginning)
    assert code == 0 and out.startswith("# Rome and the cat") and "My cat is called Moss." in out
    file = tmp_path / "talk.json"
    assert run_command(environ, "conversations", "export", beginning, file)[0] == 0
    shown = json.loads(file.read_text())
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"] * 2
    code, _, err = run_command(environ, "conversations", "export", beginning, file)
    assert code == 2 and "already exists" in err
    code, out, err = run_command(environ, "ingest", file, "--dry-run")
    assert code == 0 and "2 exchanges" in out + err

    before = len(store_contents(tiny_home)["exchanges"])
    backups = tiny_home / "store" / "backups"
    shutil.rmtree(backups, ignore_errors=True)  # as on the next day: then one is made that has the conversation
    code, _, err = run_command(environ, "conversations", "delete", beginning)
    [copy] = backups.glob("*.db")
    assert code == 0 and str(copy) in err and "memlora memory erase" in err
    assert len(store_contents(tiny_home)["exchanges"]) == before, "its memories stay"
    [other] = listed(environ, "search", "lighthouse")
    code, out, err = run_command(environ, "conversations", "delete", other["id"], "--memories")
    assert code == 0 and "deleted" in out, err
    assert "The lighthouse was closed." not in [row[4] for row in store_contents(tiny_home)["messages"]]
    assert [one["title"] for one in listed(environ)] == ["Another thing."]
    code, _, err = run_command(environ, "conversations", "show", beginning)
    assert code == 1 and "memlora conversations list" in err


def test_a_conversation_is_continued_with_what_was_said(environ: dict[str, str], tiny_home: Path) -> None:
    run_command(environ, "chat", said="I moved to Rome.\n")
    [first] = listed(environ)
    code, _, err = run_command(environ, "chat", "--conversation", first["id"][:6], said="And I like it.\n")
    assert code == 0 and "Continues: I moved to Rome. (2 messages)" in err
    [still] = listed(environ)
    assert (still["id"], still["turns"]) == (first["id"], 4)


def test_whatever_moment_the_chat_is_killed_every_line_that_was_sent_is_there(
    environ: dict[str, str], tiny_home: Path
) -> None:
    """Five moments; `make soak` goes on with others."""
    sent = kill_chats(environ, tiny_home, kills=5, seed=19)
    assert said_in_chats(tiny_home) == sent
    [talk] = listed(environ)
    assert talk["turns"] >= len(sent)
    # What could not be remembered any more is remembered at the next start.
    conversation = ["--conversation", only_conversation(tiny_home)]
    assert run_command(environ, "chat", *conversation, said="/memories\n")[0] == 0
    remembered = [row[4] for row in store_contents(tiny_home)["messages"] if row[2] == "user"]
    assert sorted(remembered) == sorted(sent)
