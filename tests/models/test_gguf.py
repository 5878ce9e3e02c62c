"""GGUF files become folders that mlx-lm loads, with the same numbers in them; bad files are refused in one line."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models import gemma, gemma2, gemma3_text, llama, qwen2, qwen3
from tokenizers import pre_tokenizers

from memlora_mlx.errors import ExtraMissing, ModelBroken, ModelMissing
from memlora_mlx.models.gguf import convert
from memlora_mlx.models.gguf_file import READABLE_TYPES, GgufFile

HIDDEN, INNER, HEADS, KEY_HEADS = 32, 64, 4, 2
CLASSES = {
    "llama": llama,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3": gemma3_text,
}
OWN_HEAD_DIM = ("qwen3", "gemma", "gemma2", "gemma3")  # their heads are larger than hidden / heads: hidden / 2
LAYERS = {"gemma3": 6}  # the sixth attends to everything, the others to a window; otherwise 2
WINDOW = 4
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = ["h e", "l l", "he ll", "hell o", "2 0", "Ġ hello"]
SPECIAL = ["<|end|>", "<|user|>", "<think>"]  # control, control, user-defined
TOKENS = [*LETTERS, *(merge.replace(" ", "") for merge in MERGES), *SPECIAL, "[PAD0]"]
TEMPLATE = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}"
THEIR_NAMES = {
    "embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
GEMMA_NAMES = THEIR_NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def build(
    kind: str,
    *,
    tied: bool = True,
    hidden: int = HIDDEN,
    theta: float = 5000.0,
    rope_scaling: dict[str, object] | None = None,
):
    """A real model of the family with random weights."""
    mx.random.seed(1)
    more: dict[str, object] = {"rope_scaling": rope_scaling} if rope_scaling else {}
    if kind in OWN_HEAD_DIM:
        more["head_dim"] = hidden // 2
    if kind in ("gemma2", "gemma3"):
        more["query_pre_attn_scalar"] = hidden // 2
    if kind == "gemma3":
        more |= {"sliding_window": WINDOW, "rope_local_base_freq": 10000.0}
    if kind == "qwen3":
        more["max_position_embeddings"] = 128
    args = CLASSES[kind].ModelArgs(
        model_type=kind,
        hidden_size=hidden,
        num_hidden_layers=LAYERS.get(kind, 2),
        intermediate_size=2 * hidden,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        rms_norm_eps=1e-6,
        vocab_size=len(TOKENS),
        rope_theta=theta,
        **({"tie_word_embeddings": tied} if not kind.startswith("gemma") else {}),
        **more,
    )
    model = CLASSES[kind].Model(args)
    if kind == "gemma3":
        model.sanitize({})  # its head is the embedding
    noise = {name: mx.random.normal(value.shape) * 0.3 for name, value in tree_flatten(model.parameters())}
    model.update(tree_unflatten(list(noise.items())))
    return model


def their_name(kind: str, name: str) -> str:
    names = (GEMMA_NAMES if kind in ("gemma2", "gemma3") else THEIR_NAMES) | HEAD_NORMS
    module, suffix = name.rsplit(".", 1)
    layer = f"blk.{module.split('.')[2]}." if ".layers." in module else ""
    [theirs] = [theirs for ours, theirs in names.items() if module.endswith(ours)]
    return f"{layer}{theirs}.{suffix}"


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's convert_hf_to_gguf.py does to q and k of a Llama."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    order = permute(np.arange(rows.shape[0]), heads)
    return rows[np.argsort(order)]


# Where the 16-bit scales of a block stand, and a size for them that leaves numbers below about a half.
SCALES = {
    "Q2_K": ((80, 82), 0.01),
    "Q3_K": ((108,), 0.004),
    "Q4_K": ((0, 2), 0.0005),
    "Q5_K": ((0, 2), 0.00025),
    "Q6_K": ((208,), 0.0001),
    "IQ4_NL": ((0,), 0.004),
    "IQ4_XS": ((0,), 0.0001),
}


def pack(rows: np.ndarray, tensor_type: str) -> np.ndarray:
    """The rows in that type; where gguf's own package cannot quantise to it, random blocks of the type."""
    if tensor_type not in SCALES:
        return quantize(rows, GGMLQuantizationType[tensor_type])
    numbers, size = GGML_QUANT_SIZES[GGMLQuantizationType[tensor_type]]
    random = np.random.default_rng(rows.size)
    blocks = random.integers(0, 256, (rows.size // numbers, size), np.uint8)
    places, scale = SCALES[tensor_type]
    for place in places:
        blocks[:, place : place + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    return blocks.reshape(*rows.shape[:-1], -1)


def write_gguf(path: Path, model, kind: str, tensor_type: str = "F32", **changes: object) -> None:
    """Write the model as llama.cpp would, and give the model the weights as they come back from that type."""
    settings = {"pre": "smollm", "scaling": None, "tokenizer": "gpt2", "extra": None, "bos": None} | changes
    settings = {"template": TEMPLATE, "freqs": None, "name": None, "licence": None} | settings
    hidden = model.args.hidden_size
    quantisation = GGMLQuantizationType[tensor_type]
    writer = GGUFWriter(path, kind)
    writer.add_block_count(LAYERS.get(kind, 2))
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(2 * hidden)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(model.args.rope_theta)
    if settings["scaling"]:
        writer.add_string(f"{kind}.rope.scaling.type", str(settings["scaling"]))
        writer.add_float32(f"{kind}.rope.scaling.factor", 8.0)
    if kind in OWN_HEAD_DIM:
        writer.add_key_length(hidden // 2)
        writer.add_value_length(hidden // 2)
    if kind == "gemma3":
        writer.add_sliding_window(WINDOW)
    if settings["name"]:
        writer.add_name(str(settings["name"]))
    if settings["licence"]:
        writer.add_license(str(settings["licence"]))
    writer.add_tokenizer_model(str(settings["tokenizer"]))
    writer.add_tokenizer_pre(str(settings["pre"]))
    writer.add_token_list(TOKENS)
    writer.add_token_types(
        [TokenType.NORMAL] * (len(TOKENS) - 4)
        + [TokenType.CONTROL, TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED]
    )
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(TOKENS.index("<|end|>"))
    if settings["bos"]:
        writer.add_bos_token_id(TOKENS.index(str(settings["bos"])))
        writer.add_add_bos_token(True)
    if settings["template"]:
        writer.add_chat_template(str(settings["template"]))

    kept = {}
    for name, value in tree_flatten(model.parameters()):
        rows = np.array(value)
        heads = {"q_proj": HEADS, "k_proj": KEY_HEADS}.get(name.split(".")[-2]) if kind == "llama" else None
        stored = permute(rows, heads) if heads else rows
        if kind.startswith("gemma") and name.endswith("norm.weight"):
            stored = stored + 1
        if rows.ndim == 1:  # llama.cpp keeps vectors in float32
            writer.add_tensor(their_name(kind, name), stored)
            continue
        packed = pack(stored, tensor_type)
        writer.add_tensor(their_name(kind, name), packed, raw_dtype=quantisation)
        returned = dequantize(packed, quantisation)
        kept[name] = mx.array(unpermute(returned, heads) if heads else returned)
    if settings["freqs"] is not None:
        writer.add_tensor("rope_freqs.weight", np.asarray(settings["freqs"], np.float32))
    if settings["extra"]:
        writer.add_tensor(str(settings["extra"]), np.ones(4, np.float32))
    model.update(tree_unflatten(list(kept.items())))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sizes(tensor_type: str) -> int:
    """A hidden size that has whole blocks of the type."""
    return max(HIDDEN, GGML_QUANT_SIZES[GGMLQuantizationType[tensor_type]][0])


@pytest.mark.parametrize(
    ("kind", "tensor_type"),
    [
        *((kind, tensor_type) for kind in CLASSES for tensor_type in ("F32", "Q4_1", "Q4_K", "Q6_K")),
        *(("llama", tensor_type) for tensor_type in READABLE_TYPES),
    ],
)
def test_a_converted_model_computes_the_same_logits(tmp_path: Path, kind: str, tensor_type: str) -> None:
    model = build(kind, hidden=sizes(tensor_type))
    write_gguf(tmp_path / "tiny.gguf", model, kind, tensor_type)

    convert(tmp_path / "tiny.gguf", tmp_path / "tiny")
    converted, tokenizer = mlx_lm.load(str(tmp_path / "tiny"))

    prompt = mx.array([tokenizer.encode("hello 2024, you there?")])
    assert mx.allclose(converted(prompt), model(prompt), atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny", "tiny.gguf"]  # no partial folder is left


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_linearly_scaled_positions_are_read(tmp_path: Path, kind: str) -> None:
    model = build(kind, rope_scaling={"type": "linear", "factor": 8.0})
    write_gguf(tmp_path / "tiny.gguf", model, kind, scaling="linear")
    check_logits(tmp_path, model)
    assert not mx.allclose(model(LONG), build(kind)(LONG), atol=1e-4), "a scaling that changes nothing proves nothing"


def test_llama_3s_scaled_positions_are_read_and_others_refused(tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = build("llama", theta=500_000.0, rope_scaling={**scaling, "original_max_position_embeddings": 8192})
    # The divisors as llama.cpp's converter writes them.
    freqs = []
    for place in range(0, 8, 2):
        wavelength = 2 * np.pi * 500_000.0 ** (place / 8)
        smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
        freqs.append(1.0 if wavelength < 8192 / 4 else 8.0 if wavelength > 8192 else 1 / ((1 - smooth) / 8.0 + smooth))
    write_gguf(tmp_path / "tiny.gguf", model, "llama", freqs=freqs)
    check_logits(tmp_path, model)
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    assert config["rope_scaling"]["rope_type"] == "llama3" and config["rope_scaling"]["factor"] == 8.0
    shutil.rmtree(tmp_path / "tiny")
    write_gguf(tmp_path / "other.gguf", model, "llama", freqs=[1.0, 2.0, 3.0, 4.0])
    assert "tensor rope_freqs.weight scales positions in a way" in refusal(tmp_path / "other.gguf")


LONG = mx.array([[5, 17, 200, 42, 8, 8, 120, 7, 33, 60, 61, 62, 63, 64]])


def check_logits(folder: Path, model) -> None:
    convert(folder / "tiny.gguf", folder / "tiny")
    converted, _ = mlx_lm.load(str(folder / "tiny"))
    assert mx.allclose(converted(LONG), model(LONG), atol=1e-4)


def test_large_weights_are_written_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama")
    write_gguf(tmp_path / "tiny.gguf", model, "llama")
    monkeypatch.setattr("memlora_mlx.models.gguf.SHARD_BYTES", 20_000)
    check_logits(tmp_path, model)
    found = sorted(path.name for path in (tmp_path / "tiny").glob("*.safetensors"))
    assert len(found) > 2 and found[0] == "model-00001.safetensors"


def test_a_disk_without_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "tiny.gguf", build("llama"), "llama")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("memlora_mlx.models.gguf.shutil.disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match="MB are free"):
        convert(tmp_path / "tiny.gguf", tmp_path / "models" / "tiny")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_an_own_output_head_is_kept(tmp_path: Path, kind: str) -> None:
    model = build(kind, tied=False)
    write_gguf(tmp_path / "tiny.gguf", model, kind)
    convert(tmp_path / "tiny.gguf", tmp_path / "tiny")
    converted, _ = mlx_lm.load(str(tmp_path / "tiny"))
    assert mx.allclose(converted(mx.array([[1, 2, 3]])), model(mx.array([[1, 2, 3]])), atol=1e-4)


def test_weights_can_be_kept_in_float16(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", build("llama"), "llama", "Q4_1")
    convert(tmp_path / "tiny.gguf", tmp_path / "tiny", dtype="float16")
    weights = mx.load(str(tmp_path / "tiny" / "model.safetensors"))
    assert {value.dtype for value in weights.values()} == {mx.float16}
    assert json.loads((tmp_path / "tiny" / "config.json").read_text())["torch_dtype"] == "float16"


def plain(value: object) -> object:
    """A field with texts for bytes and lists for arrays."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("tensor_type", READABLE_TYPES)
def test_the_numbers_are_those_that_ggufs_own_package_reads(tmp_path: Path, tensor_type: str) -> None:
    write_gguf(tmp_path / "tiny.gguf", build("llama", hidden=sizes(tensor_type)), "llama", tensor_type)
    file, theirs = GgufFile(tmp_path / "tiny.gguf"), GGUFReader(tmp_path / "tiny.gguf")
    assert list(file.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        expected = dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(file.values(file.tensors[tensor.name]), expected)
    for key, value in file.fields.items():
        assert plain(value) == theirs.fields[key].contents()


@pytest.mark.parametrize(
    ("version", "words"),
    [((3).to_bytes(4, "big"), "it is big-endian"), ((1).to_bytes(4, "little"), "memlora reads versions 2 and 3")],
)
def test_other_forms_of_the_format_are_refused_by_name(tmp_path: Path, version: bytes, words: str) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF" + version + bytes(16))
    assert words in refusal(tmp_path / "tiny.gguf")


def pieces(folder: Path, text: str) -> list[str]:
    _, tokenizer = mlx_lm.load(str(folder))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    return [TOKENS[index] for index in ids]


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", ["2", "0", "2", "0"]),  # digits stand alone
        ("qwen2", ["2", "0", "2", "0"]),
        ("llama-bpe", ["20", "2", "0"]),  # three digits, then the rest
        ("gpt-2", ["20", "20"]),
        ("default", ["20", "20"]),
    ],
)
def test_text_is_cut_as_the_pre_tokenizer_says(tmp_path: Path, pre: str, expected: list[str]) -> None:
    write_gguf(tmp_path / "tiny.gguf", build("llama"), "llama", pre=pre)
    convert(tmp_path / "tiny.gguf", tmp_path / "tiny")
    assert pieces(tmp_path / "tiny", "2020") == expected
    assert pieces(tmp_path / "tiny", " hello<think>hell<|end|>") == ["Ġhello", "<think>", "hell", "<|end|>"]
    assert "[PAD0]" not in pieces(tmp_path / "tiny", "[PAD0] déjà vu 🙂\n\n  x")  # an unused token stays unused


def test_the_chat_template_and_the_end_of_a_turn_come_along(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", build("llama"), "llama")
    convert(tmp_path / "tiny.gguf", tmp_path / "tiny")
    _, tokenizer = mlx_lm.load(str(tmp_path / "tiny"))
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}])
    assert [TOKENS[index] for index in ids] == ["<|user|>", "hello", "<|end|>"]
    assert tokenizer.eos_token_ids == {TOKENS.index("<|end|>")}
    assert tokenizer.decode(ids, skip_special_tokens=True) == "hello"


def test_a_beginning_token_is_added_where_the_file_asks_for_it(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", build("llama"), "llama", bos="<|user|>")
    convert(tmp_path / "tiny.gguf", tmp_path / "tiny")
    _, tokenizer = mlx_lm.load(str(tmp_path / "tiny"))
    assert [TOKENS[index] for index in tokenizer.encode("hello")] == ["<|user|>", "hello"]


def test_a_sentencepiece_vocabulary_is_rebuilt(tmp_path: Path) -> None:
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["<start_of_turn>", "<end_of_turn>", "\n\n", "  ", "▁a", "▁ab", *"▁abc"]
    kinds = [3, 3, 3, 2, 4, *[6] * 256, 3, 3, 4, 4, 1, 1, *[1] * 4]
    model = build("gemma2")
    write_gguf(tmp_path / "bytes.gguf", model, "gemma2")
    writer = GGUFWriter(tmp_path / "tiny.gguf", "gemma2")
    source = GGUFReader(tmp_path / "bytes.gguf")
    for key, field in source.fields.items():
        if key.startswith("gemma2."):
            writer.add_key_value(key, field.contents(), field.types[0])
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_token_types(kinds)
    for name in ("pad", "eos", "bos"):
        getattr(writer, f"add_{name}_token_id")(tokens.index(f"<{name}>"))
    writer.add_unk_token_id(3)
    writer.add_eot_token_id(tokens.index("<end_of_turn>"))
    for tensor in source.tensors:
        rows = np.zeros((len(tokens), HIDDEN), np.float32) if tensor.name == "token_embd.weight" else tensor.data
        writer.add_tensor(tensor.name, np.array(rows))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    convert(tmp_path / "tiny.gguf", tmp_path / "tiny")
    _, tokenizer = mlx_lm.load(str(tmp_path / "tiny"))
    text = "a ab<end_of_turn>é\n\nb  c"
    ids = tokenizer.encode(text)
    words = ["<bos>", "a", "▁ab", "<end_of_turn>", "<0xC3>", "<0xA9>", "\n\n", "b", "  ", "c"]
    assert [tokens[index] for index in ids] == words
    assert tokenizer.decode(ids[1:]) == text
    assert tokenizer.eos_token_ids == {tokens.index("<eos>"), tokens.index("<end_of_turn>")}


def refusal(source: Path) -> str:
    folder = source.with_name("refused")
    with pytest.raises(ModelBroken) as caught:
        convert(source, folder)
    assert not folder.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("tensor_type", sorted(set(READABLE_TYPES) - {"Q4_0", "Q4_1", "Q8_0", "F16", "F32"}))
def test_tensor_types_that_need_the_gguf_package_name_its_extra(
    tmp_path: Path, tensor_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "tiny.gguf", build("llama", hidden=sizes(tensor_type)), "llama", tensor_type)
    monkeypatch.setattr("memlora_mlx.extras._is_installed", lambda module: module != "gguf")
    with pytest.raises(ExtraMissing) as caught:
        convert(tmp_path / "tiny.gguf", tmp_path / "tiny")
    assert f"a GGUF file with {tensor_type} tensors needs gguf, which is not installed" in str(caught.value)
    assert "memlora-mlx[gguf]" in str(caught.value) and not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("tensor_type", ["Q4_0", "Q4_1", "Q8_0", "F16", "F32"])
def test_the_starters_types_need_no_package(tmp_path: Path, tensor_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama")
    write_gguf(tmp_path / "tiny.gguf", model, "llama", tensor_type)
    monkeypatch.setattr("memlora_mlx.extras._is_installed", lambda module: module != "gguf")
    check_logits(tmp_path, model)


def test_other_tensor_types_are_refused_by_name(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "tiny.gguf", "llama")
    for name in ("block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length"):
        writer.add_uint32(f"llama.{name}", 4 if name == "embedding_length" else 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((2, 66), np.uint8), raw_dtype=GGMLQuantizationType.TQ2_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "attn_q.weight is of the unknown type 35; memlora reads Q4_0, Q4_1, Q8_0, F16, F32, Q5_0" in refusal(
        tmp_path / "tiny.gguf"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pre": "tekken"}, "pre-tokenizer is 'tekken'"),
        ({"tokenizer": "bert"}, "tokenizer is 'bert'"),
        ({"scaling": "yarn"}, "positions are scaled ('yarn')"),
        ({"freqs": [1.0, 1.0, 2.0, 2.0]}, "tensor rope_freqs.weight"),
        ({"extra": "blk.0.ffn_gate_inp.weight"}, "tensor blk.0.ffn_gate_inp.weight is not one"),
    ],
)
def test_what_would_change_the_answers_is_refused_by_name(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    write_gguf(tmp_path / "tiny.gguf", build("llama"), "llama", **changes)
    assert words in refusal(tmp_path / "tiny.gguf")


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "tiny.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "architecture is 'mamba'; memlora reads llama, qwen2, qwen3, gemma" in refusal(tmp_path / "tiny.gguf")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="there is no file"):
        convert(tmp_path / "none.gguf", tmp_path / "none")


def test_a_list_longer_than_the_file_ends_at_once(tmp_path: Path) -> None:
    key = b"general.tags"
    header = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    field = len(key).to_bytes(8, "little") + key + (9).to_bytes(4, "little") + (0).to_bytes(4, "little")
    (tmp_path / "tiny.gguf").write_bytes(header + field + (2**60).to_bytes(8, "little") + bytes(100))
    assert "ends too early" in refusal(tmp_path / "tiny.gguf")


@pytest.fixture(scope="module", params=["Q8_0", "Q5_1"])
def whole_file(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "tiny.gguf"
    write_gguf(path, build("llama"), "llama", str(request.param))
    return path.read_bytes()


def try_bytes(folder: Path, content: bytes) -> None:
    """Damage may go unnoticed where it hits a weight; anything but that or one clear line is a bug."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "damaged.gguf").write_bytes(content)
    try:
        convert(folder / "damaged.gguf", folder / "out")
    except ModelBroken as error:
        assert "\n" not in str(error)
        assert not (folder / "out").exists()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("part", [0.0, 0.01, 0.2, 0.5, 0.999])
def test_a_truncated_file_is_broken(tmp_path: Path, whole_file: bytes, part: float) -> None:
    (tmp_path / "tiny.gguf").write_bytes(whole_file[: int(len(whole_file) * part)])
    assert "not a whole GGUF model" in refusal(tmp_path / "tiny.gguf")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), has_magic=st.booleans())
def test_random_bytes_never_crash(tmp_path: Path, content: bytes, has_magic: bool) -> None:
    try_bytes(tmp_path, b"GGUF\x03\x00\x00\x00" + content if has_magic else content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 0.5), patch=st.binary(min_size=1, max_size=12))
def test_a_damaged_file_never_crashes(tmp_path: Path, whole_file: bytes, place: float, patch: bytes) -> None:
    start = 4 + int(place * len(whole_file))
    try_bytes(tmp_path, whole_file[:start] + patch + whole_file[start + len(patch) :])
