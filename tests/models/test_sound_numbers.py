"""Numbers that are none: experts with such weights are refused, and a stage that computes them stores nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_home import TALK, store_contents
from tiny_models import Q_V, expert_folder, model

from memlora_mlx.errors import AdapterMismatch
from memlora_mlx.models.adapter_registry import WEIGHTS
from memlora_mlx.models.cards import CONFIG
from memlora_mlx.models.experts import read_expert

import mlx.core as mx  # isort: skip


def rewritten(folder: Path, change: Callable[[mx.array], mx.array], *, part: str = "lora_b") -> Path:
    """An expert with one array changed."""
    arrays = dict(mx.load(str(folder / WEIGHTS)))
    name = next(name for name in sorted(arrays) if name.endswith(part))
    mx.save_safetensors(str(folder / WEIGHTS), {**arrays, name: change(arrays[name])})
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "memlora": {"stage": "update"}}))
    return folder


BAD: dict[str, Callable[[mx.array], mx.array]] = {
    "NaN": lambda array: mx.full(array.shape, math.nan, array.dtype),
    "one NaN": lambda array: array.at[0, 0].add(mx.array(math.nan)),
    "infinite": lambda array: array.at[0, 0].add(mx.array(math.inf)),
    "integer": lambda array: array.astype(mx.int8),
    "bool": lambda array: array > 0,
    "complex": lambda array: array.astype(mx.complex64),
}


@pytest.mark.parametrize("part", ["lora_a", "lora_b"])
@pytest.mark.parametrize("kind", BAD)
def test_an_expert_with_such_weights_is_neither_loaded_nor_installed(
    tiny_home: Path, tmp_path: Path, run_memlora: Callable[..., tuple[int, str, str]], kind: str, part: str
) -> None:
    base, _ = model()
    folder = rewritten(expert_folder(tmp_path / "expert", base, Q_V), BAD[kind], part=part)
    with pytest.raises(AdapterMismatch, match="NaN or infinite|weights of the type"):
        read_expert(folder, "update", "")
    code, out, err = run_memlora("adapters", "install", folder)
    assert code == 1 and out == "" and err.count("\n") == 1 and not (tiny_home / "adapters").exists()
    (tmp_path / "talk.txt").write_text(TALK)
    code, _, err = run_memlora("ingest", tmp_path / "talk.txt", "--experts", folder)
    assert code == 1 and ("NaN or infinite" in err or "weights of the type" in err)


@pytest.mark.parametrize(
    "scale", [math.nan, math.inf, -math.inf, 1e999, "2", [2], {"re": 1, "im": 1}, True, None, 1e38]
)
def test_a_scale_that_is_no_finite_number_is_refused(tmp_path: Path, scale: Any) -> None:
    base, _ = model()
    folder = expert_folder(tmp_path / "expert", base, Q_V)
    config = json.loads((folder / CONFIG).read_text())
    config["lora_parameters"]["scale"] = scale
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(AdapterMismatch):
        read_expert(folder, "update", "")


def overflowing(folder: Path) -> Path:
    """An expert of finite weights whose products are not finite."""
    base, _ = model()
    expert_folder(folder, base, Q_V)
    arrays = {name: mx.full(array.shape, 3e38, mx.float32) for name, array in mx.load(str(folder / WEIGHTS)).items()}
    mx.save_safetensors(str(folder / WEIGHTS), arrays)
    config = json.loads((folder / CONFIG).read_text())
    config["lora_parameters"]["scale"] = 1.0
    config.pop("memlora", None)
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("stage", ["extraction", "update"])
def test_a_stage_that_computes_no_number_stores_nothing_and_marks_nothing_read(
    tiny_home: Path,
    varied_student: Path,
    tmp_path: Path,
    run_memlora: Callable[..., tuple[int, str, str]],
    stage: str,
) -> None:
    talk = tmp_path / "talk.txt"
    talk.write_text(TALK)
    overflowing(tmp_path / "experts" / stage)
    code, _, err = run_memlora("ingest", talk, "--student", varied_student, "--experts", tmp_path / "experts")
    assert code == 1 and f"the {stage} stage computed numbers that are not finite" in err and err.count("\n") == 1
    broken = store_contents(tiny_home)
    # An exchange without facts asks no update; of the others, none may be marked.
    assert broken["memories"] == [] and broken["history"] == []
    assert stage == "update" or broken["exchanges"] == []
    code, _, _ = run_memlora("ingest", talk, "--student", varied_student, "--experts", "none")
    assert code == 0 and store_contents(tiny_home)["memories"], "the same command reads what the broken stage did not"
