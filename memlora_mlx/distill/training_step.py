"""The parts of a training step: loss, dropout, learning rate, gradient checkpointing, and an estimate of the memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memlora_mlx.distill import distributed
from memlora_mlx.distill.datasets import TokenizedExample, TrainingBatch, training_batches
from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.models import cpu_kernels

import mlx.core as mx  # isort: skip  (memlora_mlx.models prepares it)
import mlx.nn as nn  # isort: skip
import mlx.optimizers as optim  # isort: skip

if TYPE_CHECKING:
    from memlora_mlx.models.student import Student


def masked_loss(student: Student, keys: DropoutKeys | None = None) -> Callable[..., tuple[mx.array, mx.array]]:
    """The loss function for mlx-lm: weighted mean cross-entropy of the answers' tokens, in nats, and the total weight.

    Args:
        keys: the keys of the dropout, for training; each batch then ends with the random key of its step.
    """

    def loss(
        model: nn.Module,
        tokens: mx.array,
        positions: mx.array,
        targets: mx.array,
        weights: mx.array,
        total: mx.array,
        features: mx.array | None,
        places: mx.array | None,
        key: mx.array | None = None,
    ) -> tuple[mx.array, mx.array]:
        if keys is not None and key is not None:
            keys.rows = mx.random.split(key, keys.count)
        hidden = student.hidden(tokens, None, features, places)  # `model` is the student's model
        logits = student.logits(hidden.reshape(-1, hidden.shape[-1])[positions])
        losses = nn.losses.cross_entropy(logits.astype(mx.float32), targets)
        return (losses * weights).sum() / total, total

    return loss


def validation_loss(
    student: Student,
    data: Sequence[TokenizedExample],
    batch_size: int,
    *,
    before_batch: Callable[[], None] = lambda: None,
) -> float:
    """The weighted mean loss over all answer tokens of the data, in nats. It can be NaN.

    Args:
        before_batch: called before each batch; it may raise to stop.
    """
    from mlx_lm.tuner.trainer import evaluate

    def batches(**_: Any) -> Iterator[tuple[mx.array | None, ...]]:
        for batch in training_batches(
            data, batch_size, seed=None, rank=distributed.rank(), world=distributed.world_size()
        ):
            before_batch()
            yield batch_arrays(student, batch)

    with cpu_kernels.without_gradients():
        return float(evaluate(student.model, data, batch_size, -1, loss=masked_loss(student), iterate_batches=batches))


def batch_arrays(student: Student, batch: TrainingBatch) -> tuple[mx.array | None, ...]:
    """The batch as MLX arrays, the features of its images and where its tokens stand.

    The last two are computed here because the step is compiled on Metal.
    """
    parts = (batch.tokens, batch.positions, batch.targets, batch.weights, batch.total)
    return *(mx.array(part) for part in parts), student.features_at(batch.tokens), student.positions_at(batch.tokens)


class DropoutKeys:
    """The random keys of a step, one row for each adapted layer. The loss function sets them."""

    rows: mx.array
    count = 1


class Dropout(nn.Module):
    """nn.Dropout with explicit keys: a step drops the same values whatever was drawn before, which resuming needs."""

    def __init__(self, p: float, keys: DropoutKeys, number: int) -> None:
        super().__init__()
        self._kept, self._keys, self._number = 1 - p, keys, number
        keys.count = max(keys.count, number + 1)

    def __call__(self, x: mx.array) -> mx.array:
        if self._kept == 1 or not self.training:
            return x
        mask = mx.random.bernoulli(self._kept, x.shape, key=self._keys.rows[self._number])
        return mask * x * (1 / self._kept)


def learning_rate_schedule(recipe: Recipe, steps: int) -> Callable[[mx.array], mx.array]:
    """The learning rate at each step: a short warm-up, then a cosine decay to a tenth of the peak."""
    warmup = min(max(1, round(recipe.warmup * steps)), steps)
    decay = optim.cosine_decay(recipe.learning_rate, max(1, steps - warmup), 0.1 * recipe.learning_rate)
    schedule: Callable[[mx.array], mx.array] = optim.join_schedules(
        [optim.linear_schedule(recipe.learning_rate / warmup, recipe.learning_rate, warmup), decay], [warmup]
    )
    return schedule


@contextlib.contextmanager
def gradient_checkpointing(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Compute a block's activations again in the backward pass instead of keeping them, within the `with` block.

    mlx-lm's own function changes the class permanently.
    """
    if not enabled:
        yield
        return
    block = type(model.layers[0])
    forward = block.__call__

    def checkpointed(self: nn.Module, *args: Any, **options: Any) -> mx.array:
        def inner(parameters: Any, *args: Any, **options: Any) -> mx.array:
            self.update(parameters)
            return forward(self, *args, **options)

        output: mx.array = mx.checkpoint(inner)(self.trainable_parameters(), *args, **options)
        return output

    block.__call__ = checkpointed
    try:
        yield
    finally:
        block.__call__ = forward


def estimate_memory(student: Student, recipe: Recipe, data: Sequence[TokenizedExample]) -> int:
    """About how many bytes the largest step takes at its peak, in each process: the weights, and what the backward pass
    needs from the forward pass. Within a tenth of the memory that MLX's CPU back end was measured to take.
    """
    config = student.config
    hidden, inner = int(config["hidden_size"]), _inner_width(config)
    heads, blocks = int(config["num_attention_heads"]), int(config["num_hidden_layers"])
    itemsize = 4 if mx.default_device() == mx.Device(mx.cpu) else 2
    rows = -(-recipe.batch_size // (distributed.world_size() * recipe.accumulate))
    largest = sorted(data, key=lambda example: len(example.tokens))[-rows:]
    longest = len(largest[-1].tokens)
    tokens = len(largest) * longest
    adapted = sum(inner if "down" in key else hidden for key in recipe.keys)  # width of the inputs after dropout
    streams = int(config.get("altup_num_inputs") or 1)  # Gemma 3n carries several hidden states from block to block
    per_block = int(tokens * ((5 + streams) * hidden + 4 * inner + 0.8 * adapted + 0.6 * heads * longest)) * itemsize
    head = 3 * sum(len(example.weights) for example in largest) * student.vocabulary * 4
    kept = per_block + blocks * tokens * streams * hidden * itemsize if recipe.grad_checkpoint else blocks * per_block
    return student.nbytes + kept + head + _features_needed(data, hidden * itemsize)


def fit_to_memory(student: Student, recipe: Recipe, data: Sequence[TokenizedExample], usable: int) -> Recipe:
    """The recipe with as little changed as a step needs to fit into `usable` bytes, by `estimate_memory`.

    First activations are computed again instead of kept; then a batch is computed in two parts, four, and so on. Neither
    changes what is learnt. The result may still need too much.
    """
    if estimate_memory(student, recipe, data) <= usable:
        return recipe
    recipe = recipe.changed(grad_checkpoint=True)
    while estimate_memory(student, recipe, data) > usable and recipe.accumulate < recipe.batch_size:
        recipe = recipe.changed(accumulate=min(2 * recipe.accumulate, recipe.batch_size))
    return recipe


def _inner_width(config: Mapping[str, Any]) -> int:
    """The width of the feed-forward layers. Families name it differently, and Gemma 3n has one for each block."""
    for name in ("intermediate_size", "block_ff_dim", "shared_intermediate_size"):
        if value := config.get(name):
            return max(map(int, value)) if isinstance(value, list | tuple) else int(value)
    return 4 * int(config["hidden_size"])


def _features_needed(data: Sequence[TokenizedExample], nbytes: int) -> int:
    """Bytes of the image features that are kept from step to step; each feature has `nbytes`."""
    from memlora_mlx.models.vision_student import FEATURE_BYTES

    features = [example.tokens[example.tokens < 0] for example in data]
    return min(FEATURE_BYTES, len(np.unique(np.concatenate(features))) * nbytes) if features else 0
