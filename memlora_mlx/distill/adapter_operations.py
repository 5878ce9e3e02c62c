"""Operations on experts: verify against the card, install for a student, export."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlora_mlx.distill.expert_rollback import keep_previous
from memlora_mlx.distill.training_runs import VALIDATION_ROWS, TrainingConfig, TrainingData, config_from_json, read_data
from memlora_mlx.errors import AdapterMismatch, BadTrainingData, UsageError
from memlora_mlx.files import atomic_folder, atomic_paths
from memlora_mlx.models.adapter_registry import WEIGHTS, installed_folder, read_card, registry_name
from memlora_mlx.models.cards import CONFIG, AdapterConfig, ExpertCard, TrainingMetrics
from memlora_mlx.records import Stage

if TYPE_CHECKING:
    from memlora_mlx.models.experts import Expert
    from memlora_mlx.models.student import Student

TOLERANCE = 0.01  # relative, of a validation loss: other back ends and precisions round differently


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The result of one check."""

    subject: str
    is_right: bool | None  # None: it could not be checked
    message: str


def verify_expert(
    folder: Path, student: Student, home: Path, *, stage: Stage | None = None, data: Sequence[str] = ()
) -> list[VerificationResult]:
    """Check an expert: its files, its base model, and its validation loss on the data that its card names.

    Args:
        student: a student of the base model that the expert should be for; it is left unchanged.
        stage: needed only if the card does not say it.
        data: files of training examples, to use in place of those that the card names in the data folder.
    """
    try:
        card = read_card(folder)
        _check_files(folder, card)
    except AdapterMismatch as error:
        return [VerificationResult("files", False, str(error))]
    size = (folder / WEIGHTS).stat().st_size
    state = "intact" if card.sha256 else "present; the card has no hash of them"
    findings = [VerificationResult("files", True, f"{size / 1e6:.1f} MB, {state}")]
    try:
        expert = _read(folder, stage or _stage(folder, card), student)
    except AdapterMismatch as error:
        return [*findings, VerificationResult("base", False, str(error))]
    base = f"{student.name}, fingerprint {student.fingerprint}"
    if card.base is not None:
        findings.append(VerificationResult("base", True, base))
    else:
        findings.append(
            VerificationResult("base", None, f"its layers fit {base}, but the card does not say what it was trained on")
        )
    return [*findings, *_measured(expert, student, home, data)]


def install_experts(source: str, student: Student, name: str, home: Path, *, stage: Stage | None = None) -> list[Path]:
    """Install all experts of a folder, a training run, an archive or a repository on the hub. Returns their new folders.

    All of them are checked before the first one is installed.

    Args:
        student, name, stage: see `install_expert`; with a stage, only its expert is installed.

    Raises:
        AdapterMismatch, UsageError, DownloadFailed: see `install_expert` and `experts_from`.
    """
    from memlora_mlx.distill.expert_archives import experts_from

    with experts_from(source) as found:
        several = len(found) > 1
        chosen = [folder for known, folder in found.items() if not several or stage in (None, known)]
        if not chosen:
            raise UsageError(f"{source} has no {stage} expert. It has: {', '.join(str(known) for known in found)}.")
        checked = [(folder, _check_expert(folder, student, stage)) for folder in chosen]
        return [_put(folder, found_stage, name, home) for folder, found_stage in checked]


def install_expert(folder: Path, student: Student, name: str, home: Path, *, stage: Stage | None = None) -> Path:
    """Install an expert for a student, in place of the one that is installed. Returns its new folder.

    Args:
        folder: of an expert, or of a training run that produced one.
        student: to check the expert against.
        name: of the student, as in the settings.
        stage: needed only if the card does not say it.

    Raises:
        AdapterMismatch: the expert is damaged, or for another base model.
        UsageError: the card does not say the stage, or says another one; or the folder cannot be written.
    """
    if not (folder / CONFIG).is_file() and (folder / "expert" / CONFIG).is_file():
        folder = folder / "expert"
    return _put(folder, _check_expert(folder, student, stage), name, home)


def _check_expert(folder: Path, student: Student, stage: Stage | None) -> Stage:
    """The stage of an expert that is whole and fits the student. Raises: see `install_expert`."""
    card = read_card(folder)
    stated = card.stage
    if stage is not None and stated is not None and stated != stage:
        raise UsageError(f"The expert in {folder} is for {stated}, not for {stage}. Remove --stage.")
    stage = stage or _stage(folder, card)
    _check_files(folder, card)
    _read(folder, stage, student)
    return stage


def _reason(error: OSError) -> str:
    """Why files could not be written; a copy of a folder tells it for each file."""
    if isinstance(error, shutil.Error) and error.args and error.args[0]:
        return str(error.args[0][0][-1])
    return error.strerror or str(error)


def _put(folder: Path, stage: Stage, name: str, home: Path) -> Path:
    place = installed_folder(home) / registry_name(name, home) / stage
    if folder.resolve() != place.resolve():
        try:
            keep_previous(place)
        except OSError as error:
            raise UsageError(
                f"Cannot write to {place.parent} ({_reason(error)}). The existing expert was not changed."
            ) from error
        _copy(folder, place)
    return place


def note_choice(folder: Path, chosen_by: str) -> None:
    """Write into an expert's card what decided for it beside its validation loss. Raises AdapterMismatch, OSError."""
    config = AdapterConfig.read(folder)
    metrics = config.card.metrics or TrainingMetrics()
    changed = config.with_card(replace(config.card, metrics=replace(metrics, chosen_by=chosen_by)))
    with atomic_paths(folder / CONFIG) as (scratch,):
        changed.write(scratch)


def export_expert(folder: Path, target: Path) -> None:
    """Copy an expert into a new folder, which `mlx_lm.generate --adapter-path` accepts.

    Raises:
        UsageError: the folder exists and is not empty, or it cannot be written.
        AdapterMismatch: the expert is damaged.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} already exists. Give a new folder.")
    _check_files(folder, read_card(folder))
    _copy(folder, target)


# ------------------------------------------------------------------------------------------------ inside


def _stage(folder: Path, card: ExpertCard) -> Stage:
    if card.stage is not None:
        return card.stage
    raise UsageError(f"The card of the expert in {folder} does not say its stage. Give it with --stage.")


def _check_files(folder: Path, card: ExpertCard) -> None:
    """Raises AdapterMismatch if a file is missing, or its hash is not the one in the card."""
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise AdapterMismatch(f"The expert in {folder} is incomplete: {WEIGHTS} is missing. Install it again.")
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if card.sha256 and card.sha256 != found:
        raise AdapterMismatch(
            f"The expert in {folder} is damaged: {WEIGHTS} has sha256 {found[:16]}..., but its card says "
            f"{card.sha256[:16]}... Install it again."
        )


def _read(folder: Path, stage: Stage, student: Student) -> Expert:
    """The expert. Raises AdapterMismatch if it is for another student."""
    from memlora_mlx.models.experts import ExpertTable, read_expert

    base = read_card(folder).base
    if base is not None and base.fingerprint and base.fingerprint != student.fingerprint:
        name = base.name or "another model"
        raise AdapterMismatch(
            f"The expert in {folder} was trained on {name} (fingerprint {base.fingerprint}), not on {student.name} "
            f"({student.fingerprint}). Use --student {name}."
        )
    expert = read_expert(folder, stage, student.fingerprint)
    ExpertTable(student.model, {stage: expert})  # checks the layers and their shapes
    return expert


def _measured(expert: Expert, student: Student, home: Path, data: Sequence[str]) -> list[VerificationResult]:
    from memlora_mlx.distill.datasets import tokenize_examples
    from memlora_mlx.distill.training_step import validation_loss
    from memlora_mlx.models.experts import ExpertTable

    subject = "validation loss"
    try:
        if expert.card.metrics is None:
            raise ValueError("it has no metrics")
        losses = expert.card.metrics.validation_loss  # `base` is missing if the training continued from an expert
        stated = {part: losses[part] for part in ("base", "expert") if part in losses}
        config, rows = _examples(expert, home, data)
        longest, weight = min(config.recipe.max_seq_length, student.context), config.recipe.decision_weight
        validation, _ = tokenize_examples(
            student, rows.validation, longest=longest, decision_weight=weight, images=rows.images
        )
    except (KeyError, TypeError, ValueError):
        return [
            VerificationResult(subject, None, "not measured: the card does not say with which data it was measured")
        ]
    except BadTrainingData as error:
        return [VerificationResult(subject, None, f"not measured: {error}")]
    table = ExpertTable(student.model, {expert.stage: expert})
    found = {}
    for part in stated:
        table.use(expert.stage if part == "expert" else None)
        found[part] = validation_loss(student, validation, config.recipe.batch_size)
    table.use(None)
    findings = []
    for part, loss in found.items():
        is_right = abs(loss - stated[part]) <= max(TOLERANCE * abs(stated[part]), TOLERANCE / 2)
        message = f"{loss:.4f} here, {stated[part]:.4f} in the card, {len(validation)} examples"
        findings.append(VerificationResult(f"{subject}, {part}", is_right, message))
    return findings


def _examples(expert: Expert, home: Path, data: Sequence[str]) -> tuple[TrainingConfig, TrainingData]:
    """The data that the expert was trained and validated with.

    Raises:
        BadTrainingData: the files are missing, or have changed.
        KeyError, TypeError, ValueError: the card does not name the data.
    """
    stated, base = expert.card.data, expert.card.base
    if stated is None or base is None or base.name is None:
        raise ValueError("it has no data or no base")
    text: dict[str, Any] = {
        "stage": expert.stage,
        "student": base.name,
        "data": list(data) or [str(home / name) for name in stated.files],
        "recipe": dict(expert.card.recipe),
        "rows": stated.rows_asked,
        "splits": stated.splits or "paper",
        "validation_rows": stated.validation_rows_asked or VALIDATION_ROWS,
    }
    config = config_from_json(text)
    found = read_data(config)
    name = "validation_hash" if stated.validation_hash else "hash"
    expected = stated.validation_hash or stated.hash
    if getattr(found, name) != expected:
        raise BadTrainingData(
            f"the data is not that of the card (its hash is {getattr(found, name)}, the card's is {expected}). "
            "Give the right files with --data."
        )
    return config, found


def _copy(folder: Path, place: Path) -> None:
    """Copy the expert's two files into a folder, which is replaced as a whole or not at all."""
    try:
        with atomic_folder(place) as new:
            for name in (WEIGHTS, CONFIG):
                shutil.copyfile(folder / name, new / name)
    except OSError as error:
        raise UsageError(f"Cannot write to {place} ({_reason(error)}). The existing expert was not changed.") from error
