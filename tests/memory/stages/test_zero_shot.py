"""What a student without experts is shown first: valid examples, the same prompt behind them, and only where that is wanted."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import pytest

from memlora_mlx.memory import stages
from memlora_mlx.memory.pipeline import Pipeline
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models.cards import ModelManifest
from memlora_mlx.models.decoding import GrammarMatcher
from memlora_mlx.models.folders import move_into_place
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.student import Student
from memlora_mlx.records import Exchange, Message, Scope
from memlora_mlx.settings import load_settings

SAID = Exchange("k", Scope("ann"), (Message("user", "I moved to Rome.", "Ann"),), datetime(2023, 5, 8), "s", 0)


@pytest.fixture
def student(tiny_student: Path) -> Student:
    return load_student(tiny_student)


def test_every_example_is_an_answer_that_the_grammar_allows(student: Student) -> None:
    chat = stages.zero_shot_chat("update", stages.update_chat(["Ann has a cat"], ["Ann has a dog"]))
    assert [role for role, _ in chat] == ["user", "assistant"] * 4 + ["user"]
    events = []
    for (_, asked), (_, answer) in zip(chat[0::2], chat[1::2], strict=False):
        old, facts = stages.parse_update_chat((("user", asked),)) or ([], [])
        guide = GrammarMatcher(student, stages.update_grammar(old, facts, copy_constrained=True))
        tokens = student.tokenize(answer)
        assert old and len(facts) == 1 and guide.valid(tokens) == len(tokens), answer
        events += [operation.event for operation in stages.parse_update(answer, old).operations] or ["NONE"]
    assert events == ["UPDATE", "ADD", "DELETE", "NONE"]

    chat = stages.zero_shot_chat("extraction", stages.extraction_chat(SAID))
    answers = [stages.parse_facts(answer) for _, answer in chat[1::2]]
    assert [len(facts) for facts in answers] == [2, 0, 2]
    for (_, asked), facts in zip(chat[0::2], answers, strict=False):
        said = asked.partition("assistant: ")[0]
        for fact in facts:
            words = {word.strip(".,'").removesuffix("'s") for word in fact.split()}
            names = [word for word in words if word[0].isupper() and word != "User"]
            assert all(name in said for name in names), "an example takes nothing from the other speaker"


def test_the_prompt_behind_the_examples_is_the_stages_own() -> None:
    asked = stages.update_chat(["Ann has a cat"], ["Ann has a dog"])
    shown = stages.zero_shot_chat("update", asked)
    assert shown[-1:] == asked and stages.parse_update_chat(shown) == (["Ann has a cat"], ["Ann has a dog"])
    answer = (("user", "Where does Ann live?"),)
    assert stages.zero_shot_chat("generation", answer) == answer


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ('[models.mine]\nrepository = "a/mine"\nfamily = "llama"\n', {"extraction", "update"}),
        ('[models.mine]\nrepository = "a/mine"\nfamily = "llama"\nzero_shot = false\n', set()),
        ("", set()),
    ],
    ids=["known to follow prompts", "known not to", "unknown"],
)
def test_the_student_decides_and_experts_are_never_shown_examples(
    tiny_home: Path, tiny_student: Path, tiny_experts: Path, entry: str, shown: set[str]
) -> None:
    (tiny_home / "models").mkdir(parents=True)
    (tiny_home / "config.toml").write_text(entry)
    staged = shutil.copytree(tiny_student, tiny_home / "staged")
    move_into_place(
        ModelManifest(name="mine", repository="a/mine"), staged, tiny_home / "models" / "mine", hashes=False
    )
    student = "mine" if entry else str(tiny_student)
    with Workspace(load_settings({"student": student})) as workspace:
        options = workspace.pipeline_options
        assert options.zero_shot == shown
        assert options.per_fact == options.copy_constrained == bool(shown)
        pipeline = Pipeline(workspace.engine, workspace.store, options)
        if "extraction" not in options.verbatim_only:
            [found] = pipeline.extraction_requests(SAID)
            assert (len(found.request.chat) == 7) == bool(shown)
    with Workspace(load_settings({"student": student, "experts": str(tiny_experts)})) as workspace:
        assert workspace.pipeline_options.zero_shot == frozenset()
    with Workspace(load_settings({"student": student, "protocol": "paper"})) as workspace:
        assert workspace.pipeline_options.zero_shot == frozenset()


def test_the_starter_that_does_not_follow_prompts_keeps_to_whole_sentences(
    starter_models: Path, tiny_home: Path
) -> None:
    settings = load_settings({"student": "smollm2-135m", "experts": "none"})
    with Workspace(settings, models_folder=starter_models) as workspace:
        assert workspace.pipeline_options.zero_shot == frozenset()
        assert workspace.pipeline_options.verbatim_only == {"extraction", "update"}
