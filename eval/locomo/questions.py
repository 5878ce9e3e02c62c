"""The conversations of a benchmark with their questions, read so that one bad question does not cost the rest.

`distill.observations` reads the same files for training, where a bad row must stop everything; here it is left out and
named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memlora_mlx.conversations import conversation_exchanges, read_conversations
from memlora_mlx.conversations.splits import SPLITS
from memlora_mlx.errors import BadConversation, UsageError
from memlora_mlx.eval.cases import BenchmarkCase, Question
from memlora_mlx.eval.results import CATEGORIES
from memlora_mlx.text import well_formed

SPLIT_NAMES = ("val", "test", "train", "all")
_REF = re.compile(r"D:?([0-9]+):([0-9]+)")  # LoCoMo has "D8:6; D9:17" in one string, and "D:11:26"


def read_cases(
    file: Path, *, split: str = "all", names: Sequence[str] | None = None
) -> tuple[list[BenchmarkCase], list[str]]:
    """The conversations asked for with their questions, and a line on everything that had to be left out.

    Args:
        split: "val", "test", "train" (the paper's, by conversation) or "all".
        names: only these conversations; they go before the split.

    Raises:
        UsageError: the file has none of these conversations, or no questions.
        BadConversation: it cannot be read.
    """
    # the first of a name, as with the samples
    conversations = {conversation.name: conversation for conversation in reversed(read_conversations(file))}
    problems: list[str] = []
    samples = _samples(file, problems)
    cases: list[BenchmarkCase] = []
    for name in _chosen(file, list(samples), split, names, problems):
        questions = list(_questions(name, samples[name], problems))
        if name not in conversations:
            problems.append(f"{name} holds no turns; it and its {len(questions)} questions are left out")
            continue
        if not questions:
            problems.append(f"{name} has no questions; it is left out")
            continue
        cases.append(
            BenchmarkCase(name, tuple(conversation_exchanges(conversations[name], user="me")), tuple(questions))
        )
    if not cases:
        raise UsageError(f"nothing to ask: {'; '.join(problems)}")
    return cases, problems


def read_corrections(file: Path) -> dict[str, str]:
    """Right answers by question, to stand beside wrong gold ones.

    A JSON object {"conv-26/12": "the answer"}, or a list of {"question_id", "answer"}.

    Raises:
        UsageError: it is neither.
    """
    return _answers_of(file, "corrections")


def read_predictions(file: Path) -> dict[str, str]:
    """Another system's answers by question, in the same two forms; JSONL too.

    Raises:
        UsageError: it has none of these forms.
    """
    return _answers_of(file, "predictions")


def _answers_of(file: Path, what: str) -> dict[str, str]:
    wanted = 'an object {"conv-26/12": "answer"}, or a list or lines of {"question_id", "answer"}'
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the {what} in {file}: {error}") from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file} is not JSON ({error}); {what} are {wanted}") from error
    if isinstance(value, dict) and "question_id" in value:
        value = [value]
    pairs = value.items() if isinstance(value, dict) else _pairs(value, f"{file}: {what} are {wanted}")
    return {str(key): _plain(answer) for key, answer in pairs if not isinstance(answer, dict | list)}


def _pairs(value: object, complaint: str) -> Iterator[tuple[object, object]]:
    if not isinstance(value, list):
        raise UsageError(complaint)
    for item in value:
        if not isinstance(item, dict) or "question_id" not in item:
            raise UsageError(complaint)
        yield item["question_id"], item.get("answer")


def _samples(file: Path, problems: list[str]) -> dict[str, Mapping[str, Any]]:
    """LoCoMo's samples by name; the conversations in them were read, and found to be in order."""
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, UnicodeDecodeError):  # a transcript, JSONL
        found = None
    items = found if isinstance(found, list) else [found]
    if not all(isinstance(item, dict) and "qa" in item and "conversation" in item for item in items):
        raise BadConversation(
            f"{file} asks no questions; a benchmark needs LoCoMo's form (`conversation` and `qa`), or --mine"
        )
    samples: dict[str, Mapping[str, Any]] = {}
    for item in items:
        name = " ".join(str(item.get("sample_id") or "").split())
        if not name or name in samples:
            problems.append(f"a conversation without a sample_id of its own ({name or 'none'}) is left out")
        else:
            samples[name] = item
    return samples


def _chosen(file: Path, known: list[str], split: str, names: Sequence[str] | None, problems: list[str]) -> list[str]:
    there = f"{file.name} holds {', '.join(known[:20])}"
    if names:
        if missing := [name for name in names if name not in known]:
            raise UsageError(f"there is no conversation {missing[0]!r}; {there}")
        return [name for name in known if name in names]
    if split not in SPLIT_NAMES:
        raise UsageError(f"there is no split {split!r}; known are {', '.join(SPLIT_NAMES)}")
    if split == "all":
        return known
    splits = SPLITS["paper"]
    wanted = {"val": splits.validation, "test": splits.test}.get(split)
    found = [name for name in known if splits.split_of(name) == {"val": "validation"}.get(split, split)]
    if not found:
        named = f" ({', '.join(sorted(wanted))})" if wanted else ""
        raise UsageError(
            f"{file.name} has no conversation of the {split} split{named}: {there}; name a file that has, another"
            " --split, or --conversations"
        )
    if wanted and (missing := sorted(wanted - set(found))):
        problems.append(f"{file.name} lacks {', '.join(missing)} of the {split} split; the rest is measured")
    return found


def _questions(name: str, sample: Mapping[str, Any], problems: list[str]) -> Iterator[Question]:
    items = sample["qa"] if isinstance(sample["qa"], list) else []
    left_out: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        reason = _fault(item)
        if reason:
            left_out.setdefault(reason, []).append(number)
            continue
        category = int(item["category"])
        evidence = item.get("evidence") or []
        text = " ".join(map(str, evidence if isinstance(evidence, list) else [evidence]))
        refs = tuple(dict.fromkeys(f"D{int(session)}:{int(turn)}" for session, turn in _REF.findall(text)))
        if not refs:  # a file with ids of its own
            refs = (
                tuple(str(ref) for ref in evidence if str(ref) not in ("", "D")) if isinstance(evidence, list) else ()
            )
        gold = "" if category == 5 else _plain(item["answer"])
        yield Question(f"{name}/{number}", _plain(item["question"]), gold, category, refs)
    for reason, numbers in left_out.items():
        few = ", ".join(f"{name}/{number}" for number in numbers[:5]) + (", ..." if len(numbers) > 5 else "")
        problems.append(f"{len(numbers)} questions of {name} are left out: {reason} ({few})")


def _fault(item: object) -> str | None:
    if not isinstance(item, dict) or not _plain(item.get("question")):
        return "no question in them"
    category = item.get("category")
    if isinstance(category, bool) or str(category) not in map(str, CATEGORIES):
        return f"the category {str(category)[:40]!r} is unknown"
    answer = item.get("answer")
    if str(category) != "5" and (isinstance(answer, dict | list) or not _plain(answer)):
        return "they have no gold answer"
    return None


def _plain(value: object) -> str:
    """Text or a number (LoCoMo's gold answers are both) as one line."""
    return "" if value is None else " ".join(well_formed(str(value), "?").split())
