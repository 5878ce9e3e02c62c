"""A report as one HTML page: no script, nothing fetched, light and dark, and as wide as the screen is."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from memlora_mlx.eval.report.charts import draw
from memlora_mlx.eval.report.document import Document, Section, Table

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --dim: #57606a; --page: #ffffff; --soft: #f3f5f7; --line: #d5dae0;
  --bar: #2f6fb3; --rail: #e9edf1; --paper: #7a5200; --paper-soft: #fdf5e3;
  --p0: #3f8f5b; --p1: #c8553d; --p2: #d99a2b; --p3: #7f6bb3; --p4: #4c86b8; --p5: #9aa3ad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --dim: #a3adb8; --page: #14181c; --soft: #1d2328;
  --line: #37404a; --bar: #5b9bdd; --rail: #262d34; --paper: #e8c37a; --paper-soft: #2b2516;
  --p0: #4fa36d; --p1: #d96b54; --p2: #c98d2a; --p3: #9684cb; --p4: #5f9bd0; --p5: #7b858f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .5rem 0 0; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem;
  border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
p, li { max-width: 46rem; overflow-wrap: anywhere; } .dim, .note { color: var(--dim); } .note { font-size: .85rem;
  margin: .4rem 0; }
nav a { display: inline-block; padding: .35rem .8rem .35rem 0; } a { color: var(--bar); }
.charts { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; }
figure { margin: 1rem 0; width: 100%; max-width: 30rem; } figcaption { font-weight: 600; padding-bottom: .4rem; }
h3 { font-size: .95rem; margin: 1.5rem 0 .4rem; }
svg { display: block; width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; } svg .group { font-weight: 600; fill: var(--dim); }
.rail { fill: var(--rail); } .bar { fill: var(--bar); } .plate { fill: var(--page); }
.whisker, .halo { fill: none; stroke: var(--ink); stroke-width: 1.6; } .halo { stroke: var(--page); stroke-width: 4; }
.hatch { stroke: var(--page); stroke-width: 2; opacity: .75; }
.p0 { fill: var(--p0); } .p1 { fill: var(--p1); } .p2 { fill: var(--p2); } .p3 { fill: var(--p3); }
.p4 { fill: var(--p4); } .p5 { fill: var(--p5); }
.scroll { overflow-x: auto; margin: 0 0 .2rem; } .scroll:focus-visible { outline: 2px solid var(--bar); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { font-weight: 600; vertical-align: bottom; color: var(--dim); } tbody th { font-weight: 600; }
th.number, td.number { text-align: right; white-space: nowrap; } thead th.number { white-space: normal; }
th.short, td.short { white-space: nowrap !important; }
td.text:not(.short) { min-width: 10rem; max-width: 22rem; overflow-wrap: anywhere; }
tbody th { min-width: 6rem; max-width: 16rem; overflow-wrap: anywhere; }
.paper { color: var(--paper); background: var(--paper-soft); }
th.paper, td.paper { padding-left: .5rem; font-style: italic; }
thead th.paper { color: var(--paper); }
@media print { .scroll { overflow: visible; } nav { display: none; } }
"""


def as_html(document: Document) -> str:
    numbers = iter(range(1, 10_000))
    links = "".join(
        f'<a href="#s{i}">{escape(section.title)}</a>' for i, section in enumerate(document.sections, start=1)
    )
    body = "".join(_section(section, i, numbers) for i, section in enumerate(document.sections, start=1))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # a report may hold what others wrote: nothing in it may run, or be fetched
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(document.title)}</h1>\n<p class="dim">{escape(document.subtitle)}</p>\n'
        f'<nav aria-label="Sections">{links}</nav>\n{body}</main>\n</body>\n</html>\n'
    )


def _section(section: Section, number: int, charts: Iterable[int]) -> str:
    parts = [f'<section aria-labelledby="s{number}">\n<h2 id="s{number}">{escape(section.title)}</h2>\n']
    parts += [f"<p>{escape(text)}</p>\n" for text in section.paragraphs]
    if section.bullet_points:
        parts.append(f"<ul>{''.join(f'<li>{escape(point)}</li>' for point in section.bullet_points)}</ul>\n")
    if section.charts:
        drawn = [draw(chart, i) for chart, i in zip(section.charts, charts, strict=False)]
        parts.append(f'<div class="charts">{"".join(drawn)}</div>\n')
    parts += [_table(table, f"s{number}-{i}") for i, table in enumerate(section.tables, start=1)]
    return "".join([*parts, "</section>\n"])


def _table(table: Table, name: str) -> str:
    kinds = [
        ("number" if column.numeric else "text") + (" paper" if column.is_from_paper else "")
        for column in table.columns
    ]
    heads = "".join(
        f'<th scope="col" class="{kind}{_short(column.head)}">{escape(column.head)}</th>'
        for kind, column in zip(kinds, table.columns, strict=True)
    )
    rows = []
    for row in table.rows:
        first, *rest = row
        cells = "".join(
            f'<td class="{kind}{_short(cell)}">{escape(cell)}</td>' for kind, cell in zip(kinds[1:], rest, strict=True)
        )
        rows.append(f'<tr><th scope="row" class="text{_short(first)}">{escape(first)}</th>{cells}</tr>\n')
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in table.notes)
    # it scrolls by keyboard too, so it can be focused and has a name
    return (
        f'<h3 id="{name}">{escape(table.title)}</h3>\n<div class="scroll" role="region" tabindex="0" '
        f'aria-labelledby="{name}"><table aria-labelledby="{name}">\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody></table></div>\n{notes}"
    )


def _short(text: str) -> str:
    """A class for what would only break at a hyphen."""
    return " short" if len(text) <= 22 else ""
