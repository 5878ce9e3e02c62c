"""Training runs on a tiny student: what is learnt, what is kept, and that no interruption or bad file changes or loses it."""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ALL_LINEAR, student_folder

from memlora_mlx.distill import training_cards, training_runs
from memlora_mlx.distill.datasets import TokenizedExample, plan_batches, tokenize_examples, training_batches
from memlora_mlx.distill.examples import TrainingExample, write_examples
from memlora_mlx.distill.recipes import Recipe, read_recipe
from memlora_mlx.distill.training import Trainer, TrainingResult
from memlora_mlx.distill.training_metrics import NAN_LOSS, MetricsPoint, read_points
from memlora_mlx.distill.training_step import batch_arrays, estimate_memory, masked_loss, validation_loss
from memlora_mlx.errors import AdapterMismatch, BadTrainingData, Cancelled, TrainingFailed, UsageError
from memlora_mlx.memory.stages import update_chat
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models import cpu_kernels
from memlora_mlx.models.cards import ExpertCard
from memlora_mlx.models.experts import Q_V, ExpertTable, random_matrices, read_expert, write_expert
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.student import Student
from memlora_mlx.settings import Settings

import mlx.core as mx  # isort: skip
import mlx.nn as nn
from mlx.utils import tree_flatten

RECIPE = Recipe(
    "extraction",
    ("self_attn.q_proj", "self_attn.v_proj"),
    learning_rate=5e-3,
    batch_size=4,
    epochs=3,
    patience=99,
    validations=2,
    max_seq_length=128,
    decision_weight=2.0,
)
THINGS = ("tea", "apples", "Rome", "the market", "a red bicycle")


def row(
    number: int, *, thing: str | None = None, conversation: str = "life-1", split: Any = "train"
) -> TrainingExample:
    thing = thing or THINGS[number % len(THINGS)]
    prompt = f"user: Ann: I like {thing}, {'really ' * (number % 4)}for {number} days."
    answer = json.dumps({"facts": [f"Ann likes {thing}"]})
    return TrainingExample("extraction", (("user", prompt),), answer, "synthetic", conversation, str(number), split)


ROWS = [row(i) for i in range(30)]
HELD = [row(i, conversation="life-2", split="validation") for i in range(100, 109)]


@pytest.fixture
def student(tiny_student: Path) -> Student:
    return load_student(tiny_student)


@pytest.fixture
def load(tiny_student: Path) -> Callable[[], Student]:
    return lambda: load_student(tiny_student)


def read(student: Student, rows: Sequence[TrainingExample]) -> list[TokenizedExample]:
    return tokenize_examples(student, rows, longest=128, decision_weight=2.0)[0]


def run_of(student: Student, folder: Path, recipe: Recipe = RECIPE, **options: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(student, recipe, read(student, ROWS), read(student, HELD), folder, **options)


def weights_of(outcome: TrainingResult) -> dict[str, np.ndarray]:
    return {f"{name}.{i}": np.array(part) for name, pair in outcome.lora_weights.items() for i, part in enumerate(pair)}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def losses(points: Sequence[MetricsPoint]) -> list[tuple[int, float]]:
    return [(p.step, p.train_loss if p.validation_loss is None else p.validation_loss) for p in points]  # type: ignore[misc]


def files(folder: Path, rows: Sequence[TrainingExample]) -> Path:
    write_examples(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


# What is learnt


def test_the_expert_that_is_written_has_the_best_validation_loss_wherever_it_is_loaded(
    tiny_student: Path, tmp_path: Path, load: Callable[[], Student]
) -> None:
    order = training_runs.TrainingConfig(
        "extraction", str(tiny_student), (str(files(tmp_path, [*ROWS, *HELD])),), RECIPE
    )
    training_runs.create_run(order, tmp_path / "run")
    expert = training_runs.train(load(), order, tmp_path / "run")

    points = read_points(tmp_path / "run")
    validations = [point.validation_loss for point in points if point.validation_loss is not None]
    card = json.loads((expert / "adapter_config.json").read_text())["memlora"]
    assert card["metrics"]["validation_loss"] == {"base": validations[0], "expert": min(validations)}
    assert min(validations) < 0.9 * validations[0]
    assert card["data"]["licence"] == "Apache-2.0 (memlora)" and card["data"]["rows"] == len(ROWS)

    fresh = load()
    table = ExpertTable(fresh.model, {"extraction": read_expert(expert, "extraction", fresh.fingerprint)})
    assert validation_loss(fresh, read(fresh, HELD), 4) == pytest.approx(validations[0], rel=1e-5)
    table.use("extraction")
    assert validation_loss(fresh, read(fresh, HELD), 4) == pytest.approx(min(validations), rel=1e-3)  # 16 bits

    from mlx_lm import load as mlx_load

    model, tokenizer, config = mlx_load(str(tiny_student), adapter_path=str(expert), return_config=True)
    plain = Student(model, tokenizer, config, "plain")
    assert validation_loss(plain, read(plain, HELD), 4) == pytest.approx(min(validations), rel=1e-3)


@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
def test_other_families_learn_too(tmp_path: Path, family: str) -> None:
    student = load_student(student_folder(tmp_path / family, family))
    recipe = replace(RECIPE, keys=ALL_LINEAR, epochs=1)
    progress = run_of(student, tmp_path / "run", recipe).train().progress
    assert progress.first_loss is not None and progress.best_loss < progress.first_loss


def test_a_quantised_base_is_trained_and_stays_as_it_was(student: Student, tmp_path: Path) -> None:
    nn.quantize(student.model, group_size=32, bits=4)
    before = {name: np.array(array) for name, array in tree_flatten(student.model.parameters())}
    progress = run_of(student, tmp_path / "run", replace(RECIPE, epochs=1)).train().progress
    assert progress.first_loss is not None and progress.best_loss < progress.first_loss
    after = {name.replace(".linear.", "."): array for name, array in tree_flatten(student.model.parameters())}
    assert all(np.array_equal(before[name], np.array(after[name])) for name in before)


def test_only_the_blocks_asked_for_are_adapted(student: Student, tmp_path: Path) -> None:
    outcome = run_of(student, tmp_path / "run", replace(RECIPE, num_layers=1, epochs=0.2)).train()
    assert set(outcome.lora_weights) == {"model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"}


def test_layers_that_the_student_does_not_have_are_refused(student: Student, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no linear layers named attention.query"):
        run_of(student, tmp_path / "run", replace(RECIPE, keys=("attention.query",)))


def test_early_stopping_keeps_the_best_weights_not_the_last(student: Student, tmp_path: Path) -> None:
    """What is trained on contradicts what validates, so the loss falls while the form is learnt and then rises."""
    against = [replace(one, answer=json.dumps({"facts": ["Bob said no"]})) for one in ROWS]
    recipe = replace(RECIPE, epochs=60, patience=2, learning_rate=2e-2)
    run = Trainer(student, recipe, read(student, against), read(student, HELD), tmp_path)
    outcome = run.train()
    found = [(p.step, p.validation_loss) for p in outcome.points if p.validation_loss is not None]
    best = min(found, key=lambda pair: pair[1])
    assert outcome.progress.ended == "early stop" and outcome.progress.step < run.steps
    assert (outcome.progress.best_step, outcome.progress.best_loss) == best and 0 < best[0] < found[-1][0]
    assert validation_loss(student, run.validation, 4) == pytest.approx(found[-1][1], rel=1e-5)
    student.model.load_weights(
        [
            (f"{n}.lora_{part}", array)
            for n, pair in outcome.lora_weights.items()
            for part, array in zip("ab", pair, strict=True)
        ],
        strict=False,
    )
    assert validation_loss(student, run.validation, 4) == pytest.approx(best[1], rel=1e-5)


def test_a_run_goes_on_from_an_expert(tiny_student: Path, tmp_path: Path, load: Callable[[], Student]) -> None:
    data = files(tmp_path, [*ROWS, *HELD])
    order = order_for(data, tiny_student)
    training_runs.create_run(order, tmp_path / "first")
    first = training_runs.train(load(), order, tmp_path / "first")
    card = json.loads((first / "adapter_config.json").read_text())["memlora"]

    order = replace(order, start=str(first), recipe=replace(order.recipe, epochs=1, scale=4.0, seed=1))
    training_runs.create_run(order, tmp_path / "second")
    second = training_runs.train(load(), training_runs.read_run_config(tmp_path / "second"), tmp_path / "second")
    told = json.loads((second / "adapter_config.json").read_text())["memlora"]
    assert told["start"] == card
    before = card["metrics"]["validation_loss"]["expert"]
    assert told["metrics"]["validation_loss"]["start"] == pytest.approx(before, rel=1e-3)
    assert told["metrics"]["validation_loss"]["expert"] < before

    with pytest.raises(AdapterMismatch, match="other layers than this recipe, or has another rank"):
        run_of(load(), tmp_path / "third", replace(RECIPE, rank=4), start=first)
    other = load_student(student_folder(tmp_path / "other", seed=9))
    norm = other.model.model.norm
    norm.weight = norm.weight * 2
    foreign = Student(other.model, other._tokenizer, other.config, "other")
    with pytest.raises(AdapterMismatch, match="was trained on tiny-llama"):
        run_of(foreign, tmp_path / "fourth", start=first)
    with pytest.raises(AdapterMismatch, match="is missing"):
        run_of(load(), tmp_path / "fifth", start=tmp_path / "nowhere")


# Batches and the loss


@given(st.lists(st.integers(2, 500), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 5))
def test_an_epoch_holds_every_example_once_and_puts_like_lengths_together(
    lengths: list[int], size: int, seed: int
) -> None:
    made = plan_batches(lengths, size, seed=seed)
    assert Counter(i for batch in made for i in batch) == Counter(range(len(lengths)))
    assert len(made) == -(-len(lengths) // size) and max(map(len, made)) <= size
    assert plan_batches(lengths, size, seed=seed) == made
    by_length = plan_batches(lengths, size, seed=None)
    assert [lengths[i] for batch in by_length for i in batch] == sorted(lengths)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(0, 3))
def test_processes_share_a_batch_without_losing_or_repeating_a_row(
    count: int, size: int, world: int, seed: int
) -> None:
    """Each example is marked by its one answer token."""
    data = [
        TokenizedExample(np.array([1] * (i % 7) + [2, i], np.int32), i % 7 + 1, np.ones(1, np.float32))
        for i in range(count)
    ]
    alone = list(training_batches(data, size, seed=seed))
    shares = [list(training_batches(data, size, seed=seed, rank=rank, world=world)) for rank in range(world)]
    for whole, *parts in zip(alone, *shares, strict=True):
        learnt = [[int(t) for t, w in zip(b.targets, b.weights, strict=True) if w > 0] for b in (whole, *parts)]
        assert sorted(learnt[0]) == sorted(target for part in learnt[1:] for target in part)
        assert sum(part.total for part in parts) == pytest.approx(whole.total)
        assert all(part.read == whole.read for part in parts)


def test_only_answer_tokens_are_learnt_and_never_padding(student: Student) -> None:
    """A padded batch has the loss and the gradient that its rows have alone, without any padding."""
    data = read(student, [row(0), row(3), row(7, thing="tea")])
    [batch] = training_batches(data, 8, seed=0)
    answers = Counter(int(token) for example in data for token in example.tokens[example.prompt :])
    assert Counter(int(t) for t, w in zip(batch.targets, batch.weights, strict=True) if w > 0) == answers
    assert (batch.weights == 0).sum() == -sum(answers.values()) % 64
    flat = batch.tokens.reshape(-1)
    assert all(flat[p] != 0 for p, w in zip(batch.positions, batch.weights, strict=True) if w > 0)

    def alone(model: nn.Module) -> mx.array:
        total = mx.array(0.0)
        for example in data:
            logits = model(mx.array(example.tokens[:-1])[None])[0, example.prompt - 1 :]
            each = nn.losses.cross_entropy(logits, mx.array(example.tokens[example.prompt :]))
            total = total + (each * mx.array(example.weights)).sum()
        return total / sum(float(example.weights.sum()) for example in data)

    model = student.model
    with cpu_kernels.with_gradients():
        loss, gradient = nn.value_and_grad(model, lambda m: masked_loss(student)(m, *batch_arrays(student, batch))[0])(
            model
        )
    with cpu_kernels.without_cpu_kernels():
        expected_loss, expected = nn.value_and_grad(model, alone)(model)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    for (name, a), (_, b) in zip(tree_flatten(gradient), tree_flatten(expected), strict=True):
        assert np.allclose(np.array(a), np.array(b), rtol=1e-3, atol=1e-5), name


def test_the_tokens_that_decide_weigh_more(student: Student) -> None:
    answer = '{"memory": [{"id": "0", "text": "Ann moved to Rome", "event": "UPDATE", "old_memory": "Ann likes tea"}]}'
    chat = update_chat(["Ann likes tea"], ["Ann moved to Rome", "Ann moved to a flat"])
    one = TrainingExample("update", chat, answer, "synthetic", "life-1", "0", "train")
    [example] = tokenize_examples(student, [one], longest=256, decision_weight=8.0)[0]
    _, spans = student.tokenize_with_spans(answer)
    heavy = "".join(answer[slice(*span)] for span, w in zip(spans, example.weights, strict=False) if w == 8.0)
    light = "".join(answer[slice(*span)] for span, w in zip(spans, example.weights, strict=False) if w < 1.0)
    assert "0" in heavy and "UPDATE" in heavy
    assert "R" in heavy and "mo" in heavy, "where the text leaves the other fact's, and the old memory's"
    assert "to" not in heavy
    assert set(light) <= set('Ann likes tea"') and "likes" in light
    assert example.weights[-1] == 1.0  # the end mark


NAMES = ("conv-26", "conv-30", "conv-41", "conv-42", "conv-50", "life-1", "life-2", "life-3")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(["train", "validation", "test"])), min_size=1, max_size=30
    ),
    st.one_of(st.none(), st.integers(1, 10)),
    st.one_of(st.none(), st.integers(1, 10)),
)
def test_no_test_conversation_reaches_training_whatever_its_rows_say(
    given_rows: list[tuple[str, str]], count: int | None, limit: int | None
) -> None:
    rows = [row(i, conversation=name, split=split) for i, (name, split) in enumerate(given_rows)]
    with tempfile.TemporaryDirectory() as folder:
        name = str(files(Path(folder), rows)) + ("" if count is None else f":{count}")
        order = training_runs.TrainingConfig("extraction", "tiny", (name,), RECIPE, rows=limit)
        try:
            data = training_runs.read_data(order)
        except BadTrainingData:
            return
    used = {one.conversation for one in (*data.training, *data.validation)}
    assert used & {"conv-30", "conv-41"} == set()
    assert "conv-26" not in {one.conversation for one in data.training}
    assert all(one.split == "train" for one in data.training)
    assert not {one.exchange for one in data.training} & {one.exchange for one in data.validation}
    assert len(data.training) <= min(count or 99, limit or 99)


# Interruptions


class KilledProcess(Exception):
    """The process is gone: nothing more is written."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> TrainingResult:
    return run_of(load_student(tiny_student), tmp_path_factory.mktemp("whole")).train()


@pytest.mark.parametrize("stops", [[1], [4], [8, 9], [3, 12, 23]])  # 4, 8 and 12 are before validations
def test_an_interrupted_run_ends_with_the_same_weights(
    uninterrupted: TrainingResult, load: Callable[[], Student], tmp_path: Path, stops: list[int]
) -> None:
    for stop in stops:
        cancelled = threading.Event()

        def at(point: MetricsPoint, stop: int = stop, cancelled: threading.Event = cancelled) -> None:
            if point.step == stop and point.train_loss is not None:
                cancelled.set()

        mx.random.seed(random.randrange(2**30))  # whatever was drawn before
        with pytest.raises(Cancelled, match=f"after step {stop} of at most 24"):
            run_of(load(), tmp_path / "run", on_point=at, cancelled=cancelled).train()
    outcome = run_of(load(), tmp_path / "run").train()
    assert same(weights_of(outcome), weights_of(uninterrupted))
    assert losses(outcome.points) == losses(uninterrupted.points)
    assert losses(read_points(tmp_path / "run")) == losses(uninterrupted.points)
    assert replace_seconds(outcome) == replace_seconds(uninterrupted)


def replace_seconds(outcome: TrainingResult) -> Any:
    return replace(outcome.progress, seconds=0.0)


def test_a_killed_run_goes_on_from_its_last_validation(
    uninterrupted: TrainingResult, load: Callable[[], Student], tmp_path: Path
) -> None:
    def die(point: MetricsPoint) -> None:
        if point.step == 11:
            raise KilledProcess

    with pytest.raises(KilledProcess):
        run_of(load(), tmp_path / "run", on_point=die).train()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "steps": 24, "epo')
    outcome = run_of(load(), tmp_path / "run").train()
    assert same(weights_of(outcome), weights_of(uninterrupted))
    assert losses(read_points(tmp_path / "run")) == losses(uninterrupted.points)


def test_a_validation_can_be_interrupted(load: Callable[[], Student], tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled, match="after step 0 of"):
        run_of(load(), tmp_path / "run", cancelled=cancelled).train()
    assert run_of(load(), tmp_path / "run", replace(RECIPE, epochs=0.1)).train().progress.validated == 1


def test_a_run_that_ended_is_not_trained_again(load: Callable[[], Student], tmp_path: Path) -> None:
    first = run_of(load(), tmp_path / "run", replace(RECIPE, epochs=1)).train()
    again = run_of(load(), tmp_path / "run", replace(RECIPE, epochs=1)).train()
    assert same(weights_of(first), weights_of(again)) and losses(first.points) == losses(again.points)


def test_what_does_not_belong_to_a_run_does_not_resume_it(load: Callable[[], Student], tmp_path: Path) -> None:
    run_of(load(), tmp_path / "run", replace(RECIPE, epochs=1)).train()
    with pytest.raises(TrainingFailed, match="another recipe or student"):
        run_of(load(), tmp_path / "run", replace(RECIPE, rank=4)).train()
    student = load()
    other = Trainer(student, RECIPE, read(student, ROWS[:-1]), read(student, HELD), tmp_path / "run")
    with pytest.raises(TrainingFailed, match="its training data has changed"):
        other.train()
    state = tmp_path / "run" / "state.safetensors"
    os.truncate(state, 100)
    with pytest.raises(TrainingFailed, match="Cannot resume the run"):
        run_of(load(), tmp_path / "run").train()


def test_only_one_process_trains_in_a_folder(tiny_student: Path, tmp_path: Path, load: Callable[[], Student]) -> None:
    order = training_runs.TrainingConfig(
        "extraction", str(tiny_student), (str(files(tmp_path, [*ROWS, *HELD])),), RECIPE
    )
    training_runs.create_run(order, tmp_path / "run")
    with training_runs.run_lock(tmp_path / "run"), pytest.raises(UsageError, match="Another process is training in"):
        training_runs.train(load(), order, tmp_path / "run")


# Ways to train


def test_checkpointing_gives_the_same_losses_and_leaves_the_class_as_it_was(
    uninterrupted: TrainingResult, load: Callable[[], Student], tmp_path: Path
) -> None:
    """With dropout: the second time, a block must drop out what it did the first time."""
    student = load()
    block = type(student.model.layers[0])
    before = block.__call__
    outcome = run_of(student, tmp_path / "run", replace(RECIPE, grad_checkpoint=True)).train()
    assert block.__call__ is before
    expected = losses(uninterrupted.points)
    assert [step for step, _ in losses(outcome.points)] == [step for step, _ in expected]
    assert [x for _, x in losses(outcome.points)] == pytest.approx([x for _, x in expected], rel=1e-5)


def test_two_processes_give_the_loss_curve_of_one(tiny_student: Path, isolated_home: Path, tmp_path: Path) -> None:
    """Through the command. Batches of 5 over 26 rows: the processes get 3 and 2, and of the last batch 1 and none."""
    data = files(tmp_path, [*ROWS[:26], *HELD])
    text = (Path(training_runs.__file__).parents[1] / "adapters" / "extraction.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(text.replace("dropout: 0.1", "dropout: 0.0"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [str(Path(sys.executable).parent / "mlx.launch"), "-n", "2", "-p", str(port), "--"]
    said = {}
    for name, before in (("one", []), ("two", launch)):
        done = subprocess.run(
            [*before, sys.executable, "-m", "memlora_mlx", "train", "--stage", "extraction", "--data", str(data)]
            + [
                "--recipe",
                str(tmp_path / "recipe.yaml"),
                "--epochs",
                "1",
                "--batch-size",
                "5",
                "--out",
                tmp_path / name,
            ],
            env={**os.environ, "MEMLORA_STUDENT": str(tiny_student)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (tmp_path / name / "expert" / "adapter_config.json").is_file(), done.stdout + done.stderr
        said[name] = done.stdout
    one, two = (losses(read_points(tmp_path / name)) for name in ("one", "two"))
    assert [step for step, _ in one] == [step for step, _ in two]
    assert [x for _, x in two] == pytest.approx([x for _, x in one], rel=1e-4)
    assert one[-1][1] < one[0][1]
    assert said["two"].count("extraction expert for") == said["one"].count("extraction expert for") == 1


def test_too_little_memory_is_refused_with_numbers(
    tiny_student: Path, tmp_path: Path, load: Callable[[], Student], monkeypatch: pytest.MonkeyPatch
) -> None:
    from memlora_mlx.models import device

    order = training_runs.TrainingConfig(
        "extraction", str(tiny_student), (str(files(tmp_path, [*ROWS, *HELD])),), RECIPE
    )
    training_runs.create_run(order, tmp_path / "run")
    monkeypatch.setattr(device, "usable_memory", lambda: 2**17)
    with pytest.raises(
        TrainingFailed, match=r"needs about 0\.\d GiB of memory and 0\.0 GiB is available, .*--max-seq-length"
    ):
        training_runs.train(load(), order, tmp_path / "run")
    student = load()
    data = read(student, ROWS)
    small, large = replace(RECIPE, batch_size=2), replace(RECIPE, batch_size=16)
    assert estimate_memory(student, small, data) < estimate_memory(student, large, data)
    spared = replace(large, grad_checkpoint=True)
    assert estimate_memory(student, spared, data) < estimate_memory(student, large, data)


def test_mlx_lm_takes_the_recipes_and_the_rows(tiny_student: Path, tmp_path: Path) -> None:
    for name in ("train", "valid"):
        write_examples(tmp_path / f"{name}.jsonl", ROWS[:8])
    for stage in ("extraction", "update", "generation"):
        read_recipe(stage)  # type: ignore[arg-type]
    recipe = Path(training_runs.__file__).parents[1] / "adapters" / "extraction.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "mlx_lm", "lora", "-c", str(recipe), "--train", "--iters", "1", "--batch-size", "2"]
        + ["--model", str(tiny_student), "--data", str(tmp_path), "--adapter-path", str(tmp_path / "plain")],
        env={**os.environ, "MLX_DISABLE_COMPILE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "plain" / "adapter_config.json").read_text())["lora_parameters"]["rank"] == 8


# Bad input


def order_for(path: Path, student: Path, **changes: Any) -> training_runs.TrainingConfig:
    return training_runs.TrainingConfig("extraction", str(student), (str(path),), replace(RECIPE, **changes))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "0 training and 0 validation examples are too few"),
        ([row(0)], "1 training and 0 validation examples are too few"),
        ([row(0), "{not json"], "line 2 is not JSON"),
        ([row(0), row(1), "[1]"], "line 3 is not a training example"),
        ([row(0), replace(row(1), answer="  ")], "line 2: the answer is empty"),
        ([row(0), row(1), replace(row(2), stage="update")], "contains examples for update, not for extraction"),
        ([row(0), replace(row(1), chat=())], "line 2: the messages must end"),
        ([row(i, conversation="conv-30") for i in range(5)], "0 training and 0 validation examples"),
    ],
)
def test_bad_rows_are_one_line_that_says_where(tmp_path: Path, tiny_student: Path, lines: list[Any], says: str) -> None:
    text = [one if isinstance(one, str) else json.dumps(one.as_json()) for one in lines]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(text))
    with pytest.raises(BadTrainingData, match=says) as raised:
        training_runs.read_data(order_for(path, tiny_student))
    assert "\n" not in str(raised.value)


def test_rows_that_are_too_long_are_left_out_and_counted(
    tmp_path: Path, tiny_student: Path, load: Callable[[], Student]
) -> None:
    long = [replace(row(i), chat=(("user", "apples " * 200),)) for i in range(3)]
    order = order_for(files(tmp_path, [*ROWS, *long, *HELD]), tiny_student, epochs=0.1)
    training_runs.create_run(order, tmp_path / "run")
    told: list[int] = []
    training_runs.train(load(), order, tmp_path / "run", on_start=lambda data, left_out: told.append(left_out))
    assert told == [3]
    order = order_for(files(tmp_path, [*long, *HELD]), tiny_student)
    with pytest.raises(BadTrainingData, match="all 3 examples are longer than 128 tokens"):
        training_runs.train(load(), order, tmp_path / "run")
    order = order_for(files(tmp_path, [*ROWS, *(replace(one, split="validation") for one in long)]), tiny_student)
    with pytest.raises(BadTrainingData, match="Nothing to validate with: all 3 examples"):
        training_runs.train(load(), order, tmp_path / "run")


def test_rows_without_a_split_are_divided_by_conversation(tmp_path: Path, tiny_student: Path) -> None:
    rows = [row(i, conversation=f"talk-{i % 12}") for i in range(36)]
    data = training_runs.read_data(order_for(files(tmp_path, rows), tiny_student))
    held = {one.conversation for one in data.validation}
    assert len(held) == 2 and held & {one.conversation for one in data.training} == set()
    alone = training_runs.read_data(order_for(files(tmp_path, rows[:1] * 2), tiny_student))
    assert (len(alone.training), len(alone.validation)) == (1, 1)


def test_a_card_says_how_an_update_expert_is_asked_and_the_pipeline_asks_it_so(
    tmp_path: Path, tiny_student: Path, tiny_embedder: Path
) -> None:
    def updates(facts: list[str], text: str) -> TrainingExample:
        answer = json.dumps({"memory": [{"id": "1", "text": text, "event": "ADD"}]})
        return TrainingExample(
            "update", update_chat(["Ann likes tea"], facts), answer, "synthetic", "life-1", "0", "train"
        )

    one, two, free = (
        updates(["Ann ran"], "Ann ran"),
        updates(["Ann ran", "Ann sang"], "Ann ran"),
        updates(["Ann ran"], "Hm"),
    )
    for rows, says in (
        ([one, one], {"copied_texts": True, "one_fact": True}),
        ([one, two], {"copied_texts": True}),
        ([one, free], {"one_fact": True}),
    ):
        assert training_cards.update_traits(rows) == says
        folder = tmp_path / str(len(list(tmp_path.iterdir()))) / "update"
        matrices = random_matrices(load_student(tiny_student).model, Q_V)
        write_expert(folder, matrices, scale=2.0, card=ExpertCard(**says))
        for protocol in ("product", "paper"):
            chosen = Settings(
                home=tmp_path,
                student=str(tiny_student),
                embedder=str(tiny_embedder),
                experts=str(folder.parent),
                protocol=protocol,  # type: ignore[arg-type]
            )
            with Workspace(chosen) as opened:
                assert opened.pipeline_options.copy_constrained == ("copied_texts" in says)
                assert opened.pipeline_options.per_fact == ("one_fact" in says and protocol == "product")


def test_a_card_names_the_licence_of_locomo_whoever_taught(tmp_path: Path, tiny_student: Path) -> None:
    rows = [replace(row(i, conversation=f"conv-{42 + i % 2}"), teacher="openai/gpt-oss-120b") for i in range(8)]
    data = training_runs.read_data(order_for(files(tmp_path, [*rows, *ROWS]), tiny_student))
    assert "CC BY-NC 4.0" in data.origin["licence"] and "Apache-2.0" in data.origin["licence"]
    assert data.origin["files"] == ["rows.jsonl"]
    (tmp_path / "teacher" / "extraction").mkdir(parents=True)
    below = files(tmp_path / "teacher" / "extraction", ROWS)
    data = training_runs.read_data(order_for(Path(f"{below}:20"), tiny_student))
    assert data.origin["files"] == ["teacher/extraction/rows.jsonl:20"] and len(data.training) <= 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full to write to")
@pytest.mark.parametrize("name", ["state.safetensors", "metrics.jsonl"])
def test_a_full_disk_stops_a_run_and_loses_nothing(
    uninterrupted: TrainingResult, load: Callable[[], Student], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "run"
    kept: dict[str, bytes] = {}

    def fill(point: MetricsPoint) -> None:
        if point.step == 6 and not kept:
            kept["state"] = (folder / "state.safetensors").read_bytes()
            if name == "metrics.jsonl":
                (folder / name).rename(folder / "saved")
                (folder / name).symlink_to("/dev/full")
            else:  # no file can grow as large as a state
                resource.setrlimit(resource.RLIMIT_FSIZE, (8192, unlimited[1]))

    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(TrainingFailed, match="Cannot write to .*free disk space and use --resume") as raised:
            run_of(load(), folder, on_point=fill).train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert isinstance(raised.value.__cause__, OSError | RuntimeError)
    assert (folder / "state.safetensors").read_bytes() == kept["state"]
    assert not list(folder.glob(".*"))
    if name == "metrics.jsonl":
        (folder / name).unlink()
        (folder / "saved").rename(folder / name)
    outcome = run_of(load(), folder).train()
    assert same(weights_of(outcome), weights_of(uninterrupted))


def test_an_expert_that_cannot_be_written_is_not_lost(
    tiny_student: Path, tmp_path: Path, load: Callable[[], Student]
) -> None:
    order = order_for(files(tmp_path, [*ROWS, *HELD]), tiny_student, epochs=1)
    training_runs.create_run(order, tmp_path / "run")
    (tmp_path / "run" / "expert").write_text("in the way")
    with pytest.raises(TrainingFailed, match="Cannot write the expert .*free disk space and use --resume"):
        training_runs.train(load(), order, tmp_path / "run")
    (tmp_path / "run" / "expert").unlink()
    steps = len(read_points(tmp_path / "run"))
    expert = training_runs.train(load(), order, tmp_path / "run")
    assert (expert / "adapter_config.json").is_file() and len(read_points(tmp_path / "run")) == steps


def test_a_loss_that_is_no_number_stops_the_run_with_the_last_good_weights(
    uninterrupted: TrainingResult, student: Student, tmp_path: Path
) -> None:
    def spoil(point: MetricsPoint) -> None:
        if point.step == 10:
            layer = student.model.layers[0].self_attn.q_proj
            layer.lora_b = layer.lora_b + float("nan")

    outcome = run_of(student, tmp_path / "run", on_point=spoil).train()
    assert outcome.progress.ended == NAN_LOSS and outcome.progress.step == 11
    assert outcome.progress.best_step == 8
    assert all(np.isfinite(part).all() for part in weights_of(outcome).values())
    assert outcome.progress.best_loss == dict(losses([p for p in uninterrupted.points if p.validation_loss]))[8]
    assert all("NaN" not in line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())


def test_a_learning_rate_that_is_far_too_high_ends_with_the_base(student: Student, tmp_path: Path) -> None:
    outcome = run_of(student, tmp_path / "run", replace(RECIPE, learning_rate=1e30)).train()
    assert outcome.progress.ended == NAN_LOSS and outcome.progress.best_step == 0
    assert not any(np.array(b).any() for _, b in outcome.lora_weights.values())  # which adds nothing to the base


def test_a_damaged_student_is_named(student: Student, tmp_path: Path) -> None:
    norm = student.model.model.norm
    norm.weight = norm.weight * float("nan")
    with pytest.raises(TrainingFailed, match="NaN before training"):
        run_of(student, tmp_path / "run").train()


def test_tokens_are_counted_without_padding(student: Student, tmp_path: Path) -> None:
    data = read(student, ROWS)
    assert sum(batch.read for batch in training_batches(data, 4, seed=0)) == sum(
        len(example.tokens) for example in data
    )
    points = run_of(student, tmp_path / "run", replace(RECIPE, epochs=0.2)).train().points
    assert all(point.tokens_per_second for point in points if point.train_loss is not None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lora_parameters: {rank: 8", "cannot be used"),
        ("learning_rate: 1.0", "'lora_parameters' is missing"),
        ("fine_tune_type: dora", "cannot be used"),
    ],
)
def test_a_bad_recipe_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UsageError, match=says) as raised:
        read_recipe("update", tmp_path / "mine.yaml")
    assert "\n" not in str(raised.value)


# Manifests


def test_a_run_of_an_early_version_is_resumed_and_one_of_a_newer_version_is_refused(
    tmp_path: Path, tiny_student: Path
) -> None:
    config, folder = order_for(tmp_path / "rows.jsonl", tiny_student), tmp_path / "run"
    training_runs.create_run(config, folder, "memlora train --stage extraction")
    assert training_runs.read_run_config(folder) == config
    value = json.loads((folder / "run.json").read_text())
    for name in ("version", "start", "environment"):  # which early versions did not write
        del value[name]
    (folder / "run.json").write_text(json.dumps(value))
    assert training_runs.read_run_config(folder) == config
    assert training_runs.starting_command(folder) == "memlora train --stage extraction"
    (folder / "run.json").write_text(json.dumps({**value, "version": 2}))
    with pytest.raises(UsageError, match="its version is 2 .*update memlora"):
        training_runs.read_run_config(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stage": "drawing"}, "stage is 'drawing'"),
        ({"splits": "mine"}, "the splits 'mine' are unknown"),
        ({"rows": "many"}, "rows is 'many', not a whole number"),
        ({"recipe": {"stage": "extraction"}}, "recipe.keys is missing"),
        ({"data": 3}, "data is 3, not a list"),
    ],
)
def test_a_damaged_manifest_of_a_run_is_one_line(
    change: dict[str, Any], says: str, tmp_path: Path, tiny_student: Path
) -> None:
    training_runs.create_run(order_for(tmp_path / "rows.jsonl", tiny_student), tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UsageError, match=f"contains no training run to resume .*{says}") as raised:
        training_runs.read_run_config(tmp_path / "run")
    assert "\n" not in str(raised.value)


def test_the_state_of_an_early_version_is_read(load: Callable[[], Student], tmp_path: Path) -> None:
    import mlx.core as mx

    from memlora_mlx.distill.checkpoints import read_checkpoint

    run_of(load(), tmp_path / "run", replace(RECIPE, epochs=0.2)).train()
    file = tmp_path / "run" / "state.safetensors"
    arrays, header = mx.load(str(file), return_metadata=True)
    progress = json.loads(header["progress"]) | {"ended": "the loss became no number", "best_loss": float("inf")}
    old = {"progress": json.dumps(progress), "examples": header["examples"]}
    mx.save_safetensors(str(tmp_path / "old.safetensors"), arrays, metadata=old)
    checkpoint = read_checkpoint(tmp_path / "old.safetensors")
    assert checkpoint.progress.ended == NAN_LOSS and checkpoint.progress.best_loss == float("inf")
    assert checkpoint.examples == header["examples"]
    newer = tmp_path / "newer.safetensors"
    mx.save_safetensors(str(newer), arrays, metadata={**old, "version": "2"})
    with pytest.raises(ValueError, match="its version is 2"):
        read_checkpoint(newer)
