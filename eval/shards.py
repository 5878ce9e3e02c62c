"""Runs as files: kept, read again, and the parts of one that was split over machines joined."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memlora_mlx.errors import UsageError
from memlora_mlx.eval.assembly import add_counts, finished
from memlora_mlx.eval.results import Run

# What may differ between the parts of one run.
_OWN = ("shard", "seconds", "model_seconds", "environment", "command", "judge")
_SUMS = ("conversations", "memories", "facts", "operations", "rejected", "duplicates", "cut", "errors")


def read_run(path: Path) -> Run:
    """A run from its results.json, or from the folder that holds one.

    Raises:
        UsageError: there is none, or it is damaged or of another version.
    """
    file = path / "results.json" if path.is_dir() else path
    try:
        return Run.from_json(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read the run {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{file} is no benchmark run of this version ({error!r}); run `memlora bench` again"
        ) from error


def write_run(run: Run, folder: Path) -> Path:
    """Write results.json into the folder, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    scratch = path.with_suffix(".partial")
    scratch.write_text(json.dumps(run.as_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
    return path


def shard_of(text: str) -> tuple[int, int]:
    """Raises UsageError: it is not like 1/4."""
    found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of:
        raise UsageError(f"a shard is written like 1/4, not {text!r}")
    return number, of


def merge(runs: Sequence[Run]) -> Run:
    """The run that these are the parts of.

    Raises:
        UsageError: they are not parts of one run, one stands twice, or there are none.
    """
    parts = [shard_of(run.origin.get("shard") or "1/1") for run in runs]
    if not runs:
        raise UsageError("name the parts to merge")
    if len(set(parts)) < len(parts):
        twice = next(part for part in parts if parts.count(part) > 1)
        raise UsageError(f"part {twice[0]}/{twice[1]} is given twice")
    common: dict[str, Any] = {}
    for run in runs:
        for name, value in run.origin.items():  # a part with nothing to do knows less of the run
            if name not in _OWN and common.setdefault(name, value) != value:
                mine, theirs = str(common[name])[:80], str(value)[:80]
                raise UsageError(f"these are not parts of one run: {name} is {mine} in one and {theirs} in another")
    of = parts[0][1]
    if any(other != of for _, other in parts):
        raise UsageError("these are not parts of one run: they were split differently")
    missing = [f"{number}/{of}" for number in range(1, of + 1) if (number, of) not in parts]
    ordered = [run for _, run in sorted(zip(parts, runs, strict=True), key=lambda pair: pair[0])]
    origin = {
        **ordered[0].origin,
        **common,
        "shard": None,
        "merged": of,
        "seconds": round(sum(run.origin["seconds"] for run in ordered), 3),
        "model_seconds": round(sum(run.origin["model_seconds"] for run in ordered), 3),
    }
    machines = {str(run.origin["environment"]): run.origin["environment"] for run in ordered}
    if len(machines) > 1:
        origin["environments"] = list(machines.values())
    if missing:
        origin["missing_shards"] = missing
    failures = list(dict.fromkeys(line for run in ordered for line in run.failures))
    failures += [f"part {part} is missing: what it was to measure is not in these figures" for part in missing]
    systems: dict[str, dict[str, Any]] = {}
    for run in ordered:
        for name, told in run.systems.items():
            known = systems.setdefault(name, {key: value for key, value in told.items() if key not in _SUMS})
            known |= add_counts(known, {key: value for key, value in told.items() if key in _SUMS})
    judges = {str(run.origin.get("judge")) for run in ordered}
    if len(judges) > 1:
        failures.append(f"the parts had different judges: {', '.join(sorted(judges))}")
    return finished(
        replace(
            ordered[0],
            origin=origin,
            asked=tuple(one for run in ordered for one in run.asked),
            costs=tuple(cost for run in ordered for cost in run.costs),
            phases=tuple(phase for run in ordered for phase in run.phases),
            systems=systems,
            failures=tuple(failures),
            extra={name: value for run in ordered for name, value in run.extra.items()},
        )
    )
