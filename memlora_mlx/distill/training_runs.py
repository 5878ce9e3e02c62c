"""`memlora train` as a library call: teacher data in, an expert with its card out.

A run has a folder of its own below `<home>/runs`: run.json (what was asked for, and on what machine), metrics.jsonl (one line
a step), the state it can be resumed from, and at the end the expert.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import platform
import random
import re
import shlex
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlora_mlx.conversations.splits import SPLITS, Splits
from memlora_mlx.distill import vqa_dataset
from memlora_mlx.distill.examples import TrainingExample, read_examples
from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.errors import BadTrainingData, Cancelled, TrainingFailed, UsageError, VisionMissing
from memlora_mlx.files import atomic_write
from memlora_mlx.memory import stages
from memlora_mlx.models.adapter_registry import read_card
from memlora_mlx.models.cards import BaseModel, ExpertCard, TrainedOn, TrainingMetrics
from memlora_mlx.models.model_config import text_only_message
from memlora_mlx.models.typed_json import from_json
from memlora_mlx.records import STAGES, Stage

if TYPE_CHECKING:
    from memlora_mlx.distill.training import MetricsPoint, TrainingResult
    from memlora_mlx.models.student import Student

BEST_SO_FAR = "best-so-far"  # in a run's folder: the expert that a run had learnt when it was stopped
LOCK = ".lock"  # in a run's folder while a process trains there
VALIDATION_ROWS = 128  # of each run: a validation must not cost more than the training between two
LOCOMO = "CC BY-NC 4.0 (made of LoCoMo, Maharana et al., 2024)"
_OURS = "Apache-2.0 (memlora)"
LICENCES = {"observations": LOCOMO, "synthetic": _OURS, "drawings": _OURS}  # by teacher
_OF_LOCOMO = re.compile(r"conv-\d+")  # its conversations' names, whoever taught about them


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What a run is asked to do; written into its folder, so that --resume needs nothing else."""

    stage: Stage
    student: str
    data: tuple[str, ...]  # files of rows; "FILE:300" takes 300 training rows of one, drawn with the recipe's seed
    recipe: Recipe
    rows: int | None = None  # so many training rows, drawn with the recipe's seed
    splits: str = "paper"
    validation_rows: int = VALIDATION_ROWS
    start: str | None = None  # the folder of an expert to go on from


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The rows of a run, split, and where they came from."""

    training: tuple[TrainingExample, ...]
    validation: tuple[TrainingExample, ...]
    hash: str  # of the training rows
    validation_hash: str
    origin: Mapping[str, Any]
    images: Mapping[str, Path] = field(default_factory=dict)  # their files, by the rows' names for them


def default_data(stage: Stage, home: Path) -> list[Path]:
    """The teacher data of a stage in the data folder; of vqa, the benchmark there.

    Raises:
        BadTrainingData: there is none.
    """
    if stage == "vqa":
        return [vqa_dataset.find_dataset(home) / vqa_dataset.ROWS]
    found = sorted(
        path for path in (home / "teacher" / stage).glob("*.jsonl") if not path.name.endswith(".refused.jsonl")
    )
    if not found:
        raise BadTrainingData(
            f"there is no teacher data for {stage} in {home / 'teacher'}; "
            f"`memlora teach --stage {stage} --teacher synthetic` makes some without a server"
        )
    return found


def local_data_offer(stage: Stage) -> str:
    """What can be done without a server where there is no teacher data for a stage, as a question begins."""
    return "Draw the small test bench" if stage == "vqa" else "Make the synthetic set"


def read_data(config: TrainingConfig) -> TrainingData:
    """Read and split the rows. A test conversation's never train, whatever their file says of their split.

    Without rows for validation, one training conversation in ten validates. A row whose image is not there is left out.

    Raises:
        BadTrainingData: fewer than two rows, or of another stage.
    """
    splits = SPLITS[config.splits]
    training: list[TrainingExample] = []
    validation: list[TrainingExample] = []
    images: dict[str, Path] = {}
    blind = 0
    shuffled = random.Random(config.recipe.seed)
    for given in config.data:
        name, count = parse_file_and_count(given)
        begun = len(training)
        for row in read_examples(Path(name)):
            if row.stage != config.stage:
                raise BadTrainingData(f"{name} holds rows of {row.stage}, not of {config.stage}; give the right file")
            split = _split(row, splits)
            if split == "test":
                continue
            if row.image is not None and (image := vqa_dataset.image_of(Path(name).parent, row.image)) is not None:
                images[row.image] = image
            if row.image is not None and row.image not in images:
                blind += 1
            else:
                (training if split == "train" else validation).append(row)
        if count is not None and count < len(training) - begun:
            training[begun:] = shuffled.sample(training[begun:], count)
    if blind and not training:
        raise BadTrainingData(f"none of the images of {blind} rows is there, or what it was; `memlora vqa build` again")
    if not validation and len(training) > 1:
        training, validation = _split_examples(training)
    if len(training) < 1 or len(validation) < 1:
        raise BadTrainingData(
            f"{len(training)} rows to train on and {len(validation)} to validate with are too few; at least one each"
            " is needed, and some hundreds for an expert that is worth it"
        )
    if config.rows is not None and config.rows < len(training):
        training = shuffled.sample(training, config.rows)
    if len(validation) > config.validation_rows:
        validation = shuffled.sample(validation, config.validation_rows)
    origin = _origin(config, training, validation) | ({"rows_without_image": blind} if blind else {})
    return TrainingData(tuple(training), tuple(validation), _hash(training), _hash(validation), origin, images)


def train(
    student: Student,
    config: TrainingConfig,
    folder: Path,
    *,
    on_start: Callable[[TrainingData, int], None] = lambda data, left_out: None,
    on_point: Callable[[MetricsPoint], None] = lambda point: None,
    cancelled: threading.Event | None = None,
    command: str = "",
) -> Path:
    """Run an order in its folder, or go on with what is there. Returns the expert's folder.

    Under `mlx.launch` every process calls it, each with a student of its own; the first alone writes.

    Args:
        on_start: told the data, and how many training rows are too long.

    Raises:
        BadTrainingData, TrainingFailed, Cancelled: see `Trainer`; all that was done is kept.
        VisionMissing: a vqa expert for a student that cannot see.
    """
    from memlora_mlx.distill import distributed
    from memlora_mlx.distill.datasets import tokenize_examples
    from memlora_mlx.distill.training import Trainer
    from memlora_mlx.distill.training_step import estimate_memory
    from memlora_mlx.models.device import usable_memory
    from memlora_mlx.models.experts import write_expert

    if config.stage == "vqa" and not student.has_vision:
        raise VisionMissing(text_only_message(student.name))
    recipe = config.recipe
    data = read_data(config)
    longest = min(recipe.max_seq_length, student.context)
    said: dict[str, Any] = {"longest": longest, "decision_weight": recipe.decision_weight, "images": data.images}
    training, left_out = tokenize_examples(student, data.training, **said)
    validation, _ = tokenize_examples(student, data.validation, **said, what="validate with")
    on_start(data, left_out)
    needed = estimate_memory(student, recipe, training)
    if needed > (usable := usable_memory()):
        raise TrainingFailed(
            f"a step needs about {_gibibytes(needed)} and there are {_gibibytes(usable)}; take a smaller --batch-size "
            f"than {recipe.batch_size}, --grad-checkpoint, or a quantised student"
        )
    with _run_lock(folder) if distributed.rank() == 0 else contextlib.nullcontext():
        start = Path(config.start) if config.start else None
        run = Trainer(
            student, recipe, training, validation, folder, start=start, on_point=on_point, cancelled=cancelled
        )

        def write(expert: Path, outcome: TrainingResult) -> Path:
            if distributed.rank() == 0:
                card = make_card(student, config, data, outcome, command)
                write_expert(expert, outcome.lora_weights, scale=recipe.scale, dropout=recipe.dropout, card=card)
            return expert

        try:
            outcome = run.train()
        except Cancelled:
            if run.progress.best_step:  # what has been learnt can be used while the run waits to be resumed
                with contextlib.suppress(OSError, RuntimeError):
                    write(folder / BEST_SO_FAR, run.result())
            raise
        try:
            return write(folder / "expert", outcome)
        except (OSError, RuntimeError) as error:  # MLX raises the latter where a disk is full
            raise TrainingFailed(
                f"cannot write the expert to {folder} ({error}); the training is done and kept: make room and `--resume`"
            ) from error


@contextlib.contextmanager
def _run_lock(folder: Path) -> Iterator[None]:
    """Keep every other process out of a run's folder."""
    import filelock

    try:
        held = filelock.FileLock(folder / LOCK).acquire(timeout=0)
    except filelock.Timeout as error:
        raise UsageError(f"another process is training in {folder}; wait for it, or stop it first") from error
    except OSError as error:
        raise TrainingFailed(f"cannot write to {folder} ({error.strerror}); check the folder") from error
    with held:
        yield


def create_run(config: TrainingConfig, folder: Path, command: str = "") -> None:
    """Make the run's folder and write down what it is to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = {**config_to_json(config), "command": command, "environment": describe_environment()}
        atomic_write(folder / "run.json", json.dumps(text, indent=1, ensure_ascii=False), private=False)
    except OSError as error:
        raise TrainingFailed(f"cannot write to {folder} ({error.strerror}); choose another --out") from error


def read_run_config(folder: Path) -> TrainingConfig:
    """The order of a run that is to go on.

    Raises:
        UsageError: the folder holds no run.
    """
    try:
        return config_from_json(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} holds no run to resume ({error}); leave --resume away to begin one") from error


def starting_command(folder: Path) -> str:
    """The command that began a run; empty where none was written down."""
    return str(_read_run(folder).get("command") or "")


def config_to_json(config: TrainingConfig) -> dict[str, Any]:
    return {**asdict(config), "recipe": config.recipe.as_dict()}


def config_from_json(text: Mapping[str, Any]) -> TrainingConfig:
    """The order again. Raises KeyError, TypeError, ValueError: it is none."""
    recipe = text["recipe"] | {"keys": tuple(text["recipe"]["keys"]), "betas": tuple(text["recipe"]["betas"])}
    if text["stage"] not in STAGES or text["splits"] not in SPLITS:
        raise ValueError("its stage or its splits are of no known name")
    names = ("stage", "student", "rows", "splits", "validation_rows")
    given = {name: text[name] for name in names}
    return TrainingConfig(**given, data=tuple(text["data"]), recipe=Recipe(**recipe), start=text.get("start"))


# ------------------------------------------------------------------------------------------------ run folders


def new_run_folder(home: Path, stage: Stage, day: date) -> Path:
    """A name for a run's folder that is not taken yet: update-2025-05-08-1."""
    names = (home / "runs" / f"{stage}-{day.isoformat()}-{number}" for number in itertools.count(1))
    return next(folder for folder in names if not folder.exists())


def newest_unfinished(home: Path, stage: Stage | None) -> Path:
    """The run that was begun last and has no expert yet, of a stage or of any.

    Raises:
        UsageError: there is none.
    """
    begun = [
        (written.stat().st_mtime, written.parent)
        for written in (home / "runs").glob("*/run.json")
        if not (written.parent / "expert" / "adapter_config.json").is_file()
        and (stage is None or _read_run(written.parent).get("stage") == stage)
    ]
    if not begun:
        raise UsageError(f"there is no unfinished {f'{stage} ' if stage else ''}run in {home / 'runs'} to resume")
    return max(begun)[1]


def is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file()


def discard_empty_run(folder: Path) -> None:
    """Remove a run's folder if it holds nothing but its order: it failed before its first step."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {"run.json", LOCK}:
        shutil.rmtree(folder, ignore_errors=True)


def _read_run(folder: Path) -> dict[str, Any]:
    """A run's run.json; empty where it cannot be read."""
    try:
        text = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return text if isinstance(text, dict) else {}


# ------------------------------------------------------------------------------------------------ cards


def make_card(
    student: Student, config: TrainingConfig, data: TrainingData, outcome: TrainingResult, command: str
) -> ExpertCard:
    """What an expert says of itself: base, stage, recipe, data and its licence, teacher, metrics, versions."""
    progress = outcome.progress
    start = read_card(Path(config.start)) if config.start else None
    licences = [(start.licence if start else None) or "", data.origin["licence"]]
    licence = "; ".join(dict.fromkeys(part for text in licences for part in text.split("; ") if part))
    shared = _shared_images(data.training) if config.stage == "update" else {}
    losses = {"start" if config.start else "base": progress.first_loss, "expert": progress.best_loss}
    trained_on = {"hash": data.hash, "validation_hash": data.validation_hash, **data.origin, "licence": licence}
    return ExpertCard(
        stage=config.stage,
        copied_texts="copied_texts" in shared,
        one_fact="one_fact" in shared,
        start=start,
        base=BaseModel(name=student.name, fingerprint=student.fingerprint),
        recipe=config.recipe.as_dict(),
        data=from_json(TrainedOn, trained_on),
        metrics=TrainingMetrics(
            validation_loss={name: loss for name, loss in losses.items() if loss is not None},
            step=progress.best_step,
            steps=progress.step,
            ended=progress.ended,
            seconds=round(progress.seconds),
        ),
        environment=describe_environment(),
        command=_without_folders(command),
        made=datetime.now(UTC).date().isoformat(),
    )


def describe_environment() -> dict[str, str]:
    from memlora_mlx.models.device import describe_device

    packages = {name: version(name) for name in ("memlora-mlx", "mlx", "mlx-lm")}
    return {**packages, "python": platform.python_version(), "device": describe_device(), "platform": sys.platform}


# ------------------------------------------------------------------------------------------------ inside


def _shared_images(examples: Sequence[TrainingExample]) -> dict[str, bool]:
    """What all these update rows have in common, so that the student may be asked and held to it: see `PipelineOptions`."""
    asked = [stages.parse_update_chat(row.chat) for row in examples]
    one_fact = all(found is not None and len(found[1]) == 1 for found in asked)
    return {name: True for name, holds in (("copied_texts", _copies_texts(examples)), ("one_fact", one_fact)) if holds}


def _copies_texts(examples: Sequence[TrainingExample]) -> bool:
    """Whether every text of these update answers stands in its prompt, so that decoding may hold the expert to that."""
    return all(
        json.dumps(entry["text"], ensure_ascii=False) in row.chat[-1][1]
        for row in examples
        for entry in json.loads(row.answer)["memory"]
    )


def parse_file_and_count(given: str) -> tuple[str, int | None]:
    """FILE, or FILE:N with its number of rows."""
    name, colon, count = given.rpartition(":")
    return (name, int(count)) if colon and count.isdigit() and not Path(given).exists() else (given, None)


def _split(row: TrainingExample, splits: Splits) -> str:
    """The conversation's name decides where it is known; a synthetic life says itself whether it validates."""
    decided = splits.split_of(row.conversation)
    return row.split if decided == "train" else decided


def _split_examples(examples: Sequence[TrainingExample]) -> tuple[list[TrainingExample], list[TrainingExample]]:
    """Every tenth conversation validates; of a single conversation, every tenth row."""
    names = sorted({row.conversation for row in examples})
    if len(names) > 1:
        held = set(names[:: max(2, min(10, len(names)))])
        return [r for r in examples if r.conversation not in held], [r for r in examples if r.conversation in held]
    step = max(2, min(10, len(examples)))
    return [r for i, r in enumerate(examples) if i % step], [r for i, r in enumerate(examples) if i % step == 0]


def _origin(
    config: TrainingConfig, training: Sequence[TrainingExample], validation: Sequence[TrainingExample]
) -> dict[str, Any]:
    teachers = Counter(row.teacher for row in training)
    names = {row.conversation for row in training}
    return {
        "files": [_below_home(name) for name in config.data],
        "splits": config.splits,
        "rows": len(training),
        "rows_asked": config.rows,
        "validation_rows": len(validation),
        "validation_rows_asked": config.validation_rows,
        "teachers": dict(teachers),
        "conversations": sorted(names) if len(names) <= 20 else f"{len(names)} conversations",
        "licence": "; ".join(dict.fromkeys(_licence(row) for row in (*training, *validation))),
    }


def _licence(row: TrainingExample) -> str:
    return LOCOMO if _OF_LOCOMO.fullmatch(row.conversation) else LICENCES.get(row.teacher, "as the teacher's data")


def _below_home(given: str) -> str:
    """A path as a card names it: from `teacher/` (or another of memlora's folders) on, else its name alone."""
    parts = Path(given).parts
    known = next((name for name in ("teacher", "vqa", "adapters", "runs") if name in parts[:-1]), None)
    return "/".join(parts[parts.index(known) :]) if known else parts[-1]


def _without_folders(command: str) -> str:
    """A command as a card shows it to others: nothing of whose machine it was."""
    words = [_below_home(word) if Path(word).is_absolute() else word for word in shlex.split(command)]
    return shlex.join(words)


def _hash(rows: Sequence[TrainingExample]) -> str:
    return hashlib.sha256("".join(sorted(row.prompt_hash + row.answer for row in rows)).encode()).hexdigest()[:16]


def _gibibytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
