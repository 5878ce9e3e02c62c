"""Holds `memlora serve` under clients for a bounded time: errors, lost writes, and how long calls take.

    python -m benchmarks.serve_load --minutes 10

Eight MCP clients over standard input and output, as programs start them, each add, search and list for the given time
through one resident process in a data folder of its own. Texts are stored as they are, so an embedder is enough. At the
end every text that a client was told is stored must be in the store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.resident import resident_process
from memlora_mlx import Memory, __version__
from memlora_mlx.settings import load_settings


class Tally:
    """What the clients have seen."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self.stored: set[str] = set()


async def client_work(number: int, environ: dict[str, str], until: float, tally: Tally) -> None:
    from mcp import Client, StdioServerParameters

    server = StdioServerParameters(command=sys.executable, args=["-m", "memlora_mlx", "mcp"], env=environ)
    async with Client(server, read_timeout_seconds=600) as client:
        turn = 0
        while time.monotonic() < until:
            text = f"client {number} wrote note {turn} about topic {turn % 7}"
            calls = (
                ("add_memory", {"text": text, "user_id": f"user{number}", "infer": False}),
                ("search_memories", {"query": f"topic {turn % 7}", "user_id": f"user{number}"}),
                ("get_memories", {"user_id": f"user{number}", "limit": 10}),
            )
            for tool, arguments in calls:
                started = time.perf_counter()
                result = await client.call_tool(tool, arguments)
                tally.milliseconds[tool].append(1000 * (time.perf_counter() - started))
                if result.is_error:
                    tally.errors.append(str(result.content))
                elif tool == "add_memory":
                    tally.stored.add(text)
            turn += 1


async def run_clients(count: int, environ: dict[str, str], seconds: float, tally: Tally) -> None:
    until = time.monotonic() + seconds
    await asyncio.gather(*(client_work(number, environ, until, tally) for number in range(count)))


def lost_writes(home: Path, clients: int, stored: set[str]) -> int:
    os.environ["MEMLORA_HOME"] = str(home)
    found: set[str] = set()
    with Memory() as memory:
        for number in range(clients):
            kept = memory.get_all(user_id=f"user{number}", limit=10**6)["results"]
            found |= {item["memory"] for item in kept}
    return len(stored - found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="How long the clients work (default: 10).")
    parser.add_argument("--clients", type=int, default=8, help="Clients at the same time (default: 8).")
    options = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with resident_process(home) as environ:
            asyncio.run(run_clients(options.clients, environ, 60 * options.minutes, tally))
        lost = lost_writes(home, options.clients, tally.stored)
    rows = {}
    print(f"{'tool':>16} {'calls':>7} {'p50 ms':>8} {'p95 ms':>8}")
    for tool, times in tally.milliseconds.items():
        p50, p95 = np.percentile(times, [50, 95])
        rows[tool] = {"calls": len(times), "p50_ms": round(float(p50), 1), "p95_ms": round(float(p95), 1)}
        print(f"{tool:>16} {len(times):>7} {p50:>8.1f} {p95:>8.1f}")
    print(f"errors: {len(tally.errors)} {tally.errors[:1]}, lost writes: {lost} of {len(tally.stored)}")
    embedder = load_settings().embedder
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "memlora": __version__, "mcp": version("mcp")}
    settings = {"embedder": Path(embedder).name, "clients": options.clients, "minutes": options.minutes}
    print(json.dumps({**machine, **settings, "errors": len(tally.errors), "lost": lost, "rows": rows}))
    sys.exit(bool(tally.errors or lost))


if __name__ == "__main__":
    main()
