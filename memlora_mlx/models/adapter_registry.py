"""Where experts lie: those that came with memlora, and those that a user installed, which go before them.

Both are folders `<student>/<stage>` in mlx-lm's adapter format. A second set came with memlora that was trained on generated data
alone, for those who may not use the first one. Nothing here loads MLX: a card is the `memlora` part of an
expert's adapter_config.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from os.path import isfile
from pathlib import Path
from typing import Literal

from memlora_mlx.models.cards import CONFIG, AdapterConfig, ExpertCard
from memlora_mlx.models.catalog import entries
from memlora_mlx.records import STAGES, Stage

SHIPPED = Path(str(files("memlora_mlx"))) / "adapters"
WEIGHTS = "adapters.safetensors"


ExpertOrigin = Literal["shipped", "installed", "free"]


@dataclass(frozen=True, slots=True)
class RegisteredExpert:
    """An expert on this disk."""

    student: str  # the name of its folder in the registry
    stage: Stage
    origin: ExpertOrigin
    folder: Path
    is_active: bool  # False: an installed one goes before it, or it is used by `experts = "free"` only


def installed_folder(home: Path) -> Path:
    return home / "adapters"


def free_folder() -> Path:
    """The shipped experts that are under the licence of the code."""
    return SHIPPED / "free"


def registry_name(student: str, home: Path) -> str:
    """The folder's name for a student's experts: its name in the catalogue, its folder's, or its hub id with -- for /."""
    if student in entries(home):
        return student
    local = Path(student).expanduser()
    return local.resolve().name if local.is_dir() else student.replace("/", "--")


def expert_folders(student: str, home: Path) -> dict[Stage, Path]:
    """The expert of each stage that has one."""
    name = registry_name(student, home)
    return {**experts_in(SHIPPED / name), **experts_in(installed_folder(home) / name)}


def free_expert_folders(student: str, home: Path) -> dict[Stage, Path]:
    """The expert of each stage that was trained on generated data alone."""
    return experts_in(free_folder() / registry_name(student, home))


def experts_in(folder: Path) -> dict[Stage, Path]:
    """The experts below a folder, one sub-folder a stage; or the one expert that the folder is, by its card's stage."""
    if isfile(folder / CONFIG):  # False too where it may not be read
        stage = read_card(folder).stage
        return {known: folder for known in STAGES if known == stage}
    return {stage: folder / stage for stage in STAGES if isfile(folder / stage / CONFIG)}


def list_experts(home: Path) -> list[RegisteredExpert]:
    """Every expert on this disk, by student and stage."""
    found: list[RegisteredExpert] = []
    roots: dict[ExpertOrigin, Path] = {"installed": installed_folder(home), "shipped": SHIPPED, "free": free_folder()}
    for origin, root in roots.items():
        student_folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        for student_folder in student_folders:
            for stage, folder in experts_in(student_folder).items():
                hidden = origin == "free" or any(
                    place.student == student_folder.name and place.stage == stage for place in found
                )
                found.append(RegisteredExpert(student_folder.name, stage, origin, folder, not hidden))
    return sorted(found, key=lambda place: (place.student, STAGES.index(place.stage), place.origin))


def read_card(folder: Path) -> ExpertCard:
    """What an expert says of itself; an empty card if it says nothing. Raises AdapterMismatch: see `AdapterConfig.read`."""
    return AdapterConfig.read(folder).card
