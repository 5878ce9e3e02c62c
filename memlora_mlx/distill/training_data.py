"""The examples of a training run: read from files of teacher data, and divided into training and validation."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memlora_mlx.conversations.splits import SPLITS, Split, Splits
from memlora_mlx.distill import vqa_dataset
from memlora_mlx.distill.examples import TrainingExample, read_examples
from memlora_mlx.distill.training_config import TrainingConfig, parse_file_and_count
from memlora_mlx.errors import BadTrainingData
from memlora_mlx.records import Stage

LOCOMO = "CC BY-NC 4.0 (made of LoCoMo, Maharana et al., 2024)"
_OWN_LICENCE = "Apache-2.0 (memlora)"
LICENCES = {"observations": LOCOMO, "synthetic": _OWN_LICENCE, "drawings": _OWN_LICENCE}  # by teacher
_LOCOMO_NAME = re.compile(r"conv-\d+")  # of a conversation of LoCoMo, whoever the teacher was


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The examples of a run, divided, and where they came from."""

    training: tuple[TrainingExample, ...]
    validation: tuple[TrainingExample, ...]
    hash: str  # of the training examples
    validation_hash: str
    origin: Mapping[str, Any]  # as the card says it
    images: Mapping[str, Path] = field(default_factory=dict)  # the image files, by their names in the examples


def default_data(stage: Stage, home: Path) -> list[Path]:
    """The teacher data of a stage in the data folder; for vqa, the data set of visual questions there.

    Raises:
        BadTrainingData: there is none.
    """
    if stage == "vqa":
        return [vqa_dataset.find_dataset(home) / vqa_dataset.ROWS]
    files = sorted(
        path for path in (home / "teacher" / stage).glob("*.jsonl") if not path.name.endswith(".refused.jsonl")
    )
    if not files:
        raise BadTrainingData(
            f"There is no teacher data for {stage} in {home / 'teacher'}. "
            f"`memlora teach --stage {stage} --teacher synthetic` creates some without a server."
        )
    return files


def local_data_offer(stage: Stage) -> str:
    """The beginning of the question that offers data without a server, for a stage that has no teacher data."""
    return "Draw a small set of test images" if stage == "vqa" else "Generate synthetic dialogues"


def read_data(config: TrainingConfig) -> TrainingData:
    """Read the examples and divide them. Test conversations are never used, whatever their file says about the split.

    If no example is for validation, one training conversation in ten is. Examples whose image is missing are left out.

    Raises:
        BadTrainingData: there are fewer than two examples, or they are for another stage.
    """
    training: list[TrainingExample] = []
    validation: list[TrainingExample] = []
    images: dict[str, Path] = {}
    without_image = 0
    shuffled = random.Random(config.recipe.seed)
    for argument in config.data:
        name, count = parse_file_and_count(argument)
        before = len(training)
        for example in read_examples(Path(name)):
            if example.stage != config.stage:
                raise BadTrainingData(
                    f"{name} contains examples for {example.stage}, not for {config.stage}. Give a file for the right stage."
                )
            split = _split(example, SPLITS[config.splits])
            if split == "test":
                continue
            if example.image is not None and (image := vqa_dataset.image_of(Path(name).parent, example.image)):
                images[example.image] = image
            if example.image is not None and example.image not in images:
                without_image += 1
            else:
                (training if split == "train" else validation).append(example)
        if count is not None and count < len(training) - before:
            training[before:] = shuffled.sample(training[before:], count)
    if without_image and not training:
        raise BadTrainingData(
            f"All images of {without_image} examples are missing or have changed. Run `memlora vqa build` again."
        )
    if not validation and len(training) > 1:
        training, validation = _split_examples(training)
    if len(training) < 1 or len(validation) < 1:
        raise BadTrainingData(
            f"{len(training)} training and {len(validation)} validation examples are too few. "
            "At least one of each is needed; a useful expert needs several hundred."
        )
    if config.rows is not None and config.rows < len(training):
        training = shuffled.sample(training, config.rows)
    if len(validation) > config.validation_rows:
        validation = shuffled.sample(validation, config.validation_rows)
    origin = _origin(config, training, validation)
    if without_image:
        origin["rows_without_image"] = without_image
    return TrainingData(tuple(training), tuple(validation), _hash(training), _hash(validation), origin, images)


def short_path(argument: str) -> str:
    """A path as a card shows it: from `teacher/` (or another of memlora's folders) on, else its last part."""
    parts = Path(argument).parts
    folder = next((name for name in ("teacher", "vqa", "adapters", "runs") if name in parts[:-1]), None)
    return "/".join(parts[parts.index(folder) :]) if folder else parts[-1]


# ------------------------------------------------------------------------------------------------ inside


def _split(example: TrainingExample, splits: Splits) -> Split:
    """The name of a conversation decides if the splits list it. Synthetic dialogues carry their split themselves."""
    split = splits.split_of(example.conversation)
    return example.split if split == "train" else split


def _split_examples(examples: Sequence[TrainingExample]) -> tuple[list[TrainingExample], list[TrainingExample]]:
    """Every tenth conversation is for validation; if there is only one conversation, every tenth example."""
    names = sorted({example.conversation for example in examples})
    if len(names) > 1:
        held = set(names[:: max(2, min(10, len(names)))])
        return [e for e in examples if e.conversation not in held], [e for e in examples if e.conversation in held]
    step = max(2, min(10, len(examples)))
    return [e for i, e in enumerate(examples) if i % step], [e for i, e in enumerate(examples) if i % step == 0]


def _origin(
    config: TrainingConfig, training: Sequence[TrainingExample], validation: Sequence[TrainingExample]
) -> dict[str, Any]:
    """The part `data` of a card."""
    names = {example.conversation for example in training}
    return {
        "files": [short_path(argument) for argument in config.data],
        "splits": config.splits,
        "rows": len(training),
        "rows_asked": config.rows,
        "validation_rows": len(validation),
        "validation_rows_asked": config.validation_rows,
        "teachers": dict(Counter(example.teacher for example in training)),
        "conversations": sorted(names) if len(names) <= 20 else f"{len(names)} conversations",
        "licence": "; ".join(dict.fromkeys(_licence(example) for example in (*training, *validation))),
    }


def _licence(example: TrainingExample) -> str:
    if _LOCOMO_NAME.fullmatch(example.conversation):
        return LOCOMO
    return LICENCES.get(example.teacher, "as the teacher's data")


def _hash(examples: Sequence[TrainingExample]) -> str:
    text = "".join(sorted(example.prompt_hash + example.answer for example in examples))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
