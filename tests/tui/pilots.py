"""The real app under Textual's pilot, over a real store and the tiny models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot

from memlora_mlx.settings import Settings, load_settings
from memlora_mlx.tui.app import MemloraApp

SECONDS = 120.0  # that a condition may take on a very busy machine; on another one it takes a part of a second

Script = Callable[[MemloraApp, "Pilot[Any]"], Awaitable[None]]


def run_app(script: Script, *, size: tuple[int, int] = (110, 32), settings: Settings | None = None) -> None:
    """Start the app at this size, run the script in it, and close it."""

    async def run() -> None:
        app = MemloraApp(settings or load_settings())
        try:
            async with app.run_test(size=size, notifications=True) as pilot:
                await script(app, pilot)
        finally:
            app.backend.close()

    asyncio.run(run())


async def wait_until(pilot: Pilot[Any], condition: Callable[[], object], what: str = "") -> None:
    """Wait until something is so. Raises AssertionError when it takes too long."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if condition():
            return
        await asyncio.sleep(0.05)  # looking at a screen takes a while itself
    raise AssertionError(f"still not so: {what or condition}")


async def wait_until_loaded(app: MemloraApp, pilot: Pilot[Any]) -> None:
    """Wait until the models are loaded, or cannot be."""
    await wait_until(pilot, lambda: app.backend.status.phase in ("ready", "failed"), "models loaded")


def text_of(app: MemloraApp) -> str:
    """What stands on the screen, line by line."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


def noticed(app: MemloraApp) -> str:
    """The titles and words of the notices that are shown, as they were before they were broken into lines."""
    return "\n".join(f"{notice.title}\n{notice.message}" for notice in app._notifications)
