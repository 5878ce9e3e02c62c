"""Whether a memory has to do with what a question asks about, so that it may be said as the answer.

"What is my cat called?" is near "User had a dog called Rex" (a cosine of 0.53 with all-minilm-l6-v2), which answers another
question. So every word that the question is about must stand in the memory, or be near it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from memlora_mlx.memory.answer_words import FUNCTION_WORDS, TIME_WORDS
from memlora_mlx.memory.changes import EmbedFunction
from memlora_mlx.memory.grounding import occurs
from memlora_mlx.memory.retrieval.lexical import content_words
from memlora_mlx.temporal.words import words

# A word of the question is near a memory from here on: its cosine with the memory and the one with the memory's nearest word,
# together, in the embedder's `least_cosine`. Chosen on 60 questions, tried on 56 others: see docs/chat.md.
LEAST_NEARNESS = 2.0
CONTRADICTED = -1.0  # the nearness of a memory that names another relative or animal than the question
_ENGLISH = re.compile(
    r"(?<!\w)(?:what|who|whom|whose|where|when|which|why|how|my|the|does|did|(?:do|am|have|can|could|would|should|will) I)(?!\w)",
    re.IGNORECASE,
)
_KIND = re.compile(r"(?<!\w)(?:what|which)\s+([^\W\d_]+)", re.IGNORECASE)
KIND_SHARE = 4 / 3  # "Which town did I move to?": "town" is what the answer is, and needs to be less near than "move"
_WORD = re.compile(r"[^\W\d_]{2,}|\d+")
# Words of questions that say little of what is asked about.
_GENERAL = (
    FUNCTION_WORDS
    | TIME_WORDS
    | words(
        "called call name named names favourite favorite best good old long far often type sort kind thing things lot"
        " make makes made take takes use uses go goes went going come came see want wants need must should keep living alive"
        " know knows remember tell told say said talk think thing find show list give mention mentioned user please"
        " own owns love loves like likes prefer enjoy happen happened"
    )
)
# Within a line, one word is not another: who asks for a sister is not told of a brother. "/" joins words for the same.
_DISTINCT = """
mother/mum/mom/mummy father/dad/daddy sister brother daughter son husband wife aunt uncle cousin niece nephew \
grandmother/grandma/granny grandfather/grandpa boss colleague neighbour/neighbor friend girlfriend boyfriend dentist doctor
cat/cats/kitten dog/dogs/puppy horse/pony bird/parrot rabbit hamster fish tortoise/turtle snake cow goat sheep
colour/color film/movie book/novel song band dish/food/meal game sport team drink flower animal/pet actor/actress city country
car bike/bicycle motorbike/motorcycle boat phone laptop/computer
"""
_KINDS = [
    [frozenset[str]().union(*(content_words(word) for word in same.split("/"))) for same in line.split()]
    for line in _DISTINCT.replace("\\\n", "").strip().splitlines()
]

# Words of one question: who asks where somebody lives is answered by a move. Within a line each stands for the others.
_SAME = [
    content_words(line)
    for line in (
        "live lives living home reside resides based move moves moved moving relocated settled",
        "work works working job profession occupation employed career",
        "child children kid kids",
    )
]


def asked_words(question: str, names: Iterable[str] = ()) -> list[str]:
    """The words that say what an English question is about, without the names of those who speak; none of another language."""
    if not _ENGLISH.search(question):
        return []
    own = {word for name in names for word in _words(name)}
    return [word for word in dict.fromkeys(_words(question)) if word not in _GENERAL and word not in own]


def asked_kind(question: str) -> str | None:
    """The word that says what kind of thing is asked for: "town" in "Which town did I move to?"."""
    found = _KIND.search(question)
    return found[1].casefold() if found else None


def nearness(asked: Sequence[str], texts: Sequence[str], embed: EmbedFunction, kind: str | None = None) -> list[float]:
    """How near each text is to what is asked about, by the word that is farthest from it.

    Args:
        asked: the `asked_words` of the question. Without any, every text is as near as can be.
        kind: its `asked_kind`, which counts for more beside other words.

    Returns sums of two cosines; infinity where the text has all words, and `CONTRADICTED` where it speaks of another one.
    """
    stems = {word: _with_same(content_words(word)) for word in asked}
    said = [content_words(text) for text in texts]
    missing = [[word for word in asked if not _stands_in(stems[word], spoken)] for spoken in said]
    result = [_contradiction(content_words(" ".join(asked)), spoken) if asked else math.inf for spoken in said]
    measured = [at for at, words_ in enumerate(missing) if words_ and result[at] != CONTRADICTED]
    if not measured:
        return result
    parts = {
        at: list(dict.fromkeys(word for word in _words(texts[at]) if word not in FUNCTION_WORDS)) for at in measured
    }
    wanted = dict.fromkeys([*asked, *(word for at in measured for word in parts[at]), *(texts[at] for at in measured)])
    vectors = dict(zip(wanted, embed(list(wanted)), strict=True))

    def near(word: str, at: int) -> float:
        nearest = max((float(vectors[word] @ vectors[part]) for part in parts[at]), default=0.0)
        share = KIND_SHARE if word == kind and len(asked) > 1 else 1.0
        return share * (float(vectors[word] @ vectors[texts[at]]) + nearest)

    for at in measured:
        result[at] = min(near(word, at) for word in missing[at])
    return result


def _words(text: str) -> list[str]:
    return [found.casefold() for found in _WORD.findall(text)]


def _with_same(stems: frozenset[str]) -> frozenset[str]:
    """The stems of a word, and those that stand for it."""
    return stems.union(*(same for same in _SAME if stems and stems <= same))


def _stands_in(stems: frozenset[str], spoken: frozenset[str]) -> bool:
    """Whether a word, given by its stems, is among others. A word without stems, as a stop word, always is."""
    return not stems or any(occurs(stem, spoken) for stem in stems)


def _contradiction(asked: frozenset[str], spoken: frozenset[str]) -> float:
    """`CONTRADICTED` where the question names one of a kind that the text lacks, and the text another one; else infinity."""
    for kind in _KINDS:
        wanted = [same for same in kind if asked & same]
        if any(not spoken & same for same in wanted) and any(spoken & same for same in kind if same not in wanted):
            return CONTRADICTED
    return math.inf
