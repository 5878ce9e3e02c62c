"""What a student without experts is shown before a prompt: short rules, and a few examples as turns of the same chat.

The stages' own prompts are short because they were made for trained experts. A student that follows instructions but was
not trained for them gets these turns first, and then the same prompt, so that grammars and parsers are the same too. The
turns are the same for every exchange: they are read once, and what was read is used again for the next prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memlora_mlx.memory.stages.extraction import extraction_answer, extraction_chat
from memlora_mlx.memory.stages.update import UpdateEntry, update_answer, update_chat
from memlora_mlx.records import ChatMessages, Exchange, Message, Role, Scope, Stage

_EXTRACTION_RULES = """\
You take notes about one person: the one who speaks in the lines that begin with "user:".
- Note what that person says about their own life: who they are, what they have, like, do, did or plan, and people they know.
- Write each fact as a short sentence with names ("Nora's brother Paul lives in Lyon"), and keep places, numbers and dates.
- The lines that begin with "assistant:" are of somebody else. They give no facts.
- Questions, greetings, thanks and compliments are no facts. If there is nothing to note, the list is empty.

"""
_UPDATE_RULES = """\
You keep notes about one person. A new fact comes in. Decide what it does to the old memories:
- It tells something new: ADD it.
- It says that something in an old memory has changed, or adds a detail to it: UPDATE that memory.
- It says that something in an old memory is over, and puts nothing in its place: DELETE that memory.
- An old memory says the same already: the list is empty.
Memories about other matters stay as they are.

"""


def zero_shot_chat(stage: Stage, chat: ChatMessages) -> ChatMessages:
    """A stage's prompt after the rules and examples for it; other stages' prompts as they are."""
    return (*_SHOWN[stage], *chat) if stage in _SHOWN else chat


def _exchange(owner: str | None, said: str, other: str | None, reply: str) -> Exchange:
    messages = (Message("user", said, owner), Message("assistant", reply, other))
    return Exchange("", Scope(user_id=""), messages, None, "", 0)


_EXTRACTION_EXAMPLES: Sequence[tuple[Exchange, Sequence[str]]] = (
    (
        _exchange(
            "Nora",
            "Hi Ben! Guess what, my brother Paul moved to Lyon last week. I start my new job as a nurse on Monday.",
            "Ben",
            "Wow, congratulations! I'm learning to bake bread.",
        ),
        ("Nora's brother Paul moved to Lyon last week", "Nora starts a new job as a nurse on Monday"),
    ),
    (_exchange("Ben", "That sounds great, thanks! How was it?", "Nora", "I loved it, the sea was so warm."), ()),
    (
        _exchange(
            None,
            "We have two cats, Plum and Fig, and I'm allergic to nuts. Can you suggest a cake?",
            None,
            "How about a lemon cake? It needs no nuts.",
        ),
        ("User has two cats, Plum and Fig", "User is allergic to nuts"),
    ),
)
_UPDATE_EXAMPLES: Sequence[tuple[Sequence[str], str, UpdateEntry | None]] = (
    (
        ("Nora plays tennis", "Nora lives in Bonn"),
        "Nora moved to Lyon",
        UpdateEntry("1", "UPDATE", "Nora moved to Lyon"),
    ),
    (
        ("Nora lives in Lyon", "Nora has a dog"),
        "Nora bought a red bicycle",
        UpdateEntry("", "ADD", "Nora bought a red bicycle"),
    ),
    (
        ("Nora's brother is called Paul", "Nora plays tennis on Fridays"),
        "Nora does not play tennis any more",
        UpdateEntry("1", "DELETE", ""),
    ),
    (("Nora is a nurse", "Nora likes green tea"), "Nora works as a nurse", None),
)


def _extraction_turns() -> ChatMessages:
    turns: list[tuple[Role, str]] = []
    for exchange, facts in _EXTRACTION_EXAMPLES:
        turns += [*extraction_chat(exchange), ("assistant", extraction_answer(facts))]
    return _with_rules(_EXTRACTION_RULES, turns)


def _update_turns() -> ChatMessages:
    turns: list[tuple[Role, str]] = []
    for old, fact, entry in _UPDATE_EXAMPLES:
        answer = update_answer([entry] if entry else [], old, [fact])
        turns += [*update_chat(old, [fact]), ("assistant", answer)]
    return _with_rules(_UPDATE_RULES, turns)


def _with_rules(rules: str, turns: Sequence[tuple[Role, str]]) -> ChatMessages:
    """The turns with the rules before the first one: some families' templates know no system turn."""
    (role, text), *rest = turns
    return ((role, rules + text), *rest)


_SHOWN: Mapping[Stage, ChatMessages] = {"extraction": _extraction_turns(), "update": _update_turns()}
