"""A GGUF file becomes a model folder that mlx-lm loads: weights, config.json and tokenizer.

Files come from anywhere, so every number and name in them is checked before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from memlora_mlx.errors import ModelBroken, ModelMissing
from memlora_mlx.files import atomic_folder
from memlora_mlx.models.gguf_architectures import Float, find_tensors, read_config, read_weight
from memlora_mlx.models.gguf_header import GgufHeader
from memlora_mlx.models.gguf_tokenizer import read_tokenizer
from memlora_mlx.text import printable_line

SHARD_BYTES = 2 << 30  # of weights in one file; no more are held in memory


def convert(source: Path, folder: Path, *, dtype: Float = "float32") -> None:
    """Write the model in the GGUF file `source` as a new MLX folder; all of it appears at once or nothing does.

    Args:
        dtype: what the weights are kept as; quantised ones are expanded to it.

    Raises:
        ModelMissing: there is no such file.
        ModelBroken: it is damaged, or holds an architecture, tensor type or tokenizer memlora does not read.
        ExtraMissing: a tensor's type is one that only the gguf package reads, and it is not installed.
        OSError: the folder cannot be written, or the disk has too little room.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists")
    with _one_line_errors(source):
        header = GgufHeader(source)
        config = read_config(header, dtype)
        tensors = find_tensors(header, config)
        tokenizer, tokenizer_config = read_tokenizer(header, config)
        needed = sum(math.prod(tensor.shape) for tensor in tensors.values()) * np.dtype(dtype).itemsize
        _check_room(folder.parent, needed)
        with atomic_folder(folder) as partial:
            weights = ((name, read_weight(header, tensor, name, config, dtype)) for name, tensor in tensors.items())
            _save_shards(partial, weights)
            tokenizer.save(str(partial / "tokenizer.json"))
            for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer_config)):
                (partial / name).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class GgufDescription:
    """What a GGUF file says of its model; texts are of one line and printable."""

    name: str | None
    architecture: str
    precision: str  # the type of most of its weights
    licence: str | None
    has_chat_template: bool


def describe(source: Path) -> GgufDescription:
    """Read the header of a GGUF file. Raises ModelMissing, ModelBroken: see `convert`."""
    with _one_line_errors(source):
        header = GgufHeader(source)
        sizes: Counter[str] = Counter()
        for tensor in header.tensors.values():
            sizes[tensor.type_name] += math.prod(tensor.shape)
        name, licence = (header.text(f"general.{key}") for key in ("name", "license"))
        return GgufDescription(
            name=printable_line(name)[:80] if name else None,
            architecture=printable_line(header.architecture)[:40],
            precision=sizes.most_common(1)[0][0] if sizes else "none",
            licence=printable_line(licence)[:80] if licence else None,
            has_chat_template=bool(header.text("tokenizer.chat_template")),
        )


@contextlib.contextmanager
def _one_line_errors(source: Path) -> Iterator[None]:
    """Whatever a damaged file does to the code that reads it is one line."""
    try:
        with np.errstate(over="raise", invalid="ignore"):  # an offset beyond 64 bits, a weight beyond float16
            yield
    except FileNotFoundError:
        raise ModelMissing(f"there is no file {source}") from None
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        reason = printable_line(error) or type(error).__name__
        raise ModelBroken(f"{source} is not a whole GGUF model ({reason}); get the file again") from error


def _check_room(folder: Path, needed: int) -> None:
    """Raises OSError where the disk has too little room for so many bytes."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if needed > (free := shutil.disk_usage(there).free):
        raise OSError(errno.ENOSPC, f"{needed // 1_000_000} MB are needed, {free // 1_000_000} MB are free")


def _save_shards(folder: Path, weights: Iterator[tuple[str, mx.array]]) -> None:
    """Write the weights as model.safetensors, or as several files where one would be large."""
    shard: dict[str, mx.array] = {}
    number = held = 0
    for name, array in weights:
        if shard and held + array.nbytes > SHARD_BYTES:
            number += 1
            _save(folder / f"model-{number:05}.safetensors", shard)
            shard, held = {}, 0
        shard[name] = array
        held += array.nbytes
    _save(folder / (f"model-{number + 1:05}.safetensors" if number else "model.safetensors"), shard)


def _save(path: Path, weights: dict[str, mx.array]) -> None:
    try:
        mx.save_safetensors(str(path), weights, metadata={"format": "mlx"})
    except RuntimeError as error:  # MLX's own I/O error carries no errno
        free = shutil.disk_usage(path.parent).free
        raise OSError(f"{path} could not be written ({error}); {free // 1_000_000} MB are free") from error
