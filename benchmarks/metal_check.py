"""`make check-metal`: what only a Mac shows, in one file to send.

    python -m benchmarks.metal_check [--student NAME] [--exchanges N] [--out FILE]

- Equality: outputs with all shortcuts (look-up, forced tokens, batches of eight) beside the same outputs one token at a time.
  Where they differ, how near the two tokens were: on this project's CPU back end they never differ, on Metal a near-tie may.
- KL: the distributions of one forward pass over a text beside those of reading it token by token, and those of the GPU beside
  those of the CPU where there are both.
- Memory: what MLX holds, arrays and kept buffers, over N exchanges of different lengths.
- Speed: tokens a second in batches of 1, 4 and 16, beside mlx_lm.batch_generate.

Writes metal-check.json and prints the same for people. It needs the starter models and takes some minutes on a Mac.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from benchmarks import batch_speed
from benchmarks.workloads import UPDATES, conversation
from memlora_mlx.memory import stages
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models import device
from memlora_mlx.models.batching import DecodingBatch
from memlora_mlx.models.decoding import DecodingSequence, GrammarMatcher
from memlora_mlx.models.experts import ExpertTable
from memlora_mlx.models.student import Student
from memlora_mlx.records import ChatMessages, Exchange, Grammar, Request
from memlora_mlx.settings import load_settings

ROWS = 8  # of a batch
NEAR = 0.1  # nats: two tokens whose logits differ by no more are a near-tie
KL_TOKENS = 256  # of the text that is read
Case = tuple[ChatMessages, Grammar | None, int]  # a prompt, its grammar, and the most tokens of its output


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", help="a student's name or folder (default: the one of the settings)")
    parser.add_argument("--exchanges", type=int, default=500, help="for the memory (default: 500)")
    parser.add_argument("--cases", type=int, default=60, help="outputs to compare (default: 60)")
    parser.add_argument(
        "--tokens", type=int, default=32, help="written for each prompt of the speed table (default: 32)"
    )
    parser.add_argument("--out", type=Path, default=Path("metal-check.json"), help="the file to write")
    options = parser.parse_args(argv)
    with Workspace(load_settings({"student": options.student, "experts": "none"})) as workspace:
        student, call = workspace.engine.student, workspace.engine.call
        report: dict[str, Any] = {"machine": machine(workspace)}
        report["equality"] = call(lambda: equality(student, cases(options.cases)))
        report["kl"] = call(lambda: divergences(student))
        report["memory"] = memory(workspace, options.exchanges)
        report["speed"] = call(lambda: batch_speed.measure(student, options.tokens, rounds=3))
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(as_text(report))
    print(f"Please send this file: {options.out.resolve()}", file=sys.stderr)


def machine(workspace: Workspace) -> dict[str, str]:
    """What the figures mean nothing without; nothing that names the user."""
    names = ("memlora-mlx", "mlx", "mlx-lm", "llguidance")
    return {
        "device": device.describe_device(),
        "system": f"{platform.platform()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in names),
        "student": f"{Path(workspace.student_name).name} ({workspace.engine.student.fingerprint})",
    }


def cases(count: int) -> list[Case]:
    """Updates and extractions under their grammars, and free text, by turns."""
    exchanges, _ = conversation(count)
    found: list[Case] = []
    for number in range(count):
        exchange = exchanges[number % len(exchanges)]
        if number % 3 == 0:
            old, facts = UPDATES[number // 3 % len(UPDATES)]
            chat, grammar = stages.update_chat(old, facts), stages.update_grammar(old, facts)
            found.append((chat, grammar, stages.UPDATE_TOKENS))
        elif number % 3 == 1:
            grammar = stages.extraction_grammar(exchange, verbatim_only=False)
            found.append((stages.extraction_chat(exchange), grammar, stages.EXTRACTION_TOKENS))
        else:
            text = " ".join(message.text for message in exchange.messages)
            found.append(((("user", f"Say in your own words: {text}"),), None, 48))
    return found


def equality(student: Student, chosen: Sequence[Case]) -> dict[str, Any]:
    """How many outputs are the same with all shortcuts, and how near the tokens were where they are not."""
    plain = [_write(student, [case], 1, lookup=0, force=False)[0] for case in chosen]
    quick = [row for i in range(0, len(chosen), ROWS) for row in _write(student, chosen[i : i + ROWS], ROWS)]
    gaps = [gap for a, b in zip(plain, quick, strict=True) if (gap := _gap(student, a, b)) is not None]
    return {
        "outputs": len(chosen),
        "same": len(chosen) - len(gaps),
        "near_ties": sum(gap <= NEAR for gap in gaps),
        "gaps_in_nats": [round(gap, 4) for gap in gaps],
    }


def _write(student: Student, chosen: Sequence[Case], rows: int, **options: Any) -> list[DecodingSequence]:
    batch = DecodingBatch(student, ExpertTable(student.model, {}), rows)
    written = []
    for chat, grammar, most in chosen:
        guide = GrammarMatcher(student, grammar) if grammar else None
        row = DecodingSequence(student, None, student.encode(chat), guide=guide, max_tokens=most, **options)
        written.append(row)
        batch.add(row)
    while batch.is_busy:
        batch.step()
    return written


def _gap(student: Student, plain: DecodingSequence, quick: DecodingSequence) -> float | None:
    """By how many nats the plain output's token was likelier, where the two outputs part; None if they are the same."""
    if plain.tokens == quick.tokens:
        return None
    ended = [[*row.tokens, student.end_token] for row in (plain, quick)]
    at = next(i for i, (a, b) in enumerate(zip(*ended, strict=False)) if a != b)
    read = mx.array([[*plain.prompt, *plain.tokens[:at]]])
    logits = np.array(student.logits(student.hidden(read, None)[:, -1]).astype(mx.float32))[0]
    return abs(float(logits[ended[0][at]] - logits[ended[1][at]]))


def divergences(student: Student) -> dict[str, Any]:
    """The KL divergence (nats, mean and largest over the tokens of a text) between ways to compute the same."""
    exchanges, _ = conversation(24)
    text = " ".join(message.text for exchange in exchanges for message in exchange.messages)
    tokens = student.tokenize(text)[:KL_TOKENS]
    whole = _log_probabilities(student, tokens)
    cache, steps = student.make_cache(), []
    for token in tokens:
        steps.append(student.logits(student.hidden(mx.array([[token]]), cache)[:, -1]))
        mx.eval(steps[-1])
    found = {"tokens": len(tokens), "token_by_token": _kl(whole, _log_softmax(mx.concatenate(steps)))}
    if not device.on_cpu():
        with mx.stream(mx.cpu):
            found["gpu_beside_cpu"] = _kl(_log_probabilities(student, tokens), whole)
    return found


def _log_probabilities(student: Student, tokens: Sequence[int]) -> np.ndarray:
    return _log_softmax(student.logits(student.hidden(mx.array([list(tokens)]), None)[0]))


def _log_softmax(logits: mx.array) -> np.ndarray:
    wide = logits.astype(mx.float32)
    return np.array(wide - mx.logsumexp(wide, axis=-1, keepdims=True)).astype(np.float64)


def _kl(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    each = (np.exp(first) * (first - second)).sum(axis=-1)
    return {"mean": float(each.mean()), "largest": float(each.max())}


def memory(workspace: Workspace, exchanges: int) -> dict[str, Any]:
    """What MLX holds after each of so many extractions of different lengths, in MB."""
    said, _ = conversation(exchanges)
    held: list[int] = []
    for number in range(exchanges):
        exchange = _longer(said[number % len(said)], number)
        grammar = stages.extraction_grammar(exchange, verbatim_only=False)
        workspace.engine.complete(Request("extraction", stages.extraction_chat(exchange), grammar, 32))
        held.append(workspace.engine.memory_use().total)
    use = workspace.engine.memory_use()
    tenth = max(1, len(held) // 10)
    return {
        "exchanges": exchanges,
        "first_tenth_mb": round(max(held[:tenth]) / 1e6, 1),
        "last_tenth_mb": round(max(held[-tenth:]) / 1e6, 1),
        "most_mb": round(max(held) / 1e6, 1),
        "cache_limit_mb": round(use.cache_limit / 1e6, 1),
        "wired_limit_mb": round(use.wired_limit / 1e6, 1),
    }


def _longer(exchange: Exchange, number: int) -> Exchange:
    """An exchange of another length than the one before: a first message with so many more words."""
    first, *rest = exchange.messages
    return replace(exchange, messages=(replace(first, text=f"{first.text} {'really ' * (number % 37)}"), *rest))


def as_text(report: dict[str, Any]) -> str:
    """The report for people."""
    same, kl, held = report["equality"], report["kl"], report["memory"]
    lines = [f"{name}: {value}" for name, value in report["machine"].items()]
    lines += [
        "",
        (
            f"equality: {same['same']} of {same['outputs']} outputs are the same with all shortcuts; of the others,"
            f" {same['near_ties']} part at a near-tie (at most {NEAR} nats)"
        ),
    ]
    for name, label in (("token_by_token", "one pass beside token by token"), ("gpu_beside_cpu", "GPU beside CPU")):
        if name in kl:
            lines.append(f"KL, {label}: mean {kl[name]['mean']:.2e}, largest {kl[name]['largest']:.2e} nats")
    lines.append(
        f"memory over {held['exchanges']} exchanges: {held['first_tenth_mb']:.0f} MB in the first tenth,"
        f" {held['last_tenth_mb']:.0f} MB in the last, {held['most_mb']:.0f} MB at most"
    )
    return "\n".join([*lines, "", batch_speed.as_markdown(report["speed"])])


if __name__ == "__main__":
    main()
