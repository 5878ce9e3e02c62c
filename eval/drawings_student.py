"""A vision student in miniature, made here on a CPU: InternVL's architecture, and no other world than that of the drawings.

    python -m memlora_mlx.eval.drawings_student FOLDER [--steps N] [--seed N]

It is trained from nothing in two parts: the image tower on what is in each cell of a picture (its head for that is thrown
away), then the language model on the lessons of `drawings_lessons`. What comes out is a model folder like any other. It is made to
run the whole circle of the VQA benchmark on machines without a hub; it is of no other use, and figures of it say nothing
about photographs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from memlora_mlx.eval import drawings_lessons
from memlora_mlx.eval.drawings import BACKGROUNDS, CELLS, COLOURS, MOST, ODD, PATTERNS, SHAPES, Scene
from memlora_mlx.eval.drawings_lessons import PIXELS, Cells, Lesson, lesson
from memlora_mlx.memory import stages
from memlora_mlx.models import vectorised
from memlora_mlx.models.arrays import load_arrays_and_words

import mlx.core as mx  # isort: skip  (memlora_mlx.models prepares it)
import mlx.nn as nn  # isort: skip
import mlx.optimizers as optim  # isort: skip
from mlx.utils import tree_flatten, tree_unflatten  # isort: skip

LOOKED_AT = 64  # pictures a step of the image tower's own
SAVED_EVERY = 50  # steps
QUIET = 0.3  # of a feature's variance: below, it is noise
Loss = Callable[..., mx.array]
PATCH = 14  # pixels; four patches, two a side, are a cell, and one token of the language model
NAME = "drawings"
VOCABULARY = 800
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
END, CONTEXT = 2, 5  # places of the above
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISION: dict[str, Any] = {
    "model_type": "intern_vit_6b",
    "hidden_size": 128,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 192,
    "patch_size": PATCH,
    "image_size": PIXELS,
    "norm_type": "layer_norm",
    "qkv_bias": True,
    "drop_path_rate": 0.0,
}
LANGUAGE: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # as InternVL's processor has them


@dataclass(frozen=True, slots=True)
class Schooling:
    """How it is trained."""

    looking: int = 500  # steps of the image tower
    steps: int = 700  # of the language model
    pictures: int = 32  # a step
    lessons: int = 2  # a picture
    rate: float = 2e-3  # of learning, at its highest
    sheets: int = drawings_lessons.ALL_ODD
    seed: int = 0


# ------------------------------------------------------------------------------------------------ its parts


def tokenizer() -> Tokenizer:
    """Byte pairs of the lessons' words and of the stages' prompts."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIALS],
        show_progress=False,
    )
    prompts = [stages.look_chat("")[0][1], stages.answer_chat("", ())[0][1], stages.update_chat((), ())[0][1]]
    built.train_from_iterator([*drawings_lessons.texts(3000), *prompts * 100], trainer)
    return built


def config() -> dict[str, Any]:
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "downsample_ratio": 0.5,
        "force_image_size": PIXELS,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 1,
        "use_thumbnail": False,
        "image_token_index": CONTEXT,
        "eos_token_id": END,
        "system_message": "",
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LANGUAGE["max_position_embeddings"],
        "vision_config": VISION,
        "llm_config": LANGUAGE,
    }


def model(seed: int = 0) -> nn.Module:
    """The architecture with weights to begin from."""
    from mlx_vlm.models import internvl_chat as internvl

    mx.random.seed(seed)
    told = config()
    made = internvl.ModelConfig.from_dict({**told, "text_config": LANGUAGE})
    made.text_config = internvl.TextConfig.from_dict(LANGUAGE)
    made.vision_config = internvl.VisionConfig.from_dict(VISION)
    built = internvl.Model(made)
    embeddings = built.vision_model.embeddings
    embeddings.class_embedding = embeddings.class_embedding * 0.02
    embeddings.position_embedding = embeddings.position_embedding * 0.02
    for layer in built.language_model.layers:  # what a block adds is to be quiet beside the words at first
        for last in (layer.self_attn.o_proj, layer.mlp.down_proj):
            last.weight = last.weight * 0.2
    mx.eval(built.parameters())
    return built


def seen(built: nn.Module, pictures: mx.array) -> mx.array:
    """What the image tower makes of pictures, four patches a cell: (pictures, 16, 4 * dim).

    Args:
        pictures: float32, (pictures, PIXELS, PIXELS, 3), normalised.
    """
    from mlx_vlm.models.base import pixel_shuffle

    tower, side = built.vision_model, PIXELS // PATCH
    patches, begin = tower.embeddings.patch_embedding, tower.embeddings.class_embedding
    # The convolution as a product of matrices, which MLX's CPU back end does faster.
    cut = pictures.reshape(-1, side, PATCH, side, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
    x = cut.reshape(-1, side * side, PATCH**2 * 3) @ patches.weight.reshape(patches.weight.shape[0], -1).T
    x = mx.concatenate([mx.broadcast_to(begin, (x.shape[0], 1, x.shape[2])), x + patches.bias], axis=1)
    x, _ = tower.encoder(x + tower.embeddings.position_embedding, output_hidden_states=False)
    return pixel_shuffle(x[:, 1:], shuffle_ratio=0.5)


def joined(built: nn.Module, states: mx.array) -> mx.array:
    """The tower's states as the language model reads them, a token a cell: (pictures, 16, dim)."""
    for layer in built.mlp1:
        states = layer(states)
    return states


def normalised(pictures: Sequence[drawings_lessons.Picture]) -> mx.array:
    return mx.array(((np.stack(pictures) / 255.0 - MEAN) / DEVIATION).astype(np.float32))


# ------------------------------------------------------------------------------------------------ looking


def labels(scene: Scene) -> NDArray[np.int32]:
    """What is in each cell, four numbers: thing, colour, colour of its part, pattern; 0 for none. (16, 4)."""
    found = np.zeros((CELLS**2, 4), np.int32)
    colours = {name: at for at, name in enumerate(COLOURS, 1)}
    for one in (*scene.group, *scene.others):
        found[one.cell, :2] = 1 + SHAPES.index(one.shape), colours[one.colour]
    thing, pattern = 1 + len(SHAPES) + list(ODD).index(scene.odd.shape), 1 + PATTERNS.index(scene.pattern)
    found[scene.odd.cell] = thing, colours[scene.odd.colour], colours[scene.part_colour], pattern
    return found


ANSWERS = (1 + len(SHAPES) + len(ODD), 1 + len(COLOURS), 1 + len(COLOURS), 1 + len(PATTERNS))


class Looking(nn.Module):
    """The image tower with a head that says what is in each cell."""

    def __init__(self, built: nn.Module) -> None:
        super().__init__()
        self.vision_model, self.mlp1 = built.vision_model, built.mlp1
        self.head = nn.Linear(LANGUAGE["hidden_size"], sum(ANSWERS))

    def loss(self, pictures: mx.array, told: mx.array) -> mx.array:
        return _several(self.head(joined(self, seen(self, pictures))), told, ANSWERS)


def _several(logits: mx.array, told: mx.array, sizes: Sequence[int]) -> mx.array:
    """Cross-entropy of several answers given at once: logits (..., sum of sizes), told (..., number of sizes)."""
    parts = mx.split(logits, np.cumsum(sizes)[:-1].tolist(), axis=-1)
    return sum(nn.losses.cross_entropy(part, told[..., i]).mean() for i, part in enumerate(parts))


# ------------------------------------------------------------------------------------------------ lessons


@dataclass(frozen=True, slots=True)
class Class:
    """One step's pictures and lessons as arrays. `places` point into sequences * time."""

    pictures: mx.array  # (pictures, PIXELS, PIXELS, 3)
    tokens: mx.array  # (pictures * lessons, time); a picture's lessons lie together
    places: mx.array
    targets: mx.array


class Desk:
    """Makes lessons into arrays."""

    def __init__(self, words: Tokenizer) -> None:
        self._words = words
        image = "<img>" + "<IMG_CONTEXT>" * CELLS**2 + "</img>\n"
        self._before = words.encode(f"<|im_start|>user\n{image}").ids
        self._after = words.encode("<|im_end|>\n<|im_start|>assistant\n").ids

    def prompt(self, question: str) -> list[int]:
        return [*self._before, *self._words.encode(question, add_special_tokens=False).ids, *self._after]

    def lay(self, pictures: Sequence[drawings_lessons.Picture], taught: Sequence[Lesson]) -> Class:
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
        return Class(normalised(pictures), mx.array(tokens), mx.array(places), mx.array(targets))


def record(scene: Scene) -> list[int]:
    """The whole scene: odd thing, its colour, its part's, its pattern, background, counted shape, its colour, how many."""
    colours, odd = list(COLOURS), list(ODD).index(scene.odd.shape)
    body, part, of_group = (colours.index(one) for one in (scene.odd.colour, scene.part_colour, scene.group[0].colour))
    ground, counted = list(BACKGROUNDS).index(scene.background), SHAPES.index(scene.counted)
    return [odd, body, part, PATTERNS.index(scene.pattern), ground, counted, of_group, len(scene.group) - 1]


_COLOURS = len(COLOURS)
RECORD = (len(ODD), _COLOURS, _COLOURS, len(PATTERNS), len(BACKGROUNDS), len(SHAPES), _COLOURS, MOST)


class Lessons(nn.Module):
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
        scenes = _several(self.head(hidden[:, start + CELLS**2]), mx.repeat(told, several, axis=0), RECORD)
        return nn.losses.cross_entropy(logits, targets).mean() + 0.2 * scenes


def _image_start(tokens: mx.array) -> int:
    return int(np.argmax(np.asarray(tokens[0]) == CONTEXT))


# ------------------------------------------------------------------------------------------------ schooling


class School:
    """Trains a student in its folder: training.log says how it goes, and school/ is what a stop leaves."""

    def __init__(self, plan: Schooling, words: Tokenizer, folder: Path) -> None:
        self.plan, self._folder, self._desk = plan, folder, Desk(words)
        began = time.perf_counter()
        self._cells = Cells(plan.sheets, plan.seed)
        self._say(f"{plan.sheets} sheets drawn in {time.perf_counter() - began:.0f} s")

    def train(self, built: nn.Module) -> None:
        looking, plan = Looking(built), self.plan
        self._steps("looking", looking, looking.loss, self._pictures, plan.looking)
        self._even(built)
        lessons = Lessons(built)
        self._steps("lessons", lessons, lessons.loss, partial(self._class, built), plan.steps)

    def _even(self, built: nn.Module) -> None:
        """Make all that features tell equally loud, and as loud as words.

        Out of the tower whether a cell is empty is a thousand times as loud as its pattern, which the language model would
        not hear.
        """
        _, pictures = self.shown(4 * LOOKED_AT, 0, Random("memlora drawings"))
        with vectorised.reading():
            features = joined(built, seen(built, normalised(pictures)))
        found = np.array(features, np.float64).reshape(-1, features.shape[-1])
        middle = found.mean(axis=0)
        values, directions = np.linalg.eigh(np.cov(found.T))
        words = np.array(built.language_model.model.embed_tokens.weight)
        turn = directions / np.sqrt(np.maximum(values, 0) + QUIET)
        turn *= np.sqrt((words**2).mean() / (((found - middle) @ turn) ** 2).mean())
        last = built.mlp1[-1]
        weight, bias = np.array(last.weight, np.float64), np.array(last.bias, np.float64)
        last.weight = mx.array((turn.T @ weight).astype(np.float32))
        last.bias = mx.array(((bias - middle) @ turn).astype(np.float32))
        mx.eval(built.parameters())

    def shown(self, count: int, block: int, random: Random) -> tuple[list[Scene], list[drawings_lessons.Picture]]:
        """Scenes of a block with their pictures."""
        made = [(scene, self._cells.picture(scene, random)) for scene in drawings_lessons.scenes(count, block)]
        return [scene for scene, picture in made if picture is not None], [p for _, p in made if p is not None]

    def _pictures(self, step: int, random: Random) -> tuple[mx.array, ...]:
        some, pictures = self.shown(LOOKED_AT, 10 * step + 1, random)
        return normalised(pictures), mx.array(np.stack([labels(scene) for scene in some]))

    def _class(self, built: nn.Module, step: int, random: Random) -> tuple[mx.array, ...]:
        some, pictures = self.shown(self.plan.pictures, 10 * step + 2, random)
        is_chatty = random.random() < 0.12  # sequences of one step are about as long
        taught = [lesson(scene, random, is_chatty) for scene in some for _ in range(self.plan.lessons)]
        made = self._desk.lay(pictures, taught)
        with vectorised.reading():
            features = joined(built, seen(built, made.pictures))
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
        with vectorised.training():
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
    scratch = state.with_suffix(".partial.safetensors")
    mx.save_safetensors(str(scratch), arrays, {"step": str(step)})
    scratch.replace(state)


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


def write(built: nn.Module, words: Tokenizer, folder: Path) -> None:
    """A model folder in 16 bits, with a manifest as pulled models have."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: array.astype(mx.float16) for name, array in tree_flatten(built.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    words.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": TEMPLATE,
    }
    for name, value in (("config.json", config()), ("tokenizer_config.json", settings)):
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def make(folder: Path, plan: Schooling) -> None:
    """Train a student and write its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words, built = tokenizer(), model(plan.seed)
    School(plan, words, folder).train(built)
    write(built, words, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m memlora_mlx.eval.drawings_student",
        description="Make the drawings student; run it again to go on.",
    )
    parser.add_argument("folder", type=Path)
    usual = Schooling()
    parser.add_argument("--looking", type=int, default=usual.looking, help="steps of the image tower alone")
    parser.add_argument("--steps", type=int, default=usual.steps, help="steps of the language model")
    parser.add_argument("--seed", type=int, default=usual.seed)
    given = parser.parse_args(arguments)
    make(given.folder, Schooling(looking=given.looking, steps=given.steps, seed=given.seed))


if __name__ == "__main__":
    main()
