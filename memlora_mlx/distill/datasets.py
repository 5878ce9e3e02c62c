"""Training examples as token sequences, and these as batches.

A batch has only what the loss needs: the tokens, the positions whose next token is to be learnt, and the weight of each of
them. The output head is then computed at those positions alone.
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

# Batches are padded to a multiple of this many tokens, so that few shapes occur: Metal compiles each shape separately.
_MULTIPLE = 16
_TARGETS = 64  # the same for the positions where the head is computed
_WINDOW = 16  # examples are sorted by length within this many batches


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """An example as the student reads it."""

    tokens: NDArray[np.int32]  # prompt, answer and end mark; a negative number stands for a feature of an image
    prompt: int  # tokens of the prompt
    weights: NDArray[np.float32]  # of the answer's tokens and the end mark


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """What one step reads, as numpy arrays. The training step converts them to MLX arrays."""

    tokens: NDArray[np.int32]  # (rows, time)
    positions: NDArray[np.int32]  # (targets,) indices into rows * time, where the next token is learnt
    targets: NDArray[np.int32]  # (targets,)
    weights: NDArray[np.float32]  # (targets,)
    total: float  # weight of the whole batch, divided by the number of processes that share it
    read: int  # tokens of all prompts and answers of the whole batch, without padding


def tokenize_examples(
    student: Student,
    examples: Sequence[TrainingExample],
    *,
    longest: int,
    decision_weight: float,
    purpose: str = "train on",
    images: Mapping[str, Path] = MappingProxyType({}),
) -> tuple[list[TokenizedExample], int]:
    """The examples as token sequences, and how many were left out because they are longer than `longest` tokens.

    Args:
        decision_weight: of the tokens that decide, see `Recipe.decision_weight`.
        purpose: what the examples are for, as the error says it.
        images: the image files, by their names in the examples.

    Raises:
        BadTrainingData: none is left.
    """
    tokenized = [_example(student, example, decision_weight, images) for example in examples]
    fitting = [example for example in tokenized if len(example.tokens) <= longest]
    if not fitting:
        reason = (
            f"all {len(tokenized)} examples are longer than {longest} tokens" if tokenized else "there are no examples"
        )
        raise BadTrainingData(f"Nothing to {purpose}: {reason}. Give other data, or a larger --max-seq-length.")
    return fitting, len(tokenized) - len(fitting)


def _example(
    student: Student, example: TrainingExample, decision_weight: float, images: Mapping[str, Path]
) -> TokenizedExample:
    prompt = student.encode(example.chat, None if example.image is None else images[example.image])
    answer, spans = student.tokenize_with_spans(example.answer)
    weights = np.ones(len(answer) + 1, np.float32)  # the end mark is one more token
    if decision_weight != 1.0:
        per_character = _character_weights(example, decision_weight)
        for i, (start, end) in enumerate(spans):
            weights[i] = per_character[start:end].max(initial=0.0) if end > start else 1.0
    tokens = np.array([*prompt, *answer, student.end_token], np.int32)
    return TokenizedExample(tokens, len(prompt), weights)


def _character_weights(example: TrainingExample, decision_weight: float) -> NDArray[np.float32]:
    """The weight of each character of a JSON answer.

    Most of an update is copied text. It is learnt first and outweighs the few tokens that decide: which memory, where its
    text differs from the texts that could stand there instead, which event, and whether another entry follows. What the
    grammar forces (old_memory) needs hardly any learning.
    """
    weights = np.ones(len(example.answer), np.float32)
    for pattern, weight in _DECISION_PATTERNS[example.stage]:
        for match in re.finditer(pattern, example.answer):
            weights[slice(*match.span(1))] = decision_weight if weight is None else weight
    for position in _first_differences(example) if example.stage == "update" else ():
        weights[position] = decision_weight
    return weights


def _first_differences(example: TrainingExample) -> Iterator[int]:
    """The characters of an update at which a text first differs from the other texts that could stand there: the text of
    its memory (which would be deleted) and the facts. The student decides there, and not at the event that follows."""
    prompt = stages.parse_update_chat(example.chat)
    if prompt is None:
        return
    old, facts = prompt
    for entry in re.finditer(rf'"id": "([0-9]+)", "text": ({_STRING})', example.answer):
        number, text = int(entry[1]), entry[2]
        for alternative in {*facts, *old[number : number + 1]}:
            quoted = json.dumps(alternative, ensure_ascii=False)
            if quoted != text:
                yield entry.start(2) + len(os.path.commonprefix([quoted, text]))


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
    data: Sequence[TokenizedExample], size: int, *, seed: int | None, rank: int = 0, world: int = 1, parts: int = 1
) -> Iterator[TrainingBatch]:
    """One pass over the data: every example once, examples of similar length together.

    Args:
        size: examples in a step, over all processes.
        seed: of the random order; None sorts by length, as for validation.
        rank, world: this process's number among those that share each step, and how many they are.
        parts: a step is given in so many batches, one after the other, whose gradients are averaged.
    """
    for chosen in plan_batches([len(example.tokens) for example in data], size, seed=seed):
        for part in range(parts):
            yield _batch([data[i] for i in chosen], rank + world * part, world * parts)


def plan_batches(lengths: Sequence[int], size: int, *, seed: int | None) -> list[list[int]]:
    """The indices of the examples of each batch."""
    if seed is None:
        order = np.argsort(np.array(lengths), kind="stable")
        return [order[i : i + size].tolist() for i in range(0, len(order), size)]
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    window = _WINDOW * size
    groups = [sorted(order[i : i + window].tolist(), key=lambda j: lengths[j]) for i in range(0, len(order), window)]
    ordered = [i for group in groups for i in group]
    batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    return [batches[i] for i in random.permutation(len(batches))]


def _batch(chosen: list[TokenizedExample], rank: int, world: int) -> TrainingBatch:
    total = sum(float(example.weights.sum()) for example in chosen)
    width = max(len(example.tokens) for example in chosen) - 1  # the last token is only a target
    width = -(-width // _MULTIPLE) * _MULTIPLE
    mine = chosen[rank::world] or chosen[:1]  # a process without an example takes one with a weight of 0
    idle = not chosen[rank::world]
    tokens = np.zeros((len(mine), width), np.int32)
    positions: list[NDArray[Any]] = []
    for row, example in enumerate(mine):
        tokens[row, : len(example.tokens) - 1] = example.tokens[:-1]
        positions.append(row * width + np.arange(example.prompt - 1, len(example.tokens) - 1))
    weights = np.concatenate([example.weights for example in mine]) * (0.0 if idle else 1.0)
    targets = np.concatenate([example.tokens[example.prompt :] for example in mine])
    spare = -len(targets) % _TARGETS  # padding, with a weight of 0
    return TrainingBatch(
        tokens,
        np.pad(np.concatenate(positions), (0, spare)).astype(np.int32),
        np.pad(targets, (0, spare)),
        np.pad(weights, (0, spare)).astype(np.float32),
        total / world,
        sum(len(example.tokens) for example in chosen),
    )
