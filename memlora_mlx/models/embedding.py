"""Sentence embeddings by a BERT encoder on MLX and `tokenizers`, with neither transformers nor torch.

Reads sentence-transformers folders of the BERT family (all-MiniLM, mxbai-embed-large, bge, e5, arctic): pooling from
`1_Pooling/config.json`, the length limit from `sentence_bert_config.json`, the query prompt from
`config_sentence_transformers.json`. RoBERTa is read too: BERT whose positions begin after the padding's number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
from tokenizers import Tokenizer

from memlora_mlx.errors import ModelBroken
from memlora_mlx.models.embedding_fingerprint import read_optional_json, read_pooling, read_query_prompt
from memlora_mlx.models.plain_text import PlainText
from memlora_mlx.models.safetensors_files import load_arrays

_BATCH_TOKENS = 4096  # padded tokens in one forward pass


class Embedder:
    """Texts to unit vectors.

    Args:
        folder: a sentence-transformers folder of a BERT model.
        query_prompt: put the model's own query prompt, where it has one, before queries.

    Raises:
        ModelBroken: the folder is incomplete, damaged or of another architecture.
    """

    def __init__(self, folder: Path, *, query_prompt: bool = True) -> None:
        try:
            self._config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if self._config["model_type"] not in ("bert", "roberta"):
                raise ModelBroken(
                    f"{folder} holds a {self._config['model_type']} model; embedders of the BERT family are read"
                )
            self._weights = _weights(folder)
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except ModelBroken:
            raise
        except Exception as error:  # tokenizers raises plain Exception
            raise ModelBroken(f"the embedder in {folder} cannot be read ({error}); pull it again") from error
        self._pad = int(self._config.get("pad_token_id") or 0)
        self._first_position = self._pad + 1 if self._config["model_type"] == "roberta" else 0
        self.pooling = read_pooling(folder)
        self.max_length = int(
            read_optional_json(folder / "sentence_bert_config.json").get("max_seq_length")
            or self._config["max_position_embeddings"] - self._first_position
        )
        self.query_prompt = read_query_prompt(folder) if query_prompt else ""
        self.dim = int(self._config["hidden_size"])
        self._tokenizer.enable_truncation(self.max_length)
        self._tokenizer.no_padding()
        self._text = PlainText(self._tokenizer)

    def embed(self, texts: Sequence[str], *, query: bool = False) -> np.ndarray:
        """Unit vectors of the texts: float32, shape (len(texts), dim)."""
        out = np.empty((len(texts), self.dim), dtype=np.float32)
        prompt = self.query_prompt if query else ""
        encoded = self._text.encode_batch(prompt + text for text in texts)
        for rows in _length_batches([len(ids) for ids in encoded]):
            out[rows] = self._forward([encoded[row] for row in rows])
        return out

    def token_states(self, texts: Sequence[str], *, layers: int | None = None) -> list[np.ndarray]:
        """The hidden states of each text's tokens, the model's own first and last one ([CLS], [SEP]) among them.

        Args:
            layers: how many of the model's layers to go through; all by default.

        Returns a float32 array of shape (tokens, dim) for each text.
        """
        encoded = self._text.encode_batch(texts)
        out = [np.empty((0, self.dim), dtype=np.float32)] * len(texts)
        for rows in _length_batches([len(ids) for ids in encoded]):
            hidden, _, _ = self._hidden([encoded[row] for row in rows], layers)
            for row, states in zip(rows, np.array(hidden.astype(mx.float32)), strict=True):
                out[row] = states[: len(encoded[row])]
        return out

    def _forward(self, batch: list[list[int]]) -> np.ndarray:
        hidden, mask, lengths = self._hidden(batch)
        mean = (hidden * mask[..., None]).sum(axis=1) / lengths[:, None]  # lazy: not computed unless it is used
        pooled = hidden[:, 0] if self.pooling == "cls" else mean
        unit = pooled / mx.maximum(mx.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)
        return np.array(unit.astype(mx.float32))

    def _hidden(self, batch: list[list[int]], layers: int | None = None) -> tuple[mx.array, mx.array, mx.array]:
        """Hidden states (batch, time, dim), which of them are no padding (batch, time), and lengths (batch)."""
        longest = max(map(len, batch))
        ids = mx.array([row + [self._pad] * (longest - len(row)) for row in batch])
        lengths = mx.array([len(row) for row in batch])
        mask = mx.arange(longest)[None] < lengths[:, None]
        return self._encode(ids, mask, layers), mask, lengths

    def _encode(self, ids: mx.array, mask: mx.array, layers: int | None) -> mx.array:
        """The hidden states of the last layer, or of one before it: (batch, time, dim)."""
        batch, time = ids.shape
        heads = int(self._config["num_attention_heads"])
        weights = self._weights
        x = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][self._first_position : self._first_position + time]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        bias = mx.where(mask[:, None, None, :], 0.0, -1e9).astype(x.dtype)

        def split(y: mx.array) -> mx.array:
            return y.reshape(batch, time, heads, -1).transpose(0, 2, 1, 3)

        for layer in range(int(self._config["num_hidden_layers"]))[:layers]:
            name = f"encoder.layer.{layer}"
            query, key, value = (
                split(self._linear(x, f"{name}.attention.self.{p}")) for p in ("query", "key", "value")
            )
            scale = (self.dim // heads) ** -0.5
            seen = mx.fast.scaled_dot_product_attention(query, key, value, scale=scale, mask=bias)
            seen = seen.transpose(0, 2, 1, 3).reshape(batch, time, self.dim)
            x = self._norm(
                x + self._linear(seen, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
            )
            inner = self._linear(x, f"{name}.intermediate.dense")
            inner = inner * (1 + mx.erf(inner / math.sqrt(2))) / 2
            x = self._norm(x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return x

    def _linear(self, x: mx.array, name: str) -> mx.array:
        return mx.addmm(self._weights[f"{name}.bias"], x, self._weights[f"{name}.weight"].T)

    def _norm(self, x: mx.array, name: str) -> mx.array:
        eps = float(self._config["layer_norm_eps"])
        return mx.fast.layer_norm(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], eps)


def _length_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers in batches of like length, so that little is spent on padding."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[row] * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _weights(folder: Path) -> dict[str, mx.array]:
    arrays = load_arrays(folder / "model.safetensors")
    weights = {
        name.removeprefix("bert.").removeprefix("roberta."): array
        for name, array in arrays.items()
        if "position_ids" not in name
    }
    if mx.default_device() == mx.Device(mx.cpu):  # half precision is ten times slower than float32 there
        weights = {name: array.astype(mx.float32) for name, array in weights.items()}
    mx.eval(weights)
    return weights
