"""Each student family reads a batch as it reads its rows, and its head is cut off at the right place."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import model, relative_error, student_folder

from memlora_mlx.errors import ModelBroken
from memlora_mlx.models.loading import load_student

import mlx.core as mx  # isort: skip
from mlx_lm.models.cache import BatchKVCache


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_a_batch_with_padding_reads_as_its_rows_do(tmp_path: Path, family: str, rows: int) -> None:
    """Two rows equal Gemma2's two kv heads here: the case that mlx-lm 0.32 gets silently wrong."""
    student = load_student(student_folder(tmp_path / family, family))
    texts = ["Ann moved to Rome", "I bought seven green apples at the market", "no", "Bob: That sounds lovely!"][:rows]
    prompts = [student.encode((("user", text),)) for text in texts]
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    batch = mx.array([[0] * pad + prompt for pad, prompt in zip(padding, prompts, strict=True)])

    cache = [BatchKVCache(padding) for _ in student.make_cache()]
    together = student.logits(student.hidden(batch, cache))[:, -1]
    step = student.logits(student.hidden(mx.array([[7]] * rows), cache))[:, -1]
    for row, prompt in enumerate(prompts):
        alone_cache = student.make_cache()
        alone = student.logits(student.hidden(mx.array([prompt]), alone_cache))[0, -1]
        assert relative_error(together[row], alone) < 1e-4
        next_alone = student.logits(student.hidden(mx.array([[7]]), alone_cache))[0, -1]
        assert relative_error(step[row], next_alone) < 1e-4


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
@pytest.mark.parametrize("tied", [True, False])
def test_head_after_hidden_equals_the_whole_model(tmp_path: Path, family: str, tied: bool) -> None:
    student = load_student(student_folder(tmp_path / family, family, tied=tied))
    tokens = mx.array([[4, 8, 15, 16, 23, 42]])
    split = student.logits(student.hidden(tokens, student.make_cache()))
    assert relative_error(split, student.model(tokens)) < 1e-6


def test_decoding_text_is_exact_also_across_characters(tmp_path: Path) -> None:
    student = load_student(student_folder(tmp_path / "m"))
    text = '{"facts": ["Zoë café 你好 👩‍🚀"]}'
    assert student.decode(student.tokenize(text)) == text


def test_half_precision_weights_are_widened_on_the_cpu(tmp_path: Path) -> None:
    if mx.default_device() != mx.Device(mx.cpu):
        pytest.skip("a GPU keeps the precision of the file")
    folder = student_folder(tmp_path / "m")
    arrays = {name: array.astype(mx.bfloat16) for name, array in mx.load(str(folder / "model.safetensors")).items()}
    mx.save_safetensors(str(folder / "model.safetensors"), arrays)
    student = load_student(folder)
    assert student.model.model.norm.weight.dtype == mx.float32


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_is_one_clear_line(tmp_path: Path, missing: str) -> None:
    folder = student_folder(tmp_path / "m")
    (folder / missing).unlink()
    with pytest.raises(ModelBroken, match="pull it again") as caught:
        load_student(folder)
    assert "\n" not in str(caught.value)


def test_a_truncated_weight_file_is_one_clear_line(tmp_path: Path) -> None:
    folder = student_folder(tmp_path / "m")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelBroken, match="pull it again"):
        load_student(folder)


def test_tiny_models_differ_by_seed() -> None:
    a, _ = model(seed=0)
    b, _ = model(seed=1)
    tokens = mx.array([[1, 2, 3]])
    assert relative_error(a(tokens), b(tokens)) > 0.01
