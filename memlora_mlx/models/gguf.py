"""A GGUF file becomes a model folder that mlx-lm loads: weights, config.json and tokenizer.

Files come from anywhere, so every number and name in them is checked before it is used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers import models as token_models

from memlora_mlx.errors import ModelBroken, ModelMissing
from memlora_mlx.files import atomic_folder
from memlora_mlx.models.gguf_file import READABLE_TYPES, GgufFile, GgufTensor
from memlora_mlx.text import printable_line

Float = Literal["float32", "float16"]
Config = dict[str, Any]

ARCHITECTURES = ("llama", "qwen2", "gemma2")

_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NORMS = {
    "llama": {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"},
    "qwen2": {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"},
    "gemma2": {
        "attn_norm": "input_layernorm",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
}
_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "gemma2": "Gemma2ForCausalLM"}

# How text is cut before byte-pair merging, by the name in `tokenizer.ggml.pre`.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {"qwen2": _WORDS % r"\p{N}", "llama-bpe": _WORDS % r"\p{N}{1,3}"}
PRE_TOKENIZERS = ("smollm", "qwen2", "llama-bpe", "gpt-2", "default")

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # tokenizer.ggml.token_type; 1 normal, 5 unused, 6 byte


def convert(source: Path, folder: Path, *, dtype: Float = "float32") -> None:
    """Write the model in the GGUF file `source` as a new MLX folder; all of it appears at once or nothing does.

    Args:
        dtype: what the weights are kept as; quantised ones are expanded to it.

    Raises:
        ModelMissing: there is no such file.
        ModelBroken: it is damaged, or holds an architecture, tensor type or tokenizer memlora does not read.
        OSError: the folder cannot be written.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists")
    try:
        with np.errstate(over="raise", invalid="ignore"):  # an offset beyond 64 bits, a weight beyond float16
            header = _Header(source)
            config = _config(header, dtype)
            tensors = _tensors(header, config)
            tokenizer, tokenizer_config = _tokenizer(header, config)
            weights = {name: _weight(header, tensor, name, config, dtype) for name, tensor in tensors.items()}
    except FileNotFoundError:
        raise ModelMissing(f"there is no file {source}") from None
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        reason = printable_line(error) or type(error).__name__
        raise ModelBroken(f"{source} is not a whole GGUF model ({reason}); get the file again") from error
    with atomic_folder(folder) as partial:
        _save(partial / "model.safetensors", weights)
        tokenizer.save(str(partial / "tokenizer.json"))
        for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer_config)):
            (partial / name).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _save(path: Path, weights: dict[str, mx.array]) -> None:
    try:
        mx.save_safetensors(str(path), weights, metadata={"format": "mlx"})
    except RuntimeError as error:  # MLX's own I/O error carries no errno
        free = shutil.disk_usage(path.parent).free
        raise OSError(f"{path} could not be written ({error}); {free // 1_000_000} MB are free") from error


class _Header:
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

    def token_id(self, name: str, size: int) -> int | None:
        value = self.value(f"tokenizer.ggml.{name}_token_id")
        if value is not None and not (isinstance(value, int) and 0 <= value < size):
            raise ValueError(f"tokenizer.ggml.{name}_token_id is {value}, outside the vocabulary")
        return value


def _config(header: _Header, dtype: Float) -> Config:
    """config.json, with the fields of mlx-lm's `ModelArgs` of the architecture."""
    kind = header.architecture
    if kind not in ARCHITECTURES:
        raise header.unsupported(
            f"its architecture is {kind or 'not named'!r}; memlora reads {', '.join(ARCHITECTURES)}"
        )
    if (scaling := header.text(f"{kind}.rope.scaling.type") or "none") != "none":
        raise header.unsupported(f"its positions are scaled ({scaling!r}); memlora reads unscaled ones")
    hidden, heads = header.positive_integer("embedding_length"), header.positive_integer("attention.head_count")
    head_dim = header.positive_integer("attention.key_length", default=hidden // heads)
    if header.positive_integer("rope.dimension_count", default=head_dim) != head_dim:
        raise header.unsupported("it rotates only a part of each head, which memlora does not read")
    if kind == "qwen2" and head_dim * heads != hidden:
        raise header.unsupported(f"its {heads} heads of {head_dim} do not make {hidden}, which mlx-lm's qwen2 needs")
    layers = header.positive_integer("block_count")
    config: Config = {
        "model_type": kind,
        "architectures": [_CLASSES[kind]],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": header.positive_integer("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": header.positive_integer("attention.head_count_kv", default=heads),
        "head_dim": head_dim,
        "rms_norm_eps": header.positive_number("attention.layer_norm_rms_epsilon"),
        "rope_theta": header.positive_number("rope.freq_base", default=10000.0),
        "max_position_embeddings": header.positive_integer("context_length"),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "torch_dtype": dtype,
    }
    if head_dim % 2 or heads % config["num_key_value_heads"]:
        raise ValueError(f"{heads} heads of {head_dim} cannot share {config['num_key_value_heads']} key heads")
    if kind == "gemma2":
        config["attn_logit_softcapping"] = header.positive_number("attn_logit_softcapping", default=50.0)
        config["final_logit_softcapping"] = header.positive_number("final_logit_softcapping", default=30.0)
        config["sliding_window"] = header.positive_integer("attention.sliding_window", default=4096)
        # GGUF does not hold this one. Gemma2 scales by its heads' size, but the 27B model, which alone has
        # 46 layers, by what a head would have if the heads made up the hidden size.
        config["query_pre_attn_scalar"] = hidden // heads if layers == 46 else head_dim
    return config


def _names(config: Config) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Of each weight but the embedding: its name in GGUF, in MLX, and its shape."""
    kind: str = config["model_type"]
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
            if kind == "qwen2" and name in ("attn_q", "attn_k", "attn_v"):
                yield f"{theirs}.{name}.bias", f"{ours}.{module}.bias", shape[:1]
        for name, module in _NORMS[kind].items():
            yield f"{theirs}.{name}.weight", f"{ours}.{module}.weight", (hidden,)
    yield "output_norm.weight", "model.norm.weight", (hidden,)


def _tensors(header: _Header, config: Config) -> dict[str, GgufTensor]:
    """The file's tensors by their MLX names, once names, types and shapes are as the architecture has them.

    Sets `vocab_size` in the config.
    """
    left = dict(header.tensors)
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
    for names in _names(config):
        take(*names)
    if not config["tie_word_embeddings"] and config["model_type"] != "gemma2":
        take("output.weight", "lm_head.weight", embedding)
    if left:  # it would change what the model computes: scaled positions, more biases, experts
        raise header.unsupported(
            f"tensor {next(iter(left))} is not one memlora knows in a {config['model_type']} model"
        )
    return found


def _weight(header: _Header, tensor: GgufTensor, name: str, config: Config, dtype: Float) -> mx.array:
    values: NDArray[np.float32] = header.file.values(tensor)
    if config["model_type"] == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        # llama.cpp interleaves the two halves of each head's rows; MLX rotates halves.
        heads = config["num_attention_heads" if name.endswith("q_proj.weight") else "num_key_value_heads"]
        values = values.reshape(heads, -1, 2, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
    if config["model_type"] == "gemma2" and name.endswith("norm.weight"):
        values = values - 1.0  # llama.cpp stores 1 + w; mlx-lm adds the 1 itself
    if not np.isfinite(values).all():
        raise ValueError(f"tensor {tensor.name} holds what is no number")
    return mx.array(values.astype(dtype))


def _tokenizer(header: _Header, config: Config) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer and tokenizer_config.json; sets the special token ids in the config."""
    tokens = header.texts("tokenizer.ggml.tokens")
    kinds = header.numbers("tokenizer.ggml.token_type")
    if len(kinds) != len(tokens) or len(set(tokens)) != len(tokens) or len(tokens) > config["vocab_size"]:
        raise ValueError("its vocabulary is inconsistent")
    ids = {name: header.token_id(name, len(tokens)) for name in ("bos", "eos", "eot", "padding", "unknown")}
    model = header.text("tokenizer.ggml.model")
    try:
        if model == "gpt2":
            tokenizer, adds_bos = _byte_level(header, tokens, kinds), header.text("tokenizer.ggml.pre") == "llama-bpe"
        elif model == "llama":
            tokenizer, adds_bos = _sentencepiece(header, tokens, kinds), True
        else:
            raise header.unsupported(f"its tokenizer is {model!r}; memlora reads gpt2 (byte-level BPE) and llama")
        if bool(_or(header.value("tokenizer.ggml.add_bos_token"), adds_bos)) and ids["bos"] is not None:
            bos = tokens[ids["bos"]]
            tokenizer.post_processor = processors.TemplateProcessing(
                single=[bos, "$A"], pair=[bos, "$A", bos, "$B:1"], special_tokens=[(bos, ids["bos"])]
            )
    except (ModelBroken, ValueError):
        raise
    except Exception as error:  # tokenizers raises bare Exceptions
        raise ValueError(f"its tokenizer cannot be built: {error}") from error
    if tokenizer.get_vocab_size() != len(tokens):
        raise ValueError("its vocabulary is inconsistent")

    if ids["eos"] is None:
        raise ValueError("tokenizer.ggml.eos_token_id is missing")
    ends = [ids["eos"]] + [end for end in (ids["eot"],) if end is not None and end != ids["eos"]]
    config["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    if ids["bos"] is not None:
        config["bos_token_id"] = ids["bos"]
    special = {"bos_token": ids["bos"], "eos_token": ids["eos"], "unk_token": ids["unknown"]}
    special["pad_token"] = _or(ids["padding"], ids["eos"])
    tokenizer_config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is
        "model_max_length": config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        **{name: tokens[token_id] for name, token_id in special.items() if token_id is not None},
    }
    if (template := header.text("tokenizer.chat_template")) is not None:
        tokenizer_config["chat_template"] = template
    return tokenizer, tokenizer_config


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _byte_level(header: _Header, tokens: list[str], kinds: list[float]) -> Tokenizer:
    pre = header.text("tokenizer.ggml.pre") or "default"
    if pre not in PRE_TOKENIZERS:
        raise header.unsupported(f"its pre-tokenizer is {pre!r}; memlora reads {', '.join(PRE_TOKENIZERS)}")
    pairs = [tuple(merge.split(" ")) for merge in header.texts("tokenizer.ggml.merges")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("tokenizer.ggml.merges has a line that is not a pair")
    merges = [(pair[0], pair[1]) for pair in pairs]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    whole_words_first = pre == "llama-bpe"
    tokenizer = Tokenizer(token_models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole_words_first))
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    if pre in _SPLITS:
        first: Any = pre_tokenizers.Split(Regex(_SPLITS[pre]), "isolated")
        steps = [first, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    else:
        steps = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    if pre == "smollm":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, kinds, strict=True):
        if kind in (_UNKNOWN, _CONTROL):
            tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        elif kind == _USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, normalized=False)])
    return tokenizer


def _sentencepiece(header: _Header, tokens: list[str], kinds: list[float]) -> Tokenizer:
    """By transformers' own converter: it recovers the merges that the file leaves out."""
    try:
        from transformers.integrations.gguf import convert_gguf_tokenizer
    except ImportError:
        raise header.unsupported("its SentencePiece tokenizer needs a newer transformers; pull the MLX model") from None
    scores = header.numbers("tokenizer.ggml.scores")
    if len(scores) != len(tokens):
        raise ValueError("its vocabulary is inconsistent")
    parts = {"tokenizer_type": "llama", "tokens": tokens, "scores": scores, "token_type": kinds}
    tokenizer, _ = convert_gguf_tokenizer(header.architecture, parts)
    return tokenizer
