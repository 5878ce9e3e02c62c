"""LoRA experts on one resident base: read, checked, and switched by exchanging pointers.

An expert is a folder in mlx-lm's own format, `adapter_config.json` and `adapters.safetensors`. All experts of a student
are resident. For every stage there is a table of modules; to switch is to put that table's modules into their
parents, which costs microseconds. The tables hold thin low-rank wrappers round the base's own layers (`swap`) or
layers with W + BA computed beforehand (`fused`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast, get_args

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from memlora_mlx.errors import AdapterMismatch
from memlora_mlx.models.arrays import load_arrays
from memlora_mlx.records import STAGES, Stage
from memlora_mlx.settings import ExpertMode

Slot = tuple[nn.Module, str, nn.Module]  # parent, attribute, the module that stands there


@dataclass(frozen=True)
class Expert:
    """One stage's low-rank matrices, by the name of the linear layer they adapt."""

    stage: Stage
    folder: Path
    matrices: Mapping[str, tuple[mx.array, mx.array]]  # A: (in, r); B: (r, out), with alpha/r already in it
    card: Mapping[str, Any] = field(default_factory=dict)  # the `memlora` part of adapter_config.json

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes + b.nbytes for a, b in self.matrices.values())


class LowRank(nn.Module):
    """y = linear(x) + (x A) B beside an untouched linear layer, quantised or not."""

    def __init__(self, linear: nn.Module, a: mx.array, b: mx.array) -> None:
        super().__init__()
        self.linear, self.a, self.b = linear, a, b

    def __call__(self, x: mx.array) -> mx.array:
        return mx.addmm(self.linear(x), x @ self.a, self.b)


class ExpertTable:
    """The experts of one resident model, switched per stage.

    Args:
        model: the base; its weights are neither copied nor changed.
        experts: by stage; a stage without one runs on the base.
        mode: `swap` keeps A and B apart and works on any base; `fused` holds W + BA of every adapted layer, which
            decodes as fast as the base and is only for float bases (a quantised one would be requantised).

    Raises:
        AdapterMismatch: a layer's name or shape is not the base's, or `fused` was asked of a quantised base.
    """

    def __init__(self, model: nn.Module, experts: Mapping[Stage, Expert], mode: ExpertMode = "swap") -> None:
        modules = dict(model.named_modules())
        names = sorted({name for expert in experts.values() for name in expert.matrices})
        slots: dict[str, Slot] = {}
        for name in names:
            parent, _, attribute = name.rpartition(".")
            if name not in modules or not attribute:
                owner = next(e for e in experts.values() if name in e.matrices)
                raise AdapterMismatch(f"the expert in {owner.folder} adapts {name}, which this student does not have")
            slots[name] = (modules[parent], attribute, modules[name])
        self.mode = mode
        self.experts = dict(experts)
        self._tables: dict[Stage | None, list[Slot]] = {None: list(slots.values())}
        for stage, expert in experts.items():
            self._tables[stage] = [
                (parent, attribute, self._adapted(plain, name, expert)) for name, (parent, attribute, plain) in slots.items()
            ]
        # Lazy arrays belong to the thread that made them, and a switch should never wait for them.
        mx.eval([list(e.matrices.values()) for e in experts.values()])
        mx.eval([module.parameters() for table in self._tables.values() for _, _, module in table])
        self._current: Stage | None = None

    @property
    def current(self) -> Stage | None:
        """The stage whose expert is in place; None while the base stands alone."""
        return self._current

    def use(self, stage: Stage | None) -> None:
        """Put the stage's expert in place; a stage without one gets the base. Only between forward passes."""
        stage = stage if stage in self._tables else None
        if stage == self._current:
            return
        for parent, attribute, module in self._tables[stage]:
            parent[attribute] = module  # an nn.Module is a dict: one store
        self._current = stage

    def nbytes(self) -> int:
        """Bytes held beyond the base."""
        if self.mode == "swap":
            return sum(expert.nbytes for expert in self.experts.values())
        base = {id(module) for _, _, module in self._tables[None]}
        overlays = {id(m): m for table in self._tables.values() for _, _, m in table if id(m) not in base}
        return sum(module.weight.nbytes for module in overlays.values())

    def _adapted(self, plain: nn.Module, name: str, expert: Expert) -> nn.Module:
        if name not in expert.matrices:
            return plain
        a, b = expert.matrices[name]
        outputs, inputs = _shape(plain)
        if a.shape[0] != inputs or b.shape[1] != outputs or a.shape[1] != b.shape[0]:
            raise AdapterMismatch(
                f"the expert in {expert.folder} was trained for another base model: {name} is {outputs}x{inputs} here, "
                f"but its matrices are {tuple(a.shape)} and {tuple(b.shape)}"
            )
        dtype = plain.scales.dtype if isinstance(plain, nn.QuantizedLinear) else plain.weight.dtype
        if self.mode == "swap":  # adapters are stored in float32 and would widen a half-precision stream
            return LowRank(plain, a.astype(dtype), b.astype(dtype))
        if isinstance(plain, nn.QuantizedLinear):
            raise AdapterMismatch("fused experts need a float base, this one is quantised; set expert_mode to swap")
        fused = nn.Linear(inputs, outputs, bias=False)
        fused.weight = (plain.weight.astype(mx.float32) + (a.astype(mx.float32) @ b.astype(mx.float32)).T).astype(dtype)
        if "bias" in plain:
            fused.bias = plain.bias
        return fused


def read_experts(folder: Path, base_fingerprint: str) -> dict[Stage, Expert]:
    """The experts below a folder, one sub-folder per stage; an absent stage is simply not there."""
    found = {stage: folder / stage for stage in STAGES if (folder / stage / "adapter_config.json").is_file()}
    return {stage: read_expert(path, stage, base_fingerprint) for stage, path in found.items()}


def read_expert(folder: Path, stage: Stage, base_fingerprint: str) -> Expert:
    """Read one adapter folder in mlx-lm's format.

    Raises:
        AdapterMismatch: a file is missing or damaged, it is no plain LoRA, or its card names another base.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        kind = config.get("fine_tune_type", "lora")
        if kind != "lora" or "lora_parameters" not in config:
            raise AdapterMismatch(f"{folder} is no LoRA in mlx-lm's format (fine_tune_type {kind!r})")
        scale = float(config["lora_parameters"]["scale"])
        arrays = load_arrays(folder / "adapters.safetensors")
    except AdapterMismatch:
        raise
    except FileNotFoundError as error:
        raise AdapterMismatch(f"the expert in {folder} is incomplete: {Path(error.filename).name} is missing") from error
    except Exception as error:
        raise AdapterMismatch(f"the expert in {folder} cannot be read ({error}); install it again") from error
    card = config.get("memlora") or {}
    trained_on = card.get("base", {}).get("fingerprint")
    if trained_on and trained_on != base_fingerprint:
        name = card["base"].get("name", "another model")
        raise AdapterMismatch(
            f"the expert in {folder} was trained on {name} (fingerprint {trained_on}), but the student's is "
            f"{base_fingerprint}; choose that student, or set experts to 'none'"
        )
    names = {name.rpartition(".")[0] for name in arrays}
    try:
        matrices = {name: (arrays[f"{name}.lora_a"], scale * arrays[f"{name}.lora_b"]) for name in sorted(names)}
    except KeyError as error:
        raise AdapterMismatch(f"the expert in {folder} is incomplete: {error.args[0]} is missing") from error
    return Expert(stage, folder, matrices, card)


Q_V: tuple[str, ...] = ("self_attn.q_proj", "self_attn.v_proj")
ALL_LINEAR: tuple[str, ...] = (
    *Q_V,
    "self_attn.k_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
ADAPTED: Mapping[Stage, tuple[str, ...]] = {  # specification 1
    "extraction": Q_V,
    "update": Q_V,
    "generation": ALL_LINEAR,
    "vqa": ALL_LINEAR,
}


def write_expert(
    folder: Path,
    matrices: Mapping[str, tuple[mx.array, mx.array]],
    *,
    scale: float,
    dropout: float = 0.1,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write an adapter folder that mlx-lm and mlx-vlm read too: keys are fully qualified.

    Args:
        matrices: A (in, r) and B (r, out) by layer, without the scale.
        scale: alpha / r.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"{name}.lora_{part}": array for name, pair in matrices.items() for part, array in zip("ab", pair, strict=True)}
    mx.save_safetensors(str(folder / "adapters.safetensors"), arrays)
    rank = next(iter(matrices.values()))[0].shape[1]
    config: dict[str, Any] = {
        "fine_tune_type": "lora",
        "num_layers": -1,
        "lora_parameters": {"rank": rank, "scale": scale, "dropout": dropout, "keys": sorted(matrices)},
    }
    if card:
        config["memlora"] = dict(card)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def random_matrices(
    model: nn.Module, layers: tuple[str, ...], *, rank: int = 8, seed: int = 0, strength: float = 0.02
) -> dict[str, tuple[mx.array, mx.array]]:
    """An expert of random weights, for measuring and for proving exactness."""
    mx.random.seed(seed)
    found = {name: _shape(module) for name, module in model.named_modules() if name.endswith(layers)}
    return {
        name: (mx.random.normal((inputs, rank)) * strength, mx.random.normal((rank, outputs)) * strength)
        for name, (outputs, inputs) in sorted(found.items())
    }


def fingerprint(model: nn.Module) -> str:
    """Sixteen hex digits that name a model's weights whatever their precision.

    Taken of the norms alone: quantisation leaves them as they were, rounding to bfloat16 (in which models are
    published) makes float32, float16 and bfloat16 copies agree, and any other training has other ones.
    """
    digest = sha256()
    for name, array in sorted(cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))):
        if name.endswith("norm.weight"):
            digest.update(name.encode())
            digest.update(np.array(array.astype(mx.bfloat16).view(mx.uint16)).tobytes())
    return digest.hexdigest()[:16]


def parse_stage(name: str) -> Stage:
    if name not in get_args(Stage):
        raise AdapterMismatch(f"there is no stage {name!r}; the stages are {', '.join(STAGES)}")
    return cast(Stage, name)


def _shape(linear: nn.Module) -> tuple[int, int]:
    """(outputs, inputs) of a linear layer, quantised or not."""
    outputs, inputs = linear.weight.shape
    if isinstance(linear, nn.QuantizedLinear):
        inputs = inputs * 32 // linear.bits
    return outputs, inputs
