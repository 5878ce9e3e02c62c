"""The expert that was in use before the one that was installed last, and the way back to it."""

from __future__ import annotations

import shutil
from pathlib import Path

from memlora_mlx.errors import UsageError
from memlora_mlx.files import atomic_folder
from memlora_mlx.models.adapter_registry import installed_folder, registry_name
from memlora_mlx.models.cards import CONFIG
from memlora_mlx.records import Stage

FOLDER = "experts-before"  # below the data folder
_NONE = "none-before"  # a mark: none was installed, so a shipped one or the base was in use


def previous_folder(place: Path) -> Path:
    """Where the expert is kept that was in this place before."""
    return place.parents[2] / FOLDER / place.parent.name / place.name


def keep_previous(place: Path) -> None:
    """Keep the expert that is installed in a place, before another one is copied there. Raises OSError."""
    kept = previous_folder(place)
    with atomic_folder(kept) as new:
        if (place / CONFIG).is_file():
            shutil.copytree(place, new, dirs_exist_ok=True)
        else:
            (new / _NONE).touch()


def restore_previous(name: str, stage: Stage, home: Path) -> str:
    """Go back to the expert before the last installation; a second call comes back. Returns what is in use now, in words.

    Args:
        name: of the student, as in the settings.

    Raises:
        UsageError: nothing was installed in this place, or the folder cannot be written.
    """
    place = installed_folder(home) / registry_name(name, home) / stage
    kept = previous_folder(place)
    if not kept.is_dir():
        raise UsageError(f"No {stage} expert was installed for {name} before, so there is nothing to go back to.")
    was_none = (kept / _NONE).is_file()
    aside = kept.with_name(f".{kept.name}-aside")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        kept.rename(aside)
        keep_previous(place)
        if place.is_dir():
            shutil.rmtree(place)
        if not was_none:
            place.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(place)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"Cannot write to {place.parent}: {error.strerror}. Check its permissions.") from error
    return f"the {stage} expert that came with memlora, or the base" if was_none else f"the {stage} expert before"
