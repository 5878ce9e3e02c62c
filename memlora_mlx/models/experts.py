"""LoRA experts on one resident base: read, checked, and switched by exchanging pointers.

An expert is a folder in mlx-lm's own format, `adapter_config.json` and `adapters.safetensors`. All experts of a student
are resident. For every stage there is a table of modules; to switch is to put that table's modules into their
parents, which costs microseconds. The tables hold thin low-rank wrappers round the base's own layers (`swap`) or
layers with W + BA computed beforehand (`fused`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from memlora_mlx.errors import AdapterMismatch
from memlora_mlx.files import atomic_paths
from memlora_mlx.models.adapter_registry import WEIGHTS, experts_in
from memlora_mlx.models.cards import CONFIG, AdapterConfig, ExpertCard, LoraParameters
from memlora_mlx.models.safetensors_files import load_arrays
from memlora_mlx.records import Stage
from memlora_mlx.settings import ExpertMode

ExpertKey = Stage | Literal["mixed"] | None  # of a table: a stage, the experts of a mixed batch, or the base alone
Matrices = Mapping[str, tuple[mx.array, mx.array]]  # by layer: A (in, r), B (r, out)
ModuleSlot = tuple[nn.Module, str, nn.Module]  # parent, attribute, the module that stands there


@dataclass(frozen=True)
class Expert:
    """One stage's low-rank matrices, by the name of the linear layer they adapt."""

    stage: Stage
    folder: Path
    matrices: Mapping[str, tuple[mx.array, mx.array]]  # A: (in, r); B: (r, out), with alpha/r already in it
    card: ExpertCard = field(default_factory=ExpertCard)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes + b.nbytes for a, b in self.matrices.values())


class LoRALinear(nn.Module):
    """y = linear(x) + (x A) B beside an untouched linear layer, quantised or not."""

    def __init__(self, linear: nn.Module, a: mx.array, b: mx.array) -> None:
        super().__init__()
        self.linear, self.a, self.b = linear, a, b

    def __call__(self, x: mx.array) -> mx.array:
        return mx.addmm(self.linear(x), x @ self.a, self.b)


class PerRowLoRALinear(nn.Module):
    """y = linear(x) + (x A[i]) B[i], with i the expert of each row; a row without one gets the base alone."""

    def __init__(
        self, linear: nn.Module, a: mx.array, b: mx.array, route: Callable[[], tuple[mx.array, mx.array]]
    ) -> None:
        super().__init__()
        self.linear, self.a, self.b = linear, a, b  # (experts, in, r), (experts, r, out)
        self._route = route  # places in the stacks: int, (rows,); and 1.0 or 0.0 for rows without one: (rows, 1, 1)

    def __call__(self, x: mx.array) -> mx.array:
        place, has_one = self._route()
        return self.linear(x) + ((x @ self.a[place]) * has_one.astype(x.dtype)) @ self.b[place]


class ExpertTable:
    """The experts of one resident model, switched per stage or per row of a batch.

    Args:
        model: the base; its weights are neither copied nor changed.
        experts: by stage; a stage without one runs on the base.
        mode: `swap` keeps A and B apart and works on any base; `fused` holds W + BA of every adapted layer, which
            decodes as fast as the base and is only for float bases (a quantised one would be requantised). Batches of
            mixed experts take the low-rank path in either mode.

    Raises:
        AdapterMismatch: a layer's name or shape is not the base's, or `fused` was asked of a quantised base.
    """

    def __init__(self, model: nn.Module, experts: Mapping[Stage, Expert], mode: ExpertMode = "swap") -> None:
        self.mode = mode
        self.experts = dict(experts)
        self._slots = _find_module_slots(model, experts.values())
        self._current: ExpertKey = None
        self._routes: dict[tuple[Stage, ...], tuple[mx.array, mx.array]] = {}
        self._tables: dict[ExpertKey, list[ModuleSlot]] = {
            None: [],
            "mixed": [],
            **{stage: [] for stage in self.experts},
        }
        self._extra_bytes = 0  # bytes beyond the base
        for name, (parent, attribute, plain) in self._slots.items():
            for key, module in self._module_variants(name, plain).items():
                self._tables[key].append((parent, attribute, module))

    def use(self, stage: Stage | None) -> None:
        """Put the stage's expert in place; a stage without one gets the base. Only between forward passes."""
        self._activate(stage if stage in self.experts else None)

    def use_rows(self, stages: Sequence[Stage | None]) -> None:
        """For a batch: an expert for each row. Rows that all have the same one take the plain way."""
        known = [stage if stage in self.experts else None for stage in stages]
        if len(set(known)) == 1:
            self._activate(known[0])
            return
        self._routes.clear()
        self._rows = known
        self._activate("mixed")

    def nbytes(self) -> int:
        """Bytes held beyond the base."""
        return self._extra_bytes

    def _activate(self, key: ExpertKey) -> None:
        if key == self._current:
            return
        for parent, attribute, module in self._tables[key]:
            parent[attribute] = module  # an nn.Module is a dict: one store
        self._current = key

    def _module_variants(self, name: str, plain: nn.Module) -> dict[ExpertKey, nn.Module]:
        """The module that stands in one place, for each stage, for a mixed batch, and for the base."""
        stages_with_layer = tuple(stage for stage, expert in self.experts.items() if name in expert.matrices)
        pairs = [_checked(self.experts[stage], name, plain) for stage in stages_with_layer]
        rank, dtype = max(a.shape[1] for a, _ in pairs), _dtype(plain)
        # One stack holds every expert's matrices; those of a single expert are views of it.
        a = mx.stack([mx.pad(a, [(0, 0), (0, rank - a.shape[1])]) for a, _ in pairs]).astype(dtype)
        b = mx.stack([mx.pad(b, [(0, rank - b.shape[0]), (0, 0)]) for _, b in pairs]).astype(dtype)
        versions: dict[ExpertKey, nn.Module] = dict.fromkeys((None, *self.experts), plain)
        versions["mixed"] = PerRowLoRALinear(plain, a, b, lambda: self._route(stages_with_layer))
        for i, stage in enumerate(stages_with_layer):
            versions[stage] = LoRALinear(plain, a[i], b[i]) if self.mode == "swap" else _fused(plain, a[i], b[i])
        self._extra_bytes += a.nbytes + b.nbytes
        if self.mode == "fused":
            self._extra_bytes += sum(versions[stage].weight.nbytes for stage in stages_with_layer)
        # Lazy arrays belong to the thread that made them, and a switch should never wait for them.
        mx.eval([module.parameters() for module in versions.values()])
        return versions

    def _route(self, stages_with_layer: tuple[Stage, ...]) -> tuple[mx.array, mx.array]:
        """Where the rows' experts lie in a stack of these, computed once for each batch."""
        if stages_with_layer not in self._routes:
            places = [stages_with_layer.index(stage) if stage in stages_with_layer else 0 for stage in self._rows]
            has_one = [float(stage in stages_with_layer) for stage in self._rows]
            self._routes[stages_with_layer] = (mx.array(places), mx.array(has_one)[:, None, None])
        return self._routes[stages_with_layer]


def _find_module_slots(model: nn.Module, experts: Iterable[Expert]) -> dict[str, ModuleSlot]:
    modules = dict(model.named_modules())
    slots: dict[str, ModuleSlot] = {}
    for expert in experts:
        for name in expert.matrices:
            parent, _, attribute = name.rpartition(".")
            if name not in modules or not attribute:
                raise AdapterMismatch(f"the expert in {expert.folder} adapts {name}, which this student does not have")
            slots[name] = (modules[parent], attribute, modules[name])
    return dict(sorted(slots.items()))


def _checked(expert: Expert, name: str, plain: nn.Module) -> tuple[mx.array, mx.array]:
    a, b = expert.matrices[name]
    outputs, inputs = _shape(plain)
    if a.shape[0] != inputs or b.shape[1] != outputs or a.shape[1] != b.shape[0]:
        raise AdapterMismatch(
            f"the expert in {expert.folder} was trained for another base model: {name} is {outputs}x{inputs} here, "
            f"but its matrices are {tuple(a.shape)} and {tuple(b.shape)}"
        )
    return a, b


def _fused(plain: nn.Module, a: mx.array, b: mx.array) -> nn.Module:
    if isinstance(plain, nn.QuantizedLinear):
        raise AdapterMismatch("fused experts need a float base, this one is quantised; set expert_mode to swap")
    outputs, inputs = _shape(plain)
    fused = nn.Linear(inputs, outputs, bias=False)
    fused.weight = (plain.weight.astype(mx.float32) + (a.astype(mx.float32) @ b.astype(mx.float32)).T).astype(
        _dtype(plain)
    )
    if "bias" in plain:
        fused.bias = plain.bias
    return fused


def read_experts(folders: Path | Mapping[Stage, Path], base_fingerprint: str) -> dict[Stage, Expert]:
    """The experts in these folders, or below one with a sub-folder per stage; an absent stage is simply not there."""
    found = experts_in(folders) if isinstance(folders, Path) else folders
    return {stage: read_expert(path, stage, base_fingerprint) for stage, path in found.items()}


def read_expert(folder: Path, stage: Stage, base_fingerprint: str) -> Expert:
    """Read one adapter folder in mlx-lm's format.

    Raises:
        AdapterMismatch: a file is missing or damaged, it is no plain LoRA, or its card names another base.
    """
    try:
        config = AdapterConfig.read(folder)
        lora, kind = config.lora_parameters, config.fine_tune_type
        if kind != "lora" or lora is None:
            raise AdapterMismatch(f"{folder} is no LoRA in mlx-lm's format (fine_tune_type {kind!r})")
        arrays = load_arrays(folder / WEIGHTS)
    except AdapterMismatch:
        raise
    except FileNotFoundError as error:
        raise AdapterMismatch(
            f"the expert in {folder} is incomplete: {Path(error.filename).name} is missing"
        ) from error
    except Exception as error:
        raise AdapterMismatch(f"the expert in {folder} cannot be read ({error}); install it again") from error
    base = config.card.base
    if base is not None and base.fingerprint and base.fingerprint != base_fingerprint:
        name = base.name or "another model"
        raise AdapterMismatch(
            f"the expert in {folder} was trained on {name} (fingerprint {base.fingerprint}), but the student's is "
            f"{base_fingerprint}; choose that student, or set experts to 'none'"
        )
    names = {name.rpartition(".")[0] for name in arrays}
    try:
        matrices = {name: (arrays[f"{name}.lora_a"], lora.scale * arrays[f"{name}.lora_b"]) for name in sorted(names)}
    except KeyError as error:
        raise AdapterMismatch(f"the expert in {folder} is incomplete: {error.args[0]} is missing") from error
    _require_finite(folder, arrays, matrices)
    return Expert(stage, folder, matrices, config.card)


def _require_finite(folder: Path, arrays: Mapping[str, mx.array], matrices: Matrices) -> None:
    """Raises AdapterMismatch: weights are no floating-point numbers, or, scaled, not finite."""
    for name, array in arrays.items():
        if not mx.issubdtype(array.dtype, mx.floating):
            kind = str(array.dtype).rpartition(".")[2]
            raise AdapterMismatch(
                f"the expert in {folder} has weights of the type {kind} ({name}); install another one"
            )
    are_finite = [mx.isfinite(a).all() & mx.isfinite(b).all() for a, b in matrices.values()]
    for name, is_finite in zip(matrices, np.array(mx.stack(are_finite)) if are_finite else (), strict=True):
        if not is_finite:
            raise AdapterMismatch(
                f"the expert in {folder} has weights that are NaN or infinite ({name}); install another one"
            )


Q_V: tuple[str, ...] = ("self_attn.q_proj", "self_attn.v_proj")
ALL_LINEAR: tuple[str, ...] = (
    *Q_V,
    "self_attn.k_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
# What some families call these layers, or have in their place: one layer for several (Phi), a convolution (LFM2), a
# state-space layer (Granite) or linear attention (Qwen3.5) in most blocks.
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "self_attn.q_proj": ("self_attn.qkv_proj", "linear_attn.in_proj_qkv", "conv.in_proj", "mamba.in_proj"),
    "self_attn.v_proj": ("self_attn.qkv_proj", "linear_attn.in_proj_qkv", "conv.in_proj", "mamba.in_proj"),
    "self_attn.o_proj": ("self_attn.out_proj", "linear_attn.out_proj", "conv.out_proj", "mamba.out_proj"),
    "mlp.gate_proj": ("mlp.gate_up_proj", "feed_forward.w1"),
    "mlp.up_proj": ("mlp.gate_up_proj", "feed_forward.w3"),
    "mlp.down_proj": ("feed_forward.w2",),
}
ADAPTED: Mapping[Stage, tuple[str, ...]] = {  # as the paper's experts
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
    card: ExpertCard | None = None,
) -> None:
    """Write an adapter folder that mlx-lm and mlx-vlm read too (keys are fully qualified), in 16 bits; whole, or not at all.

    Args:
        matrices: A (in, r) and B (r, out) by layer, without the scale.
        scale: alpha / r.
        card: what it says of itself; the hash of the weights' file is added.
    """
    arrays = {
        f"{name}.lora_{part}": array.astype(mx.float16)
        for name, pair in matrices.items()
        for part, array in zip("ab", pair, strict=True)
    }
    rank = next(iter(matrices.values()))[0].shape[1]
    parameters = LoraParameters(rank=rank, scale=scale, dropout=dropout, keys=tuple(sorted(matrices)))
    config = AdapterConfig(num_layers=-1, lora_parameters=parameters)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_paths(folder / WEIGHTS, folder / CONFIG) as (weights, described):  # without the last there is no expert
        mx.save_safetensors(str(weights), arrays)
        if card is not None and not card.is_empty:
            config = config.with_card(replace(card, sha256=sha256(weights.read_bytes()).hexdigest()))
        config.write(described)


def adapted_layers(model: nn.Module, keys: tuple[str, ...]) -> list[str]:
    """The full names of the linear layers that end like one of the keys, or as the model's family calls it."""
    linear = (nn.Linear, nn.QuantizedLinear)
    endings = tuple(dict.fromkeys(ending for key in keys for ending in (key, *OTHER_NAMES.get(key, ()))))
    return sorted(
        name for name, module in model.named_modules() if name.endswith(endings) and isinstance(module, linear)
    )


def random_matrices(
    model: nn.Module, layers: tuple[str, ...], *, rank: int = 8, seed: int = 0, strength: float = 0.02
) -> dict[str, tuple[mx.array, mx.array]]:
    """An expert of random weights, for measuring and for proving exactness."""
    mx.random.seed(seed)
    modules = dict(model.named_modules())
    found = {name: _shape(modules[name]) for name in adapted_layers(model, layers)}
    return {
        name: (mx.random.normal((inputs, rank)) * strength, mx.random.normal((rank, outputs)) * strength)
        for name, (outputs, inputs) in sorted(found.items())
    }


def weight_fingerprint(model: nn.Module) -> str:
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


def _dtype(linear: nn.Module) -> mx.Dtype:
    """Of the activations: adapters are stored in float32 and would widen a half-precision stream."""
    return linear.scales.dtype if isinstance(linear, nn.QuantizedLinear) else linear.weight.dtype


def _shape(linear: nn.Module) -> tuple[int, int]:
    """(outputs, inputs) of a linear layer, quantised or not."""
    outputs, inputs = linear.weight.shape
    if isinstance(linear, nn.QuantizedLinear):
        inputs = inputs * 32 // linear.bits
    return outputs, inputs
