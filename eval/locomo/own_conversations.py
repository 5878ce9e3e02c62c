"""Questions about the user's own conversations, made from what was said, and asked of the memories as they are.

Everything happens on a copy in a temporary folder that is removed afterwards: the user's store is only read.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from memlora_mlx.errors import UsageError
from memlora_mlx.eval.cases import BenchmarkCase, Question
from memlora_mlx.eval.systems.cache import content_key
from memlora_mlx.eval.systems.cached_engine import CachedEngine
from memlora_mlx.eval.systems.memory_system import answer_from_store
from memlora_mlx.eval.systems.provenance import Provenance
from memlora_mlx.eval.systems.system import OnPhaseProgress, RunContext, SystemResult
from memlora_mlx.memory import stages
from memlora_mlx.memory.store.database import copy_database
from memlora_mlx.memory.store.encrypted_sqlite import connect
from memlora_mlx.memory.store.keys import DATABASE
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange, Message
from memlora_mlx.settings import KEY_FILE

QUESTIONS = 50  # unless another number is asked for
GAP = "____"
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
# What can be taken out of a sentence and asked for: a name, or a number.
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w'-]+(?: [A-Z][\w'-]+){0,3}")
_NUMBER = re.compile(r"(?<![\w.,:])[0-9][0-9.,:]*(?<![.,:])(?!\w)")


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """A copy of the user's store and what is known of its memories."""

    folder: Path
    exchanges: tuple[Exchange, ...]  # in the order they were read; every turn has a ref
    provenance: Provenance


@contextmanager
def snapshot_store(workspace: Workspace) -> Iterator[StoreSnapshot]:
    """Copy the user's store, for as long as the block.

    Raises:
        StoreError: nothing was ever remembered.
    """
    source = workspace.require_store().folder / DATABASE
    with tempfile.TemporaryDirectory(prefix="memlora-mine-") as name:
        folder = Path(name)
        store_keys = workspace.store.database.keys
        if store_keys is not None:
            shutil.copyfile(source.with_name(KEY_FILE), folder / KEY_FILE)
        with closing(connect(source, store_keys, mode="mode=ro")) as theirs:
            copy_database(theirs, folder / DATABASE, store_keys)
        with Store(folder, workspace.embedding_fingerprint, create=False) as store:
            with store.snapshot() as connection:
                exchange_keys = [row["key"] for row in connection.execute("SELECT key FROM exchanges ORDER BY id")]
                lines = connection.execute("SELECT event, memory_id, new_text, exchange_key FROM history ORDER BY id")
                history = [tuple(row) for row in lines]
            said = tuple(_with_refs(store.exchange(key)) for key in exchange_keys)
        refs = {exchange.key: [message.ref for message in exchange.messages if message.ref] for exchange in said}
        provenance = Provenance()
        for event, memory_id, text, key in history:
            provenance.record_write(event, memory_id, text, refs.get(key, ()))
        yield StoreSnapshot(folder, said, provenance)


@dataclass(frozen=True, slots=True)
class OwnConversationCase(BenchmarkCase):
    """A conversation of the user's, with the copy of the store."""

    snapshot: StoreSnapshot | None = None


def cases(snapshot: StoreSnapshot, count: int) -> list[BenchmarkCase]:
    """The user's conversations with at most so many questions in all, spread evenly over what was said.

    Raises:
        UsageError: nothing that was said can be asked about.
    """
    by_source: dict[str, list[Exchange]] = {}
    for exchange in snapshot.exchanges:
        by_source.setdefault(exchange.source, []).append(exchange)
    whole = [OwnConversationCase(source, tuple(said), (), snapshot) for source, said in by_source.items()]
    possible = [(case, question) for case in whole for question in questions(case)]
    if not possible:
        raise UsageError(
            "your conversations hold no sentence with a name or a number that could be asked for; `memlora ingest FILE`"
            " reads more of them"
        )
    chosen = [possible[i * len(possible) // count] for i in range(count)] if count < len(possible) else possible
    return [
        replace(case, questions=tuple(question for of, question in chosen if of is case))
        for case in whole
        if any(of is case for of, _ in chosen)
    ]


def questions(case: BenchmarkCase) -> Iterator[Question]:
    """A gap to be filled for each turn of a memory's owner that holds a name or a number; the gold is what was said."""
    asked: set[str] = set()
    for exchange in case.exchanges:
        for turn in exchange.messages:
            if turn.role != "user" or not turn.ref or turn.ref in asked:
                continue
            if (found := _cloze_question(turn.text)) is not None:
                sentence, gold = found
                asked.add(turn.ref)
                day = f" on {stages.format_day(turn.said_at)}" if turn.said_at else ""
                who = turn.speaker or "the user"
                text = f'What fills the gap in what {who} said{day}: "{sentence}"?'
                yield Question(f"{case.name}/{len(asked) - 1}", text, gold, 4, (turn.ref,))


def _cloze_question(text: str) -> tuple[str, str] | None:
    for sentence in _SENTENCE.split(" ".join(text.split())):
        if sentence.endswith("?") or not 4 <= len(sentence.split()) <= 40:
            continue
        for pattern in (_NAME, _NUMBER):
            for match in pattern.finditer(sentence):
                gold = match[0].removesuffix("'s")
                if sentence.count(gold) == 1:  # else the answer still stands in the question
                    return sentence.replace(gold, GAP), gold
    return None


class StoredMemorySystem:
    """The user's memories as they are stored: they are searched and answered from, and no conversation is read."""

    def __init__(self, name: str, calls: CachedEngine, context: RunContext) -> None:
        self.name, self.calls, self.context = name, calls, context

    def run(self, case: BenchmarkCase, on_done: OnPhaseProgress) -> SystemResult:
        assert isinstance(case, OwnConversationCase)
        assert case.snapshot is not None
        kept = case.snapshot
        _, replies, cost, phase = answer_from_store(
            self.name, kept.folder, str(kept.folder), case, kept.provenance, self.calls, self.context, on_done
        )
        return SystemResult(tuple(replies), (cost,), (phase,))


def _with_refs(exchange: Exchange) -> Exchange:
    """Both owners' views of a turn have one ref; a source's own are not needed to tell turns apart."""
    return replace(exchange, messages=tuple(replace(turn, ref=_ref(exchange, turn)) for turn in exchange.messages))


def _ref(exchange: Exchange, turn: Message) -> str:
    return content_key([exchange.source, turn.speaker, turn.text, turn.said_at, turn.ref])[:12]
