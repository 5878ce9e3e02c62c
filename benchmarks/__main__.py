"""`make bench`: what this machine does, in one table.

Every figure is measured in this run, after a warm-up; ratios compare things timed side by side. Writes
`docs/benchmark.json` and `docs/benchmark.md`, with the machine and the versions.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import ingest_speed, message_speed, model_speed, scoring_speed, search_speed, workloads
from benchmarks.measurements import Measurement, to_json_line, to_markdown
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import load_settings

GROUPS = (
    model_speed.start_up,
    model_speed.loading,
    model_speed.switching,
    model_speed.decoding,
    model_speed.asking,
    model_speed.updating,
    ingest_speed.pipeline,
    ingest_speed.ingesting,
    search_speed.searching,
    message_speed.searching_messages,
    scoring_speed.scoring,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for benchmark.json and benchmark.md")
    parser.add_argument(
        "--million", action="store_true", help="search over 1,000,000 memories too: 5 minutes, 6 GB of disk"
    )
    parser.add_argument("--locomo", type=Path, help="LoCoMo's file: its conv-26 is read in place of the demo's talk")
    parser.add_argument("--only", help="only the groups whose names begin so")
    options = parser.parse_args()
    rows: list[Measurement] = []
    if options.locomo is not None:
        if not options.locomo.is_file():
            parser.error(f"there is no file {options.locomo}")
        workloads.LOCOMO.append(options.locomo)
    if options.million:
        search_speed.SIZES[1_000_000] = 20.0
    with Workspace(load_settings()) as workspace:
        for measure in GROUPS:
            if options.only and not measure.__name__.startswith(options.only):
                continue
            for row in measure(workspace):
                rows.append(row)
                print(to_json_line(row), file=sys.stderr)
        machine = describe_machine(workspace)
    if options.only:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine, "rows": [asdict(row) for row in rows]}
    (options.out / "benchmark.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (options.out / "benchmark.md").write_text(to_markdown(machine, rows), encoding="utf-8")


def describe_machine(workspace: Workspace) -> dict[str, str]:
    """Machine, versions and models: what a figure means nothing without."""
    from memlora_mlx.models import device

    names = ("mlx", "mlx-lm", "llguidance", "usearch", "tokenizers", "numpy")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "device": device.describe_device(),
        "blas": device.blas_status(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("memlora-mlx", *names)),
        "student": f"{workspace.student_name} ({workspace.engine.student.fingerprint})",
        "embedder": str(workspace.embedding_fingerprint),
    }


if __name__ == "__main__":
    main()
