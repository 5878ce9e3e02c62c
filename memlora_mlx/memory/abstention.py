"""Questions that are not answered: the memories answer them for somebody else, or say nothing about them.

"When did Ann adopt a cat?", where only Bob did, is a question whose best evidence is about another person. A small student
answers it with Bob's cat. Whose memories fit the question better can be told without a student: the question is compared,
without the name in it, with the memories of each person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from memlora_mlx.memory.changes import EmbedFunction, Vector
from memlora_mlx.memory.evidence import owner_name
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Hit, Scope

NOT_MENTIONED = "Not mentioned"  # the answer where there is nothing to answer from
# How much nearer (in cosine) the best memory of somebody else must be. Chosen on LoCoMo's train conversations and conv-26:
# see docs/decisions/0028-answers-from-few-lines-and-their-words.md.
MARGIN = 0.055
_ASKER = re.compile(r"\b(?:I|me|my|mine|myself|we|us|our|ours)\b", re.IGNORECASE)


def is_about_somebody_else(question: str, hits: Sequence[Hit], store: Store, embed: EmbedFunction) -> bool:
    """Whether a question names one of several people, and the memories of another one fit it clearly better.

    Args:
        hits: what was found for the question; their owners are the people.
    """
    people = {name: owner for owner in {hit.owner for hit in hits} if (name := owner_name(owner))}
    named = [name for name in people if _name_pattern(name).search(question)]
    if len(people) < 2 or len(named) != 1:
        return False
    bare = " ".join(_name_pattern(named[0]).sub(" ", question).split())
    if not re.search(r"\w", bare):
        return False
    [vector] = embed([bare])
    best = {name: _best_cosine(store, vector, owner) for name, owner in people.items()}
    asked = best.pop(named[0])
    return max(best.values()) - asked > MARGIN


def fits_nothing(question: str, hits: Sequence[Hit], store: Store, embed: EmbedFunction, least: float) -> bool:
    """Whether no memory and no message that was found is about the question at all, as in "What is the capital of France?".

    A question about its asker or a person of the memories is never so: "Where does Maya live?" is not near "User moved to
    Lisbon" (a cosine of 0.13 with all-minilm-l6-v2), which answers it.

    Args:
        least: the cosine with the question that one of them must have. It belongs to the embedder: see catalog.toml.
    """
    people = {hit.message.speaker for hit in hits if hit.message} | {owner_name(hit.owner) for hit in hits}
    if _ASKER.search(question) or any(_name_pattern(name).search(question) for name in people if name):
        return False
    [vector] = embed([question])
    if any(_best_cosine(store, vector, owner) >= least for owner in {hit.owner for hit in hits}):
        return False
    said = [hit.message.text for hit in hits if hit.message is not None]
    return not said or float((embed(said) @ vector).max()) < least


def _best_cosine(store: Store, vector: Vector, owner: Scope) -> float:
    found = store.search(vector, 1, scope=owner, owner_exact=True)
    return found[0].score if found else -1.0


def _name_pattern(name: str) -> re.Pattern[str]:
    """A name as a whole word, with the ending of a possessive."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?:['’]s)?(?!\w)", re.IGNORECASE)
