"""What is checked of every family of students, on a tiny model of its real architecture with random weights."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from random_requests import random_sequence
from tiny_models import ALL_LINEAR, FAMILIES, Q_V, expert_folder, relative_error, student_folder

from memlora_mlx.errors import AdapterMismatch
from memlora_mlx.models.batching import DecodingBatch, PrefixCache
from memlora_mlx.models.catalog import shipped_entries
from memlora_mlx.models.decoding import DecodingSequence
from memlora_mlx.models.experts import ExpertTable, read_experts
from memlora_mlx.models.kv_cache import NativeCache, RaggedCache
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.model_config import VISION_FAMILIES
from memlora_mlx.models.student import Student
from memlora_mlx.records import Stage

import mlx.core as mx  # isort: skip
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model

TOKENS = [[4, 8, 15, 16, 23, 42, 108, 7, 99, 301, 5, 64, 31, 12, 250, 77, 18, 3, 222, 41]]  # longer than every window
SEEDS = {"qwen3_5": 4}  # a random model that ends every answer at once would prove nothing
ROWS = range(10)
MOST_TOKENS = 30  # of an output
_STAGES: tuple[Stage | None, ...] = (None, "extraction", "update", "generation")


def build(folder: Path, family: str) -> Path:
    """The family's model, and experts for it beside it."""
    made = student_folder(folder / family, family, seed=SEEDS.get(family, 0))
    base = load_student(made).model
    adapted: list[tuple[Stage, tuple[str, ...]]] = [("extraction", Q_V), ("update", Q_V), ("generation", ALL_LINEAR)]
    for seed, (stage, keys) in enumerate(adapted, start=1):
        expert_folder(folder / "experts" / stage, base, keys, seed=seed)
    return made


def logits_equal_mlx_lms(folder: Path) -> bool:
    """The model cut before its head says what mlx-lm's model says, with a cache and without one."""
    student = load_student(folder)
    whole, _ = load_model(folder)
    whole.eval()
    tokens = mx.array(TOKENS)
    expected = whole(tokens, cache=student.make_cache())
    with_cache = student.logits(student.hidden(tokens, student.make_cache()))
    without = student.logits(student.hidden(tokens, None))
    return max(relative_error(found, expected) for found in (with_cache, without)) < 1e-5


def batches_equal_single_rows(folder: Path) -> bool:
    """Rows of mixed experts that come and go say what each says alone, token by token, through the model's own cache."""
    student = load_student(folder)
    table = _table(student, folder)
    expected = [_one_by_one(student, table, number) for number in ROWS]
    assert len({tuple(tokens) for tokens in expected}) > 3, "outputs that agree prove nothing"
    prefixes: PrefixCache = {}
    together = [_run(student, table, rows, prefixes) for rows in (4, 3)]
    return isinstance(student.make_batch_cache(2), RaggedCache) and all(found == expected for found in together)


def experts_equal_fresh_ones(folder: Path) -> bool:
    """After switching to and fro, an expert says what it says in a student that has only this one."""
    student = load_student(folder)
    table = _table(student, folder)
    tokens, found = mx.array(TOKENS), {}
    for stage in ("extraction", "generation", None, "update", "generation", "extraction"):
        table.use(stage)
        found[stage] = student.logits(student.hidden(tokens, None))
        mx.eval(found[stage])
    for stage, logits in found.items():
        fresh = load_student(folder)
        if stage is not None:
            only = read_experts({stage: folder.parent / "experts" / stage}, fresh.fingerprint)
            ExpertTable(fresh.model, only).use(stage)
        if not mx.array_equal(logits, fresh.logits(fresh.hidden(tokens, None))):
            return False
    return relative_error(found["generation"], found[None]) > 0.01


def fused_equals_swapped(folder: Path) -> bool:
    tokens, found = mx.array(TOKENS), []
    for mode in ("swap", "fused"):
        student = load_student(folder)
        ExpertTable(student.model, read_experts(folder.parent / "experts", student.fingerprint), mode).use("generation")
        found.append(student.logits(student.hidden(tokens, None)))
    return relative_error(found[0], found[1]) < 1e-3


def works_in_4_bit(folder: Path) -> bool:
    """Experts on a quantised base equal fresh ones, batches equal single rows, and fusing is refused in a line."""
    quantised = _quantised(folder)
    student = load_student(quantised)
    try:
        ExpertTable(student.model, read_experts(folder.parent / "experts", student.fingerprint), "fused")
    except AdapterMismatch as error:
        refused = "set expert_mode to swap" in str(error)
    else:
        refused = False
    return refused and experts_equal_fresh_ones(quantised) and batches_equal_single_rows(quantised)


CHECKS: dict[str, Callable[[Path], bool]] = {
    "logits": logits_equal_mlx_lms,
    "batches": batches_equal_single_rows,
    "experts": experts_equal_fresh_ones,
    "fused": fused_equals_swapped,
    "4 bit": works_in_4_bit,
}


def table() -> str:
    """The families with the checks that their tests pass, as a table in Markdown. Each check is a test that must pass."""
    rows = [["family", "models in the catalogue", "layers beside full attention", *CHECKS, "images"]]
    rows.append(["---"] * len(rows[0]))
    for family, config in FAMILIES.items():
        names = [entry.name for entry in shipped_entries().values() if entry.family == family]
        seen = "yes" if family in VISION_FAMILIES else "no"
        rows.append([f"`{family}`", ", ".join(names), _layers(config), *["yes"] * len(CHECKS), seen])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def vision_table() -> str:
    """The families whose vision tower runs, as a table in Markdown. Each of its words is a test that must pass.

    They are in `test_vision_families.py`, and of InternVL in `test_vision.py`.
    """
    checks = ("logits", "batches", "experts")
    rows = [["family", "models in the catalogue", *checks], ["---"] * (2 + len(checks))]
    for family in VISION_FAMILIES:
        if family != _SAME_FAMILY.get("lfm2_vl"):
            same = (family, _SAME_FAMILY.get(family))
            names = [e.name for e in shipped_entries().values() if e.family in same and not e.is_shipped]
            rows.append([f"`{family}`", ", ".join(names), *["yes"] * len(checks)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


_SAME_FAMILY = {"internvl_chat": "internvl", "lfm2_vl": "lfm2-vl"}  # as other files call them


def _layers(config: dict[str, Any]) -> str:
    config = config.get("text_config", config)
    if "sliding_window" in config:
        return "sliding windows"
    kinds = {
        "conv_L_cache": "convolutions",
        "mamba_d_state": "state space",
        "linear_num_value_heads": "linear attention",
    }
    return next((words for name, words in kinds.items() if name in config), "")


def _quantised(folder: Path) -> Path:
    """The same model in 4 bits, as mlx-lm writes one."""
    model, config = load_model(folder)
    nn.quantize(model, group_size=32, bits=4, class_predicate=lambda _, layer: _fits(layer, 32))
    made = folder.parent / f"{folder.name}-4bit"
    made.mkdir(exist_ok=True)
    for file in folder.iterdir():
        if file.suffix == ".json":
            (made / file.name).write_bytes(file.read_bytes())
    arrays = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(made / "model.safetensors"), arrays, {"format": "mlx"})
    config["quantization"] = {"group_size": 32, "bits": 4}
    (made / "config.json").write_text(json.dumps(config))
    return made


def _fits(layer: Any, group: int) -> bool:
    return hasattr(layer, "to_quantized") and layer.weight.shape[-1] % group == 0


def _table(student: Student, folder: Path) -> ExpertTable:
    return ExpertTable(student.model, read_experts(folder.parent / "experts", student.fingerprint))


def _row(student: Student, number: int, **options: Any) -> DecodingSequence:
    return random_sequence(student, number, _STAGES, MOST_TOKENS, **options)


def _one_by_one(student: Student, table: ExpertTable, number: int) -> list[int]:
    batch = DecodingBatch(student, table, 1)
    batch._cache = NativeCache(student.make_cache())
    row = _row(student, number, lookup=0, force=False)
    _decode(batch, [row])
    return row.tokens


def _run(student: Student, table: ExpertTable, rows: int, prefixes: PrefixCache) -> list[list[int]]:
    batch, made = DecodingBatch(student, table, rows, prefixes), [_row(student, number) for number in ROWS]
    _decode(batch, made, random.Random(rows))
    return [row.tokens for row in made]


def _decode(batch: DecodingBatch, rows: Sequence[DecodingSequence], arrivals: random.Random | None = None) -> None:
    coming = list(rows)
    while coming or batch.is_busy:
        while coming and (arrivals is None or not batch.is_busy or arrivals.random() < 0.3):
            batch.add(coming.pop(0))
        _, failed = batch.step()
        assert not failed
