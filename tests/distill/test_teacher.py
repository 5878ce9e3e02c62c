"""Teachers over real sockets: all goes well, and every way in which a server, a disk or a user may stop it."""

from __future__ import annotations

import errno
import itertools
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_home import EXCHANGES, TALK, environment, start_command
from servers import LocalServer, completion, error_response, html_response, local_server
from test_local_teachers import sample

from memlora_mlx.conversations import read_conversations
from memlora_mlx.conversations.splits import SPLITS
from memlora_mlx.distill.annotation import AnnotationJob, AnnotationStats
from memlora_mlx.distill.answer_cleaning import CleanedAnswer, RejectedAnswer
from memlora_mlx.distill.answer_files import AnswerFiles, read_answers, rejected_file, teacher_file
from memlora_mlx.distill.examples import read_examples
from memlora_mlx.distill.replay import temporary_store
from memlora_mlx.distill.teacher_client import Teacher
from memlora_mlx.distill.teacher_prompts import (
    TEACHER_EXTRACTION,
    TEACHER_UPDATE,
    SelectedExchanges,
    annotate_extraction,
    annotate_updates,
    select_exchanges,
)
from memlora_mlx.errors import BadTrainingData, Cancelled, ExtraMissing, TeacherFailed, UsageError
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.settings import load_settings

MODEL = "org/big-1.5b"


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    path = tmp_path / "talk.txt"
    path.write_text(TALK)
    return path


@pytest.fixture
def selection(talk: Path) -> SelectedExchanges:
    return select_exchanges(read_conversations(talk), SPLITS["paper"], user="me")


class FakeClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        import asyncio

        self.now += seconds
        await asyncio.sleep(0.001)

    def teacher(self, *servers: LocalServer | str, **options: Any) -> Teacher:
        urls = [server if isinstance(server, str) else server.url for server in servers]
        return Teacher(urls, MODEL, sleep=self.sleep, clock=lambda: self.now, jitter=lambda: 0.5, **options)


def extract(home: Path, selection: SelectedExchanges, teacher: Teacher, **options: Any) -> AnnotationStats:
    with AnswerFiles(teacher_file(home, "extraction", MODEL)) as answers:
        return annotate_extraction(AnnotationJob(teacher, answers), selection, **options)


def answer_text(prompt: str) -> str:
    """The words of the exchange's owner, whom a good teacher takes its facts from."""
    found = re.search(r"^user: (\w+: .*)$", prompt, re.MULTILINE)
    return found[1] if found else ""


def facts(prompt: str) -> str:
    return json.dumps({"facts": [answer_text(prompt)]})


def a_free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ------------------------------------------------------------------------------------------------ all goes well


def test_every_exchange_is_asked_once_and_its_answer_is_a_row(tmp_path: Path, selection: SelectedExchanges) -> None:
    def answer(prompt: str) -> str:
        return f"<think>Hm.</think>```json\n{facts(prompt)}\n```" if "Oslo" in prompt else facts(prompt)

    with local_server(answer, seconds=0.05) as server:
        tally = extract(tmp_path, selection, FakeClock().teacher(server, api_key="key", concurrency=4))

    assert (tally.written, tally.total, tally.before, tally.refused.total()) == (EXCHANGES, EXCHANGES, 0, 0)
    assert (tally.prompt_tokens, tally.output_tokens) == (10 * EXCHANGES, 5 * EXCHANGES)
    assert server.most_often == 1 and 2 <= server.most_in_flight <= 4
    asked = server.asked[0]
    assert (asked["model"], asked["temperature"], asked["path"]) == (MODEL, 0, "/v1/chat/completions")
    assert asked["key"] == "Bearer key"
    assert asked["messages"][0] == {"role": "system", "content": TEACHER_EXTRACTION}

    rows = list(read_examples(tmp_path / "teacher" / "extraction" / "org--big-1.5b.jsonl"))
    assert {row.prompt_hash for row in rows} == {row.prompt_hash for row in rows} and len(rows) == EXCHANGES
    assert {row.exchange for row in rows} == {exchange.key for exchange in selection.exchanges}
    for row in rows:
        [(role, prompt)] = row.chat
        assert role == "user" and prompt.startswith("Extract and organize relevant details.")
        assert (row.teacher, row.conversation, row.split, row.answer) == (MODEL, "talk", "train", facts(prompt))
        assert (row.teacher_answer or "").startswith("<think>") == ("Oslo" in prompt)
    assert rejected_file(teacher_file(tmp_path, "extraction", MODEL)).read_text() == ""


def test_what_cannot_be_cleaned_is_kept_aside_with_its_reason_and_not_asked_again(
    tmp_path: Path, selection: SelectedExchanges
) -> None:
    def answer(prompt: str) -> Any:
        if "Rome" in prompt:
            return "They moved. \ud83d"  # half an emoji
        return completion(facts(prompt), "length") if "Moss" in prompt else facts(prompt)

    with local_server(answer) as server:
        tally = extract(tmp_path, selection, FakeClock().teacher(server))
        again = extract(tmp_path, selection, FakeClock().teacher(server))
    assert tally.refused == {"no JSON": 2, "cut off": 2} and tally.written == EXCHANGES - 4
    assert (again.before, again.asked) == (EXCHANGES, 0) and server.most_often == 1
    aside = [json.loads(line) for line in rejected_file(teacher_file(tmp_path, "extraction", MODEL)).open()]
    assert {(row["reason"], row["raw"]) for row in aside if row["reason"] == "no JSON"} == {
        ("no JSON", "They moved. ?")
    }
    assert all(row["messages"][-1]["role"] == "user" and row["prompt_hash"] for row in aside)


def test_a_prompt_that_comes_twice_is_asked_once(tmp_path: Path, selection: SelectedExchanges) -> None:
    doubled = SelectedExchanges(selection.exchanges * 2, selection.splits)
    with local_server(facts, seconds=0.02) as server:
        tally = extract(tmp_path, doubled, FakeClock().teacher(server))
    assert (tally.written, tally.before, server.most_often) == (EXCHANGES, EXCHANGES, 1)


def test_no_teacher_sees_a_test_conversation(tmp_path: Path) -> None:
    def sample(name: str) -> dict[str, Any]:
        turns = [{"speaker": "Ann", "text": f"I am in {name}.", "dia_id": "D1:1"}]
        session = {"session_1": turns, "session_1_date_time": "1:56 pm on 8 May, 2023"}
        return {"sample_id": name, "conversation": {"speaker_a": "Ann", "speaker_b": "Bob", **session}}

    path = tmp_path / "locomo.json"
    path.write_text(json.dumps([sample(f"conv-{number}") for number in (26, 30, 41, 42)]))
    selection = select_exchanges(read_conversations(path), SPLITS["paper"], user="me")
    assert {exchange.source for exchange in selection.exchanges} == {"conv-26", "conv-42"}
    assert selection.skipped == 4
    with local_server(facts) as server:
        extract(tmp_path, selection, FakeClock().teacher(server))
    assert not any("conv-30" in prompt or "conv-41" in prompt for prompt in server.prompts)
    rows = read_examples(teacher_file(tmp_path, "extraction", MODEL))
    assert {(row.conversation, row.split) for row in rows} == {("conv-26", "validation"), ("conv-42", "train")}


@pytest.mark.parametrize("concurrency", [1, 6])
def test_a_template_without_a_system_role_gets_the_instruction_with_the_prompt(
    tmp_path: Path, selection: SelectedExchanges, concurrency: int
) -> None:
    with local_server(facts, seconds=0.05) as server:
        right = server.answer

        def answer(prompt: str) -> Any:
            return (
                right(prompt)
                if prompt.startswith(TEACHER_EXTRACTION)
                else error_response(400, "System role not supported")
            )

        server.answer = answer
        tally = extract(tmp_path, selection, FakeClock().teacher(server, concurrency=concurrency))
    assert tally.written == EXCHANGES and tally.retries == 0
    assert EXCHANGES < len(server.asked) <= EXCHANGES + concurrency  # those in flight, and never again
    assert [message["role"] for message in server.asked[-1]["messages"]] == ["user"]
    assert (
        next(read_examples(teacher_file(tmp_path, "extraction", MODEL))).chat[0][1].startswith("Extract and organize")
    )


# ------------------------------------------------------------------------------------------------ servers that fail


def test_a_server_that_dies_midway_ends_the_run_and_nothing_is_lost(
    tmp_path: Path, selection: SelectedExchanges
) -> None:
    port = a_free_port()
    with local_server(facts, port=port) as server:
        right = server.answer
        server.answer = lambda prompt: right(prompt) if len(server.asked) <= 5 else None
        with pytest.raises(TeacherFailed) as failed:
            extract(tmp_path, selection, FakeClock().teacher(server, concurrency=1))
    assert "no longer answers" in str(failed.value) and "are saved" in str(failed.value)
    assert "\n" not in str(failed.value)
    path = teacher_file(tmp_path, "extraction", MODEL)
    first = list(read_examples(path))
    assert len(first) == 5

    with local_server(facts, port=port) as revived:
        tally = extract(tmp_path, selection, FakeClock().teacher(revived))
    assert (tally.before, tally.written) == (5, EXCHANGES - 5) and len(revived.asked) == EXCHANGES - 5
    assert len({row.prompt_hash for row in read_examples(path)}) == EXCHANGES == len(list(read_examples(path)))


def test_a_server_that_comes_back_is_waited_for(tmp_path: Path, selection: SelectedExchanges) -> None:
    answers: list[str] = []

    def answer(prompt: str) -> Any:
        answers.append(prompt)
        return None if 4 <= len(answers) <= 8 else facts(prompt)

    clock = FakeClock()
    with local_server(answer) as server:
        tally = extract(tmp_path, selection, clock.teacher(server, concurrency=1))
    assert tally.written == EXCHANGES and tally.retries == 5
    assert clock.now >= 1 + 2 + 4 + 8 + 16


def test_an_address_where_nobody_listens_is_said_after_a_few_tries(
    tmp_path: Path, selection: SelectedExchanges
) -> None:
    clock = FakeClock()
    with pytest.raises(TeacherFailed, match=r"127\.0\.0\.1.*(?i:connect|refused)"):
        extract(tmp_path, selection, clock.teacher(f"http://127.0.0.1:{a_free_port()}/v1"))
    assert clock.now < 10


def test_of_two_servers_the_living_one_answers_all(tmp_path: Path, selection: SelectedExchanges) -> None:
    with local_server(facts, seconds=0.02) as server:
        dead = f"http://127.0.0.1:{a_free_port()}/v1"
        tally = extract(tmp_path, selection, FakeClock().teacher(dead, server, concurrency=2))
    assert tally.written == EXCHANGES and server.most_often == 1
    assert server.most_in_flight <= 2  # its own places, not the dead one's as well


def test_two_servers_share_the_work(tmp_path: Path, selection: SelectedExchanges) -> None:
    with local_server(facts, seconds=0.05) as one, local_server(facts, seconds=0.05) as two:
        tally = extract(tmp_path, selection, FakeClock().teacher(one, two, one, concurrency=2))
    assert tally.written == EXCHANGES
    assert len(one.asked) + len(two.asked) == EXCHANGES and min(len(one.asked), len(two.asked)) >= 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (html_response(), "a web page"),
        (html_response(404), "404 and a web page"),
        ((200, {}, b'{"status": "ok"}'), "instead of a chat completion"),
        ((200, {}, b'{"choices": []}'), "instead of a chat completion"),
        ((200, {}, b'{"choices": [{"message": {"content": ["x"]}, "finish_reason": "stop"}]}'), "without text"),
        ((200, {}, b'{"choices": [{"mess'), ""),
        ((200, {}, b'"hello"'), "instead of a chat completion"),
    ],
)
def test_what_is_no_such_server_is_said_at_once(
    tmp_path: Path, selection: SelectedExchanges, answer: Any, words: str
) -> None:
    with (
        local_server(lambda _: answer) as server,
        pytest.raises(TeacherFailed, match=f"does not answer like an OpenAI-compatible server.*{words}"),
    ):
        extract(tmp_path, selection, FakeClock().teacher(server, concurrency=1))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        error_response(429, "slow down", **{"Retry-After": "7"}),
        error_response(503, "starting"),
        html_response(502),
        (200, {"Content-Length": "5000"}, completion("half an answer")[2]),  # it dies while it sends
        None,
    ],
)
def test_what_may_pass_is_tried_again(tmp_path: Path, selection: SelectedExchanges, answer: Any) -> None:
    clock = FakeClock()
    with local_server(facts) as server:
        right = server.answer
        server.answer = lambda prompt: right(prompt) if len(server.asked) > 2 else answer
        tally = extract(tmp_path, selection, clock.teacher(server, concurrency=1))
    assert tally.written == EXCHANGES and tally.retries == 2
    assert clock.now >= (14 if answer and answer[0] == 429 else 3)
    assert "half an answer" not in teacher_file(tmp_path, "extraction", MODEL).read_text()


def test_many_failures_at_once_count_as_one(tmp_path: Path, selection: SelectedExchanges) -> None:
    with local_server(facts, seconds=0.05) as server:
        right = server.answer
        server.answer = lambda prompt: right(prompt) if len(server.asked) > 12 else error_response(500, "hiccup")
        tally = extract(tmp_path, selection, FakeClock().teacher(server, concurrency=12))
    assert tally.written == EXCHANGES and tally.retries <= 12


@pytest.mark.parametrize(("status", "message"), [(401, "invalid key"), (404, "The model `x` does not exist.")])
def test_a_refusal_is_said_at_once_in_the_servers_words(
    tmp_path: Path, selection: SelectedExchanges, status: int, message: str
) -> None:
    with (
        local_server(lambda _: error_response(status, message)) as server,
        pytest.raises(TeacherFailed, match=f"answered {status}: {re.escape(message)}"),
    ):
        extract(tmp_path, selection, FakeClock().teacher(server, concurrency=1))
    assert len(server.asked) == 1


def test_one_prompt_that_a_server_fails_on_does_not_stop_the_others(
    tmp_path: Path, selection: SelectedExchanges
) -> None:
    def answer(prompt: str) -> Any:
        if "Rome" in prompt:
            return error_response(500, "unexpected tokens remaining in message header")
        return (
            error_response(400, "This model's maximum context length is 8192 tokens.")
            if "Moss" in prompt
            else facts(prompt)
        )

    with local_server(answer) as server:
        tally = extract(tmp_path, selection, FakeClock().teacher(server, concurrency=2))
    assert tally.written == EXCHANGES - 4 and tally.refused == {"no answer": 2, "too long": 2}
    known = read_answers(teacher_file(tmp_path, "extraction", MODEL))
    assert set(known.values()) >= {RejectedAnswer("no answer"), RejectedAnswer("too long")}


def test_a_server_that_fails_on_everything_refuses_no_row(tmp_path: Path, selection: SelectedExchanges) -> None:
    calls = itertools.count()
    dead = error_response(500, "the engine is dead")
    with (
        local_server(lambda prompt: dead if next(calls) else facts(prompt)) as server,
        pytest.raises(TeacherFailed, match="the engine is dead"),
    ):
        extract(tmp_path, selection, FakeClock().teacher(server, concurrency=2))
    assert len(read_answers(teacher_file(tmp_path, "extraction", MODEL))) == 1


# ------------------------------------------------------------------------------------------------ files


def test_a_full_disk_is_said_and_the_file_stays_whole(
    tmp_path: Path, selection: SelectedExchanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Disk:
        """A file on a disk that has room for half of the fourth row."""

        def __init__(self, file: Any) -> None:
            self.file, self.lines = file, 0

        def write(self, line: bytes) -> int:
            self.lines += 1
            if self.lines == 4:
                return int(self.file.write(line[: len(line) // 2]))
            if self.lines > 4:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(line))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    path = teacher_file(tmp_path, "extraction", MODEL)
    with local_server(facts) as server:
        with AnswerFiles(path) as answers:
            monkeypatch.setattr(answers._examples, "_file", Disk(answers._examples._file))
            with pytest.raises(TeacherFailed, match=r"disk of .* is full.*are saved"):
                annotate_extraction(AnnotationJob(FakeClock().teacher(server, concurrency=1), answers), selection)
        assert path.read_bytes().endswith(b"}\n") and len(list(read_examples(path))) == 3
        tally = extract(tmp_path, selection, FakeClock().teacher(server))
    assert (tally.before, tally.written) == (3, EXCHANGES - 3)


def test_a_torn_last_line_is_asked_again(tmp_path: Path, selection: SelectedExchanges) -> None:
    path = teacher_file(tmp_path, "extraction", MODEL)
    with local_server(facts) as server:
        extract(tmp_path, selection, FakeClock().teacher(server))
        whole = path.read_bytes()
        for torn in (whole[:-30], whole[: whole.index(b"\n", 500) + 3], whole[:-1]):
            path.write_bytes(torn)
            tally = extract(tmp_path, selection, FakeClock().teacher(server))
            assert tally.written == EXCHANGES - len([line for line in torn.split(b"\n") if line.endswith(b"}")])
            assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_a_line_that_is_no_row_is_named_and_left_alone(tmp_path: Path, selection: SelectedExchanges) -> None:
    path = teacher_file(tmp_path, "extraction", MODEL)
    path.parent.mkdir(parents=True)
    path.write_text('{"broken": \n{"stage": 1}\n')
    with pytest.raises(BadTrainingData, match="line 1"):
        extract(tmp_path, selection, FakeClock().teacher("http://127.0.0.1:9/v1"))
    path.write_text("")
    rejected_file(path).write_text("{}\n")
    with pytest.raises(BadTrainingData, match=r"refused\.jsonl, line 1"):
        extract(tmp_path, selection, FakeClock().teacher("http://127.0.0.1:9/v1"))


def test_two_runs_do_not_write_the_same_file(tmp_path: Path) -> None:
    path = teacher_file(tmp_path, "extraction", MODEL)
    with AnswerFiles(path), pytest.raises(UsageError, match="Another `memlora teach`"), AnswerFiles(path):
        pass
    with AnswerFiles(path):  # the lock is free again
        pass


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    with pytest.raises(TeacherFailed, match="Cannot write"), AnswerFiles(tmp_path / "home" / "x" / "a.jsonl"):
        pass


def test_stopping_keeps_what_was_answered(tmp_path: Path, selection: SelectedExchanges) -> None:
    import threading

    stop = threading.Event()
    with local_server(facts) as server:
        right = server.answer

        def answer(prompt: str) -> Any:
            if len(server.asked) > 3:
                stop.set()
                time.sleep(0.3)
            return right(prompt)

        server.answer = answer
        with pytest.raises(Cancelled):
            extract(tmp_path, selection, FakeClock().teacher(server, concurrency=1), cancelled=stop)
    assert len(list(read_examples(teacher_file(tmp_path, "extraction", MODEL)))) == 3


# ------------------------------------------------------------------------------------------------ updates


@pytest.fixture
def workspace(tiny_home: Path) -> Iterator[Workspace]:
    with Workspace(load_settings()) as opened:
        yield opened


def decide(prompt: str) -> str:
    """Every fact is added; where somebody moved, the nearest memory changes instead."""
    if prompt.startswith("Extract"):
        return facts(prompt)
    found = re.match(r"Old memories:(\[.*\])\. New retrieved facts: (\[.*\])\. Return", prompt)
    assert found
    old, new = json.loads(found[1]), json.loads(found[2])
    if old and "moved" in new[0]:
        entries = [{"id": "0", "text": new[0] + " (again)", "event": "UPDATE", "old_memory": old[0]["text"]}]
    else:
        entries = [{"id": "0", "text": fact, "event": "ADD"} for fact in new]
    return json.dumps({"memory": entries})


def update(workspace: Workspace, selection: SelectedExchanges, teacher: Teacher) -> AnnotationStats:
    home = workspace.settings.home
    extracted = read_answers(teacher_file(home, "extraction", MODEL))
    with temporary_store(workspace) as bank, AnswerFiles(teacher_file(home, "update", MODEL)) as answers:
        return annotate_updates(AnnotationJob(teacher, answers), selection, extracted, bank)


def test_updates_are_asked_about_what_the_teacher_itself_decided(
    workspace: Workspace, selection: SelectedExchanges
) -> None:
    home = workspace.settings.home
    with local_server(decide) as server:
        extract(home, selection, FakeClock().teacher(server))
        asked = len(server.asked)
        tally = update(workspace, selection, FakeClock().teacher(server))
        again = update(workspace, selection, FakeClock().teacher(server))
    assert (tally.written, tally.total, tally.waiting) == (EXCHANGES, EXCHANGES, 0)
    assert (again.before, again.asked) == (EXCHANGES, 0) and len(server.asked) == asked + EXCHANGES
    assert server.asked[-1]["messages"][0]["content"] == TEACHER_UPDATE

    rows = {row.exchange: row for row in read_examples(teacher_file(home, "update", MODEL))}
    ann = [rows[e.key] for e in selection.exchanges if e.owner.user_id == "Ann"]
    assert [row.chat[0][1].count('"text":') for row in ann] == [0, 1, 2, 3, 4, 4]  # each sees what those before it made
    assert all("Bob: " not in row.chat[0][1] for row in ann)
    moved = json.loads(ann[4].answer)["memory"][0]
    assert moved["event"] == "UPDATE" and "moved on to Oslo. (again)" in moved["text"]
    assert f'"{moved["old_memory"]}"' in ann[4].chat[0][1]
    assert '"id": "4", "text": "Ann: I cancelled the run.", "event": "ADD"' in ann[5].answer


def test_updates_that_were_stopped_go_on_without_asking_twice(
    workspace: Workspace, selection: SelectedExchanges
) -> None:
    home = workspace.settings.home
    with local_server(decide) as server:
        extract(home, selection, FakeClock().teacher(server))
        server.asked.clear()
        server.answer = lambda prompt: decide(prompt) if len(server.asked) <= 7 else error_response(401, "gone")
        with pytest.raises(TeacherFailed, match="gone"):
            update(workspace, selection, FakeClock().teacher(server))
        kept = {row.prompt_hash for row in read_examples(teacher_file(home, "update", MODEL))}
        assert 6 <= len(kept) <= 7
        server.answer = decide
        server.asked.clear()
        tally = update(workspace, selection, FakeClock().teacher(server))
    assert tally.before == len(kept) and len(server.asked) == EXCHANGES - len(kept)


def test_updates_need_facts_and_wait_where_they_are_missing(workspace: Workspace, selection: SelectedExchanges) -> None:
    home = workspace.settings.home
    with local_server(decide) as server:
        with pytest.raises(UsageError, match="--stage extraction"):
            update(workspace, selection, FakeClock().teacher(server))
        assert server.asked == []
        extract(home, SelectedExchanges(selection.exchanges[:5], selection.splits), FakeClock().teacher(server))
        tally = update(workspace, selection, FakeClock().teacher(server))
    assert (tally.written, tally.waiting) == (5, EXCHANGES - 5)


def test_an_update_that_cannot_be_cleaned_changes_nothing(workspace: Workspace, selection: SelectedExchanges) -> None:
    home = workspace.settings.home
    ghost = json.dumps({"memory": [{"id": "77", "text": "x", "event": "UPDATE"}]})
    with local_server(lambda prompt: ghost if "Moss" in prompt.partition("facts")[2] else decide(prompt)) as server:
        server.answer, wrong = decide, server.answer
        extract(home, selection, FakeClock().teacher(server))
        server.answer = wrong
        tally = update(workspace, selection, FakeClock().teacher(server))
    assert tally.refused == {"unknown id": 1} and tally.written == EXCHANGES - 1
    assert not any("Moss" in row.chat[0][1] for row in read_examples(teacher_file(home, "update", MODEL)))


# ------------------------------------------------------------------------------------------------ the command


def test_the_command_resumes_after_a_kill_and_asks_nothing_twice(tiny_home: Path, talk: Path) -> None:
    environ = environment(tiny_home, Path("none"), Path("none"))
    path = teacher_file(tiny_home, "extraction", MODEL)
    with local_server(facts, seconds=0.1) as server:
        arguments = ["teach", talk, "--stage", "extraction", "--base-url", server.url, "--model", MODEL]
        with start_command(environ, *arguments, "--concurrency", 1) as process:
            until = time.monotonic() + 30
            while len(server.asked) < 6 and time.monotonic() < until:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        kept = {row.chat[0][1] for row in read_examples(path)}
        assert 4 <= len(kept) < EXCHANGES
        before = set(server.prompts) - kept  # in flight when it was killed: nobody has its answer
        assert len(before) <= 1
        with start_command(environ, *arguments, "--json") as process:
            out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert (told["before"], told["written"], told["total"]) == (len(kept), EXCHANGES - len(kept), EXCHANGES)
    assert told["file"] == str(path) and told["refused"] == {}
    assert all(server.prompts.count(prompt) == 1 for prompt in set(server.prompts) - before)
    assert len(list(read_examples(path))) == EXCHANGES


def test_the_command_stops_at_ctrl_c_and_says_how_far_it_came(tiny_home: Path, talk: Path) -> None:
    environ = environment(tiny_home, Path("none"), Path("none"))
    with local_server(facts, seconds=0.1) as server:
        arguments = ["teach", talk, "--stage", "extraction", "--base-url", server.url, "--model", MODEL]
        with start_command(environ, *arguments, "--concurrency", 1) as process:
            until = time.monotonic() + 30
            while len(server.asked) < 4 and time.monotonic() < until:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    kept = len(list(read_examples(teacher_file(tiny_home, "extraction", MODEL))))
    assert process.returncode == 130 and 3 <= kept < EXCHANGES
    assert f"Stopped after {kept} of {EXCHANGES} questions; all answers are saved" in err


def test_the_command_tells_what_it_did(
    run_memlora: Callable[..., tuple[int, str, str]], tiny_home: Path, talk: Path
) -> None:
    with local_server(lambda prompt: "no" if "Rome" in prompt else decide(prompt)) as server:
        common = ("--base-url", server.url, "--model", MODEL)
        code, out, err = run_memlora("teach", talk, "--stage", "extraction", *common)
        assert code == 0, err
        assert f"{EXCHANGES - 2} examples written" in out and "saved separately: 2 no JSON" in out
        assert run_memlora("teach", talk, "--stage", "extraction", *common)[1].startswith("0 examples written")
        code, out, err = run_memlora("teach", talk, "--stage", "update", *common, "--json")
        assert code == 0, err
        assert json.loads(out)["written"] == EXCHANGES - 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stage", "vqa", "--base-url", "http://127.0.0.1:9/v1"), "memlora vqa build"),
        (("--stage", "drawing", "--base-url", "http://127.0.0.1:9/v1"), "Unknown stage 'drawing'"),
        (("--stage", "extraction"), "--base-url"),
        (("--stage", "extraction", "--base-url", "localhost:8000"), "not a base URL"),
        (("--stage", "extraction", "--base-url", "http://127.0.0.1:9/v1", "--split", "mine"), "Unknown split 'mine'"),
        (("--stage", "extraction", "--base-url", "http://127.0.0.1:9/v1", "--conversation", "x"), "no conversation"),
    ],
)
def test_bad_usage_is_one_line(
    run_memlora: Callable[..., tuple[int, str, str]],
    tiny_home: Path,
    talk: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    code, out, err = run_memlora("teach", talk, "--model", MODEL, *arguments)
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ExtraMissing, match=r"memlora-mlx\[teach\]"):
        Teacher(["http://127.0.0.1:9/v1"], MODEL)


def test_a_real_server_answers(
    tmp_path: Path, tiny_student: Path, tiny_embedder: Path, selection: SelectedExchanges
) -> None:
    """`mlx_lm.server` on a student of random weights: what it says is noise, and it is all kept."""
    from memlora_mlx.eval.systems.mem0_server import mlx_server

    settings = load_settings({"student": str(tiny_student), "embedder": str(tiny_embedder)})
    some = SelectedExchanges(selection.exchanges[:6], selection.splits)
    path = teacher_file(tmp_path, "extraction", str(tiny_student))
    with Workspace(settings) as opened, mlx_server(opened) as url, AnswerFiles(path) as answers:
        teacher = Teacher([url], str(tiny_student), max_tokens=24, concurrency=3)
        tally = annotate_extraction(AnnotationJob(teacher, answers), some)
    assert tally.asked == 6 and tally.retries == 0
    assert tally.prompt_tokens > 6 * 100 and 6 <= tally.output_tokens <= 6 * 24
    assert tally.refused.total() == 6  # random weights write no JSON
    aside = [json.loads(line) for line in rejected_file(path).open()]
    assert len({row["prompt_hash"] for row in aside}) == 6

    with AnswerFiles(path) as answers:  # the server is gone, and is not missed
        again = annotate_extraction(AnnotationJob(Teacher([url], str(tiny_student)), answers), some)
    assert (again.before, again.asked) == (6, 0)
    assert isinstance(next(iter(read_answers(path).values())), RejectedAnswer | CleanedAnswer)


def test_all_stages_are_asked_for_and_the_commands_for_a_mac_are_printed(
    run_memlora: Callable[..., tuple[int, str, str]], tiny_home: Path, talk: Path, tmp_path: Path
) -> None:
    with local_server(decide) as server:
        asked = ("teach", talk, "--all", "--base-url", server.url, "--model", MODEL)
        code, out, err = run_memlora(*asked)
        assert code == 0, err
        for stage in ("extraction", "update"):
            assert len(list(read_examples(teacher_file(tiny_home, stage, MODEL)))) == EXCHANGES  # type: ignore[arg-type]
        *_, copy, train, missing = out.splitlines()
        assert copy.startswith("  rsync -a ") and f":{tiny_home / 'teacher'}/" in copy and copy.endswith('/teacher/"')
        assert train == "  memlora train" and "no generation examples" in missing
        count = len(server.asked)
        assert run_memlora(*asked)[0] == 0 and len(server.asked) == count, "nothing is asked twice"

        annotated = tmp_path / "locomo.json"
        annotated.write_text(json.dumps([sample("conv-42")]))
        code, out, err = run_memlora("teach", annotated, *asked[2:], "--json")
        assert code == 0, err
        told = json.loads(out)
        assert [Path(one["file"]).parent.name for one in told] == ["extraction", "update", "generation"]
        assert told[2]["rows"] == len(list(read_examples(teacher_file(tiny_home, "generation", MODEL)))) > 0
    code, out, err = run_memlora("teach", "--all", "--stage", "update", "--teacher", "synthetic")
    assert (code, out) == (2, "") and "Give --stage STAGE, or --all" in err and err.count("\n") == 1
    assert run_memlora("teach", "--teacher", "synthetic")[0] == 2
