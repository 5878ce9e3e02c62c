"""Loads a student from its folder: a text student, or a vision student where the model has a vision tower.

The classes know nothing of this module, so neither of them has to import the other in order to be loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from memlora_mlx.errors import ExtraMissing, ModelBroken, VisionMissing
from memlora_mlx.extras import require
from memlora_mlx.models import cpu_kernels
from memlora_mlx.models.cards import ModelManifest
from memlora_mlx.models.model_config import is_vision_only, language_config, read_config, runs_vision_tower
from memlora_mlx.models.student import Student, error_line
from memlora_mlx.models.vision_families import vision_adapter_for
from memlora_mlx.models.vision_student import VisionStudent
from memlora_mlx.settings import IMAGE_TILES


def load_student(folder: Path, name: str | None = None, *, image_tiles: int = IMAGE_TILES) -> Student:
    """Load an MLX model folder. The result is a `VisionStudent` if the model has a vision tower that runs here.

    Of a model whose tower does not run here, mlx-lm loads the language model, and the result reads text only.

    Args:
        folder: the model folder, with config.json, *.safetensors and a tokenizer.
        name: what reports call the student; by default the name in its manifest, or the name of the folder.
        image_tiles: the largest number of tiles that a vision student cuts an image into.

    Raises:
        ModelBroken: a file is missing or damaged, or mlx-lm does not know the architecture.
        ExtraMissing: it is a vision model, and mlx-vlm is not installed.
        VisionMissing: its tower does not run here, and mlx-lm does not load its language model by itself.
    """
    config = read_config(folder)
    try:
        if runs_vision_tower(config) or is_vision_only(config):
            return _load_vision_student(folder, config, name or _name_of(folder), image_tiles)
        return _load_text_student(folder, name or _name_of(folder))
    except (ModelBroken, VisionMissing, ExtraMissing):
        raise
    except Exception as error:  # mlx-lm, mlx-vlm, transformers and safetensors each raise their own
        raise ModelBroken(f"the student in {folder} cannot be loaded ({error_line(error)}); pull it again") from error


def _load_text_student(folder: Path, name: str) -> Student:
    from mlx_lm.utils import load_model, load_tokenizer

    model, config = load_model(folder)
    tokenizer = load_tokenizer(folder, eos_token_ids=_end_tokens(config))
    _make_resident(model, config)
    return Student(model, tokenizer, config, name)


def _load_vision_student(folder: Path, config: dict[str, Any], name: str, image_tiles: int) -> VisionStudent:
    require("vision", f"the vision student {folder.name}")
    from mlx_lm.utils import load_tokenizer
    from mlx_vlm.utils import load_model
    from transformers.utils import logging

    if "model_file" in config:
        raise ModelBroken(
            f"the student in {folder} brings a program of its own ({config['model_file']}), which memlora does not run; "
            "choose another student"
        )
    adapter = vision_adapter_for(config)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # transformers warns of every model type that is not its own
    try:
        whole = load_model(folder, lazy=True)
        tokenizer = load_tokenizer(folder, eos_token_ids=_end_tokens(config))
        # What ends a turn is often in neither: InternVL's configs name the end of a document alone.
        for end in (str(tokenizer.eos_token_id), *adapter.STOP_TOKENS):
            tokenizer.add_eos_token(end)
        _make_resident(whole, config)
        return VisionStudent(whole, tokenizer, config, name, adapter(whole, tokenizer, config, image_tiles))
    finally:
        logging.set_verbosity(verbosity)


def _end_tokens(config: Mapping[str, Any]) -> Any:
    """The tokens that end an answer, as the config of the whole or of its language model names them."""
    return config.get("eos_token_id") or language_config(config).get("eos_token_id")


def _make_resident(model: nn.Module, config: Mapping[str, Any]) -> None:
    """Read the weights into memory, in the precision that this machine computes in."""
    if mx.default_device() == mx.Device(mx.cpu) and "quantization" not in config:
        model.set_dtype(mx.float32)  # half precision is ten times slower than float32 on MLX's CPU back end
    cpu_kernels.install_cpu_kernels()
    model.eval()
    mx.eval(model.parameters())


def _name_of(folder: Path) -> str:
    with contextlib.suppress(ModelBroken):
        if name := ModelManifest.read(folder).name:
            return name
    return folder.resolve().name
