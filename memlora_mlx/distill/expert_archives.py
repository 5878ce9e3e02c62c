"""Experts in one file that can be handed on: a ZIP archive with their cards, a README, and checksums.

An archive (or the same as a folder, for a repository on the hub) has `<stage>/adapter_config.json` and
`<stage>/adapters.safetensors` for each expert, `README.md` and `SHA256SUMS`. Archives come from anywhere: only files of these
names are read, at most so many bytes of each, and nothing is unpacked by a name from the archive.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from memlora_mlx.conversations.archives import open_archive, read_member
from memlora_mlx.conversations.model import FormatError
from memlora_mlx.errors import AdapterMismatch, UsageError
from memlora_mlx.files import atomic_file, atomic_folder
from memlora_mlx.models.adapter_registry import WEIGHTS, experts_in, read_card
from memlora_mlx.models.cards import CONFIG, ExpertCard
from memlora_mlx.models.catalog import HUB_ID
from memlora_mlx.records import STAGES, Stage
from memlora_mlx.text import clean_line, clean_name

SUFFIX = ".zip"
README = "README.md"
SUMS = "SHA256SUMS"
EXPERT_FILES = (CONFIG, WEIGHTS)
# An expert may also stand alone, as mlx-lm writes it.
KNOWN = frozenset({*EXPERT_FILES, README, SUMS, *(f"{stage}/{name}" for stage in STAGES for name in EXPERT_FILES)})
LARGEST = 512 << 20  # bytes of a file
_YEAR = (1980, 1, 1, 0, 0, 0)  # of all members, so that the same experts make the same archive


def write_archive(experts: Mapping[Stage, Path], target: Path) -> None:
    """Write experts with their cards, licences and checksums into one file.

    Raises:
        UsageError: there is a file of that name, or it cannot be written.
        AdapterMismatch: an expert has no card that can be read.
    """
    if target.exists():
        raise UsageError(f"{target} already exists. Give a new file.")
    contents = _contents(experts)
    try:
        with atomic_file(target, private=False) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in contents.items():
                archive.writestr(zipfile.ZipInfo(name, _YEAR), data)
    except OSError as error:
        raise UsageError(f"Cannot write {target} ({error.strerror}). Check the folder and its free space.") from error


def write_folder(experts: Mapping[Stage, Path], target: Path) -> None:
    """Write the same as a new folder, which can be uploaded to the hub. Raises: see `write_archive`."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} already exists. Give a new folder.")
    contents = _contents(experts)
    try:
        with atomic_folder(target) as folder:
            for name, data in contents.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(data)
    except OSError as error:
        raise UsageError(
            f"Cannot write to {target} ({error.strerror}). Check the folder and its free space."
        ) from error


@contextmanager
def experts_from(source: str) -> Iterator[dict[Stage | None, Path]]:
    """The experts of a folder, a training run, an archive or a repository on the hub, for as long as the `with` block.

    A single expert whose card does not say its stage has the key None.

    Raises:
        AdapterMismatch: there is nothing of that name, it is damaged, not what an archive of experts holds, or without experts.
        DownloadFailed: the hub does not give it.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        yield _found(path / "expert" if not (path / CONFIG).is_file() and (path / "expert").is_dir() else path, source)
        return
    with TemporaryDirectory(prefix="memlora-experts-") as scratch:
        folder = Path(scratch)
        if path.is_file():
            _unpack(path, folder)
        elif HUB_ID.fullmatch(source):
            from memlora_mlx.models.hub import download_files

            download_files(source, folder, sorted(KNOWN), LARGEST)
        else:
            raise AdapterMismatch(
                f"there is no expert in {source}: no such folder or archive. Check the path, or give a hub id (OWNER/NAME)."
            )
        _check_sums(folder, source)
        yield _found(folder, source)


# ------------------------------------------------------------------------------------------------ inside


def _found(folder: Path, source: str) -> dict[Stage | None, Path]:
    if (folder / CONFIG).is_file():
        return {read_card(folder).stage: folder}
    found: dict[Stage | None, Path] = {stage: path for stage, path in experts_in(folder).items()}
    if not found:
        raise AdapterMismatch(f"{source} contains no expert: it has neither {CONFIG} nor a folder named after a stage.")
    return found


def _unpack(archive: Path, folder: Path) -> None:
    """Write the known members of an archive into a folder."""
    try:
        with open_archive(archive) as opened:
            members = [info for info in opened.infolist() if not info.is_dir()]
            names = [info.filename for info in members]
            if strange := next((name for name in names if name not in KNOWN or names.count(name) > 1), None):
                raise AdapterMismatch(
                    f"{archive} is no archive of experts: it holds {clean_name(strange)[:80]!r}. Nothing was installed."
                )
            for info in members:
                place = folder / info.filename  # a name of `KNOWN`
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(read_member(opened, info, LARGEST))
    except FormatError as error:
        text = str(error)
        raise AdapterMismatch(
            f"{archive} {text}." if text.startswith(("is ", "has ")) else f"{archive}: {text}."
        ) from error


def _check_sums(folder: Path, source: str) -> None:
    """Raises AdapterMismatch: a file is not the one of which the checksum was written."""
    if not (folder / SUMS).is_file():
        return
    said = {}
    for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        said[name] = digest
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name not in EXPERT_FILES or not path.is_file():
            continue
        if said.get(name) != hashlib.sha256(path.read_bytes()).hexdigest():
            raise AdapterMismatch(f"{source} is damaged: {name} does not have the checksum in {SUMS}. Get it again.")


def _contents(experts: Mapping[Stage, Path]) -> dict[str, bytes]:
    """What an archive of these experts holds, by name."""
    cards = {stage: read_card(folder) for stage, folder in experts.items()}
    files = {
        f"{stage}/{name}": (folder / name).read_bytes() for stage, folder in experts.items() for name in EXPERT_FILES
    }
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    return {README: _readme(cards).encode(), **files, SUMS: sums.encode()}


def _readme(cards: Mapping[Stage, ExpertCard]) -> str:
    """A model card as the hub reads it: the base model, the licence, and what each expert says of itself."""
    base = next((card.base for card in cards.values() if card.base), None)
    licences = dict.fromkeys(part for card in cards.values() for part in (card.licence or "unknown").split("; "))
    lines = ["---", "library_name: mlx", "tags: [lora, memlora, mlx]", "license: other"]
    lines += [f"license_name: {_quoted('; '.join(licences))}"]
    lines += [f"base_model: {_quoted(base.name)}"] if base and base.name and HUB_ID.fullmatch(base.name) else []
    name = clean_line(base.name) if base and base.name else "a model that the cards do not name"
    lines += ["---", "", f"# memlora experts for {name}", ""]
    lines += [f"Licence: {clean_line('; '.join(licences))}.", ""]
    lines += [
        "Each folder is a LoRA adapter in mlx-lm's format: `mlx_lm.generate --model MODEL --adapter-path FOLDER`.",
        "",
    ]
    lines += ["| stage | trained on | examples | held-out loss | licence | made |", "|---|---|---:|---|---|---|"]
    lines += [_row(stage, card) for stage, card in cards.items()]
    lines += [
        "",
        "`memlora adapters install FILE` installs them; the base model must be the same (its weights are compared).",
    ]
    return "\n".join(lines) + "\n"


def _row(stage: Stage, card: ExpertCard) -> str:
    loss = card.metrics.validation_loss if card.metrics else {}
    first = loss.get("base", loss.get("start"))
    shown = f"{first:.4f} -> {loss['expert']:.4f}" if first is not None and "expert" in loss else "?"
    teachers = ", ".join(card.data.teachers) if card.data else "?"
    rows = card.data.rows if card.data and card.data.rows else "?"
    cells = (stage, teachers, rows, shown, card.licence or "unknown", card.made or "?")
    return "| " + " | ".join(clean_line(str(cell)).replace("|", "/") for cell in cells) + " |"


def _quoted(value: Any) -> str:
    return '"' + clean_line(str(value)).replace("\\", "/").replace('"', "'") + '"'
