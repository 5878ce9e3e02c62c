"""Options that several commands share: each is written once, and means the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from memlora_mlx.records import Stage

StudentOption = Annotated[
    str | None,
    typer.Option(
        "--student",
        metavar="NAME",
        help="Student model: a name from `memlora models list`, a local MLX folder or a Hugging Face id (default: the"
        " setting `student`, else the best installed one).",
    ),
]
ExpertsOption = Annotated[
    str | None,
    typer.Option(
        "--experts",
        metavar="FOLDER|free|none",
        help="Folder with one sub-folder per stage, or with a single expert; free uses the shipped experts that were trained on"
        " generated data alone (Apache-2.0), none the base model alone (default: the installed experts, else the shipped ones).",
    ),
]
ModeOption = Annotated[
    str | None,
    typer.Option(
        "--expert-mode",
        metavar="swap|fused",
        help="How experts are held in memory: swap needs the least memory; fused is fastest but needs unquantised"
        " weights (default: swap).",
    ),
]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which models a command uses."""

    student: StudentOption = None
    experts: ExpertsOption = None
    mode: ModeOption = None

    def settings(self) -> dict[str, Any]:
        """As settings; None where the option was not given."""
        return {"student": self.student, "experts": self.experts, "expert_mode": self.mode}


KeepSecretsOption = Annotated[
    bool | None,
    typer.Option(
        "--keep-secrets",
        help="Store passwords, keys, card numbers and IBANs that are said, instead of a mark (default: the setting"
        " `keep_secrets`, which is off).",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
UserOption = Annotated[
    list[str] | None,
    typer.Option(
        "--user", metavar="NAME", help="Use only memories of this user. May be repeated (default: all users)."
    ),
]
TopKOption = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        "-k",
        metavar="N",
        min=1,
        max=1000,
        help="Use at most this many memories of each user (default: the setting `limit`, which is 10).",
    ),
]
OldLimitOption = Annotated[int | None, typer.Option("--limit", min=1, max=1_000_000, hidden=True)]
ExchangesOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        help="Read only the first N exchanges of each conversation (default: all).",
    ),
]
ConversationOption = Annotated[
    list[str] | None,
    typer.Option(
        "--conversation",
        metavar="NAME",
        help="Read only the conversation with this name. May be repeated (default: all).",
    ),
]
BaseUrlOption = Annotated[
    list[str] | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="OpenAI-compatible server, such as http://host:8000/v1. May be repeated to use several servers.",
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        help="API key of the server, or HOST=KEY if the servers have several hosts (default: the environment variable"
        " OPENAI_API_KEY if the server is the one of OPENAI_BASE_URL or OpenAI's own, else none).",
        show_default=False,
    ),
]
SplitsOption = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="NAME",
        help="How to divide conversations into train, validation and test (default: paper).",
        show_default=False,
    ),
]
ExpertStageOption = Annotated[
    str | None,
    typer.Option("--stage", metavar="STAGE", help="Stage of the expert. Needed only if the expert has no card."),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="FILE[:N]",
        help=r"Training data: a JSONL file, FILE:N for its first N examples, or the folder of a VQA data set. May be"
        " repeated (default: all data for the stage in <home>/teacher).",
    ),
]


@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """Training settings that differ from a recipe's."""

    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML recipe file (default: the recipe of the student's shipped expert, else the one for the stage).",
        ),
    ] = None
    epochs: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Stop after this many passes over the training examples; fractions are allowed (default: the recipe's).",
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Examples per training step, summed over all processes (default: the recipe's).",
        ),
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Peak learning rate. The schedule warms up to it and then decays to a tenth (default: the recipe's).",
        ),
    ] = None
    rank: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Rank of the LoRA matrices (default: the recipe's).")
    ] = None
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="qv|all",
            help="Linear layers to adapt: qv (query and value projections) or all (default: the recipe's).",
        ),
    ] = None
    max_seq_length: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            min=16,
            help="Longest example in tokens; longer ones are skipped (default: the recipe's).",
        ),
    ] = None
    patience: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Stop after this many validations in a row without improvement (default: the recipe's).",
        ),
    ] = None
    validations: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="How many times per epoch to measure the validation loss (default: the recipe's)."
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Random seed for weight initialisation, data order and dropout (default: the recipe's).",
        ),
    ] = None
    grad_checkpoint: Annotated[
        bool,
        typer.Option(
            "--grad-checkpoint",
            help="Recompute activations in the backward pass. This needs less memory and takes about a third longer.",
        ),
    ] = False

    def changes(self) -> dict[str, object]:
        """The values of `Recipe` to change; None where the option was not given."""
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "rank": self.rank,
            "max_seq_length": self.max_seq_length,
            "patience": self.patience,
            "validations": self.validations,
            "seed": self.seed,
            "grad_checkpoint": self.grad_checkpoint or None,
            "keys": _layer_names(self.layers),
        }


def _layer_names(name: str | None) -> tuple[str, ...] | None:
    from memlora_mlx.errors import UsageError

    if name is None:
        return None
    from memlora_mlx.models.experts import ALL_LINEAR, Q_V

    known = {"qv": Q_V, "all": ALL_LINEAR}
    if name not in known:
        raise UsageError(f"--layers takes qv or all, not {name!r}.")
    return known[name]


def parse_stage(name: str) -> Stage:
    """The stage of this name. Raises UsageError for an unknown one."""
    from memlora_mlx.errors import UsageError
    from memlora_mlx.records import STAGES

    for stage in STAGES:
        if stage == name:
            return stage
    raise UsageError(f"Unknown stage {name!r}. Choose one of: {', '.join(STAGES)}.")


def require_split_scheme(name: str) -> None:
    """Raises UsageError: there is no way of dividing conversations with this name."""
    from memlora_mlx.conversations.splits import SPLITS
    from memlora_mlx.errors import UsageError

    if name not in SPLITS:
        raise UsageError(f"Unknown split {name!r}. Choose one of: {', '.join(sorted(SPLITS))}.")


def top_k_or_old_limit(top_k: int | None, limit: int | None) -> int | None:
    """The number of memories; `--limit` is the old name of `--top-k` and still works, with a note on standard error."""
    if limit is None:
        return top_k
    typer.echo("memlora: --limit is deprecated here. Use -k or --top-k.", err=True)
    return limit if top_k is None else top_k
