"""The card of a trained expert: its base model, stage, recipe, data and licence, metrics, and the environment of the run."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.distill.examples import TrainingExample
from memlora_mlx.distill.training_config import TrainingConfig
from memlora_mlx.distill.training_data import TrainingData, short_path
from memlora_mlx.memory import stages
from memlora_mlx.models.adapter_registry import read_card
from memlora_mlx.models.cards import BaseModel, ExpertCard, TrainedOn, TrainingMetrics
from memlora_mlx.models.typed_json import from_json

if TYPE_CHECKING:
    from memlora_mlx.distill.training import TrainingResult
    from memlora_mlx.models.student import Student


def make_card(
    student: Student, config: TrainingConfig, data: TrainingData, result: TrainingResult, command: str
) -> ExpertCard:
    """The card of an expert. The licence is that of its data, and of the data of the expert that it continued from."""
    progress = result.progress
    start = read_card(Path(config.start)) if config.start else None
    licences = [(start.licence if start else None) or "", data.origin["licence"]]
    licence = "; ".join(dict.fromkeys(part for text in licences for part in text.split("; ") if part))
    traits = update_traits(data.training) if config.stage == "update" else {}
    losses = {"start" if config.start else "base": progress.first_loss, "expert": progress.best_loss}
    trained_on = {"hash": data.hash, "validation_hash": data.validation_hash, **data.origin, "licence": licence}
    return ExpertCard(
        stage=config.stage,
        copied_texts="copied_texts" in traits,
        one_fact="one_fact" in traits,
        # What was chosen for the expert that it continued from holds for it too.
        lines=start.lines if start else None,
        empty_handicap=start.empty_handicap if start else None,
        start=start,
        base=BaseModel(name=student.name, fingerprint=student.fingerprint),
        recipe=config.recipe.as_dict(),
        data=from_json(TrainedOn, trained_on),
        metrics=TrainingMetrics(
            validation_loss={name: loss for name, loss in losses.items() if loss is not None},
            step=progress.best_step,
            steps=progress.step,
            ended=progress.ended,
            seconds=round(progress.seconds),
        ),
        environment=describe_environment(),
        command=_without_folders(command),
        made=datetime.now(UTC).date().isoformat(),
    )


def describe_environment() -> dict[str, str]:
    """The versions of memlora, MLX and Python, and the device."""
    from memlora_mlx.models.device import describe_device

    packages = {name: version(name) for name in ("memlora-mlx", "mlx", "mlx-lm")}
    return {**packages, "python": platform.python_version(), "device": describe_device(), "platform": sys.platform}


def update_traits(examples: Sequence[TrainingExample]) -> dict[str, bool]:
    """What all these update examples have in common. The pipeline may hold the expert to it: see `PipelineOptions`."""
    prompts = [stages.parse_update_chat(example.chat) for example in examples]
    one_fact = all(prompt is not None and len(prompt[1]) == 1 for prompt in prompts)
    traits = {"copied_texts": _copies_texts(examples), "one_fact": one_fact}
    return {name: True for name, holds in traits.items() if holds}


def _copies_texts(examples: Sequence[TrainingExample]) -> bool:
    """Whether every text of these update answers is in its prompt, so that decoding may allow only such texts."""
    return all(
        json.dumps(entry["text"], ensure_ascii=False) in example.chat[-1][1]
        for example in examples
        for entry in json.loads(example.answer)["memory"]
    )


def _without_folders(command: str) -> str:
    """A command as a card shows it to others, without the paths of the machine it ran on."""
    words = [short_path(word) if Path(word).is_absolute() else word for word in shlex.split(command)]
    return shlex.join(words)
