"""Building the VQA benchmark against a real web server with images and a real server that speaks OpenAI's protocol."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from servers import LocalServer, error_response, local_server

from memlora_mlx.distill.examples import read_examples
from memlora_mlx.distill.image_downloads import USER_AGENT, download_images
from memlora_mlx.distill.journal import Journal
from memlora_mlx.distill.vqa_build import parse_question
from memlora_mlx.distill.vqa_dataset import KINDS, answer_word, question_kind
from memlora_mlx.errors import Cancelled, UsageError

Command = Callable[..., tuple[int, str, str]]
GOOD = '{"question": "How many wheels has the cart?", "answer": "3", "reason": "Three wheels are drawn."}'


def jpeg(colour: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", (32, 24), colour).save(out, "JPEG")
    return out.getvalue()


class Web:
    """A host of images: what it has by path, and what was asked of it."""

    def __init__(self, pages: dict[str, bytes | int]) -> None:
        self.pages = pages
        self.asked: list[tuple[str, float, str]] = []  # path, when, user agent
        self.names: list[str] = []  # under which the host was asked, in the same order
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"

    @property
    def paths(self) -> Counter[str]:
        return Counter(path for path, _, _ in self.asked)


@contextmanager
def web(**pages: bytes | int) -> Iterator[Web]:
    host = Web({name.replace("_", "."): page for name, page in pages.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            with host.lock:
                host.asked.append((path, time.monotonic(), self.headers["User-Agent"]))
                host.names.append(self.headers["Host"].partition(":")[0])
                host.in_flight += 1
                host.most_in_flight = max(host.most_in_flight, host.in_flight)
            time.sleep(0.02)
            with host.lock:
                host.in_flight -= 1
            page = host.pages.get(path, 404)
            if path == "moved.jpg":
                self.send_response(302)
                self.send_header("Location", "/a.jpg")
            elif path == "trap.jpg":
                self.send_response(302)
                self.send_header("Location", "file:///etc/hostname")
            elif isinstance(page, int):
                self.send_response(page)
            else:
                self.send_response(200)
                if path not in ("endless.jpg", "drip.jpg"):
                    self.send_header("Content-Length", str(len(page) + (99 if path == "torn.jpg" else 0)))
            self.end_headers()
            if isinstance(page, bytes):
                self.wfile.write(page)
                for _ in range(40 if path == "drip.jpg" else 0):
                    time.sleep(0.05)
                    self.wfile.write(b"x")

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.port = server.server_address[1]
    threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True).start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()


def locomo(folder: Path, links: dict[str, list[str]]) -> Path:
    """A file of LoCoMo's form: of each conversation, a turn for each link."""
    samples = []
    for name, urls in links.items():
        turns: list[dict[str, Any]] = [
            {"speaker": "Ann", "dia_id": f"D1:{at}", "text": "Look", "img_url": [url], "blip_caption": "a cart"}
            for at, url in enumerate(urls, 1)
        ]
        said = {
            "speaker_a": "Ann",
            "speaker_b": "Bob",
            "session_1": turns,
            "session_1_date_time": "1:56 pm on 8 May, 2023",
        }
        samples.append({"sample_id": name, "conversation": said, "qa": []})
    (file := folder / "data.json").write_text(json.dumps(samples))
    return file


def statuses(ledger: Journal) -> dict[str, str]:
    return {key.rpartition("/")[2]: entry["status"] for key, entry in ledger.entries.items()}


# ------------------------------------------------------------------------------------------------ fetching


def test_every_link_ends_in_a_status_and_none_is_fatal(tmp_path: Path) -> None:
    big = jpeg("red") + bytes(40_000)
    with web(
        a_jpg=jpeg("red"),
        page_jpg=b"<html>sorry</html>",
        busy_jpg=503,
        gone_jpg=410,
        big_jpg=big,
        endless_jpg=big,
        torn_jpg=jpeg("blue"),
        drip_jpg=b"\xff\xd8",
    ) as host:
        names = ["a", "moved", "none", "gone", "page", "busy", "big", "endless", "torn", "drip", "trap"]
        urls = [host.url(f"{name}.jpg") for name in names] + [
            "http://127.0.0.1:1/off.jpg",
            "ftp://h/f.jpg",
            "http://[/x.jpg",
        ]
        with Journal(tmp_path / "fetched.jsonl") as ledger:
            found = download_images(urls, tmp_path, ledger, delay_seconds=0, timeout_seconds=0.4, max_bytes=20_000)
            assert statuses(ledger) == {
                "a.jpg": "kept",
                "moved.jpg": "kept",
                "none.jpg": "dead",
                "gone.jpg": "dead",
                "page.jpg": "no image",
                "busy.jpg": "failed",
                "big.jpg": "too large",
                "endless.jpg": "too large",
                "torn.jpg": "failed",
                "drip.jpg": "failed",
                "off.jpg": "failed",
                "f.jpg": "dead",
                "x.jpg": "dead",
                "trap.jpg": "dead",
            }
        assert found.total() == len(urls) and found["kept"] == 2
        assert {agent for _, _, agent in host.asked} == {USER_AGENT} and "memlora" in USER_AGENT
        assert host.most_in_flight == 1, "one request a host at a time"
    assert len(list((tmp_path / "images").iterdir())) == 1, "named by its content, so once"


def test_fetching_goes_on_where_it_stopped_and_asks_nothing_twice(tmp_path: Path) -> None:
    with web(a_jpg=jpeg("red"), b_jpg=jpeg("blue"), c_jpg=503) as host:
        urls = [host.url(f"{name}.jpg") for name in "abcd"]
        stop = threading.Event()
        with Journal(tmp_path / "fetched.jsonl") as ledger, pytest.raises(Cancelled):
            download_images(urls, tmp_path, ledger, delay_seconds=0, on_progress=lambda _: stop.set(), cancelled=stop)
        assert host.paths == {"a.jpg": 1}
        with (tmp_path / "fetched.jsonl").open("ab") as file:
            file.write(b'{"key": "torn')  # as a kill leaves it
        for _ in range(2):
            with Journal(tmp_path / "fetched.jsonl") as ledger:
                download_images(urls, tmp_path, ledger, delay_seconds=0)
        assert host.paths == {"a.jpg": 1, "b.jpg": 1, "c.jpg": 2, "d.jpg": 1}, "what may pass is tried again"
        (tmp_path / ledger.entries[urls[1]]["file"]).unlink()
        with Journal(tmp_path / "fetched.jsonl") as ledger:
            assert download_images(urls, tmp_path, ledger, delay_seconds=0)["kept"] == 2
        assert host.paths["b.jpg"] == 2, "a lost file is fetched again"


def test_a_host_is_left_alone_between_two_requests_and_others_go_on(tmp_path: Path) -> None:
    with web(a_jpg=jpeg("red"), b_jpg=jpeg("blue"), c_jpg=jpeg("lime")) as host:
        urls = [host.url(f"{name}.jpg", at) for name in "abc" for at in ("127.0.0.1", "localhost")]
        started = time.monotonic()
        with Journal(tmp_path / "fetched.jsonl") as ledger:
            assert download_images(urls, tmp_path, ledger, delay_seconds=0.3)["kept"] == 6
        took = time.monotonic() - started
        assert took >= 0.6, "two rests for each host"
        first = [host.names.index(name) for name in ("127.0.0.1", "localhost")]
        last = [len(host.names) - 1 - host.names[::-1].index(name) for name in ("127.0.0.1", "localhost")]
        assert max(first) < min(last), "the rests are side by side: neither host waits for the end of the other"
        assert host.most_in_flight <= 2


def test_two_processes_do_not_write_the_same_ledger(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "l.jsonl"),
        pytest.raises(UsageError, match="Another process"),
        Journal(tmp_path / "l.jsonl"),
    ):
        pass


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def vlm() -> Iterator[LocalServer]:
    with local_server(lambda _: GOOD) as served:
        yield served


def build(run_memlora: Command, *arguments: object) -> dict[str, Any]:
    code, out, err = run_memlora("vqa", "build", *arguments, "--delay", 0, "--json")
    assert code == 0, err
    return dict(json.loads(out))


def test_the_benchmark_is_built_from_links_and_a_teacher(
    isolated_home: Path, tmp_path: Path, run_memlora: Command, vlm: LocalServer
) -> None:
    with web(a_jpg=jpeg("red"), b_jpg=jpeg("blue"), c_jpg=jpeg("lime"), again_jpg=jpeg("red")) as host:
        links = {
            "conv-26": [host.url("a.jpg"), host.url("none.jpg")],
            "conv-42": [host.url("b.jpg"), host.url("b.jpg")],
            "conv-43": [host.url("c.jpg"), host.url("again.jpg")],
        }
        data = locomo(tmp_path, links)
        told = build(run_memlora, data, "--base-url", vlm.url, "--model", "big-vl")
        asked, fetched = len(vlm.asked), len(host.asked)
        assert build(run_memlora, data, "--base-url", vlm.url, "--model", "big-vl") == told
        assert (len(vlm.asked), len(host.asked)) == (asked, fetched), "all of it was done"
    assert told["fetched"] == {"kept": 4, "dead": 1} and told["in_two_splits"] == 1
    assert (told["images"], told["questions"], told["rows"]) == (2, 6, 6) and asked == 6
    folder = isolated_home / "vqa" / "locomo"
    rows = list(read_examples(folder / "rows.jsonl"))
    assert {row.conversation for row in rows} == {"conv-42", "conv-43"}, "red stands in validation and in training"
    assert Counter(map(question_kind, rows)) == dict.fromkeys(KINDS, 2) and {answer_word(row) for row in rows} == {"3"}
    assert {row.teacher for row in rows} == {"big-vl"} and {row.split for row in rows} == {"train"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["teacher_prompts"]) == set(KINDS) and len(set(manifest["teacher_prompts"].values())) == 3
    assert [link["status"] for link in manifest["links"]] == ["kept", "dead", "kept", "kept", "kept"]
    assert all({"url", "sha256", "bytes"} <= set(link) for link in manifest["links"] if link["status"] == "kept")
    assert {entry["caption"] for entry in manifest["images"]} == {"a cart"}
    for body in vlm.asked:
        image, words = body["messages"][-1]["content"]
        data_url = image["image_url"]["url"]
        with Image.open(BytesIO(base64.b64decode(data_url.partition(",")[2]))) as sent:
            assert sent.size == (32, 24)
        assert "one word" in words["text"] and body["temperature"] == 0


def test_bad_answers_are_counted_by_reason_and_not_asked_again(tmp_path: Path, run_memlora: Command) -> None:
    answers = iter(
        [
            '{"question": "What is on the red cart?", "answer": "Red", "reason": "It is."}',
            '{"question": "What is it?", "answer": "a cart", "reason": "It is."}',
            "I cannot see an image.",
        ]
    )
    (pictures := tmp_path / "pictures").mkdir()
    (pictures / "a.jpg").write_bytes(jpeg("red"))
    data = locomo(tmp_path, {"conv-42": ["https://example.org/x/a.jpg?w=1", "https://example.org/b.jpg"]})
    with local_server(lambda _: next(answers)) as vlm:
        options = (data, "--images-from", pictures, "--base-url", vlm.url, "--model", "vl", "--out", tmp_path / "out")
        told = build(run_memlora, *options)
        assert told["refused"] == {"answer in the question": 1, "not one word": 1, "no JSON": 1}
        assert told["rows"] == 0 and told["fetched"] == {"kept": 1, "not there": 1}
        assert build(run_memlora, *options)["refused"] == told["refused"] and len(vlm.asked) == 3


def test_a_teacher_that_breaks_off_costs_nothing(tmp_path: Path, run_memlora: Command) -> None:
    (pictures := tmp_path / "pictures").mkdir()
    (pictures / "conv-42_D1-1.png").write_bytes(jpeg("red"))
    data = locomo(tmp_path, {"conv-42": ["https://example.org/what"]})
    left = [GOOD]
    options = ("--images-from", pictures, "--out", tmp_path / "out", "--concurrency", 1, "--model", "vl", "--base-url")
    with local_server(lambda _: left.pop() if left else error_response(401, "no such key")) as vlm:
        code, _, err = run_memlora("vqa", "build", data, *options, vlm.url)
        assert code == 1 and "no such key" in err and "are saved" in err and err.count("\n") == 1
    with local_server(lambda _: GOOD) as vlm:
        assert build(run_memlora, data, *options, vlm.url)["rows"] == 3 and len(vlm.asked) == 2


def test_without_a_teacher_the_images_are_fetched_alone(tmp_path: Path, run_memlora: Command) -> None:
    with web(a_jpg=jpeg("red")) as host:
        data = locomo(tmp_path, {"conv-42": [host.url("a.jpg")]})
        code, out, _ = run_memlora("vqa", "build", data, "--out", tmp_path / "out", "--delay", 0)
    assert code == 0 and "1 kept" in out and "No questions were generated" in out
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_command_draws_the_drawings(isolated_home: Path, run_memlora: Command) -> None:
    code, out, _ = run_memlora("vqa", "build", "--drawings", "--count", 5)
    assert code == 0 and "5 drawings with 15 questions" in out and "nothing about photographs" in out
    rows = list(read_examples(isolated_home / "vqa" / "drawings" / "rows.jsonl"))
    assert len(rows) == 15 and all((isolated_home / "vqa" / "drawings" / str(row.image)).is_file() for row in rows)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Give DATA"),
        (("--drawings", "--model", "x"), "--drawings needs no"),
        (("DATA", "--model", "x"), "needs both --model and --base-url"),
        (("DATA", "--split", "mine"), "Unknown split 'mine'"),
        (("DATA", "--images-from", "nowhere"), "There is no folder nowhere"),
        (("none.json",), "There is no file"),
        (("TALK",), "link to no images"),
    ],
)
def test_slips_are_one_line(tmp_path: Path, run_memlora: Command, arguments: tuple[str, ...], says: str) -> None:
    (talk := tmp_path / "talk.txt").write_text("Ann: hello\nBob: hello\n")
    files = {"DATA": locomo(tmp_path, {"conv-42": ["https://example.org/a.jpg"]}), "TALK": talk}
    code, _, err = run_memlora("vqa", "build", *(files.get(one, one) for one in arguments))
    assert code == 2 and says in err and err.count("\n") == 1


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(st.text(max_size=80), st.binary(max_size=80).map(lambda data: GOOD[: len(data)] + data.decode("latin-1")))
)
def test_whatever_a_teacher_says_is_a_question_or_a_reason(raw: str) -> None:
    value = parse_question(raw)
    assert "refused" in value or (len(value["answer"].split()) == 1 and value["question"])


def test_a_thinking_teacher_is_understood() -> None:
    assert parse_question(f"<think>{{}} hm</think>```json\n{GOOD}\n```")["answer"] == "3"
