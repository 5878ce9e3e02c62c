"""The tokenizer in a GGUF file, as the `tokenizers` library has it: byte-level BPE, and SentencePiece by transformers."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers import models as token_models

from memlora_mlx.errors import ModelBroken
from memlora_mlx.models.gguf_header import GgufHeader

# How text is cut before byte-pair merging, by the name in `tokenizer.ggml.pre`.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {"qwen2": _WORDS % r"\p{N}", "llama-bpe": _WORDS % r"\p{N}{1,3}"}
PRE_TOKENIZERS = ("smollm", "qwen2", "llama-bpe", "gpt-2", "default")

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # tokenizer.ggml.token_type; 1 normal, 5 unused, 6 byte


def read_tokenizer(header: GgufHeader, config: dict[str, Any]) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer and tokenizer_config.json; sets the special token ids in the config.

    Raises:
        ModelBroken: it is of a kind that memlora does not read.
        ValueError, TypeError: the file contradicts itself.
    """
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


def _byte_level(header: GgufHeader, tokens: list[str], kinds: list[float]) -> Tokenizer:
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


def _sentencepiece(header: GgufHeader, tokens: list[str], kinds: list[float]) -> Tokenizer:
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
