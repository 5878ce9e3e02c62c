"""`memlora mcp install` changes one entry of a client's file, and nothing else."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from memlora_mlx.errors import MemloraError, UsageError
from memlora_mlx.serve.client_files import client_files, planned_edit

ENTRY = {"command": "/usr/bin/python3", "args": ["-m", "memlora_mlx", "mcp"], "env": {"MEMLORA_HOME": "/a b/ü"}}
JSON_CLIENTS = ("claude-desktop", "claude-code", "cursor", "lm-studio")


@pytest.fixture(autouse=True)
def no_codex_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODEX_HOME", raising=False)


@pytest.mark.parametrize("client", [*JSON_CLIENTS, "codex"])
def test_installing_makes_the_file_and_uninstalling_takes_the_entry_out(tmp_path: Path, client: str) -> None:
    file = client_files(tmp_path)[client]
    assert planned_edit(client, ENTRY, home=tmp_path).apply() is None  # there was nothing to back up
    text = file.path.read_text(encoding="utf-8")
    content = tomllib.loads(text) if file.is_toml else json.loads(text)
    assert content[file.table]["memlora"] == ENTRY
    assert not planned_edit(client, ENTRY, home=tmp_path).is_change
    planned_edit(client, None, home=tmp_path).apply()
    assert "memlora" not in file.path.read_text(encoding="utf-8")
    assert not planned_edit(client, None, home=tmp_path).is_change


def test_other_entries_and_unknown_keys_of_json_stay(tmp_path: Path) -> None:
    path = client_files(tmp_path)["claude-code"].path
    before = {"numStartups": 7, "projects": {"/x": {"a": [1, 2.5, None]}}, "mcpServers": {"other": {"command": "ü"}}}
    path.write_text(json.dumps(before, indent=4))
    edit = planned_edit("claude-code", ENTRY, home=tmp_path)
    assert "+" in edit.diff and '"memlora"' in edit.diff
    backup = edit.apply()
    assert backup is not None and json.loads(backup.read_text()) == before
    after = json.loads(path.read_text())
    assert after["mcpServers"].pop("memlora") == ENTRY and after == before
    planned_edit("claude-code", None, home=tmp_path).apply()
    assert json.loads(path.read_text()) == before


def test_comments_and_order_of_toml_stay(tmp_path: Path) -> None:
    path = client_files(tmp_path)["codex"].path
    path.parent.mkdir()
    before = 'model = "o5"  # my choice\n\n[mcp_servers.other]\ncommand = "x" # keep\n\n[tui]\ntheme = "dark"\n'
    path.write_text(before)
    planned_edit("codex", ENTRY, home=tmp_path).apply()
    after = path.read_text()
    assert "# my choice" in after and "# keep" in after
    content = tomllib.loads(after)
    assert content["mcp_servers"].pop("memlora") == ENTRY and content == tomllib.loads(before)


@pytest.mark.parametrize(
    ("client", "text"),
    [
        ("cursor", "{broken"),
        ("cursor", "[1]"),
        ("cursor", '{"mcpServers": []}'),
        ("cursor", '{"a": 1, "a": 2}'),
        ("cursor", "[" * 100_000),
        ("codex", "a = "),
        ("codex", "mcp_servers = 1"),
    ],
)
def test_a_broken_file_is_refused_in_one_line_and_left_as_it_is(tmp_path: Path, client: str, text: str) -> None:
    path = client_files(tmp_path)[client].path
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(MemloraError) as refused:
        planned_edit(client, ENTRY, home=tmp_path)
    assert "\n" not in str(refused.value) and path.name in str(refused.value)
    assert path.read_text() == text


def test_a_file_that_the_client_wrote_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = client_files(tmp_path)["cursor"].path
    edit = planned_edit("cursor", ENTRY, home=tmp_path)
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(MemloraError, match="changed meanwhile"):
        edit.apply()
    assert path.read_text() == "{}"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path = client_files(tmp_path)["cursor"].path
    path.parent.mkdir()
    (tmp_path / "dotfiles.json").write_text("{}")
    path.symlink_to(tmp_path / "dotfiles.json")
    planned_edit("cursor", ENTRY, home=tmp_path).apply()
    assert path.is_symlink() and "memlora" in (tmp_path / "dotfiles.json").read_text()


def test_an_unknown_client_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known are claude-desktop"):
        planned_edit("emacs", ENTRY, home=tmp_path)
