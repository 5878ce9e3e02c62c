"""The encoder equals a plain reading of BERT's formula, whatever the batch, and knows its own pooling and prompt."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tiny_models import embedder_folder

from memlora_mlx.errors import ModelBroken
from memlora_mlx.models.embedding import Embedder
from memlora_mlx.models.embedding_fingerprint import read_embedding_fingerprint

import mlx.core as mx  # isort: skip

TEXTS = ["Ann moved to Rome last week", "tea", "Where did Ann go yesterday? I bought seven green apples", ""]


def reference(folder: Path, text: str, pooling: str) -> np.ndarray:
    """BERT in numpy, float64, one text at a time: no padding, no batches, no fused kernels."""
    from tokenizers import Tokenizer

    config = json.loads((folder / "config.json").read_text())
    w = {k: np.array(v, dtype=np.float64) for k, v in mx.load(str(folder / "model.safetensors")).items()}
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    heads, size = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]
    for i in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{i}"
        q, k, v = (
            linear(x, f"{name}.attention.self.{p}").reshape(len(ids), heads, size).swapaxes(0, 1)
            for p in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(1, 2) / math.sqrt(size)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        seen = (weights @ v).swapaxes(0, 1).reshape(len(ids), -1)
        x = norm(x + linear(seen, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        h = linear(x, f"{name}.intermediate.dense")
        h = h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2
        x = norm(x + linear(h, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    pooled = x[0] if pooling == "cls" else x.mean(0)
    return pooled / np.linalg.norm(pooled)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_equal_the_formula_in_any_batch(tmp_path: Path, pooling: str) -> None:
    folder = embedder_folder(tmp_path / "bert", pooling=pooling)
    embedder = Embedder(folder)
    texts = [text for text in TEXTS if text]
    expected = np.stack([reference(folder, text, pooling) for text in texts])
    assert np.abs(embedder.embed(texts) - expected).max() < 1e-5
    assert np.abs(embedder.embed(texts[:1]) - expected[:1]).max() < 1e-5
    assert embedder.pooling == pooling


def test_many_texts_keep_their_order(tmp_path: Path) -> None:
    embedder = Embedder(embedder_folder(tmp_path / "bert"))
    texts = [f"Ann bought {'green ' * (i % 60)}apples" for i in range(300)]
    together = embedder.embed(texts)
    for i in (0, 59, 150, 299):
        assert np.abs(together[i] - embedder.embed([texts[i]])[0]).max() < 1e-5
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-5
    assert embedder.embed([]).shape == (0, embedder.dim)


def test_a_query_prompt_goes_before_queries_only_and_names_the_space(tmp_path: Path) -> None:
    folder = embedder_folder(tmp_path / "bert")
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "Where did Ann go "}}))
    prompted, bare = Embedder(folder), Embedder(folder, query_prompt=False)
    text = ["to the market"]
    assert np.abs(prompted.embed(text) - bare.embed(text, query=True)).max() < 1e-6
    assert np.abs(prompted.embed(text, query=True) - prompted.embed(text)).max() > 1e-3
    assert read_embedding_fingerprint(folder) != read_embedding_fingerprint(folder, query_prompt=False)


def test_a_space_is_told_by_weights_and_pooling(tmp_path: Path) -> None:
    space, dim = read_embedding_fingerprint(embedder_folder(tmp_path / "a"))
    assert dim == 32
    assert read_embedding_fingerprint(embedder_folder(tmp_path / "same"))[0] == space
    assert read_embedding_fingerprint(embedder_folder(tmp_path / "pooled", pooling="cls"))[0] != space
    assert read_embedding_fingerprint(embedder_folder(tmp_path / "other", seed=9))[0] != space


def test_overlong_texts_are_truncated_not_refused(tmp_path: Path) -> None:
    vector = Embedder(embedder_folder(tmp_path / "bert")).embed(["apples " * 5000])
    assert np.isfinite(vector).all()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_embedder_is_one_clear_line(tmp_path: Path, missing: str) -> None:
    folder = embedder_folder(tmp_path / "bert")
    (folder / missing).unlink()
    with pytest.raises(ModelBroken, match="pull it again") as caught:
        Embedder(folder)
    assert "\n" not in str(caught.value)


def test_minilm_gives_the_published_values(starter_models: Path) -> None:
    """The first values of the model card's own example sentence."""
    vector = Embedder(starter_models / "all-minilm-l6-v2").embed(["This is an example sentence"])[0]
    assert np.abs(vector[:5] - [0.0677, 0.0635, 0.0487, 0.0793, 0.0374]).max() < 1e-4
