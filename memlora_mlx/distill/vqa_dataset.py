"""A data set of visual questions on disk: training examples, images named by their hash, and a manifest.

    rows.jsonl      the examples of all splits, three for each image, in the format of every teacher
    images/         `<SHA-256>.png` or `.jpg`
    manifest.json   what the data set is, the split of each image, and the accuracy of the majority baseline

An image belongs to one split only, and every answer is one word.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from memlora_mlx.conversations.splits import Split
from memlora_mlx.distill.examples import TrainingExample, write_examples
from memlora_mlx.errors import BadTrainingData
from memlora_mlx.files import atomic_write
from memlora_mlx.memory import stages

QuestionKind = Literal["unusual", "colour", "count"]
KINDS: tuple[QuestionKind, ...] = ("unusual", "colour", "count")  # the paper's three kinds of question
SPLITS_IN_ORDER: tuple[Split, ...] = ("train", "validation", "test")
ROWS, MANIFEST = "rows.jsonl", "manifest.json"
_DIGEST = re.compile("[0-9a-f]{64}")


def vqa_example(
    kind: QuestionKind,
    question: str,
    answer: str,
    reason: str,
    *,
    image: str,
    teacher: str,
    conversation: str,
    turn: str,
    split: Split,
) -> TrainingExample:
    """A question about an image as a training example. Its `exchange` is the turn and the kind: "D1:3/colour"."""
    text = json.dumps({"answer": answer, "reason": reason}, ensure_ascii=False)
    return TrainingExample(
        stage="vqa",
        chat=stages.visual_question_chat(question),
        answer=text,
        teacher=teacher,
        conversation=conversation,
        exchange=f"{turn}/{kind}",
        split=split,
        image=image,
    )


def question_kind(example: TrainingExample) -> str:
    return example.exchange.rpartition("/")[2]


def answer_word(example: TrainingExample) -> str:
    """The one-word answer in the form in which it is compared: lower case, without spaces around it (the paper's V).

    Raises:
        BadTrainingData: the answer is not the JSON of the vqa stage.
    """
    try:
        return str(json.loads(example.answer)["answer"]).strip().lower()
    except (ValueError, KeyError, TypeError) as error:
        raise BadTrainingData(
            f"{example.conversation}, {example.exchange}: the answer is not a vqa answer ({error!r}). Build the data set again."
        ) from error


def as_one_word(answer: object) -> str | None:
    """An answer as one word with letters or digits; None if it is something else."""
    if type(answer) is int:
        return str(answer)
    if not isinstance(answer, str):
        return None
    word = stages.clean_line(answer).strip().strip(".!\"'").strip()
    is_word = 0 < len(word) <= 30 and len(word.split()) == 1 and any(letter.isalnum() for letter in word)
    return word if is_word else None


def find_dataset(home: Path, path: Path | None = None) -> Path:
    """The folder of a data set: `path`, or the one in the data folder, LoCoMo's images before drawings.

    Raises:
        BadTrainingData: there is none.
    """
    if path is not None:
        folder = path.expanduser().resolve()
        if not (folder / MANIFEST).is_file() or not (folder / ROWS).is_file():
            raise BadTrainingData(
                f"{path} contains no finished VQA data set. `memlora vqa build --drawings` creates one."
            )
        return folder
    folders = [rows.parent for rows in (home / "vqa").glob(f"*/{ROWS}") if (rows.parent / MANIFEST).is_file()]
    if not folders:
        raise BadTrainingData(
            f"There is no VQA data set in {home / 'vqa'}. `memlora vqa build --drawings` creates a small one, and "
            "`memlora vqa build locomo10.json ...` creates one from LoCoMo."
        )
    return min(folders, key=lambda folder: (folder.name != "locomo", folder.name != "drawings", folder.name))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a data set.

    Raises:
        BadTrainingData: it is missing or damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if missing := {"benchmark", "blind", "images"} - set(manifest):
            raise ValueError(f"the fields {', '.join(sorted(missing))} are missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadTrainingData(
            f"{folder / MANIFEST} cannot be read ({error}). Build the data set again with `memlora vqa build`."
        ) from error
    return dict(manifest)


@cache
def image_of(folder: Path, name: str) -> Path | None:
    """The file of an example's image; None if it is missing or does not have the hash in its name."""
    path = folder / name
    is_there = path.is_file() and (not _DIGEST.fullmatch(path.stem) or file_digest(path) == path.stem)
    return path if is_there else None


def majority_baseline(examples: Sequence[TrainingExample]) -> Callable[[TrainingExample], str | None]:
    """A function that guesses an answer without the image; it returns None if there are no training examples to learn from.

    The guess is the most frequent answer of the training examples to a question with the same words, or else of the same
    kind. For the training examples themselves, their own answers count.
    """
    by_words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        if example.split == "train":
            by_words[example.chat[-1][1]][answer_word(example)] += 1
            by_kind[question_kind(example)][answer_word(example)] += 1

    def guess(example: TrainingExample) -> str | None:
        counts = by_words.get(example.chat[-1][1]) or by_kind.get(question_kind(example))
        return min(counts, key=lambda word: (-counts[word], word)) if counts else None

    return guess


def majority_baseline_scores(examples: Sequence[TrainingExample]) -> dict[str, dict[str, dict[str, float | int]]]:
    """The accuracy of the majority baseline: {split: {kind: {"questions", "right"}}}."""
    guess = majority_baseline(examples)
    table: dict[str, dict[str, dict[str, float | int]]] = {}
    for split in SPLITS_IN_ORDER:
        for kind in KINDS:
            asked = [row for row in examples if row.split == split and question_kind(row) == kind]
            if asked:
                right = sum(guess(row) == answer_word(row) for row in asked) / len(asked)
                table.setdefault(split, {})[kind] = {"questions": len(asked), "right": round(right, 4)}
    return table


def write_benchmark(
    folder: Path, examples: Sequence[TrainingExample], images: Iterable[Mapping[str, Any]], described: Mapping[str, Any]
) -> dict[str, Any]:
    """Write examples and manifest; the images must be there already. Returns the manifest. Raises OSError.

    Args:
        images: one entry for each image, with at least "file", "sha256" and "split".
        described: the other fields of the manifest, which come first.
    """
    count = write_examples(folder / ROWS, examples)
    manifest = {
        **described,
        "rows": {"file": ROWS, "count": count, "sha256": file_digest(folder / ROWS)},
        "blind": majority_baseline_scores(examples),
        "images": list(images),
    }
    atomic_write(folder / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", private=False)
    return manifest


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
