"""One measured figure, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.model_timings import Timing


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured figure."""

    group: str
    what: str
    value: float
    unit: str
    p95: float | None = None
    runs: int = 1
    target: str = ""
    met: bool | None = None


def measurement_of(group: str, what: str, timing: Timing, unit: str, *, target: float | None = None) -> Measurement:
    factor = 1e3 if unit == "ms" else 1.0
    value = timing.p50 * factor
    return Measurement(
        group,
        what,
        value,
        unit,
        p95=timing.p95 * factor,
        runs=timing.runs,
        target=f"< {target:g} {unit}" if target else "",
        met=value < target if target else None,
    )


def to_markdown(machine: Mapping[str, str], rows: Sequence[Measurement]) -> str:
    """The table for people."""
    lines = [
        "# Measured",
        "",
        "By `make bench`; p50 where a p95 stands beside it, else the mean or a single figure.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines += [
                "",
                f"## {group.capitalize()}",
                "",
                "| what | value | p95 | runs | target | met |",
                "|---|---:|---:|---:|---|---|",
            ]
        p95 = format_number(row.p95) if row.p95 is not None else ""
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        lines.append(
            f"| {row.what} | {format_number(row.value)} {row.unit} | {p95} | {row.runs} | {row.target} | {met} |"
        )
    return "\n".join(lines) + "\n"


def format_number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def to_json_line(row: Measurement) -> str:
    p95 = f" (p95 {format_number(row.p95)})" if row.p95 is not None else ""
    verdict = {True: "  met", False: "  NOT MET", None: ""}[row.met]
    return f"{row.group:<10} {row.what:<66} {format_number(row.value):>9} {row.unit}{p95}{verdict}"
