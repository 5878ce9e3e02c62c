"""`memlora ingest`: what is shown before, which part is read, and what happens to what cannot be read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_home import TALK, environment, exchanges_done, run_command, store_contents

from memlora_mlx.cli.ingest_watch import FolderWatcher

Command = Callable[..., tuple[int, str, str]]
CHAT = "13/05/2024, 10:00 - Nora Berg: I moved to Oslo.\n13/05/2024, 10:01 - Ivo: I stayed in Sofia.\n"
CHAT += "14/05/2024, 10:00 - Nora Berg: I bought skis.\n14/05/2024, 10:01 - Ivo: <Media omitted>\n"
BROKEN = [
    {"id": "good", "messages": [{"role": "user", "content": "I ski."}]},
    {"id": "bad", "messages": [{"role": "wizard", "content": "x"}]},
]


def test_a_dry_run_shows_a_table_and_loads_no_model(
    isolated_home: Path, tmp_path: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with zipfile.ZipFile(tmp_path / "WhatsApp Chat - Ivo.zip", "w") as archive:
        archive.writestr("_chat.txt", CHAT)
    code, out, err = run_memlora("ingest", tmp_path / "WhatsApp Chat - Ivo.zip", "--dry-run", "--own-name", "Nora Berg")
    head, first, second, last = out.splitlines()
    assert code == 0 and head.split()[:4] == ["Conversation", "Format", "From", "To"]
    assert first.split()[-6:] == ["transcript", "2024-05-13", "2024-05-14", "me", "2", "2"]
    assert second.split() == ["Ivo", "1", "1"]
    assert last == "1 conversations with 3 messages in 3 exchanges; nothing was stored."
    assert "Left out: media, calls and deleted messages that the export does not hold: 1" in err
    assert not (isolated_home / "store").exists()


def test_a_dry_run_as_json_names_each_owner(isolated_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    (tmp_path / "chat.txt").write_text(CHAT)
    code, out, _ = run_memlora("ingest", tmp_path / "chat.txt", "--dry-run", "--json", "--until", "2024-05-14")
    found = json.loads(out)["conversations"]
    assert code == 0 and [(row["owner"], row["first"], row["last"], row["exchanges"]) for row in found] == [
        ("Nora Berg", "2024-05-13", "2024-05-13", 1),
        ("Ivo", "2024-05-13", "2024-05-13", 1),
    ]


def test_a_broken_conversation_is_named_and_the_rest_is_stored(
    tiny_home: Path, tmp_path: Path, run_memlora: Command
) -> None:
    (tmp_path / "chats.json").write_text(json.dumps(BROKEN))
    code, out, err = run_memlora("ingest", tmp_path / "chats.json")
    assert code == 1 and "1 exchanges read" in out
    assert (
        err
        == f"Not read: {tmp_path / 'chats.json'}: item 2, message 1 has the unknown role 'wizard'; use user, "
        + ("assistant, system or tool\n")
    )
    assert [row[2] for row in store_contents(tiny_home)["exchanges"]] == ["good"]


def test_a_period_reads_whole_exchanges_and_nothing_twice(
    tiny_home: Path, tmp_path: Path, run_memlora: Command
) -> None:
    (tmp_path / "talk.txt").write_text(TALK)
    code, out, _ = run_memlora("ingest", tmp_path / "talk.txt", "--since", "2023-06-01", "--json")
    late = json.loads(out)
    assert code == 0 and late["done"] == late["total"] > 0
    code, out, _ = run_memlora("ingest", tmp_path / "talk.txt", "--json")
    whole = json.loads(out)
    assert (whole["before"], whole["done"]) == (late["done"], whole["total"] - late["done"])


def test_what_has_no_date_is_in_no_period_and_told(isolated_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    (tmp_path / "talk.txt").write_text("Ann: I ski.\nBob: I swim.\nAnn: Good.\n")
    code, _, err = run_memlora("ingest", tmp_path / "talk.txt", "--dry-run", "--since", "2023-06-01")
    assert code == 0 and "exchanges without a date, which are in no period: 3" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--since", "someday"], "Cannot read the day 'someday'"),
        (["--since", "2024-02-01", "--until", "2024-01-01"], "Exchange the two days"),
        (["--date-order", "ydm"], "Choose dmy, mdy or ymd"),
        (["--watch"], "is no folder"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    isolated_home: Path, tmp_path: Path, run_memlora: Command, options: list[str], words: str
) -> None:
    (tmp_path / "chat.txt").write_text(CHAT)
    code, out, err = run_memlora("ingest", tmp_path / "chat.txt", *options)
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1


def test_the_order_of_dates_can_be_given(isolated_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    (tmp_path / "chat.txt").write_text(CHAT.replace("13/05", "03/05").replace("14/05", "03/06"))
    code, _, err = run_memlora("ingest", tmp_path / "chat.txt", "--dry-run")
    assert code == 1 and "--date-order dmy" in err
    code, out, _ = run_memlora("ingest", tmp_path / "chat.txt", "--dry-run", "--json", "--date-order", "mdy")
    assert code == 0 and json.loads(out)["conversations"][0]["first"] == "2024-03-05"


# --watch


def test_a_file_is_given_once_it_has_stopped_changing(tmp_path: Path) -> None:
    watcher = FolderWatcher([tmp_path])
    (tmp_path / "sub").mkdir()
    chat, hidden, other = tmp_path / "sub" / "chat.txt", tmp_path / ".part.txt", tmp_path / "photo.jpg"
    for path in (chat, hidden, other):
        path.write_text(CHAT)
    (tmp_path / "link.txt").symlink_to(chat)
    assert watcher.settled() == []
    chat.write_text(CHAT * 2)  # it is still being written
    assert watcher.settled() == []
    assert watcher.settled() == [chat]
    assert watcher.settled() == []
    os.utime(chat, ns=(1, 1))
    assert watcher.settled() == [] and watcher.settled() == [chat]


def test_a_watched_folder_is_read_and_what_is_bad_in_it_stops_nothing(
    tiny_home: Path, tiny_student: Path, tiny_embedder: Path, tmp_path: Path
) -> None:
    environ = environment(tiny_home, tiny_student, tiny_embedder)
    (tmp_path / "bad.json").write_text("{oops")
    (tmp_path / "talk.txt").write_text(TALK)
    script = "import memlora_mlx.cli.ingest_watch as w; w.INTERVAL = 0.05\nfrom memlora_mlx.cli import main\n"
    script += "import sys; main(['ingest', '--watch', sys.argv[1], '--limit', '2'])"
    watching = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for name, count in (("talk.txt", 2), ("later.txt", 4)):
            (tmp_path / name).write_text(
                TALK if name == "talk.txt" else TALK.replace("Ann", "Eve").replace("Bob", "Udo")
            )
            while exchanges_done(tiny_home) < count and watching.poll() is None:
                time.sleep(0.05)
        while "Not read" not in (watching.stderr.readline() if watching.stderr else "Not read"):
            assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        out, _ = watching.communicate()
    finally:
        watching.kill()
    assert watching.returncode == 0 and "4 exchanges read" in out.splitlines()[-1]
    assert run_command(environ, "ingest", tmp_path / "talk.txt", "--limit", 2)[1].startswith("0 exchanges read")
