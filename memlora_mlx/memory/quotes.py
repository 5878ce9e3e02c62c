"""What a message says itself, and what it quotes."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^\s*(?:```|~~~)")
_QUOTED_LINE = re.compile(r"^\s*(?:>|&gt;)")
_TAGS = re.compile(
    r"<(blockquote|q|document|search_result|tool_result|webpage)\b[^>]*>.*?</\1>", re.IGNORECASE | re.DOTALL
)


def split_quotes(text: str) -> tuple[str, str]:
    """What a message says itself, and what it quotes: lines that begin with ">", fenced blocks, and marked pages."""
    quoted = [found[0] for found in _TAGS.finditer(text)]
    own: list[str] = []
    is_fenced = False
    for line in _TAGS.sub("\n", text).splitlines():
        if _FENCE.match(line):
            is_fenced = not is_fenced
        elif is_fenced or _QUOTED_LINE.match(line):
            quoted.append(line.lstrip(" >"))
        else:
            own.append(line)
    return "\n".join(own), "\n".join(quoted)
