"""Whatever form the source comes in, it builds one and the same wheel, and what is installed from it runs anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"memlora_mlx": "memlora_mlx", **{name: f"memlora_mlx/{name}" for name in ("tui", "eval", "adapters")}}

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="the forms of the source are made from a git checkout"
)


def run(*command: object, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], env=env, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def done(*command: object, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    ended = run(*command, env=env, cwd=cwd)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def unpacked(file: Path, place: Path) -> Path:
    with tarfile.open(file) as packed:
        packed.extractall(place, filter="data")
    return place


class Source:
    """What `git add --all` would commit now, as any form of the source; the repository itself is not touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "objects").mkdir()
        objects = done("git", "rev-parse", "--path-format=absolute", "--git-path", "objects").strip()
        self.env = os.environ | {
            "GIT_INDEX_FILE": str(folder / "index"),
            "GIT_OBJECT_DIRECTORY": str(folder / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        done("git", "add", "--all", env=self.env)
        self.tree = done("git", "write-tree", env=self.env).strip()

    def files(self) -> set[str]:
        """The files of the shipped folders, by the names they have in a wheel."""
        names = done("git", "ls-files", *FOLDERS, env=self.env).splitlines()
        links = set(FOLDERS.values()) - {"memlora_mlx"}
        found = [name.partition("/") for name in names if name not in links]
        return {f"{FOLDERS[top]}/{rest}" for top, _, rest in found}

    def checkout(self, place: Path, *, links: bool) -> Path:
        done(
            "git", "-c", f"core.symlinks={links}".lower(), "checkout-index", "--all", f"--prefix={place}/", env=self.env
        )
        return place

    def archive(self, form: str) -> Path:
        file, place = self.folder / f"source.{form}", self.folder / form
        done("git", "archive", f"--format={form}", f"--output={file}", self.tree, env=self.env)
        if form == "tar":
            return unpacked(file, place)
        with zipfile.ZipFile(file) as packed:
            packed.extractall(place)  # Python's zipfile makes a text file of a link
        return place

    def build(self, place: Path, kind: str = "wheel") -> Path:
        out = place.with_name(f"{place.name}-{kind}")
        done(sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", out, cwd=place)
        [made] = out.iterdir()
        return made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return Source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheels(source: Source) -> dict[str, Path]:
    """A wheel of each form of the source."""
    forms = {
        "checkout": source.checkout(source.folder / "linked", links=True),
        "checkout without links": source.checkout(source.folder / "unlinked", links=False),
        "tar": source.archive("tar"),
        "zip": source.archive("zip"),
    }
    made = {form: source.build(place) for form, place in forms.items()}
    for form in ("checkout", "checkout without links"):
        place = source.folder / f"sdist of {form}"
        [inner] = unpacked(source.build(forms[form], "sdist"), place).iterdir()
        made[place.name] = source.build(inner)
    return made


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a fresh environment that has the wheel, and what this environment has besides."""
    place = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(place, symlinks=True)
    pip = (sys.executable, "-m", "pip", "--python", place, "install", "--quiet", "--no-index", "--no-deps")
    done(*pip, wheels["zip"])
    [site] = place.glob("lib/python*/site-packages")
    # Packages are found there, but not its .pth files, so not the checkout either.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return place / "bin"


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_every_form_of_the_source_builds_the_same_wheel(wheels: dict[str, Path]) -> None:
    expected = contents(wheels["checkout"])
    for form, wheel in wheels.items():
        found = contents(wheel)
        assert sorted(found) == sorted(expected), form
        assert found == expected, form


def test_a_wheel_has_every_file_of_the_shipped_folders_and_nothing_else(
    source: Source, wheels: dict[str, Path]
) -> None:
    found = {name for name in contents(wheels["zip"]) if ".dist-info/" not in name}
    assert found == source.files()
    assert {Path(name).suffix for name in found} >= {".py", ".typed", ".tcss", ".yaml", ".json", ".safetensors", ".txt"}


def test_a_source_without_a_folder_is_not_built(source: Source, tmp_path: Path) -> None:
    place = source.checkout(tmp_path / "source", links=False)
    (place / "tui").rename(place / "elsewhere")
    ended = run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", cwd=place)
    assert ended.returncode != 0 and "the folder tui is missing" in ended.stderr
    assert not list(place.glob("dist/*"))


def test_an_editable_install_without_links_stops_with_the_command_that_makes_them(
    source: Source, tmp_path: Path
) -> None:
    place = source.checkout(tmp_path / "source", links=False)
    editable = "from hatchling.build import build_editable; build_editable('.')"
    ended = run(sys.executable, "-c", editable, cwd=place)
    assert ended.returncode != 0 and "memlora_mlx/tui is no symbolic link here" in ended.stderr
    done("bash", "-c", ended.stderr.partition("make them with: ")[2], cwd=place)
    done(sys.executable, "-c", editable, cwd=place)


def test_the_installed_wheel_runs_from_another_folder(installed: Path, isolated_home: Path, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    place = done(
        installed / "python", "-c", "import memlora_mlx; print(memlora_mlx.__file__)", env=environ, cwd=tmp_path
    )
    assert Path(place.strip()).is_relative_to(installed.parent)
    assert "demo" in done(installed / "memlora", "demo", "--help", env=environ, cwd=tmp_path)
    done(installed / "python", "-c", "from memlora_mlx.tui.app import MemloraApp", env=environ, cwd=tmp_path)
    listed = done(installed / "memlora", "adapters", "list", env=environ, cwd=tmp_path)
    assert all(stage in listed for stage in ("extraction", "update", "generation"))
