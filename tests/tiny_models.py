"""Real models in miniature: two layers, random weights, a byte-level tokenizer trained here; milliseconds to build."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from memlora_mlx.models.cards import ExpertCard
from memlora_mlx.models.experts import ALL_LINEAR, Q_V, random_matrices, write_expert
from memlora_mlx.models.model_config import VISION_FAMILIES
from memlora_mlx.models.typed_json import from_json

import mlx.core as mx  # isort: skip
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.utils import _get_classes
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

__all__ = ["ALL_LINEAR", "Q_V"]

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
}
_WINDOWED = {"head_dim": 8, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
_MAMBA = {
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_n_groups": 1,
    "mamba_expand": 1,
}
# What makes each family of the catalogue what it is, in small. A `text_config` stands for a model with a vision tower.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 8},
    "gemma2": {"model_type": "gemma2", "head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {
        "model_type": "gemma3_text",
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 8,
        "sliding_window_pattern": 2,
    },
    "gemma3n": {
        "model_type": "gemma3n",
        "text_config": {
            **_WINDOWED,
            "model_type": "gemma3n_text",
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,
            "vocab_size_per_layer_input": 400,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "altup_num_inputs": 2,
            "altup_coef_clip": 120.0,
            "altup_active_idx": 0,
            "altup_correct_scale": True,
            "altup_lr_multiplier": 1.0,
            "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
            "final_logit_softcapping": 30.0,
            "rope_local_base_freq": 10000.0,
            "rope_scaling": None,
            "query_rescale_scalar": 1.0,
        },
    },
    "gemma4": {
        "model_type": "gemma4",
        "vocab_size": 400,
        "text_config": {
            **_WINDOWED,
            "model_type": "gemma4_text",
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,
            "global_head_dim": 16,
            "vocab_size_per_layer_input": 400,
            "hidden_size_per_layer_input": 8,
            "final_logit_softcapping": 30.0,
        },
    },
    "qwen3_5": {
        "model_type": "qwen3_5",
        "text_config": {
            "model_type": "qwen3_5_text",
            "num_hidden_layers": 4,
            "head_dim": 16,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "full_attention_interval": 2,
        },
    },
    "smollm3": {"model_type": "smollm3", "no_rope_layers": [1, 0]},
    "granite": {
        "model_type": "granite",
        "logits_scaling": 8.0,
        "attention_multiplier": 0.35,
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "attention_bias": False,
        "mlp_bias": False,
    },
    "granitemoehybrid": {
        "model_type": "granitemoehybrid",
        "logits_scaling": 8.0,
        "attention_multiplier": 0.35,
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "attention_bias": False,
        "layer_types": ["mamba", "attention"],
        **_MAMBA,
        "mamba_proj_bias": False,
        "mamba_conv_bias": True,
        "position_embedding_type": "nope",
    },
    "cohere2": {
        "model_type": "cohere2",
        "head_dim": 8,
        "logit_scale": 0.0625,
        "sliding_window": 8,
        "sliding_window_pattern": 2,
        "layer_norm_eps": 1e-5,
        "attention_bias": False,
        "layer_norm_bias": False,
    },
    "lfm2": {
        "model_type": "lfm2",
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 32,
        "block_ff_dim": 64,
        "block_multiple_of": 8,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "layer_types": ["conv", "full_attention"],
    },
    "phi3": {"model_type": "phi3"},
    "ministral3": {
        "model_type": "ministral3",
        "head_dim": 8,
        "rope_parameters": {
            "rope_theta": 10000.0,
            "type": "default",
            "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 16,
        },
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}
FAMILIES["mistral3"] = {"model_type": "mistral3", "text_config": FAMILIES["ministral3"]}
# These tie the output head to the embedding whatever is asked.
ALWAYS_TIED = ("gemma2", "gemma3_text", "gemma3n", "gemma4", "cohere2", "lfm2")
CORPUS = [
    'Old memories:[{"id": "0", "text": "Ann likes tea"}]. New retrieved facts: ["Ann moved to Rome last week"].',
    '{"memory": [{"id": "1", "text": "Ann moved to Rome", "event": "ADD"}, {"id": "0", "text": "", "event": "UPDATE"',
    '"old_memory": "Ann likes tea"}]} {"facts": ["Bob bought a red bicycle", "the doctor said no"]} DELETE NONE',
    "user: Ann: I went to the market yesterday and bought seven green apples.\nassistant: Bob: That sounds lovely!",
    "Answer the question from these memories in a few words. 8 May 2023: Where did Ann go? Extract and organize.",
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    specials = [AddedToken(name, special=True) for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=specials,
        show_progress=False,
    )
    built.train_from_iterator(CORPUS * 4, trainer)
    return built


def model(family: str = "llama", *, seed: int = 0, tied: bool = False) -> tuple[nn.Module, dict[str, Any]]:
    """A model of the family with random weights, evaluated, and its config."""
    words = {"vocab_size": tokenizer().get_vocab_size(), "tie_word_embeddings": tied or family in ALWAYS_TIED}
    config = {**FAMILIES[family], "eos_token_id": 2}
    if "text_config" in config:
        config["text_config"] = {**SHAPE, **words, **config["text_config"]}
        if family not in VISION_FAMILIES:
            config["vision_config"] = {"hidden_size": 8}  # a tower that this family's weights here do not have
    else:
        config = {**SHAPE, **words, **config}
    model_class, args_class = _get_classes(config)
    mx.random.seed(seed)
    built = model_class(args_class.from_dict(config))
    # Spread the logits: at initialisation every token is about as likely, and argmax would be decided by rounding.
    loud = {
        name: mx.random.normal(array.shape)
        for name, array in tree_flatten(built.parameters())
        if name.endswith(("embed_tokens.weight", "lm_head.weight"))
    }
    built.update(tree_unflatten(sorted(loud.items())))
    built.eval()
    mx.eval(built.parameters())
    return built, config


def student_folder(folder: Path, family: str = "llama", *, seed: int = 0, tied: bool = False) -> Path:
    """A complete MLX model folder."""
    built, config = model(family, seed=seed, tied=tied)
    return _write_student(folder, built, config, tokenizer())


def _write_student(folder: Path, built: nn.Module, config: dict[str, Any], words: Tokenizer) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(built.parameters())), {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    words.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@lru_cache(maxsize=1)
def vision_tokenizer() -> Tokenizer:
    """The same with InternVL's marks."""
    built = Tokenizer.from_str(tokenizer().to_str())
    built.add_special_tokens([AddedToken(mark, special=True) for mark in ("<img>", "</img>", "<IMG_CONTEXT>")])
    return built


def vision_model(*, seed: int = 0, tied: bool = False, language: str = "qwen2") -> tuple[nn.Module, dict[str, Any]]:
    """An InternVL with random weights: four features a tile of 56 x 56 pixels.

    Args:
        language: the family of its language model: qwen2 (InternVL3) or qwen3 (InternVL3.5).
    """
    from mlx_vlm.models import internvl_chat

    words = vision_tokenizer()
    text = {**SHAPE, "model_type": language, "vocab_size": words.get_vocab_size(), "tie_word_embeddings": tied}
    text |= {"attention_bias": False, "head_dim": 8} if language == "qwen3" else {}
    text["rope_theta"] = 1e6
    sight = {
        "model_type": "intern_vit_6b",
        "hidden_size": 32,
        "num_attention_heads": 4,
        "patch_size": 14,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "image_size": 56,
    }
    config = {
        "model_type": "internvl_chat",
        "downsample_ratio": 0.5,
        "force_image_size": 56,
        "image_token_index": words.token_to_id("<IMG_CONTEXT>"),
        "eos_token_id": 2,
        "vision_config": sight,
        "llm_config": text,
    }
    parts = {
        "text_config": internvl_chat.TextConfig.from_dict(text),
        "vision_config": internvl_chat.VisionConfig.from_dict(sight),
    }
    mx.random.seed(seed)
    built = internvl_chat.Model(internvl_chat.ModelConfig.from_dict({**config, **parts}))
    shape = (words.get_vocab_size(), SHAPE["hidden_size"])
    built.language_model.model.embed_tokens.weight = mx.random.normal(shape)
    if not tied:
        built.language_model.lm_head.weight = mx.random.normal(shape)
    built.mlp1[-1].weight = built.mlp1[-1].weight * 40.0  # features as loud as words
    for layer in built.language_model.model.layers:  # and listened to
        layer.self_attn.o_proj.weight = layer.self_attn.o_proj.weight * 12.0
    built.eval()
    mx.eval(built.parameters())
    return built, config


def vision_student_folder(folder: Path, *, seed: int = 0, tied: bool = False, language: str = "qwen2") -> Path:
    """A complete folder of a vision student, as mlx-vlm reads it too."""
    built, config = vision_model(seed=seed, tied=tied, language=language)
    return _write_student(folder, built, config, vision_tokenizer())


def expert_folder(
    folder: Path, base: nn.Module, keys: tuple[str, ...] = Q_V, *, seed: int = 1, card: dict[str, Any] | None = None
) -> Path:
    """An adapter of random weights in mlx-lm's format, strong enough to change what the base says."""
    write_expert(
        folder,
        random_matrices(base, keys, rank=4, seed=seed, strength=0.3),
        scale=2.0,
        card=from_json(ExpertCard, card or {}),
    )
    return folder


def embedder_folder(folder: Path, *, seed: int = 3, pooling: str = "mean") -> Path:
    """A two-layer BERT of random weights; its tokenizer splits words, so equal words make vectors alike."""
    from tokenizers import normalizers
    from tokenizers.models import WordLevel

    words = sorted({word for line in CORPUS for word in line.lower().split()})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    for code in range(97, 123):
        vocabulary.setdefault(chr(code), len(vocabulary))
    built = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    built.normalizer = normalizers.Lowercase()
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    dim, inner, layers = 32, 64, 2
    config = {
        "model_type": "bert",
        "hidden_size": dim,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": inner,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 128,
        "vocab_size": len(vocabulary),
    }
    mx.random.seed(seed)
    arrays = {
        "embeddings.word_embeddings.weight": mx.random.normal((len(vocabulary), dim)),
        "embeddings.position_embeddings.weight": mx.random.normal((128, dim)) * 0.05,
        "embeddings.token_type_embeddings.weight": mx.random.normal((2, dim)) * 0.05,
    }

    def norm(name: str) -> None:
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = mx.ones(dim) + mx.random.normal((dim,)) * 0.1, mx.zeros(dim)

    def linear(name: str, outputs: int, inputs: int) -> None:
        arrays[f"{name}.weight"] = mx.random.normal((outputs, inputs)) * 0.1
        arrays[f"{name}.bias"] = mx.random.normal((outputs,)) * 0.1

    norm("embeddings.LayerNorm")
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{name}.attention.self.{part}", dim, dim)
        linear(f"{name}.attention.output.dense", dim, dim)
        norm(f"{name}.attention.output.LayerNorm")
        linear(f"{name}.intermediate.dense", inner, dim)
        linear(f"{name}.output.dense", dim, inner)
        norm(f"{name}.output.LayerNorm")
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": pooling == "cls"}))
    (folder / "config.json").write_text(json.dumps(config))
    built.save(str(folder / "tokenizer.json"))
    mx.save_safetensors(str(folder / "model.safetensors"), arrays)
    return folder


def relative_error(a: mx.array, b: mx.array) -> float:
    a, b = np.array(a.astype(mx.float32)), np.array(b.astype(mx.float32))
    return float(np.abs(a - b).max() / np.abs(b).max())
