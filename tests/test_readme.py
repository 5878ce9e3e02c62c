"""What README shows runs as it stands there, and the trust page names tests that exist."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


@pytest.mark.starter
def test_the_library_snippet_runs_and_remembers(
    starter_models: Path, isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It adds a message that nobody has answered, finds it, asks about it and takes it back."""
    from memlora_mlx import Memory

    isolated_home.mkdir(parents=True)
    (isolated_home / "models").symlink_to(starter_models)
    [code] = re.findall(r"## As a library\n.*?```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = code.splitlines()
    returned = {name: f"{name} = memory.{name}(" for name in ("add", "search", "ask", "undo")}
    names: dict[str, object] = {}
    exec("\n".join(_assigned(line, returned) for line in lines), names)  # noqa: S102 - the code is README's
    [added] = names["add"]["results"]  # type: ignore[index]
    assert added["event"] == "ADD" and "Lisbon" in added["memory"]
    assert "Lisbon" in names["search"][0]["memory"]  # type: ignore[index]
    assert "lisbon" in str(names["ask"]).lower()
    assert names["undo"]["is_deleted"]  # type: ignore[index]
    with Memory() as memory:
        assert memory.get_all(user_id="maya")["results"] == []


def _assigned(line: str, returned: dict[str, str]) -> str:
    for name, assignment in returned.items():
        line = line.replace(f"    memory.{name}(", f"    {assignment}")
    return line


@pytest.mark.starter
@pytest.mark.parametrize(
    "text", ["My cat is called Miso.", "I work as a nurse at the city hospital.", "I'm allergic to peanuts."]
)
def test_a_message_alone_is_remembered(starter_models: Path, isolated_home: Path, text: str) -> None:
    from memlora_mlx import Memory

    isolated_home.mkdir(parents=True)
    (isolated_home / "models").symlink_to(starter_models)
    with Memory() as memory:
        [added] = memory.add(text, user_id="ann")["results"]
        assert text.rstrip(".").split()[-1] in added["memory"]


def test_each_promise_of_the_trust_page_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    defined = {name for file in files for name in re.findall(r"def (test_\w+)", (ROOT / file).read_text("utf-8"))}
    named = set(re.findall(r"`(test_[\w*]+)`", page))
    assert len(files) > 30 and len(named) > 60
    assert [name for name in sorted(named) if not fnmatch.filter(defined, name)] == []
