"""Which models a fresh installation lacks, and what each of them is good for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.settings import Settings
from memlora_mlx.text import format_bytes

if TYPE_CHECKING:
    from memlora_mlx.models.catalog import CatalogModel, ModelKind


def missing_models(settings: Settings, models_folder: Path) -> tuple[CatalogModel, ...]:
    """The student and the embedder, where none is on the disk: those of the settings, else the starters.

    Empty where a model is named that the catalogue does not know: it may be a typing error, which another one would hide.
    """
    from memlora_mlx.models.catalog import entries
    from memlora_mlx.models.downloads import default_student, installed

    known = entries(settings.home)
    here = {model.name for model in installed(models_folder) if model.is_complete}
    student = settings.student or default_student(models_folder) or starter("student").name
    wanted = [
        name for name in (student, settings.embedder) if name not in here and not Path(name).expanduser().is_dir()
    ]
    return tuple(known[name] for name in wanted) if all(name in known for name in wanted) else ()


def starter(kind: ModelKind) -> CatalogModel:
    """The model of this kind that memlora begins with: one that comes from the package index."""
    from memlora_mlx.models.catalog import shipped_entries

    return next(entry for entry in shipped_entries().values() if entry.starter is not None and entry.kind == kind)


def facts_about(model: CatalogModel) -> str:
    """Name, size of the download and on the disk, and licence in one line."""
    parts = [model.name]
    if model.download_bytes:
        parts.append(f"download {format_bytes(model.download_bytes)}")
    if model.disk_bytes:
        parts.append(f"disk {format_bytes(model.disk_bytes)}")
    return ", ".join([*parts, *([f"licence {model.licence}"] if model.licence else [])])


def purpose_of(model: CatalogModel) -> str:
    """What it can do, and what it cannot."""
    if model.kind == "embedder":
        return "Finds your memories by their meaning. It writes nothing."
    if model.zero_shot:
        return "Chats, notes what you tell it, and answers questions from your memories."
    return (
        "Notes what you tell it, and answers questions from your memories. It is too small to chat about anything else;"
        " F7 lists larger students."
    )


RECOMMENDED = 3  # students that stand on top of the list
SHARE_OF_MEMORY = (
    0.4  # that the weights of a student may take; its cache, the embedder and other programs need some, too
)


def memory_of_machine() -> int:
    """The bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def recommended_students(known: Iterable[CatalogModel], memory: int) -> list[str]:
    """The best text students of the catalogue, which has the best first, whose weights fit this much memory."""
    fit = [
        model.name
        for model in known
        if model.kind == "student"
        and not model.needs_vision
        and not model.is_shipped
        and model.download_bytes is not None
        and model.download_bytes <= SHARE_OF_MEMORY * memory
    ]
    return fit[:RECOMMENDED]
