"""What the app does for its first frame, counted: nothing is done twice. The time itself is a matter of `benchmarks/`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until
from textual.css import stylesheet
from textual.pilot import Pilot
from textual.widgets import Footer

from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.widgets.prompt import Prompt

PROMPT = "rite a message"  # the cursor is drawn on its first letter


@pytest.fixture
def counts(isolated_home: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each style source was parsed, by its place, and how often the line of keys was built, by `keys`."""
    counts: Counter[str] = Counter()
    parse, compose = stylesheet.parse, Footer.compose

    def counted_parse(scope: str, css: str, read_from: tuple[str, str], **rest: Any) -> Any:
        counts[f"style {read_from} {rest['tie_breaker']}"] += 1
        return parse(scope, css, read_from, **rest)

    def counted_compose(footer: Footer) -> Any:
        counts["keys"] += footer._bindings_ready
        return compose(footer)

    monkeypatch.setattr(stylesheet, "parse", counted_parse)
    monkeypatch.setattr(Footer, "compose", counted_compose)
    monkeypatch.setattr(MemloraApp, "load_models", lambda app: None)
    return counts


def test_nothing_is_done_twice_for_the_first_frame(counts: Counter[str]) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: PROMPT in text_of(app) and "palette" in text_of(app))
        assert sum(name.startswith("style") for name in counts) > 10
        assert [name for name, count in counts.items() if count > 1] == []

    run_app(script)


def test_another_theme_and_other_keys_are_shown(counts: Counter[str]) -> None:
    """What is not done again is done again where it must be."""

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: PROMPT in text_of(app) and "palette" in text_of(app))
        before = app.screen.styles.background, app.screen.query_one(Prompt).styles.border
        app.action_toggle_theme()
        await pilot.pause(0.2)
        after = app.screen.styles.background, app.screen.query_one(Prompt).styles.border
        assert before[0] != after[0] and before[1] != after[1]
        app.action_toggle_theme()
        await pilot.pause(0.2)
        assert before == (app.screen.styles.background, app.screen.query_one(Prompt).styles.border)
        assert "Send" in text_of(app)
        app.set_focus(None)
        await wait_until(pilot, lambda: "Send" not in text_of(app))

    run_app(script)
