"""Two versions of a text as one, with what went and what came, by words."""

from __future__ import annotations

import difflib
import re

from textual.content import Content

from memlora_mlx.text import printable_line

_WORDS = re.compile(r"\s+|[^\s]+")


def text_diff(old: str, new: str) -> Content:
    """The new text with the words that were taken out struck through as [-…-], and those that were put in as {+…+}.

    The signs stand there beside the colours, so that the text says the same without them. Texts that have little in common
    are shown one below the other.
    """
    before, after = _WORDS.findall(printable_line(old)), _WORDS.findall(printable_line(new))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    if matcher.ratio() < 0.4:
        return Content.assemble(
            ("- ", "$text-error"),
            ("".join(before), "$text-error"),
            "\n",
            ("+ ", "$text-success"),
            ("".join(after), "$text-success"),
        )
    parts: list[str | tuple[str, str]] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            parts.append("".join(before[a:b]))
            continue
        if a < b:
            parts.append((f"[-{''.join(before[a:b])}-]", "$text-error"))
        if c < d:
            parts.append((f"{{+{''.join(after[c:d])}+}}", "$text-success"))
    return Content.assemble(*parts)


def revision_text(old: str | None, new: str | None) -> Content:
    """What a change did to a text, on as many lines as it needs."""
    if old and new:
        return (
            Content("same text; a pin or metadata changed: " + printable_line(new))
            if old == new
            else text_diff(old, new)
        )
    if new:
        return Content.assemble(("+ ", "$text-success"), (printable_line(new), "$text-success"))
    return Content.assemble(("- ", "$text-error"), (printable_line(old or ""), "$text-error"))
