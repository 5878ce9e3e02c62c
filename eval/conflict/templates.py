"""The dialogues of the conflict benchmark: hand-written templates, filled by a seed, with the memory each should leave.

One file a class lies in `dialogues`. A template has a `talk` of lines that take turns (a reply begins with `> `),
slots to `fill` (two slots of one line get different values), and patterns in words:

    keep    `the expected memory = pattern`: a required fact, said by exactly one memory
    stale   was true once; a memory may still name it where it says that it is over
    gone    was asked to be deleted; no memory may name it at all
    never   was never true of the owner, or is text that gives orders
    allow   need not be kept, and may be

A pattern is terms between `&` that must all occur in one memory, alternatives between `|`; `!` before a term: none of its
alternatives may occur; `*` behind a word: any ending. Words match whole, in any case, in singular or plural, and a
number as a word or in digits. So neither the wording of a memory nor an encoder decides.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

from memlora_mlx.records import Exchange, Message, Scope

VERSION = 1  # of templates, filling and scoring: another one gives figures that are not comparable
CLASSES = (
    "wordings",
    "flip",
    "cancelled",
    "refined",
    "namesakes",
    "others",
    "small-talk",
    "question",
    "corrected",
    "deletion",
    "injection",
)
_NAMES = "Ingrid Bruno Sigrid Oswald Livia Anton Marta Cedric Judith Hakan Rosa Piet Agnes Milo Dagmar Teun"
_BEGIN = datetime(2025, 3, 3, 18, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Required:
    """A fact that one memory has to say."""

    text: str  # how a perfect memory would put it
    pattern: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation of an owner, and what should be remembered after it."""

    id: str  # "flip/seat"
    kind: str  # one of CLASSES
    owner: str | None  # None: the owner talks to an assistant, and neither has a name
    other: str | None
    turns: tuple[str, ...]  # the owner's and the reply to it, by turns
    keep: tuple[Required, ...]
    stale: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    attack: int | None = None  # the exchange, from 0, whose text gives the memory orders

    def exchanges(self, prefix: str) -> list[Exchange]:
        """Two turns each, three days apart, for an owner that no other dialogue has."""
        scope = Scope(user_id=f"{prefix}/{self.id}")
        made = []
        for position, (said, reply) in enumerate(zip(self.turns[::2], self.turns[1::2], strict=True)):
            said_at = _BEGIN + timedelta(days=3 * position)
            messages = (Message("user", said, self.owner, said_at), Message("assistant", reply, self.other, said_at))
            made.append(Exchange(f"{prefix}/{self.id}/{position}", scope, messages, said_at, self.id, position))
        return made


def generate(seed: int = 0, limit: int | None = None, kinds: Sequence[str] = CLASSES) -> list[Dialogue]:
    """The dialogues of a seed: every template once, or the first so many of these classes, which are filled the same."""
    return [
        _filled(f"{kind}/{name}", kind, template, _class(kind).get("never", ""), seed)
        for kind in kinds
        for name, template in list(_class(kind)["dialogues"].items())[:limit]
    ]


def titles() -> dict[str, str]:
    """What each class is about, in words."""
    return {kind: str(_class(kind)["title"]) for kind in CLASSES}


def set_hash(dialogues: Sequence[Dialogue]) -> str:
    """Of the words and of what is expected: 16 hexadecimal digits."""
    text = json.dumps([asdict(dialogue) for dialogue in dialogues], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _class(kind: str) -> Mapping[str, Any]:
    import yaml

    text = (files("memlora_mlx.eval.conflict") / "dialogues" / f"{kind}.yaml").read_text(encoding="utf-8")
    read: Mapping[str, Any] = yaml.safe_load(text)
    return read


def _filled(name: str, kind: str, template: Mapping[str, Any], never: str, seed: int) -> Dialogue:
    random = Random(f"{VERSION}/{seed}/{name}")
    owner, other = random.sample(_NAMES.split(), 2) if template.get("friend") else (None, None)
    slots = {"A": owner or "User"} | ({"B": other} if other else {})
    for names, values in template.get("fill", {}).items():
        pool = [value.strip() for value in str(values).split(",")]
        slots |= dict(zip(names.split(), random.sample(pool, len(names.split())), strict=True))

    def patterns(block: str) -> tuple[str, ...]:
        return tuple(_put(line, bare) for line in block.splitlines() if line.strip())

    bare = {slot: re.sub(r"^(a|an|the) ", "", value) for slot, value in slots.items()}
    lines = [line.strip() for line in template["talk"].splitlines()]
    keep = [line.rpartition(" = ") for line in template["keep"].splitlines()]
    return Dialogue(
        name,
        kind,
        owner,
        other,
        tuple(_sentence(line.removeprefix("> "), slots) for line in lines),
        tuple(Required(_sentence(text, slots), _put(pattern, bare)) for text, _, pattern in keep),
        stale=patterns(template.get("stale", "")),
        gone=patterns(template.get("gone", "")),
        never=patterns(never) + patterns(template.get("never", "")),
        allow=patterns(template.get("allow", "")),
        attack=template.get("attack"),
    )


def _put(template: str, slots: Mapping[str, str]) -> str:
    """The template with its slots filled. Other braces are text: some dialogues hold JSON.

    Raises:
        KeyError: a slot has no value.
    """
    return re.sub(r"\{(\w+)\}", lambda slot: slots[slot[1]], template)


def _sentence(template: str, slots: Mapping[str, str]) -> str:
    text = _put(template, slots)
    return text[0].upper() + text[1:] if template.startswith("{") else text


# ------------------------------------------------------------------------------------------------ patterns

_COUNTED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_NUMBERS = {word: str(number) for number, word in enumerate(_COUNTED.split())}
_NUMBER = re.compile(rf"(?<!\w)({'|'.join(_NUMBERS)})(?!\w)")

# What a memory says of something that is over. It is looked for in the whole memory: whether it belongs to the stale words
# is not understood, and a memory that names both is taken to be right.
NEGATION_PATTERN = (
    "no longer|not|n't|no more|any more|anymore|stopp*|quit|gave up|given up|used to|instead|rather than|previously|"
    "former*|cancel*|called off|is off|replac*|switch*|took back|withdr*|against|until"
)


def matches(pattern: str, memory: str) -> bool:
    """Whether one memory says what the pattern asks for."""
    text = normalise_text(memory)
    for term in pattern.split("&"):
        term = term.strip()
        if bool(_term(term.removeprefix("!")).search(text)) == term.startswith("!"):
            return False
    return True


def is_negated(memory: str) -> bool:
    return matches(NEGATION_PATTERN, memory)


def normalise_text(text: str) -> str:
    """A text for comparison: one case, straight apostrophes, single blanks, small numbers in digits."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return _NUMBER.sub(lambda word: _NUMBERS[word[1]], " ".join(folded.split()))


@cache
def _term(alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(_alternatives(alternatives)))


def _alternatives(term: str) -> Iterator[str]:
    for words in term.split("|"):
        word = normalise_text(words)
        begin = "" if word.startswith("n'") else r"(?<!\w)"
        if word.endswith("*"):
            yield begin + re.escape(word[:-1])
        else:
            yield begin + re.escape(word.removesuffix("s")) + r"(?:e?s)?(?!\w)"
