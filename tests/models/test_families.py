"""Every family of students that the catalogue names works: `docs/students.md` is the table of these tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import family_checks
import pytest
from tiny_models import CORPUS, FAMILIES, student_folder

from memlora_mlx.models import model_config
from memlora_mlx.models.batching import DecodingBatch, PrefixCache
from memlora_mlx.models.decoding import DecodingSequence
from memlora_mlx.models.experts import ExpertTable
from memlora_mlx.models.kv_cache import NativeCache
from memlora_mlx.models.loading import load_student

import mlx.core as mx  # isort: skip


DOCS = Path(__file__).parents[2] / "docs" / "students.md"
BEGIN, END = "<!-- the table of tests/models/family_checks.py -->\n", "<!-- end of the table -->"
VISION_BEGIN, VISION_END = (
    "<!-- the vision table of tests/models/family_checks.py -->\n",
    "<!-- end of the vision table -->",
)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checks.build(tmp_path_factory.mktemp("families"), request.param)


@pytest.mark.parametrize("check", family_checks.CHECKS)
def test_the_family_works(folder: Path, check: str) -> None:
    assert family_checks.CHECKS[check](folder)


@pytest.mark.parametrize(
    ("begin", "end", "table"),
    [(BEGIN, END, family_checks.table), (VISION_BEGIN, VISION_END, family_checks.vision_table)],
    ids=["text", "vision"],
)
def test_the_table_in_docs_is_that_of_these_checks(begin: str, end: str, table: Callable[[], str]) -> None:
    """`make students` writes it again."""
    text = DOCS.read_text(encoding="utf-8")
    first, last = text.index(begin) + len(begin), text.index(end)
    if os.environ.get("UPDATE_DOCS"):
        DOCS.write_text(text[:first] + table() + text[last:], encoding="utf-8")
        return
    assert text[first:last] == table(), "`make students` brings docs/students.md up to date"


@pytest.mark.parametrize("family", [name for name, config in FAMILIES.items() if "text_config" in config])
def test_a_model_whose_tower_is_not_run_reads_text(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vocabulary, the context and the end of an answer are those of its language model."""
    monkeypatch.setattr(model_config, "has", lambda extra: False)  # Gemma 4's tower is run with the vision extra
    folder = student_folder(tmp_path / family, family)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] = {"hidden_size": 8}
    config.pop("vocab_size", None)
    config["text_config"]["eos_token_id"] = config.pop("eos_token_id")
    if family == "gemma4":
        config["vocab_size"] = config["text_config"]["vocab_size"]  # mlx-lm takes it from here
    (folder / "config.json").write_text(json.dumps(config))
    student = load_student(folder)
    assert (student.vocabulary, student.context, student.eos) == (400, 4096, {2})
    assert not student.has_vision


@pytest.mark.parametrize("family", ["lfm2", "qwen3_5", "granitemoehybrid"])
def test_prompts_of_a_recurrent_model_start_behind_what_they_share(tmp_path: Path, family: str) -> None:
    """The first prompt is remembered, the second keeps the states of what both share, and the third starts there."""
    student = load_student(student_folder(tmp_path / family, family, seed=family_checks.SEEDS.get(family, 0)))
    table = ExpertTable(student.model, {})
    prompts = [student.encode((("system", CORPUS[0]), ("user", text))) for text in (*CORPUS[1:], "no", "Ann")]
    prefixes: PrefixCache = {}

    def answer(prompt: list[int], known: PrefixCache) -> tuple[list[int], int]:
        batch, row = (
            DecodingBatch(student, table, 2, known),
            DecodingSequence(student, "extraction", prompt, guide=None, max_tokens=20),
        )
        batch.add(row)
        while batch.is_busy:
            batch.step()
        return row.tokens, row.counters.reused

    found = [answer(prompt, prefixes) for prompt in prompts]
    assert [tokens for tokens, _ in found] == [answer(prompt, {})[0] for prompt in prompts]
    assert [reused > 20 for _, reused in found] == [False, False, True, True, True, True]


def test_a_recurrent_model_that_reads_padding_into_its_states_gets_one_row(tmp_path: Path) -> None:
    """mlx-lm's Mamba does not ask for the rows' lengths."""
    from mlx_lm.models.mamba import Model, ModelArgs

    student = load_student(student_folder(tmp_path / "m"))
    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "state_size": 8, "num_hidden_layers": 2}
    sizes |= {"conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "time_step_rank": 4}
    mamba = Model(ModelArgs.from_dict({"model_type": "mamba", **sizes}))
    mx.eval(mamba.parameters())
    padded = type(student)(mamba, student._tokenizer, {"model_type": "mamba"}, "mamba")
    assert isinstance(padded.make_batch_cache(4), NativeCache)
    assert padded.make_batch_cache(4).rows == 1
