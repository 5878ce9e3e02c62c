"""The plan of a training session: how many rows and steps fit into a time that was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.distill.session_plan import VALIDATIONS, StagePace, plan_stage, share_of_rows
from memlora_mlx.distill.session_state import StageState
from memlora_mlx.distill.training_config import TrainingConfig, config_from_json, config_to_json

RECIPE = Recipe("update", ("q_proj",), batch_size=4, epochs=5, validations=4)
PACE = StagePace(0.01, 0.004, 100.0, 100.0, 1000, 10**9, RECIPE)  # a second for a row


def planned(seconds: float | None, pace: StagePace = PACE, recipe: Recipe = RECIPE) -> StageState:
    config = TrainingConfig("update", "tiny", ("rows.jsonl",), recipe)
    state = StageState("update", config=config_to_json(config))
    plan_stage(state, pace, seconds)
    return state


@pytest.mark.parametrize("seconds", [60, 200, 600, 3600])
def test_a_run_takes_the_time_it_was_given(seconds: float) -> None:
    state = planned(seconds)
    config = config_from_json(state.config)
    assert 0.6 * seconds <= state.planned_seconds <= 1.05 * seconds
    assert state.steps >= 4 and config.validation_rows >= 8
    assert state.tokens_per_second == pytest.approx(100)
    trained = state.steps * config.recipe.batch_size
    assert trained * PACE.row_seconds >= 0.6 * seconds, "most of the time goes into training"


def test_with_time_for_more_than_one_pass_there_are_more_and_never_more_than_the_recipe_says() -> None:
    few = replace(PACE, rows=100)
    two = config_from_json(planned(300, few).config)
    assert two.rows == 100 and 1.5 < two.recipe.epochs < 3
    assert config_from_json(planned(36_000, few).config).recipe.epochs == RECIPE.epochs


def test_a_run_without_a_limit_is_what_the_recipe_says() -> None:
    state = planned(None)
    assert config_from_json(state.config).recipe == RECIPE and state.steps == 1250
    assert state.planned_seconds > 5000


def test_batches_get_smaller_before_a_stage_is_left_out() -> None:
    assert config_from_json(planned(20).config).recipe.batch_size < RECIPE.batch_size
    state = planned(3)
    assert state.outcome == "too long" and "a step takes 4 s" in state.reason


def test_a_run_validates_a_few_times() -> None:
    state = planned(600)
    config = config_from_json(state.config)
    per_epoch = -(-(config.rows or 0) // config.recipe.batch_size)
    assert VALIDATIONS <= state.steps // max(1, per_epoch // config.recipe.validations) <= VALIDATIONS + 1


def test_own_corrections_are_taken_before_anything_else(tmp_path: Path) -> None:
    own = tmp_path / "corrections.jsonl"
    own.write_text("{}\n" * 30)
    files = ("a.jsonl", str(own), "b.jsonl")
    assert share_of_rows(files, 50) == (str(own), "a.jsonl:10", "b.jsonl:10")
    assert share_of_rows(("a.jsonl",), 50) == ("a.jsonl",)
