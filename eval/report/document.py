"""What a report consists of, before it is Markdown, HTML or a terminal's table. All text is plain, not escaped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

MISSING = "–"  # a figure that there is none of


@dataclass(frozen=True, slots=True)
class Column:
    head: str
    numeric: bool = True
    is_from_paper: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; the first cell of a row names it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    value: float
    text: str  # the figure as it is written
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class BarChart:
    """Horizontal bars from 0, in groups, with intervals where there are some."""

    title: str
    groups: tuple[tuple[str, tuple[Bar, ...]], ...]
    maximum: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class StackedChart:
    """What each whole is made of: for every row a count of each part."""

    title: str
    parts: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]


Chart = BarChart | StackedChart


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    paragraphs: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    bullet_points: tuple[str, ...] = field(default=())  # a list


@dataclass(frozen=True, slots=True)
class Document:
    title: str
    subtitle: str
    sections: tuple[Section, ...]


def without_empty(sections: Iterable[Section]) -> tuple[Section, ...]:
    return tuple(s for s in sections if s.paragraphs or s.charts or s.tables or s.bullet_points)
