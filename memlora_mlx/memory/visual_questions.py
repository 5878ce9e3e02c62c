"""Questions that are answered by looking at a picture.

    question + picture - vqa expert -> one word and why
    question - search -> memories - is one of the nearest kept with a picture? -> vqa expert -> beside its memory - answer

Text retrieval comes first, then eyes: of the `MAX_RANK_WITH_IMAGE` memories that a question finds, the picture of the nearest one that
has any is looked at again, with the question. What is seen stands behind that memory's words in the prompt of the answer, so
a question about when, where or who is still answered from the memories.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from memlora_mlx.errors import StoreBroken, UsageError
from memlora_mlx.memory import stages
from memlora_mlx.memory.engine import MemoryEngine
from memlora_mlx.memory.store.image_normalisation import normalise_image, printable_source, read_image_file
from memlora_mlx.memory.store.images import ImageStore
from memlora_mlx.records import Completion, Hit, Request

MAX_RANK_WITH_IMAGE = 3  # memories that a question finds, whose pictures may be looked at again


@dataclass(frozen=True, slots=True)
class VisualAnswer:
    """What the vqa expert says of a picture."""

    answer: str  # one word
    reason: str
    picture: str  # what was looked at: a file's name, or an image's source
    completion: Completion
    hit: Hit | None = None  # whose picture it is


def answer_visual_question(
    engine: MemoryEngine, question: str, picture: Path, name: str, hit: Hit | None = None
) -> VisualAnswer:
    """Ask about a picture.

    Args:
        picture: as the store keeps them.
        name: what the user knows it by.

    Raises:
        UsageError: it cannot be read.
    """
    chat, grammar = stages.visual_question_chat(question), stages.visual_answer_grammar()
    completion = engine.complete(Request("vqa", chat, grammar, stages.VISUAL_ANSWER_TOKENS, picture))
    return VisualAnswer(*stages.parse_visual_answer(completion.text), name, completion, hit)


def answer_from_stored_image(
    engine: MemoryEngine, question: str, hits: Sequence[Hit], images: ImageStore
) -> VisualAnswer | None:
    """Look at the picture of the nearest memory that has one, if it is among the `MAX_RANK_WITH_IMAGE`."""
    for hit in hits[:MAX_RANK_WITH_IMAGE]:
        shown = hit.memory if hit.memory is not None and hit.memory.image is not None else hit.message
        image = None if shown is None else shown.image
        path = images.path(image.sha256) if image is not None else None
        if image is None or path is None:
            continue
        with contextlib.suppress(
            UsageError, StoreBroken
        ):  # erased or damaged meanwhile: the words of the memory are still there
            return answer_visual_question(engine, question, path, printable_source(image.source), hit)
    return None


@contextlib.contextmanager
def normalised_copy(path: str | Path) -> Iterator[Path]:
    """A user's picture as the store would keep it: upright, plain, bounded. It is not kept, and gone afterwards.

    Raises:
        UsageError: see `read_image_file` and `normalise_image`.
    """
    given = Path(path).expanduser()
    picture = normalise_image(read_image_file(given), printable_source(path))
    with tempfile.TemporaryDirectory(prefix="memlora-") as folder:
        made = Path(folder) / f"picture.{picture.suffix}"
        made.write_bytes(picture.data)
        yield made
