"""Pictures through the command: read in from a conversation, shown in a terminal, gone with their memory."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import pty
import sqlite3
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from cli_home import environment
from PIL import Image as Pixels

from memlora_mlx import Memory
from memlora_mlx.errors import UsageError
from memlora_mlx.memory.chat import Chat
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Image
from memlora_mlx.settings import load_settings

Command = Callable[..., tuple[int, str, str]]


def png(colour: str) -> bytes:
    out = BytesIO()
    Pixels.new("RGB", (40, 20), colour).save(out, "PNG")
    return out.getvalue()


def picture_url(colour: str = "red") -> dict[str, object]:
    address = "data:image/png;base64," + base64.b64encode(png(colour)).decode()
    return {"type": "image_url", "image_url": {"url": address}}


def remember(home: Path) -> str:
    with Memory() as memory:
        content = [{"type": "text", "text": "My new car"}, picture_url()]
        made = memory.add({"role": "user", "content": content}, user_id="sam", infer=False)
        return str(made["results"][0]["id"])


def pictures(home: Path) -> list[Path]:
    return sorted((home / "store" / "images").rglob("*.png"))


def test_a_conversation_brings_its_pictures_and_names_the_ones_it_cannot(
    tiny_home: Path, tmp_path: Path, run_memlora: Command
) -> None:
    talk = tmp_path / "talk"
    talk.mkdir()
    (talk / "boat.png").write_bytes(png("blue"))
    (tmp_path / "secret.png").write_bytes(png("red"))
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in ("boat.png", "../secret.png")]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": f"Look {at}"}, part]} for at, part in enumerate(parts)
    ]
    (talk / "talk.json").write_text(json.dumps(messages))
    code, out, _ = run_memlora("ingest", talk / "talk.json", "--json")
    assert code == 0
    [problem] = json.loads(out)["image_problems"]
    assert problem.startswith("../secret.png lies outside")
    with contextlib.closing(sqlite3.connect(tiny_home / "store" / "memories.db")) as store:
        found = store.execute(
            "SELECT i.source, i.sha256 IS NULL FROM messages m JOIN images i ON i.id = m.image"
        ).fetchall()
    assert sorted(found) == [("../secret.png", 1), ("boat.png", 0)]


def test_showing_a_memory_tells_of_its_picture_and_draws_nothing_into_a_pipe(
    tiny_home: Path, run_memlora: Command
) -> None:
    memory = remember(tiny_home)
    [file] = pictures(tiny_home)
    code, out, _ = run_memlora("memory", "show", memory)
    assert code == 0 and "image  data:" in out and "\x1b" not in out and "▀" not in out
    code, out, _ = run_memlora("memory", "show", memory, "--json")
    assert json.loads(out)["picture"] == str(file) and json.loads(out)["image"]["sha256"] == file.stem
    code, _, err = run_memlora("memory", "delete", memory)
    assert code == 0 and "Its image was erased because no other memory uses it" in err and pictures(tiny_home) == []
    assert run_memlora("memory", "undo")[0] == 0
    assert "(the image was erased)" in run_memlora("memory", "show", memory)[1]


def test_a_terminal_shows_the_picture(tiny_home: Path, tiny_student: Path, tiny_embedder: Path) -> None:
    memory = remember(tiny_home)
    environ = environment(tiny_home, tiny_student, tiny_embedder) | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    shown = seen_in_terminal(environ, "memory", "show", memory)
    assert "\x1b[" in shown and "254;0;0" in shown, "red half-blocks"
    assert "254;0;0" not in seen_in_terminal(environ, "memory", "show", memory, columns=0)
    pictures(tiny_home)[0].with_suffix(".thumb.jpg").write_bytes(b"broken")
    assert "My new car" in seen_in_terminal(environ, "memory", "show", memory)
    assert "\x1b[38" not in seen_in_terminal(environ | {"TERM": "dumb"}, "memory", "show", memory)


def seen_in_terminal(environ: dict[str, str], *arguments: str, columns: int = 100) -> str:
    """What a command writes when its output is a terminal that answers no questions."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [sys.executable, "-m", "memlora_mlx", *arguments]
    with subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as running:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(ours, 65536):
                seen += piece
        assert running.wait(timeout=30) == 0, seen.decode()
    os.close(ours)
    return seen.decode(errors="replace")


@pytest.mark.parametrize("keep", [False, True])
def test_where_a_picture_was_taken_is_kept_only_if_asked(tiny_home: Path, tmp_path: Path, keep: bool) -> None:
    exif = Pixels.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (41.0, 53.0, 24.0)})
    Pixels.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    part = {"type": "image_url", "image_url": {"url": "a.jpg"}}
    with Memory({"keep_location": keep}) as memory:
        memory.add({"role": "user", "content": ["Rome", part]}, user_id="sam", infer=False, images_from=tmp_path)
    [file] = (path for path in (tiny_home / "store" / "images").rglob("*.jpg") if "thumb" not in path.name)
    with Pixels.open(file) as kept:
        assert bool(kept.getexif().get_ifd(0x8825)) == keep


def test_adding_a_picture_that_is_none_remembers_nothing(tiny_home: Path, tmp_path: Path) -> None:
    with Memory() as memory:
        for part, folder in (("data:image/png;base64,AAAA", None), ("../x.png", tmp_path)):
            content = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": part}}]
            with pytest.raises(UsageError):
                memory.add({"role": "user", "content": content}, user_id="sam", infer=False, images_from=folder)
        assert memory.get_all(user_id="sam")["results"] == [] and pictures(tiny_home) == []
        web = {"type": "image_url", "image_url": {"url": "https://example.org/a.jpg"}}
        memory.add({"role": "user", "content": ["A cat", web]}, user_id="sam", infer=False)
        [found] = memory.get_all(user_id="sam")["results"]
        assert found["image"] == {"source": "https://example.org/a.jpg", "caption": None}


def test_a_chat_keeps_what_the_user_attached_and_what_was_said_if_it_cannot(tiny_home: Path, tmp_path: Path) -> None:
    (tmp_path / "car.png").write_bytes(png("red"))
    now = datetime(2024, 1, 1, tzinfo=UTC)
    with Workspace(load_settings()) as opened:
        chat = Chat(opened.pipeline, "sam", limit=3)
        for key, path in (("a", tmp_path / "car.png"), ("b", tmp_path / "gone.png")):
            chat.remember("My car", "Nice!", key=key, said_at=now, image=Image(str(path), "a car"))
        first, second = (opened.store.exchange(key).messages[0].image for key in "ab")
    assert first and first.sha256 and first.caption == "a car"
    assert second == Image(str(tmp_path / "gone.png"), "a car")
