"""How the Train screen decides about a run's expert: enough data, compared with what is in use, installed, taken back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from memlora_mlx.errors import BadTrainingData, MemloraError, UsageError
from memlora_mlx.records import Stage
from memlora_mlx.settings import Settings
from memlora_mlx.tui.jobs import Job

CORRECTIONS_ARE = (
    "A correction is a memory that you edited, deleted or undid: it shows the student what it should have noted."
)


def check_enough_rows(stage: Stage, files: list[str], home: Path) -> None:
    """Refuse to train on too few examples.

    Args:
        files: of the data, each as FILE or FILE:N.

    Raises:
        UsageError: there are fewer than `LEAST_ROWS`.
        BadTrainingData: a file cannot be read.
    """
    from memlora_mlx.distill.examples import read_examples
    from memlora_mlx.distill.expert_judging import LEAST_ROWS
    from memlora_mlx.distill.training_config import parse_file_and_count
    from memlora_mlx.distill.training_data import default_data

    count = 0
    for given in files or [str(path) for path in default_data(stage, home)]:
        name, limit = parse_file_and_count(given)
        rows = sum(1 for example in read_examples(Path(name)) if example.stage == stage)
        count += rows if limit is None else min(limit, rows)
        if count >= LEAST_ROWS:
            return
    if not count:
        raise BadTrainingData(f"There is no example for {stage} in this data. Choose another stage, or other data.")
    more = f"make examples with `memlora teach --stage {stage} --teacher synthetic`"
    if files:
        more = "leave the data field empty to train on all data"
    raise UsageError(
        f"There {'is 1 example' if count == 1 else f'are {count} examples'} for {stage}, and {LEAST_ROWS} are needed: an expert "
        f"learns fewer by heart. Correct more memories, or {more}. {CORRECTIONS_ARE}"
    )


async def judged(run: Path, settings: Settings, job_of: Any = Job) -> dict[str, Any]:
    """The judgement of a run's expert (see `memlora_mlx.distill.expert_judging`), computed in a process of its own.

    Raises:
        MemloraError: it cannot be computed.
    """
    job = job_of(["memlora_mlx.tui.judge_process", str(run)], settings, run.with_name(f"{run.name}.judged.log"))
    while (code := job.poll()) is None:
        await asyncio.sleep(0.2)
    if code:
        raise MemloraError(job.failure_reason())
    found: dict[str, Any] = json.loads(job.last_line)
    return found


async def install(expert: Path, student: str, settings: Settings, log: Path) -> None:
    """Install an expert in a process of its own. The one before is kept. Raises MemloraError."""
    job = Job(["memlora_mlx", "adapters", "install", str(expert), "--student", student], settings, log)
    while (code := job.poll()) is None:
        await asyncio.sleep(0.1)
    if code:
        raise MemloraError(job.failure_reason())
