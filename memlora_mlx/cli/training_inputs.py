"""What training and search share: the student, the data and the search for an unfinished run, as paths that stay valid."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from memlora_mlx.records import Stage

NEWEST = "newest"  # instead of a run's folder: the newest one


def absolute_student(student: str, home: Path) -> str:
    """A student's name that means the same in any working directory."""
    from memlora_mlx.models.catalog import entries

    local = Path(student).expanduser()
    return str(local.resolve()) if student not in entries(home) and local.is_dir() else student


def absolute_data(data: str) -> str:
    """FILE or FILE:N with the file's absolute path; for the folder of a VQA data set, the path of its examples.

    Raises:
        UsageError: there is no such file.
    """
    from memlora_mlx.distill.training_runs import parse_file_and_count
    from memlora_mlx.distill.vqa_dataset import ROWS
    from memlora_mlx.errors import UsageError

    name, count = parse_file_and_count(data)
    path = Path(name).expanduser()
    if (path / ROWS).is_file():
        path /= ROWS
    if not path.is_file():
        raise UsageError(f"There is no file {name}. Check the path.")
    return f"{path.resolve()}" + ("" if count is None else f":{count}")


def data_or_offer_synthetic(stage: Stage, home: Path, yes: bool) -> list[str]:
    """The stage's files in the data folder; without any, synthetic data, if the user agrees.

    Args:
        yes: generate it without asking.

    Raises:
        BadTrainingData: there is no data and none was generated.
    """
    from memlora_mlx.distill.training_runs import default_data, local_data_offer
    from memlora_mlx.errors import BadTrainingData

    try:
        return list(map(str, default_data(stage, home)))
    except BadTrainingData as error:
        on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
        question = f"No training data for {stage}. {local_data_offer(stage)} now?"
        if not yes and not (on_terminal and typer.confirm(question, default=True, err=True)):
            raise BadTrainingData(f"{error} Use --yes to generate it without being asked.") from None
    if stage == "vqa":
        from memlora_mlx.eval.vqa.drawings import build

        build(home / "vqa" / "drawings")
        return list(map(str, default_data(stage, home)))
    from memlora_mlx.cli.teach import generate_synthetic_examples
    from memlora_mlx.distill.local_teachers import CPU_DIALOGUES, DEFAULT_DIALOGUES, UNUSED_SEED
    from memlora_mlx.models import device

    generate_synthetic_examples(stage, CPU_DIALOGUES if device.on_cpu() else DEFAULT_DIALOGUES, UNUSED_SEED)
    return list(map(str, default_data(stage, home)))
