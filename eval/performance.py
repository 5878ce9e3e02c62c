"""`make bench`: what this machine does, in one table.

Every figure is measured in this run, after a warm-up; ratios compare things timed side by side. Writes
`docs/benchmark.json` and `docs/benchmark.md`, with the machine and the versions.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memlora_mlx.conversations import exchanges, read_conversations
from memlora_mlx.memory import stages
from memlora_mlx.memory.changes import Add, Change, Space
from memlora_mlx.memory.pipeline import Pipeline, Remembered, Rules
from memlora_mlx.memory.store import Store
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange, Request, Scope, Stage
from memlora_mlx.settings import load_settings

if TYPE_CHECKING:
    from memlora_mlx.models.experts import Expert
    from memlora_mlx.models.measure import Timing

STAGES: tuple[Stage, ...] = ("extraction", "update", "generation")
LOCOMO = Path("../shared/data/locomo-dev.json")  # beside the project where there is one; its text is never copied
LOOKUP = 8
SIZES: dict[int, float | None] = {
    1_000: None,
    10_000: None,
    100_000: 5.0,
}  # memories, and milliseconds a search may take
# Update prompts of our own, of the kinds that happen: a fact that is new, one that changes, one that ends.
UPDATES: tuple[tuple[list[str], list[str]], ...] = (
    (
        [
            "Maya lives in a small flat near the river in Lisbon",
            "Maya drinks two espressos every morning before work",
            "Maya is allergic to peanuts",
            "Maya runs along the river three times a week",
        ],
        ["Maya stopped drinking coffee and switched to mint tea"],
    ),
    (
        [
            "Tom booked a trip to Norway in June to see the fjords",
            "Tom is repairing an old sailing boat called Gaivota",
            "Tom only drinks green tea because coffee keeps him awake",
        ],
        ["Tom's trip to Norway is cancelled", "Tom will sail to Madeira in August with his uncle"],
    ),
    (
        ["Anna is a nurse in Porto", "Anna drinks six coffees on a night shift", "Anna wants to see the ocean"],
        ["Anna saw the ocean at sunrise in Cascais", "Anna works night shifts"],
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure."""

    group: str
    what: str
    value: float
    unit: str
    p95: float | None = None
    runs: int = 1
    target: str = ""
    met: bool | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for benchmark.json and benchmark.md")
    parser.add_argument(
        "--million", action="store_true", help="search over 1,000,000 memories too: 5 minutes, 6 GB of disk"
    )
    parser.add_argument("--only", help="only the groups whose names begin so")
    options = parser.parse_args()
    rows: list[Row] = []
    if options.million:
        SIZES[1_000_000] = 20.0
    with Workspace(load_settings()) as workspace:
        for measure in (start_up, loading, switching, decoding, asking, updating, pipeline, ingesting, searching):
            if options.only and not measure.__name__.startswith(options.only):
                continue
            for row in measure(workspace):
                rows.append(row)
                print(_line(row), file=sys.stderr)
        machine = describe(workspace)
    if options.only:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine, "rows": [asdict(row) for row in rows]}
    (options.out / "benchmark.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (options.out / "benchmark.md").write_text(markdown(machine, rows), encoding="utf-8")


def describe(workspace: Workspace) -> dict[str, str]:
    """Machine, versions and models: what a figure means nothing without."""
    from memlora_mlx.models import device

    names = ("mlx", "mlx-lm", "llguidance", "usearch", "tokenizers", "numpy")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "device": device.describe(),
        "blas": device.blas_status(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("memlora-mlx", *names)),
        "student": f"{workspace.student_name} ({workspace.engine.student.fingerprint})",
        "embedder": str(workspace.space),
    }


# ------------------------------------------------------------------------------------------------ groups


def start_up(workspace: Workspace) -> Iterator[Row]:
    """The command line before it does anything."""
    from memlora_mlx.models.measure import Timing

    def run() -> None:
        subprocess.run([sys.executable, "-m", "memlora_mlx", "--help"], check=True, capture_output=True)

    yield _timed("start-up", "memlora --help", Timing.of(run, runs=10), "s", target=0.4)


def loading(workspace: Workspace) -> Iterator[Row]:
    """A student from the disk's cache into memory."""
    from memlora_mlx.models.measure import Timing, load_seconds

    folder = workspace.student_folder
    taken = workspace.engine.call(lambda: [load_seconds(folder) for _ in range(4)])
    yield _timed("loading", "student, files in the system's cache", Timing.from_seconds(taken[1:]), "s")


def switching(workspace: Workspace) -> Iterator[Row]:
    """Three experts of random weights on one base: switch time, and what they hold."""
    from memlora_mlx.models.experts import ExpertTable
    from memlora_mlx.models.measure import reload_seconds, switch_seconds

    engine, student = workspace.engine, workspace.engine.student
    base = student.nbytes
    yield Row("experts", "base weights", base / 1e6, "MB")
    with tempfile.TemporaryDirectory() as folder:
        found = _random_experts(workspace, Path(folder))
        for mode in ("swap", "fused"):
            table = engine.call(lambda mode=mode: ExpertTable(student.model, found, mode))  # type: ignore[misc]
            timing = engine.call(lambda table=table: switch_seconds(table, STAGES))  # type: ignore[misc]
            yield _timed("experts", f"switch, {mode}", timing, "ms", target=0.1)
            total = (base + table.nbytes()) / base
            limit = 1.05 if mode == "swap" else None
            yield Row(
                "experts",
                f"base with all experts, {mode}, over base",
                total,
                "x",
                target=f"<= {limit}" if limit else "",
                met=total <= limit if limit else None,
            )
            engine.call(lambda table=table: table.use(None))  # type: ignore[misc]
        reload = engine.call(lambda: reload_seconds(workspace.student_folder, found["update"].folder))
        yield Row("experts", "the same by mlx-lm: load(adapter_path=...)", reload * 1e3, "ms")


def decoding(workspace: Workspace) -> Iterator[Row]:
    """Plain decode steps with an expert in place over the bare base, timed in turn."""
    from memlora_mlx.models.experts import ExpertTable
    from memlora_mlx.models.measure import bandwidth, decode_step_seconds

    engine, student = workspace.engine, workspace.engine.student
    with tempfile.TemporaryDirectory() as folder:
        found = _random_experts(workspace, Path(folder))
        tables = {mode: engine.call(lambda m=mode: ExpertTable(student.model, found, m)) for mode in ("swap", "fused")}  # type: ignore[misc]
        prompt = student.encode(stages.answer_chat("Where does Ann live?", [stages.Recalled("tea " * 60, None, None)]))
        cases: dict[str, tuple[str, Stage | None]] = {
            "base": ("swap", None),
            "swap, q and v": ("swap", "update"),
            "swap, all linear layers": ("swap", "generation"),
            "fused, all linear layers": ("fused", "generation"),
        }

        def step(mode: str, stage: Stage | None) -> float:
            tables[mode].use(stage)
            try:
                return decode_step_seconds(student, prompt, tokens=24)
            finally:
                tables[mode].use(None)

        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for turn in range(9):  # in turn, so that a drift of the machine meets all of them
            for name, (mode, stage) in cases.items():
                one = engine.call(lambda mode=mode, stage=stage: step(mode, stage))  # type: ignore[misc]
                if turn:
                    seconds[name].append(one)
    roof = engine.call(lambda: bandwidth(student.nbytes))
    reached = student.nbytes / statistics.median(seconds["base"])
    yield Row("decoding", "memory bandwidth, a matrix of the base's size times a vector", roof / 1e9, "GB/s", runs=7)
    yield Row("decoding", "base: weights read a second over that bandwidth", reached / roof, "x", runs=8)
    for name, taken in seconds.items():
        yield Row("decoding", f"{name}: tokens a second", 1 / statistics.median(taken), "/s", runs=len(taken))
    for name in list(cases)[1:]:
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds["base"], strict=True))
        fused = name.startswith("fused")
        yield Row(
            "decoding",
            f"{name}: step over base",
            ratio,
            "x",
            runs=len(seconds[name]),
            target="<= 1.03" if fused else "",
            met=ratio <= 1.03 if fused else None,
        )


def pipeline(workspace: Workspace) -> Iterator[Row]:
    """Exchanges remembered one after the other: seconds and tokens of each stage."""
    said, source = _exchanges(30)
    results = _remember(workspace, said)
    calls = [cost for result in results for cost in result.costs]
    for stage, paper in (("extraction", (102.94, "21 to 47")), ("update", (172.56, "55 to 132"))):
        costs = [cost for cost in calls if cost.stage == stage]
        if not costs:
            continue
        count = len(costs)
        yield Row("pipeline", f"{stage}, {source}", statistics.mean(c.seconds for c in costs), "s/call", runs=count)
        yield Row(
            "pipeline",
            f"{stage}: input tokens (the paper's MemLoRA prompt: {paper[0]})",
            statistics.mean(c.prompt_tokens for c in costs),
            "tokens",
            runs=count,
        )
        yield Row(
            "pipeline",
            f"{stage}: output tokens (the paper's small students: {paper[1]})",
            statistics.mean(c.output_tokens for c in costs),
            "tokens",
            runs=count,
        )
    grounded = workspace.grounded_stages
    if grounded:
        yield Row("pipeline", f"stages without an expert, grounded: {', '.join(grounded)}", len(grounded), "")


def asking(workspace: Workspace) -> Iterator[Row]:
    """A question over memories, and a follow-up over the same ones: what they share is not read again."""
    engine = workspace.engine
    said = [stages.Recalled(text, None, None) for text in (*UPDATES[0][0], *UPDATES[1][0], *UPDATES[2][0])]
    first: list[float] = []
    second: list[float] = []
    for turn in range(5):
        # Each turn has memories of its own, so that a first question finds nothing known of them.
        memories = [stages.Recalled(f"On day {turn} {memory.text}", None, None) for memory in said]
        for question, taken in (("Where does Maya live?", first), ("What does Tom drink?", second)):
            chat = stages.answer_chat(question, memories)
            start = time.perf_counter()
            next(iter(engine.stream(Request("generation", chat, max_tokens=1))), "")
            taken.append(time.perf_counter() - start)
    yield Row("asking", f"first word, {len(said)} memories", statistics.median(first[1:]), "s", runs=4)
    yield Row("asking", "first word of a follow-up over the same memories", statistics.median(second[1:]), "s", runs=4)


def updating(workspace: Workspace) -> Iterator[Row]:
    """One update answer at batch 1: what forced tokens and prompt look-up save; the text is the same."""
    from memlora_mlx.models.measure import answer_seconds

    engine, student = workspace.engine, workspace.engine.student
    ways = {
        "plain": {"lookup": 0, "force": False},
        "forced tokens": {"lookup": 0, "force": True},
        "look-up": {"lookup": LOOKUP, "force": False},
        "forced tokens and look-up": {"lookup": LOOKUP, "force": True},
    }
    table = engine.experts
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    plain_seconds: list[float] = []
    for old, facts in UPDATES:
        chat, grammar = stages.update_chat(old, facts), stages.update_grammar(old, facts, copied=workspace.rules.copied)
        for turn in range(3):
            seconds: dict[str, float] = {}
            texts: dict[str, list[int]] = {}
            for name, way in ways.items():
                seconds[name], row = engine.call(
                    lambda chat=chat, grammar=grammar, way=way: answer_seconds(  # type: ignore[misc]
                        student, table, chat, grammar, stage="update", max_tokens=stages.UPDATE_TOKENS, **way
                    )
                )
                texts[name] = row.tokens
            if any(tokens != texts["plain"] for tokens in texts.values()):
                raise AssertionError("a shortcut changed the output")
            if turn:
                plain_seconds.append(seconds["plain"])
                for name in ways:
                    ratios[name].append(seconds["plain"] / seconds[name])
    yield Row("update", "plain guided decoding, one token at a time", statistics.median(plain_seconds), "s/call")
    for name in list(ways)[1:]:
        ratio, last = statistics.median(ratios[name]), name == list(ways)[-1]
        yield Row(
            "update",
            f"{name}: times as fast as plain, prompt included",
            ratio,
            "x",
            runs=len(ratios[name]),
            target=">= 2.5" if last else "",
            met=ratio >= 2.5 if last else None,
        )


def ingesting(workspace: Workspace) -> Iterator[Row]:
    """Whole exchanges a second: one call at a time, as `memlora ingest` does it, and by mem0 on the same student."""
    from memlora_mlx.eval import mem0_baseline
    from memlora_mlx.eval.experts import using

    said, source = _exchanges(24)
    own_rate = 0.0
    for name, experts in (("with the experts", workspace.expert_folders), ("base alone, free facts", {})):
        with using(workspace, experts) as opened:
            rules = replace(opened.rules, grounded=frozenset())
            plain, first = _plain_seconds(opened, said, rules)
            fast, second, peak = _ingest_seconds(opened, said, rules)
        if second != first:
            yield Row("ingest", f"{name}: DIFFERENT memories from plain decoding", 1, "", met=False)
        rate = len(said) / fast
        yield Row("ingest", f"{name}, {source}: exchanges a second", rate, "/s", runs=len(said))
        yield Row(
            "ingest", f"{name}: plain guided decoding, one call at a time", len(said) / plain, "/s", runs=len(said)
        )
        ratio = plain / fast
        yield Row("ingest", f"{name}: times the rate of plain", ratio, "x", target=">= 6", met=ratio >= 6)
        if not own_rate:
            yield Row("ingest", "resident memory at its highest, over that at the start", peak, "x")
            own_rate = rate
    if mem0_baseline.is_installed():
        with mem0_baseline.mem0_memory(workspace) as memory:
            taken, stored = mem0_baseline.add_seconds(memory, said[:7])
        theirs = 1 / statistics.mean(taken[1:])
        yield Row("ingest", f"mem0ai {version('mem0ai')}, same student, {stored} memories stored", theirs, "/s", runs=6)
        ratio = own_rate / theirs
        yield Row("ingest", "times the rate of mem0ai", ratio, "x", target=">= 10", met=ratio >= 10)


def searching(workspace: Workspace) -> Iterator[Row]:
    """Store.search with SQL and records, over clustered vectors, one said a minute; and how fast memories go in.

    Of a million, the last 100,000 belong to ten other owners.
    """
    from memlora_mlx.models.measure import Timing

    dim = workspace.space.dim
    ann = Scope(user_id="ann")
    began, minute = datetime(2020, 1, 1), timedelta(minutes=1)
    for size, target in SIZES.items():
        others = 100_000 if size >= 1_000_000 else 0
        kinds: dict[str, dict[str, Any]] = {"": {"scope": ann}}
        if others:
            percent = {
                "said_after": began + 30 * size // 100 * minute,
                "said_before": began + 31 * size // 100 * minute,
            }
            kinds = {
                ", all owners": {},
                f", the owner of {size - others:,}": {"scope": ann},
                ", an owner of 10,000": {"scope": Scope(user_id="other 3")},
                ", all owners, half of the time": {"said_after": began + size // 2 * minute},
                ", all owners, 1 % of the time": percent,
            }
        vectors = clustered(size + 200, dim)
        memories, queries = vectors[:size], vectors[size:]
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder), Space("bench", dim)) as store:
            start = time.perf_counter()
            for first in range(0, size, 1000):
                owner = ann if first < size - others else Scope(user_id=f"other {(size - 1 - first) // 10_000}")
                rows = range(first, first + 1000)
                store.commit(owner, [Add(f"memory {row}", memories[row], began + row * minute) for row in rows])
            stored = time.perf_counter()
            store.search(queries[0], 10)
            built = time.perf_counter()
            for kind, asked in kinds.items():
                searches = map(partial(store.search, limit=10, **asked), itertools.cycle(queries))
                timing = Timing.of(searches.__next__, runs=300, warm_up=20)
                yield _timed("search", f"top 10 of {size:,}{kind}", timing, "ms", target=target)
            if others:
                hits = 0
                for query in queries:
                    nearest = np.argpartition(memories @ -query, 10)[:10].tolist()
                    found = [hit.memory.text for hit in store.search(query, 10)]
                    hits += len({f"memory {row}" for row in nearest}.intersection(found))
                recall = hits / 10 / len(queries)
                yield Row("search", f"recall@10 of {size:,}", recall, "", target=">= 0.97", met=recall >= 0.97)
        yield Row("search", f"stored, {size:,}", size / (stored - start), "/s")
        yield Row("search", f"index built before the first search, {size:,}", size / (built - stored), "/s")


# ------------------------------------------------------------------------------------------------ parts


def clustered(size: int, dim: int, *, clusters: int = 200, spread: float = 0.35, seed: int = 0) -> np.ndarray:
    """Unit vectors in clusters, as sentences are: float32, (size, dim)."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((clusters, dim)).astype(np.float32)
    rows = centres[random.integers(0, clusters, size)]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows + spread / np.sqrt(dim) * 3 * random.standard_normal((size, dim)).astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32)


def _exchanges(count: int) -> tuple[list[Exchange], str]:
    """LoCoMo's validation conversation where it is at hand, else the demo's."""
    if LOCOMO.is_file():
        conversation = next(c for c in read_conversations(LOCOMO) if c.name == "conv-26")
        return exchanges(conversation, user="me")[:count], f"first {count} exchanges of LoCoMo conv-26"
    [conversation] = read_conversations(Path(str(files("memlora_mlx"))) / "data" / "demo.txt")
    return exchanges(conversation, user="me")[:count], f"first {count} exchanges of the demo"


def _remember(workspace: Workspace, said: list[Exchange]) -> list[Remembered]:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), workspace.space) as store:
        pipeline = Pipeline(workspace.engine, store, workspace.rules)
        pipeline.remember(said[0])  # warm-up
        return [pipeline.remember(exchange) for exchange in said[1:]]


def _ingest_seconds(workspace: Workspace, said: list[Exchange], rules: Rules) -> tuple[float, list[str], float]:
    """`memlora ingest`'s own way: seconds, the memories in order, and the growth of resident memory."""
    from memlora_mlx.models.engine import Priority

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), workspace.space) as store:
        pipeline = Pipeline(workspace.engine, store, rules)
        list(pipeline.remember_all(said[:4], priority=Priority.BACKGROUND))  # warm-up, and not in this store's measure
        store.reset()
        start, resident = time.perf_counter(), [_resident()]
        for _ in pipeline.remember_all(said, priority=Priority.BACKGROUND):
            resident.append(_resident())
        seconds = time.perf_counter() - start
        memories = [memory.text for memory in store.list(order="stored")]
        return seconds, memories, max(resident) / resident[0]


def _plain_seconds(workspace: Workspace, said: list[Exchange], rules: Rules) -> tuple[float, list[str]]:
    """The same pipeline, but every call alone, token by token, with nothing known of its prompt."""
    from memlora_mlx.models.measure import answer_seconds

    engine, student = workspace.engine, workspace.engine.student
    table = engine.experts
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), workspace.space) as store:
        pipeline = Pipeline(engine, store, rules)

        def ask(request: Request) -> str:
            _, row = engine.call(
                lambda: answer_seconds(
                    student,
                    table,
                    request.chat,
                    request.grammar,
                    stage=request.stage,
                    max_tokens=request.max_tokens,
                    lookup=0,
                    force=False,
                )
            )
            return student.decode(row.tokens)

        ask(pipeline.extraction(said[0])[0])  # warm-up
        start = time.perf_counter()
        for exchange in said:
            related = pipeline.related(exchange.owner, stages.parse_facts(ask(pipeline.extraction(exchange)[0])))
            changes: list[Change] = []
            if related.facts:
                request, _, related = pipeline.update(related)
                decisions = stages.parse_update(ask(request), [memory.text for memory in related.memories])
                changes = pipeline.changes(exchange, related, decisions)
            store.commit(exchange.owner, changes, exchange=exchange)
        return time.perf_counter() - start, [memory.text for memory in store.list(order="stored")]


def _resident() -> int:
    """Bytes of this process in memory now; on macOS the highest so far."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _random_experts(workspace: Workspace, folder: Path) -> dict[Stage, Expert]:
    from memlora_mlx.models.experts import ADAPTED, random_matrices, read_experts, write_expert

    student = workspace.engine.student

    def write() -> dict[Stage, Expert]:
        for seed, stage in enumerate(STAGES):
            write_expert(folder / stage, random_matrices(student.model, ADAPTED[stage], seed=seed), scale=2.0)
        return read_experts(folder, student.fingerprint)

    return workspace.engine.call(write)


def _timed(group: str, what: str, timing: Timing, unit: str, *, target: float | None = None) -> Row:
    factor = 1e3 if unit == "ms" else 1.0
    value = timing.p50 * factor
    return Row(
        group,
        what,
        value,
        unit,
        p95=timing.p95 * factor,
        runs=timing.runs,
        target=f"< {target:g} {unit}" if target else "",
        met=value < target if target else None,
    )


def markdown(machine: dict[str, str], rows: list[Row]) -> str:
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
        p95 = _number(row.p95) if row.p95 is not None else ""
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        lines.append(f"| {row.what} | {_number(row.value)} {row.unit} | {p95} | {row.runs} | {row.target} | {met} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _line(row: Row) -> str:
    p95 = f" (p95 {_number(row.p95)})" if row.p95 is not None else ""
    verdict = {True: "  met", False: "  NOT MET", None: ""}[row.met]
    return f"{row.group:<10} {row.what:<66} {_number(row.value):>9} {row.unit}{p95}{verdict}"


if __name__ == "__main__":
    main()
