"""What the grammars of all stages share."""

from __future__ import annotations

import json
import re

from memlora_mlx.memory.stages.text import MAX_TEXT

# A JSON string of one line that begins with something to read; the only escapes are of quotes and backslashes.
TEXT_RULE = (
    r'TEXT: /"([\p{L}\p{N}\p{S}¿¡(\[#@%&*\'-]|\\")([^"\\\x00-\x1f\x7f-\x9f]|\\["\\]){0,' + str(MAX_TEXT - 1) + r'}"/'
)


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def literal(text: str) -> str:
    """A text as a literal of the grammar language, whose escapes are JSON's; it takes no bare control character."""
    return re.sub(r"[\x7f-\x9f]", lambda c: f"\\u{ord(c[0]):04x}", json.dumps(text, ensure_ascii=False))
