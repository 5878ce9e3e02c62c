"""The drawings student's parts: its tokenizer, InternVL's architecture in miniature, its image tower, and its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

import memlora_mlx.models  # noqa: F401 - prepares MLX
from memlora_mlx.eval.vqa import drawings_lessons
from memlora_mlx.eval.vqa.drawings_lessons import PIXELS
from memlora_mlx.memory import stages

import mlx.core as mx  # isort: skip  (memlora_mlx.models prepares it)
import mlx.nn as nn  # isort: skip
from mlx.utils import tree_flatten  # isort: skip

PATCH_PIXELS = 14  # pixels; four patches, two a side, are a cell, and one token of the language model
VOCABULARY = 800
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
END, CONTEXT = 2, 5  # places of the above
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISION: dict[str, Any] = {
    "model_type": "intern_vit_6b",
    "hidden_size": 128,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 192,
    "patch_size": PATCH_PIXELS,
    "image_size": PIXELS,
    "norm_type": "layer_norm",
    "qkv_bias": True,
    "drop_path_rate": 0.0,
}
LANGUAGE: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": VOCABULARY,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # as InternVL's processor has them


def tokenizer() -> Tokenizer:
    """Byte pairs of the lessons' words and of the stages' prompts."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS],
        show_progress=False,
    )
    prompts = [
        stages.visual_question_chat("")[0][1],
        stages.answer_chat("", ())[0][1],
        stages.update_chat((), ())[0][1],
    ]
    built.train_from_iterator([*drawings_lessons.texts(3000), *prompts * 100], trainer)
    return built


def config() -> dict[str, Any]:
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "downsample_ratio": 0.5,
        "force_image_size": PIXELS,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 1,
        "use_thumbnail": False,
        "image_token_index": CONTEXT,
        "eos_token_id": END,
        "system_message": "",
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LANGUAGE["max_position_embeddings"],
        "vision_config": VISION,
        "llm_config": LANGUAGE,
    }


def model(seed: int = 0) -> nn.Module:
    """The architecture with weights to begin from."""
    from mlx_vlm.models import internvl_chat as internvl

    mx.random.seed(seed)
    told = config()
    made = internvl.ModelConfig.from_dict({**told, "text_config": LANGUAGE})
    made.text_config = internvl.TextConfig.from_dict(LANGUAGE)
    made.vision_config = internvl.VisionConfig.from_dict(VISION)
    built = internvl.Model(made)
    embeddings = built.vision_model.embeddings
    embeddings.class_embedding = embeddings.class_embedding * 0.02
    embeddings.position_embedding = embeddings.position_embedding * 0.02
    for layer in built.language_model.layers:  # what a block adds is to be quiet beside the words at first
        for last in (layer.self_attn.o_proj, layer.mlp.down_proj):
            last.weight = last.weight * 0.2
    mx.eval(built.parameters())
    return built


def vision_states(built: nn.Module, pictures: mx.array) -> mx.array:
    """What the image tower makes of pictures, four patches a cell: (pictures, 16, 4 * dim).

    Args:
        pictures: float32, (pictures, PIXELS, PIXELS, 3), normalised.
    """
    from mlx_vlm.models.base import pixel_shuffle

    tower, side = built.vision_model, PIXELS // PATCH_PIXELS
    patches, begin = tower.embeddings.patch_embedding, tower.embeddings.class_embedding
    # The convolution as a product of matrices, which MLX's CPU back end does faster.
    cut = pictures.reshape(-1, side, PATCH_PIXELS, side, PATCH_PIXELS, 3).transpose(0, 1, 3, 2, 4, 5)
    x = cut.reshape(-1, side * side, PATCH_PIXELS**2 * 3) @ patches.weight.reshape(patches.weight.shape[0], -1).T
    x = mx.concatenate([mx.broadcast_to(begin, (x.shape[0], 1, x.shape[2])), x + patches.bias], axis=1)
    x, _ = tower.encoder(x + tower.embeddings.position_embedding, output_hidden_states=False)
    return pixel_shuffle(x[:, 1:], shuffle_ratio=0.5)


def project_features(built: nn.Module, states: mx.array) -> mx.array:
    """The tower's states as the language model reads them, a token a cell: (pictures, 16, dim)."""
    for layer in built.mlp1:
        states = layer(states)
    return states


def normalise_pixels(pictures: Sequence[drawings_lessons.Pixels]) -> mx.array:
    return mx.array(((np.stack(pictures) / 255.0 - MEAN) / DEVIATION).astype(np.float32))


def write_model(built: nn.Module, words: Tokenizer, folder: Path) -> None:
    """A model folder in 16 bits, with a manifest as pulled models have."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: array.astype(mx.float16) for name, array in tree_flatten(built.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    words.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": TEMPLATE,
    }
    for name, value in (("config.json", config()), ("tokenizer_config.json", settings)):
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
