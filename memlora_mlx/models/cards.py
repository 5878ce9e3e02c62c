"""What an expert and a model folder say of themselves: typed, with a version, and checked when they are read.

An expert's card is the `memlora` part of its adapter_config.json; a model folder's manifest is memlora.json. Fields that
this version does not know are kept, so that a card which is read and written again loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from memlora_mlx.errors import AdapterMismatch, ModelBroken
from memlora_mlx.models.typed_json import ALWAYS, from_json, to_json
from memlora_mlx.records import Stage

CONFIG = "adapter_config.json"
MANIFEST = "memlora.json"
VERSION = 1  # of cards and manifests; those without a version are of this one


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The model that an expert was trained on."""

    name: str | None = None
    fingerprint: str | None = None  # see `memlora_mlx.models.experts.weight_fingerprint`
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedOn:
    """The examples that an expert was trained and validated with."""

    hash: str | None = None  # of the training examples
    validation_hash: str | None = None
    files: tuple[str, ...] = ()  # below the data folder; "FILE:300" means 300 training examples of it
    splits: str | None = None
    rows: int | None = None
    rows_asked: int | None = None
    validation_rows: int | None = None
    validation_rows_asked: int | None = None
    teachers: Mapping[str, int] = field(default_factory=dict)  # examples of each
    conversations: tuple[str, ...] | str | None = None  # their names, or how many
    licence: str | None = None  # of the examples and so of the expert; several are joined by "; "
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMetrics:
    """How the training went."""

    # By "base", or "start" where the training began with an expert, and "expert".
    validation_loss: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None  # the best one, whose weights these are; 0: none was better than the beginning
    steps: int | None = None
    ended: str | None = None  # why it ended
    seconds: float | None = None
    chosen_by: str | None = None  # what decided beside the validation loss
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def first_loss(self) -> float | None:
        """The validation loss before the training, of the base or of the expert that it began with."""
        return self.validation_loss.get("base", self.validation_loss.get("start"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertCard:
    """What an expert says of itself. One without a card says nothing: every field has its default."""

    version: int = field(default=VERSION, metadata={ALWAYS: True})
    stage: Stage | None = None
    copied_texts: bool = False  # every text of its update answers stands in the prompt, so decoding may hold it to that
    one_fact: bool = False  # it was trained on one fact at a time, and is asked so
    lines: int | None = None  # the most memories that an answer is given at once, if it was trained on so many or fewer
    score_share: float | None = None  # of the best result's score, which every result given to an answer must have
    # Nats by which "no facts" must be likelier than a fact, which makes up for how many empty answers it was trained on.
    empty_handicap: float | None = None
    start: ExpertCard | None = None  # of the expert that its training began with
    base: BaseModel | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)  # see `memlora_mlx.distill.recipes.Recipe.as_dict`
    data: TrainedOn | None = None
    metrics: TrainingMetrics | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None
    made: str | None = None  # the day, as 2025-05-08
    sha256: str | None = None  # of the file of weights
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return self == ExpertCard()

    @property
    def licence(self) -> str | None:
        return self.data.licence if self.data else None

    def as_json(self) -> dict[str, Any]:
        """The card as its file has it; an empty one is empty."""
        return {} if self.is_empty else to_json(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraParameters:
    """The part of adapter_config.json that mlx-lm reads."""

    scale: float  # alpha / r, by which the product of the matrices is multiplied
    rank: int | None = None
    dropout: float = 0.0
    keys: tuple[str, ...] = ()  # the layers, by their full names
    other: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """An adapter_config.json in mlx-lm's format."""

    fine_tune_type: str = "lora"
    num_layers: int | None = None
    lora_parameters: LoraParameters | None = None
    memlora: ExpertCard | None = None
    other: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the config of the expert in a folder.

        Raises:
            AdapterMismatch: it is missing, damaged, or written by a newer memlora.
        """
        try:
            config = from_json(cls, json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise AdapterMismatch(f"there is no expert in {folder}: {CONFIG} is missing") from error
        except (OSError, ValueError, RecursionError) as error:
            raise AdapterMismatch(
                f"the expert in {folder} cannot be read ({CONFIG}: {error}); install it again"
            ) from error
        if config.card.version > VERSION:
            raise AdapterMismatch(
                f"the card of the expert in {folder} has version {config.card.version}, and this memlora reads version"
                f" {VERSION}; update memlora"
            )
        return config

    @property
    def card(self) -> ExpertCard:
        """The card; an empty one where there is none."""
        return self.memlora or ExpertCard()

    def with_card(self, card: ExpertCard) -> Self:
        return replace(self, memlora=None if card.is_empty else card)

    def as_json(self) -> dict[str, Any]:
        """The config as mlx-lm reads it."""
        rest = {"fine_tune_type": self.fine_tune_type, **to_json(replace(self, memlora=None))}
        return {**rest, "memlora": self.card.as_json()} if not self.card.is_empty else rest

    def write(self, path: Path) -> None:
        """Write the config to a file. Raises OSError."""
        path.write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file of a model folder."""

    path: str  # below the folder, with / between its parts
    bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelManifest:
    """What a model folder holds and where that came from."""

    version: int = field(default=VERSION, metadata={ALWAYS: True})
    name: str = ""  # its catalogue name, its hub id, or the name that it was added under
    repository: str | None = None  # on the hub
    revision: str | None = None  # of the repository, or the version of the distribution
    distribution: str | None = None  # the package whose wheel it came in
    wheel_sha256: str | None = None
    origin: str | None = None  # "memlora" for one that came with this package
    gguf: str | None = None  # the name of the GGUF file that it was converted from
    gguf_sha256: str | None = None
    family: str | None = None  # of one that was added: the architecture, ...
    precision: str | None = None  # ... the tensor type that most of its weights had, ...
    licence: str | None = None  # ... and the licence, as the GGUF file says
    files: tuple[ModelFile, ...] = ()
    other: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a model folder.

        Raises:
            ModelBroken: it is missing, damaged, or written by a newer memlora.
        """
        path = folder / MANIFEST
        try:
            manifest = from_json(cls, json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise ModelBroken(f"{folder} has no {MANIFEST}; pull the model again") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ModelBroken(f"{path} cannot be read ({error}); pull the model again") from error
        if manifest.version > VERSION:
            raise ModelBroken(
                f"{path} has version {manifest.version}, and this memlora reads version {VERSION}; update memlora"
            )
        return manifest

    def write(self, folder: Path) -> None:
        """Write the manifest into a model folder. Raises OSError."""
        (folder / MANIFEST).write_text(json.dumps(to_json(self), indent=1, ensure_ascii=False), encoding="utf-8")

    def is_complete(self, folder: Path) -> bool:
        """Whether every file is in the folder in its full size."""
        try:
            return all((folder / file.path).stat().st_size == file.bytes for file in self.files)
        except (OSError, ValueError):  # the latter for a path with a NUL
            return False
