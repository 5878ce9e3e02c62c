"""A model's folder: whether it is whole, its manifest, and how it is put in place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Literal

from memlora_mlx.errors import ModelBroken
from memlora_mlx.files import replace_folder
from memlora_mlx.models.cards import MANIFEST, ModelFile, ModelManifest

DownloadPhase = Literal["waiting", "downloading", "checking", "unpacking", "converting"]
OnDownload = Callable[[DownloadPhase, int, int], None]  # phase, bytes done, bytes in all (0: not known)

MODEL_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")  # mlx-lm needs the first; vision models have others


def is_complete(name: str, place: Path) -> bool:
    try:
        check_pulled(name, place)
    except ModelBroken:
        return False
    return True


def check_pulled(name: str, place: Path) -> None:
    """Raises ModelBroken unless every file of the manifest is there in its full size."""
    try:
        manifest = ModelManifest.read(place)
        if manifest.is_complete(place):
            return
        added = manifest.gguf is not None
    except ModelBroken:
        added = False
    if added:
        raise ModelBroken(f"{name} at {place} is damaged; `memlora models add FILE --name {name}` converts it again")
    raise ModelBroken(f"{name} at {place} is half-downloaded; `memlora models pull {name}` fetches it again")


def check_folder(folder: Path) -> None:
    """Raises ModelBroken unless the folder has a model's parts and its weights are not cut off."""
    if (folder / MANIFEST).is_file():
        check_pulled(folder.name.replace("--", "/", 1), folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise ModelBroken(f"{folder} is no MLX model folder: it needs config.json and *.safetensors")
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ModelBroken(f"{folder} has no tokenizer.json; copy it from where the model came from")
    for path in weights:
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, 100_000_000)))
            ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"]
            whole = path.stat().st_size == 8 + length + max(ends, default=0)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise ModelBroken(f"{path} is damaged or cut off; copy it again")


def move_into_place(manifest: ModelManifest, model: Path, place: Path, *, hashes: bool) -> ModelManifest:
    """Put a model folder in its place, and a manifest of all its files into it. Returns the manifest.

    Args:
        manifest: its name and origin; the files are added.
        hashes: add the SHA-256 of each file.
    """
    files = tuple(
        ModelFile(
            path=path.relative_to(model).as_posix(),
            bytes=path.stat().st_size,
            sha256=sha256(path) if hashes else None,
        )
        for path in sorted(path for path in model.rglob("*") if path.is_file() and path.name != MANIFEST)
    )
    manifest = replace(manifest, files=files)
    manifest.write(model)
    replace_folder(model, place)
    return manifest


def discard(place: Path) -> None:
    """Delete a model's folder; it stops counting as a model at once."""
    if place.is_dir():
        (place / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(place)


def size_of(path: Path) -> int:
    """Bytes in a file or below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def copy_to(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
