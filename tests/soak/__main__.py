"""`make soak`: try for some minutes to lose, damage or leak something, and print what was tried as a table.

python tests/soak --minutes 15 --seed 7
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS / "memory" / "store"), str(TESTS)]
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
    ends = time.monotonic() + 60 * options.minutes
    tried = dict.fromkeys(chosen, 0)
    failed = dict.fromkeys(chosen, 0)
    seed = options.seed
    while time.monotonic() < ends:
        for trial in chosen:
            if time.monotonic() > ends and seed > options.seed:
                break  # the first round is always whole
            folder = Path(tempfile.mkdtemp(prefix="memlora-soak-"))
            try:
                tried[trial] += trial(folder, seed)
            except Exception:
                failed[trial] += 1
                print(f"{trial.__name__}, seed {seed}, {folder}", traceback.format_exc(), file=sys.stderr, flush=True)
            else:
                shutil.rmtree(folder, ignore_errors=True)
        seed += 1
    print("| promise | cases | failed trials |\n|---|---|---|")
    for trial in chosen:
        print(f"| {(trial.__doc__ or '').splitlines()[0]} | {tried[trial]:,} | {failed[trial]} |")
    return int(any(failed.values()))


if __name__ == "__main__":
    sys.exit(main())
