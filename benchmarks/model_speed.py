"""The student by itself: start, load, switch, decode, answer, update."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measurements import Measurement, measurement_of
from benchmarks.workloads import STAGES, UPDATES, random_experts
from memlora_mlx.memory import stages
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Request, Stage

LOOKUP = 8


def start_up(workspace: Workspace) -> Iterator[Measurement]:
    """The command line before it does anything."""
    from benchmarks.model_timings import Timing

    def run() -> None:
        subprocess.run([sys.executable, "-m", "memlora_mlx", "--help"], check=True, capture_output=True)

    yield measurement_of("start-up", "memlora --help", Timing.of(run, runs=10), "s", target=0.4)


def loading(workspace: Workspace) -> Iterator[Measurement]:
    """A student from the disk's cache into memory."""
    from benchmarks.model_timings import Timing, load_seconds

    folder = workspace.student_folder
    taken = workspace.engine.call(lambda: [load_seconds(folder) for _ in range(4)])
    yield measurement_of("loading", "student, files in the system's cache", Timing.from_seconds(taken[1:]), "s")


def switching(workspace: Workspace) -> Iterator[Measurement]:
    """Three experts of random weights on one base: switch time, and what they hold."""
    from benchmarks.model_timings import reload_seconds, switch_seconds
    from memlora_mlx.models.experts import ExpertTable

    engine, student = workspace.engine, workspace.engine.student
    base = student.nbytes
    yield Measurement("experts", "base weights", base / 1e6, "MB")
    with tempfile.TemporaryDirectory() as folder:
        found = random_experts(workspace, Path(folder))
        for mode in ("swap", "fused"):
            table = engine.call(lambda mode=mode: ExpertTable(student.model, found, mode))  # type: ignore[misc]
            timing = engine.call(lambda table=table: switch_seconds(table, STAGES))  # type: ignore[misc]
            yield measurement_of("experts", f"switch, {mode}", timing, "ms", target=0.1)
            total = (base + table.nbytes()) / base
            limit = 1.05 if mode == "swap" else None
            yield Measurement(
                "experts",
                f"base with all experts, {mode}, over base",
                total,
                "x",
                target=f"<= {limit}" if limit else "",
                met=total <= limit if limit else None,
            )
            engine.call(lambda table=table: table.use(None))  # type: ignore[misc]
        reload = engine.call(lambda: reload_seconds(workspace.student_folder, found["update"].folder))
        yield Measurement("experts", "the same by mlx-lm: load(adapter_path=...)", reload * 1e3, "ms")


def decoding(workspace: Workspace) -> Iterator[Measurement]:
    """Plain decode steps with an expert in place over the bare base, timed in turn."""
    from benchmarks.model_timings import bandwidth, decode_step_seconds
    from memlora_mlx.models.experts import ExpertTable

    engine, student = workspace.engine, workspace.engine.student
    with tempfile.TemporaryDirectory() as folder:
        found = random_experts(workspace, Path(folder))
        tables = {mode: engine.call(lambda m=mode: ExpertTable(student.model, found, m)) for mode in ("swap", "fused")}  # type: ignore[misc]
        prompt = student.encode(
            stages.answer_chat("Where does Ann live?", [stages.PromptMemory("tea " * 60, None, None)])
        )
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
    yield Measurement(
        "decoding", "memory bandwidth, a matrix of the base's size times a vector", roof / 1e9, "GB/s", runs=7
    )
    yield Measurement("decoding", "base: weights read a second over that bandwidth", reached / roof, "x", runs=8)
    for name, taken in seconds.items():
        yield Measurement("decoding", f"{name}: tokens a second", 1 / statistics.median(taken), "/s", runs=len(taken))
    for name in list(cases)[1:]:
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds["base"], strict=True))
        fused = name.startswith("fused")
        yield Measurement(
            "decoding",
            f"{name}: step over base",
            ratio,
            "x",
            runs=len(seconds[name]),
            target="<= 1.03" if fused else "",
            met=ratio <= 1.03 if fused else None,
        )


def asking(workspace: Workspace) -> Iterator[Measurement]:
    """A question over memories, and a follow-up over the same ones: what they share is not read again."""
    engine = workspace.engine
    said = [stages.PromptMemory(text, None, None) for text in (*UPDATES[0][0], *UPDATES[1][0], *UPDATES[2][0])]
    first: list[float] = []
    second: list[float] = []
    for turn in range(5):
        # Each turn has memories of its own, so that a first question finds nothing known of them.
        memories = [stages.PromptMemory(f"On day {turn} {memory.text}", None, None) for memory in said]
        for question, taken in (("Where does Maya live?", first), ("What does Tom drink?", second)):
            chat = stages.answer_chat(question, memories)
            start = time.perf_counter()
            next(iter(engine.stream(Request("generation", chat, max_tokens=1))), "")
            taken.append(time.perf_counter() - start)
    yield Measurement("asking", f"first word, {len(said)} memories", statistics.median(first[1:]), "s", runs=4)
    yield Measurement(
        "asking", "first word of a follow-up over the same memories", statistics.median(second[1:]), "s", runs=4
    )


def updating(workspace: Workspace) -> Iterator[Measurement]:
    """One update answer at batch 1: what forced tokens and prompt look-up save; the text is the same."""
    from benchmarks.model_timings import answer_seconds

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
        chat, grammar = (
            stages.update_chat(old, facts),
            stages.update_grammar(old, facts, copy_constrained=workspace.pipeline_options.copy_constrained),
        )
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
    yield Measurement(
        "update", "plain guided decoding, one token at a time", statistics.median(plain_seconds), "s/call"
    )
    for name in list(ways)[1:]:
        ratio, last = statistics.median(ratios[name]), name == list(ways)[-1]
        yield Measurement(
            "update",
            f"{name}: times as fast as plain, prompt included",
            ratio,
            "x",
            runs=len(ratios[name]),
            target=">= 2.5" if last else "",
            met=ratio >= 2.5 if last else None,
        )
