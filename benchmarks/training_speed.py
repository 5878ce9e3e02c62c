"""Training throughput: memlora's run beside plain mlx-lm, on the same student, rows, batch size and layers.

    python -m benchmarks.training_speed [--stage STAGE] [--student NAME] [--data FILE[:N]] [--steps N] [--rounds N]

Both train the same rows once, by turns, in one process with the same BLAS, precision and compiler setting; the first
round warms up and does not count. Plain is what `mlx_lm.lora --mask-prompt` does: mlx-lm's own loss, batches, datasets
and step. Counted are the tokens of prompts and answers, without padding, over the whole training time of each: set-up of a
step, callbacks and reports are in it; loading, tokenising and validation are not.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from memlora_mlx.distill.datasets import tokenize_examples
from memlora_mlx.distill.examples import TrainingExample
from memlora_mlx.distill.recipes import Recipe, read_recipe
from memlora_mlx.distill.training import Trainer
from memlora_mlx.distill.training_runs import TrainingConfig, default_data, describe_environment, read_data
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models import cpu_kernels
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.student import Student
from memlora_mlx.records import STAGES
from memlora_mlx.settings import load_settings

import mlx.core as mx  # isort: skip

TARGET = 0.95  # of plain mlx-lm, at least


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES[:3], default="extraction")
    parser.add_argument("--student", help="by default the one of the settings")
    parser.add_argument(
        "--data", action="append", metavar="FILE[:N]", help="by default the teacher data in the data folder"
    )
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--steps", type=int, default=10, help="of each, in a round")
    parser.add_argument("--rounds", type=int, default=5, help="after the first, which does not count")
    parser.add_argument(
        "--compile", action="store_true", help="let mx.compile work for plain mlx-lm, as it does in its own command"
    )
    arguments = parser.parse_args(argv)

    settings = load_settings({"student": arguments.student})
    with Workspace(settings) as workspace:
        folder, name = workspace.student_folder, workspace.student_name
    recipe = read_recipe(arguments.stage).changed(batch_size=arguments.batch_size, epochs=1, validations=1, patience=9)
    files = arguments.data or [str(path) for path in default_data(arguments.stage, settings.home)]
    data = read_data(TrainingConfig(arguments.stage, name, tuple(files), recipe))
    student = load_student(folder)
    fitting = [row for row in data.training if _length(student, row) <= min(recipe.max_seq_length, student.context)]
    count = arguments.steps * recipe.batch_size
    if len(fitting) < count:
        parser.error(f"{count} rows are needed and {len(fitting)} fit; take fewer --steps")
    held = data.validation[:1]

    speeds: list[tuple[float, float]] = []
    for number in range(arguments.rounds + 1):
        rows = random.Random(number).sample(fitting, count)
        tokens = sum(_length(student, row) for row in rows)
        by_turns = [(0, ours), (1, plain)] if number % 2 else [(1, plain), (0, ours)]
        seconds = [0.0, 0.0]
        for place, train in by_turns:
            if arguments.compile and place == 1:
                mx.enable_compile()
            seconds[place] = train(folder, recipe, rows, held)
            if arguments.compile:
                mx.disable_compile()
            gc.collect()
        pair = tokens / seconds[0], tokens / seconds[1]
        print(
            f"{'warm-up' if number == 0 else f'round {number}':<8} {pair[0]:>8.0f} {pair[1]:>8.0f} tokens/s  {pair[0] / pair[1]:.2f}"
        )
        if number:
            speeds.append(pair)
    own, its = (statistics.median(column) for column in zip(*speeds, strict=True))
    ratio = statistics.median(a / b for a, b in speeds)
    print(
        f"\nmemlora {own:.0f} tokens/s, plain mlx-lm {its:.0f}: {ratio:.2f} of it (target {TARGET}: {'met' if ratio >= TARGET else 'NOT MET'})"
    )
    report = {
        "student": name,
        "stage": arguments.stage,
        "batch_size": recipe.batch_size,
        "layers": list(recipe.keys),
        "steps": arguments.steps,
        "compiled": arguments.compile,
        "tokens_per_second": [{"memlora": round(a, 1), "mlx_lm": round(b, 1)} for a, b in speeds],
        "ratio": round(ratio, 3),
        "machine": describe_environment(),
    }
    print(json.dumps(report))


def ours(folder: Path, recipe: Recipe, rows: Sequence[TrainingExample], held: Sequence[TrainingExample]) -> float:
    """Seconds of one epoch by memlora's run."""
    student = load_student(folder)
    training, validation = (
        tokenize_examples(student, part, longest=student.context, decision_weight=recipe.decision_weight)[0]
        for part in (rows, held)
    )
    with tempfile.TemporaryDirectory() as scratch:
        points = Trainer(student, recipe, training, validation, Path(scratch)).train().points
    validated = next(point.seconds for point in points if point.validation_loss is not None)
    return max(point.seconds for point in points if point.train_loss is not None) - validated


def plain(folder: Path, recipe: Recipe, rows: Sequence[TrainingExample], held: Sequence[TrainingExample]) -> float:
    """Seconds of one epoch by mlx-lm's trainer, set up as its command does."""
    import mlx.optimizers as optim
    from mlx_lm.tuner.datasets import CacheDataset, ChatDataset
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_tokenizer

    model = load_student(folder).model  # in the same precision: half is ten times slower on a CPU
    model.freeze()
    lora = {"rank": recipe.rank, "scale": recipe.scale, "dropout": recipe.dropout, "keys": list(recipe.keys)}
    linear_to_lora_layers(model, recipe.num_layers, lora)
    optimizer = optim.AdamW(
        learning_rate=recipe.learning_rate, betas=list(recipe.betas), weight_decay=recipe.weight_decay
    )
    data = CacheDataset(ChatDataset([row.as_json() for row in rows], load_tokenizer(folder), mask_prompt=True))
    for i in range(len(data)):  # tokenised before the clock starts, as ours are
        data[i]
    steps = len(rows) // recipe.batch_size
    with (
        tempfile.TemporaryDirectory() as scratch,
        contextlib.redirect_stdout(io.StringIO()),
        cpu_kernels.without_cpu_kernels(),
    ):
        arguments = TrainingArgs(
            batch_size=recipe.batch_size,
            iters=steps,
            steps_per_save=steps + 1,
            max_seq_length=recipe.max_seq_length,
            adapter_file=str(Path(scratch, "adapters.safetensors")),
            grad_checkpoint=recipe.grad_checkpoint,
        )
        started = time.perf_counter()
        train(model, optimizer, data, None, args=arguments)
        return time.perf_counter() - started


def _length(student: Student, row: TrainingExample) -> int:
    """Tokens of a row, prompt and answer."""
    return len(tokenize_examples(student, [row], longest=10**9, decision_weight=1.0)[0][0].tokens)


if __name__ == "__main__":
    main()
