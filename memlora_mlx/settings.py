"""Where things are and which models to use: defaults < config.toml < environment < flags.

A default is written once, in `Settings`; the config file, the environment (`MEMLORA_STUDENT`, ...) and the
command line's flags name the same fields.
"""

from __future__ import annotations

import os
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import platformdirs

from memlora_mlx.errors import UsageError

ExpertMode = Literal["swap", "fused"]
Protocol = Literal["product", "paper"]
Theme = Literal["dark", "light"]

# A picture is then at most five times 256 tokens of InternVL, which leaves two thirds of `max_context` to the rest; small
# parts and things to count are mostly lost on one tile. Its makers' 12 would be 3,328 tokens.
IMAGE_TILES = 4
# Files below the home that hold words of the user beside the store: a reset takes them away.
CHAT_HISTORY = "chat-history"  # of the plain chat
APP_HISTORY = "chat-history.jsonl"
CORRECTIONS = "corrections.jsonl"  # in `teacher/<stage>`
EXPORTS = "exports.jsonl"  # where exports were written to, so that an erasing can name them
UNSAVED = "unsaved"  # a folder: what was sent in the app and was not stored before it ended
WORK_QUEUE = "queue"  # a folder: what clients of the resident process said and nobody has read yet

KEY_FILE = "key.json"  # in the store's folder; where it is there, the store is encrypted


def has_key_file(store_folder: Path) -> bool:
    """Whether a store is encrypted, or a conversion has begun or not ended."""
    return (store_folder / KEY_FILE).is_file()


def default_home() -> Path:
    return Path(platformdirs.user_data_dir("memlora", appauthor=False))


@dataclass(frozen=True, slots=True)
class Settings:
    """All that can be chosen. Every field can stand in config.toml and in the environment as MEMLORA_<FIELD>."""

    home: Path = Path()  # models, store and config.toml live below it; set by `load_settings`
    student: str | None = None  # a catalogue name, a local MLX folder or a hub id; None: the best on this disk
    embedder: str = "all-minilm-l6-v2"
    query_prompt: bool = True  # put the embedder's own query prompt, if it has one, before questions
    experts: str | None = (
        None  # a folder with one sub-folder per stage; None: those installed or shipped for it; "free", "none"
    )
    expert_mode: ExpertMode = "swap"
    protocol: Protocol = "product"  # "paper" turns off what goes beyond the paper
    user: str = "me"  # the owner of chats and files that name nobody
    related: int = 5  # memories looked up for each new fact (Mem0's update step)
    limit: int = 10  # memories an answer is given, for each owner asked
    image_tiles: int = IMAGE_TILES  # into how many tiles a picture is cut, at most, for a vision student that does so
    keep_secrets: bool = False  # store keys, card numbers, IBANs and passwords that are said, instead of a mark
    # Days for which the history of changes, and the messages that memories came from, are kept. None: for ever.
    history_days: int | None = None
    source_days: int | None = None
    keep_location: bool = False  # leave in a kept picture where it was taken
    max_context: int = 4096  # tokens of prompt and answer together; the student's own limit if that is smaller
    unload_after: int = 15  # minutes without a call after which a server lets go of its models
    # On a Mac: MB of freed buffers that MLX keeps for reuse, and of memory that macOS may not page out. None: an eighth of
    # what Metal recommends, and all of it.
    cache_limit: int | None = None
    wired_limit: int | None = None
    theme: Theme = "dark"  # of the full-screen app
    panel: bool = True  # the app's chat shows the memories beside it where there is room

    @property
    def models_folder(self) -> Path:
        return self.home / "models"

    @property
    def store_folder(self) -> Path:
        return self.home / "store"

    @property
    def is_encrypted(self) -> bool:
        """Whether the store is encrypted, or a conversion has begun or not ended."""
        return has_key_file(self.store_folder)


def load_settings(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the four places, later ones winning.

    Args:
        flags: values from the command line; a None counts as not given.
        environ: the environment; the process's own by default.

    Raises:
        UsageError: config.toml is not TOML, or a field has an unknown name or a value of the wrong kind.
    """
    environ = os.environ if environ is None else environ
    home = Path(str((flags or {}).get("home") or environ.get("MEMLORA_HOME") or default_home())).expanduser()
    settings = replace(Settings(), home=home)

    config = home / "config.toml"
    try:
        is_there = config.is_file()
    except OSError as error:
        raise UsageError(
            f"cannot read {home}: {error.strerror}; check its permissions, or name another --home"
        ) from error
    if is_there:
        try:
            table = tomllib.loads(config.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{config} is not valid TOML ({error}); mend or remove it") from error
        except OSError as error:
            raise UsageError(f"cannot read {config}: {error.strerror}; check its permissions") from error
        if "home" in table:
            raise UsageError(f"{config}: home is where this file lies; set it by --home or MEMLORA_HOME")
        table.pop("models", None)  # the user's own models: see `memlora_mlx.models.catalog`
        table.pop("keys", None)  # the app's keys: see `memlora_mlx.tui.keymap`
        settings = _apply(settings, table, str(config))
    keys = {field.name: f"MEMLORA_{field.name.upper()}" for field in fields(Settings)}
    from_environment = {name: environ[key] for name, key in keys.items() if environ.get(key)}  # an empty one is unset
    settings = _apply(settings, from_environment, "the environment")
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    return _apply(settings, {**given, "home": home}, "the command line")


def _apply(settings: Settings, values: Mapping[str, object], origin: str) -> Settings:
    kinds = get_type_hints(Settings)
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in kinds:
            raise UsageError(f"{origin}: unknown setting {name!r}; known are {', '.join(sorted(kinds))}")
        try:
            changes[name] = _coerce(value, kinds[name])
        except ValueError:
            raise UsageError(f"{origin}: {name} cannot be {value!r}; it takes {_describe(kinds[name])}") from None
    return replace(settings, **changes)


def _coerce(value: object, kind: Any) -> object:
    """The value as the field's type; text is parsed, as the environment gives only text. Raises ValueError."""
    if get_origin(kind) in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        return None if value in (None, "") else _coerce(value, options[0])
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError
        return value
    if kind is bool:
        words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if (word := str(value).lower()) not in words:
            raise ValueError
        return words[word]
    if kind is int:
        number = int(str(value))  # a bool or a float is no whole number here: int() refuses their text
        if number < 1:
            raise ValueError
        return number
    if kind is Path:
        return Path(str(value)).expanduser()
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError
    return str(value)


def _describe(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return {bool: "true or false", int: "a whole number above 0", Path: "a path", str: "text"}[kind]
