"""The two teachers that need no server, as one function that writes the examples of a stage into the data folder."""

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
from memlora_mlx.distill.synthetic_talks import SyntheticTalk
from memlora_mlx.errors import UsageError
from memlora_mlx.records import Stage

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

LocalTeacher = Literal["observations", "synthetic"]
DEFAULT_DIALOGUES = 400  # for training
CPU_DIALOGUES = 40  # the same on a CPU: a student of 135M parameters trains on them in less than an hour
UNUSED_SEED = 9  # no shipped expert was trained on the dialogues of this seed
VALIDATION_DIALOGUES = 12


@dataclass(frozen=True, slots=True)
class GeneratedExamples:
    """What a local teacher has written."""

    path: Path
    examples: int
    skipped: int = 0  # conversations of the test split


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
    validation: int = VALIDATION_DIALOGUES,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> GeneratedExamples:
    """Write the examples of a stage, from the observations in LoCoMo files or from synthetic dialogues.

    Args:
        files, names: for `observations`: LoCoMo's files, and the names of the conversations to use (default: all).
        count, seed: for `synthetic`: the number of training dialogues, and their seed.
        validation: for `synthetic`: the number of dialogues for validation.
        on_progress: called with the number of conversations or dialogues that are done, and their total.

    Raises:
        UsageError: the teacher needs a file.
        BadConversation: a file has no observations.
    """
    path = teacher_file(workspace.settings.home, stage, teacher)
    if teacher == "observations":
        if not files:
            raise UsageError("The teacher `observations` reads LoCoMo's annotations. Give the path of LoCoMo's file.")
        found = [c for file in files for c in observations_teacher.read_annotated(file) if not names or c.name in names]
        chosen = [conversation for conversation in found if splits.split_of(conversation.name) != "test"]
        examples = (
            observations_teacher.annotated_examples(stage, conversation, workspace, splits) for conversation in chosen
        )
        return GeneratedExamples(
            path, write_examples(path, _counted(examples, len(chosen), on_progress)), len(found) - len(chosen)
        )
    parts: list[tuple[int, Split]] = [(count, "train"), (validation, "validation")]
    examples = (made for number, split in parts for made in _synthetic(stage, number, split, workspace, seed))
    total = (count + validation) * (1 if stage == "generation" else 2)  # dialogues, and chats
    return GeneratedExamples(path, write_examples(path, _counted(examples, total, on_progress)))


def _synthetic(
    stage: Stage, count: int, split: Split, workspace: Workspace, seed: int
) -> Iterator[Iterator[TrainingExample]]:
    """The examples of each dialogue."""
    if stage == "generation":
        for talk in synthetic_teacher.generate_talks(count, split, seed=seed):
            yield _answers(talk, split, workspace)
        return
    for dialogues in (synthetic_teacher.generate_dialogues, synthetic_teacher.generate_chats):
        for dialogue in dialogues(count, split, seed=seed):
            if stage == "extraction":
                yield synthetic_teacher.synthetic_extraction_examples(dialogue, split)
            else:
                yield _updates(dialogue, split, workspace)


def _updates(dialogue: SyntheticDialogue, split: Split, workspace: Workspace) -> Iterator[TrainingExample]:
    with temporary_store(workspace) as store:
        yield from synthetic_teacher.synthetic_update_examples(dialogue, store, split)


def _answers(talk: SyntheticTalk, split: Split, workspace: Workspace) -> Iterator[TrainingExample]:
    with temporary_store(workspace) as store:
        yield from synthetic_teacher.synthetic_generation_examples(talk, store, split)


def _counted(
    groups: Iterator[Iterator[TrainingExample]], total: int, on_progress: Callable[[int, int], None]
) -> Iterator[TrainingExample]:
    for done, group in enumerate(groups):
        on_progress(done, total)
        yield from group
    on_progress(total, total)
