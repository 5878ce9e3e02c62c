"""`make soak`: try for some minutes to lose, damage or leak something, and print what was tried as a table.

python tests/soak --minutes 15 --seed 7
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

Trial = Callable[[Path, int], int]
TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), *(str(TESTS / room) for room in ("memory/store", "models", ""))]
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])


def main() -> int:
    parser = argparse.ArgumentParser(description="Try for some minutes to lose, damage or leak something.")
    parser.add_argument("--minutes", type=float, default=60.0, help="How long to go on (default: 60).")
    parser.add_argument("--seed", type=int, default=1, help="The first random seed (default: 1).")
    parser.add_argument("--only", action="append", help="Name of a trial (default: all). May be repeated.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # numpy's, about vectors that were damaged on purpose
    logging.disable(logging.WARNING)
    from trials import TRIALS

    chosen = [trial for trial in TRIALS if not options.only or trial.__name__ in options.only]
    tried = dict.fromkeys(chosen, 0)
    failed = dict.fromkeys(chosen, 0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped either way, it says what it tried
    with contextlib.suppress(KeyboardInterrupt):
        _repeat(chosen, 60 * options.minutes, options.seed, tried, failed)
    print("| promise | cases | failed trials |\n|---|---|---|")
    for trial in chosen:
        print(f"| {(trial.__doc__ or '').splitlines()[0]} | {tried[trial]:,} | {failed[trial]} |")
    return int(any(failed.values()))


def _repeat(chosen: list[Trial], seconds: float, seed: int, tried: dict[Trial, int], failed: dict[Trial, int]) -> None:
    """Go through the trials until the time is up, the first time through all of them."""
    first, ends = seed, time.monotonic() + seconds
    while time.monotonic() < ends:
        for trial in chosen:
            if time.monotonic() > ends and seed > first:
                return
            folder, began = Path(tempfile.mkdtemp(prefix="memlora-soak-")), time.monotonic()
            try:
                tried[trial] += trial(folder, seed)
            except Exception:
                failed[trial] += 1
                print(f"{trial.__name__}, seed {seed}, {folder}", traceback.format_exc(), file=sys.stderr, flush=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)
            took = time.monotonic() - began
            print(f"{trial.__name__}: {tried[trial]} cases, {took:.0f} s", file=sys.stderr, flush=True)
        seed += 1


if __name__ == "__main__":
    sys.exit(main())
