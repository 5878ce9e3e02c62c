"""A language model cut in two before its output head, so that the head is computed only where a token is chosen.

What a family does between its last hidden states and its logits differs: a head of its own or the embedding, a scale, a
soft cap. None of that is written down here. The model itself computes its logits, with its layers replaced by the
hidden states that are given, so a family that is new to mlx-lm is cut at the right place too.
"""

from __future__ import annotations

import copy
from typing import Any

import mlx.core as mx
import mlx.nn as nn


class OutputHead:
    """The two parts of a language model: `backbone`, which gives hidden states, and the call, which gives their logits.

    Where the layers and the head are in one module (as in Gemma 3n), the backbone gives the logits and the call returns
    them as they are.

    Args:
        model: an mlx-lm model, or the language model of an mlx-vlm model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._path = _path_to_layers(model)
        self.backbone = model
        for attribute in self._path:
            self.backbone = self.backbone[attribute]

    def __call__(self, hidden: mx.array) -> mx.array:
        """The logits of hidden states: (..., dim) to (..., vocabulary)."""
        parents = [self._model]
        for attribute in self._path[:-1]:
            parents.append(parents[-1][attribute])
        stand_in: Any = _Given(self.backbone, hidden)
        for parent, attribute in zip(reversed(parents), reversed(self._path), strict=False):
            changed = copy.copy(parent)  # a module is a dict of its parts: this copies no weights
            changed[attribute] = stand_in
            stand_in = changed
        found = stand_in(mx.zeros(hidden.shape[:-1], mx.int32))
        return found if isinstance(found, mx.array) else found.logits


class _Given:
    """Stands where a model's layers were: whatever it is asked, its hidden states are the given ones."""

    def __init__(self, backbone: nn.Module, hidden: mx.array) -> None:
        self._backbone, self._hidden = backbone, hidden

    def __call__(self, *_: Any, **__: Any) -> mx.array:
        return self._hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)  # the embedding, for a head that is tied to it


def _path_to_layers(model: nn.Module) -> list[str]:
    """The attributes that lead from a model to the part that has the list of its layers."""
    first = model.layers[0]
    for name, module in model.named_modules():
        lists = (value for value in dict.values(module) if isinstance(value, list))
        if any(entry is first for entries in lists for entry in entries):
            return name.split(".") if name else []
    raise ValueError(f"{type(model).__name__} has no list of layers")
