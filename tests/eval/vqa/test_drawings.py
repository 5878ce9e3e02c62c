"""The drawings: what is asked is what is drawn, the same for the same seed, and no image stands in two splits."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memlora_mlx.distill.examples import read_examples
from memlora_mlx.distill.vqa_dataset import KINDS, answer_word, majority_baseline_scores, question_kind
from memlora_mlx.errors import UsageError
from memlora_mlx.eval.vqa import drawings

SOME = 20


def near(image: NDArray[np.uint8], colour: str, tolerance: int = 40) -> NDArray[np.bool_]:
    distance = np.abs(image.astype(int) - np.array(drawings.COLOURS[colour])).sum(axis=-1)
    return np.asarray(distance < tolerance)


def pieces(mask: NDArray[np.bool_], least: int = 20) -> int:
    """Connected pieces of at least so many pixels, four neighbours each."""
    left, found = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}, 0
    while left:
        stack, size = [left.pop()], 0
        while stack:
            y, x = stack.pop()
            size += 1
            for place in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if place in left:
                    left.remove(place)
                    stack.append(place)
        found += size >= least
    return found


def test_the_answers_are_what_the_pixels_show() -> None:
    for scene in drawings.benchmark_scenes(SOME, seed=3):
        image = np.asarray(drawings.draw(scene))
        answers = {kind: answer for kind, _, answer, _ in drawings.scene_questions(scene)}
        assert set(answers) == set(KINDS)
        assert str(pieces(near(image, scene.group[0].colour))) == answers["count"], scene
        part = near(image, answers["colour"])
        assert pieces(part) == 1, scene  # the small part alone has its colour
        assert 20 < part.sum() < 600, "a small portion"
        size = drawings.IMAGE_PIXELS // drawings.CELLS
        y, x = np.argwhere(part).mean(axis=0)
        assert int(y // size) * drawings.CELLS + int(x // size) == scene.odd.cell
        inked = (image.max(axis=-1) < 60).sum()
        assert (inked > 30) == (answers["unusual"] != "plain"), scene


def test_the_reasons_and_answers_agree_with_the_record() -> None:
    for scene in drawings.benchmark_scenes(SOME):
        for kind, question, answer, reason in drawings.scene_questions(scene):
            assert len(answer.split()) == 1
            assert answer in reason or (kind, answer) in (("unusual", "plain"), ("count", "1"))
            if kind == "colour":
                assert (answer, scene.part in question) == (scene.part_colour, True)
            if kind == "count":
                assert int(answer) == len(scene.group) and all(one.shape == scene.counted for one in scene.group)
                assert scene.counted not in {one.shape for one in scene.others}
        assert scene.group[0].colour not in {one.colour for one in (*scene.others, scene.odd)} | {scene.part_colour}
        assert scene.part_colour not in {one.colour for one in (*scene.others, scene.odd)}


def test_the_same_seed_gives_the_same_benchmark(tmp_path: Path) -> None:
    one, two = (drawings.build(tmp_path / name, count=10, seed=7) for name in "ab")
    assert one == two
    assert (tmp_path / "a" / "rows.jsonl").read_bytes() == (tmp_path / "b" / "rows.jsonl").read_bytes()
    assert drawings.scenes_digest(10, 8) != one["scenes_sha256"]
    assert drawings.build(tmp_path / "a", count=10, seed=8)["seed"] == 8, "its own folder is written anew"
    assert len(list((tmp_path / "a" / "images").iterdir())) == 10


def test_the_scenes_of_this_version_do_not_change() -> None:
    """A change of scenes is a new VERSION: figures of the two would not be comparable."""
    assert (drawings.VERSION, drawings.scenes_digest()[:16]) == (1, "f6c2227bef1a4a38")


def test_no_image_or_scene_stands_in_two_splits(tmp_path: Path) -> None:
    manifest = drawings.build(tmp_path, count=30)
    rows = list(read_examples(tmp_path / "rows.jsonl"))
    assert len(rows) == 90 and Counter(map(question_kind, rows)) == dict.fromkeys(KINDS, 30)
    split_of: dict[str, set[str]] = {}
    for row in rows:
        assert row.image
        split_of.setdefault(row.image, set()).add(row.split)
    assert all(len(splits) == 1 for splits in split_of.values()) and len(split_of) == 30
    for entry in manifest["images"]:
        data = (tmp_path / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"] and {entry["split"]} == split_of[entry["file"]]
    drawn = {json.dumps({**entry["scene"], "number": 0, "split": ""}) for entry in manifest["images"]}
    assert len(drawn) == 30
    assert manifest["rows"]["sha256"] == hashlib.sha256((tmp_path / "rows.jsonl").read_bytes()).hexdigest()
    assert Counter(entry["split"] for entry in manifest["images"]) == {"train": 18, "validation": 6, "test": 6}


def test_guessing_blindly_gets_no_further_than_chance() -> None:
    rows = [
        row for scene in drawings.benchmark_scenes() for row in drawings.rows_of(scene, f"images/{scene.number}.png")
    ]
    table = majority_baseline_scores(rows)
    for kind, answers in (("unusual", 4), ("colour", 8), ("count", 8)):
        told = table["test"][kind]
        asked = [row for row in rows if question_kind(row) == kind and row.split == "test"]
        assert told["questions"] == len(asked) == 60
        assert told["right"] <= 1 / answers + 0.15
        assert len({answer_word(row) for row in asked}) == answers


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds no benchmark"):
        drawings.build(tmp_path, count=5)
    assert (tmp_path / "letter.txt").read_text() == "dear"
    (other := tmp_path / "other").mkdir()
    (other / "manifest.json").write_text('{"benchmark": "locomo"}')
    with pytest.raises(UsageError, match="another benchmark"):
        drawings.build(other, count=5)
    (file := tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        drawings.build(file / "below", count=5)
