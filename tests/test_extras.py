"""A user without the extras: the core works, and whatever needs more says in one line which extra brings it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cli_home import TALK, environment
from locomo import locomo_file, sample
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from memlora_mlx.errors import ExtraMissing
from memlora_mlx.extras import EXTRAS, has, missing_extra, require

NEVER = ("pip", "gguf", "requests", "cv2", "scipy", "datasets", "torch")  # by no command of the core
ALL = tuple(module for modules in EXTRAS.values() for module in modules)

_BLOCKED = """
import json, sys

sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))  # to import one of them fails, as if it were not there
from memlora_mlx.cli import main
main(sys.argv[2:])
"""


def without(modules: tuple[str, ...], *arguments: object) -> list[str]:
    return [sys.executable, "-c", _BLOCKED, json.dumps(modules), *map(str, arguments)]


def run(environ: dict[str, str], modules: tuple[str, ...], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command that cannot import the modules."""
    command = without(modules, *arguments)
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=120, input="Hello\n", check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def environ(tiny_home: Path, varied_student: Path, tiny_embedder: Path) -> dict[str, str]:
    return environment(tiny_home, varied_student, tiny_embedder)


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    (tmp_path / "talk.txt").write_text(TALK)
    return tmp_path / "talk.txt"


def test_the_core_needs_no_extra(environ: dict[str, str], talk: Path) -> None:
    for arguments in (
        ["--help"],
        ["ingest", talk, "--limit", "2"],
        ["ask", "Where does Ann live?"],
        ["chat"],
        ["memory", "list"],
        ["memory", "search", "Rome"],
        ["models", "list"],
        ["adapters", "list"],
        ["doctor"],
        ["vqa", "build", "--drawings", "--count", "5"],
    ):
        code, out, err = run(environ, (*ALL, *NEVER), *arguments)
        assert code == 0, f"{arguments}: {err}"
        assert out
        assert "not installed" not in err


@pytest.mark.parametrize(
    ("extra", "module", "arguments"),
    [
        ("train", "matplotlib", ["train", "--stage", "extraction", "--yes"]),
        ("train", "plotext", ["train", "--search", "--yes"]),
        ("bench", "nltk", ["train", "--search", "--yes"]),
        ("bench", "rouge_score", ["bench", "LOCOMO"]),
        (
            "teach",
            "openai",
            ["teach", "TALK", "--stage", "extraction", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"],
        ),
        ("vision", "mlx_vlm", ["ingest", "TALK", "--student", "SEEING"]),
    ],
)
def test_a_command_names_the_extra_it_misses_in_one_line(
    environ: dict[str, str],
    tmp_path: Path,
    talk: Path,
    tiny_vision_student: Path,
    extra: str,
    module: str,
    arguments: list[str],
) -> None:
    files = {"LOCOMO": locomo_file(tmp_path, sample()), "TALK": talk, "SEEING": tiny_vision_student}
    code, out, err = run(environ, (module,), *(files.get(argument, argument) for argument in arguments))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1, err
    assert f"needs {module.replace('_', '-')}" in err and f"pip install 'memlora-mlx[{extra}]'" in err


@pytest.mark.parametrize(
    ("extra", "module", "arguments"),
    [
        ("teach", "openai", ["--systems", "oracle", "--judge", "openai:http://127.0.0.1:9/v1,m"]),
        ("mem0", "mem0", ["--systems", "oracle,mem0"]),
    ],
)
def test_a_benchmark_goes_on_without_what_it_can_leave_out(
    environ: dict[str, str], tmp_path: Path, extra: str, module: str, arguments: list[str]
) -> None:
    code, out, err = run(environ, (module,), "bench", locomo_file(tmp_path, sample()), *arguments)
    assert code == 0 and "oracle" in out
    [line] = [line for line in err.splitlines() if "not installed" in line]
    assert f"pip install 'memlora-mlx[{extra}]'" in line


def test_the_table_is_what_the_extras_of_the_project_bring() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    declared = {
        extra: {canonicalize_name(Requirement(line).name) for line in lines}
        for extra, lines in project["optional-dependencies"].items()
    }
    core = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    for extra, modules in EXTRAS.items():
        wanted = {"mem0ai" if module == "mem0" else canonicalize_name(module) for module in modules}
        assert declared[extra] == wanted
        assert not wanted & core


@pytest.mark.parametrize("module", EXTRAS["tui"])
def test_without_the_app_the_chat_is_plain_and_says_so_once(environ: dict[str, str], module: str) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(without((module,), "chat"), env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as chat:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(ours, 65536):
                if b"> " not in seen and b"> " in seen + piece:
                    os.write(ours, b"/quit\n")
                seen += piece
        assert chat.wait(timeout=60) == 0, seen.decode()
    os.close(ours)
    text = " ".join(seen.decode().split())
    assert text.count("This is the plain chat") == 1
    assert f"the full-screen chat needs {module.replace('_', '-')}" in text and "memlora-mlx[tui]" in text
    assert "Traceback" not in text


def test_an_import_that_nobody_asked_about_is_one_line_too() -> None:
    error = ModuleNotFoundError("No module named 'mlx_vlm.models'", name="mlx_vlm.models")
    assert "memlora-mlx[vision]" in str(missing_extra(error))
    assert missing_extra(ModuleNotFoundError("No module named 'other'", name="other")) is None
    assert missing_extra(ImportError("cannot import name 'x'", name="openai")) is None  # it is there, but broken


def test_a_missing_package_is_named_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textual_plotext", None)
    monkeypatch.setitem(sys.modules, "textual", None)
    assert not has("tui")
    with pytest.raises(
        ExtraMissing, match="^the app needs textual and textual-plotext, which are not installed; "
    ) as why:
        require("tui", "the app")
    assert why.value.exit_code == 1
