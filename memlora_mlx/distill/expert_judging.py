"""Is a new expert better than what is in use? Compared on a run's held-out rows, and on the corrections themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlora_mlx.errors import BadTrainingData
from memlora_mlx.records import STAGES, Stage
from memlora_mlx.settings import CORRECTIONS

if TYPE_CHECKING:
    from memlora_mlx.distill.training_config import TrainingConfig
    from memlora_mlx.models.student import Student

LEAST_ROWS = 20  # training examples: with fewer, an expert learns a handful of answers by heart and loses others


@dataclass(frozen=True, slots=True)
class Judgement:
    """The mean loss of an answer's tokens (nats) before and after, on two sets of examples. Lower is better."""

    before: str  # what the new expert is compared with: "the expert in use" or "the base model"
    held_out: tuple[float, float]
    held_out_rows: int
    corrections: tuple[float, float] | None = None  # None: there are none for this stage
    corrected_rows: int = 0

    @property
    def is_better(self) -> bool:
        """Whether it is to be used: better on at least one of the two sets, and worse on neither."""
        pairs = [self.held_out, *([self.corrections] if self.corrections else [])]
        return all(after <= before for before, after in pairs) and any(after < before for before, after in pairs)

    def as_text(self) -> str:
        """The judgement in one line."""
        parts = [f"held-out rows ({self.held_out_rows}): {_compared(self.held_out)}"]
        if self.corrections is not None:
            parts.append(f"your corrections ({self.corrected_rows}): {_compared(self.corrections)}")
        verdict = "Better" if self.is_better else "Not better"
        return f"{verdict} than {self.before}. Loss on {'; on '.join(parts)}."

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def judge_run(folder: Path, student: Student, in_use: Path | None, home: Path) -> Judgement:
    """Compare the expert of a training run, or its best so far, with the one in use.

    Args:
        in_use: the folder of the expert that the student uses for the run's stage; None: the base.

    Raises:
        BadTrainingData: the run's data is gone, or none of it fits.
        TrainingFailed: the folder is no run.
        AdapterMismatch: an expert does not fit the student.
    """
    from memlora_mlx.distill.training_data import read_data
    from memlora_mlx.distill.training_runs import read_run_config
    from memlora_mlx.models.experts import ExpertTable, read_expert

    config = read_run_config(folder)
    expert = read_expert(_best_expert(folder), config.stage, student.fingerprint)
    # A table holds one expert for each stage: the old one stands under the name of another stage.
    other = next(stage for stage in STAGES if stage != config.stage)
    experts = {config.stage: expert}
    if in_use is not None:
        experts[other] = read_expert(in_use, config.stage, student.fingerprint)
    table = ExpertTable(student.model, experts)
    data = read_data(config)
    held_out, rows = _losses(student, table, config, other, data.validation, data.images)
    corrections = _corrections(home, config.stage)
    corrected = _losses(student, table, config, other, corrections, {}) if corrections else None
    return Judgement(
        "the expert in use" if in_use is not None else "the base model",
        held_out,
        rows,
        corrected[0] if corrected else None,
        corrected[1] if corrected else 0,
    )


def _losses(
    student: Student, table: Any, config: TrainingConfig, other: Stage, examples: Any, images: Any
) -> tuple[tuple[float, float], int]:
    """The losses on these examples before and after, and how many of them fit."""
    from memlora_mlx.distill.datasets import tokenize_examples
    from memlora_mlx.distill.training_step import validation_loss

    rows, _ = tokenize_examples(
        student,
        examples,
        longest=min(config.recipe.max_seq_length, student.context),
        decision_weight=config.recipe.decision_weight,
        purpose="compare on",
        images=images,
    )
    losses = []
    for stage in (other, config.stage):
        table.use(stage)
        losses.append(float(validation_loss(student, rows, config.recipe.batch_size)))
    table.use(None)
    return (losses[0], losses[1]), len(rows)


def _corrections(home: Path, stage: Stage) -> list[Any]:
    from memlora_mlx.distill.examples import read_examples

    file = home / "teacher" / stage / CORRECTIONS
    return list(read_examples(file)) if file.is_file() else []


def _best_expert(folder: Path) -> Path:
    from memlora_mlx.distill.training_runs import BEST_SO_FAR

    for name in ("expert", BEST_SO_FAR):
        if (folder / name / "adapter_config.json").is_file():
            return folder / name
    raise BadTrainingData(f"{folder} has no expert yet. It gets one after the first validation that improves.")


def _compared(pair: tuple[float, float]) -> str:
    before, after = pair
    word = "better" if after < before else "the same" if after == before else "worse"
    return f"{before:.3f} → {after:.3f}, {word}"
