"""Experts in one file: written with card, licence and checksums, read by anybody, and refused where they are not what they say."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models import ALL_LINEAR, Q_V, expert_folder, model, mx, student_folder

from memlora_mlx.models import adapter_registry
from memlora_mlx.models.adapter_registry import experts_in
from memlora_mlx.models.loading import load_student

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def nothing_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_registry, "SHIPPED", tmp_path / "shipped")


@pytest.fixture
def experts(tiny_home: Path, tiny_student: Path) -> Path:
    """Installed experts of two stages, with cards."""
    base, _ = model()
    name = {"name": "tiny-llama", "fingerprint": load_student(tiny_student).fingerprint}
    data = {"licence": "CC BY-NC 4.0 (made of LoCoMo)", "rows": 12, "teachers": {"observations": 12}}
    folder = tiny_home / "adapters" / "tiny-llama"
    for seed, (stage, layers) in enumerate([("extraction", Q_V), ("generation", ALL_LINEAR)], 1):
        metrics = {"validation_loss": {"base": 2.0, "expert": 1.5}}
        card = {"stage": stage, "base": name, "data": data, "metrics": metrics, "made": "2026-11-29"}
        expert_folder(folder / stage, base, layers, seed=seed, card=card)
    return folder


@pytest.fixture
def archive(experts: Path, tmp_path: Path, run_memlora: Command) -> Path:
    path = tmp_path / "experts.zip"
    code, out, _ = run_memlora("adapters", "export", "all", path)
    assert (code, out) == (0, f"{path}\n")
    return path


def one_line(done: tuple[int, str, str], *parts: str) -> None:
    assert done[0] in (1, 2) and done[1] == "" and "Traceback" not in done[2], done
    assert done[2].startswith("memlora: ") and done[2].count("\n") == 1
    for part in parts:
        assert part in done[2], done[2]


def rewritten(archive: Path, changes: dict[str, bytes | None], name: str = "other.zip", method: int = 0) -> Path:
    """The archive with other, further or (None) without these members."""
    with zipfile.ZipFile(archive) as old:
        content: dict[str, bytes | None] = {info.filename: old.read(info) for info in old.infolist()}
    path = archive.with_name(name)
    with zipfile.ZipFile(path, "w", method) as new:
        for member, data in (content | changes).items():
            if data is not None:
                new.writestr(member, data)
    return path


def remove(folder: Path) -> dict[str, bytes]:
    """Take the experts away; returns their files."""
    import shutil

    kept = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder)
    return kept


def test_one_file_takes_all_experts_to_another_home(archive: Path, experts: Path, run_memlora: Command) -> None:
    with zipfile.ZipFile(archive) as opened:
        readme, sums = opened.read("README.md").decode(), opened.read("SHA256SUMS").decode()
        for line in sums.splitlines():
            digest, name = line.split("  ")
            assert hashlib.sha256(opened.read(name)).hexdigest() == digest
    assert "CC BY-NC 4.0" in readme and "| extraction | observations | 12 | 2.0000 -> 1.5000 |" in readme
    before = remove(experts)
    code, out, err = run_memlora("adapters", "install", archive)
    assert code == 0 and out.splitlines() == [str(experts / "extraction"), str(experts / "generation")]
    assert err.count("Licence: CC BY-NC 4.0 (made of LoCoMo).") == 2
    assert remove(experts) == before
    assert run_memlora("adapters", "install", archive, "--stage", "generation")[0] == 0
    assert set(experts_in(experts)) == {"generation"}


def test_the_same_experts_make_the_same_file(archive: Path, run_memlora: Command) -> None:
    again = archive.with_name("again.zip")
    assert run_memlora("adapters", "export", "all", again)[0] == 0 and again.read_bytes() == archive.read_bytes()
    one_line(run_memlora("adapters", "export", "all", again), "already exists")


def test_plain_mlx_lm_loads_what_an_archive_holds(
    archive: Path, experts: Path, tiny_student: Path, tmp_path: Path
) -> None:
    from mlx_lm import generate, load

    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "unpacked")
    base, tokenizer = load(str(tiny_student))
    adapted, _ = load(str(tiny_student), adapter_path=str(tmp_path / "unpacked" / "generation"))
    assert generate(adapted, tokenizer, "Ann likes", max_tokens=4)
    tokens = mx.array([[5, 17, 300]])
    assert not mx.allclose(adapted(tokens), base(tokens), atol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "../../evil",
        "/etc/passwd",
        "extraction/../../x",
        "extraction/run.py",
        "..\\x",
        "a/extraction/adapters.safetensors",
    ],
)
def test_a_member_of_another_name_is_refused_and_nothing_is_written(
    archive: Path, experts: Path, tmp_path: Path, run_memlora: Command, name: str
) -> None:
    bad = rewritten(archive, {name: b"x"})
    remove(experts)
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    one_line(run_memlora("adapters", "install", bad), "is no archive of experts", "Nothing was installed")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == files and not experts.exists()


def safetensors(value: float) -> bytes:
    """An expert's file of weights with this value in it, which the card's hash and the checksums know."""
    names = ("model.layers.0.self_attn.q_proj.lora_a", "model.layers.0.self_attn.q_proj.lora_b")
    shapes = ([32, 8], [8, 32])
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [i * 1024, (i + 1) * 1024]}
        for i, (name, shape) in enumerate(zip(names, shapes, strict=True))
    }
    text = json.dumps(header).encode()
    import struct

    return struct.pack("<Q", len(text)) + text + struct.pack("<512f", *([value] * 512))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(
    archive: Path, experts: Path, run_memlora: Command, value: float
) -> None:
    weights = safetensors(value)
    config = json.loads((experts / "extraction" / "adapter_config.json").read_text())
    config["memlora"].pop("sha256", None)
    changes: dict[str, bytes | None] = {
        "extraction/adapters.safetensors": weights,
        "extraction/adapter_config.json": json.dumps(config).encode(),
        "SHA256SUMS": None,
    }
    bad = rewritten(archive, changes)
    remove(experts)
    one_line(run_memlora("adapters", "install", bad), "NaN or infinite")
    assert not experts.exists(), "neither that expert nor the other one was installed"


def test_what_is_damaged_is_refused(archive: Path, experts: Path, tmp_path: Path, run_memlora: Command) -> None:
    remove(experts)
    with zipfile.ZipFile(archive) as opened:
        weights = bytearray(opened.read("extraction/adapters.safetensors"))
    weights[-8] ^= 1
    changed = rewritten(archive, {"extraction/adapters.safetensors": bytes(weights)})
    one_line(run_memlora("adapters", "install", changed), "is damaged", "SHA256SUMS")
    unsigned = rewritten(archive, {"extraction/adapters.safetensors": bytes(weights), "SHA256SUMS": None}, "b.zip")
    one_line(run_memlora("adapters", "install", unsigned), "damaged", "sha256")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive.read_bytes()[:2000])
    one_line(run_memlora("adapters", "install", cut), "damaged ZIP archive")
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    one_line(run_memlora("adapters", "install", empty), "contains no expert")
    bomb = rewritten(archive, {"README.md": bytes(64 << 20)}, "bomb.zip", zipfile.ZIP_DEFLATED)
    one_line(run_memlora("adapters", "install", bomb), "200 times its size")
    text = tmp_path / "text.zip"
    text.write_text("hello")
    one_line(run_memlora("adapters", "install", text), "damaged ZIP archive")
    one_line(run_memlora("adapters", "install", archive, "--stage", "update"), "has no update expert")
    assert not experts.exists()


def test_an_expert_for_another_student_is_refused(
    archive: Path, experts: Path, tmp_path: Path, run_memlora: Command
) -> None:
    other = student_folder(tmp_path / "other", seed=9, family="gemma2")
    one_line(run_memlora("adapters", "install", archive, "--student", other), "trained on tiny-llama")


def test_a_folder_of_all_experts_is_what_a_repository_holds(
    archive: Path, experts: Path, tmp_path: Path, run_memlora: Command
) -> None:
    folder = tmp_path / "repository"
    assert run_memlora("adapters", "export", "all", folder)[0] == 0
    with zipfile.ZipFile(archive) as opened:
        assert {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        } == {name: opened.read(name) for name in opened.namelist()}
    before = remove(experts)
    assert run_memlora("adapters", "install", folder)[0] == 0 and remove(experts) == before


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client asks for to download single files."""

    files: dict[str, bytes]
    claims: dict[str, int]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = path.partition(f"/resolve/{'0' * 40}/")[2]
        if path.startswith("/api/models/org/experts"):
            siblings = [
                {"rfilename": file, "size": self.claims.get(file, len(data))} for file, data in self.files.items()
            ]
            self._send(200, json.dumps({"id": "org/experts", "sha": "0" * 40, "siblings": siblings}).encode())
        elif name in self.files:
            self._send(200, self.files[name])
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        more = {"X-Repo-Commit": "0" * 40, "ETag": f'"{hashlib.sha256(body).hexdigest()}"', **(headers or {})}
        for key, value in {"Content-Length": str(len(body)), **more}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    with zipfile.ZipFile(archive) as opened:
        Hub.files = {name: opened.read(name) for name in opened.namelist()} | {"evil.py": b"print('no')"}
    Hub.claims = {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
        raising=False,
    )
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield Hub
    server.shutdown()


def test_experts_are_installed_from_the_hub(hub: type[Hub], experts: Path, run_memlora: Command) -> None:
    before = remove(experts)
    code, out, err = run_memlora("adapters", "install", "org/experts")
    assert code == 0, err
    assert len(out.splitlines()) == 2 and remove(experts) == before


def test_a_repository_that_gives_none_is_one_line(hub: type[Hub], experts: Path, run_memlora: Command) -> None:
    one_line(run_memlora("adapters", "install", "org/nothing"), "the hub has no model org/nothing")
    hub.claims["extraction/adapters.safetensors"] = 1 << 40
    one_line(run_memlora("adapters", "install", "org/experts"), "more than 512 MB")
    hub.claims.clear()
    hub.files = {"README.md": b"# nothing"}
    one_line(run_memlora("adapters", "install", "org/experts"), "contains no expert")
