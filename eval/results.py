"""What a benchmark run leaves behind: every question each system was asked, and what was measured around it.

A run is one JSON file: `BenchRun.as_json()`. All tables and charts are computed from it alone, so that any of their figures can
be recomputed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from memlora_mlx.errors import UsageError
from memlora_mlx.files import atomic_write

FORMAT = 1  # of the file; another one is refused, not guessed

# LoCoMo's categories, as its authors' own evaluation code has them (several published tables have them shifted).
CATEGORIES: Mapping[int, str] = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
SCORED = (1, 2, 3, 4)  # 5 asks what the conversation does not say; it is reported apart, as abstention

FailureStage = Literal["not extracted", "updated away", "not retrieved", "answered wrongly"]


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """One question, answered by one system."""

    system: str  # "memlora", "base", "mem0", "full-context", "rag", "rag-dense", "oracle", or a row of an ablation
    conversation: str  # "conv-26"
    question_id: str  # "conv-26/12": its place in the file, from 0
    category: int
    question: str
    gold: str  # "" where the data has none (most of category 5)
    evidence: tuple[str, ...]  # the turns that hold the answer
    answer: str
    retrieved: tuple[Mapping[str, Any], ...] = ()  # text, refs (turns it came from), score; best first
    recall: float | None = None  # share of the evidence turns among the refs retrieved; None if it cannot be told
    lost: FailureStage | None = None  # where a wrong answer was lost; None where it was right, or cannot be told
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    # 0 to 1, by the names of metrics.Scores, and `abstained` (1.0: the answer says that there is none); of category 5 that alone
    scores: Mapping[str, float] = field(default_factory=dict)
    verdicts: Mapping[str, bool] = field(default_factory=dict)  # a judge's, by rubric: "generous", "strict"
    corrected_gold: str | None = None  # from --gold-corrections
    corrected_scores: Mapping[str, float] = field(default_factory=dict)
    corrected_verdicts: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageCost:
    """The calls of one stage of one system, summed."""

    system: str
    stage: str  # "extraction", "update", "generation"
    calls: int
    input_tokens: int
    output_tokens: int
    seconds: float  # of the student's time

    @property
    def tokens_per_second(self) -> float:
        return self.output_tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """How long one phase of one system took."""

    system: str
    name: str  # "ingest", "answers", "scores", "judge"
    seconds: float  # wall
    model_seconds: float  # of them inside model calls
    from_cache: bool  # as a whole
    kept_seconds: float = 0.0  # beside these: what its calls took that were made before, and not again


@dataclass(frozen=True, slots=True)
class BenchRun:
    """One benchmark run."""

    # student, experts, embedder, judge and its prompts' hashes, metric back ends, data and its hash, split, conversations,
    # seed, device, versions, command
    origin: Mapping[str, Any]
    asked: tuple[QuestionResult, ...]
    costs: tuple[StageCost, ...] = ()
    phases: tuple[PhaseCost, ...] = ()
    # by name: title, table ("systems", "ablation" or "scales"), stages (who answers each, in words), has_experts, student,
    # size_bytes, experts_bytes, and sums over its conversations: conversations, memories, facts, operations (by event),
    # rejected, duplicates; note
    systems: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: tuple[str, ...] = ()  # what went wrong on the way, in words; the rest of the run is kept
    extra: Mapping[str, Any] = field(default_factory=dict)  # other benchmarks by name, such as "conflict"

    def as_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BenchRun:
        """Raises KeyError, TypeError, ValueError: it is not what `as_json` gives."""
        if value["format"] != FORMAT:
            raise ValueError(f"it has the format {value['format']!r}, and this memlora writes {FORMAT}")
        tuples = ("evidence", "retrieved")
        return cls(
            origin=dict(value["origin"]),
            asked=tuple(
                QuestionResult(**{**one, **{name: tuple(one[name]) for name in tuples}}) for one in value["asked"]
            ),
            costs=tuple(StageCost(**cost) for cost in value["costs"]),
            phases=tuple(PhaseCost(**phase) for phase in value["phases"]),
            systems=dict(value["systems"]),
            failures=tuple(value["failures"]),
            extra=dict(value.get("extra") or {}),
        )


def read_run(path: Path) -> BenchRun:
    """A run from its results.json, or from the folder that holds one.

    Raises:
        UsageError: there is none, or it is damaged or of another version.
    """
    file = path / "results.json" if path.is_dir() else path
    try:
        return BenchRun.from_json(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read the run {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{file} is no benchmark run of this version ({error!r}); run `memlora bench` again"
        ) from error


def write_run(run: BenchRun, folder: Path) -> Path:
    """Write results.json into the folder, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    atomic_write(path, json.dumps(run.as_json(), ensure_ascii=False, indent=1) + "\n", private=False)
    return path
