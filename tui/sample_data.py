"""Sample data for screenshots and tests. It is never used in a measurement."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.records import Exchange, Hit, Message, Scope
from memlora_mlx.tui.chat_controller import ChatTurn

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

NOW = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)  # the date of the sample data

# days before NOW, the message, the memories from it
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

TALK = """\
8 March 2026
Tuva: I found a dress for the wedding, a green one.
Nils: Lovely! I still need a suit.
Tuva: The party is in the old boat house.
Nils: I will bring my accordion.
"""


def seed(workspace: Workspace) -> list[ChatTurn]:
    """Fill the store with the sample memories and return the turns of a chat about them."""
    from memlora_mlx.memory.changes import Add, Update
    from memlora_mlx.memory.store.lookup import find_by_prefix

    store, embed = workspace.store, workspace.memory_engine.embed
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
    asked = ChatTurn(_ASKED, reply=_REPLIED, said_at=NOW - timedelta(minutes=3), memory="done")
    used = ("Tuva, the sister, marries on 20 June", "Is badly allergic to hazelnuts", "Learns the cello with Ingrid")
    found = [find_by_prefix(store, ids[text]) for text in used]
    asked.hits = tuple(Hit(memory, None, score) for memory, score in zip(found, (0.71, 0.58, 0.37), strict=True))

    told = ChatTurn(_TOLD, reply=_ANSWERED, said_at=NOW, key="demo-told", memory="done")
    home = find_by_prefix(store, ids["Lives in Bergen, near the harbour"])
    told.hits = (Hit(home, None, 0.64), Hit(find_by_prefix(store, ids["Runs the hill twice a week"]), None, 0.33))
    messages = (Message("user", _TOLD, said_at=NOW), Message("assistant", _ANSWERED, said_at=NOW))
    exchange = Exchange(told.key, owner, messages, NOW, "chat", len(_LIFE))
    [vector] = embed([_NEW_HOME])
    applied = store.commit(owner, [Update(home.id, _NEW_HOME, vector, NOW)], exchange=exchange)

    from memlora_mlx.memory.results import ExchangeResult

    asked.remembered = ExchangeResult(Exchange("demo-asked", owner, (), NOW, "chat", 0))
    told.remembered = ExchangeResult(exchange, (_NEW_HOME,), tuple(applied or ()))
    return [asked, told]


def _the_time(moment: datetime) -> datetime:
    return moment


def made_up_training(home: Path) -> Path:
    """Write a training run that stopped early after its best step. Returns its folder."""
    from memlora_mlx.distill.recipes import read_recipe
    from memlora_mlx.distill.training_runs import TrainingConfig, config_to_json

    folder = home / "runs" / "update-2026-03-14-1"
    folder.mkdir(parents=True)
    order = TrainingConfig("update", "smollm2-135m", ("made-up.jsonl",), read_recipe("update"))
    (folder / "run.json").write_text(json.dumps(config_to_json(order)), encoding="utf-8")
    points: list[dict[str, float]] = []
    for step in range(0, 201, 5):
        point = {"step": step, "steps": 400, "epoch": step / 100, "seconds": 2.0 * step}
        wobble = 0.03 * ((step * 7) % 5 - 2)
        points.append({**point, "train_loss": 0.25 + 1.5 / (1 + step / 25) + wobble})
        if step % 20 == 0:
            points.append({**point, "validation_loss": 0.4 + 1.3 / (1 + step / 30) + max(0, step - 120) / 500})
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, points)) + "\n", encoding="utf-8")
    (folder / "expert").mkdir()
    card = {"memlora": {"metrics": {"ended": "early stop"}}}
    (folder / "expert" / "adapter_config.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def made_up_report(folder: Path, questions: int = 24) -> Path:
    """A benchmark's report whose every figure is made up, and which says so. Returns its file."""
    from memlora_mlx.eval.results import BenchRun, QuestionResult, write_run

    names = ("rouge_1", "meteor", "bert_score", "sentence_bert", "token_f1")
    lost = ("not extracted", "not retrieved", "answered wrongly", "answered wrongly")
    asked = []
    for height, system in ((0.62, "memlora"), (0.55, "full-context"), (0.41, "rag"), (0.28, "base")):
        for number in range(questions):
            share = min(1.0, max(0.0, height + 0.09 * ((number * 5) % 7 - 3)))
            is_right = share > 0.6
            asked.append(
                QuestionResult(
                    system, "made-up", f"made-up/{number}", number % 4 + 1, "Where does Tuva marry?", "Bergen", ("D1:1",),
                    "Bergen" if is_right else "Oslo",
                    recall=1.0 if share > 0.4 else 0.0,
                    lost=None if is_right else lost[number % 4],  # type: ignore[arg-type]
                    scores={**dict.fromkeys(names, share), "exact": float(is_right), "abstained": 0.0},
                )
            )  # fmt: skip
    systems = ["memlora", "full-context", "rag", "base"]
    origin = {"student": "made-up", "data": {"file": "made-up.json"}, "systems": systems, "environment": {}}
    return write_run(BenchRun(origin, tuple(asked)), folder)
