"""Claude's memory tool with memlora behind it.

pip install anthropic 'memlora-mlx[serve]'; set ANTHROPIC_API_KEY; python claude_memory.py "What do you know about me?"
"""

from __future__ import annotations

import sys
from typing import Any

from memlora_mlx import Memory
from memlora_mlx.serve.claude_memory_tool import ClaudeMemoryTool

TOOL = {"type": "memory_20250818", "name": "memory"}


def tool_results(content: list[dict[str, Any]], tool: ClaudeMemoryTool) -> list[dict[str, Any]]:
    """The answers to the memory commands among the blocks of Claude's message."""
    results = []
    for block in content:
        if block["type"] == "tool_use" and block["name"] == "memory":
            text, is_error = tool.call(block["input"])
            results.append({"type": "tool_result", "tool_use_id": block["id"], "content": text, "is_error": is_error})
    return results


def ask(question: str, memory: Memory, user: str, model: str = "claude-sonnet-4-5") -> str:
    """Ask Claude, which reads and writes its files in memlora until it has an answer."""
    import anthropic

    client, tool = anthropic.Anthropic(), ClaudeMemoryTool(memory, user)
    messages: list[Any] = [{"role": "user", "content": question}]
    while True:
        answer = client.beta.messages.create(
            model=model, max_tokens=2048, messages=messages, tools=[TOOL], betas=["context-management-2025-06-27"]
        )
        content = answer.model_dump()["content"]
        results = tool_results(content, tool)
        if not results:
            return "".join(block["text"] for block in content if block["type"] == "text")
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]


if __name__ == "__main__":
    with Memory() as opened:
        print(ask(sys.argv[1], opened, opened.workspace.settings.user))
