"""Experts as things to keep: checked against their card, installed for a student, and handed on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlora_mlx.distill.training_runs import VALIDATION_ROWS, TrainingConfig, TrainingData, config_from_json, read_data
from memlora_mlx.errors import AdapterMismatch, BadTrainingData, UsageError
from memlora_mlx.files import atomic_folder
from memlora_mlx.models.adapter_registry import WEIGHTS, installed_folder, read_card, registry_name
from memlora_mlx.models.cards import CONFIG, ExpertCard
from memlora_mlx.records import Stage

if TYPE_CHECKING:
    from memlora_mlx.models.experts import Expert
    from memlora_mlx.models.student import Student

TOLERANCE = 0.01  # of a validation loss: another back end or precision rounds differently


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """One thing that was looked at."""

    subject: str
    is_right: bool | None  # None: it could not be looked at
    message: str


def verify_expert(
    folder: Path, student: Student, home: Path, *, stage: Stage | None = None, data: Sequence[str] = ()
) -> list[VerificationResult]:
    """Look at an expert anew: its files, its base, and its validation loss with the data its card names.

    Args:
        student: a fresh one of the base it should be for; given back as it was.
        stage: where its card does not say.
        data: files of rows, where they are not those of the data folder that the card names.
    """
    try:
        card = read_card(folder)
        _check_whole(folder, card)
    except AdapterMismatch as error:
        return [VerificationResult("files", False, str(error))]
    size = (folder / WEIGHTS).stat().st_size
    whole = "whole" if card.sha256 else "there; the card has no hash of them"
    findings = [VerificationResult("files", True, f"{size / 1e6:.1f} MB, {whole}")]
    try:
        expert = _read(folder, stage or _stage(folder, card), student)
    except AdapterMismatch as error:
        return [*findings, VerificationResult("base", False, str(error))]
    known = f"{student.name}, fingerprint {student.fingerprint}"
    if card.base is not None:
        findings.append(VerificationResult("base", True, known))
    else:
        findings.append(
            VerificationResult("base", None, f"its layers fit {known}, but no card says that it was trained on it")
        )
    return [*findings, *_measured(expert, student, home, data)]


def install_expert(folder: Path, student: Student, name: str, home: Path, *, stage: Stage | None = None) -> Path:
    """Put an expert where this student finds it, in the place of the one that was there. Returns that folder.

    Args:
        folder: of an expert, or of a training run that made one.
        student: a fresh one, to check the expert against.
        name: as the settings call it.
        stage: where its card does not say.

    Raises:
        AdapterMismatch: it is damaged, or for another base.
        UsageError: no card says its stage, or it says another one.
    """
    if not (folder / CONFIG).is_file() and (folder / "expert" / CONFIG).is_file():
        folder = folder / "expert"
    card = read_card(folder)
    said = card.stage
    if stage is not None and said is not None and said != stage:
        raise UsageError(f"the expert in {folder} is for {said}, not for {stage}; leave --stage away")
    stage = stage or _stage(folder, card)
    _check_whole(folder, card)
    _read(folder, stage, student)
    place = installed_folder(home) / registry_name(name, home) / stage
    if folder.resolve() != place.resolve():
        _copy(folder, place)
    return place


def export_expert(folder: Path, target: Path) -> None:
    """Copy an expert into a new folder, which `mlx_lm.generate --adapter-path` takes as it is.

    Raises:
        UsageError: something is there already, or it cannot be written.
        AdapterMismatch: it is damaged.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already; name a new folder")
    _check_whole(folder, read_card(folder))
    _copy(folder, target)


# ------------------------------------------------------------------------------------------------ inside


def _stage(folder: Path, card: ExpertCard) -> Stage:
    if card.stage is not None:
        return card.stage
    raise UsageError(f"the expert in {folder} has no card that says its stage; name it with --stage")


def _check_whole(folder: Path, card: ExpertCard) -> None:
    """Raises AdapterMismatch: a file is missing, or not what the card says."""
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise AdapterMismatch(f"the expert in {folder} is incomplete: {WEIGHTS} is missing")
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if card.sha256 and card.sha256 != found:
        raise AdapterMismatch(
            f"the expert in {folder} is damaged: {WEIGHTS} has sha256 {found[:16]}..., its card says "
            f"{card.sha256[:16]}...; install it again"
        )


def _read(folder: Path, stage: Stage, student: Student) -> Expert:
    """The expert, if it is this student's. Raises AdapterMismatch."""
    from memlora_mlx.models.experts import ExpertTable, read_expert

    base = read_card(folder).base
    if base is not None and base.fingerprint and base.fingerprint != student.fingerprint:
        name = base.name or "another model"
        raise AdapterMismatch(
            f"the expert in {folder} was trained on {name} (fingerprint {base.fingerprint}), not on {student.name} "
            f"({student.fingerprint}); give that one as --student"
        )
    expert = read_expert(folder, stage, student.fingerprint)
    ExpertTable(student.model, {stage: expert})  # its layers and their shapes
    return expert


def _measured(expert: Expert, student: Student, home: Path, data: Sequence[str]) -> list[VerificationResult]:
    from memlora_mlx.distill.datasets import tokenize_examples
    from memlora_mlx.distill.training_step import validation_loss
    from memlora_mlx.models.experts import ExpertTable

    what = "validation loss"
    try:
        if expert.card.metrics is None:
            raise ValueError("it has no metrics")
        losses = expert.card.metrics.validation_loss  # of the base only where the training began there
        stated = {part: losses[part] for part in ("base", "expert") if part in losses}
        order, rows = _examples(expert, home, data)
        longest, weight = min(order.recipe.max_seq_length, student.context), order.recipe.decision_weight
        validation, _ = tokenize_examples(
            student, rows.validation, longest=longest, decision_weight=weight, images=rows.images
        )
    except (KeyError, TypeError, ValueError):
        return [VerificationResult(what, None, "not measured: the card does not say what it was measured with")]
    except BadTrainingData as error:
        return [VerificationResult(what, None, f"not measured: {error}")]
    table = ExpertTable(student.model, {expert.stage: expert})
    found = {}
    for part in stated:
        table.use(expert.stage if part == "expert" else None)
        found[part] = validation_loss(student, validation, order.recipe.batch_size)
    table.use(None)
    findings = []
    for part, loss in found.items():
        is_right = abs(loss - stated[part]) <= max(TOLERANCE * abs(stated[part]), TOLERANCE / 2)
        says = f"{loss:.4f} here, {stated[part]:.4f} on the card, {len(validation)} rows"
        findings.append(VerificationResult(f"{what}, {part}", is_right, says))
    return findings


def _examples(expert: Expert, home: Path, data: Sequence[str]) -> tuple[TrainingConfig, TrainingData]:
    """The rows it was trained and validated with.

    Raises:
        BadTrainingData: they are not here, or others are.
        KeyError, TypeError, ValueError: the card does not say.
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
    order = config_from_json(text)
    found = read_data(order)
    name = "validation_hash" if stated.validation_hash else "hash"
    expected = stated.validation_hash or stated.hash
    if getattr(found, name) != expected:
        raise BadTrainingData(
            f"the rows are not those of the card (hash {getattr(found, name)}, there {expected}); "
            "name the right files with --data"
        )
    return order, found


def _copy(folder: Path, place: Path) -> None:
    """The expert's two files into a folder, whole or not at all; what was there is replaced."""
    try:
        with atomic_folder(place) as new:
            for name in (WEIGHTS, CONFIG):
                shutil.copyfile(folder / name, new / name)
    except OSError as error:
        raise UsageError(f"cannot write to {place} ({error.strerror}); what was there is as it was") from error
