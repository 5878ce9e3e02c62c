"""What a repository of the hub held when it was first downloaded: a revision, and the SHA-256 of each file.

A repository can change, and whoever gets hold of an account can change it in secret. So the first download pins it: a
later one takes the same revision and refuses other bytes, until the user asks for the newest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from memlora_mlx.errors import DownloadFailed, ModelBroken
from memlora_mlx.models.cards import ModelManifest
from memlora_mlx.models.folders import sha256


def pin_folder(models_folder: Path, repository: str) -> Path:
    """Where the pin of a repository is. It stays when the model is removed."""
    return models_folder / ".pins" / repository.replace("/", "--")


def read_pin(folder: Path) -> ModelManifest | None:
    """What was first downloaded; None where nothing was, or where it cannot be read."""
    with contextlib.suppress(ModelBroken):
        return ModelManifest.read(folder)
    return None


def write_pin(folder: Path, manifest: ModelManifest) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest.write(folder)


def check_bytes(repository: str, model: Path, expected: Mapping[str, str], said_by: str) -> None:
    """Compare files of a downloaded model with their SHA-256.

    Args:
        expected: by path below `model`.
        said_by: where these come from, as a clause of the error's line.

    Raises:
        DownloadFailed: one is missing or another.
    """
    for path, wanted in sorted(expected.items()):
        found = sha256(model / path) if (model / path).is_file() else "missing"
        if found != wanted:
            raise DownloadFailed(
                f"{path} of {repository} is not the file {said_by} (SHA-256 {found[:12]}, not {wanted[:12]}); nothing of"
                f" the download was used. Try again later; `memlora models pull --newest {repository}` accepts today's files"
            )
