"""Charts as inline SVG, drawn for a phone's width and scaled up: every figure is written beside its bar.

Colours come from the page's style sheet. Parts of a stack differ by pattern and by the letter in them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from memlora_mlx.eval.report.document import Bar, BarChart, Chart, StackedChart

WIDTH = 360  # of the drawing, in its own units; on a phone those are pixels
_LEFT, _RIGHT = 4, WIDTH - 4
_LINE, _BAR, _GAP = 15, 12, 9
_CHARACTERS = 52  # that a label may have beside nothing else
_LETTERS = "ABCDEFGHIJKL"


def draw(chart: Chart, number: int) -> str:
    """The chart in a figure. `number` tells it from the others on the page."""
    if isinstance(chart, StackedChart):
        body, height = _stacks(chart, number)
        said = "; ".join(
            f"{name}: " + ", ".join(f"{part} {count}" for part, count in zip(chart.parts, counts, strict=True))
            for name, counts in chart.rows
        )
    else:
        body, height = _bars(chart)
        said = "; ".join(
            " ".join(filter(None, (group, bar.label, bar.text + chart.unit)))
            for group, bars in chart.groups
            for bar in bars
        )
    names = f"chart-{number}-title", f"chart-{number}-desc"
    return (
        f"<figure><figcaption>{escape(chart.title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{names[0]} {names[1]}">'
        f'<title id="{names[0]}">{escape(chart.title)}</title><desc id="{names[1]}">{escape(said)}</desc>{body}'
        "</svg></figure>"
    )


def _bars(chart: BarChart) -> tuple[str, int]:
    drawn, y = [], 0
    for group, bars in chart.groups:
        if group:
            y += _LINE + 3
            drawn.append(_text(_LEFT, y - 4, _short(group, _CHARACTERS), "group"))
        for bar in bars:
            y += _LINE
            drawn.append(_text(_LEFT, y - 3, _short(bar.label, _CHARACTERS - len(bar.text) - 2)))
            drawn.append(_text(_RIGHT, y - 3, bar.text + chart.unit, "end"))
            drawn += _bar(bar, y, chart.maximum)
            y += _BAR + _GAP
    return "".join(drawn), y


def _bar(bar: Bar, y: int, maximum: float) -> Iterable[str]:
    def x(value: float) -> float:
        share = min(1.0, max(0.0, value / maximum)) if maximum else 0.0
        return round(_LEFT + share * (_RIGHT - _LEFT), 1)

    yield f'<rect class="rail" x="{_LEFT}" y="{y}" width="{_RIGHT - _LEFT}" height="{_BAR}" rx="2"/>'
    yield f'<rect class="bar" x="{_LEFT}" y="{y}" width="{x(bar.value) - _LEFT:.1f}" height="{_BAR}" rx="2"/>'
    if bar.low is not None and bar.high is not None:
        low, high, middle = x(bar.low), x(bar.high), y + _BAR / 2
        ends = f"M{low} {y + 2}V{y + _BAR - 2}M{high} {y + 2}V{y + _BAR - 2}M{low} {middle}H{high}"
        yield f'<path class="halo" d="{ends}"/><path class="whisker" d="{ends}"/>'


def _stacks(chart: StackedChart, number: int) -> tuple[str, int]:
    drawn, y = [_patterns(number, len(chart.parts))], 0
    for i, name in enumerate(chart.parts):  # the key
        if i % 2 == 0:
            y += _LINE + 4
        left = _LEFT + (i % 2) * (WIDTH // 2)
        drawn.append(f'<rect class="part p{i % 6}" x="{left}" y="{y - 12}" width="18" height="{_BAR}" rx="2"/>')
        drawn.append(f'<rect fill="url(#hatch-{number}-{i})" x="{left}" y="{y - 12}" width="18" height="{_BAR}"/>')
        drawn.append(_text(left + 24, y - 2, f"{_LETTERS[i]} {name}"))
    y += _GAP
    for name, counts in chart.rows:
        y += _LINE
        drawn.append(_text(_LEFT, y - 3, _short(name, _CHARACTERS)))
        drawn.append(_text(_RIGHT, y - 3, str(sum(counts)), "end"))
        drawn += _stack(counts, y, number)
        y += _BAR + 6 + _GAP
    return "".join(drawn), y


def _stack(counts: Sequence[int], y: int, number: int) -> Iterable[str]:
    whole, x, height = max(1, sum(counts)), float(_LEFT), _BAR + 6
    for i, count in enumerate(counts):
        width = count / whole * (_RIGHT - _LEFT)
        if not count:
            continue
        place = f'x="{x:.1f}" y="{y}" width="{max(0.5, width - 1):.1f}" height="{height}"'
        yield f'<rect class="part p{i % 6}" {place}/><rect fill="url(#hatch-{number}-{i})" {place}/>'
        label = f"{_LETTERS[i]} {count}"
        if width > 7 * len(label) + 6:
            middle, plate = x + width / 2, 7.2 * len(label)
            place = f'x="{middle - plate / 2:.1f}" y="{y + 2}" width="{plate:.1f}" height="{height - 4}"'
            yield f'<rect class="plate" {place} rx="2"/>'
            yield _text(middle, y + height - 5, label, "middle")
        x += width


def _patterns(number: int, count: int) -> str:
    """A hatching for each part but the first; each at another angle or distance."""
    made = []
    for i in range(count):
        angle, step = (0, 45, 135, 90, 0, 45)[i % 6], (8, 7, 7, 6, 6, 4)[i % 6]
        line = "" if i == 0 else f'<path class="hatch" d="M0 0H{step}"/>'
        made.append(
            f'<pattern id="hatch-{number}-{i}" width="{step}" height="{step}" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate({angle})">{line}</pattern>'
        )
    return f"<defs>{''.join(made)}</defs>"


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    chosen = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{chosen}>{escape(text)}</text>'


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: max(1, characters - 1)] + "…"
