"""How long Claude Code's hook takes for a prompt, from the start of its process to its end, while `memlora serve` runs.

python -m benchmarks.hook_speed --calls 40
"""

from __future__ import annotations

import argparse
import asyncio
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
from memlora_mlx import __version__
from memlora_mlx.serve import connection
from memlora_mlx.settings import load_settings

TOPICS = ("tea", "the garden", "Lisbon", "the bakery", "tabs and spaces", "bees", "the piano")


async def fill(resident: connection.Resident, memories: int) -> None:
    said = [{"role": "user", "content": f"Note {n}: I told you about {TOPICS[n % 7]} again."} for n in range(memories)]
    for start in range(0, memories, 50):
        await resident.call("add", {"messages": said[start : start + 50], "user_id": "me", "infer": False})


def milliseconds(environ: dict[str, str], prompt: str) -> tuple[float, bool]:
    """The time of one hook, and whether it gave memories."""
    event = json.dumps({"hook_event_name": "UserPromptSubmit", "prompt": prompt})
    command = [sys.executable, "-m", "memlora_mlx.serve.claude_hook"]
    started = time.perf_counter()
    done = subprocess.run(command, env=environ, input=event, capture_output=True, text=True, check=True)
    return 1000 * (time.perf_counter() - started), "additionalContext" in done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=40, help="Prompts that are timed (default: 40).")
    parser.add_argument("--memories", type=int, default=200, help="Memories in the store (default: 200).")
    options = parser.parse_args()
    settings = load_settings()
    with tempfile.TemporaryDirectory() as folder, resident_process(Path(folder)) as environ:
        resident = connection.find(Path(folder))
        assert resident is not None
        asyncio.run(fill(resident, options.memories))
        milliseconds(environ, "warm-up")
        timed = [milliseconds(environ, f"What about {TOPICS[n % 7]}?") for n in range(options.calls)]
    p50, p95 = np.percentile([time for time, _ in timed], [50, 95])
    answered = sum(given for _, given in timed)
    print(f"{'calls':>7} {'answered':>9} {'p50 ms':>8} {'p95 ms':>8}")
    print(f"{len(timed):>7} {answered:>9} {p50:>8.0f} {p95:>8.0f}")
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    rows = {"calls": len(timed), "answered": answered, "p50_ms": round(float(p50)), "p95_ms": round(float(p95))}
    print(
        json.dumps(
            {**machine, "memlora": __version__, "embedder": settings.embedder, "memories": options.memories, **rows}
        )
    )


if __name__ == "__main__":
    main()
