"""Rows -> token sequences -> batches.

A batch carries only what the loss needs: the tokens, the places whose next token is to be learnt, and how much each of
these weighs. The output head is then computed at those places alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.distill.examples import TrainingExample
from memlora_mlx.errors import BadTrainingData
from memlora_mlx.memory import stages
from memlora_mlx.records import Stage

if TYPE_CHECKING:
    from memlora_mlx.models.student import Student

_MULTIPLE = 16  # batches are padded to one of these, so that few shapes occur: each is compiled anew on Metal
_TARGETS = 64  # the same for the places where the head is computed
_WINDOW = 16  # batches in which rows are sorted by length


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """A row as the student reads it."""

    tokens: NDArray[np.int32]  # prompt, answer and end mark; what is negative names a feature of an image
    prompt: int  # tokens of the prompt
    weights: NDArray[np.float32]  # of the answer's tokens and the end mark


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """What one step reads: arrays of numpy, made into MLX's where they are used."""

    tokens: NDArray[np.int32]  # (rows, time)
    positions: NDArray[np.int32]  # (targets,) into rows * time: where the next token is learnt
    targets: NDArray[np.int32]  # (targets,)
    weights: NDArray[np.float32]  # (targets,)
    total: float  # weight of the whole batch over the number of processes that share it
    read: int  # tokens of the whole batch's prompts and answers, padding not counted


def tokenize_examples(
    student: Student,
    rows: Sequence[TrainingExample],
    *,
    longest: int,
    decision_weight: float,
    what: str = "train on",
    images: Mapping[str, Path] = MappingProxyType({}),
) -> tuple[list[TokenizedExample], int]:
    """The rows as token sequences, and how many were left out because they are longer than `longest` tokens.

    Args:
        images: the files of the rows' images, by the names that the rows have for them.
        what: they are for, in the words of the error.

    Raises:
        BadTrainingData: none is left.
    """
    made = [_example(student, row, decision_weight, images) for row in rows]
    fitting = [example for example in made if len(example.tokens) <= longest]
    if not fitting:
        reason = f"all {len(made)} rows are longer than {longest} tokens" if made else "there is not one row"
        raise BadTrainingData(f"nothing to {what}: {reason}; give others, or a larger --max-seq-length")
    return fitting, len(made) - len(fitting)


def _example(
    student: Student, row: TrainingExample, decision_weight: float, images: Mapping[str, Path]
) -> TokenizedExample:
    prompt = student.encode(row.chat, None if row.image is None else images[row.image])
    answer, spans = student.tokenize_with_spans(row.answer)
    weights = np.ones(len(answer) + 1, np.float32)  # the end mark is one more token
    if decision_weight != 1.0:
        per_character = _character_weights(row, decision_weight)
        for i, (start, end) in enumerate(spans):
            weights[i] = per_character[start:end].max(initial=0.0) if end > start else 1.0
    tokens = np.array([*prompt, *answer, student.end_token], np.int32)
    return TokenizedExample(tokens, len(prompt), weights)


def _character_weights(row: TrainingExample, heavy: float) -> NDArray[np.float32]:
    """How much each character of a JSON answer weighs.

    Most of an update is copied text, which is learnt first and drowns the few tokens that decide: which memory, where its
    text leaves those that could stand there instead, which event, and whether another entry follows. What the grammar
    forces (old_memory) needs hardly any learning.
    """
    weights = np.ones(len(row.answer), np.float32)
    for pattern, weight in _DECISION_PATTERNS[row.stage]:
        for found in re.finditer(pattern, row.answer):
            weights[slice(*found.span(1))] = heavy if weight is None else weight
    for place in _first_difference(row) if row.stage == "update" else ():
        weights[place] = heavy
    return weights


def _first_difference(row: TrainingExample) -> Iterator[int]:
    """The characters of an update at which a text parts from the others that begin alike: its memory's own (which would be
    deleted), and the facts. There, and not at the event behind it, the student decides."""
    found = stages.parse_update_chat(row.chat)
    if found is None:
        return
    old, facts = found
    for entry in re.finditer(rf'"id": "([0-9]+)", "text": ({_STRING})', row.answer):
        number, said = int(entry[1]), entry[2]
        for other in {*facts, *old[number : number + 1]}:
            spelled = json.dumps(other, ensure_ascii=False)
            if spelled != said:
                yield entry.start(2) + len(os.path.commonprefix([spelled, said]))


_STRING = r'"(?:[^"\\]|\\.)*"'
# (pattern, weight of its first group; None: the recipe's decision weight)
_DECISION_PATTERNS: Mapping[Stage, list[tuple[str, float | None]]] = {
    "update": [
        (rf'"old_memory": ({_STRING})', 0.05),
        (r'"id": "([0-9]+)"', None),
        (r'"event": "([A-Z]+)"', None),
        (r"(?:^\{\"memory\": \[|\})(\]|, |\{)", None),
    ],
    "extraction": [(r'^\{"facts": \[(.)', None), (r'"(\]|, )', None)],
    "generation": [],
    "vqa": [(rf'^\{{"answer": ({_STRING})', None)],
}


# ------------------------------------------------------------------------------------------------ batches


def training_batches(
    data: Sequence[TokenizedExample], size: int, *, seed: int | None, rank: int = 0, world: int = 1
) -> Iterator[TrainingBatch]:
    """One pass over the data, every example once, those of like length together.

    Args:
        size: examples in a step, over all processes.
        seed: of the order; None: by length, as for validation.
        rank, world: this process's place among those that share each step.
    """
    for chosen in plan_batches([len(example.tokens) for example in data], size, seed=seed):
        yield _batch([data[i] for i in chosen], rank, world)


def plan_batches(lengths: Sequence[int], size: int, *, seed: int | None) -> list[list[int]]:
    """Which examples make each batch."""
    if seed is None:
        order = np.argsort(np.array(lengths), kind="stable")
        return [order[i : i + size].tolist() for i in range(0, len(order), size)]
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    window = _WINDOW * size
    groups = [sorted(order[i : i + window].tolist(), key=lambda j: lengths[j]) for i in range(0, len(order), window)]
    ordered = [i for group in groups for i in group]
    made = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    return [made[i] for i in random.permutation(len(made))]


def _batch(chosen: list[TokenizedExample], rank: int, world: int) -> TrainingBatch:
    total = sum(float(example.weights.sum()) for example in chosen)
    width = max(len(example.tokens) for example in chosen) - 1  # the last token is only a target
    width = -(-width // _MULTIPLE) * _MULTIPLE
    mine = chosen[rank::world] or chosen[:1]  # a process without a row of its own does one that weighs nothing
    idle = not chosen[rank::world]
    tokens = np.zeros((len(mine), width), np.int32)
    places: list[NDArray[Any]] = []
    for row, example in enumerate(mine):
        tokens[row, : len(example.tokens) - 1] = example.tokens[:-1]
        places.append(row * width + np.arange(example.prompt - 1, len(example.tokens) - 1))
    weights = np.concatenate([example.weights for example in mine]) * (0.0 if idle else 1.0)
    targets = np.concatenate([example.tokens[example.prompt :] for example in mine])
    spare = -len(targets) % _TARGETS  # these weigh nothing
    return TrainingBatch(
        tokens,
        np.pad(np.concatenate(places), (0, spare)).astype(np.int32),
        np.pad(targets, (0, spare)),
        np.pad(weights, (0, spare)).astype(np.float32),
        total / world,
        sum(len(example.tokens) for example in chosen),
    )
