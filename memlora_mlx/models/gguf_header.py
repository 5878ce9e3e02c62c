"""The values in the header of a GGUF file, each checked as it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from memlora_mlx.errors import ModelBroken
from memlora_mlx.models.gguf_file import GgufFile


class GgufHeader:
    """What a GGUF file says about itself, each value checked as it is asked for. Raises ValueError."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.file = GgufFile(source)
        self.tensors = self.file.tensors
        self.architecture = self.text("general.architecture") or ""

    def unsupported(self, reason: str) -> ModelBroken:
        return ModelBroken(f"{self.source}: {reason}")

    def value(self, key: str) -> Any:
        return self.file.fields.get(key)

    def text(self, key: str) -> str | None:
        value = self.value(key)
        if not isinstance(value, bytes | None):
            raise TypeError(f"{key} is not text")
        return None if value is None else value.decode()

    def texts(self, key: str) -> list[str]:
        value = self.value(key)
        if not isinstance(value, list) or not all(isinstance(item, bytes) for item in value):
            raise ValueError(f"{key} is not a list of texts")
        return [item.decode() for item in value]

    def numbers(self, key: str) -> list[float]:
        value = self.value(key)
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{key} is not a list of numbers")
        numbers: list[float] = value.tolist()
        return numbers

    def positive_integer(self, key: str, default: int | None = None) -> int:
        """A whole number above 0; `architecture.key`."""
        value = self.value(f"{self.architecture}.{key}")
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise ValueError(f"{self.architecture}.{key} is {value}, not a whole number above 0")
        return value

    def positive_number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0; `architecture.key`."""
        value = self.value(f"{self.architecture}.{key}")
        value = default if value is None else value
        if not isinstance(value, int | float) or not 0 < value < 1e30:
            raise ValueError(f"{self.architecture}.{key} is {value}, not a number above 0")
        return float(value)

    def first_positive_integer(self, key: str, default: int | None = None) -> int:
        """As `positive_integer`; of a list with a number for each layer, the first, where all are the same."""
        value = self.value(f"{self.architecture}.{key}")
        if not isinstance(value, np.ndarray):
            return self.positive_integer(key, default)
        if not value.size or value.dtype.kind not in "iu" or (value != value[0]).any() or not 0 < value[0] < 2**31:
            raise ValueError(f"{self.architecture}.{key} is not one whole number above 0 for all layers")
        return int(value[0])

    def token_id(self, name: str, size: int) -> int | None:
        value = self.value(f"tokenizer.ggml.{name}_token_id")
        if value is not None and not (isinstance(value, int) and 0 <= value < size):
            raise ValueError(f"tokenizer.ggml.{name}_token_id is {value}, outside the vocabulary")
        return value
