"""The examples of docs/examples do what they say.

Those of a package that is not installed are skipped; `make examples` installs all of them and runs these tests.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from cli_home import environment
from memory_servers import messages_of, resident_of, resident_process, wait_until

from memlora_mlx import Memory
from memlora_mlx.serve.claude_memory_tool import ClaudeMemoryTool

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def example(name: str, package: str | None = None) -> ModuleType:
    if package is not None:
        require(package)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pydantic looks for the names of annotations
    spec.loader.exec_module(module)
    return module


def require(package: str) -> None:
    if "ALL_EXAMPLES" not in os.environ:
        pytest.importorskip(package, reason=f"{package} is not installed; the example needs it and memlora does not")


@pytest.fixture
def memory(tiny_home: Path) -> Iterator[Memory]:
    with Memory() as opened:
        opened.add("I like green tea", user_id="me", infer=False, timestamp="2026-03-01")
        opened.add("Bob likes coffee", user_id="bob", infer=False)
        yield opened


def test_claudes_memory_commands_are_answered(memory: Memory) -> None:
    tool = ClaudeMemoryTool(memory, "me")
    content = [
        {"type": "text", "text": "I will look."},
        {"type": "tool_use", "id": "t1", "name": "memory", "input": {"command": "view", "path": "/memories"}},
        {"type": "tool_use", "id": "t2", "name": "memory", "input": {"command": "view", "path": "/etc"}},
        {"type": "tool_use", "id": "t3", "name": "weather", "input": {}},
    ]
    first, second = example("claude_memory").tool_results(content, tool)
    assert first["tool_use_id"] == "t1" and first["content"].startswith("Here're the files") and not first["is_error"]
    assert second["tool_use_id"] == "t2" and second["is_error"]


def test_the_llm_plugin_gives_memories_as_a_fragment(memory: Memory) -> None:
    module = example("llm_memlora", "llm")
    registered: dict[str, object] = {}
    module.register_fragment_loaders(registered.__setitem__)
    assert registered == {"memory": module.memories}
    memory.close()
    fragment = module.memories("Which tea?")
    assert "I like green tea" in fragment and "coffee" not in fragment and fragment.source == "memory:Which tea?"


def test_llm_itself_takes_the_plugin_and_chats_with_the_resident_process(
    memory: Memory, tiny_home: Path, varied_student: Path, tiny_embedder: Path, tmp_path: Path
) -> None:
    require("llm")
    memory.close()
    plugins = tmp_path / "plugins"
    about = plugins / "llm_memlora-0.1.dist-info"  # what `llm install` leaves behind
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-memlora\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[llm]\nmemlora = llm_memlora\n")
    (plugins / "llm_memlora.py").write_text((EXAMPLES / "llm_memlora.py").read_text())
    environ = environment(tiny_home, varied_student, tiny_embedder)
    with resident_process(environ, "--port", "0"):
        served = [{"model_id": "memlora", "model_name": "memlora", "api_base": f"{resident_of(tiny_home).url}/v1"}]
        (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(served))
        paths = os.pathsep.join([str(plugins), *filter(None, [environ.get("PYTHONPATH")])])
        environ |= {"PYTHONPATH": paths, "LLM_USER_PATH": str(tmp_path)}
        command = [sys.executable, "-m", "llm", "-m", "memlora", "--key", "x", "-o", "max_tokens", "8"]
        command += ["-f", "memory:Which tea?", "Suggest a drink."]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0 and done.stdout.strip(), done.stderr
        wait_until(lambda: any("Suggest a drink." in text for text in messages_of(tiny_home, "me")))


def test_the_langchain_retriever_finds_documents(memory: Memory) -> None:
    module = example("langchain_memlora", "langchain_core")
    [found] = module.MemloraRetriever(memory=memory, user="me").invoke("Which tea?")
    assert found.page_content == "I like green tea" and found.metadata["said_at"].startswith("2026-03-01")


def test_the_llamaindex_retriever_finds_nodes(memory: Memory) -> None:
    module = example("llamaindex_memlora", "llama_index.core")
    [found] = module.MemloraRetriever(memory, "me").retrieve("Which tea?")
    assert found.node.get_content() == "I like green tea" and found.score is not None


def test_the_session_with_mcps_client_can_be_recorded_again(
    tiny_home: Path, varied_student: Path, tiny_embedder: Path, tmp_path: Path
) -> None:
    import asyncio

    module = example("record_mcp_session")
    text = asyncio.run(module.record(environment(tiny_home, varied_student, tiny_embedder)))
    for tool in ("add_memory", "search_memories", "ask_memory", "update_memory", "get_memory", "undo"):
        assert f"`{tool}`" in text
    assert "Maya drinks green tea" in text and "Traceback" not in text
