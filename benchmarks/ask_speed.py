"""How long a question takes with `memlora serve` and without it, from the start of the command to its end.

python -m benchmarks.ask_speed --calls 10

The two ways take turns, so both meet the same load of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.resident import resident_process
from memlora_mlx import Memory, __version__
from memlora_mlx.serve import connection
from memlora_mlx.settings import load_settings

FACTS = ("I drink green tea.", "I work at the aquarium.", "My sister lives in Porto.", "I moved to Lisbon in March.")
COMMANDS = {
    "ask": ["ask", "Where does my sister live?", "--user", "me"],
    "search": ["memory", "search", "where my sister lives", "--user", "me", "-k", "3"],
}


def seconds(environ: dict[str, str], arguments: list[str]) -> tuple[float, str]:
    """The time of one command, and what it printed."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "memlora_mlx", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert not done.stderr, done.stderr
    return time.perf_counter() - started, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10, help="Runs of each command in each way (default: 10).")
    options = parser.parse_args()
    settings = load_settings()
    with tempfile.TemporaryDirectory() as folder, resident_process(Path(folder)) as served:
        with Memory({"home": folder}) as memory:
            for fact in FACTS:
                memory.add(fact, user_id="me", infer=False)
        state = Path(folder, connection.STATE_FILE)
        hidden = state.with_suffix(".hidden")
        rows = []
        for name, arguments in COMMANDS.items():
            seconds(served, arguments)  # loads the models there
            with_it, without = [], []
            for _ in range(options.calls):
                first, said = seconds(served, arguments)
                state.rename(hidden)  # a command then finds no resident process
                second, said_alone = seconds(served, arguments)
                hidden.rename(state)
                assert said == said_alone
                with_it.append(first)
                without.append(second)
            p50, p50_alone = float(np.median(with_it)), float(np.median(without))
            rows.append({"command": name, "with_s": p50, "alone_s": p50_alone, "ratio": p50_alone / p50})
    print(f"{'command':<8} {'with p50 s':>11} {'alone p50 s':>12} {'ratio':>6}")
    for row in rows:
        print(f"{row['command']:<8} {row['with_s']:>11.2f} {row['alone_s']:>12.2f} {row['ratio']:>6.1f}")
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    models = {"student": settings.student or "default", "embedder": settings.embedder}
    print(json.dumps({**machine, **models, "memlora": __version__, "calls": options.calls, "rows": rows}))


if __name__ == "__main__":
    main()
