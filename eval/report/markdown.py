"""A report as Markdown: the tables, without the charts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from memlora_mlx.eval.report.document import Document, Table

_MARKS = re.compile(r"([\\`*_\[\]#|~!$])")  # all that means something inside a line
_LINKS = re.compile(r"(://|www\.|@)")


def as_markdown(document: Document) -> str:
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Document) -> Iterator[str]:
    yield f"# {escaped(document.title)}"
    yield ""
    yield escaped(document.subtitle)
    for section in document.sections:
        yield ""
        yield f"## {escaped(section.title)}"
        for text in section.paragraphs:
            yield ""
            yield escaped(text)
        if section.bullet_points:
            yield ""
            for point in section.bullet_points:
                yield f"- {escaped(point)}"
        for table in section.tables:
            yield ""
            yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    yield f"**{escaped(table.title)}**"
    yield ""
    yield _row(column.head for column in table.columns)
    yield "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|"
    for row in table.rows:
        yield _row(row)
    for note in table.notes:
        yield ""
        yield escaped(note)


def _row(cells: Iterator[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(escaped(cell) for cell in cells) + " |"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no tags, no links, no new cells."""
    marked = _MARKS.sub(r"\\\1", escape(text, quote=False))  # a tag: not every reader takes a backslash before it
    marked = _LINKS.sub(lambda found: f"\\{found[0]}" if found[0] != "www." else "www\\.", marked)
    return re.sub(r"^(\s*\d*)([-+=.)])(?=\s|$)", r"\1\\\2", marked)  # no list
