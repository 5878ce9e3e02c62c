"""A whole benchmark run on tiny models: every system, kept, stopped and split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from locomo import locomo_file

from memlora_mlx.eval.bench import Plan, run
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import load_settings

OURS = ("memlora", "base", "full-context", "rag", "oracle")


@pytest.fixture
def workspace(tiny_home: Path, lively_student: Path, tiny_experts: Path) -> Iterator[Workspace]:
    settings = load_settings({"student": str(lively_student), "experts": str(tiny_experts)})
    with Workspace(settings) as opened:
        yield opened


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(locomo_file(tmp_path), systems=OURS)


def test_every_system_answers_every_question(workspace: Workspace, plan: Plan) -> None:
    made = run(plan, workspace)
    print(made)
    assert {one.system for one in made.asked} == set(OURS)
    assert len(made.asked) == 6 * len(OURS)
