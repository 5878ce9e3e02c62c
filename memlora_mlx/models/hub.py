"""Models from the hub, by its own client."""

from __future__ import annotations

import contextlib
import errno
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from memlora_mlx.errors import DownloadFailed, MemloraError
from memlora_mlx.models.cards import ModelManifest
from memlora_mlx.models.catalog import CatalogModel
from memlora_mlx.models.folders import MODEL_FILES, OnDownload, check_folder, move_into_place, size_of
from memlora_mlx.models.pins import check_bytes, read_pin, write_pin

HUB_EXCLUDED = ["original/*", "onnx/*", "openvino/*", "consolidated*.safetensors"]  # the same weights in other forms


def from_hub(
    name: str,
    repository: str,
    entry: CatalogModel | None,
    staging: Path,
    place: Path,
    tell: OnDownload,
    *,
    pin: Path,
    newest: bool = False,
) -> None:
    """Download a model at the revision of its catalogue entry, else at that of the first download, else the newest one.

    Args:
        pin: the folder that says what was first downloaded; see `pins`.
        newest: take the newest revision, and pin that.

    Raises:
        DownloadFailed: it cannot be downloaded, or is not what was pinned or what the hub says it is.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import filter_repo_objects, tqdm

    class NoBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

    tell("downloading", 0, (entry.download_bytes or 0) if entry else 0)
    pinned = None if newest else read_pin(pin)
    revision = (entry and entry.revision) or (pinned and pinned.revision)
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        if revision and info.sha != revision:
            raise DownloadFailed(f"the hub gave revision {info.sha} of {repository}, not {revision}; try again later")
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        wanted = list(filter_repo_objects(sizes, allow_patterns=MODEL_FILES, ignore_patterns=HUB_EXCLUDED))
        total = sum(sizes[path] for path in wanted)
        if not any(path.endswith(".safetensors") for path in wanted):
            raise DownloadFailed(f"{repository} holds no *.safetensors weights; choose a repository with an MLX model")
        model = staging / str(info.sha)  # what a stopped pull left of this revision is used again; others are not
        for left in staging.iterdir():
            if left != model:
                shutil.rmtree(left)
        if (missing := total - size_of(model)) > (free := shutil.disk_usage(staging).free):
            raise OSError(errno.ENOSPC, f"{missing // 1_000_000} MB are missing, {free // 1_000_000} MB are free")
        with _report_growth(model, total, tell):
            snapshot_download(
                repository,
                revision=info.sha,
                local_dir=model,
                allow_patterns=MODEL_FILES,
                ignore_patterns=HUB_EXCLUDED,
                tqdm_class=NoBar,
            )
    except MemloraError:
        raise
    except Exception as error:  # the hub client raises its own, its HTTP library's and its Rust part's
        raise _hub_failure(name, repository, error) from error
    shutil.rmtree(model / ".cache", ignore_errors=True)
    if short := [path for path in wanted if size_of(model / path) != sizes[path]]:
        raise DownloadFailed(f"{short[0]} of {repository} did not come whole; `memlora models pull {name}` goes on")
    known = {file.rfilename: file.lfs.sha256 for file in info.siblings or () if file.lfs}
    try:
        check_folder(model)
        check_bytes(
            repository, model, {path: known[path] for path in wanted if path in known}, "that the hub says it is"
        )
        if pinned is not None and pinned.revision == info.sha:
            recorded = {file.path: file.sha256 for file in pinned.files if file.sha256}
            check_bytes(repository, model, recorded, "that was downloaded first")
    except MemloraError:
        shutil.rmtree(model, ignore_errors=True)  # it would be taken for what a stopped pull left
        raise
    manifest = ModelManifest(name=name, repository=repository, revision=str(info.sha))
    write_pin(pin, move_into_place(manifest, model, place, hashes=True))


def download_files(repository: str, folder: Path, names: Sequence[str], largest: int) -> None:
    """Download those of the files that a repository has into a folder, by the hub's own client.

    Args:
        names: their paths in the repository.
        largest: bytes of a file that are still downloaded.

    Raises:
        DownloadFailed: the hub does not give them, or one is larger.
    """
    from huggingface_hub import HfApi, hf_hub_download

    again = f"memlora adapters install {repository}"
    try:
        info = HfApi().model_info(repository, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        for name in names:
            if sizes.get(name, 0) > largest:
                raise DownloadFailed(f"{name} of {repository} has more than {largest >> 20} MB, which no expert has.")
            if name in sizes:
                hf_hub_download(repository, name, revision=info.sha, local_dir=folder)
    except MemloraError:
        raise
    except Exception as error:  # as above
        raise _hub_failure(repository, repository, error, again=again) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _hub_failure(name: str, repository: str, error: Exception, *, again: str | None = None) -> Exception:
    """What to tell the user of an error of the hub's client. `again`: the command to try again with."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return DownloadFailed(f"{repository} is gated: accept its terms on the hub, `hf auth login`, pull {name} again")
    if isinstance(error, errors.RepositoryNotFoundError):
        return DownloadFailed(f"the hub has no model {repository} (or it is private: `hf auth login`)")
    if isinstance(error, errors.RevisionNotFoundError):
        return DownloadFailed(
            f"the hub has the pinned revision of {repository} no more; `memlora models pull --newest {name}` takes another"
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return DownloadFailed(f"HF_HUB_OFFLINE is set; unset it to pull {name}")
    if isinstance(error, errors.HfHubHTTPError):
        return DownloadFailed(f"the hub answered {error.response.status_code} for {repository}; try again later")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error
    if "No space left" in str(error):
        return OSError(errno.ENOSPC, "No space left on device")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    again = again or f"memlora models pull {name}"
    return DownloadFailed(f"no answer from the hub for {repository} ({reason}); `{again}` tries again")


@contextlib.contextmanager
def _report_growth(folder: Path, total: int, tell: OnDownload) -> Iterator[None]:
    """Report every half second how much of `total` bytes has come into the folder."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            tell("downloading", min(size_of(folder), total), total)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
