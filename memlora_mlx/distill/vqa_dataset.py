"""A benchmark of questions about images on the disk: rows, images named by their hash, and a manifest of both.

    rows.jsonl      the rows of all splits, three an image, as every teacher's are
    images/         `<SHA-256>.png` or `.jpg`
    manifest.json   what it is, which split each image belongs to, and how far answering blindly gets

An image belongs to one split only, and the answer is one word.
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
    """A question about an image as a row; its kind stands behind the turn: "D1:3/colour"."""
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
    """The one-word answer as it is compared: lower case, trimmed (the paper's V).

    Raises:
        BadTrainingData: the answer is not the stage's JSON.
    """
    try:
        return str(json.loads(example.answer)["answer"]).strip().lower()
    except (ValueError, KeyError, TypeError) as error:
        raise BadTrainingData(
            f"{example.conversation}, {example.exchange}: the answer is no vqa answer ({error!r})"
        ) from error


def as_one_word(answer: object) -> str | None:
    """An answer as one word of letters or digits, or None: it is something else."""
    if type(answer) is int:
        return str(answer)
    if not isinstance(answer, str):
        return None
    word = stages.clean_line(answer).strip().strip(".!\"'").strip()
    is_word = 0 < len(word) <= 30 and len(word.split()) == 1 and any(letter.isalnum() for letter in word)
    return word if is_word else None


def find_dataset(home: Path, given: Path | None = None) -> Path:
    """The folder of a benchmark: the one given, or the data folder's, where LoCoMo's images go before drawings.

    Raises:
        BadTrainingData: there is none.
    """
    if given is not None:
        folder = given.expanduser().resolve()
        if not (folder / MANIFEST).is_file() or not (folder / ROWS).is_file():
            raise BadTrainingData(f"{given} holds no finished VQA benchmark; `memlora vqa build --drawings` draws one")
        return folder
    found = [path.parent for path in (home / "vqa").glob(f"*/{ROWS}") if (path.parent / MANIFEST).is_file()]
    if not found:
        raise BadTrainingData(
            f"there is no VQA benchmark in {home / 'vqa'}; `memlora vqa build --drawings` draws a small one, and "
            "`memlora vqa build locomo10.json ...` makes LoCoMo's"
        )
    return min(found, key=lambda folder: (folder.name != "locomo", folder.name != "drawings", folder.name))


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a benchmark says of itself.

    Raises:
        BadTrainingData: it is damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest["benchmark"], manifest["blind"], manifest["images"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadTrainingData(f"{folder / MANIFEST} cannot be read ({error}); build the benchmark again") from error
    return dict(manifest)


@cache
def image_of(folder: Path, name: str) -> Path | None:
    """The file of a row's image; None where it is not there, or is not what its name says."""
    path = folder / name
    is_there = path.is_file() and (not _DIGEST.fullmatch(path.stem) or file_digest(path) == path.stem)
    return path if is_there else None


def majority_baseline(examples: Sequence[TrainingExample]) -> Callable[[TrainingExample], str | None]:
    """The best guess about a row without looking; None where nothing could be learnt.

    It is the answer that training rows give most often to a question of the same words, or else of the same kind; among
    the training rows themselves it has seen the answers.
    """
    by_words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in examples:
        if row.split == "train":
            by_words[row.chat[-1][1]][answer_word(row)] += 1
            by_kind[question_kind(row)][answer_word(row)] += 1

    def guess(row: TrainingExample) -> str | None:
        seen = by_words.get(row.chat[-1][1]) or by_kind.get(question_kind(row))
        return min(seen, key=lambda word: (-seen[word], word)) if seen else None

    return guess


def majority_baseline_scores(examples: Sequence[TrainingExample]) -> dict[str, dict[str, dict[str, float | int]]]:
    """How often that guess is right: {split: {kind: {"questions", "right"}}}."""
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
    """Write rows and manifest; the images are there already. Returns the manifest.

    Args:
        images: one entry each with at least "file", "sha256" and "split".
        described: what else the manifest says, first.
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
