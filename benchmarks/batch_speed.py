"""Several outputs at once: the engine's batches beside one row at a time, and beside mlx-lm's own batches.

    python -m benchmarks.batch_speed [--student NAME] [--tokens N] [--rounds N] [--processor-time] [--out FILE]

The same model, the same prompts (of different lengths), greedy free text of the same number of tokens, by turns; the first
round warms up and does not count. Counted are the tokens that were written over the whole time, prompts included.
`engine` uses neither look-up nor kept prefixes; `engine, look-up` proposes tokens from the prompt, as it does in use.
On a machine that has other work to do, `--processor-time` counts what this process alone used of its processors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.workloads import conversation
from memlora_mlx.memory import stages
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.batching import DecodingBatch
from memlora_mlx.models.decoding import LOOKUP_TOKENS, DecodingSequence
from memlora_mlx.models.experts import ExpertTable
from memlora_mlx.models.student import Student
from memlora_mlx.settings import load_settings

SIZES = (1, 4, 16)
Tokens = list[list[int]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", help="a student's name or folder (default: the one of the settings)")
    parser.add_argument("--tokens", type=int, default=32, help="written for each prompt (default: 32)")
    parser.add_argument("--rounds", type=int, default=3, help="after the first, which does not count (default: 3)")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count this process's processor seconds, not the time that passes (default: off); leaves out a GPU's",
    )
    parser.add_argument("--out", type=Path, help="also write the figures into this JSON file")
    options = parser.parse_args(argv)
    clock = time.process_time if options.processor_time else time.perf_counter
    with Workspace(load_settings({"student": options.student, "experts": "none"})) as workspace:
        student = workspace.engine.student
        rows = workspace.engine.call(lambda: measure(student, options.tokens, options.rounds, clock))
    print(as_markdown(rows))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(
    student: Student, tokens: int, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[dict[str, Any]]:
    """A row for each batch size: tokens a second of each way, and whether all wrote the same. On the engine's thread."""
    prompts = prompts_of(student, max(SIZES))
    ways = {
        "one at a time": lambda given: by_engine(student, given, tokens, rows=1, lookup=0),
        "engine": lambda given: by_engine(student, given, tokens, rows=len(given), lookup=0),
        "engine, look-up": lambda given: by_engine(student, given, tokens, rows=len(given), lookup=LOOKUP_TOKENS),
        "mlx_lm.batch_generate": lambda given: by_mlx_lm(student, given, tokens),
    }
    return [_row(ways, prompts[:size], rounds, clock) for size in SIZES]


def prompts_of(student: Student, count: int) -> Tokens:
    """Extraction prompts of the demo's exchanges, which are of many lengths."""
    exchanges, _ = conversation(count)
    found = [student.encode(stages.extraction_chat(exchange)) for exchange in exchanges]
    return [found[i % len(found)] for i in range(count)]


def by_engine(student: Student, prompts: Tokens, tokens: int, *, rows: int, lookup: int) -> Tokens:
    """What the engine's batches write."""
    batch = DecodingBatch(student, ExpertTable(student.model, {}), rows)
    written = [
        DecodingSequence(student, None, prompt, guide=None, max_tokens=tokens, lookup=lookup) for prompt in prompts
    ]
    for row in written:
        batch.add(row)
    while batch.is_busy:
        batch.step()
    return [row.tokens for row in written]


def by_mlx_lm(student: Student, prompts: Tokens, tokens: int) -> Tokens:
    """What mlx-lm's own batches write; end marks are left out, as the engine leaves them out."""
    from mlx_lm import batch_generate

    found = batch_generate(student.model, student._tokenizer, prompts, max_tokens=tokens, return_token_ids=True)
    return [[token for token in row if token not in student.eos] for row in found.token_ids]


def _row(
    ways: dict[str, Callable[[Tokens], Tokens]], prompts: Tokens, rounds: int, clock: Callable[[], float]
) -> dict[str, Any]:
    paces: dict[str, list[float]] = {way: [] for way in ways}
    written: dict[str, Tokens] = {}
    for number in range(rounds + 1):
        for way, write in ways.items():
            started = clock()
            written[way] = write(prompts)
            seconds = clock() - started
            if number:
                paces[way].append(sum(map(len, written[way])) / seconds)
    medians = {way: statistics.median(values) for way, values in paces.items()}
    alike = {
        way: sum(a == b for a, b in zip(written[way], written["one at a time"], strict=True)) for way in list(ways)[1:]
    }
    return {"batch": len(prompts), "tokens_per_second": medians, "same_as_one_at_a_time": alike}


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table for people."""
    ways = list(rows[0]["tokens_per_second"])
    lines = [f"| batch | {' | '.join(ways)} | engine over one at a time | engine over mlx-lm | same text |"]
    lines.append("|---:|" + "---:|" * (len(ways) + 2) + "---|")
    for row in rows:
        paces = row["tokens_per_second"]
        cells = " | ".join(f"{paces[way]:.0f}" for way in ways)
        over_one = paces["engine"] / paces["one at a time"]
        over_mlx_lm = paces["engine"] / paces["mlx_lm.batch_generate"]
        alike = ", ".join(str(count) for count in row["same_as_one_at_a_time"].values())
        lines.append(f"| {row['batch']} | {cells} | {over_one:.2f} | {over_mlx_lm:.2f} | {alike} of {row['batch']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
