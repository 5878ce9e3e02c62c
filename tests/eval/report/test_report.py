"""A report can be computed again by hand from its run, names what it is of, and survives what data and models say."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.eval import report
from memlora_mlx.eval.metrics.intervals import wilson
from memlora_mlx.eval.report.document import MISSING, Document, Table
from memlora_mlx.eval.report.figures import recall_at
from memlora_mlx.eval.report.paper import ablation_row, student
from memlora_mlx.eval.results import BenchRun, PhaseCost, QuestionResult, StageCost, read_run, write_run

PARTS = ("rouge_1", "meteor", "bert_score", "sentence_bert")
HOSTILE = "<script>alert(1)</script><img src=http://x.example/a.png> | `x` *y* \x1b[31m\u202e" + "z" * 9000


def ask(system: str, number: int, category: int = 4, **fields: Any) -> QuestionResult:
    defaults: dict[str, Any] = {
        "conversation": "conv-26",
        "question": f"What is {number}?",
        "gold": "" if category == 5 else f"gold {number}",
        "evidence": ("D1:1", "D1:2"),
        "answer": f"{system} says {number}",
        "retrieved": ({"text": "a memory", "refs": ["D1:1"], "score": 0.2},),
        "recall": 0.5,
    }
    return QuestionResult(system=system, question_id=f"conv-26/{number}", category=category, **{**defaults, **fields})


def scores(value: float) -> dict[str, float]:
    parts = {name: min(1.0, value + 0.05 * i) for i, name in enumerate(PARTS)}
    return {**parts, "token_f1": value, "exact": float(value == 1.0), "abstained": float(value == 0.0)}


@pytest.fixture
def run() -> BenchRun:
    """Two systems on 24 questions of all categories; `memlora` is the better one."""
    asked = []
    for system, luck in (("memlora", 0.4), ("base", 0.0)):
        for number in range(24):
            category = number % 5 + 1
            value = round(min(1.0, luck + (number % 7) / 10), 2)
            asked.append(
                ask(
                    system, number, category,
                    scores={"abstained": 1.0} if category == 5 else scores(value),
                    verdicts={} if category == 5 else {"generous": value >= 0.5, "strict": value >= 0.8},
                    lost=None if category == 5 or value >= 0.5 else "not extracted",
                )
            )  # fmt: skip
    origin = {
        "student": "smollm2-135m",
        "systems": ["memlora", "base"],
        "conversations": ["conv-26"],
        "data": {"file": "locomo-dev.json", "sha256": "79fa"},
        "judge": {"name": "mlx:judge (12ab)", "prompts": {"generous": "g00", "strict": "500"}},
        "metrics": {
            "bert_score": "all-minilm-l6-v2, last layer; F1",
            "sentence_bert": "all-minilm-l6-v2",
            "meteor": "nltk",
        },
        "environment": {"device": "MLX on a test"},
        "seconds": 10.0,
    }
    costs = (
        StageCost("memlora", "extraction", 10, 1000, 200, 5.0),
        StageCost("memlora", "update", 10, 2000, 500, 10.0),
        StageCost("memlora", "generation", 24, 4800, 240, 12.0),
    )
    phases = (PhaseCost("memlora", "ingest", 8.0, 7.9, False, 2.0), PhaseCost("base", "ingest", 5.0, 4.0, True))
    systems = {
        name: {"title": f"{name}, in words", "table": "systems", "stages": {}, "student": "smollm2-135m",
               "has_experts": name == "memlora", "size_bytes": 2**30, "experts_bytes": 2**29}
        for name in ("memlora", "base")
    }  # fmt: skip
    return BenchRun(origin, tuple(asked), costs, phases, systems)


def table(document: Document, title: str) -> Table:
    found = [each for section in document.sections for each in section.tables if title in each.title]
    assert len(found) == 1, title
    return found[0]


def cell(document: Document, title: str, row: str | Sequence[str], head: str) -> str:
    made = table(document, title)
    names = [row] if isinstance(row, str) else list(row)
    [found] = [each for each in made.rows if list(each[: len(names)]) == names]
    [column] = [i for i, each in enumerate(made.columns) if each.head.startswith(head)]
    return found[column]


def shown(run: BenchRun) -> str:
    out = StringIO()
    Console(file=out, width=80).print(report.summary(run))
    return out.getvalue()


class Page(HTMLParser):
    """A page's tags and attributes, and whether every tag that opens closes in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "path"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


# ---------------------------------------------------------------------- by hand


def test_the_main_row_is_computed_again_from_the_json(run: BenchRun, tmp_path: Path) -> None:
    write_run(run, tmp_path)
    rows = json.loads((tmp_path / "results.json").read_text())["asked"]
    mine = [row for row in rows if row["system"] == "memlora" and row["category"] != 5]
    document = report.build(read_run(tmp_path))

    main = "Answers, categories 1 to 4"
    assert cell(document, main, "memlora", "n") == str(len(mine)) == "20"
    l_of_each = [25 * sum(row["scores"][part] for part in PARTS) for row in mine]
    assert cell(document, main, "memlora", "L (").startswith(f"{np.mean(l_of_each):.1f} [")
    assert cell(document, main, "memlora", "METEOR") == f"{100 * np.mean([r['scores']['meteor'] for r in mine]):.1f}"
    assert cell(document, main, "memlora", "token F1").startswith(
        f"{100 * np.mean([r['scores']['token_f1'] for r in mine]):.1f} ["
    )
    right = sum(row["verdicts"]["generous"] for row in mine)
    expected = wilson(right, len(mine))
    told = f"{100 * right / len(mine):.1f} [{100 * expected.low:.1f}, {100 * expected.high:.1f}]"
    assert cell(document, main, "memlora", "J generous") == told

    temporal = [row for row in mine if row["category"] == 2]
    assert cell(document, "Scores by category", ("2 temporal", "memlora"), "n") == str(len(temporal))
    mean = 100 * np.mean([row["scores"]["token_f1"] for row in temporal])
    assert cell(document, "Scores by category", ("2 temporal", "memlora"), "token F1").startswith(f"{mean:.1f} [")


def test_costs_are_means_over_the_stages(run: BenchRun) -> None:
    document = report.build(run)
    # 20, 50 and 10 tokens; 0.5, 1.0 and 0.5 seconds a call
    speed = "Size and speed"
    assert cell(document, speed, "memlora", "tok/ans") == "26.67"
    assert cell(document, speed, "memlora", "s/ans") == "0.67"
    assert cell(document, speed, "memlora", "tok/s") == "40.0"
    assert cell(document, speed, "memlora", "size, GB") == "1.50"
    assert cell(document, "Tokens and seconds of a call", ("memlora", "update"), "tokens in") == "200.00"
    told = " ".join(shown(run).split())
    assert "calls kept from before, which took 2.0 s then" in told
    assert "overhead, is 1.00 %" in told  # of the phases that were not kept from before, and of those calls


def test_systems_are_compared_on_the_questions_that_both_answered(run: BenchRun) -> None:
    gone = replace(run, asked=tuple(one for one in run.asked if one.system == "memlora" or one.question_id[-1] != "0"))
    document = report.build(gone)
    title, row = "memlora against the others", ("memlora − base", "1 to 4")
    assert cell(document, title, row, "n") == "17"
    assert cell(document, title, row, "token F1") == "+40.0 [+40.0, +40.0]"
    base, mine = ({one.question_id: one for one in gone.asked if one.system == name} for name in ("base", "memlora"))
    both = [question for question, one in base.items() if one.verdicts]
    alone = sum(mine[q].verdicts["strict"] and not base[q].verdicts["strict"] for q in both)
    assert cell(document, title, row, "J strict") == f"{alone} : 0"


def test_category_5_is_abstention_and_in_no_other_figure(run: BenchRun) -> None:
    spoilt = replace(
        run, asked=tuple(replace(one, scores=scores(1.0)) if one.category == 5 else one for one in run.asked)
    )
    before, after = report.build(run), report.build(spoilt)
    assert table(after, "Answers, categories").rows == table(before, "Answers, categories").rows
    assert cell(before, "Category 5", "memlora", "abstains, as it should").startswith("100.0 [")
    assert cell(after, "Category 5", "memlora", "abstains, as it should").startswith("0.0 [")
    assert not [row for row in table(before, "Scores by category").rows if row[0].startswith("5")]


def test_recall_at_k_counts_the_nearest_memories() -> None:
    memories = [{"text": "", "refs": refs, "score": 0.1} for refs in (["D1:9"], ["D1:1"], ["D1:2", "D1:1"])]
    one = ask("memlora", 1, retrieved=tuple(memories), recall=1.0)
    assert [recall_at(one, k) for k in (1, 2, 3, None)] == [0.0, 0.5, 1.0, 1.0]
    # one of its evidence turns was never read, so it is no part of the recall
    shorter = replace(one, evidence=("D1:1", "D9:9"))
    assert [recall_at(shorter, k) for k in (1, 2)] == [0.0, 1.0]


def test_temporal_answers_are_judged_by_their_dates(run: BenchRun) -> None:
    gold = "7 May 2023"
    answers = {"right": "on 7 May, 2023", "near": "8 May 2023", "week": "the week of 1 May 2023", "no": "Not mentioned"}
    asked = tuple(ask(name, 1, 2, gold=gold, answer=answer, scores=scores(0.5)) for name, answer in answers.items())
    document = report.build(replace(run, asked=asked))
    found = {
        name: [cell(document, "Temporal answers by date", name, head) for head in ("right day", "right span", "wrong")]
        for name in answers
    }
    assert found == {"right": ["1", "0", "0"], "near": ["0", "0", "1"], "week": ["0", "1", "0"], "no": ["0", "0", "1"]}


def test_evidence_is_counted_by_category(run: BenchRun) -> None:
    memories = tuple({"text": "", "refs": [f"D1:{n}"], "score": 0.1} for n in range(9, 0, -1))
    document = report.build(
        replace(run, asked=(ask("memlora", 1, 2, retrieved=memories, recall=1.0, scores=scores(0.5)),))
    )
    assert table(document, "Evidence by category").rows == (("2 temporal", "memlora", "1", "0.0"),)
    assert cell(document, "Evidence among", "memlora", "recall of all given").startswith("100.0")


def test_corrected_gold_answers_stand_beside_the_published_ones(run: BenchRun) -> None:
    asked = tuple(
        replace(one, corrected_gold="right", corrected_scores=scores(1.0)) if one.question_id == "conv-26/0" else one
        for one in run.asked
    )
    document = report.build(replace(run, asked=asked))
    assert cell(document, "Both scores", "base", "corrected") == "1"
    published, corrected = (
        cell(document, "Both scores", "base", f"token F1, {kind}") for kind in ("published", "corrected")
    )
    gained = float(corrected.split()[0]) - float(published.split()[0])
    assert gained == pytest.approx(100 / 20, abs=0.11)  # question 0 scored 0
    assert not [column for column in table(document, "Both scores").columns if column.head.startswith("J ")]


def test_j_by_the_corrected_gold_answers_stands_beside_the_published(run: BenchRun) -> None:
    """An answer without a correction counts in both as it is."""
    asked = tuple(
        replace(one, corrected_gold="right", corrected_scores=scores(1.0), corrected_verdicts={"generous": True},
                verdicts={"generous": False})
        if one.question_id == "conv-26/0" else replace(one, verdicts={"generous": one.question_id == "conv-26/1"})
        for one in run.asked
    )  # fmt: skip
    document = report.build(replace(run, asked=asked))
    kinds = ("published", "corrected")
    told = [cell(document, "Both scores", "base", f"J generous, {kind}").split()[0] for kind in kinds]
    assert told == ["5.0", "10.0"]


def test_lost_answers_add_up(run: BenchRun) -> None:
    for row in table(report.build(run), "what became of them").rows:
        assert sum(map(int, row[1:])) == 20


# ---------------------------------------------------------------------- beside the paper


def test_an_l_names_its_encoder_and_the_papers_figures_their_paper(run: BenchRun) -> None:
    document = report.build(run)
    heads = [column.head for section in document.sections for made in section.tables for column in made.columns]
    assert all("all-minilm-l6-v2, last layer" in head for head in heads if head.startswith("L ("))
    assert not any(
        column.is_from_paper for column in table(document, "Answers, categories").columns
    )  # no such student there
    for made in (table(document, "paper's Table 1"), table(document, "paper's Table 3")):
        assert all(column.head.startswith("paper: ") for column in made.columns if column.is_from_paper)

    about = {name: {**told, "student": "qwen2.5-1.5b"} for name, told in run.systems.items()}
    beside = report.build(replace(run, systems=about))
    assert cell(beside, "Answers, categories", "memlora", "paper: L") == "37.3"
    assert cell(beside, "Answers, categories", "base", "paper: J") == "29.6"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("google/gemma-2-2b-it", "gemma2-2b"),
        ("gemma2-2b", "gemma2-2b"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b"),
        ("qwen2.5-1.5b-4bit", None),
        ("gemma-2-27b-it", None),
        ("smollm2-135m", None),
    ],
)
def test_only_the_papers_own_students_stand_beside_it(name: str, known: str | None) -> None:
    assert student(name) == known


def test_rows_of_the_ablation_find_their_counterpart(run: BenchRun) -> None:
    rows = {
        "a": ("small", "small", "small"),
        "b": ("small + expert", "small", "small"),
        "c": ("big", "big", "small"),
        "d": ("big", "big", "big"),
    }
    stages = ("extraction", "update", "generation")
    told = [ablation_row(dict(zip(stages, labels, strict=True)), "small") for labels in rows.values()]
    assert told == ["S/S/S", "S+e/S/S", "T/T/S", "T/T/T"]

    asked = [replace(one, system=name) for name in rows for one in run.asked if one.system == "base"]
    systems = {
        name: {"table": "ablation", "stages": dict(zip(stages, labels, strict=True))} for name, labels in rows.items()
    }
    origin = {**run.origin, "student": "small", "systems": list(rows)}
    document = report.build(BenchRun(origin, tuple(asked), systems=systems))
    assert [row[-2] for row in table(document, "Table 4's form").rows] == ["29.1", "32.9", "34.7", "38.6"]


# ---------------------------------------------------------------------- the page


def test_the_page_fetches_nothing_and_runs_nothing(run: BenchRun, tmp_path: Path) -> None:
    paths = report.write_report(run, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["report.md", "report.html"]
    text = paths[1].read_text()
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form", "video"})
    for tag, given in page.tags:
        assert not any(name.startswith("on") or name in ("src", "srcset", "action", "background") for name in given)
        assert tag != "a" or str(given["href"]).startswith("#")
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


def test_the_page_can_be_read_without_seeing_it(run: BenchRun) -> None:
    from memlora_mlx.eval.report.html import as_html

    text = as_html(report.build(run))
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    drawings = [given for tag, given in page.tags if tag == "svg"]
    assert len(drawings) >= 8 and tags.count("desc") == len(drawings)
    ids = [given["id"] for _, given in page.tags if given.get("id")]
    assert len(ids) == len(set(ids))
    for given in drawings:
        assert given["role"] == "img" and set(str(given["aria-labelledby"]).split()) <= set(ids)
    assert tags.count("table") == tags.count("thead") and ("th", "row") in [(t, g.get("scope")) for t, g in page.tags]
    boxes = [given for tag, given in page.tags if given.get("class") == "scroll"]
    assert len(boxes) == tags.count("table") and all(given["tabindex"] == "0" for given in boxes)
    # what a colour says, a letter says too
    right = table(report.build(run), "what became of them").rows[0][1]
    assert any(word.startswith("A right") for word in page.words) and f"A {right}" in page.words


def test_what_data_and_models_say_stays_text(run: BenchRun, tmp_path: Path) -> None:
    asked = tuple(
        replace(one, question=HOSTILE, answer=HOSTILE, gold=HOSTILE, system=f"{one.system}{HOSTILE}")
        for one in run.asked
    )
    systems = {f"{name}{HOSTILE}": {**told, "title": HOSTILE, "student": HOSTILE} for name, told in run.systems.items()}
    origin = {
        **run.origin,
        "student": HOSTILE,
        "systems": list(systems),
        "command": HOSTILE,
        "judge": {"name": HOSTILE},
    }
    hostile = BenchRun(origin, asked, run.costs, run.phases, systems, (HOSTILE,), {"conflict": {"systems": {}}})
    markdown, html = (path.read_text() for path in report.write_report(hostile, tmp_path))
    names = {tag for tag, _ in Page(html).tags}
    assert names.isdisjoint({"script", "img"})
    assert "\x1b" not in markdown + html and "\u202e" not in markdown + html and len(html) < 1_000_000
    assert "<script" not in markdown and "](" not in markdown and "http://x" not in markdown
    for made in (made for section in report.build(hostile).sections for made in section.tables):
        assert all(len(row) == len(made.columns) for row in made.rows)
    for line in markdown.splitlines():
        if line.startswith("| "):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) >= 3
    out = shown(hostile)
    assert "\x1b" not in out and max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("a|b `c` *d* _e_ [f](g) <h> &amp; i", r"a\|b \`c\` \*d\* \_e\_ \[f\](g) &lt;h&gt; &amp;amp; i"),
        ("- no list", r"\- no list"),
        ("12. May", r"12\. May"),
        ("12.5 %", "12.5 %"),
        ("see http://x.example", r"see http\://x.example"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, marked: str) -> None:
    from memlora_mlx.eval.report.markdown import escaped

    assert escaped(text) == marked


def test_the_summary_fits_a_terminal(run: BenchRun) -> None:
    out = shown(run)
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "J generous" in out and "…" not in out and "all-minilm-l6-v2" in out


# ---------------------------------------------------------------------- runs with little in them


def test_without_a_judge_there_is_no_j(run: BenchRun) -> None:
    bare = replace(
        run, origin={**run.origin, "judge": None}, asked=tuple(replace(one, verdicts={}) for one in run.asked)
    )
    document = report.build(bare)
    assert not [c.head for c in table(document, "Answers, categories").columns if c.head.startswith("J")]
    assert "There was no judge, so there is no J." in document.sections[0].paragraphs


def test_a_judge_that_fails_its_controls_is_not_to_be_trusted(run: BenchRun) -> None:
    for right, is_trusted in ((12, True), (5, False)):
        judge = {"name": "mlx:small", "controls": {"generous": [right, 12], "strict": [14, 14]}}
        judged = replace(run, origin={**run.origin, "judge": judge})
        document = report.build(judged)
        assert any(f"{right} of 12 by the generous rubric" in text for s in document.sections for text in s.paragraphs)
        assert ("cannot be trusted" in shown(judged)) == (document.sections[0].title == "What went wrong") != is_trusted


def test_a_share_of_the_judged_says_so(run: BenchRun) -> None:
    asked = tuple(replace(one, verdicts={}) if one.question_id == "conv-26/0" else one for one in run.asked)
    told = cell(report.build(replace(run, asked=asked)), "Answers, categories", "base", "J generous")
    assert told.endswith("] of 19")


@pytest.mark.parametrize("extra", [{}, {"conflict": None}, {"conflict": {"systems": {}}}])
def test_a_run_of_nothing_is_said(extra: dict[str, Any], tmp_path: Path) -> None:
    empty = BenchRun({}, (), extra=extra)
    markdown, _ = (path.read_text() for path in report.write_report(empty, tmp_path))
    assert "student not named" in markdown and shown(empty)


def test_an_efficiency_run_has_costs_and_no_scores(run: BenchRun) -> None:
    bare = replace(run, asked=())
    titles = [section.title for section in report.build(bare).sections]
    assert "What it costs" in titles and "Answers" not in titles and shown(bare)


def test_an_unknown_category_and_unscored_answers_are_named(run: BenchRun) -> None:
    odd = ask("memlora", 90, 7, scores=scores(1.0))
    unscored = ask("memlora", 91, 1)
    document = report.build(replace(run, asked=(*run.asked, odd, unscored), failures=("mem0 is left out",)))
    assert document.sections[0].bullet_points == (
        "mem0 is left out",
        "1 answers of the unknown category 7 are in no figure",
    )
    main = table(document, "Answers, categories")
    assert cell(document, "Answers, categories", "memlora", "n") == "21"
    assert any("Without scores: memlora 1." in note for note in main.notes)


def test_a_system_of_predictions_has_no_description(run: BenchRun) -> None:
    other = [
        replace(one, system="theirs", retrieved=(), recall=None, lost=None) for one in run.asked if one.system == "base"
    ]
    document = report.build(replace(run, asked=(*run.asked, *other)))
    assert cell(document, "Answers, categories", "theirs", "n") == "20"
    assert [row[0] for row in table(document, "Evidence among").rows] == ["memlora", "base"]


def test_the_conflict_benchmark_is_shown_by_class(run: BenchRun) -> None:
    counts = {"n": 4, "exact": 3, "missing": 1, "stale": 0, "interval": [0.3, 0.95]}
    systems = {"memlora": {"classes": {"flip": counts}, "overall": counts, "dialogues": [], "seconds": 1.0}}
    extra = {
        "conflict": {
            "version": 1,
            "hash": "ab",
            "seed": 0,
            "titles": {"flip": "a change"},
            "notes": ["mem0: no"],
            "systems": systems,
        }
    }
    alone = BenchRun({}, (), extra=extra)
    for each in (alone, replace(run, extra=extra)):
        document = report.build(each)
        assert cell(document, "Exact final memories by class", "a change", "memlora").startswith("3 of 4 (75.0 [")
        assert cell(document, "Dialogues with each failure", "memlora", "missing") == "1"
        assert "memlora 3 of 4" in shown(each)


def test_where_a_run_comes_from_is_told_name_by_name(run: BenchRun) -> None:
    nested = {
        **run.origin,
        "machines": [{"device": "one"}, {"device": "two"}],
        "left_out": ["conv-7"],
    }
    rows = dict(row for row in table(report.build(replace(run, origin=nested)), "with what").rows)
    assert rows["machines.2.device"] == "two" and rows["left_out"] == "conv-7"
    assert rows["data.sha256"] == "79fa" and rows["judge.prompts.strict"] == "500"
    absent = dict(table(report.build(replace(run, origin={"judge": None, "x": 1})), "with what").rows)
    assert absent["judge"] == MISSING


def test_a_run_of_another_format_is_refused(run: BenchRun, tmp_path: Path) -> None:
    path = write_run(run, tmp_path)
    written = json.loads(path.read_text())
    for spoilt in ({**written, "format": 99}, {"asked": []}, [1]):
        path.write_text(json.dumps(spoilt))
        with pytest.raises(UsageError, match="run `memlora bench` again"):
            read_run(tmp_path)


def test_a_folder_that_cannot_be_written_is_said(run: BenchRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MemloraError, match="choose another --out"):
        report.write_report(run, tmp_path / "file" / "folder")
