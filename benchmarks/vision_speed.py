"""What it costs to look: the vision tower, a first question about a picture, the next ones, and memory with four experts.

    python -m benchmarks.vision_speed [--student NAME] [--pictures N] [--width W --height H] [--image FILE ...]

The pictures are the drawings of this project, made as large as photographs are looked at, or files; each is asked three
questions under the vqa expert's grammar, with a vqa expert of random weights in place (a trained one costs the same; what it
says is not looked at). A question is asked

    anew      nothing is known of its picture: the tower runs and the whole prompt is read
    seen      the picture's features are kept, and the whole prompt is read
    followed  another question about it came just before: features are kept, and the prompt is read from where they part

by turns; medians, the first picture warms up and does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memlora_mlx.distill.training_runs import describe_environment
from memlora_mlx.errors import VisionMissing
from memlora_mlx.eval.vqa import drawings
from memlora_mlx.memory import stages
from memlora_mlx.memory.visual_questions import normalised_copy
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.batching import DecodingBatch, PrefixCache
from memlora_mlx.models.decoding import DecodingSequence, GrammarMatcher
from memlora_mlx.models.experts import ADAPTED, Expert, ExpertTable, random_matrices
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.model_config import text_only_message
from memlora_mlx.models.vision_student import VisionStudent
from memlora_mlx.records import STAGES
from memlora_mlx.settings import load_settings

import mlx.core as mx  # isort: skip

QUESTIONS = ("What colour is the odd one?", "How many of them are there?", "Which pattern is on it?")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", help="by default the one of the settings")
    parser.add_argument("--pictures", type=int, default=4, help="drawings, the first of which does not count")
    parser.add_argument("--width", type=int, default=1200, help="pixels")
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--image", action="append", type=Path, help="these pictures in place of drawings")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer, at most")
    arguments = parser.parse_args(argv)

    settings = load_settings({"student": arguments.student})
    with Workspace(settings) as workspace:
        folder, name = workspace.student_folder, workspace.student_name
    student = load_student(folder, name, image_tiles=settings.image_tiles)
    if not isinstance(student, VisionStudent):
        raise VisionMissing(text_only_message(name))
    with tempfile.TemporaryDirectory() as scratch:
        pictures = _pictures(arguments, Path(scratch))
        report = {
            "student": name,
            **measured(student, pictures, tokens=arguments.tokens),
            "machine": describe_environment(),
        }
    _show(report)
    print(json.dumps(report))


def measured(student: VisionStudent, pictures: Sequence[Path], *, tokens: int) -> dict[str, Any]:
    """The figures, seconds and bytes.

    Args:
        pictures: as the store keeps them; the first does not count.
        tokens: of an answer, at most.
    """
    before = student.nbytes
    experts = {
        stage: Expert(stage, Path(), random_matrices(student.model, ADAPTED[stage], seed=seed))
        for seed, stage in enumerate(STAGES)
    }
    table = ExpertTable(student.model, experts)
    taken: dict[str, list[float]] = {"tower": [], "anew": [], "seen": [], "followed": []}
    features = 0
    for number, picture in enumerate(pictures):
        student.clear_features()
        prompt = student.encode((("user", ""),), picture)
        features = sum(token < 0 for token in prompt)
        seconds = {"tower": [_timed(lambda prompt=prompt: student.compute_features(prompt))]}
        prefixes: PrefixCache = {}
        _ask(student, table, QUESTIONS[-1], picture, tokens, prefixes)
        for question in QUESTIONS[:-1]:
            student.clear_features()
            for way, known in (("anew", {}), ("seen", {}), ("followed", prefixes)):
                one = _timed(lambda q=question, p=picture, k=known: _ask(student, table, q, p, tokens, k))
                seconds.setdefault(way, []).append(one)
        if number or len(pictures) == 1:
            for way, found in seconds.items():
                taken[way] += found
    median = {way: statistics.median(found) for way, found in taken.items()}
    return {
        "pictures": max(1, len(pictures) - 1),
        "features": features,  # of the last picture
        "tokens": tokens,
        "seconds": {way: round(value, 4) for way, value in median.items()},
        "next_question_speed_up": round(median["anew"] / median["followed"], 2),
        "base_bytes": before,
        "expert_bytes": table.nbytes(),
        "with_experts_over_base": round((before + table.nbytes()) / before, 4),
        "peak_bytes": int(mx.get_peak_memory()),
    }


def _ask(
    student: VisionStudent, table: ExpertTable, question: str, picture: Path, tokens: int, prefixes: PrefixCache
) -> None:
    prompt = student.encode(stages.visual_question_chat(question), picture)
    student.compute_features(prompt)
    row = DecodingSequence(
        student, "vqa", prompt, guide=GrammarMatcher(student, stages.visual_answer_grammar()), max_tokens=tokens
    )
    batch = DecodingBatch(student, table, 1, prefixes)
    batch.add(row)
    while batch.is_busy:
        batch.step()


def _timed(function: Any) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _pictures(arguments: argparse.Namespace, folder: Path) -> list[Path]:
    made = []
    if arguments.image:
        for number, given in enumerate(arguments.image):
            with normalised_copy(given) as picture:
                made.append(folder / f"{number}{picture.suffix}")
                made[-1].write_bytes(picture.read_bytes())
        return made
    for scene in drawings.benchmark_scenes(max(5, arguments.pictures))[: arguments.pictures]:
        made.append(folder / f"{scene.number}.png")
        drawings.draw(scene).resize((arguments.width, arguments.height)).save(made[-1])
    return made


def _show(report: dict[str, Any]) -> None:
    seconds = report["seconds"]
    print(f"{report['student']}: {report['features']} features a picture, answers of up to {report['tokens']} tokens")
    for way in ("tower", "anew", "seen", "followed"):
        print(f"{way:<10} {seconds[way]:>8.3f} s")
    print(f"the next question about a picture: {report['next_question_speed_up']} times as fast as the first")
    gigabytes = report["base_bytes"] / 1e9
    print(f"base {gigabytes:.3f} GB, with four experts {report['with_experts_over_base']:.3f} times that")


if __name__ == "__main__":
    main()
