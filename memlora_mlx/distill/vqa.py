"""A benchmark of questions about images on the disk: rows, images named by their hash, and a manifest of both.

    rows.jsonl      the rows of all splits, three an image, as every teacher's are
    images/         `<SHA-256>.png` or `.jpg`
    manifest.json   what it is, which split each image belongs to, and how far answering blindly gets

An image belongs to one split only, and the answer is one word.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from memlora_mlx.distill.rows import Row, Split, write_rows
from memlora_mlx.errors import BadTrainingData
from memlora_mlx.memory import stages

Kind = Literal["unusual", "colour", "count"]
KINDS: tuple[Kind, ...] = ("unusual", "colour", "count")  # specification 9's (2), (3) and (4)
SPLITS_IN_ORDER: tuple[Split, ...] = ("train", "validation", "test")


def vqa_row(
    kind: Kind,
    question: str,
    answer: str,
    reason: str,
    *,
    image: str,
    teacher: str,
    conversation: str,
    turn: str,
    split: Split,
) -> Row:
    """A question about an image as a row; its kind stands behind the turn: "D1:3/colour"."""
    text = json.dumps({"answer": answer, "reason": reason}, ensure_ascii=False)
    return Row(
        stage="vqa",
        chat=stages.look_chat(question),
        answer=text,
        teacher=teacher,
        conversation=conversation,
        exchange=f"{turn}/{kind}",
        split=split,
        image=image,
    )


def kind_of(row: Row) -> str:
    return row.exchange.rpartition("/")[2]


def word_of(row: Row) -> str:
    """The one-word answer as it is compared: lower case, trimmed (specification 7's V).

    Raises:
        BadTrainingData: the answer is not the stage's JSON.
    """
    try:
        return str(json.loads(row.answer)["answer"]).strip().lower()
    except (ValueError, KeyError, TypeError) as error:
        raise BadTrainingData(f"{row.conversation}, {row.exchange}: the answer is no vqa answer ({error!r})") from error


def one_word(answer: object) -> str | None:
    """An answer as one word of letters or digits, or None: it is something else."""
    if type(answer) is int:
        return str(answer)
    if not isinstance(answer, str):
        return None
    word = stages.clean_text(answer).strip().strip(".!\"'").strip()
    is_word = 0 < len(word) <= 30 and len(word.split()) == 1 and any(letter.isalnum() for letter in word)
    return word if is_word else None


def blind(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float | int]]]:
    """How often the best guess without looking is right: {split: {kind: {"questions", "right"}}}.

    It is the answer that training rows give most often to a question of the same words, or else of the same kind; among
    the training rows themselves it has seen the answers.
    """
    by_words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.split == "train":
            by_words[row.chat[-1][1]][word_of(row)] += 1
            by_kind[kind_of(row)][word_of(row)] += 1

    def guess(row: Row) -> str | None:
        seen = by_words.get(row.chat[-1][1]) or by_kind.get(kind_of(row))
        return min(seen, key=lambda word: (-seen[word], word)) if seen else None

    table: dict[str, dict[str, dict[str, float | int]]] = {}
    for split in SPLITS_IN_ORDER:
        for kind in KINDS:
            asked = [row for row in rows if row.split == split and kind_of(row) == kind]
            if asked:
                right = sum(guess(row) == word_of(row) for row in asked) / len(asked)
                table.setdefault(split, {})[kind] = {"questions": len(asked), "right": round(right, 4)}
    return table


def write_benchmark(
    folder: Path, rows: Sequence[Row], images: Iterable[Mapping[str, Any]], described: Mapping[str, Any]
) -> dict[str, Any]:
    """Write rows and manifest; the images are there already. Returns the manifest.

    Args:
        images: one entry each with at least "file", "sha256" and "split".
        described: what else the manifest says, first.
    """
    count = write_rows(folder / "rows.jsonl", rows)
    manifest = {
        **described,
        "rows": {"file": "rows.jsonl", "count": count, "sha256": file_digest(folder / "rows.jsonl")},
        "blind": blind(rows),
        "images": list(images),
    }
    scratch = folder / "manifest.partial"
    scratch.write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    scratch.replace(folder / "manifest.json")
    return manifest


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
