"""A vision student in miniature, made here on a CPU: InternVL's architecture, and no other world than that of the drawings.

    python -m memlora_mlx.eval.vqa.drawings_student FOLDER [--steps N] [--seed N]

It is trained from nothing in two parts: the image tower on what is in each cell of a picture (its head for that is thrown
away), then the language model on the lessons of `drawings_lessons`. What comes out is a model folder like any other. It is made to
run the whole circle of the VQA benchmark on machines without a hub; it is of no other use, and figures of it say nothing
about photographs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memlora_mlx.eval.vqa import drawings_lessons
from memlora_mlx.eval.vqa.drawings import (
    BACKGROUNDS,
    CELLS,
    COLOURS,
    MAX_COUNT,
    OBJECTS_WITH_PARTS,
    PATTERNS,
    SHAPES,
    Scene,
)
from memlora_mlx.eval.vqa.drawings_lessons import CellImages, DrawingsExample, make_example
from memlora_mlx.eval.vqa.drawings_parts import (
    CONTEXT,
    END,
    LANGUAGE,
    model,
    normalise_pixels,
    project_features,
    tokenizer,
    vision_states,
    write_model,
)
from memlora_mlx.files import atomic_paths
from memlora_mlx.models import cpu_kernels
from memlora_mlx.models.safetensors_files import load_arrays_and_words

import mlx.core as mx  # isort: skip  (memlora_mlx.models prepares it)
import mlx.nn as nn  # isort: skip
import mlx.optimizers as optim  # isort: skip
from mlx.utils import tree_flatten, tree_unflatten  # isort: skip

CELL_BATCH_SIZE = 64  # pictures a step of the image tower's own
SAVED_EVERY = 50  # steps
MIN_VARIANCE_SHARE = 0.3  # of a feature's variance: below, it is noise
Loss = Callable[..., mx.array]


@dataclass(frozen=True, slots=True)
class DrawingsTrainingConfig:
    """How it is trained."""

    looking: int = 500  # steps of the image tower
    steps: int = 700  # of the language model
    pictures: int = 32  # a step
    lessons: int = 2  # a picture
    rate: float = 2e-3  # peak learning rate
    sheets: int = drawings_lessons.ALL_ODD
    seed: int = 0


# ------------------------------------------------------------------------------------------------ looking


def labels(scene: Scene) -> NDArray[np.int32]:
    """What is in each cell, four numbers: thing, colour, colour of its part, pattern; 0 for none. (16, 4)."""
    found = np.zeros((CELLS**2, 4), np.int32)
    colours = {name: at for at, name in enumerate(COLOURS, 1)}
    for one in (*scene.group, *scene.others):
        found[one.cell, :2] = 1 + SHAPES.index(one.shape), colours[one.colour]
    thing, pattern = (
        1 + len(SHAPES) + list(OBJECTS_WITH_PARTS).index(scene.odd.shape),
        1 + PATTERNS.index(scene.pattern),
    )
    found[scene.odd.cell] = thing, colours[scene.odd.colour], colours[scene.part_colour], pattern
    return found


ANSWERS = (1 + len(SHAPES) + len(OBJECTS_WITH_PARTS), 1 + len(COLOURS), 1 + len(COLOURS), 1 + len(PATTERNS))


class CellClassifier(nn.Module):
    """The image tower with a head that says what is in each cell."""

    def __init__(self, built: nn.Module) -> None:
        super().__init__()
        self.vision_model, self.mlp1 = built.vision_model, built.mlp1
        self.head = nn.Linear(LANGUAGE["hidden_size"], sum(ANSWERS))

    def loss(self, pictures: mx.array, told: mx.array) -> mx.array:
        return _cell_loss(self.head(project_features(self, vision_states(self, pictures))), told, ANSWERS)


def _cell_loss(logits: mx.array, told: mx.array, sizes: Sequence[int]) -> mx.array:
    """Cross-entropy of several answers given at once: logits (..., sum of sizes), told (..., number of sizes)."""
    parts = mx.split(logits, np.cumsum(sizes)[:-1].tolist(), axis=-1)
    return sum(nn.losses.cross_entropy(part, told[..., i]).mean() for i, part in enumerate(parts))


# ------------------------------------------------------------------------------------------------ lessons


@dataclass(frozen=True, slots=True)
class DrawingsBatch:
    """One step's pictures and lessons as arrays. `places` point into sequences * time."""

    pictures: mx.array  # (pictures, PIXELS, PIXELS, 3)
    tokens: mx.array  # (pictures * lessons, time); a picture's lessons lie together
    places: mx.array
    targets: mx.array


class ExampleEncoder:
    """Makes lessons into arrays."""

    def __init__(self, words: Tokenizer) -> None:
        self._words = words
        image = "<img>" + "<IMG_CONTEXT>" * CELLS**2 + "</img>\n"
        self._before = words.encode(f"<|im_start|>user\n{image}").ids
        self._after = words.encode("<|im_end|>\n<|im_start|>assistant\n").ids

    def prompt(self, question: str) -> list[int]:
        return [*self._before, *self._words.encode(question, add_special_tokens=False).ids, *self._after]

    def encode(self, pictures: Sequence[drawings_lessons.Pixels], taught: Sequence[DrawingsExample]) -> DrawingsBatch:
        rows = [(self.prompt(one.question), [*self._words.encode(one.answer).ids, END]) for one in taught]
        width = -(-max(len(a) + len(b) - 1 for a, b in rows) // 8) * 8
        tokens = np.zeros((len(rows), width), np.int32)
        places: list[int] = []
        targets: list[int] = []
        for at, (prompt, answer) in enumerate(rows):
            whole = [*prompt, *answer[:-1]]
            tokens[at, : len(whole)] = whole
            places += range(at * width + len(prompt) - 1, at * width + len(whole))
            targets += answer
        return DrawingsBatch(normalise_pixels(pictures), mx.array(tokens), mx.array(places), mx.array(targets))


def record(scene: Scene) -> list[int]:
    """The whole scene: odd thing, its colour, its part's, its pattern, background, counted shape, its colour, how many."""
    colours, odd = list(COLOURS), list(OBJECTS_WITH_PARTS).index(scene.odd.shape)
    body, part, of_group = (colours.index(one) for one in (scene.odd.colour, scene.part_colour, scene.group[0].colour))
    ground, counted = list(BACKGROUNDS).index(scene.background), SHAPES.index(scene.counted)
    return [odd, body, part, PATTERNS.index(scene.pattern), ground, counted, of_group, len(scene.group) - 1]


_COLOURS = len(COLOURS)
RECORD = (
    len(OBJECTS_WITH_PARTS),
    _COLOURS,
    _COLOURS,
    len(PATTERNS),
    len(BACKGROUNDS),
    len(SHAPES),
    _COLOURS,
    MAX_COUNT,
)


class DescriptionModel(nn.Module):
    """The language model, with a head that says right behind the image what the whole scene is.

    Without it the model takes long to find out that the image is what the questions are about.
    """

    def __init__(self, built: nn.Module) -> None:
        super().__init__()
        self.language_model = built.language_model
        self.head = nn.Linear(LANGUAGE["hidden_size"], sum(RECORD))

    def loss(
        self, features: mx.array, told: mx.array, tokens: mx.array, places: mx.array, targets: mx.array
    ) -> mx.array:
        """Mean cross-entropy of the answers' tokens, and that of the scenes.

        Args:
            features: of the pictures; `tokens` has several rows for each.
        """
        several, start = tokens.shape[0] // features.shape[0], _image_start(tokens)
        shown = mx.repeat(features, several, axis=0)
        words = self.language_model.model.embed_tokens(tokens)
        words = mx.concatenate([words[:, :start], shown, words[:, start + CELLS**2 :]], axis=1)
        hidden = self.language_model.model(None, inputs_embeds=words)
        logits = self.language_model.model.embed_tokens.as_linear(hidden.reshape(-1, hidden.shape[-1])[places])
        scenes = _cell_loss(self.head(hidden[:, start + CELLS**2]), mx.repeat(told, several, axis=0), RECORD)
        return nn.losses.cross_entropy(logits, targets).mean() + 0.2 * scenes


def _image_start(tokens: mx.array) -> int:
    return int(np.argmax(np.asarray(tokens[0]) == CONTEXT))


# ------------------------------------------------------------------------------------------------ schooling


class DrawingsTrainer:
    """Trains a student in its folder: training.log says how it goes, and school/ is what a stop leaves."""

    def __init__(self, plan: DrawingsTrainingConfig, words: Tokenizer, folder: Path) -> None:
        self.plan, self._folder, self._desk = plan, folder, ExampleEncoder(words)
        began = time.perf_counter()
        self._cells = CellImages(plan.sheets, plan.seed)
        self._say(f"{plan.sheets} sheets drawn in {time.perf_counter() - began:.0f} s")

    def train(self, built: nn.Module) -> None:
        looking, plan = CellClassifier(built), self.plan
        self._steps("looking", looking, looking.loss, self._pictures, plan.looking)
        self._even(built)
        lessons = DescriptionModel(built)
        self._steps("lessons", lessons, lessons.loss, partial(self._class, built), plan.steps)

    def _even(self, built: nn.Module) -> None:
        """Make all that features tell equally loud, and as loud as words.

        Out of the tower whether a cell is empty is a thousand times as loud as its pattern, which the language model would
        not hear.
        """
        _, pictures = self.shown(4 * CELL_BATCH_SIZE, 0, Random("memlora drawings"))
        with cpu_kernels.without_gradients():
            features = project_features(built, vision_states(built, normalise_pixels(pictures)))
        found = np.array(features, np.float64).reshape(-1, features.shape[-1])
        middle = found.mean(axis=0)
        values, directions = np.linalg.eigh(np.cov(found.T))
        words = np.array(built.language_model.model.embed_tokens.weight)
        turn = directions / np.sqrt(np.maximum(values, 0) + MIN_VARIANCE_SHARE)
        turn *= np.sqrt((words**2).mean() / (((found - middle) @ turn) ** 2).mean())
        last = built.mlp1[-1]
        weight, bias = np.array(last.weight, np.float64), np.array(last.bias, np.float64)
        last.weight = mx.array((turn.T @ weight).astype(np.float32))
        last.bias = mx.array(((bias - middle) @ turn).astype(np.float32))
        mx.eval(built.parameters())

    def shown(self, count: int, block: int, random: Random) -> tuple[list[Scene], list[drawings_lessons.Pixels]]:
        """Scenes of a block with their pictures."""
        made = [(scene, self._cells.picture(scene, random)) for scene in drawings_lessons.training_scenes(count, block)]
        return [scene for scene, picture in made if picture is not None], [p for _, p in made if p is not None]

    def _pictures(self, step: int, random: Random) -> tuple[mx.array, ...]:
        some, pictures = self.shown(CELL_BATCH_SIZE, 10 * step + 1, random)
        return normalise_pixels(pictures), mx.array(np.stack([labels(scene) for scene in some]))

    def _class(self, built: nn.Module, step: int, random: Random) -> tuple[mx.array, ...]:
        some, pictures = self.shown(self.plan.pictures, 10 * step + 2, random)
        is_chatty = random.random() < 0.12  # sequences of one step are about as long
        taught = [make_example(scene, random, is_chatty) for scene in some for _ in range(self.plan.lessons)]
        made = self._desk.encode(pictures, taught)
        with cpu_kernels.without_gradients():
            features = project_features(built, vision_states(built, made.pictures))
        return features, mx.array([record(scene) for scene in some]), made.tokens, made.places, made.targets

    def _steps(
        self, name: str, trained: nn.Module, loss: Loss, lay: Callable[[int, Random], tuple[mx.array, ...]], steps: int
    ) -> None:
        """All steps of a part, from where an earlier call was stopped."""
        rise, top = max(1, steps // 20), self.plan.rate
        fall = optim.cosine_decay(top, max(1, steps - rise), top / 50)
        rate = optim.join_schedules([optim.linear_schedule(top / 100, top, rise), fall], [rise])
        optimizer = optim.AdamW(learning_rate=rate, weight_decay=0.02, betas=[0.9, 0.98])
        optimizer.init(trained.trainable_parameters())
        state = self._folder / "school" / f"{name}.safetensors"  # not among the model's own files
        state.parent.mkdir(exist_ok=True)
        done = _restored(state, trained, optimizer)
        graded = nn.value_and_grad(trained, lambda *parts: loss(*parts))
        began, losses = time.perf_counter(), []
        with cpu_kernels.with_gradients():
            for step in range(done, steps):
                random = Random(f"memlora drawings {name} {self.plan.seed} {step}")
                value, gradient = graded(*lay(step, random))
                gradient, _ = optim.clip_grad_norm(gradient, 1.0)
                optimizer.update(trained, gradient)
                mx.eval(trained.parameters(), optimizer.state, value)
                losses.append(float(value))
                if (step + 1) % SAVED_EVERY == 0 or step + 1 == steps:
                    _save(state, trained, optimizer, step + 1)
                    mean = sum(losses) / len(losses)
                    self._say(
                        f"{name}: step {step + 1} of {steps}, loss {mean:.4f}, {time.perf_counter() - began:.0f} s"
                    )
                    losses = []

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        with (self._folder / "training.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _save(state: Path, trained: nn.Module, optimizer: optim.Optimizer, step: int) -> None:
    arrays = {f"weights.{name}": array for name, array in tree_flatten(trained.parameters())}
    arrays |= {f"optimizer.{name}": array for name, array in tree_flatten(optimizer.state)}
    with atomic_paths(state) as (scratch,):
        mx.save_safetensors(str(scratch), arrays, {"step": str(step)})


def _restored(state: Path, trained: nn.Module, optimizer: optim.Optimizer) -> int:
    """Go on from a written state. Returns the steps that are done."""
    if not state.is_file():
        return 0
    arrays, words = load_arrays_and_words(state)
    trained.load_weights([(name[8:], array) for name, array in arrays.items() if name.startswith("weights.")])
    optimizer.state = tree_unflatten(
        [(name[10:], array) for name, array in arrays.items() if name.startswith("optimizer.")]
    )
    mx.eval(trained.parameters(), optimizer.state)
    return int(words["step"])


def train_drawings_student(folder: Path, plan: DrawingsTrainingConfig) -> None:
    """Train a student and write its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words, built = tokenizer(), model(plan.seed)
    DrawingsTrainer(plan, words, folder).train(built)
    write_model(built, words, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m memlora_mlx.eval.vqa.drawings_student",
        description="Make the drawings student; run it again to go on.",
    )
    parser.add_argument("folder", type=Path)
    usual = DrawingsTrainingConfig()
    parser.add_argument("--looking", type=int, default=usual.looking, help="steps of the image tower alone")
    parser.add_argument("--steps", type=int, default=usual.steps, help="steps of the language model")
    parser.add_argument("--seed", type=int, default=usual.seed)
    given = parser.parse_args(arguments)
    train_drawings_student(
        given.folder, DrawingsTrainingConfig(looking=given.looking, steps=given.steps, seed=given.seed)
    )


if __name__ == "__main__":
    main()
