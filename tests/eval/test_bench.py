"""A whole benchmark run on tiny models: every system, kept, stopped, judged and split."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from locomo import QUESTIONS, locomo_file, sample

from memlora_mlx.errors import Cancelled, UsageError
from memlora_mlx.eval.bench import run
from memlora_mlx.eval.bench_config import BenchConfig
from memlora_mlx.eval.locomo.scoring import is_abstention
from memlora_mlx.eval.results import BenchRun, read_run, write_run
from memlora_mlx.memory import stages
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import Settings, load_settings

sys.path.append(str(Path(__file__).parents[1] / "distill"))
from servers import Answer, error_response, local_server

OURS = ("memlora", "base", "full-context", "rag", "rag-dense", "oracle")


@pytest.fixture(scope="module", autouse=True)
def short_outputs() -> Iterator[None]:
    """Random weights rarely end an output, so that each is as long as it may be."""
    with pytest.MonkeyPatch.context() as patched:
        for name, tokens in (("EXTRACTION_TOKENS", 96), ("UPDATE_TOKENS", 128), ("ANSWER_TOKENS", 24)):
            patched.setattr(stages, name, tokens)
        yield


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory, varied_student: Path, tiny_embedder: Path, tiny_experts: Path
) -> Settings:
    """A home that the tests share, and so its cache."""
    models = {"student": varied_student, "embedder": tiny_embedder, "experts": tiny_experts}
    home = tmp_path_factory.mktemp("home")
    return load_settings({"home": str(home), "limit": 3} | {name: str(path) for name, path in models.items()}, {})


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    with Workspace(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> BenchConfig:
    return BenchConfig(locomo_file(tmp_path_factory.mktemp("data")), systems=OURS)


@pytest.fixture(scope="module")
def whole(settings: Settings, plan: BenchConfig) -> BenchRun:
    with Workspace(settings) as opened:
        return run(plan, opened)


def of(made: BenchRun, system: str) -> list[Any]:
    return [one for one in made.asked if one.system == system]


def timeless(made: BenchRun) -> dict[str, Any]:
    """A run without what the clock said, and where it came from."""
    value = json.loads(json.dumps(made.as_json()))
    for cost in value["costs"]:
        cost["seconds"] = 0
    value["phases"] = sorted({(phase["system"], phase["name"]) for phase in value["phases"]})
    for name in ("seconds", "model_seconds", "command"):
        value["origin"].pop(name, None)
    return value


def test_every_system_answers_every_question_and_says_where_from(whole: BenchRun) -> None:
    assert whole.failures == ()
    assert list(dict.fromkeys(one.system for one in whole.asked)) == list(OURS)
    assert all(len(of(whole, name)) == len(QUESTIONS) for name in OURS)
    assert [one.gold for one in of(whole, "base")][2] == "7"  # a number in the file
    assert all(one.recall == 1.0 for one in of(whole, "oracle"))
    [both] = [one for one in of(whole, "oracle") if one.category == 1]
    assert [memory["refs"] for memory in both.retrieved] == [["D1:1"], ["D2:3"]]  # two turns in one string of the file
    assert all(one.recall == 1.0 for one in of(whole, "full-context"))  # this talk fits
    for name in ("rag", "rag-dense"):
        assert all(len(one.retrieved) == 6 for one in of(whole, name))  # 3 for each of two owners
    for one in of(whole, "memlora"):
        assert len(one.retrieved) <= 6
        scores = [memory["score"] for memory in one.retrieved]
        assert scores == sorted(scores, reverse=True)


def test_what_is_measured_beside_the_answers(whole: BenchRun) -> None:
    stages = {(cost.system, cost.stage): cost for cost in whole.costs}
    assert stages["memlora", "extraction"].calls == 8  # four exchanges of either speaker
    assert {stage for system, stage in stages if system == "rag"} == {"generation"}
    answers = of(whole, "base")
    assert stages["base", "generation"].output_tokens == sum(one.output_tokens for one in answers) > 0
    assert all(0 <= phase.model_seconds <= phase.seconds * 1.001 for phase in whole.phases)
    told = whole.systems["memlora"]
    assert told["memories"] == told["operations"].get("ADD", 0) - told["operations"].get("DELETE", 0)
    assert told["stages"]["update"] == "lively-llama + expert"
    assert whole.systems["base"]["has_experts"] is False
    assert whole.systems["base"]["experts_bytes"] == 0 < told["experts_bytes"]


def test_category_5_is_scored_as_abstention_alone(whole: BenchRun) -> None:
    for one in whole.asked:
        if one.category == 5:
            assert set(one.scores) == {"abstained"}
            assert one.gold == ""
        else:
            assert {"token_f1", "rouge_1", "abstained"} <= set(one.scores)


def test_nothing_is_lost_where_the_answer_is_right(settings: Settings, plan: BenchConfig, tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({f"conv-26/{i}": str(q.get("answer", "")) for i, q in enumerate(QUESTIONS)}))
    with Workspace(settings) as opened:
        made = run(replace(plan, systems=("oracle",), predictions=(mine,)), opened)
    assert all(one.lost is None for one in of(made, "mine"))
    assert all(one.scores["exact"] == 1.0 for one in of(made, "mine") if one.category != 5)
    assert {one.lost for one in of(made, "oracle") if one.category != 5} == {"answered wrongly"}


def test_a_second_run_loads_no_student_and_gives_the_same(
    whole: BenchRun, workspace: Workspace, plan: BenchConfig
) -> None:
    again = run(plan, workspace)

    assert timeless(again) == timeless(whole)
    assert all(phase.from_cache for phase in again.phases)
    assert workspace.engine._student is None


def test_a_run_that_was_stopped_goes_on(whole: BenchRun, settings: Settings, plan: BenchConfig, tmp_path: Path) -> None:
    """Stopped in the middle of reading and of answering, it asks only what was not asked yet, and ends the same."""
    elsewhere = replace(settings, home=tmp_path / "home")
    plan = replace(plan, systems=("base",), efficiency=True)  # one after the other, so that it can be stopped between
    asked: list[int] = []
    for stop_at in [("ingest", 3), ("answers", 2), ("", 0)]:
        stop = threading.Event()

        def progress(*told: Any, at: tuple[str, int] = stop_at, stop: threading.Event = stop) -> None:
            if told[2:4] == at:
                stop.set()

        with Workspace(elsewhere) as opened:
            counted = _counting(opened)
            if stop_at[0]:
                with pytest.raises(Cancelled):
                    run(plan, opened, on_progress=progress, cancelled=stop)
            else:
                made = run(plan, opened)
        asked.append(len(counted))

    assert of(made, "base") == [replace(one, seconds=again.seconds) for one, again in _pairs(whole, made)]
    calls = sum(cost.calls for cost in made.costs)
    assert asked[2] < calls  # what was answered before was not asked again
    assert any(phase.kept_seconds > 0 for phase in made.phases)
    taken = sum(cost.seconds for cost in made.costs)  # with guesses at updates that were not needed
    assert taken <= sum(phase.kept_seconds + phase.seconds for phase in made.phases)
    assert not (tmp_path / "home" / "store").exists()  # the user's own


def _pairs(a: BenchRun, b: BenchRun) -> list[tuple[Any, Any]]:
    return list(zip(of(a, "base"), of(b, "base"), strict=True))


def _counting(opened: Workspace) -> list[object]:
    """Every request that reaches the student."""
    heard: list[object] = []
    submit = opened.engine.submit

    def counted(request: Any, **options: Any) -> Any:
        heard.append(request)
        return submit(request, **options)

    opened.engine.submit = counted  # type: ignore[method-assign]
    return heard


def test_another_judge_asks_no_student_again(
    whole: BenchRun, settings: Settings, plan: BenchConfig, tiny_student: Path
) -> None:
    plan = replace(plan, systems=("base", "oracle"), judge=f"mlx:{tiny_student}")
    with Workspace(settings) as opened:
        made = run(plan, opened)
        assert opened.engine._student is None
    judged = [one for one in made.asked if one.category != 5 and one.answer]
    assert all(set(one.verdicts) == {"generous", "strict"} for one in judged)
    assert all(not one.verdicts for one in made.asked if one.category == 5)
    assert {phase.name: phase.from_cache for phase in made.phases} == {
        "ingest": True,
        "answers": True,
        "scores": True,
        "judge": False,
    }
    assert all(one.lost is None for one in judged if one.verdicts["generous"])  # it says what is right
    with Workspace(settings) as opened:
        again = run(plan, opened)
    assert [one.verdicts for one in again.asked] == [one.verdicts for one in made.asked]
    assert all(phase.from_cache for phase in again.phases)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("That looks right to me.", "no JSON label"),  # prose
        (None, "disconnected"),  # it hangs up
        (error_response(401, "the key has expired"), "the key has expired"),
    ],
)
def test_of_a_judge_that_gives_no_verdict_all_else_is_kept(
    settings: Settings, plan: BenchConfig, answer: Answer, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it said before is still a verdict."""
    for seconds in ("INITIAL_BACKOFF", "MAX_BACKOFF"):
        monkeypatch.setattr(f"memlora_mlx.distill.teacher_client.{seconds}", 0.01)
    monkeypatch.setattr("memlora_mlx.eval.metrics.judges.CONTROL_ANSWERS", ())
    first = QUESTIONS[0]["question"]

    def judge(prompt: str) -> Answer:
        return '{"label": "CORRECT"}' if first in prompt else answer

    with local_server(judge) as served, Workspace(settings) as opened:
        made = run(replace(plan, systems=("oracle",), judge=f"openai:{served.url},big"), opened)
    assert len(made.asked) == len(QUESTIONS)
    assert all({"token_f1", "rouge_1"} <= set(one.scores) for one in made.asked if one.category != 5)
    assert all(not one.verdicts for one in made.asked if one.question != first)
    [line] = made.failures
    assert "gave no verdict on some answers" in line
    assert reason in line


def test_a_judge_that_cannot_be_opened_costs_nothing_else(settings: Settings, plan: BenchConfig) -> None:
    with Workspace(settings) as opened:
        made = run(replace(plan, systems=("oracle",), judge="mlx:no-such-judge"), opened)
    assert len(made.asked) == len(QUESTIONS)
    assert [line for line in made.failures if line.startswith("no answer was judged")]


def test_the_ends_of_the_ablation_are_base_and_experts(whole: BenchRun, settings: Settings, plan: BenchConfig) -> None:
    with Workspace(settings) as opened:
        made = run(replace(plan, systems=("base",), ablation=True), opened)
    rows = [name for name, told in made.systems.items() if told["table"] == "ablation"]
    assert rows == ["base/base/base", "expert/base/base", "expert/expert/base", "expert/expert/expert"]
    answers = {name: [one.answer for one in of(made, name)] for name in rows}
    assert answers["base/base/base"] == [one.answer for one in of(whole, "base")]
    assert answers["expert/expert/expert"] == [one.answer for one in of(whole, "memlora")]
    assert made.systems["expert/base/base"]["stages"] == {
        "extraction": "lively-llama + expert",
        "update": "lively-llama",
        "generation": "lively-llama",
    }


def test_one_call_at_a_time_is_another_measurement(whole: BenchRun, settings: Settings, plan: BenchConfig) -> None:
    """Seconds of calls that shared the student are not taken for those of calls that had it alone."""
    with Workspace(settings) as opened:
        heard = _counting(opened)
        made = run(replace(plan, systems=("oracle",), efficiency=True), opened)
    assert len(heard) == len(QUESTIONS)
    assert [one.answer for one in made.asked] == [one.answer for one in of(whole, "oracle")]
    assert made.origin["calls"] == "one at a time"


def test_every_student_on_this_disk(settings: Settings, plan: BenchConfig) -> None:
    with Workspace(settings) as opened:
        made = run(replace(plan, systems=("oracle",), scales=True), opened)
    tables = {name: told["table"] for name, told in made.systems.items() if told["table"] == "scales"}
    assert len(tables) == 2
    name, with_experts = tables
    assert with_experts == f"{name}+experts"


def test_conflicts_need_no_file_and_are_kept(settings: Settings) -> None:
    plan = BenchConfig(conflict=True, systems=("base",), questions=1)
    with Workspace(settings) as opened:
        made = run(plan, opened)
    assert made.asked == ()
    assert set(made.extra["conflict"]["systems"]) == {"base"}
    with Workspace(settings) as opened:
        again = run(plan, opened)
        assert opened.engine._student is None
    assert again.extra == json.loads(json.dumps(made.extra))


def test_two_students_share_an_ablation(settings: Settings, plan: BenchConfig, tiny_student: Path) -> None:
    with Workspace(settings) as opened:
        made = run(replace(plan, systems=("oracle",), ablation_with=str(tiny_student), limit=2, questions=1), opened)
    rows = [name for name, told in made.systems.items() if told["table"] == "ablation"]
    assert rows[:4] == [
        "base/base/base",
        "tiny-llama/base/base",
        "tiny-llama/tiny-llama/base",
        "tiny-llama/tiny-llama/tiny-llama",
    ]
    assert made.systems["tiny-llama/base/base"]["stages"]["extraction"] == "tiny-llama"
    assert made.failures == ()


def test_a_system_that_cannot_run_leaves_the_others(
    settings: Settings, plan: BenchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mem0", None)
    with Workspace(replace(settings, experts="none")) as opened:
        made = run(replace(plan, systems=("memlora", "mem0", "oracle")), opened)
    assert {one.system for one in made.asked} == {"oracle"}
    assert [line for line in made.failures if "memlora is left out" in line and "no experts" in line]
    assert [line for line in made.failures if "mem0 is left out" in line and "pip install" in line]


def test_whatever_breaks_in_mem0_leaves_the_others(
    settings: Settings, plan: BenchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise KeyError("payload")

    monkeypatch.setattr("memlora_mlx.eval.systems.mem0_system.require", lambda extra, what: None)
    monkeypatch.setattr("memlora_mlx.eval.systems.mem0_system.Mem0System._run", breaks)
    with Workspace(settings) as opened:
        made = run(replace(plan, systems=("mem0", "oracle")), opened)
    assert {one.system for one in made.asked} == {"oracle"}
    assert made.failures == ("mem0 on conv-26: mem0ai failed: KeyError('payload')",)


def test_missing_predictions_count_as_unanswered_and_are_named(
    settings: Settings, plan: BenchConfig, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs.jsonl"
    theirs.write_text('{"question_id": "conv-26/0", "answer": "Rome"}\n{"question_id": "conv-26/2", "answer": 7}\n')
    with Workspace(settings) as opened:
        made = run(replace(plan, systems=("oracle",), predictions=(theirs,)), opened)
    rows = of(made, "theirs")
    assert [one.answer for one in rows] == ["Rome", "", "7", "", "", ""]
    assert [one.scores.get("exact") for one in rows] == [1.0, 0.0, 1.0, 0.0, 0.0, None]
    [line] = made.failures
    assert "4 of 6" in line
    assert "conv-26/1" in line


def test_a_prediction_file_cannot_take_a_systems_name(workspace: Workspace, plan: BenchConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'base' is taken"):
        run(replace(plan, predictions=(tmp_path / "base.json",)), workspace)


def test_corrected_gold_answers_are_scored_beside_the_old(settings: Settings, plan: BenchConfig) -> None:
    with Workspace(settings) as opened:
        made = run(replace(plan, systems=("oracle",), corrections={"conv-26/0": "in Rome"}), opened)
    first, second, *_ = of(made, "oracle")
    assert first.corrected_gold == "in Rome"
    assert first.corrected_scores.keys() == first.scores.keys() - {"abstained"}
    assert second.corrected_gold is None
    assert not second.corrected_scores


def test_corrections_of_other_questions_are_named(settings: Settings, plan: BenchConfig) -> None:
    with Workspace(settings) as opened:
        made = run(replace(plan, systems=("oracle",), corrections={"26/0": "in Rome"}), opened)
    assert made.failures == ("none of the 1 corrections is of a question of this run: '26/0' is none, 'conv-26/0' is",)


def test_a_judge_has_verdicts_on_the_corrected_answers_too(settings: Settings, plan: BenchConfig) -> None:
    def judge(prompt: str) -> Answer:
        return '{"label": "CORRECT"}' if "in Rome" in prompt else '{"label": "WRONG"}'

    with local_server(judge) as served, Workspace(settings) as opened:
        corrected = replace(plan, systems=("oracle",), corrections={"conv-26/0": "in Rome"})
        made = run(replace(corrected, judge=f"openai:{served.url},big"), opened)
    first, second, *_ = of(made, "oracle")
    assert first.verdicts == {"generous": False, "strict": False}
    assert first.corrected_verdicts == {"generous": True, "strict": True}
    assert not second.corrected_verdicts


def test_what_the_user_said_goes_to_no_judge_elsewhere(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="nothing leaves this machine"):
        run(BenchConfig(mine=True, judge="openai:http://gpu1:8000/v1,big"), workspace)
    with pytest.raises(UsageError, match="names no judge"):
        run(BenchConfig(mine=True, judge="gpt-4"), workspace)


def test_bad_questions_are_left_out_and_named(settings: Settings, tmp_path: Path) -> None:
    questions = [
        *QUESTIONS[:2],
        {"question": "Why?", "category": 4, "evidence": ["D1:1"]},
        {"question": "Who?", "answer": "Ann", "category": 9, "evidence": []},
        {"answer": "Ann", "category": 4},
        "what?",
    ]
    file = locomo_file(tmp_path, sample("conv-26", questions), sample("conv-1", sessions=()), sample("conv-26"))
    with Workspace(settings) as opened:
        made = run(BenchConfig(file, split="all", systems=("oracle",)), opened)
    assert [one.question_id for one in made.asked] == ["conv-26/0", "conv-26/1"]
    told = "\n".join(made.failures)
    for words in (
        "no gold answer (conv-26/2)",
        "'9' is unknown (conv-26/3)",
        "2 questions",
        "conv-1 holds no turns",
        "(conv-26) is left out",
    ):
        assert words in told


def test_a_split_that_is_not_in_the_file(workspace: Workspace, plan: BenchConfig) -> None:
    with pytest.raises(UsageError, match=r"no conversation of the test split \(conv-30, conv-41\): .* holds conv-26"):
        run(replace(plan, split="test"), workspace)


def test_a_cache_of_another_version_is_ignored_with_a_note(
    whole: BenchRun, settings: Settings, plan: BenchConfig
) -> None:
    cache = settings.home / "bench" / "cache"
    (cache / "v0").mkdir()
    for kept in (cache / "v1" / "answers").glob("*.json"):
        kept.write_text('{"format": 0}')
    with Workspace(settings) as opened:
        made = run(plan, opened)
    assert [one.answer for one in made.asked] == [one.answer for one in whole.asked]
    assert "v0 is of another version" in made.failures[0]
    assert sum("that phase is done again" in line for line in made.failures) == len(OURS)
    (cache / "v0").rmdir()


def test_a_run_of_another_version_is_refused(tmp_path: Path, whole: BenchRun) -> None:
    path = write_run(whole, tmp_path)
    assert json.dumps(read_run(tmp_path).as_json()) == json.dumps(whole.as_json())
    for broken in ('{"format": 99}', "[]", "{", '{"format": 1}'):
        path.write_text(broken)
        with pytest.raises(UsageError, match="run `memlora bench` again"):
            read_run(path)


@pytest.mark.parametrize(
    ("answer", "abstained"),
    [
        ("", True),
        ("Not mentioned", True),
        ("It was not mentioned.", True),
        ("There is no information about this.", True),
        ("I don\u2019t know", True),
        ("The conversation does not mention a cat.", True),
        ("Unknown", True),
        ("Moss", False),
        ("No", False),
        ("She does not like coffee", False),
        ("an unknown-pleasures poster", True),  # the rule is small, and says so
    ],
)
def test_what_counts_as_abstention(answer: str, abstained: bool) -> None:
    assert is_abstention(answer) is abstained
