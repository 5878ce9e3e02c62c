"""The conflict benchmark: does a memory system end up with the right memories after facts change, repeat and mislead?

Every dialogue of `templates` is read by each system as the conversation of an owner of its own, and its final memories
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

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.eval.conflict.templates import (
    CLASSES,
    VERSION,
    Dialogue,
    generate,
    is_negated,
    matches,
    set_hash,
    titles,
)
from memlora_mlx.eval.metrics.intervals import wilson
from memlora_mlx.eval.systems import mem0_server
from memlora_mlx.eval.systems.cache import Cache
from memlora_mlx.eval.systems.cached_engine import CachedEngine
from memlora_mlx.eval.systems.students import engine_with_experts, run_context
from memlora_mlx.eval.systems.system import RunContext
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.scheduling import SPECULATIVE_UPDATES
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import STAGES, Exchange, Priority

SYSTEMS = ("memlora", "base", "mem0")
FAILURES = ("missing", "duplicates", "wrong_deletions", "stale", "junk", "obeyed")

OnProgress = Callable[[str, int, int], None]  # a system, and how many exchanges it has read, of how many
_Read = Iterator[tuple[Exchange, list[str]]]  # an exchange, and its owner's memories after it


@dataclass(frozen=True, slots=True)
class DialogueResult:
    """What is wrong with a dialogue's memories: (failure, detail) each; nothing is an exact final state."""

    failures_found: tuple[tuple[str, str], ...]

    @property
    def failures(self) -> list[str]:
        return [name for name in FAILURES if any(name == failure for failure, _ in self.failures_found)]


def judge_dialogue(dialogue: Dialogue, states: Sequence[Sequence[str]]) -> DialogueResult:
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
    return DialogueResult(tuple(found))


def _misplaced(dialogue: Dialogue, memory: str) -> str | None:
    """The failure that keeping this memory is, if it is one."""

    def says(patterns: Sequence[str]) -> bool:
        return any(matches(pattern, memory) for pattern in patterns)

    if says(dialogue.gone):
        return "stale"
    if says(dialogue.never):
        return "junk"
    if says(dialogue.stale):
        return None if is_negated(memory) else "stale"
    return None if says([fact.pattern for fact in dialogue.keep]) or says(dialogue.allow) else "junk"


# ------------------------------------------------------------------------------------------------ the systems


def run(
    workspace: Workspace,
    systems: Sequence[str] = SYSTEMS,
    *,
    seed: int = 0,
    limit: int | None = None,
    classes: Sequence[str] = CLASSES,
    on_progress: OnProgress | None = None,
    context: RunContext | None = None,
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
    if context is None:
        with tempfile.TemporaryDirectory() as folder, Cache(Path(folder)) as cache:
            asked: dict[str, Any] = {"seed": seed, "limit": limit, "classes": classes, "on_progress": on_progress}
            return run(workspace, systems, **asked, context=run_context(workspace, cache))
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
            states = _states(workspace, name, context, dialogues, on_progress)
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
        verdict = judge_dialogue(dialogue, seen)
        rows.append(
            {
                "id": dialogue.id,
                "class": dialogue.kind,
                "turns": list(dialogue.turns),
                "expected": [fact.text for fact in dialogue.keep],
                "memories": list(seen[-1]) if seen else [],
                "exact": not verdict.failures_found,
                "failures": verdict.failures,
                "reasons": [f"{failure}: {detail}" for failure, detail in verdict.failures_found],
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
    workspace: Workspace,
    system: str,
    context: RunContext,
    dialogues: Sequence[Dialogue],
    on_progress: OnProgress | None,
) -> list[list[list[str]]]:
    """The memories of each dialogue's owner after each of its exchanges."""
    of_each = [dialogue.exchanges("conflict") for dialogue in dialogues]
    # The first exchanges of all, then the second ones: neighbours do not wait for each other, and are batched.
    ordered = sorted((exchange for one in of_each for exchange in one), key=lambda exchange: exchange.position)
    states: dict[str, list[list[str]]] = {dialogue.id: [] for dialogue in dialogues}
    if system == "mem0":
        read = _run_mem0(workspace, ordered)
    else:
        # without experts under the same grammars as with them, so that only the weights differ
        read = _run_memlora(
            engine_with_experts(workspace, context, STAGES if system == "memlora" else ()), context, ordered
        )
    for done, (exchange, memories) in enumerate(read, start=1):
        states[exchange.source].append(memories)
        if on_progress:
            on_progress(system, done, len(ordered))
    return list(states.values())


def _run_memlora(calls: CachedEngine, context: RunContext, exchanges: Sequence[Exchange]) -> _Read:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder), context.space) as store:
        everything = Pipeline(calls, store, context.rules).remember_all(
            exchanges,
            priority=Priority.BACKGROUND,
            cancelled=context.cancelled,
            max_in_flight=context.ahead,
            speculative_updates=min(SPECULATIVE_UPDATES, context.ahead),
        )
        for one in everything:
            memories = store.list(one.exchange.owner, order="oldest")
            yield one.exchange, [memory.text for memory in memories]


def _run_mem0(workspace: Workspace, exchanges: Sequence[Exchange]) -> _Read:
    with mem0_server.mem0_memory(workspace) as memory:
        for exchange in exchanges:
            user = exchange.owner.user_id
            said = [(m.role, f"{m.speaker}: {m.text}" if m.speaker else m.text) for m in exchange.messages]
            memory.add([{"role": role, "content": content} for role, content in said], user_id=user)
            yield exchange, [str(kept["memory"]) for kept in memory.get_all(user_id=user)["results"]]
