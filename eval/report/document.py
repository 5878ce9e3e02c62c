"""What a report consists of, before it is Markdown, HTML or a terminal's table. All text is plain, not escaped."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

MISSING = "–"  # a figure that there is none of
MAX_TEXT = 400  # characters of one text from data or a model

_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


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


def clean_line(value: object, limit: int = MAX_TEXT) -> str:
    """A value as one line that can drive no terminal and no reading direction, cut where it is endless."""
    text = str(value)
    cut = len(text) > limit
    text = text[:limit].encode("utf-8", "replace").decode("utf-8")
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text if c not in _BIDI)
    return " ".join(kept.split()) + (" …" if cut else "")


def without_empty(sections: Iterable[Section]) -> tuple[Section, ...]:
    return tuple(s for s in sections if s.paragraphs or s.charts or s.tables or s.bullet_points)
