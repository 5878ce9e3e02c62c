"""The Settings screen: what is chosen there applies, and stands in config.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until, wait_until_loaded
from textual.pilot import Pilot
from textual.widgets import Input, Select

from memlora_mlx.config_file import save_key
from memlora_mlx.errors import UsageError
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.screens.settings import KeyDialog, SettingsScreen


def config(home: Path) -> dict[str, Any]:
    file = home / "config.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def test_what_is_chosen_applies_and_is_kept(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until_loaded(app, pilot)
        student = app.backend.settings.student
        await pilot.press("f8")
        await wait_until(pilot, lambda: isinstance(app.screen, SettingsScreen) and app.screen._is_filled)
        await pilot.pause(0.3)
        assert app.backend.settings.student == student and config(tiny_home) == {}, "looking changes nothing"
        app.screen.query_one("#theme", Select).value = "light"
        await wait_until(pilot, lambda: config(tiny_home).get("theme") == "light" and not app.current_theme.dark)
        app.screen.query_one("#limit", Input).value = "3"
        app.screen.query_one("#limit", Input).focus()
        await pilot.press("enter")
        await wait_until(pilot, lambda: config(tiny_home).get("limit") == 3 and app.backend.settings.limit == 3)
        await wait_until(pilot, lambda: "at most 3 memories" in text_of(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, KeyDialog))
        await pilot.press("f9")
        await wait_until(pilot, lambda: config(tiny_home).get("keys") == {"app.help": "f9"})
        await wait_until(pilot, lambda: app._keymap.get("app.help") == "f9")
        await pilot.press("d")
        await wait_until(pilot, lambda: not config(tiny_home).get("keys"))

    run_app(script, size=(100, 30))


@pytest.mark.parametrize(
    "before", ["", "limit = 5\n", '[models.mine]\nrepository = "a/b"\nfamily = "llama"\n', "[keys]\n"]
)
def test_a_key_is_kept_beside_all_else(tmp_path: Path, before: str) -> None:
    (tmp_path / "config.toml").write_text(before, encoding="utf-8")
    save_key(tmp_path, "chat.panel", "ctrl+b")
    save_key(tmp_path, "app.help", "f9")
    save_key(tmp_path, "chat.panel", "ctrl+l")
    rest = {name: value for name, value in tomllib.loads(before).items() if name != "keys"}
    assert config(tmp_path) == {**rest, "keys": {"chat.panel": "ctrl+l", "app.help": "f9"}}
    save_key(tmp_path, "chat.panel", "")
    save_key(tmp_path, "app.help", "")
    assert not config(tmp_path).get("keys")


def test_a_table_of_another_form_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('keys = { "chat.panel" = "ctrl+b" }\n', encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be changed here"):
        save_key(tmp_path, "app.help", "f9")
