"""The two teachers that need no server, as one call: rows of a stage into the data folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from memlora_mlx.conversations.splits import Split, Splits
from memlora_mlx.distill import observations_teacher, synthetic_teacher
from memlora_mlx.distill.answer_files import teacher_file
from memlora_mlx.distill.examples import TrainingExample, write_examples
from memlora_mlx.distill.replay import temporary_store
from memlora_mlx.distill.synthetic_dialogues import SyntheticDialogue
from memlora_mlx.errors import UsageError
from memlora_mlx.records import Stage

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

LocalTeacher = Literal["observations", "synthetic"]
DEFAULT_DIALOGUES = 400  # synthetic lives to train on
CPU_DIALOGUES = 40  # the same where there is only a CPU: less than an hour's work for a student of 135M parameters
UNUSED_SEED = 9  # a seed whose lives no shipped expert was trained on
VALIDATION_DIALOGUES = 12


@dataclass(frozen=True, slots=True)
class GeneratedExamples:
    """What a local teacher wrote."""

    path: Path
    examples: int
    skipped: int = 0  # test conversations


def make_examples(
    teacher: LocalTeacher,
    stage: Stage,
    workspace: Workspace,
    splits: Splits,
    *,
    files: Sequence[Path] = (),
    names: Sequence[str] = (),
    count: int = DEFAULT_DIALOGUES,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> GeneratedExamples:
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
        found = [c for file in files for c in observations_teacher.read_annotated(file) if not names or c.name in names]
        chosen = [conversation for conversation in found if splits.split_of(conversation.name) != "test"]
        made = (
            observations_teacher.annotated_examples(stage, conversation, workspace, splits) for conversation in chosen
        )
        return GeneratedExamples(
            path, write_examples(path, _counted(made, len(chosen), on_progress)), len(found) - len(chosen)
        )
    if stage == "generation":
        raise UsageError("synthetic lives hold no questions; `--teacher observations` makes generation rows of LoCoMo")
    parts: list[tuple[int, Split]] = [(count, "train"), (VALIDATION_DIALOGUES, "validation")]
    lived = (
        (life, split)
        for number, split in parts
        for life in synthetic_teacher.generate_dialogues(number, split, seed=seed)
    )
    if stage == "extraction":
        rows = (synthetic_teacher.synthetic_extraction_examples(life, split) for life, split in lived)
    else:
        rows = (_updates(life, split, workspace) for life, split in lived)
    return GeneratedExamples(path, write_examples(path, _counted(rows, count + VALIDATION_DIALOGUES, on_progress)))


def _updates(dialogue: SyntheticDialogue, split: Split, workspace: Workspace) -> Iterator[TrainingExample]:
    with temporary_store(workspace) as bank:
        yield from synthetic_teacher.synthetic_update_examples(dialogue, bank, split)


def _counted(
    groups: Iterator[Iterator[TrainingExample]], total: int, on_progress: Callable[[int, int], None]
) -> Iterator[TrainingExample]:
    for done, group in enumerate(groups):
        on_progress(done, total)
        yield from group
    on_progress(total, total)
