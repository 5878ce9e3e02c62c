"""The user's keys: the table [keys] of config.toml, which gives the ids of actions other keys."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path

from textual.binding import Binding

from memlora_mlx.errors import UsageError

TABLE = "keys"
FIXED = ("prompt.send", "prompt.line")  # read by the prompt itself, in the order in which keys were typed
# Where actions have keys: modules below memlora_mlx.tui, and their classes.
_HOLDERS = (
    ("app", "MemloraApp"),
    ("screens.chat", "ChatScreen"),
    ("screens.memories", "MemoriesScreen"),
    ("screens.ingest", "IngestScreen"),
    ("screens.train", "TrainScreen"),
    ("screens.bench", "BenchScreen"),
    ("screens.models", "ModelsScreen"),
    ("screens.settings", "SettingsScreen"),
    ("widgets.exchange", "ExchangeView"),
    ("widgets.memory_item", "MemoryItem"),
    ("widgets.prompt", "Prompt"),
)


def read_keymap(home: Path) -> dict[str, str]:
    """The keys of config.toml by the ids of their actions, such as {"chat.panel": "ctrl+b"}. Empty without a table.

    Raises:
        UsageError: an id is not known or its key cannot be changed, or a value is no key; the line names it.
    """
    config = home / "config.toml"
    try:
        table = tomllib.loads(config.read_text(encoding="utf-8")).get(TABLE)
    except (OSError, ValueError):  # `load_settings` has said so
        return {}
    if table is None:
        return {}
    if not isinstance(table, Mapping):
        raise UsageError(f'{config}: {TABLE} must be a table: [{TABLE}] with lines such as "chat.panel" = "ctrl+b"')
    known = {name for name, _, _ in actions()}
    for name, keys in table.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; F1 in the app shows the ids"
            raise UsageError(f"{config}: {TABLE} has no action {name!r}{hint}")
        if name in FIXED:
            raise UsageError(f"{config}: the key of {name} cannot be changed; remove its line")
        if not isinstance(keys, str) or not keys.strip():
            raise UsageError(
                f'{config}: {TABLE}.{name} is {keys!r}; it takes a key such as "ctrl+b", or several with commas'
            )
    chosen = {name: ",".join(key.strip() for key in keys.split(",")) for name, keys in table.items()}
    return _siblings(chosen) | chosen


def _siblings(chosen: Mapping[str, str]) -> dict[str, str]:
    """The actions that share a key with one that is moved, with the keys they keep: Textual removes the key from all."""
    moved = {key for name, keys, _ in actions() if name in chosen for key in keys.split(",")}
    return {name: keys for name, keys, _ in actions() if name not in chosen and moved & set(keys.split(","))}


def actions() -> Iterable[tuple[str, str, str]]:
    """The id, the default keys and the purpose of each action that has an id."""
    seen = set()
    for module, name in _HOLDERS:
        holder = getattr(import_module(f"memlora_mlx.tui.{module}"), name)
        for cls in holder.__mro__:
            if cls.__module__.startswith("memlora_mlx."):
                for binding in cls.__dict__.get("BINDINGS", ()):
                    if isinstance(binding, Binding) and binding.id and binding.id not in seen:
                        seen.add(binding.id)
                        yield binding.id, binding.key, binding.tooltip or binding.description
