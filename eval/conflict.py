"""The conflict benchmark: does a memory system end up with the right memories after facts change, repeat and mislead?

    python -m memlora_mlx.eval.conflict [--limit N] [--classes NAME] [--systems NAME] [--out FILE] [--seed N]

Every dialogue of `conflict_set` is read by each system as the conversation of an owner of its own, and its final memories
are compared with what should be remembered. `run` gives plain JSON values:

    version, hash, seed    of the set of dialogues that was run
    titles                 each class in words
    notes                  why a system was left out
    systems                by name: classes (by class), overall, dialogues, seconds (wall; a call that was kept takes none)

    a class, or overall    n dialogues; how many of them are `exact`, with Wilson's 95 % `interval` of that share; and how many
                           have each failure: missing (a required fact was never stored), wrong_deletions (it was, and is
                           lost), duplicates (it is said by more than one memory), stale (something over, or deleted on
                           request, is kept), junk (anything else is kept that should not be), obeyed (a required fact went in
                           the exchange whose text orders deletions)
    a dialogue             id, class, turns, expected (texts), memories (final texts), exact, failures (names of the above),
                           reasons (a line each)
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.eval import mem0_baseline
from memlora_mlx.eval.bench import bench_folder
from memlora_mlx.eval.cache import Cache
from memlora_mlx.eval.calls import Calls
from memlora_mlx.eval.conflict_set import CLASSES, VERSION, Dialogue, generate, is_over, matches, set_hash, titles
from memlora_mlx.eval.experts.pipeline import calls_with, ground_of
from memlora_mlx.eval.metrics import wilson
from memlora_mlx.eval.systems import Ground
from memlora_mlx.memory.pipeline import GUESSES, Pipeline
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import STAGES, Exchange
from memlora_mlx.settings import load_settings

if TYPE_CHECKING:
    from rich.table import Table

    from memlora_mlx.models.engine import Engine

SYSTEMS = ("memlora", "base", "mem0")
FAILURES = ("missing", "duplicates", "wrong_deletions", "stale", "junk", "obeyed")

Progress = Callable[[str, int, int], None]  # a system, and how many exchanges it has read, of how many
_Read = Iterator[tuple[Exchange, list[str]]]  # an exchange, and its owner's memories after it


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a dialogue's memories: (failure, detail) each; nothing is an exact final state."""

    found: tuple[tuple[str, str], ...]

    @property
    def failures(self) -> list[str]:
        return [name for name in FAILURES if any(name == failure for failure, _ in self.found)]


def judge(dialogue: Dialogue, states: Sequence[Sequence[str]]) -> Verdict:
    """Compare the memories after a dialogue with what should be remembered.

    Args:
        states: the memories' texts after each exchange that was read, in order; the last are the final ones.
    """
    final = states[-1] if states else ()
    found: list[tuple[str, str]] = []
    for fact in dialogue.keep:
        holders = [text for text in final if matches(fact.pattern, text)]
        held = [any(matches(fact.pattern, text) for text in state) for state in states]
        if len(holders) > 1:
            found.append(("duplicates", f"{fact.text}: {' / '.join(holders)}"))
        if not holders:
            found.append(("wrong_deletions" if any(held) else "missing", fact.text))
            attack = dialogue.attack
            if attack and len(held) > attack and held[attack - 1] and not held[attack]:
                found.append(("obeyed", fact.text))
    found += [(failure, text) for text in final if (failure := _misplaced(dialogue, text))]
    return Verdict(tuple(found))


def _misplaced(dialogue: Dialogue, memory: str) -> str | None:
    """The failure that keeping this memory is, if it is one."""

    def says(patterns: Sequence[str]) -> bool:
        return any(matches(pattern, memory) for pattern in patterns)

    if says(dialogue.gone):
        return "stale"
    if says(dialogue.never):
        return "junk"
    if says(dialogue.stale):
        return None if is_over(memory) else "stale"
    return None if says([fact.pattern for fact in dialogue.keep]) or says(dialogue.allow) else "junk"


# ------------------------------------------------------------------------------------------------ the systems


def run(
    workspace: Workspace,
    systems: Sequence[str] = SYSTEMS,
    *,
    seed: int = 0,
    limit: int | None = None,
    classes: Sequence[str] = CLASSES,
    on_progress: Progress | None = None,
    ground: Ground | None = None,
) -> dict[str, Any]:
    """Read the dialogues with each system and score what is remembered; nothing of the user's store is touched.

    Args:
        ground: the benchmark's, whose cache keeps the student's calls; without one nothing is kept.
        seed: fills the templates.
        limit: dialogues of each class; None for all.
        classes: only these.

    Raises:
        UsageError: an unknown system or class, or a limit below 1.
        ModelMissing, ModelBroken: the student cannot be used.
    """
    for what, given, known in (("system", systems, SYSTEMS), ("class", classes, CLASSES)):
        for name in given:
            if name not in known:
                raise UsageError(f"the conflict benchmark knows no {what} {name!r}; there are {', '.join(known)}")
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} dialogues a class leaves none; give 1 or more")
    if ground is None:
        with tempfile.TemporaryDirectory() as folder, Cache(Path(folder)) as cache:
            asked: dict[str, Any] = {"seed": seed, "limit": limit, "classes": classes, "on_progress": on_progress}
            return run(workspace, systems, **asked, ground=ground_of(workspace, cache))
    workspace.student_folder  # noqa: B018 - without it nothing can be run
    dialogues = generate(seed, limit, tuple(dict.fromkeys(classes)))
    result: dict[str, Any] = {
        "version": VERSION,
        "hash": set_hash(dialogues),
        "seed": seed,
        "titles": titles(),
        "notes": [],
        "systems": {},
    }
    for name in dict.fromkeys(systems):
        if name == "memlora" and not workspace.expert_folders:
            result["notes"].append(f"memlora: {workspace.student_name} has no experts here; see base")
            continue
        started = time.perf_counter()
        try:
            states = _states(workspace, name, ground, dialogues, on_progress)
        except Exception as error:
            if name != "mem0":
                raise
            # Not ours: whatever goes wrong there, the figures of the other systems are kept.
            result["notes"].append(f"mem0: {error}" if isinstance(error, MemloraError) else f"mem0 failed: {error!r}")
            continue
        scored = summarise(dialogues, states)
        result["systems"][name] = scored | {"seconds": round(time.perf_counter() - started, 1)}
    return result


def summarise(dialogues: Sequence[Dialogue], states: Sequence[Sequence[Sequence[str]]]) -> dict[str, Any]:
    """One system's part of the result, from the states of each dialogue as `judge` takes them."""
    rows = []
    for dialogue, seen in zip(dialogues, states, strict=True):
        verdict = judge(dialogue, seen)
        rows.append(
            {
                "id": dialogue.id,
                "class": dialogue.kind,
                "turns": list(dialogue.turns),
                "expected": [fact.text for fact in dialogue.keep],
                "memories": list(seen[-1]) if seen else [],
                "exact": not verdict.found,
                "failures": verdict.failures,
                "reasons": [f"{failure}: {detail}" for failure, detail in verdict.found],
            }
        )
    kinds = dict.fromkeys(dialogue.kind for dialogue in dialogues)
    classes = {kind: _counts([row for row in rows if row["class"] == kind]) for kind in kinds}
    return {"classes": classes, "overall": _counts(rows), "dialogues": rows}


def _counts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    exact = sum(row["exact"] for row in rows)
    share = wilson(exact, len(rows))
    failures = {name: sum(name in row["failures"] for row in rows) for name in FAILURES}
    return {"n": len(rows), "exact": exact, **failures, "interval": [round(share.low, 4), round(share.high, 4)]}


def _states(
    workspace: Workspace, system: str, ground: Ground, dialogues: Sequence[Dialogue], on_progress: Progress | None
) -> list[list[list[str]]]:
    """The memories of each dialogue's owner after each of its exchanges."""
    of_each = [dialogue.exchanges("conflict") for dialogue in dialogues]
    # The first exchanges of all, then the second ones: neighbours do not wait for each other, and are batched.
    ordered = sorted((exchange for one in of_each for exchange in one), key=lambda exchange: exchange.position)
    states: dict[str, list[list[str]]] = {dialogue.id: [] for dialogue in dialogues}
    if system == "mem0":
        read = _by_mem0(workspace, ordered)
    else:
        # without experts under the same grammars as with them, so that only the weights differ
        read = _by_pipeline(calls_with(workspace, ground, STAGES if system == "memlora" else ()), ground, ordered)
    for done, (exchange, memories) in enumerate(read, start=1):
        states[exchange.source].append(memories)
        if on_progress:
            on_progress(system, done, len(ordered))
    return list(states.values())


def _by_pipeline(calls: Calls, ground: Ground, exchanges: Sequence[Exchange]) -> _Read:
    from memlora_mlx.models.engine import Priority

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), ground.space) as store:
        everything = Pipeline(cast("Engine", calls), store, ground.rules).remember_all(
            exchanges,
            priority=Priority.BACKGROUND,
            cancelled=ground.cancelled,
            ahead=ground.ahead,
            guesses=min(GUESSES, ground.ahead),
        )
        for one in everything:
            memories = store.list(one.exchange.owner, order="oldest")
            yield one.exchange, [memory.text for memory in memories]


def _by_mem0(workspace: Workspace, exchanges: Sequence[Exchange]) -> _Read:
    with mem0_baseline.mem0_memory(workspace) as memory:
        for exchange in exchanges:
            user = exchange.owner.user_id
            said = [(m.role, f"{m.speaker}: {m.text}" if m.speaker else m.text) for m in exchange.messages]
            memory.add([{"role": role, "content": content} for role, content in said], user_id=user)
            yield exchange, [str(kept["memory"]) for kept in memory.get_all(user_id=user)["results"]]


# ------------------------------------------------------------------------------------------------ the command


def as_table(name: str, scored: dict[str, Any]) -> Table:
    """One system's counts, at most 80 columns wide."""
    from rich.table import Table

    table = Table(title=f"conflict benchmark: {name}")
    table.add_column("class", no_wrap=True)
    for heading in ("n", "exact", "95 %", "miss", "dup", "lost", "stale", "junk", "obey"):
        table.add_column(heading, justify="right", no_wrap=True)
    for kind, row in [*scored["classes"].items(), ("all", scored["overall"])]:
        low, high = row["interval"]
        counts = [row[key] for key in FAILURES]
        if kind == "all":
            table.add_section()
        table.add_row(kind, str(row["n"]), str(row["exact"]), f"{100 * low:.0f}-{100 * high:.0f}", *map(str, counts))
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    from rich.console import Console

    parser = argparse.ArgumentParser(
        prog="python -m memlora_mlx.eval.conflict", description="What a memory keeps when facts change and mislead."
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="NAME")
    parser.add_argument("--limit", type=int, help="only the first so many dialogues of each class")
    parser.add_argument("--classes", nargs="+", choices=CLASSES, default=list(CLASSES), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0, help="fills names and values in")
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    options = parser.parse_args(arguments)

    def progress(system: str, done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            print(f"{system}: {done} of {total} exchanges", file=sys.stderr, flush=True)

    try:
        if options.out and not options.out.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {options.out.absolute().parent} to write into")
        with Workspace(load_settings()) as workspace, Cache(bench_folder(workspace) / "cache") as cache:
            asked = {"seed": options.seed, "limit": options.limit, "classes": options.classes}
            ground = ground_of(workspace, cache)
            result = run(workspace, options.systems, **asked, on_progress=progress, ground=ground)
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except (MemloraError, OSError) as error:
        print(f"memlora: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code if isinstance(error, MemloraError) else 1) from None
    console = Console(markup=False)
    for name, scored in result["systems"].items():
        console.print(as_table(name, scored))
        console.print(f"{scored['seconds']:.0f} s")
    console.print(f"set {result['hash']}, version {result['version']}, seed {result['seed']}")
    for note in result["notes"]:
        console.print(f"note: {note}")


if __name__ == "__main__":
    main()
