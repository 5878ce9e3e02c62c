"""Training examples and their files: one JSON line for each example, in the same format for every teacher.

An example is a chat whose last turn is the answer to learn, so mlx-lm's own trainer reads the same files. Every example says
which conversation it comes from. The conversation's name decides the split, not the example alone.
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
    """One example: the prompt of a stage, and the answer it should give."""

    stage: Stage
    chat: ChatMessages  # the prompt, ready for the student's chat template
    answer: str  # the teacher's, cleaned
    teacher: str  # a model's name, "observations" or "synthetic"
    conversation: str  # that the text comes from: "conv-42", "life-17"
    exchange: str  # the part of that conversation
    split: Split
    teacher_answer: str | None = None  # the answer before cleaning, if it was different; the key `raw` of the file
    image: str | None = None  # of a visual question: a file named by its hash, relative to the examples' folder

    @property
    def prompt_hash(self) -> str:
        """Identifies the prompt: sixteen hexadecimal digits of its turns and, if there is one, the image's name."""
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
    """A chat in the format of OpenAI's protocol. `image` is a `data:` URL of the image that its last message is about."""
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in chat]
    if image is not None:
        text = {"type": "text", "text": messages[-1]["content"]}
        messages[-1]["content"] = [{"type": "image_url", "image_url": {"url": image}}, text]
    return messages


def prompt_hash(chat: ChatMessages) -> str:
    return sha256(json.dumps(chat, ensure_ascii=False).encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------ files


def write_examples(path: Path, examples: Iterable[TrainingExample]) -> int:
    """Write a new file as a whole, or not at all. Returns the number of examples. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with atomic_file(path, private=False) as file:
        for example in examples:
            file.write(json_line(example.as_json()))
            count += 1
    return count


def read_examples(path: Path) -> Iterator[TrainingExample]:
    """The examples of a file.

    Raises:
        BadTrainingData: a line is not JSON, is not an example, or has an empty answer; the message names the line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _example(line, f"{path}, line {number}")
    except UnicodeDecodeError as error:
        raise BadTrainingData(f"{path} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error
    except OSError as error:
        raise BadTrainingData(f"Cannot read {path}: {error.strerror}. Check the path.") from error


def _example(line: str, where: str) -> TrainingExample:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadTrainingData(f"{where} is not JSON ({error}). Correct or remove that line.") from error
    try:
        stage, source = value["stage"], value["source"]
        turns = [(turn["role"], turn["content"]) for turn in value["messages"]]
        split, teacher, raw, image = source["split"], value["teacher"], value.get("raw"), value.get("image")
        names = (source["conversation"], source["exchange"], teacher)
    except (KeyError, TypeError) as error:
        raise BadTrainingData(
            f"{where} is not a training example ({error!r}). Correct or remove that line; `memlora teach` writes examples."
        ) from error
    texts = (
        *names,
        *(text for _, text in turns),
        *(() if raw is None else (raw,)),
        *(() if image is None else (image,)),
    )
    if stage not in STAGES or split not in get_args(Split) or not all(isinstance(text, str) for text in texts):
        raise BadTrainingData(
            f"{where} is not a valid training example: unknown stage or split, or a value that is not text. Correct or remove that line."
        )
    if len(turns) < 2 or turns[-1][0] != "assistant" or any(role not in get_args(Role) for role, _ in turns):
        raise BadTrainingData(
            f"{where}: the messages must end with the assistant's answer, after a prompt. Correct or remove that line."
        )
    if not turns[-1][1].strip():
        raise BadTrainingData(f"{where}: the answer is empty, so there is nothing to learn. Remove that line.")
    if image is not None and (PurePosixPath(image).is_absolute() or ".." in PurePosixPath(image).parts):
        raise BadTrainingData(f"{where}: its image is outside the folder of the examples. Remove that line.")
    if (image is None) == (stage == "vqa"):
        raise BadTrainingData(
            f"{where}: a vqa example needs an image, and only vqa examples can have one. `memlora vqa build` writes them."
        )
    return TrainingExample(stage, tuple(turns[:-1]), turns[-1][1], teacher, names[0], names[1], split, raw, image)
