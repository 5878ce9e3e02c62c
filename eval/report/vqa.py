"""What the report says of questions about images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memlora_mlx.eval.metrics.intervals import Interval, wilson
from memlora_mlx.eval.report import paper
from memlora_mlx.eval.report.document import MISSING, Bar, BarChart, Column, Section, Table
from memlora_mlx.eval.report.figures import format_interval, format_number, p_value
from memlora_mlx.eval.results import BenchRun
from memlora_mlx.text import printable_line

KINDS: Mapping[str, str] = {
    "unusual": "a detail of an unusual object",
    "colour": "the colour of a small part",
    "count": "how many",
}
_OF_THE_PAPER = (
    "The paper's questions are by InternVL3-78B, about the images of its two test conversations; questions by another teacher "
    "are other questions."
)
_ABOUT: Mapping[str, str] = {
    "drawings": "The drawings are made by a program, as a test bench: these figures say nothing about photographs.",
    "locomo": "The images are those of LoCoMo's conversations.",
}


def images(run: BenchRun) -> Section:
    """V, overall and by kind, as `eval.vqa` describes its result."""
    found = run.extra.get("vqa")
    systems = found.get("systems") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(systems, Mapping) or not systems:
        return Section("Images")
    benchmark = printable_line(found.get("benchmark", "not named"))
    kinds = [kind for kind in KINDS if any(kind in one["kinds"] for one in systems.values())]
    columns = (
        Column("system", False),
        Column("n"),
        Column("V"),
        *(Column(KINDS[kind]) for kind in kinds),
        Column("s/question"),
        Column("tokens in"),
        Column("out"),
    )
    rows = [
        (
            f"{printable_line(name)}: {printable_line(one.get('title', ''))}",
            printable_line(one["overall"]["n"]),
            _told(one["overall"]),
            *(_told(one["kinds"].get(kind)) for kind in kinds),
            *(
                format_number(one.get(key), digits)
                for key, digits in (("seconds", 2), ("input_tokens", 0), ("output_tokens", 0))
            ),
        )
        for name, one in systems.items()
    ]
    intervals = [(name, _share(one["overall"])) for name, one in systems.items()]
    bars = tuple(Bar(printable_line(name), i.value, format_interval(i), i.low, i.high) for name, i in intervals if i)
    tables = [Table(f"V: the right word, × 100, on the {benchmark}", columns, tuple(rows))]
    if tests := found.get("tests"):
        tables.append(_tests(tests))
    if benchmark == "locomo":
        tables.append(_paper())
    teachers = ", ".join(map(printable_line, found.get("teachers", ())))
    about = (
        f"Questions about {printable_line(found.get('images', MISSING))} images of the benchmark {benchmark} (split "
        f"{printable_line(found.get('split', MISSING))}, rows {printable_line(found.get('rows_sha256', ''))[:16]}, asked by {teachers}). An answer "
        "is right if it is the very word, lower case and trimmed. " + _ABOUT.get(benchmark, "")
    ).strip()
    notes = tuple(printable_line(note) for note in found.get("notes", ()))
    chart = BarChart("V, all kinds, with 95 % intervals", (("", bars),), 100.0)
    return Section("Images", (about, *notes), (chart,), tuple(tables))


def images_line(run: BenchRun) -> str:
    """V of each system in one line; empty where no images were asked about."""
    found = run.extra.get("vqa")
    systems = found.get("systems", {}) if isinstance(found, Mapping) else {}
    if not isinstance(found, Mapping) or not systems:
        return ""
    told = [f"{printable_line(name)} {_told(one['overall'])}" for name, one in systems.items()]
    some = next(iter(systems.values()))["overall"]["n"]
    tests = found.get("tests") or ()
    against = next((test for test in tests if (test["a"], test["b"]) == ("memlora", "base")), None)
    gain = f" The expert against the base: p {p_value(against['p'])} (McNemar)." if against else ""
    return f"Images ({printable_line(found.get('benchmark'))}, {some} questions), V: {', '.join(told)}.{gain}"


def _tests(tests: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        "The same questions: which of two systems is right where only one is",
        (Column("systems", False), Column("only the first"), Column("only the second"), Column("p"), Column("p, Holm")),
        tuple(
            (
                f"{printable_line(test['a'])} against {printable_line(test['b'])}",
                printable_line(test["only_a"]),
                printable_line(test["only_b"]),
                p_value(test["p"]),
                p_value(test["p_holm"]),
            )
            for test in tests
        ),
        ("p by McNemar's exact test; Holm's correction is over the tests of this table.",),
    )


def _paper() -> Table:
    return Table(
        "For reference, the paper's V (Tables 2 and E8)",
        (Column("system", False), Column("paper: V", True, True)),
        tuple((name, format_number(v)) for name, v in paper.TABLE_2_V),
        (_OF_THE_PAPER,),
    )


def _share(counts: Mapping[str, Any] | None) -> Interval | None:
    if not counts or not counts["n"]:
        return None
    share = wilson(counts["right"], counts["n"])
    return Interval(100 * share.value, 100 * share.low, 100 * share.high)


def _told(counts: Mapping[str, Any] | None) -> str:
    interval = _share(counts)
    return MISSING if interval is None else format_interval(interval)
