"""Which embedding space a sentence encoder's folder stands for, read from its files alone: no MLX, no weights."""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

from memlora_mlx.errors import ModelBroken

_NORM = "embeddings.LayerNorm.weight"


def read_embedding_fingerprint(folder: Path, *, query_prompt: bool = True) -> tuple[str, int]:
    """What makes an encoder's vectors comparable, in words, and their dimension.

    Two folders share a space when they hold the same weights (told by one small tensor) and pool and prompt alike.

    Raises:
        ModelBroken: a file is missing or damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        dim, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        digest = sha256(_tensor(folder / "model.safetensors")).hexdigest()[:8]
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelBroken(f"the embedder in {folder} cannot be read ({error}); pull it again") from error
    prompt = read_query_prompt(folder) if query_prompt else ""
    prompted = f", queries prompted {prompt!r}" if prompt else ""
    return f"bert-{layers}x{dim}-{digest}, {read_pooling(folder)} pooling{prompted}", dim


def read_pooling(folder: Path) -> str:
    """ "cls" or "mean", as sentence-transformers' own file says."""
    return "cls" if read_optional_json(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token") else "mean"


def read_query_prompt(folder: Path) -> str:
    """What the encoder was trained to see before a question; often nothing."""
    prompts = read_optional_json(folder / "config_sentence_transformers.json").get("prompts")
    return str(prompts.get("query", "")) if isinstance(prompts, dict) else ""


def read_optional_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _tensor(path: Path) -> bytes:
    """The bytes of the embeddings' norm in a safetensors file: eight bytes of length, a JSON header, the data."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100_000_000:
            raise ValueError("not a safetensors file")
        header = json.loads(file.read(length))
        start, end = header.get(_NORM, header.get(f"bert.{_NORM}"))["data_offsets"]
        file.seek(8 + length + start)
        return file.read(end - start)
