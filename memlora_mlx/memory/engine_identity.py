"""What an engine answers with: two processes whose identities are equal give the same answers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.errors import ModelBroken, ModelMissing

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

EngineIdentity = dict[str, str]  # a setting and what stands for its value


def engine_identity(workspace: Workspace) -> EngineIdentity:
    """The models of a workspace and the settings by which they answer. Loads no model.

    A folder is told by its path and by the names, sizes and times of its files, so a model or an expert that has changed on
    the disk is another one.
    """
    settings = workspace.settings
    return {
        "student": _described(workspace, "student_folder"),
        "embedder": _described(workspace, "embedder_folder"),
        "experts": _described_experts(workspace),
        "expert_mode": settings.expert_mode,
        "query_prompt": str(settings.query_prompt),
        "image_tiles": str(settings.image_tiles),
    }


def _described(workspace: Workspace, part: str) -> str:
    try:
        folder: Path = getattr(workspace, part)
    except (ModelMissing, ModelBroken) as error:
        return f"none: {type(error).__name__}"
    return _stamp(folder)


def _described_experts(workspace: Workspace) -> str:
    try:
        folders = workspace.expert_folders
    except (ModelMissing, ModelBroken) as error:
        return f"none: {type(error).__name__}"
    return "; ".join(f"{stage} {_stamp(folder)}" for stage, folder in sorted(folders.items()))


def _stamp(folder: Path) -> str:
    place, files = folder.resolve(), []
    try:
        for path in sorted(place.rglob("*")):
            status = path.stat()
            if path.is_file():
                files.append(f"{path.relative_to(place)} {status.st_size} {status.st_mtime_ns}")
    except OSError as error:
        files.append(type(error).__name__)
    return f"{place} {hashlib.sha256(repr(files).encode(errors='surrogateescape')).hexdigest()[:16]}"
