"""The drawings student: taught on other scenes and in other words than the benchmark's, and made anew to the same weights."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from memlora_mlx.distill.vqa_dataset import answer_word
from memlora_mlx.eval.vqa import drawings, drawings_lessons, drawings_parts
from memlora_mlx.eval.vqa import drawings_student as made
from memlora_mlx.eval.vqa.drawings_lessons import CellImages, make_example, scene_key, small, training_scenes
from memlora_mlx.memory import stages
from memlora_mlx.models import downloads
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.safetensors_files import load_arrays

import mlx.core as mx  # isort: skip

SHEETS = 200


@pytest.fixture(scope="module")
def cells() -> CellImages:
    return CellImages(SHEETS)


def test_no_scene_and_no_picture_is_the_benchmarks(cells: CellImages) -> None:
    asked = {scene_key(scene) for scene in drawings.benchmark_scenes()}
    taught = [scene for block in range(40) for scene in training_scenes(25, block)]
    assert len(taught) == 1000 and not asked & {scene_key(scene) for scene in taught}
    pictures = [picture for scene in taught if (picture := cells.picture(scene, Random(1))) is not None]
    assert len(pictures) > 20
    of_benchmark = np.stack([small(drawings.draw(scene)) for scene in drawings.benchmark_scenes()]).reshape(
        drawings.COUNT, -1
    )
    for picture in pictures:
        difference = np.abs(of_benchmark.astype(np.int16) - picture.reshape(-1)).max(axis=1)
        assert difference.min() > 100, "somewhere it is quite another colour"


def test_a_scene_of_the_benchmark_would_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings_lessons, "FIRST_SEED", 0)
    assert len(training_scenes(drawings.COUNT, 0)) == 0, "it is the default benchmark itself"


def test_a_picture_shows_its_scene(cells: CellImages) -> None:
    """Cell by cell it looks as the scene drawn whole, but for size and place within the cell."""
    for scene in training_scenes(60, 3):
        if (picture := cells.picture(scene, Random(2))) is None:
            continue
        whole = small(drawings.draw(scene))
        for cell in range(drawings.CELLS**2):
            one, two = (drawings_lessons._cell(each, cell).reshape(-1, 3).astype(int) for each in (picture, whole))
            background = np.array(drawings.BACKGROUNDS[scene.background])
            inked = [(np.abs(each - background).sum(axis=1) > 60).mean() for each in (one, two)]
            assert (inked[0] > 0.02) == (inked[1] > 0.02)


def test_the_lessons_have_other_words_than_the_benchmark() -> None:
    random = Random(0)
    taught = [make_example(scene, random, at % 2 == 0) for at, scene in enumerate(training_scenes(1500, 5))]
    prompt = stages.visual_question_chat("")[0][1].rpartition("Question:")[0].strip()
    asked = [about for scene in drawings.benchmark_scenes(60) for about in drawings.scene_questions(scene)]
    said = "\n".join(f"{one.question}\n{one.answer}" for one in taught)
    assert prompt not in said and "one word, then say why" not in said
    assert not any(f'"{name}":' in said for name in ("answer", "reason"))
    for _, question, _, reason in asked:
        assert question not in said and reason not in said
    random = Random(1)
    for scene in training_scenes(200, 6):  # what is said is what the scene holds
        question, answer = drawings_lessons._of_part(scene, random)
        assert answer == scene.part_colour and scene.part in question
        question, answer = drawings_lessons._of_pattern(scene, random)
        assert answer == scene.pattern
        question, answer = drawings_lessons._digit(scene, random)
        assert answer == str(len(scene.group)) and scene.counted in question


def test_the_tower_reads_pictures_as_a_student_does(tmp_path: Path) -> None:
    built = drawings_parts.model(1)
    drawings_parts.write_model(built, drawings_parts.tokenizer(), tmp_path)
    student = load_student(tmp_path)
    assert student.has_vision
    scene = drawings.benchmark_scenes()[0]
    drawings.draw(scene).save(tmp_path / "scene.png")
    prompt = student.encode((("user", "Describe the drawing."),), tmp_path / "scene.png")
    assert [drawings_parts.CONTEXT if token < 0 else token for token in prompt] == made.ExampleEncoder(
        drawings_parts.tokenizer()
    ).prompt("Describe the drawing.")
    shown = np.array(student.features_at(np.array([prompt], np.int32)))[0, np.array(prompt) < 0]
    pictures = drawings_parts.normalise_pixels([small(Image.open(tmp_path / "scene.png").convert("RGB"))])
    features = np.array(drawings_parts.project_features(built, drawings_parts.vision_states(built, pictures)))[0]
    assert np.abs(shown - features).max() / np.abs(features).max() < 0.01  # 16 bits


def test_schooling_goes_on_to_the_same_weights_and_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "SAVED_EVERY", 2)
    monkeypatch.setattr(made, "CELL_BATCH_SIZE", 96)
    plan = made.DrawingsTrainingConfig(looking=4, steps=4, pictures=64, lessons=1, sheets=SHEETS)
    made.train_drawings_student(tmp_path / "whole", plan)
    log = (tmp_path / "whole" / "training.log").read_text()
    assert log.count("looking: step") == 2 and log.count("lessons: step") == 2

    class Stopped(Exception):
        pass

    def stop(school: made.DrawingsTrainer, line: str) -> None:
        if line.startswith("lessons: step 2"):
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(made.DrawingsTrainer, "_say", stop)
        with pytest.raises(Stopped):
            made.train_drawings_student(tmp_path / "parts", plan)
    made.train_drawings_student(tmp_path / "parts", plan)
    whole, parts = (load_arrays(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(bool(mx.array_equal(whole[name], parts[name])) for name in whole)


# The one that is shipped


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return downloads.pull("drawings", tmp_path_factory.mktemp("models"))


def test_it_comes_with_the_package_and_is_never_chosen_by_default(shipped: Path) -> None:
    assert downloads.resolve("drawings", shipped.parent) == shipped
    assert downloads.default_student(shipped.parent) is None
    assert (shipped / "model.safetensors").stat().st_size < 4_000_000


def test_it_sees_what_is_drawn(shipped: Path, tmp_path: Path) -> None:
    """Of some test scenes it tells the odd thing far better than by chance, in its own way of answering."""
    student = load_student(shipped)
    right = 0
    some = [scene for scene in drawings.benchmark_scenes() if scene.split == "validation"][:12]
    for scene in some:
        path = tmp_path / f"{scene.number}.png"
        drawings.draw(scene).save(path)
        tokens = student.encode((("user", "Which odd thing is shown?"),), path)
        said = student.tokenize(f"{scene.odd.shape}")
        token = int(mx.argmax(student.logits(student.hidden(mx.array([tokens]), None)[0, -1])).item())
        right += token == said[0]
        assert answer_word(drawings.rows_of(scene, path.name)[0]) == scene.pattern
    assert right >= 6  # of 12; by chance 2.4
