"""A made-up life to look at: for screenshots and tests, never for anything that is measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from memlora_mlx.records import Exchange, Hit, Message, Scope
from memlora_mlx.tui.talk import Turn

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

NOW = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)  # when the demo plays

# days before NOW, what was said, what was remembered
_LIFE: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (41, "I moved to Bergen in January, into a flat near the harbour.", ("Lives in Bergen, near the harbour",)),
    (41, "My cat Moss is nine and hates the vacuum cleaner.", ("Has a cat called Moss, nine years old",)),
    (33, "I started learning the cello. My teacher is called Ingrid.", ("Learns the cello with Ingrid",)),
    (33, "No coffee for me any more, the doctor said.", ("Drinks no coffee, on the doctor's advice",)),
    (26, "My sister Tuva is getting married on 20 June.", ("Tuva, the sister, marries on 20 June",)),
    (19, "I run the hill behind the house twice a week.", ("Runs the hill twice a week",)),
    (12, "I am allergic to hazelnuts, quite badly.", ("Is badly allergic to hazelnuts",)),
    (5, "The cello lesson moved from Monday to Thursday evening.", ("Cello lesson on Thursday evenings",)),
    (2, "We booked the boat to the islands for August.", ("Booked a boat to the islands for August",)),
)
_NEW_HOME = "Lives in Bergen, up on the hill"
_ASKED = "What should I bring to my sister's wedding, and what must the cake not have?"
_REPLIED = """\
Tuva's wedding is on **20 June**, so there is time:

- a present, and your **cello** if she wants music
- tell the baker: **no hazelnuts**, you are badly allergic

Someone will have to feed Moss while you are away.
"""
_TOLD = "Good idea. By the way, I moved again: same town, but up on the hill now."
_ANSWERED = "Then your running hill starts at the door. I will remember that you live up on the hill now."


def seed(workspace: Workspace) -> list[Turn]:
    """Fill the store with the life, and give the turns of a chat about it, as the Chat screen shows them."""
    from memlora_mlx.memory.changes import Add, Update

    store, embed = workspace.store, workspace.engine.embed
    owner = Scope(user_id=workspace.settings.user)
    ids: dict[str, str] = {}
    for position, (days, said, facts) in enumerate(_LIFE):
        moment = NOW - timedelta(days=days)
        store.clock = partial(_the_time, moment)
        messages = (
            Message("user", said, said_at=moment),
            Message("assistant", "I will remember that.", said_at=moment),
        )
        exchange = Exchange(f"demo-{position}", owner, messages, moment, "chat", position)
        adds = [Add(fact, vector, moment) for fact, vector in zip(facts, embed(facts), strict=True)]
        for change in store.commit(owner, adds, exchange=exchange) or []:
            ids[change.text or ""] = change.memory_id
    store.clock = partial(_the_time, NOW)
    asked = Turn(_ASKED, reply=_REPLIED, said_at=NOW - timedelta(minutes=3), memory="done")
    used = ("Tuva, the sister, marries on 20 June", "Is badly allergic to hazelnuts", "Learns the cello with Ingrid")
    found = [store.find(ids[text]) for text in used]
    asked.hits = tuple(Hit(memory, distance) for memory, distance in zip(found, (0.71, 0.88, 0.97), strict=True))

    told = Turn(_TOLD, reply=_ANSWERED, said_at=NOW, key="demo-told", memory="done")
    home = store.find(ids["Lives in Bergen, near the harbour"])
    told.hits = (Hit(home, 0.64), Hit(store.find(ids["Runs the hill twice a week"]), 0.93))
    messages = (Message("user", _TOLD, said_at=NOW), Message("assistant", _ANSWERED, said_at=NOW))
    exchange = Exchange(told.key, owner, messages, NOW, "chat", len(_LIFE))
    [vector] = embed([_NEW_HOME])
    applied = store.commit(owner, [Update(home.id, _NEW_HOME, vector, NOW)], exchange=exchange)

    from memlora_mlx.memory.pipeline import Remembered

    asked.remembered = Remembered(Exchange("demo-asked", owner, (), NOW, "chat", 0))
    told.remembered = Remembered(exchange, (_NEW_HOME,), tuple(applied or ()))
    return [asked, told]


def _the_time(moment: datetime) -> datetime:
    return moment
