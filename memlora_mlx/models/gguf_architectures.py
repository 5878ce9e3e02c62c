"""What the architectures of GGUF files are in mlx-lm: their configs, their tensors' names, and how those are stored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from memlora_mlx.models.gguf_file import READABLE_TYPES, GgufTensor
from memlora_mlx.models.gguf_header import GgufHeader

Float = Literal["float32", "float16"]
Config = dict[str, Any]

_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TWO_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_FOUR_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture of GGUF files."""

    model_type: str  # mlx-lm's name for it
    class_name: str  # transformers' name for its class
    norms: dict[str, str]  # of each layer, over the hidden size
    head_norms: bool = False  # queries and keys of each head are normalised too
    has_bias: bool = False  # of the projections to queries, keys and values
    permutes_heads: bool = False  # llama.cpp interleaves the two halves of each head's rows; MLX rotates halves
    adds_one: bool = False  # llama.cpp stores 1 + w of the norms; mlx-lm adds the 1 itself
    own_head: bool = True  # the output head may be another tensor than the embedding


ARCHITECTURES = {
    "llama": Architecture("llama", "LlamaForCausalLM", _TWO_NORMS, permutes_heads=True),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM", _TWO_NORMS, has_bias=True),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", _TWO_NORMS, head_norms=True),
    "gemma": Architecture("gemma", "GemmaForCausalLM", _TWO_NORMS, adds_one=True, own_head=False),
    "gemma2": Architecture("gemma2", "Gemma2ForCausalLM", _FOUR_NORMS, adds_one=True, own_head=False),
    "gemma3": Architecture(
        "gemma3_text", "Gemma3ForCausalLM", _FOUR_NORMS, head_norms=True, adds_one=True, own_head=False
    ),
}
_LINEAR_SCALING = ("llama", "gemma3")  # whose positions mlx-lm scales as llama.cpp does
_GEMMA3_PATTERN = 6  # every sixth layer of Gemma 3 attends to everything, the others to a window


def read_config(header: GgufHeader, dtype: Float) -> Config:
    """config.json, with the fields of mlx-lm's `ModelArgs` of the architecture.

    Raises:
        ModelBroken: the architecture, or something about it, is not one that memlora reads.
        ValueError, TypeError: a value is missing or impossible.
    """
    kind = header.architecture
    if kind not in ARCHITECTURES:
        raise header.unsupported(
            f"its architecture is {kind or 'not named'!r}; memlora reads {', '.join(ARCHITECTURES)}"
        )
    parts = header.value("split.count")
    if isinstance(parts, int) and parts > 1:
        raise header.unsupported(f"it is one of {parts} parts; join them with llama.cpp's llama-gguf-split --merge")
    hidden, heads = header.positive_integer("embedding_length"), header.positive_integer("attention.head_count")
    head_dim = header.positive_integer("attention.key_length", default=hidden // heads)
    if header.positive_integer("attention.value_length", default=head_dim) != head_dim:
        raise header.unsupported("its keys and values differ in size, which memlora does not read")
    if header.positive_integer("rope.dimension_count", default=head_dim) != head_dim:
        raise header.unsupported("it rotates only a part of each head, which memlora does not read")
    if kind == "qwen2" and head_dim * heads != hidden:
        raise header.unsupported(f"its {heads} heads of {head_dim} do not make {hidden}, which mlx-lm's qwen2 needs")
    architecture = ARCHITECTURES[kind]
    config: Config = {
        "model_type": architecture.model_type,
        "architectures": [architecture.class_name],
        "hidden_size": hidden,
        "num_hidden_layers": header.positive_integer("block_count"),
        "intermediate_size": header.first_positive_integer("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": header.first_positive_integer("attention.head_count_kv", default=heads),
        "head_dim": head_dim,
        "rms_norm_eps": header.positive_number("attention.layer_norm_rms_epsilon"),
        "rope_theta": header.positive_number("rope.freq_base", default=1e6 if kind == "gemma3" else 10000.0),
        "max_position_embeddings": header.positive_integer("context_length"),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "torch_dtype": dtype,
    }
    if head_dim % 2 or heads % config["num_key_value_heads"]:
        raise ValueError(f"{heads} heads of {head_dim} cannot share {config['num_key_value_heads']} key heads")
    if (scaling := _rope_scaling(header, config)) is not None:
        config["rope_scaling"] = scaling
    return config | _gemma_config(header, config)


def _gemma_config(header: GgufHeader, config: Config) -> Config:
    """What only Gemma 2 and 3 have."""
    kind, layers, head_dim = header.architecture, config["num_hidden_layers"], config["head_dim"]
    if kind not in ("gemma2", "gemma3"):
        return {}
    # GGUF does not hold this one. Gemma scales by its heads' size, but the 27B models, which alone have 46 layers
    # (Gemma 2) or 62 (Gemma 3), by what a head would have if the heads made up the hidden size.
    is_27b = layers == (46 if kind == "gemma2" else 62)
    scalar = config["hidden_size"] // config["num_attention_heads"] if is_27b else head_dim
    if kind == "gemma2":
        return {
            "attn_logit_softcapping": header.positive_number("attn_logit_softcapping", default=50.0),
            "final_logit_softcapping": header.positive_number("final_logit_softcapping", default=30.0),
            "sliding_window": header.positive_integer("attention.sliding_window", default=4096),
            "query_pre_attn_scalar": scalar,
        }
    if header.value("gemma3.final_logit_softcapping") is not None:
        raise header.unsupported("its logits are capped, which mlx-lm's Gemma 3 does not do")
    return {
        "sliding_window": header.positive_integer("attention.sliding_window", default=1024),
        "sliding_window_pattern": _GEMMA3_PATTERN,
        "rope_local_base_freq": header.positive_number("rope.freq_base_swa", default=10000.0),
        "query_pre_attn_scalar": scalar,
    }


def _rope_scaling(header: GgufHeader, config: Config) -> dict[str, Any] | None:
    """How positions are scaled, in mlx-lm's words; None where they are not."""
    kind = header.architecture
    scaling = header.text(f"{kind}.rope.scaling.type") or "none"
    if scaling == "linear" and kind in _LINEAR_SCALING:
        return {"type": "linear", "rope_type": "linear", "factor": header.positive_number("rope.scaling.factor")}
    if scaling != "none":
        raise header.unsupported(f"its positions are scaled ({scaling!r}); memlora reads unscaled ones")
    if kind == "llama" and "rope_freqs.weight" in header.tensors:
        return _llama3_scaling(header, config)
    return None


def _llama3_scaling(header: GgufHeader, config: Config) -> dict[str, Any]:
    """The scaling of Llama 3.1 and later, of which a GGUF file keeps the divisors of the frequencies alone.

    All published models have the same settings but for the factor, which is the largest divisor. Other divisors than
    these settings give are refused.
    """
    half = config["head_dim"] // 2
    tensor = header.tensors["rope_freqs.weight"]
    if tensor.shape != (half,) or tensor.type_name != "F32":
        raise ValueError(f"tensor {tensor.name} has the shape {tensor.shape} and the type {tensor.type_name}")
    divisors = header.file.values(tensor).astype(np.float64)
    factor, low, high, original = float(divisors.max()), 1.0, 4.0, 8192
    wavelengths = 2 * math.pi * config["rope_theta"] ** (np.arange(half) / half)
    smooth = np.clip((original / wavelengths - low) / (high - low), 0, 1)
    if not (np.isfinite(factor) and factor >= 1 and np.allclose(divisors, 1 / ((1 - smooth) / factor + smooth), 1e-3)):
        raise header.unsupported("tensor rope_freqs.weight scales positions in a way that memlora does not read")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }


def _names(architecture: Architecture, config: Config) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Of each weight but the embedding: its name in GGUF, in MLX, and its shape."""
    hidden: int = config["hidden_size"]
    inner: int = config["intermediate_size"]
    query = config["num_attention_heads"] * config["head_dim"]
    key = config["num_key_value_heads"] * config["head_dim"]
    outputs: dict[str, int] = {"attn_q": query, "attn_k": key, "attn_v": key, "ffn_gate": inner, "ffn_up": inner}
    inputs: dict[str, int] = {"attn_output": query, "ffn_down": inner}
    for layer in range(config["num_hidden_layers"]):
        ours, theirs = f"model.layers.{layer}", f"blk.{layer}"
        for name, module in _LAYER.items():
            shape = (outputs.get(name, hidden), inputs.get(name, hidden))
            yield f"{theirs}.{name}.weight", f"{ours}.{module}.weight", shape
            if architecture.has_bias and name in ("attn_q", "attn_k", "attn_v"):
                yield f"{theirs}.{name}.bias", f"{ours}.{module}.bias", shape[:1]
        for name, module in architecture.norms.items():
            yield f"{theirs}.{name}.weight", f"{ours}.{module}.weight", (hidden,)
        for name, module in _HEAD_NORMS.items() if architecture.head_norms else ():
            yield f"{theirs}.{name}.weight", f"{ours}.{module}.weight", (config["head_dim"],)
    yield "output_norm.weight", "model.norm.weight", (hidden,)


def find_tensors(header: GgufHeader, config: Config) -> dict[str, GgufTensor]:
    """The file's tensors by their MLX names, once names, types and shapes are as the architecture has them.

    Sets `vocab_size` in the config.

    Raises:
        ModelBroken: there is a tensor that memlora does not know, or one of a type it does not read.
        ValueError: a tensor is missing or has another shape.
    """
    architecture, left = ARCHITECTURES[header.architecture], dict(header.tensors)
    if config.get("rope_scaling", {}).get("rope_type") == "llama3":
        left.pop("rope_freqs.weight")  # the config says what it does
    for name, tensor in left.items():
        if tensor.type_name not in READABLE_TYPES:
            readable = f"{', '.join(READABLE_TYPES[:-1])} and {READABLE_TYPES[-1]}"
            raise header.unsupported(f"tensor {name} is {tensor.type_name}; memlora reads {readable}")
    found: dict[str, GgufTensor] = {}

    def take(theirs: str, ours: str, shape: tuple[int, ...]) -> None:
        if theirs not in left:
            raise ValueError(f"tensor {theirs} is missing")
        found[ours] = tensor = left.pop(theirs)
        if tensor.shape != shape:
            raise ValueError(f"tensor {theirs} has the shape {tensor.shape}, not {shape}")

    if "token_embd.weight" not in left:
        raise ValueError("tensor token_embd.weight is missing")
    config["vocab_size"] = left["token_embd.weight"].shape[0]
    embedding = (config["vocab_size"], config["hidden_size"])
    take("token_embd.weight", "model.embed_tokens.weight", embedding)
    for names in _names(architecture, config):
        take(*names)
    if not config["tie_word_embeddings"] and architecture.own_head:
        take("output.weight", "lm_head.weight", embedding)
    if left:  # it would change what the model computes: scaled positions, more biases, experts
        raise header.unsupported(f"tensor {next(iter(left))} is not one memlora knows in a {header.architecture} model")
    return found


def read_weight(header: GgufHeader, tensor: GgufTensor, name: str, config: Config, dtype: Float) -> mx.array:
    """A tensor as mlx-lm has it: expanded, and turned back from how llama.cpp stores it.

    Args:
        name: its MLX name.

    Raises:
        ValueError: it holds what is no finite number.
        ExtraMissing: its type is one that only the gguf package reads.
    """
    architecture = ARCHITECTURES[header.architecture]
    values: NDArray[np.float32] = header.file.values(tensor)
    if architecture.permutes_heads and name.endswith(("q_proj.weight", "k_proj.weight")):
        heads = config["num_attention_heads" if name.endswith("q_proj.weight") else "num_key_value_heads"]
        values = values.reshape(heads, -1, 2, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
    if architecture.adds_one and name.endswith("norm.weight"):
        values = values - 1.0
    if not np.isfinite(values).all():
        raise ValueError(f"tensor {tensor.name} holds a value that is not a finite number")
    return mx.array(values.astype(dtype))
