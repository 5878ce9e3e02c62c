"""`memlora teach --all`: the examples of every stage, and the two commands with which a Mac trains on them."""

from __future__ import annotations

import getpass
import shlex
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memlora_mlx.records import Stage

# Updates are asked about the facts of the extraction, and questions about the memories of the updates.
ALL_STAGES: Sequence[Stage] = ("extraction", "update", "generation")


@dataclass(frozen=True, slots=True)
class Taught:
    """What a teacher has written for a stage."""

    path: Path
    text: str  # for people
    as_json: Mapping[str, object]


def have_questions(files: Sequence[Path]) -> bool:
    """Whether the conversations come with questions, as LoCoMo's do: generation examples are made of them."""
    from memlora_mlx.distill.observations_teacher import read_annotated
    from memlora_mlx.errors import MemloraError

    try:
        return any(conversation.questions for file in files for conversation in read_annotated(file))
    except MemloraError:
        return False


def commands_for_a_mac(teacher: Path, written: Collection[str]) -> list[str]:
    """How to train on what lies in this machine's `teacher` folder: one command copies it, the other trains."""
    source = f"{getpass.getuser()}@{socket.gethostname()}:{teacher}/"
    lines = ["", "On the Mac, copy the examples and train all experts on them:"]
    lines.append(
        f'  rsync -a {shlex.quote(source)} "${{MEMLORA_HOME:-$HOME/Library/Application Support/memlora}}/teacher/"'
    )
    lines.append("  memlora train")
    if missing := [stage for stage in ALL_STAGES if stage not in written]:
        lines.append(
            f"These conversations have no questions, so there are no {' and '.join(missing)} examples; `memlora train` makes"
            " synthetic ones."
        )
    return lines
