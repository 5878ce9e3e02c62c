"""Tell whether any text holds words that are erased, in whatever form they were written down."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator

from memlora_mlx.memory.retrieval.lexical import sentences
from memlora_mlx.text import well_formed

LEAST_WORDS = 3  # of a sentence that is looked for wherever it stands: "Yes, please." belongs to everybody
_ESCAPES = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|([0-7]{3})|[nrtbf])")
_WORDS = re.compile(r"\w+")
# Scripts without blanks between words: a sentence of them is looked for inside longer runs.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def bare_words(text: str) -> str:
    """A text as its words alone, in lower case, with one blank between two of them.

    JSON inside JSON, HTML, Markdown and the history files of terminals all give the same words as the text itself.
    """
    if "\\" in text:
        text = well_formed(_ESCAPES.sub(_unescaped, text))
    if "&" in text:
        text = html.unescape(text)
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] and int(match[1], 16) or match[2] and int(match[2], 8)
    return chr(code) if code else " "


class ErasedTexts:
    """A set of texts to look for.

    Args:
        texts: found sentence by sentence; what has fewer than `LEAST_WORDS` words is not looked for.
        part: found wherever it stands, also within a word.
        names: single words without a blank, such as the keys of exchanges.
    """

    def __init__(self, texts: Iterable[str] = (), part: str | None = None, names: Iterable[str] = ()) -> None:
        self.part = bare_words(part) if part else ""
        self._inside: list[str] = [self.part] if self.part else []
        self._names = {bare_words(name) for name in names}
        self._sentences: dict[tuple[str, ...], list[list[str]]] = {}
        for sentence in {bare_words(one) for text in texts for one in (text, *sentences(text))}:
            words = sentence.split()
            if _UNSPACED.search(sentence) and len(sentence) >= 2 * LEAST_WORDS:
                self._inside.append(sentence)
            elif len(words) >= LEAST_WORDS:
                self._sentences.setdefault(tuple(words[:LEAST_WORDS]), []).append(words)

    def __bool__(self) -> bool:
        return bool(self._inside or self._sentences or self._names)

    def found_in(self, text: str | None) -> bool:
        """Whether one of the texts stands in this one."""
        if not text:
            return False
        bare = bare_words(text)
        if any(part in bare for part in self._inside):
            return True
        if not (self._sentences or self._names):
            return False
        words = bare.split(" ")
        if not self._names.isdisjoint(words):
            return True
        return any(True for _ in self._matches(words))

    def _matches(self, words: list[str]) -> Iterator[list[str]]:
        for at in range(len(words) - LEAST_WORDS + 1):
            for sentence in self._sentences.get(tuple(words[at : at + LEAST_WORDS]), ()):
                if words[at : at + len(sentence)] == sentence:
                    yield sentence

    def cut_from(self, text: str) -> str:
        """A text without the sentences that one of these stands in; empty where it cannot be cut out of one sentence."""
        kept = " ".join(sentence for sentence in sentences(text) if not self.found_in(sentence))
        return "" if self.found_in(kept) else kept
