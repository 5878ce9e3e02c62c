"""`memlora ask` with eyes: about a picture, about a memory's picture, and one line for what cannot be looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from image_files import BAD, ODD, encoded
from PIL import Image as Pixels

from memlora_mlx import Memory

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def seeing_home(tiny_home: Path, tiny_vision_student: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMLORA_STUDENT", str(tiny_vision_student))
    return tiny_home


@pytest.fixture
def car(tmp_path: Path) -> Path:
    (tmp_path / "car.png").write_bytes(encoded(Pixels.new("RGB", (60, 30), "red")))
    return tmp_path / "car.png"


def test_a_question_about_a_picture_needs_no_memories(seeing_home: Path, car: Path, run_memlora: Command) -> None:
    code, out, err = run_memlora("ask", "What colour is the car?", "--image", car)
    word, reason = out.splitlines()
    assert (code, err) == (0, "") and word and " " not in word and reason
    code, out, _ = run_memlora("ask", "What colour is the car?", "--image", car, "--json")
    told = json.loads(out)
    assert told["answer"] == told["look"]["answer"] == word and told["look"]["reason"] == reason
    assert told["look"]["picture"] == "car.png" and told["look"]["memory"] is None and told["memories"] == []
    assert not (seeing_home / "store").exists()


def test_a_question_about_a_picture_takes_no_embedder(
    seeing_home: Path, car: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMLORA_EMBEDDER")  # and none is on this disk
    assert run_memlora("ask", "What colour is the car?", "--image", car)[0] == 0
    code, _, err = run_memlora("ask", "What colour is the car?")
    assert code != 0 and "memlora models pull all-minilm-l6-v2" in err


def test_a_question_about_a_memory_looks_at_its_picture_and_says_so(
    seeing_home: Path, car: Path, run_memlora: Command
) -> None:
    content = [
        {"type": "text", "text": "Sam sent me his new car"},
        {"type": "image_url", "image_url": {"url": car.name}},
    ]
    with Memory() as memory:
        made = memory.add({"role": "user", "content": content}, user_id="me", infer=False, images_from=car.parent)
    name = made["results"][0]["id"]
    code, out, _ = run_memlora("ask", "What colour was the car Sam sent me?")
    assert code == 0 and f"Looked at car.png of {name[:8]}: " in out and "From 1 memories" in out
    look = json.loads(run_memlora("ask", "What colour was the car Sam sent me?", "--json")[1])["look"]
    assert look["memory"] == name and look["picture"] == "car.png" and look["answer"]


@pytest.mark.parametrize(("data", "says"), BAD)
def test_what_is_no_picture_is_one_line(
    seeing_home: Path, tmp_path: Path, run_memlora: Command, data: bytes, says: str
) -> None:
    (tmp_path / "bad.png").write_bytes(data)
    code, out, err = run_memlora("ask", "What is it?", "--image", tmp_path / "bad.png")
    assert code == 2 and out == "" and says in err and err.count("\n") == 1


def test_paths_that_are_no_pictures_are_one_line(seeing_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.png", "there is no picture"),
        ("https://example.org/cat.jpg", "web address; nothing is fetched"),
    ):
        code, out, err = run_memlora("ask", "What is it?", "--image", path)
        assert code == 2 and out == "" and says in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_looked_at(seeing_home: Path, tmp_path: Path, run_memlora: Command, name: str) -> None:
    (tmp_path / name).write_bytes(ODD[name])
    code, out, _ = run_memlora("ask", "What is it?", "--image", tmp_path / name, "--json")
    assert code == 0 and json.loads(out)["look"]["picture"] == name


def test_a_rotated_photograph_is_seen_upright_and_a_link_that_the_user_names_is_followed(
    seeing_home: Path, tmp_path: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memlora_mlx.models.vision_adapters import InternVLAdapter

    seen: list[tuple[int, int]] = []
    real = InternVLAdapter.features
    monkeypatch.setattr(
        InternVLAdapter, "features", lambda self, pixels: seen.append(pixels.size) or real(self, pixels)
    )
    (tmp_path / "turned.jpg").write_bytes(ODD["turned.jpg"])
    (tmp_path / "link.jpg").symlink_to(tmp_path / "turned.jpg")
    for name in ("turned.jpg", "link.jpg"):
        assert run_memlora("ask", "What is it?", "--image", tmp_path / name)[0] == 0
    assert seen == [(40, 80), (40, 80)]


def test_a_text_student_is_told_in_one_line_which_student_sees(
    tiny_home: Path, car: Path, run_memlora: Command
) -> None:
    code, out, err = run_memlora("ask", "What is it?", "--image", car)
    assert code == 1 and out == "" and err.count("\n") == 1
    assert "reads text only; `memlora models pull internvl3-1b`" in err
