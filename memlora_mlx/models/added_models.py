"""Models that a user adds from a file: a GGUF file, as LM Studio and Ollama keep them, becomes a folder among the models."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import filelock

from memlora_mlx.errors import ModelBroken, ModelMissing, UsageError
from memlora_mlx.models.cards import ModelManifest
from memlora_mlx.models.catalog import NAME, entries
from memlora_mlx.models.downloads import disk_errors
from memlora_mlx.models.folders import OnDownload, check_folder, is_complete, move_into_place, sha256


def add_gguf(source: Path, models_folder: Path, name: str | None = None, *, report: OnDownload | None = None) -> Path:
    """Convert a GGUF file into a model folder, which is used by its name from then on. Returns the folder.

    The file itself stays where it is and is not needed afterwards.

    Args:
        name: what it is to be called; the name of the file by default, or the one that is written in the file where the
            file has no name of its own (Ollama's have not).
        report: told how far it is.

    Raises:
        UsageError: the name is taken or cannot be one.
        ModelMissing: there is no such file.
        ModelBroken: it is damaged, or memlora does not read its architecture, tensors or tokenizer.
        ExtraMissing: its tensors need the gguf package, which is not installed.
        DownloadFailed: the disk is full, or the folder cannot be written.
    """
    from memlora_mlx.models import gguf  # imports MLX

    tell = report or (lambda phase, done, total: None)
    source = source.expanduser()
    if not source.is_file():
        raise ModelMissing(f"there is no file {source}")
    about = gguf.describe(source)
    name = name or _name_for(source, about.name)
    _check_name(name, models_folder)
    if not about.has_chat_template:
        raise ModelBroken(f"{source}: it has no chat template, so it cannot be asked; choose an instruct model")
    place, staging = models_folder / name, models_folder / ".staging" / name
    with disk_errors(name, models_folder):
        (models_folder / ".locks").mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(models_folder / ".locks" / f"{name}.lock"):
            shutil.rmtree(staging, ignore_errors=True)
            try:
                tell("converting", 0, 0)
                # MLX's CPU back end computes in float16 about ten times slower than in float32; Metal does not.
                gguf.convert(source, staging / "model", dtype="float16" if sys.platform == "darwin" else "float32")
                check_folder(staging / "model")
                tell("checking", 0, 0)
                manifest = ModelManifest(
                    name=name,
                    gguf=source.name,
                    gguf_sha256=sha256(source),
                    family=about.architecture,
                    precision=about.precision,
                    licence=about.licence,
                )
                move_into_place(manifest, staging / "model", place, hashes=True)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    return place


def _name_for(source: Path, written: str | None) -> str:
    """A name that can be typed, of the file's or of the one that is written in it."""
    text = source.stem if source.suffix.lower() == ".gguf" else written or ""
    name = re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9._]+", "-", text)).strip("-._")[:96]
    if not name:
        raise UsageError(f"{source.name} gives no name for the model; choose one with --name")
    return name


def _check_name(name: str, models_folder: Path) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a model's name: it takes letters, digits, '.', '_' and single '-', and begins with a"
            " letter or digit; choose another --name"
        )
    if name in entries(models_folder.parent):
        raise UsageError(f"{name} is the name of a model in the catalogue; choose another --name")
    if is_complete(name, models_folder / name):
        raise UsageError(
            f"a model called {name} is on this disk already; choose another --name, or `memlora models remove {name}`"
        )
