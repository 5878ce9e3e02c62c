"""What a model folder holds, told by its config.json alone: no MLX, no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memlora_mlx.extras import has

VISION_FAMILIES = (
    "internvl_chat",
    "smolvlm",
    "idefics3",
    "gemma3",
    "lfm2_vl",
    "lfm2-vl",
    "qwen3_vl",
    "gemma4",
)  # whose vision tower runs here


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json; empty where it cannot be read, which loading the model then reports."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def has_vision(folder: Path) -> bool:
    """Whether the student in a folder can look at images on this machine, told without loading it."""
    return runs_vision_tower(read_config(folder))


def runs_vision_tower(config: Mapping[str, Any]) -> bool:
    """Whether a model with this config is run with its vision tower.

    A family whose language model mlx-lm loads by itself is a text student where the vision extra is missing.
    """
    if not config.get("vision_config") or config.get("model_type") not in VISION_FAMILIES:
        return False
    if language_config(config).get("use_bidirectional_attention") == "vision":
        return False  # large Gemma 4: the parts of an image see each other, and a prompt that is read in parts cuts it
    return has("vision") or not _mlx_lm_loads(config)


def is_vision_only(config: Mapping[str, Any]) -> bool:
    """Whether the model has a vision tower and mlx-lm cannot load its language model without it."""
    return bool(config.get("vision_config")) and not _mlx_lm_loads(config)


def language_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the language model: that of the whole, or the part that a model with a vision tower has for it."""
    words = config.get("text_config") or config.get("llm_config") or {}
    return {**config, **(words if isinstance(words, Mapping) else {}), "model_type": config.get("model_type")}


def _mlx_lm_loads(config: Mapping[str, Any]) -> bool:
    from importlib.util import find_spec

    family = str(config.get("model_type", ""))
    package = find_spec("mlx_lm")
    if package is None or not package.submodule_search_locations:
        return False
    known = any((Path(place) / "models" / f"{family}.py").is_file() for place in package.submodule_search_locations)
    return known or family in _OTHER_NAMES


_OTHER_NAMES = ("qwen2_5_vl", "gemma4_unified")  # families with a vision tower that mlx-lm loads under another name


def text_only_message(student: str) -> str:
    """What a user reads who shows a picture to a student that cannot see."""
    return f"{student} reads text only; `memlora models pull internvl3-1b` fetches a student that sees: --student internvl3-1b"
