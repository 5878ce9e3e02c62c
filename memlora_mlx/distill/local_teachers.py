"""The two teachers that need no server, as one call: rows of a stage into the data folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from memlora_mlx.distill import observations, synthetic
from memlora_mlx.distill.answers import teacher_file
from memlora_mlx.distill.banks import empty_bank
from memlora_mlx.distill.lives import Life
from memlora_mlx.distill.rows import Row, Split, Splits, write_rows
from memlora_mlx.errors import UsageError
from memlora_mlx.records import Stage

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

LocalTeacher = Literal["observations", "synthetic"]
LIVES = 400  # synthetic lives to train on
FEW_LIVES = 40  # the same where there is only a CPU: less than an hour's work for a student of 135M parameters
UNREAD = 9  # a seed whose lives no shipped expert was trained on
VALIDATION_LIVES = 12


@dataclass(frozen=True, slots=True)
class Made:
    """What a local teacher wrote."""

    path: Path
    rows: int
    skipped: int = 0  # test conversations


def make_rows(
    teacher: LocalTeacher,
    stage: Stage,
    workspace: Workspace,
    splits: Splits,
    *,
    files: Sequence[Path] = (),
    names: Sequence[str] = (),
    count: int = LIVES,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Made:
    """Write the rows of a stage: of LoCoMo files by their observations, or of so many synthetic lives.

    Args:
        files, names: LoCoMo's files and, of their conversations, those wanted (all); for `observations`.
        count, seed: of the lives to train on; for `synthetic`.
        on_progress: told how many conversations or lives are done.
    """
    path = teacher_file(workspace.settings.home, stage, teacher)
    if teacher == "observations":
        if not files:
            raise UsageError("the teacher `observations` reads LoCoMo's own annotations; name its file")
        found = [c for file in files for c in observations.read_annotated(file) if not names or c.name in names]
        chosen = [conversation for conversation in found if splits.of(conversation.name) != "test"]
        made = (observations.rows(stage, conversation, workspace, splits) for conversation in chosen)
        return Made(path, write_rows(path, _counted(made, len(chosen), on_progress)), len(found) - len(chosen))
    if stage == "generation":
        raise UsageError("synthetic lives hold no questions; `--teacher observations` makes generation rows of LoCoMo")
    parts: list[tuple[int, Split]] = [(count, "train"), (VALIDATION_LIVES, "validation")]
    lived = ((life, split) for number, split in parts for life in synthetic.lives(number, split, seed=seed))
    if stage == "extraction":
        rows = (synthetic.extraction_rows(life, split) for life, split in lived)
    else:
        rows = (_updates(life, split, workspace) for life, split in lived)
    return Made(path, write_rows(path, _counted(rows, count + VALIDATION_LIVES, on_progress)))


def _updates(life: Life, split: Split, workspace: Workspace) -> Iterator[Row]:
    with empty_bank(workspace) as bank:
        yield from synthetic.update_rows(life, bank, split)


def _counted(groups: Iterator[Iterator[Row]], total: int, on_progress: Callable[[int, int], None]) -> Iterator[Row]:
    for done, group in enumerate(groups):
        on_progress(done, total)
        yield from group
    on_progress(total, total)
