"""Whether a sentence looks back or ahead: "on Friday" is another day in "we met" than in "we will meet"."""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

from memlora_mlx.temporal.words import Token, words

Way = Literal["past", "future"]

ENDS = frozenset(".!?;\n")
_PAST = words(
    "was were wasn't weren't did didn't had hadn't went came saw got met took made gave found bought"
    " brought thought ate drank ran swam sang wrote read spoke told said left lost won began broke built"
    " caught chose drew drove fell felt flew forgot grew heard held kept knew led let lent lay paid rode"
    " rose sent shot slept sold spent stood swept taught threw understood woke wore sat bit hurt quit hit"
    " put cut ago became bent bled blew dealt dug fed fought hid hung laid lit meant rang shook sank stole"
    " stuck swore tore wept wound born used sprained past last back"
)
_NOT_PAST = words(
    "need indeed speed feed seed weed breed bleed proceed exceed succeed excited interested bored tired"
    " scared worried red bed shed sled wed hundred sacred naked embed thrilled stoked pumped supposed"
    " booked scheduled"
)
_FUTURE = words(
    "will won't gonna shall should let's planning plan plans hope hoping tomorrow upcoming ready due"
    " starts begins ends leaves opens arrives departs closes leave start begin arrive launches comes free booked scheduled wanna"
    " must intend intending expect expecting can want wait hopefully soon next"
)
_BE = words("am are is i'm you're we're they're he's she's it's isn't aren't that's who's")
_PLACES = words("on in off at back")
_BETWEEN = words("not so really also still just all both probably actually you i we they")


class Tenses:
    """Where a text's words look back or ahead, sentence by sentence."""

    def __init__(self, tokens: list[Token]) -> None:
        self._cues: list[int] = []
        self._ways: list[Way] = []
        self._breaks = [at for at, token in enumerate(tokens) if token.raw in ENDS and not _abbreviates(tokens, at)]
        for at, token in enumerate(tokens):
            way = _way(tokens, at, token)
            if way is not None:
                self._cues.append(at)
                self._ways.append(way)

    def way(self, at: int) -> Way | None:
        """What the nearest cue in the same sentence says."""
        right = bisect_left(self._cues, at)
        border = bisect_left(self._breaks, at)
        first = self._breaks[border - 1] if border else -1
        last = self._breaks[border] if border < len(self._breaks) else 1 << 60
        near = [i for i in (right - 1, right) if 0 <= i < len(self._cues) and first < self._cues[i] < last]
        return self._ways[min(near, key=lambda i: abs(self._cues[i] - at))] if near else None


def _abbreviates(tokens: list[Token], at: int) -> bool:
    """A full stop inside "Sept. 1st": the next word follows in lower case or is a number."""
    if tokens[at].raw != "." or at + 1 == len(tokens):
        return False
    return not tokens[at + 1].capital


def _way(tokens: list[Token], at: int, token: Token) -> Way | None:
    word = token.raw
    if word in _FUTURE or word.endswith("'ll"):
        return "future"
    if word in _BE or (word.endswith("'s") and len(word) > 3):
        ahead = at + 1
        while ahead < min(at + 3, len(tokens)) and tokens[ahead].raw in _BETWEEN:
            ahead += 1
        verb = tokens[ahead].raw if ahead < len(tokens) else ""
        if verb in _PLACES and word not in ("he's", "she's", "it's"):
            return "future"  # "the show is on Sept 17th"
        return "future" if verb.endswith("ing") and len(verb) > 4 and verb not in ("being", "having") else None
    if word == "had" and at and (tokens[at - 1].raw in ("have", "has") or tokens[at - 1].raw.endswith("'ve")):
        return None
    if word in _PAST or (word.endswith("ed") and len(word) > 3 and word not in _NOT_PAST):
        return "past"
    return None
