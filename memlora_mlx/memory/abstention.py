"""Questions that are not answered, because the memories answer them for somebody else.

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

# How much nearer (in cosine) the best memory of somebody else must be. Chosen on LoCoMo's train conversations and conv-26;
# docs/evaluation.md has the figures.
MARGIN = 0.08


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


def _best_cosine(store: Store, vector: Vector, owner: Scope) -> float:
    found = store.search(vector, 1, scope=owner, owner_exact=True)
    return found[0].score if found else -1.0


def _name_pattern(name: str) -> re.Pattern[str]:
    """A name as a whole word, with the ending of a possessive."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?:['’]s)?(?!\w)", re.IGNORECASE)
