"""The Ingest, Train, Bench and Models screens: real files, real processes, the tiny models."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from cli_home import store_contents
from pilots import noticed, run_app, text_of, wait_until, wait_until_loaded
from textual.binding import Binding
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Select

from memlora_mlx.config_file import save_preferences
from memlora_mlx.distill.examples import TrainingExample, write_examples
from memlora_mlx.errors import UsageError
from memlora_mlx.eval.results import BenchRun, QuestionResult, write_run
from memlora_mlx.memory.store.sources import list_sources
from memlora_mlx.tui.app import MemloraApp
from memlora_mlx.tui.backend import Backend
from memlora_mlx.tui.base_app import SCREENS_BY_KEY
from memlora_mlx.tui.screens.bench import BenchScreen
from memlora_mlx.tui.screens.dialogs import ConfirmDialog
from memlora_mlx.tui.screens.forms import TextDialog
from memlora_mlx.tui.screens.ingest import IngestScreen
from memlora_mlx.tui.screens.models import ModelsScreen
from memlora_mlx.tui.screens.train import TrainScreen
from memlora_mlx.tui.widgets.plots import _epoch_ticks


async def go(app: MemloraApp, pilot: Pilot[Any], key: str, wanted: type[Any]) -> Any:
    await wait_until_loaded(app, pilot)
    await pilot.press(key)
    await wait_until(pilot, lambda: isinstance(app.screen, wanted))
    return app.screen


def make_report(folder: Path, student: str = "tiny") -> Path:
    scores = {name: 0.6 for name in ("rouge_1", "meteor", "bert_score", "sentence_bert", "token_f1")}
    asked = tuple(
        QuestionResult(
            system, "conv-26", f"conv-26/{number}", number % 4 + 1, "[b]where[/b]?", "Rome", ("D1:1",), "Rome",
            recall=0.5, scores={**scores, "exact": 0.0, "abstained": 0.0},
        )
        for system in ("memlora", "base")
        for number in range(8)
    )  # fmt: skip
    origin = {"student": student, "data": {"file": "data.json"}, "systems": ["memlora", "base"], "environment": {}}
    return write_run(BenchRun(origin, asked), folder)


def teacher_rows(home: Path, count: int = 24) -> None:
    rows = [
        TrainingExample(
            "extraction", (("user", f"Ann: {n}"),), '{"facts": ["tea"]}', "teacher", f"talk-{n % 6}", str(n), "train"
        )
        for n in range(count)
    ]
    write_examples(home / "teacher" / "extraction" / "test.jsonl", rows)


def test_every_key_has_its_action_and_every_action_is_in_the_palette(tiny_home: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        from memlora_mlx.tui.widgets.actions import ScreenActions

        for mode in ("memories", "ingest", "train", "bench", "models"):
            app.action_page(mode)
            await wait_until(
                pilot,
                lambda mode=mode: (
                    app.current_mode == mode and getattr(app.screen, "NAME", "") == SCREENS_BY_KEY[mode][1]
                ),
            )
            offered = [hit.text async for hit in ScreenActions(app.screen).discover()]
            for binding in Binding.make_bindings(type(app.screen).BINDINGS):
                assert hasattr(app.screen, f"action_{binding.action.partition('(')[0]}"), binding
                assert binding.tooltip and f"{SCREENS_BY_KEY[mode][1]}: {binding.description}" in offered

    run_app(script)


# Long enough that it can be stopped on the way, however fast the machine is.
LONG_TALK = "".join(
    f"user: I bought {number} red apples on day {number}.\nassistant: How many?\n" for number in range(150)
)
EXCHANGES = 150


def test_ingest_pauses_and_goes_on(
    tiny_home: Path, varied_student: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEMLORA_STUDENT", str(varied_student))
    file = tmp_path / "talk.txt"
    file.write_text(LONG_TALK, encoding="utf-8")
    (tmp_path / "bad.json").write_text('{"a": [red', encoding="utf-8")

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        screen = await go(app, pilot, "f4", IngestScreen)
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: "There is nothing to import" in text_of(app))
        screen.add(tmp_path / "bad.json")
        await wait_until(pilot, lambda: "✗" in text_of(app), "a file that cannot be read says why")
        await pilot.press("slash")
        screen.query_one("#path", Input).value = str(file)
        await pilot.press("enter")
        await wait_until(pilot, lambda: "ready; press Ctrl+R" in text_of(app))
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: screen._tally is not None and screen._tally.done >= 1, "it reads")
        await pilot.press("escape")
        await wait_until(pilot, lambda: screen._stop is None)
        assert "paused. Press Ctrl+R to continue" in text_of(app)
        store = (await app.backend.run(lambda workspace: workspace)).store
        before = list_sources(store)[0].done
        assert 0 < before < EXCHANGES, "it stopped on the way"
        await pilot.press("p")
        await wait_until(
            pilot,
            lambda: screen._stop is None and "✓ imported" in text_of(app) and list_sources(store)[0].done == EXCHANGES,
        )
        await wait_until(pilot, lambda: f"{before} were imported before" in text_of(app))

    run_app(script)
    assert len(store_contents(tiny_home)["exchanges"]) == EXCHANGES


def test_train_draws_stops_keeps_the_best_resumes_and_installs(tiny_home: Path) -> None:
    teacher_rows(tiny_home)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        screen = await go(app, pilot, "f5", TrainScreen)
        await pilot.press("i")
        await wait_until(pilot, lambda: "There is no run yet" in text_of(app))
        await pilot.press("ctrl+r")
        await wait_until(
            pilot, lambda: any(run.best and run.best.step for run in screen._finished_runs.values()), "a validation"
        )
        [run] = screen._finished_runs.values()
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: "is training. Wait until" in text_of(app))
        await pilot.press("escape")
        await wait_until(pilot, lambda: screen._job is None and "‖ stopped" in text_of(app))
        assert (run.folder / "best-so-far" / "adapter_config.json").is_file()
        assert "validation" in text_of(app) and "best" in text_of(app)
        steps = screen._finished_runs[run.folder.name].points[-1].step

        await pilot.press("i")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await wait_until(pilot, lambda: "Better than the base model" in " ".join(text_of(app).split()))
        await pilot.press("y")
        await wait_until(pilot, lambda: "Installed." in text_of(app))
        await pilot.press("n")
        assert list((tiny_home / "adapters").glob("*/extraction/adapter_config.json"))
        await wait_until(pilot, lambda: app.screen is screen)
        await pilot.press("b")
        await wait_until(pilot, lambda: "Went back" in text_of(app))
        await pilot.press("n")
        assert not list((tiny_home / "adapters").glob("*/extraction/adapter_config.json"))

        await pilot.press("r")
        await wait_until(pilot, lambda: screen._finished_runs[run.folder.name].points[-1].step > steps, "it goes on")
        await pilot.press("escape")
        await wait_until(pilot, lambda: screen._job is None)

    run_app(script)


def test_train_offers_the_synthetic_set_and_tells_failures(tiny_home: Path, tmp_path: Path) -> None:
    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        screen = await go(app, pilot, "f5", TrainScreen)
        for stage in ("extraction", "generation"):
            screen.query_one("#stage", Select).value = stage
            await pilot.press("ctrl+r")
            await wait_until(
                pilot, lambda: isinstance(app.screen, ConfirmDialog) and "synthetic dialogues now?" in text_of(app)
            )
            await pilot.press("n")
            await wait_until(pilot, lambda: app.screen is screen)
        (tmp_path / "rows.jsonl").write_text("{broken\n", encoding="utf-8")
        screen.query_one("#data", Input).value = str(tmp_path / "rows.jsonl")
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: "is not JSON" in noticed(app), "its own words")
        assert "rows.jsonl" in text_of(app) and screen._job is None

    run_app(script)


def test_too_few_examples_are_not_trained_on(tiny_home: Path) -> None:
    teacher_rows(tiny_home, 2)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        screen = await go(app, pilot, "f5", TrainScreen)
        await pilot.press("ctrl+r")
        await wait_until(
            pilot, lambda: "2 examples for extraction, and 20 are needed" in " ".join(text_of(app).split())
        )
        assert "A correction is a memory that you edited" in " ".join(text_of(app).split())
        assert screen._job is None

    run_app(script, size=(160, 40))


def test_the_curve_names_whole_epochs() -> None:
    assert _epoch_ticks(2.25) == ([0.0, 1.0, 2.0, 3.0], ["0", "1", "2", "3"])
    assert _epoch_ticks(0.0)[1] == ["0", "1"] and len(_epoch_ticks(400.0)[1]) <= 11


def test_a_damaged_run_is_listed_as_one(tiny_home: Path) -> None:
    folder = tiny_home / "runs" / "update-[red]x"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{", encoding="utf-8")

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        await go(app, pilot, "f5", TrainScreen)
        await wait_until(pilot, lambda: "✗ damaged" in text_of(app) and "update-[red]x" in text_of(app))

    run_app(script)


def test_reports_open_as_tables_and_bars_and_damaged_ones_are_told(tiny_home: Path, tmp_path: Path) -> None:
    make_report(tiny_home / "bench" / "runs" / "one", student="[red]tiny")
    broken = tiny_home / "bench" / "runs" / "two"
    broken.mkdir()
    (broken / "results.json").write_text('{"format": 1, "asked": 3}', encoding="utf-8")

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        screen = await go(app, pilot, "f6", BenchScreen)
        await wait_until(pilot, lambda: "✗ damaged" in text_of(app) and "[red]tiny" in text_of(app))
        screen.open_report(broken)
        await wait_until(pilot, lambda: "no benchmark run of this version" in text_of(app))
        screen.open_report(tiny_home / "bench" / "runs" / "one")
        await wait_until(
            pilot, lambda: "60.0 [60.0, 60.0]" in text_of(app) and "█" in text_of(app), "bars with figures"
        )
        await pilot.press("n")
        await wait_until(pilot, lambda: "multi-hop" in text_of(app))
        sections = screen.query_one("#sections", OptionList)
        shown = [str(sections.get_option_at_index(i).prompt) for i in range(sections.option_count)]
        assert "Retrieval" in shown and "By category" in shown

    run_app(script, size=(120, 40))


def test_a_benchmark_that_cannot_run_says_why(tiny_home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("[]", encoding="utf-8")

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        screen = await go(app, pilot, "f6", BenchScreen)
        for name, told in (("", "Give the path of LoCoMo's file"), (str(tmp_path / "empty.json"), "Benchmark failed")):
            await pilot.press("ctrl+r")
            await wait_until(pilot, lambda: app.screen is not screen)
            app.screen.query_one("#file", Input).value = name
            app.screen.query_one("#file", Input).focus()
            await pilot.press("enter")
            await wait_until(pilot, lambda told=told: app.screen is screen and told in noticed(app))
        assert screen._job is None

    run_app(script)


def test_models_mode_and_student_are_changed_and_kept(
    tiny_home: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_home / "config.toml").parent.mkdir(exist_ok=True)
    (tiny_home / "config.toml").write_text(
        "# mine\nlimit = 7  # few\n[later]\n".replace("[later]\n", ""), encoding="utf-8"
    )

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        screen = await go(app, pilot, "f7", ModelsScreen)
        await wait_until(pilot, lambda: "gemma2-2b" in text_of(app) and "in use" in text_of(app))
        shown = {str(key.value) for key in screen.table.rows}
        assert "drawings" not in shown and "smollm2-135m" in shown, "as in `memlora models list` without --all"
        await pilot.press("m")
        await wait_until(pilot, lambda: "Expert mode: fused" in text_of(app))
        assert app.backend.settings.expert_mode == "fused" and app.backend.status.phase == "ready"
        await pilot.press("down", "c")
        await wait_until(pilot, lambda: "is not installed. Press p to download it" in text_of(app))
        await pilot.press("d")
        await wait_until(pilot, lambda: "is not installed" in text_of(app))
        screen.query_one("#experts").focus()
        await wait_until(pilot, lambda: "shipped" in text_of(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, TextDialog) and "fingerprint" in text_of(app))

    run_app(script, size=(120, 40))
    text = (tiny_home / "config.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == {"limit": 7, "expert_mode": "fused"} and "# few" in text


def test_a_pull_that_fails_says_why(tiny_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told: list[str] = []  # all that the status bar was given: a pull that fails at once may be over before one looks
    watched = property(lambda _: told[-1], lambda _, words: told.append(words))
    monkeypatch.setattr(Backend, "has_network_activity", watched, raising=False)

    async def script(app: MemloraApp, pilot: Pilot[Any]) -> None:
        screen = await go(app, pilot, "f7", ModelsScreen)
        await wait_until(pilot, lambda: screen.table.row_count > 0)
        await pilot.press("down", "p")
        await wait_until(pilot, lambda: "Could not download qwen3-4b" in text_of(app))
        shown = list(dict.fromkeys(words.partition(" 0 %")[0] for words in told))
        assert shown == ["offline", "downloading qwen3-4b"] and told[-1] == "offline" and screen._job is None

    run_app(script)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", {"student": 'a "b"\\c'}),
        ("student = 'x' # why\nlimit = 3\n", {"student": 'a "b"\\c', "limit": 3}),
        ("limit = 3", {"student": 'a "b"\\c', "limit": 3}),
    ],
)
def test_a_setting_is_kept_beside_the_others(isolated_home: Path, before: str, after: dict[str, Any]) -> None:
    isolated_home.mkdir()
    (isolated_home / "config.toml").write_text(before, encoding="utf-8")
    save_preferences(isolated_home, student='a "b"\\c')
    assert tomllib.loads((isolated_home / "config.toml").read_text(encoding="utf-8")) == after


@pytest.mark.parametrize("text", ['student = """\nx\n"""\n', "not toml ["])
def test_a_file_that_is_not_understood_is_left_alone(isolated_home: Path, text: str) -> None:
    isolated_home.mkdir()
    (isolated_home / "config.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError):
        save_preferences(isolated_home, student="y")
    assert (isolated_home / "config.toml").read_text(encoding="utf-8") == text
