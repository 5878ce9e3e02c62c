"""What the app does for its first frame, counted: nothing is done twice. The time itself is a matter of `benchmarks/`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, text_of, wait_until
from textual._compositor import Compositor
from textual._context import active_app
from textual.css import stylesheet
from textual.dom import DOMNode
from textual.pilot import Pilot
from textual.widgets import Footer

from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.widgets.prompt import Prompt

PROMPT = "rite a message"  # the cursor is drawn on its first letter


@pytest.fixture
def counts(isolated_home: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each style source was parsed and each kind of widget styled, the line of keys built, and a frame dropped."""
    counts: Counter[str] = Counter()
    parse, compose, apply = stylesheet.parse, Footer.compose, stylesheet.Stylesheet.apply
    render = Compositor.render_update

    def counted_parse(scope: str, css: str, read_from: tuple[str, str], **rest: Any) -> Any:
        counts[f"style {read_from} {rest['tie_breaker']}"] += 1
        return parse(scope, css, read_from, **rest)

    def counted_compose(footer: Footer) -> Any:
        counts["keys"] += footer._bindings_ready
        return compose(footer)

    def counted_apply(sheet: stylesheet.Stylesheet, node: DOMNode, **rest: Any) -> None:
        counts[type(node).__name__] += 1
        apply(sheet, node, **rest)

    def counted_render(compositor: Compositor, **rest: Any) -> Any:
        counts["dropped"] += active_app.get()._batch_count > 0
        return render(compositor, **rest)

    monkeypatch.setattr(stylesheet, "parse", counted_parse)
    monkeypatch.setattr(stylesheet.Stylesheet, "apply", counted_apply)
    monkeypatch.setattr(Compositor, "render_update", counted_render)
    monkeypatch.setattr(Footer, "compose", counted_compose)
    monkeypatch.setattr(MemloraApp, "load_models", lambda app: None)
    return counts


def test_nothing_is_done_twice_for_the_first_frame(counts: Counter[str]) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: PROMPT in text_of(app) and "palette" in text_of(app))
        assert sum(name.startswith("style ") for name in counts) > 10
        assert {name: count for name, count in counts.items() if name.startswith("style ") and count > 1} == {}
        parts = ("keys", "StatusBar", "Navigation", "ScreenFooter", "MemoryPanel")
        assert {name: counts[name] for name in parts} == dict.fromkeys(parts, 1)
        assert counts["Prompt"] <= 2 and counts["dropped"] == 0  # the prompt gets the focus

    run_app(script)


def test_another_theme_and_other_keys_are_shown(counts: Counter[str]) -> None:
    """What is not done again is done again where it must be."""

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: PROMPT in text_of(app) and "palette" in text_of(app))

        def looks() -> tuple[Any, Any]:
            return app.screen.styles.background, app.screen.query_one(Prompt).styles.border

        dark = looks()
        app.action_toggle_theme()
        await wait_until(pilot, lambda: looks()[0] != dark[0] and looks()[1] != dark[1])
        app.action_toggle_theme()
        await wait_until(pilot, lambda: looks() == dark)
        assert "Send" in text_of(app)
        app.set_focus(None)
        await wait_until(pilot, lambda: "Send" not in text_of(app))

    run_app(script)
