"""Teacher data: one JSON line an example, whoever the teacher is.

A row is a chat whose last turn is the answer to learn, so mlx-lm's own trainer reads the same files. Where the words come
from is in every row; which split they belong to is decided by the conversation's name, never by the row alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from memlora_mlx.conversations.splits import Split
from memlora_mlx.errors import BadTrainingData
from memlora_mlx.files import atomic_file
from memlora_mlx.json_lines import json_line
from memlora_mlx.records import STAGES, Role, Stage

ChatMessages = tuple[tuple[Role, str], ...]


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One example: what the stage is asked, and what it should answer."""

    stage: Stage
    chat: ChatMessages  # the prompt, ready for the student's chat template
    answer: str  # the teacher's, cleaned
    teacher: str  # a model's name, "observations" or "synthetic"
    conversation: str  # where the words come from: "conv-42", "life-17"
    exchange: str  # which part of it
    split: Split
    teacher_answer: str | None = None  # the teacher's answer before cleaning, where there was more to it
    image: str | None = (
        None  # what the question is about: a file, relative to the folder of the rows, named by its hash
    )

    @property
    def prompt_hash(self) -> str:
        """Names the prompt: sixteen hex digits of its turns, and of the image's name where there is one."""
        return prompt_hash(self.chat if self.image is None else (*self.chat, ("user", self.image)))

    def as_json(self) -> dict[str, Any]:
        turns: ChatMessages = (*self.chat, ("assistant", self.answer))
        return {
            "stage": self.stage,
            "source": {"conversation": self.conversation, "exchange": self.exchange, "split": self.split},
            "messages": to_openai_messages(turns),
            **({} if self.image is None else {"image": self.image}),
            "raw": self.teacher_answer,
            "teacher": self.teacher,
            "prompt_hash": self.prompt_hash,
        }


def to_openai_messages(chat: ChatMessages, image: str | None = None) -> list[dict[str, Any]]:
    """A chat as OpenAI's protocol has it; `image` is a `data:` address of what its last message is about."""
    made: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in chat]
    if image is not None:
        words = {"type": "text", "text": made[-1]["content"]}
        made[-1]["content"] = [{"type": "image_url", "image_url": {"url": image}}, words]
    return made


def prompt_hash(chat: ChatMessages) -> str:
    return sha256(json.dumps(chat, ensure_ascii=False).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------ files


def write_examples(path: Path, examples: Iterable[TrainingExample]) -> int:
    """Write a new file whole, or not at all. Returns how many rows it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with atomic_file(path, private=False) as file:
        for row in examples:
            file.write(json_line(row.as_json()))
            count += 1
    return count


def read_examples(path: Path) -> Iterator[TrainingExample]:
    """The rows of a file.

    Raises:
        BadTrainingData: a line is not JSON, not a row, or has nothing to learn; the message names the line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _example(line, f"{path}, line {number}")
    except UnicodeDecodeError as error:
        raise BadTrainingData(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise BadTrainingData(f"cannot read {path}: {error.strerror}; check the path") from error


def _example(line: str, where: str) -> TrainingExample:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadTrainingData(f"{where} is not JSON ({error}); mend or remove that line") from error
    try:
        stage, source = value["stage"], value["source"]
        turns = [(turn["role"], turn["content"]) for turn in value["messages"]]
        split, teacher, raw, image = source["split"], value["teacher"], value.get("raw"), value.get("image")
        names = (source["conversation"], source["exchange"], teacher)
    except (KeyError, TypeError) as error:
        raise BadTrainingData(f"{where} is no training row ({error!r}); `memlora teach` writes such rows") from error
    texts = (
        *names,
        *(text for _, text in turns),
        *(() if raw is None else (raw,)),
        *(() if image is None else (image,)),
    )
    if stage not in STAGES or split not in get_args(Split) or not all(isinstance(text, str) for text in texts):
        raise BadTrainingData(f"{where} is no training row: its stage, split or a text is of no known kind")
    if len(turns) < 2 or turns[-1][0] != "assistant" or any(role not in get_args(Role) for role, _ in turns):
        raise BadTrainingData(f"{where}: the messages must end with the assistant's answer")
    if not turns[-1][1].strip():
        raise BadTrainingData(f"{where}: the answer is empty, so there is nothing to learn; remove that line")
    if image is not None and (PurePosixPath(image).is_absolute() or ".." in PurePosixPath(image).parts):
        raise BadTrainingData(f"{where}: its image lies outside the folder of the rows; remove that line")
    if (image is None) == (stage == "vqa"):
        raise BadTrainingData(f"{where}: rows of vqa, and no others, have an image; `memlora vqa build` writes them")
    return TrainingExample(stage, tuple(turns[:-1]), turns[-1][1], teacher, names[0], names[1], split, raw, image)
