"""Reading safetensors files, whose loader's type says too little."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import mlx.core as mx


def load_arrays(path: Path) -> dict[str, mx.array]:
    """The arrays of a safetensors file by name, not yet evaluated."""
    return cast("dict[str, mx.array]", mx.load(str(path)))


def load_arrays_and_words(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """The arrays of a safetensors file, and the words in its header."""
    return cast("tuple[dict[str, mx.array], dict[str, str]]", mx.load(str(path), return_metadata=True))
