"""The plan of a training session: how many rows and steps fit into a time that was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.distill.session_plan import LEAST_STEPS, VALIDATIONS, StagePace, plan_stage, plan_stages, share_of_rows
from memlora_mlx.distill.session_state import StageState
from memlora_mlx.distill.training_config import TrainingConfig, config_from_json, config_to_json

RECIPE = Recipe("update", ("q_proj",), batch_size=4, epochs=5, validations=4)
PACE = StagePace(0.01, 0.004, 100.0, 100.0, 1000, 0.5, 10**9, RECIPE)  # a second for a row


def planned(seconds: float | None, pace: StagePace = PACE, recipe: Recipe = RECIPE) -> StageState:
    config = TrainingConfig("update", "tiny", ("rows.jsonl",), recipe)
    state = StageState("update", config=config_to_json(config))
    plan_stage(state, pace, seconds)
    return state


@pytest.mark.parametrize("seconds", [80, 200, 600, 3600])
def test_a_run_takes_the_time_it_was_given(seconds: float) -> None:
    state = planned(seconds)
    config = config_from_json(state.config)
    assert 0.6 * seconds <= state.planned_seconds <= 1.05 * seconds
    assert state.steps >= LEAST_STEPS and config.validation_rows >= 8
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
    assert config_from_json(planned(PACE.least_seconds).config).recipe.batch_size < RECIPE.batch_size
    state = planned(0.9 * PACE.least_seconds)
    assert state.outcome == "too long" and "24 steps take 61 s" in state.reason


def plan(seconds: float, judging: float = 0.0) -> dict[str, StageState]:
    """Plan three stages, of which update has least to gain and generation most, in a time that judging shortens."""
    losses = {"extraction": 0.4, "update": 0.01, "generation": 0.7}
    stages = [StageState(s, config=config_to_json(TrainingConfig(s, "tiny", ("rows.jsonl",), RECIPE))) for s in losses]
    paces = {stage: replace(PACE, loss=loss) for stage, loss in losses.items()}
    plan_stages(stages, paces, lambda count: max(0.0, seconds - judging * count))
    return {stage.stage: stage for stage in stages}


def test_time_is_shared_by_all_stages_if_it_is_enough_for_each() -> None:
    stages = plan(900).values()
    assert [stage.outcome for stage in stages] == ["planned"] * 3
    times = [stage.planned_seconds for stage in stages]
    assert max(times) < 1.3 * min(times) and 700 < sum(times) <= 900


def test_in_a_short_time_the_stages_that_have_most_to_gain_are_trained() -> None:
    two = plan(150)
    assert two["update"].outcome == "too long" and "least to gain (loss 0.010" in two["update"].reason
    assert [two[stage].outcome for stage in ("extraction", "generation")] == ["planned", "planned"]
    one = plan(100)
    assert one["generation"].outcome == "planned" and one["generation"].planned_seconds > 60
    assert "for 1 of 3 stages" in one["extraction"].reason


def test_a_stage_that_is_left_out_needs_no_time_to_be_judged() -> None:
    stages = plan(400, judging=100)  # of 400 s, 300 are for judging three stages, and 200 for judging two
    assert stages["update"].outcome == "too long"
    assert all(stages[stage].planned_seconds > 90 for stage in ("extraction", "generation"))


def test_no_stage_is_trained_if_the_time_is_too_short_for_any() -> None:
    assert {stage.outcome for stage in plan(30).values()} == {"too long"}


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
