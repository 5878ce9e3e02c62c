"""What it cost and how it went: sizes, tokens, seconds, phases, memory operations; Tables 3, 4, 5, A6 and A7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memlora_mlx.eval.metrics.intervals import Interval, wilson
from memlora_mlx.eval.report import paper
from memlora_mlx.eval.report.document import MISSING, Bar, BarChart, Column, Section, Table
from memlora_mlx.eval.report.figures import format_interval, format_number, scored_rows, systems_of
from memlora_mlx.eval.report.quality import encoders, quality_table
from memlora_mlx.eval.results import BenchRun, StageCost
from memlora_mlx.text import printable_line

GIB = 2**30  # what the paper calls GB: its sizes are those of the weights in 2^30 bytes


def efficiency(run: BenchRun) -> Section:
    """Table 3, and Tables A6 and A7."""
    names = [name for name in systems_of(run) if _costs(run, name)]
    if not names:
        return Section("What it costs")
    rows, calls, tokens, seconds = [], [], [], []
    for name in names:
        costs = _costs(run, name)
        answers = sum(cost.output_tokens / cost.calls for cost in costs) / len(costs)
        taken = sum(cost.seconds / cost.calls for cost in costs) / len(costs)
        about = run.systems.get(name, {})
        size = _number(about, "size_bytes") + _number(about, "experts_bytes")
        figures = (
            format_number(size / GIB, 2) if size else MISSING,
            format_number(answers / taken) if taken else MISSING,
            format_number(answers, 2),
            format_number(taken, 2),
        )
        rows.append((printable_line(name), printable_line(about.get("student", MISSING)), str(len(costs)), *figures))
        for cost in costs:
            given, written = cost.input_tokens / cost.calls, cost.output_tokens / cost.calls
            calls.append((printable_line(name), cost.stage, f"{cost.calls:,}", format_number(given, 2), format_number(written, 2),
                          format_number(cost.seconds / cost.calls, 3)))  # fmt: skip
        bars = [(cost.stage, cost.output_tokens / cost.calls, cost.seconds / cost.calls) for cost in costs]
        tokens.append(
            (printable_line(name), tuple(Bar(stage, value, format_number(value)) for stage, value, _ in bars))
        )
        seconds.append(
            (printable_line(name), tuple(Bar(stage, value, format_number(value, 2)) for stage, _, value in bars))
        )
    columns = (
        Column("system", False), Column("student", False), Column("stages"), Column("size, GB"), Column("tok/s"),
        Column("tok/ans"), Column("s/ans"),
    )  # fmt: skip
    notes = (
        f"Measured on: {_device(run)}. The paper's seconds are those of an A100; only size and tokens compare.",
        (
            "GB as in the paper: 2^30 bytes of weights. tok/ans and s/ans are means over the stages that there are, "
            "of what a call writes and takes; tok/s is one by the other. Without --efficiency calls share batches, and "
            "the seconds of a call are its share."
        ),
    )
    heads = ("tokens in", "tokens out", "seconds")
    of_calls = (Column("system", False), Column("stage", False), Column("calls"), *map(Column, heads))
    tables = (
        Table("Size and speed, Table 3's form", columns, tuple(rows), notes),
        _paper_sizes(),
        Table("Tokens and seconds of a call, Tables A6 and A7's form", of_calls, tuple(calls)),
        _paper_tokens(),
    )
    charts = (
        BarChart("Tokens written in a call, by stage", tuple(tokens), _highest(tokens)),
        BarChart("Seconds of a call, by stage", tuple(seconds), _highest(seconds), " s"),
    )
    return Section("What it costs", (), charts, tables)


def _paper_sizes() -> Table:
    heads = ("size, GB", "tok/s", "tok/ans", "s/ans")
    columns = (Column("system", False), *(Column(f"paper: {head}", True, True) for head in heads))
    rows = tuple((name, *(format_number(value, 2) for value in figures)) for name, *figures in paper.TABLE_3)
    return Table("For reference, the paper's Table 3 (A100)", columns, rows)


def _paper_tokens() -> Table:
    columns = (Column("what", False), Column("paper: extraction", True, True), Column("paper: update", True, True))
    given = paper.INPUT_TOKENS
    rows = [
        ("tokens in, Mem0's prompts", format_number(given["extraction"][0], 2), format_number(given["update"][0], 2)),
        ("tokens in, short prompts", format_number(given["extraction"][1], 2), format_number(given["update"][1], 2)),
    ]
    rows += [(f"tokens out, {name}", format_number(a, 2), format_number(b, 2)) for name, a, b in paper.OUTPUT_TOKENS]
    return Table("For reference, the paper's Tables A6 and A7", columns, tuple(rows))


def ablation(run: BenchRun) -> Section:
    names = [name for name in systems_of(run, "ablation") if scored_rows(run, name)]
    if not names:
        return Section("Ablation")
    known = {name: (format_number(l_), format_number(j)) for name, l_, j in paper.TABLE_4}
    student = printable_line(run.origin.get("student", ""))
    beside = []
    for name in names:
        stages = run.systems[name].get("stages")
        row = paper.ablation_row(stages, student) if isinstance(stages, Mapping) else MISSING
        beside.append([row, *known.get(row, (MISSING, MISSING))])
    table = quality_table(run, names, "Who extracts / updates / generates, Table 4's form", beside)
    note = "The paper's rows: S is Gemma2-2B, T is Gemma2-27B, +e with the expert of that stage."
    return Section("Ablation", (note,), (), (table,))


def scales(run: BenchRun) -> Section:
    names = [name for name in systems_of(run, "scales") if scored_rows(run, name)]
    if not names:
        return Section("Students")
    tables = [quality_table(run, names, "Every student on this disk, Table 5's form")]
    columns = (Column("student", False), *(Column(head, True, True) for head in
               ("paper: L, base", "paper: J, base", "paper: L, experts", "paper: J, experts")))  # fmt: skip
    rows = []
    for scale in ("0.5b", "1.5b", "3b"):
        base, experts = (paper.QUALITY[f"qwen2.5-{scale}", has_experts] for has_experts in (False, True))
        rows.append((f"Qwen2.5-{scale.upper()}", *map(format_number, (*base, *experts))))
    tables.append(Table("For reference, the paper's Table 5", columns, tuple(rows)))
    return Section("Students", (f"L is computed with {encoders(run)}.",), (), tuple(tables))


def operations(run: BenchRun) -> Section:
    rows = []
    for name in systems_of(run):
        about = run.systems.get(name, {})
        if "memories" not in about:
            continue
        made = about.get("operations")
        events = made if isinstance(made, Mapping) else {}
        cells = [
            about["memories"],
            about.get("facts", MISSING),
            *(events.get(e, 0) for e in ("ADD", "UPDATE", "DELETE")),
        ]
        cells += [about.get("rejected", MISSING), about.get("duplicates", MISSING)]
        rows.append((printable_line(name), *(printable_line(cell) for cell in cells)))
    if not rows:
        return Section("What was remembered")
    heads = ("memories kept", "facts extracted", "ADD", "UPDATE", "DELETE", "operations refused", "facts known already")
    columns = (Column("system", False), *map(Column, heads))
    return Section("What was remembered", (), (), (Table("Memories and operations", columns, tuple(rows)),))


def phases(run: BenchRun) -> Section:
    if not run.phases:
        return Section("Time")
    rows = []
    for phase in run.phases:
        other = phase.seconds - phase.model_seconds
        figures = (phase.seconds, phase.model_seconds, max(0.0, other), phase.kept_seconds)
        cells = tuple(format_number(figure, 2) for figure in figures)
        rows.append(
            (printable_line(phase.system), printable_line(phase.name), *cells, "yes" if phase.from_cache else "no")
        )
    columns = (
        Column("system", False), Column("phase", False), Column("seconds"), Column("of them in models"),
        Column("the rest"), Column("calls kept from before, seconds then"), Column("all kept from before", False),
    )  # fmt: skip
    return Section("Time", overhead(run), (), (Table("Wall time of each phase", columns, tuple(rows)),))


def overhead(run: BenchRun) -> tuple[str, ...]:
    """What everything but the models took, in words."""
    fresh = [phase for phase in run.phases if not phase.from_cache]
    whole, inside, kept = (
        sum(getattr(phase, name) for phase in fresh) for name in ("seconds", "model_seconds", "kept_seconds")
    )
    told = []
    taken = run.origin.get("seconds")
    if isinstance(taken, int | float):
        told.append(f"The run took {format_number(float(taken))} s of wall time.")
    if not fresh:
        told.append("All of it was kept from an earlier run, whose seconds the table shows.")
    elif whole > 0:
        calls = f" beside calls kept from before, which took {format_number(kept)} s then" if kept else ""
        told.append(
            f"The phases that were run took {format_number(whole)} s, {format_number(inside)} s of them in models{calls}: all else, the "
            f"harness's own overhead, is {100 * max(0.0, whole - inside) / (whole + kept):.2f} %."
        )
    return tuple(told)


def conflict(run: BenchRun) -> Section:
    """The benchmark of memory operations, as `eval.conflict` describes its result."""
    found = run.extra.get("conflict")
    systems = found.get("systems") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(systems, Mapping) or not systems:
        return Section("Conflicts")
    names = list(systems)
    titles: Mapping[str, Any] = found.get("titles") or {}
    kinds = list(dict.fromkeys(kind for name in names for kind in systems[name]["classes"]))
    rows = [
        (printable_line(titles.get(kind, kind)), *(_exact(systems[name]["classes"].get(kind)) for name in names))
        for kind in kinds
    ]
    rows.append(("all", *(_exact(systems[name]["overall"]) for name in names)))
    overall = {name: systems[name]["overall"] for name in names}
    failures = [key for key in overall[names[0]] if key not in ("n", "exact", "interval")]
    counts = [(printable_line(name), printable_line(overall[name]["n"]), *(printable_line(overall[name].get(key, MISSING)) for key in failures))
              for name in names]  # fmt: skip
    bars = []
    for name in names:
        interval = _share(overall[name])
        if interval:
            bars.append(
                Bar(printable_line(name), interval.value, format_interval(interval), interval.low, interval.high)
            )
    told = {key: printable_line(found.get(key, "")) for key in ("version", "hash", "seed")}
    about = (
        f"Short dialogues of this project's own (set {told['version']}, hash {told['hash']}, "
        f"seed {told['seed']}), and what should be remembered in the end. A dialogue is exact if every "
        "required fact is kept once and nothing else is."
    )
    notes = tuple(printable_line(note) for note in found.get("notes", ()))
    return Section(
        "Conflicts",
        (about, *notes),
        (BarChart("Exact final memories, all classes, with 95 % intervals", (("", tuple(bars)),), 100.0),),
        (
            Table("Exact final memories by class", (Column("class", False), *(Column(printable_line(name)) for name in names)),
                  tuple(rows)),
            Table("Dialogues with each failure", (Column("system", False), Column("n"),
                  *(Column(key.replace("_", " ")) for key in failures)), tuple(counts)),
        ),
    )  # fmt: skip


def conflict_line(run: BenchRun) -> str:
    """How many dialogues of the conflict benchmark each system got exactly right; empty where it was not run."""
    found = run.extra.get("conflict")
    systems = found.get("systems", {}) if isinstance(found, Mapping) else {}
    told = [
        f"{printable_line(name)} {one['overall']['exact']} of {one['overall']['n']}" for name, one in systems.items()
    ]
    return f"Conflicts, exact final memories: {', '.join(told)}." if told else ""


# ------------------------------------------------------------------------------------------------ parts


def _costs(run: BenchRun, name: str) -> list[StageCost]:
    order = ("extraction", "update", "generation")
    found = [cost for cost in run.costs if cost.system == name and cost.calls]
    return sorted(found, key=lambda cost: order.index(cost.stage) if cost.stage in order else len(order))


def _number(about: Mapping[str, Any], key: str) -> float:
    value = about.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _device(run: BenchRun) -> str:
    environment = run.origin.get("environment")
    told = environment.get("device") if isinstance(environment, Mapping) else None
    return printable_line(told or "not named")


def _highest(groups: Sequence[tuple[str, tuple[Bar, ...]]]) -> float:
    return max((bar.value for _, bars in groups for bar in bars), default=0.0)


def _share(counts: Mapping[str, Any] | None) -> Interval | None:
    if not counts or not counts["n"]:
        return None
    interval = wilson(counts["exact"], counts["n"])
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high)


def _exact(counts: Mapping[str, Any] | None) -> str:
    interval = _share(counts)
    return (
        MISSING
        if interval is None or counts is None
        else f"{counts['exact']} of {counts['n']} ({format_interval(interval)})"
    )
