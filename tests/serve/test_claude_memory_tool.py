"""Claude's memory tool over memlora: the commands, their answers, and paths that lead elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memlora_mlx import Memory
from memlora_mlx.serve.claude_memory_tool import ClaudeMemoryTool

NOTES = "Preferences\n\tlikes: green tea\n\nProjects\n"


@pytest.fixture
def memory(tiny_home: Path) -> Iterator[Memory]:
    with Memory() as opened:
        yield opened


@pytest.fixture
def tool(memory: Memory) -> ClaudeMemoryTool:
    return ClaudeMemoryTool(memory, "ann")


def done(tool: ClaudeMemoryTool, command: str, **arguments: Any) -> str:
    text, is_error = tool.call({"command": command, **arguments})
    assert not is_error, text
    return text


def refused(tool: ClaudeMemoryTool, command: str, **arguments: Any) -> str:
    text, is_error = tool.call({"command": command, **arguments})
    assert is_error and text.startswith("Error: "), text
    return text


def test_a_file_is_created_viewed_changed_moved_and_deleted(tool: ClaudeMemoryTool) -> None:
    assert "/memories" in done(tool, "view", path="/memories")
    assert done(tool, "create", path="/memories/notes.md", file_text=NOTES) == (
        "File created successfully at: /memories/notes.md"
    )
    assert "already exists" in refused(tool, "create", path="/memories/notes.md", file_text="x")
    shown = done(tool, "view", path="/memories/notes.md")
    assert shown.splitlines()[1:3] == ["     1\tPreferences", "     2\t\tlikes: green tea"]  # a tab is kept
    assert done(tool, "view", path="/memories/notes.md", view_range=[4, -1]).splitlines()[1] == "     4\tProjects"
    edited = done(tool, "str_replace", path="/memories/notes.md", old_str="green tea", new_str="coffee")
    assert "     2\t\tlikes: coffee" in edited
    done(tool, "insert", path="/memories/notes.md", insert_line=4, insert_text="memlora\n")
    assert "     5\tmemlora" in done(tool, "view", path="/memories/notes.md")
    done(tool, "rename", old_path="/memories/notes.md", new_path="/memories/old/2026/notes.md")
    listed = done(tool, "view", path="/memories")
    assert "\t/memories/old/2026" in listed and "notes.md" not in listed  # two levels deep
    assert "coffee" in done(tool, "view", path="/memories/old/2026/notes.md")
    assert "/memories/old" in done(tool, "delete", path="/memories/old")
    assert "does not exist" in refused(tool, "view", path="/memories/old/2026/notes.md")


def test_its_files_are_memories_that_others_find_and_the_user_can_undo(memory: Memory, tool: ClaudeMemoryTool) -> None:
    done(tool, "create", path="/memories/tea.md", file_text="Ann drinks green tea in the morning")
    found = memory.search("What does Ann drink?", user_id="ann")["results"]
    assert found[0]["memory"] == "tea.md: Ann drinks green tea in the morning"
    assert memory.search("What does Ann drink?", user_id="bob")["results"] == []
    done(tool, "str_replace", path="/memories/tea.md", old_str="green tea", new_str="coffee")
    assert [line["event"] for line in memory.history(found[0]["id"])] == ["ADD", "UPDATE"]
    memory.undo(user_id="ann", agent_id="claude-memory-tool")
    assert "green tea" in done(tool, "view", path="/memories/tea.md")
    assert ClaudeMemoryTool(memory, "bob").call({"command": "view", "path": "/memories/tea.md"})[1]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "/memories/../etc/passwd", "/memories/..", "../memories/x", "memories/x", "", "/", "//memories/x",
        "/memories/%2e%2e/x", "/memories/..\\x", "/memories\\..\\x", "/memoriesx/a", "/memories/./x", "/memories/a\x00b",
        "/memories/a\nb", "/memories//x", "~/x", "/memories/" + "x" * 300, None, 7, ["/memories/x"],
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere_are_refused_by_every_command(tool: ClaudeMemoryTool, path: Any) -> None:
    done(tool, "create", path="/memories/here.md", file_text="here")
    refused(tool, "view", path=path)
    refused(tool, "create", path=path, file_text="x")
    refused(tool, "str_replace", path=path, old_str="a", new_str="b")
    refused(tool, "insert", path=path, insert_line=0, insert_text="x")
    refused(tool, "delete", path=path)
    refused(tool, "rename", old_path=path, new_path="/memories/a.md")
    refused(tool, "rename", old_path="/memories/here.md", new_path=path)
    assert "here" in done(tool, "view", path="/memories/here.md")


def test_wrong_commands_are_errors_that_claude_can_read(tool: ClaudeMemoryTool) -> None:
    done(tool, "create", path="/memories/a.md", file_text="one\none\n")
    assert "in lines: 1, 2" in refused(tool, "str_replace", path="/memories/a.md", old_str="one", new_str="two")
    assert "did not appear" in refused(tool, "str_replace", path="/memories/a.md", old_str="", new_str="two")
    assert "[0, 3]" in refused(tool, "insert", path="/memories/a.md", insert_line=9, insert_text="x")
    assert "Invalid `view_range`" in refused(tool, "view", path="/memories/a.md", view_range=[3, 1])
    assert "is a file, not a folder" in refused(tool, "create", path="/memories/a.md/b.md", file_text="x")
    assert "itself cannot be deleted" in refused(tool, "delete", path="/memories")
    assert "cannot be moved" in refused(tool, "rename", old_path="/memories", new_path="/memories/x")
    assert "at most" in refused(tool, "create", path="/memories/b.md", file_text="x" * 100_001)
    assert "do not fit" in refused(tool, "create", path="/memories/b.md")
    assert "there is no command" in refused(tool, "format")


def test_secrets_are_not_stored_and_claude_is_told(memory: Memory, tool: ClaudeMemoryTool) -> None:
    iban = "DE89 3704 0044 0532 0130 00"
    said = done(tool, "create", path="/memories/bank.md", file_text=f"Bank\nIBAN {iban}\n<private>a word</private>")
    assert "secret" in said.lower()
    shown = done(tool, "view", path="/memories/bank.md")
    assert iban not in shown and "a word" not in shown
    assert iban not in str(memory.get_all(user_id="ann"))
    done(tool, "insert", path="/memories/bank.md", insert_line=0, insert_text=f"again: {iban}")
    assert iban not in done(tool, "view", path="/memories/bank.md")
