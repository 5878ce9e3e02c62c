"""The conflict benchmark as a command.

python -m memlora_mlx.eval.conflict [--limit N] [--classes NAME] [--systems NAME] [--out FILE] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.eval.conflict.benchmark import FAILURES, SYSTEMS, run
from memlora_mlx.eval.conflict.templates import CLASSES
from memlora_mlx.eval.systems.cache import Cache, bench_folder
from memlora_mlx.eval.systems.students import run_context
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import load_settings

if TYPE_CHECKING:
    from rich.table import Table


def format_table(name: str, scored: dict[str, Any]) -> Table:
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
            ground = run_context(workspace, cache)
            result = run(workspace, options.systems, **asked, on_progress=progress, context=ground)
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except (MemloraError, OSError) as error:
        print(f"memlora: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code if isinstance(error, MemloraError) else 1) from None
    console = Console(markup=False)
    for name, scored in result["systems"].items():
        console.print(format_table(name, scored))
        console.print(f"{scored['seconds']:.0f} s")
    console.print(f"set {result['hash']}, version {result['version']}, seed {result['seed']}")
    for note in result["notes"]:
        console.print(f"note: {note}")


if __name__ == "__main__":
    main()
