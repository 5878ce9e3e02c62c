"""The VQA benchmark: how often a student that looks at an image answers a question about it with the right word.

V (the paper's) is the share of answers that are the teacher's word, lower case and trimmed. `run` gives plain JSON values:

    benchmark, note, rows_sha256, split, images, teachers    what was asked about, from its manifest
    prompt                 hash of a question's prompt without the question; prompts with a caption instead have one line more
    notes                  why a system was left out, and what could not be asked
    systems                by name: title, overall and kinds (figures), seconds and tokens of a question on average
    tests                  the first system against each of the others on the same questions: only_a, only_b (how many that one
                           alone got right), p (exact McNemar), p_holm (corrected over the tests of this list)
    questions              each with conversation, exchange, kind, image, question, gold, and every system's answer

    a figure               n questions; how many are `right`, with Wilson's 95 % `interval` of that share

The systems: `memlora` looks with the vqa expert, `base` without one; `captions` is the base told the image's caption in the
image's place, which is Table 2's form; `memlora captions` is the expert told the same, to see what it knows without looking;
`blind` guesses what training rows answer most often to a question in these words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memlora_mlx.conversations.splits import Split
from memlora_mlx.distill import vqa_dataset
from memlora_mlx.distill.examples import ChatMessages, TrainingExample, prompt_hash, read_examples
from memlora_mlx.errors import BadTrainingData, UsageError
from memlora_mlx.eval.metrics.intervals import wilson
from memlora_mlx.eval.metrics.statistics import holm, mcnemar
from memlora_mlx.eval.systems.cached_engine import CachedEngine
from memlora_mlx.memory import stages
from memlora_mlx.records import Completion, Request

TITLES: Mapping[str, str] = {
    "memlora": "looks, with the expert",
    "base": "looks, without an expert",
    "captions": "told the caption, without an expert",
    "memlora captions": "told the caption, with the expert",
    "blind": "guesses, looks at nothing",
}
SPLITS: Mapping[str, tuple[Split, ...]] = {
    "val": ("validation",),
    "test": ("test",),
    "train": ("train",),
    "all": vqa_dataset.SPLITS_IN_ORDER,
}

OnProgress = Callable[[str, int, int], None]  # a system, and how many questions it has answered, of how many


def questions(folder: Path, split: str, limit: int | None = None) -> tuple[list[TrainingExample], list[str]]:
    """The rows of a split whose image is there, and what is to be said of the others.

    Args:
        limit: so many of each kind, spread evenly over them.

    Raises:
        UsageError: there is no such split.
        BadTrainingData: the benchmark is damaged, or nothing of it can be asked.
    """
    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r}; known are {', '.join(SPLITS)}")
    asked = [
        row for row in read_examples(folder / vqa_dataset.ROWS) if row.stage == "vqa" and row.split in SPLITS[split]
    ]
    here = [row for row in asked if row.image is not None and vqa_dataset.image_of(folder, row.image) is not None]
    if not here:
        why = f"none of the images of its {len(asked)} questions is there" if asked else f"it has no split {split}"
        raise BadTrainingData(f"the benchmark in {folder} cannot be asked: {why}; `memlora vqa build` makes it again")
    lost = len(asked) - len(here)
    notes = [f"{lost} questions are left out: their images are not there, or not what they were"] if lost else []
    return here if limit is None else _sample_evenly(here, limit), notes


def _sample_evenly(rows: Sequence[TrainingExample], limit: int) -> list[TrainingExample]:
    kept: set[int] = set()
    for kind in dict.fromkeys(map(vqa_dataset.question_kind, rows)):
        places = [at for at, row in enumerate(rows) if vqa_dataset.question_kind(row) == kind]
        kept |= {places[len(places) * i // limit] for i in range(limit)} if limit < len(places) else set(places)
    return [rows[at] for at in sorted(kept)]


def run(
    folder: Path,
    engines: Mapping[str, CachedEngine],
    *,
    has_vision: bool,
    split: str = "val",
    limit: int | None = None,
    ahead: int = 8,
    on_progress: OnProgress = lambda system, done, total: None,
    cancelled: threading.Event | None = None,
) -> dict[str, Any]:
    """Ask a benchmark's questions.

    Args:
        folder: of the benchmark.
        looking: who answers as "memlora" and as "base"; one that is left out has no rows.
        sees: whether the student does; one that does not is told captions alone.

    Raises:
        UsageError, BadTrainingData: see `questions`.
        Cancelled: `cancelled` was set; what was answered is in the calls' cache.
    """
    manifest = vqa_dataset.read_manifest(folder)
    asked, notes = questions(folder, split, limit)
    captions = {image["file"]: str(image.get("caption") or "") for image in manifest["images"]}
    guess = vqa_dataset.majority_baseline(list(read_examples(folder / vqa_dataset.ROWS)))
    answers: dict[str, list[str]] = {}
    costs: dict[str, dict[str, float]] = {}

    def ask(name: str, calls: CachedEngine, requests: Sequence[Request]) -> None:
        done = calls.complete_all(
            requests, ahead=ahead, on_done=lambda count: on_progress(name, count, len(requests)), cancelled=cancelled
        )
        answers[name] = [stages.parse_visual_answer(one.text)[0] for one in done]
        costs[name] = _costs(done)

    told = [captions.get(str(row.image), "") for row in asked]
    has_captions = all(told)
    if not has_captions:
        notes.append("no system is told captions: not every image has one")
    for name, calls in engines.items():
        if has_vision:
            ask(name, calls, [_request(row.chat, folder / str(row.image)) for row in asked])
        if has_captions:
            also = "captions" if name == "base" else f"{name} captions"
            chats = [_with_caption(row.chat, caption) for row, caption in zip(asked, told, strict=True)]
            ask(also, calls, [_request(chat) for chat in chats])
    answers["blind"] = [guess(row) or "" for row in asked]
    gold = [vqa_dataset.answer_word(row) for row in asked]
    right = {
        name: [_same(word, wanted) for word, wanted in zip(answers[name], gold, strict=True)]
        for name in TITLES
        if name in answers
    }
    return {
        "benchmark": str(manifest["benchmark"]),
        "note": str(manifest.get("note", "")),
        "rows_sha256": vqa_dataset.file_digest(folder / vqa_dataset.ROWS),
        "split": split,
        "images": len({row.image for row in asked}),
        "teachers": sorted({row.teacher for row in asked}),
        "prompt": prompt_hash(stages.visual_question_chat("")),
        "notes": notes,
        "systems": {name: _scored(name, found, asked) | costs.get(name, {}) for name, found in right.items()},
        "tests": _tests(right),
        "questions": [
            {
                "conversation": row.conversation,
                "exchange": row.exchange,
                "kind": vqa_dataset.question_kind(row),
                "image": row.image,
                "question": _question(row),
                "gold": wanted,
                "answers": {name: answers[name][at] for name in right},
            }
            for at, (row, wanted) in enumerate(zip(asked, gold, strict=True))
        ],
    }


# ------------------------------------------------------------------------------------------------ inside


def _request(chat: ChatMessages, image: Path | None = None) -> Request:
    return Request("vqa", chat, stages.visual_answer_grammar(), stages.VISUAL_ANSWER_TOKENS, image)


def _with_caption(chat: ChatMessages, caption: str) -> ChatMessages:
    """The question with a caption where the image would be: before the words of the user."""
    role, words = chat[-1]
    return (*chat[:-1], (role, f"Image: {stages.clean_line(caption)}\n{words}"))


def _question(row: TrainingExample) -> str:
    return row.chat[-1][1].rpartition("Question: ")[2]


def _same(word: str, gold: str) -> bool:
    return word.strip().lower() == gold


def _scored(name: str, right: Sequence[bool], asked: Sequence[TrainingExample]) -> dict[str, Any]:
    of_kind = {
        kind: [one for one, row in zip(right, asked, strict=True) if vqa_dataset.question_kind(row) == kind]
        for kind in vqa_dataset.KINDS
    }
    kinds = {kind: _figure(found) for kind, found in of_kind.items() if found}
    return {"title": TITLES[name], "overall": _figure(right), "kinds": kinds}


def _figure(right: Sequence[bool]) -> dict[str, Any]:
    share = wilson(sum(right), len(right))
    return {"n": len(right), "right": sum(right), "interval": [round(share.low, 4), round(share.high, 4)]}


def _costs(done: Sequence[Completion]) -> dict[str, float]:
    """Of a question, on average."""
    return {
        "seconds": round(sum(one.seconds for one in done) / len(done), 4),
        "input_tokens": round(sum(one.prompt_tokens for one in done) / len(done), 1),
        "output_tokens": round(sum(one.output_tokens for one in done) / len(done), 1),
    }


def _tests(right: Mapping[str, Sequence[bool]]) -> list[dict[str, Any]]:
    first, *others = right
    found = [(name, mcnemar(right[first], right[name])) for name in others]
    corrected = holm([one.p_value for _, one in found])
    return [
        {"a": first, "b": name, "only_a": one.only_a, "only_b": one.only_b, "p": one.p_value, "p_holm": p}
        for (name, one), p in zip(found, corrected, strict=True)
    ]
