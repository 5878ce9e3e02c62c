"""Experts on one resident base: exact after any switch, in both modes, and refused when they do not belong."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tiny_models import ALL_LINEAR, Q_V, expert_folder, model, relative_error

from memlora_mlx.errors import AdapterMismatch
from memlora_mlx.models.experts import ExpertTable, read_expert, read_experts, weight_fingerprint

import mlx.core as mx  # isort: skip
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import load_adapters

TOKENS = mx.array([[5, 17, 300, 42, 8, 8, 120, 7]])
STAGES = ("extraction", "update", "generation")


def fresh_logits(experts: Path, stage: str | None, family: str) -> mx.array:
    """The logits of a model loaded anew with that one adapter, by mlx-lm's own loader."""
    base, _ = model(family)
    if stage:
        load_adapters(base, str(experts / stage))
        base.eval()
    return base(TOKENS)


@pytest.fixture(params=["llama", "qwen2", "gemma2"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def experts(tmp_path: Path, family: str) -> Path:
    base, _ = model(family)
    for seed, (stage, keys) in enumerate([("extraction", Q_V), ("update", Q_V), ("generation", ALL_LINEAR)], start=1):
        expert_folder(tmp_path / stage, base, keys, seed=seed)
    return tmp_path


@pytest.mark.parametrize("mode", ["swap", "fused"])
def test_after_any_sequence_of_switches_logits_equal_a_fresh_load(experts: Path, family: str, mode: str) -> None:
    base, _ = model(family)
    table = ExpertTable(base, read_experts(experts, weight_fingerprint(base)), mode)
    expected = {stage: fresh_logits(experts, stage, family) for stage in (None, *STAGES)}
    assert relative_error(expected["extraction"], expected[None]) > 0.01, (
        "an expert that changes nothing proves nothing"
    )

    order = random.Random(7).choices([None, *STAGES], k=25)
    for stage in order:
        table.use(stage)
        assert relative_error(base(TOKENS), expected[stage]) < 1e-4


def test_the_base_weights_exist_once_and_stay_untouched(experts: Path, family: str) -> None:
    base, _ = model(family)
    before = {name: array for name, array in tree_flatten(base.parameters())}
    held = sum(array.nbytes for array in before.values())
    mx.clear_cache()
    start = mx.get_active_memory()

    table = ExpertTable(base, read_experts(experts, weight_fingerprint(base)), "swap")
    for stage in (*STAGES, None, "update"):
        table.use(stage)
        mx.eval(base(TOKENS))
    mx.clear_cache()

    assert mx.get_active_memory() - start < table.nbytes() + held // 2  # far less than a second copy of the base
    linear = base.model.layers[0].self_attn.q_proj.linear
    assert linear.weight is before["model.layers.0.self_attn.q_proj.weight"]
    table.use(None)
    assert all(array is before[name] for name, array in tree_flatten(base.parameters()))


def test_a_stage_without_an_expert_runs_on_the_base(experts: Path, family: str) -> None:
    base, _ = model(family)
    table = ExpertTable(base, read_experts(experts, weight_fingerprint(base)))
    table.use("update")
    table.use("vqa")
    assert relative_error(base(TOKENS), fresh_logits(experts, None, family)) < 1e-6


@pytest.mark.parametrize("bits", [4, 8])
def test_swap_works_on_a_quantised_base_and_fused_refuses_it(tmp_path: Path, bits: int) -> None:
    base, _ = model("llama")
    expert_folder(tmp_path / "update", base)
    nn.quantize(base, group_size=32, bits=bits)
    plain = base(TOKENS)
    found = read_experts(tmp_path, weight_fingerprint(base))

    table = ExpertTable(base, found, "swap")
    table.use("update")
    adapted = base(TOKENS)
    load_adapters(model_q := quantised(bits), str(tmp_path / "update"))
    model_q.eval()
    assert relative_error(adapted, model_q(TOKENS)) < 1e-4
    assert relative_error(adapted, plain) > 0.01
    with pytest.raises(AdapterMismatch, match="float base"):
        ExpertTable(quantised(bits), found, "fused")


def quantised(bits: int) -> nn.Module:
    base, _ = model("llama")
    nn.quantize(base, group_size=32, bits=bits)
    return base


def test_the_fingerprint_survives_quantisation_and_half_precision_but_not_other_weights() -> None:
    base, _ = model("llama")
    norm = base.model.norm
    norm.weight = (norm.weight + mx.random.normal(norm.weight.shape) * 0.1).astype(mx.bfloat16).astype(mx.float32)
    name = weight_fingerprint(base)
    nn.quantize(base, group_size=32, bits=4)
    assert weight_fingerprint(base) == name
    base.set_dtype(mx.bfloat16)
    assert weight_fingerprint(base) == name
    norm.weight = norm.weight * 1.5
    assert weight_fingerprint(base) != name


def test_an_expert_of_another_base_is_refused(tmp_path: Path) -> None:
    base, _ = model("llama")
    card = {"base": {"name": "qwen2.5-0.5b", "fingerprint": "0123456789abcdef"}}
    expert_folder(tmp_path / "update", base, card=card)
    with pytest.raises(AdapterMismatch, match=r"trained on qwen2.5-0.5b .*experts to 'none'"):
        read_experts(tmp_path, weight_fingerprint(base))


def test_an_expert_of_other_shapes_is_refused(tmp_path: Path) -> None:
    base, _ = model("llama")
    expert_folder(tmp_path / "update", base)
    arrays = mx.load(str(tmp_path / "update" / "adapters.safetensors"))
    name = "model.layers.0.self_attn.q_proj.lora_a"
    arrays[name] = mx.zeros((48, 4))
    mx.save_safetensors(str(tmp_path / "update" / "adapters.safetensors"), arrays)
    with pytest.raises(AdapterMismatch, match="another base model.*32x32"):
        ExpertTable(base, read_experts(tmp_path, ""))


def test_an_expert_for_layers_the_student_lacks_is_refused(tmp_path: Path) -> None:
    base, _ = model("llama")
    expert_folder(tmp_path / "update", base)
    path = tmp_path / "update" / "adapters.safetensors"
    arrays = {name.replace("layers.1", "layers.7"): array for name, array in mx.load(str(path)).items()}
    mx.save_safetensors(str(path), arrays)
    with pytest.raises(AdapterMismatch, match="layers.7"):
        ExpertTable(base, read_experts(tmp_path, ""))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "adapters.safetensors").unlink(), "cannot be read|missing"),
        (lambda folder: (folder / "adapters.safetensors").write_bytes(b"\xff" * 50), "cannot be read"),
        (lambda folder: truncate(folder / "adapters.safetensors"), "cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text('{"fine_tune_type": "dora"}'), "no LoRA"),
        (lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}'), "no LoRA"),
        (lambda folder: drop_half(folder), "incomplete"),
    ],
)
def test_a_damaged_expert_is_one_clear_line(tmp_path: Path, damage: object, says: str) -> None:
    base, _ = model("llama")
    folder = expert_folder(tmp_path / "update", base)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(AdapterMismatch, match=says) as caught:
        read_expert(folder, "update", weight_fingerprint(base))
    assert "\n" not in str(caught.value)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_half(folder: Path) -> None:
    path = folder / "adapters.safetensors"
    arrays = dict(mx.load(str(path)))
    arrays.pop("model.layers.0.self_attn.q_proj.lora_b")
    mx.save_safetensors(str(path), arrays)


def test_plain_mlx_lm_adapters_without_a_card_are_read(tmp_path: Path) -> None:
    base, _ = model("llama")
    folder = expert_folder(tmp_path / "update", base)
    assert "memlora" not in json.loads((folder / "adapter_config.json").read_text())
    expert = read_expert(folder, "update", weight_fingerprint(base))
    assert len(expert.matrices) == 4 and expert.nbytes > 0
