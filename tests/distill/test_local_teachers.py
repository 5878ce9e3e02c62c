"""The teachers that need no server: their rows are right by construction, and can be written by a student."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_models import embedder_folder

from memlora_mlx.conversations.splits import SPLITS
from memlora_mlx.distill import observations_teacher, synthetic_teacher
from memlora_mlx.distill.examples import read_examples
from memlora_mlx.distill.local_teachers import make_examples
from memlora_mlx.distill.replay import temporary_store
from memlora_mlx.distill.synthetic_dialogues import Fact, expected_memories, generate_dialogue
from memlora_mlx.errors import BadConversation, UsageError
from memlora_mlx.memory import stages
from memlora_mlx.memory.abstention import NOT_MENTIONED
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import Settings

PAPER = SPLITS["paper"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    home = tmp_path_factory.mktemp("home")
    embedder = embedder_folder(home / "models" / "tiny-embedder")
    with Workspace(Settings(home=home, student="none-here", embedder=str(embedder))) as opened:
        yield opened


@pytest.mark.parametrize("seed", range(4))
def test_the_decisions_of_a_life_lead_to_its_bank(workspace: Workspace, seed: int) -> None:
    life = generate_dialogue(seed, steps=synthetic_teacher.STEPS)
    memories: list[str] = []
    with temporary_store(workspace) as real:
        rows = list(synthetic_teacher.synthetic_update_examples(life, real, "train"))
    for row in rows if seed % 4 == 0 else []:  # these lives keep every row
        old = [memory["text"] for memory in json.loads(row.chat[0][1].split(". New retrieved")[0].split(":", 1)[1])]
        for decision in stages.parse_update(row.answer, old).operations:
            if decision.event == "ADD":
                memories.append(decision.text)
            else:
                assert decision.memory_index is not None
                place = memories.index(old[decision.memory_index])
                memories[place : place + 1] = [decision.text] if decision.event == "UPDATE" else []
    assert rows
    assert seed % 4 or memories == expected_memories(life, len(life.steps))


def test_the_right_answer_names_offered_memories_first_and_counts_on() -> None:
    facts = [
        Fact("Ann has a cat", "ADD", None),
        Fact("Ann sold the car", "DELETE", "Ann drives a Fiat"),
        Fact("Ann moved to Rome", "UPDATE", "Ann lives in Oslo"),
        Fact("Ann is a nurse by profession", "NONE", "Ann works as a nurse"),
        Fact("Ann paints", "ADD", None),
    ]
    offered = ["Ann lives in Oslo", "Ann works as a nurse", "Ann drives a Fiat"]
    answer = synthetic_teacher.expected_update_answer(facts, offered)
    assert answer is not None
    assert [(entry["id"], entry["event"]) for entry in json.loads(answer)["memory"]] == [
        ("0", "UPDATE"),
        ("2", "DELETE"),
        ("3", "ADD"),
        ("4", "ADD"),
    ]
    assert synthetic_teacher.expected_update_answer(facts, offered[:2]) is None  # what is withdrawn was not found


def test_no_life_is_in_two_splits() -> None:
    parts = [(split, seed) for split in ("train", "validation", "test") for seed in (0, 9, 10, 25)]
    names = [{life.name for life in synthetic_teacher.generate_dialogues(5, split, seed=seed)} for split, seed in parts]
    assert sum(map(len, names)) == len(set.union(*names)) == 60


# ------------------------------------------------------------------------------------------------ observations


def sample(name: str) -> dict[str, object]:
    """A conversation in LoCoMo's form, in our own words."""
    turns = [
        ("Ann", "D1:1", "I moved to Rome last week."),
        ("Bob", "D1:2", "Lovely! I bought a red bicycle."),
        ("Ann", "D1:3", "How nice."),
        ("Bob", "D1:4", "See you!"),
    ]
    return {
        "sample_id": name,
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bob",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [{"speaker": s, "dia_id": d, "text": t} for s, d, t in turns],
        },
        "observation": {
            "session_1_observation": {
                "Ann": [["Ann moved to Rome.", "D1:1"]],
                "Bob": [["Bob bought a red bicycle.", ["D1:2", "D1:4"]]],
            }
        },
        "qa": [
            {
                "question": "When did Ann move?",
                "answer": "the week before 8 May 2023",
                "evidence": ["D1:1"],
                "category": 2,
            },
            {"question": "How many bicycles has Bob?", "answer": 1, "evidence": ["D1:2"], "category": 4},
            *({"question": f"Colour {i}?", "answer": "red", "evidence": ["D1:2"], "category": 4} for i in range(20)),
            {"question": "What did Ann buy?", "adversarial_answer": "a bicycle", "evidence": [], "category": 5},
        ],
    }


@pytest.fixture
def locomo(tmp_path: Path) -> Path:
    path = tmp_path / "locomo.json"
    path.write_text(json.dumps([sample("conv-26"), sample("conv-30"), sample("conv-42")]))
    return path


def test_observations_of_an_exchange_are_its_facts(workspace: Workspace, locomo: Path) -> None:
    made = make_examples("observations", "extraction", workspace, PAPER, files=[locomo])
    rows = list(read_examples(made.path))
    assert {row.conversation for row in rows} == {"conv-26", "conv-42"} and made.skipped == 1
    assert {row.split for row in rows if row.conversation == "conv-26"} == {"validation"}
    told = {row.answer for row in rows}
    assert {'{"facts": ["Ann moved to Rome"]}', '{"facts": ["Bob bought a red bicycle"]}'} <= told
    assert all("user: Ann: I moved" in row.chat[0][1] for row in rows if "Rome" in row.answer)


def test_observations_replayed_are_added_and_answer_the_questions(workspace: Workspace, locomo: Path) -> None:
    made = make_examples("observations", "update", workspace, PAPER, files=[locomo], names=["conv-42"])
    rows = list(read_examples(made.path))
    assert [json.loads(row.answer)["memory"] for row in rows] == [
        [{"id": "0", "text": "Ann moved to Rome", "event": "ADD"}],
        [{"id": "0", "text": "Bob bought a red bicycle", "event": "ADD"}],
    ]
    made = make_examples("observations", "generation", workspace, PAPER, files=[locomo], names=["conv-42"])
    rows = list(read_examples(made.path))
    assert [row.answer for row in rows][:2] == ["the week before 8 May 2023", "1"]
    assert [row.answer for row in rows].count(NOT_MENTIONED) == 1  # nothing tells what Ann bought
    assert "Ann: I moved to Rome last week (the week of 1 May 2023). (8 May 2023)" in rows[0].chat[0][1]


def test_what_cannot_be_made_is_said(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Give the path of LoCoMo's file"):
        make_examples("observations", "extraction", workspace, PAPER)
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps([{k: v for k, v in sample("conv-42").items() if k != "observation"}]))
    with pytest.raises(BadConversation, match="has no observations"):
        observations_teacher.read_annotated(bare)


def test_synthetic_rows_are_the_same_for_a_seed(workspace: Workspace) -> None:
    first = make_examples("synthetic", "extraction", workspace, PAPER, count=3)
    before = first.path.read_bytes()
    again = make_examples("synthetic", "extraction", workspace, PAPER, count=3)
    assert before == again.path.read_bytes()
    assert {row.split for row in read_examples(again.path)} == {"train", "validation"}
    other = make_examples("synthetic", "extraction", workspace, PAPER, count=3, seed=1)
    assert other.path.read_bytes() != before
