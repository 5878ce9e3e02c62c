"""Questions about the user's own conversations, on a store made by the real ingest."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from cli_home import TALK

from memlora_mlx.conversations import read_conversations
from memlora_mlx.errors import StoreError, UsageError
from memlora_mlx.eval.bench import run
from memlora_mlx.eval.bench_config import BenchConfig
from memlora_mlx.eval.locomo import own_conversations
from memlora_mlx.memory.ingest import ingest
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import load_settings


@pytest.fixture
def talked(tiny_home: Path, varied_student: Path, tiny_experts: Path, tmp_path: Path) -> Workspace:
    """A user who has had one conversation read."""
    talk = tmp_path / "talk.txt"
    talk.write_text(TALK)
    workspace = Workspace(load_settings({"student": str(varied_student), "experts": str(tiny_experts)}))
    with workspace:
        ingest(workspace.pipeline, read_conversations(talk), user="me")
    return workspace


def test_the_users_own_memories_are_asked_and_left_alone(talked: Workspace) -> None:
    before = {path: sha256(path.read_bytes()).digest() for path in talked.settings.store_folder.rglob("*.db")}
    with talked:
        made = run(BenchConfig(mine=True, systems=("memlora", "rag", "oracle", "base")), talked)
    asked = [one for one in made.asked if one.system == "oracle"]
    assert asked[0].question == 'What fills the gap in what Ann said on 8 May 2023: "I moved to ____ last week."?'
    assert [one.gold for one in asked] == ["Rome", "Moss", "May", "Oslo", "Oslo"]
    assert all(one.recall == 1.0 for one in made.asked if one.system == "oracle")
    assert {one.system for one in made.asked} == {"memlora", "rag", "oracle"}
    assert any(one.retrieved and one.retrieved[0]["refs"] for one in made.asked if one.system == "memlora")
    assert [line for line in made.failures if line.startswith("base is left out")]
    assert {path: sha256(path.read_bytes()).digest() for path in before} == before
    kept = list((talked.settings.home / "bench").rglob("*"))
    assert not [path for path in kept if path.is_file()]  # what was said is kept in one place alone


def test_nothing_remembered_and_nothing_to_ask(tiny_home: Path, talked: Workspace) -> None:
    with own_conversations.snapshot_store(talked) as kept:
        bare = replace(kept, exchanges=kept.exchanges[2:4])  # "The doctor said no to coffee."
        with pytest.raises(UsageError, match="no sentence with a name or a number"):
            own_conversations.cases(bare, 5)
    with (
        Workspace(replace(talked.settings, home=tiny_home / "new")) as nobody,
        pytest.raises(StoreError, match="nothing is remembered"),
    ):
        run(BenchConfig(mine=True), nobody)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("We paid 1,200 for the boat.", ("We paid ____ for the boat.", "1,200")),
        ("So nice! We met Aunt Rosa in town.", ("We met ____ in town.", "Aunt Rosa")),
        ("I saw Rosa and Rosa saw me.", None),  # the answer would still stand there
        ("Did you meet Rosa in town?", None),
        ("Hi Rosa!", None),
        ("it was good to be here", None),
    ],
)
def test_a_gap_is_a_name_or_a_number(said: str, expected: tuple[str, str] | None) -> None:
    assert own_conversations._cloze_question(said) == expected
