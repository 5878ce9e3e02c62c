"""Options that the commands of `memlora bench` share, and the fields of `BenchConfig` that they set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from memlora_mlx.cli.console import require_files
from memlora_mlx.cli.options import ExchangesOption, ExpertsOption, JsonOption, StudentOption, TopKOption

SYSTEM_NAMES = "memlora, base, mem0, full-context, rag, oracle"
VqaFolderOption = Annotated[
    Path | None,
    typer.Option("--vqa-from", metavar="FOLDER", help="Folder of the VQA data set (default: the one in <home>/vqa)."),
]


@dataclass(frozen=True, slots=True)
class SystemOptions:
    """What is measured, and where the result goes."""

    student: StudentOption = None
    experts: ExpertsOption = None
    systems: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help=f"Systems to compare, separated by commas (default: {SYSTEM_NAMES})."),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for results.json, report.md and report.html (default: a new one in <home>/bench/runs).",
        ),
    ] = None
    as_json: JsonOption = False

    def config(self) -> dict[str, Any]:
        """As fields of `BenchConfig`."""
        if self.systems is None:
            return {}
        return {"systems": tuple(name.strip() for name in self.systems.split(",") if name.strip())}


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """What a system may do, where questions are answered from memories."""

    top_k: TopKOption = None
    ablation: Annotated[
        bool,
        typer.Option(
            "--ablation", help="Also measure combinations of stages with and without their experts (Table 4)."
        ),
    ] = False
    ablation_with: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Second student for the ablation, like the paper's large one (default: none)."
        ),
    ] = None
    scales: Annotated[
        bool,
        typer.Option("--scales", help="Also measure every installed student, with and without experts (Table 5)."),
    ] = False
    efficiency: Annotated[
        bool,
        typer.Option(
            "--efficiency",
            help="Run one model call at a time, so that seconds per call are comparable with the paper.",
        ),
    ] = False
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="JUDGE",
            help="Language model that judges the answers: openai:URL,MODEL or mlx:MODEL (default: no judge).",
        ),
    ] = None

    def config(self) -> dict[str, Any]:
        """As fields of `BenchConfig`."""
        names = ("top_k", "ablation", "ablation_with", "scales", "efficiency", "judge")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class LocomoOptions:
    """Which conversations are read, and what their answers are compared with."""

    split: Annotated[
        str,
        typer.Option(
            metavar="SPLIT",
            help="Conversations, or with --vqa images, to use: val, test, train (the paper's division by whole"
            " conversations) or all (default: val).",
            show_default=False,
        ),
    ] = "val"
    conversations: Annotated[
        list[str] | None,
        typer.Option(
            "--conversations",
            "--conversation",
            metavar="NAME",
            help="Use only the conversation with this name. May be repeated (default: those of the split).",
        ),
    ] = None
    limit: ExchangesOption = None
    gold_corrections: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON file with corrected gold answers by question; the report then shows both scores (default: none).",
        ),
    ] = None
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="JSON file with another system's answers by question, to score with the rest. May be repeated.",
        ),
    ] = None

    def config(self) -> dict[str, Any]:
        """As fields of `BenchConfig`. Raises UsageError for a file that is not there."""
        from memlora_mlx.eval.locomo.questions import read_corrections

        corrections = read_corrections(require_files([self.gold_corrections])[0]) if self.gold_corrections else {}
        return {
            "split": self.split,
            "conversations": tuple(self.conversations or ()),
            "limit": self.limit,
            "predictions": tuple(require_files(self.predictions or [])),
            "corrections": corrections,
        }
