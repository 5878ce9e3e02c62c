"""Shared fixtures. No test may reach the network: only loopback sockets open, and models come from the disk."""

from __future__ import annotations

import os
import signal

# A shell that starts us in the background has SIGINT ignored, and every process a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# One thread each: tests start processes side by side, and OpenBLAS's threads of two processes wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import memlora_mlx.models  # noqa: F401 - chooses the BLAS before a test file imports MLX, as it is in the program
from memlora_mlx.settings import load_settings

# Found before any test gets a home of its own.
_MODELS = Path(os.environ.get("MEMLORA_TEST_MODELS") or load_settings().models_folder)


@pytest.fixture(autouse=True)
def isolated_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a home folder of its own, so none sees the user's memories or settings."""
    for name in [name for name in os.environ if name.startswith("MEMLORA_") and name != "MEMLORA_TEST_MODELS"]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("MEMLORA_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import student_folder

    return student_folder(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_vision_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import vision_student_folder

    return vision_student_folder(tmp_path_factory.mktemp("models") / "tiny-internvl")


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import embedder_folder

    return embedder_folder(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import ALL_LINEAR, Q_V, expert_folder, model

    folder = tmp_path_factory.mktemp("experts")
    base, _ = model()
    for seed, (stage, keys) in enumerate([("extraction", Q_V), ("update", Q_V), ("generation", ALL_LINEAR)], start=1):
        expert_folder(folder / stage, base, keys, seed=seed)
    return folder


@pytest.fixture(scope="session")
def starter_models() -> Path:
    """The folder of the starter models; tests that need them are skipped where they were never pulled."""
    folder = _MODELS
    if not (folder / "smollm2-135m" / "memlora.json").is_file():
        pytest.skip("the starter models are not on this disk; `make models` fetches them")
    return folder


@pytest.fixture(scope="session")
def varied_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cli_home import varied_student_folder

    return varied_student_folder(tmp_path_factory.mktemp("models") / "lively-llama")


@pytest.fixture
def tiny_home(isolated_home: Path, tiny_student: Path, tiny_embedder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's home, with the tiny models chosen."""
    monkeypatch.setenv("MEMLORA_STUDENT", str(tiny_student))
    monkeypatch.setenv("MEMLORA_EMBEDDER", str(tiny_embedder))
    return isolated_home


@pytest.fixture
def run_memlora(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command in this process: its arguments in; its exit code, standard output and standard error out."""

    def command(*arguments: object) -> tuple[int, str, str]:
        from memlora_mlx.cli import main

        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return command


@pytest.fixture
def engine(tiny_student: Path, tiny_embedder: Path) -> Iterator[object]:
    from memlora_mlx.models.engine import Engine

    with Engine(tiny_student, tiny_embedder) as running:
        yield running
