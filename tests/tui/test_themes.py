"""The colours: contrasts of text and of the focus in all themes, and the palette of terminals with 256 colours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pilots import run_app, wait_until, wait_until_loaded
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.style import Style
from textual.color import Color
from textual.pilot import Pilot
from textual.theme import Theme
from textual.widget import Widget

from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.base_app import SCREENS_BY_KEY
from memlora_mlx.tui.themes import ALL_THEMES, DARK, DARK_256, LIGHT, LIGHT_256, theme_name

TEXT, SIGN = 4.5, 3.0  # least contrasts of text and of signs, as WCAG 2 level AA has them
BACKGROUNDS = ("background", "surface", "panel")
NAMES = [theme.name for theme in ALL_THEMES]


def luminance(colour: Color) -> float:
    parts = [value / 255 for value in colour.rgb]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Color, other: Color) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_is_that_of_wcag() -> None:
    assert contrast(Color(0, 0, 0), Color(255, 255, 255)) == pytest.approx(21.0)
    assert contrast(Color.parse("#777777"), Color(255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ALL_THEMES, ids=NAMES)
def test_text_and_focus_can_be_told_from_every_background(theme: Theme) -> None:
    colours = theme.to_color_system().generate()
    low = []
    for name, least in [("foreground", 7.0), ("text-muted", TEXT), ("text-accent", TEXT), ("text-success", TEXT),
                        ("text-warning", TEXT), ("text-error", TEXT), ("accent", SIGN), ("primary", SIGN)]:  # fmt: skip
        for behind in BACKGROUNDS:
            found = contrast(Color.parse(colours[name]), Color.parse(colours[behind]))
            if found < least:
                low.append(f"{name} on {behind}: {found:.2f}, needs {least}")
    selected = contrast(Color.parse(colours["background"]), Color.parse(colours["primary"]))
    assert low == [] and selected >= TEXT, "the row under the cursor"


@pytest.mark.parametrize("theme", [DARK_256, LIGHT_256], ids=lambda theme: theme.name)
def test_with_256_colours_nothing_merges(theme: Theme) -> None:
    """What such a terminal shows, which is the nearest colour that it has."""
    colours = theme.to_color_system().generate()
    shown = {
        name: Color(*RichColor.parse(colours[name]).downgrade(ColorSystem.EIGHT_BIT).get_truecolor())
        for name in ("primary", "accent", "success", "warning", "error", "foreground", "text-muted", *BACKGROUNDS)
    }
    assert len({shown[name] for name in BACKGROUNDS}) == 3, "chat and panel"
    assert len({shown[name] for name in ("primary", "accent", "success", "warning", "error")}) == 5
    for behind in BACKGROUNDS:
        assert contrast(shown["text-muted"], shown[behind]) >= TEXT
        assert contrast(shown["accent"], shown[behind]) >= SIGN


def test_the_theme_fits_the_terminal() -> None:
    assert theme_name("dark", "truecolor") == DARK.name and theme_name("light", None) == LIGHT.name
    assert theme_name("dark", "256") == DARK_256.name and theme_name("light", "standard") == LIGHT_256.name


def test_no_text_is_dimmed_by_a_share_of_its_colour() -> None:
    """A share of the foreground has another contrast on each background; `$text-muted` is measured above."""
    folder = Path(__file__).parents[2] / "tui"
    files = [*folder.rglob("*.py"), *folder.rglob("*.tcss")]
    found = [
        f"{file.name}: {match[0]}"
        for file in files
        for match in re.finditer(r"(?<!-)color: \$foreground [0-6]\d?%", file.read_text())
    ]
    assert len(files) > 40 and found == []


def cells(app: MemloraApp, widget: Widget) -> list[tuple[str, Style | None]]:
    """The characters of a widget's region on the screen, with their styles."""
    region = widget.region
    lines = app.screen._compositor.render_strips()[region.y : region.bottom]
    found = []
    for line in lines:
        for segment in line.crop(region.x, region.right):
            found += [(character, segment.style) for character in segment.text]
    return found


def differs(before: tuple[str, Style | None], after: tuple[str, Style | None]) -> float:
    """The contrast between the two looks of a cell: of what changed, against the background."""
    styles = [style or Style() for style in (before[1], after[1])]
    behind = [Color(*style.bgcolor.get_truecolor()) if style.bgcolor else Color(0, 0, 0) for style in styles]
    front = [Color(*style.color.get_truecolor()) if style.color else Color(0, 0, 0) for style in styles]
    if before == after:
        return 1.0
    changed = contrast(*behind)
    if before[0] != after[0] and after[0].strip():
        changed = max(changed, contrast(front[1], behind[1]))
    elif after[0].strip():
        changed = max(changed, contrast(*front))
    return changed


@pytest.mark.parametrize("theme", ["memlora-dark", "memlora-light"])
def test_every_control_shows_that_it_has_the_focus(tiny_home: Path, theme: str) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        app.theme = theme
        await wait_until_loaded(app, pilot)
        dim = []
        for mode, (key, _, _) in SCREENS_BY_KEY.items():
            await pilot.press(key)
            await wait_until(pilot, lambda mode=mode: app.current_mode == mode and app.screen.is_current)
            await pilot.pause(0.3)
            for widget in [each for each in app.screen.focus_chain if each.region.area]:
                app.screen.set_focus(None)
                await pilot.pause(0.05)
                before = cells(app, widget)
                widget.focus()
                await pilot.pause(0.05)
                after = cells(app, widget)
                strongest = max((differs(*pair) for pair in zip(before, after, strict=False)), default=1.0)
                if strongest < SIGN:
                    dim.append(f"{mode}: {widget!r} {strongest:.2f}")
        assert dim == []

    run_app(script, size=(120, 40))
