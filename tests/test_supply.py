"""What memlora is made of: the pins follow pyproject.toml, and the audit says what it could not look up."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
_PIN = re.compile(r"^([\w.-]+)==([^\s;\\]+)[^\n]*((?:\n +--hash=\S+(?: \\)?)*)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """The packages that a file of `requirements/` pins, with their versions; each has a checksum."""
    found = _PIN.findall((ROOT / "requirements" / name).read_text())
    assert found and all("--hash=sha256:" in checksums for _, _, checksums in found)
    return {canonicalize_name(package): version for package, version, _ in found}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_installed_is_what_is_tested() -> None:
    installed, tested = pins("install.txt"), pins("test.txt")
    assert installed.items() <= tested.items()


def test_every_package_that_is_asked_for_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras, pinned = project["optional-dependencies"], pins("test.txt")
    asked = [Requirement(line) for line in (*project["dependencies"], *extras["dev"])]
    for one in asked:  # it grows: an extra may ask for others
        if canonicalize_name(one.name) == canonicalize_name(project["name"]):
            asked += [Requirement(line) for extra in one.extras for line in extras[extra]]
        else:
            assert one.specifier.contains(pinned[canonicalize_name(one.name)], prereleases=True), one
    assert len(asked) > 40


def test_an_audit_goes_on_without_what_it_cannot_look_up_and_fails_on_a_fault_only(audit: ModuleType) -> None:
    fine, unknown = {"name": "numpy", "version": "2.4", "vulns": []}, {"name": "absl-py", "skip_reason": "not found"}
    lines, is_bad = audit.summary({"dependencies": [fine, unknown]})
    assert not is_bad and lines[0] == "1 of 2 packages were looked up; known faults: none."
    assert lines[1].endswith("does not know them: absl-py.") and len(lines) == 2
    fault = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["13.1"], "description": ""}
    lines, is_bad = audit.summary({"dependencies": [unknown, {"name": "pillow", "version": "13.0", "vulns": [fault]}]})
    assert is_bad and lines[0] == "pillow 13.0 has a known fault: PYSEC-1, CVE-1; mended in 13.1"
    lines, is_bad = audit.summary({"dependencies": [unknown]})
    assert not is_bad and "nothing was audited" in lines[-1]
