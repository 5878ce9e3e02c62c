"""The numbers of InternVL against transformers' own implementation with the same random weights.

Skipped without torch: `pip install 'memlora-mlx[reference]'`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import SHAPE, vision_student_folder, vision_tokenizer

from memlora_mlx.models.loading import load_student
from memlora_mlx.models.vision_student import VisionStudent

import mlx.core as mx  # isort: skip
from mlx.utils import tree_flatten, tree_unflatten
from PIL import Image

torch: Any = pytest.importorskip("torch")
MOST = 1e-5  # of the largest value; float32 on both sides

_VISION = {
    "class_embedding": "cls_token",
    "position_embedding": "position_embeddings",
    "patch_embedding": "patch_embeddings.projection",
    "attn.proj": "attention.projection_layer",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
    "encoder.layers": "encoder.layer",
}
_JOINING = {"mlp1.0": "layer_norm", "mlp1.1": "linear_1", "mlp1.3": "linear_2"}


def as_theirs(name: str, array: mx.array) -> dict[str, Any]:
    """A weight of mlx-vlm under the names of transformers."""
    values = torch.tensor(np.array(array))
    if name.startswith("language_model."):
        inner = name.removeprefix("language_model.")
        return {
            inner if inner.startswith("lm_head") else f"model.language_model.{inner.removeprefix('model.')}": values
        }
    if name.startswith("mlp1."):
        part = name[: len("mlp1.0")]
        return {f"model.multi_modal_projector.{_JOINING[part]}{name[len(part) :]}": values}
    name = "model.vision_tower." + name.removeprefix("vision_model.")
    for ours, theirs in _VISION.items():
        name = name.replace(ours, theirs)
    if found := re.fullmatch(r"(.*\.)attn\.qkv\.(weight|bias)", name):
        parts = values.chunk(3)
        return {f"{found[1]}attention.{part}_proj.{found[2]}": one for part, one in zip("qkv", parts, strict=True)}
    if name.endswith("projection.weight"):
        values = values.permute(0, 3, 1, 2)  # outputs, height, width, channels
    return {name: values}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> VisionStudent:
    """Every weight is random, biases, norms and layer scales too: what is left out on one side would be seen."""
    loaded = load_student(vision_student_folder(tmp_path_factory.mktemp("students") / "tiny-internvl"))
    assert isinstance(loaded, VisionStudent)
    mx.random.seed(7)
    noisy = [
        (name, array + 0.2 * mx.random.normal(array.shape)) for name, array in tree_flatten(whole(loaded).parameters())
    ]
    whole(loaded).update(tree_unflatten(noisy))
    mx.eval(whole(loaded).parameters())
    return loaded


def whole(student: VisionStudent) -> Any:
    return student._whole


@pytest.fixture(scope="module")
def theirs(student: VisionStudent) -> Any:
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    sight = whole(student).config.vision_config
    text = {**SHAPE, "model_type": "qwen2", "vocab_size": student.vocabulary}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    config = InternVLConfig(
        text_config=text,
        vision_config={
            "hidden_size": sight.hidden_size,
            "num_hidden_layers": sight.num_hidden_layers,
            "num_attention_heads": sight.num_attention_heads,
            "intermediate_size": sight.intermediate_size,
            "image_size": [sight.image_size, sight.image_size],
            "patch_size": [sight.patch_size, sight.patch_size],
            "attention_bias": True,
        },
        image_token_id=vision_tokenizer().token_to_id("<IMG_CONTEXT>"),
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    model = InternVLForConditionalGeneration(config).float().eval()
    weights: dict[str, Any] = {}
    for name, array in tree_flatten(whole(student).parameters()):
        weights |= as_theirs(name, array)
    model.load_state_dict(weights, strict=True)
    return model


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    values = np.random.default_rng(5).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference, as a part of the largest value."""
    ours, theirs = np.array(ours, np.float32), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def test_the_features_of_a_picture_are_those_of_transformers(
    student: VisionStudent, theirs: Any, picture: Path
) -> None:
    eyes: Any = student._adapter
    with Image.open(picture) as image:
        tiles = np.stack([eyes._normal(tile) for tile in eyes._cut(image)])
        ours = eyes.features(image)
    with torch.no_grad():
        found = theirs.get_image_features(torch.tensor(tiles).permute(0, 3, 1, 2)).pooler_output
    off = difference(ours, found.reshape(-1, found.shape[-1]))
    print(f"features: {off:.2e}")
    assert off < MOST and len(tiles) == 5


def test_the_logits_of_a_prompt_with_a_picture_are_those_of_transformers(
    student: VisionStudent, theirs: Any, picture: Path
) -> None:
    prompt = student.encode((("user", "What colour is the car?"),), picture)
    ours = student.logits(student.hidden(mx.array([prompt]), student.make_cache()))[0]
    context = vision_tokenizer().token_to_id("<IMG_CONTEXT>")
    eyes: Any = student._adapter
    with Image.open(picture) as image:
        tiles = torch.tensor(np.stack([eyes._normal(tile) for tile in eyes._cut(image)])).permute(0, 3, 1, 2)
    with torch.no_grad():
        said = torch.tensor([[context if token < 0 else token for token in prompt]])
        found = theirs(input_ids=said, pixel_values=tiles).logits[0]
    off = difference(ours, found)
    print(f"logits: {off:.2e}")
    assert off < MOST
    assert np.array_equal(np.array(ours).argmax(-1), found.numpy().argmax(-1))
