"""What is done whenever a store is opened: an interrupted erasing is finished, and once an hour old things go.

Old things are what killed saves have left, the index files of owners who are gone, and what is older than the settings
`history_days` and `source_days` allow. What went is counted in the store, and `memlora doctor` tells it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from memlora_mlx.errors import StoreError
from memlora_mlx.memory.inputs import decode_time, encode_time
from memlora_mlx.memory.store.erase_plan import plan_retention
from memlora_mlx.memory.store.erasure import erase_planned, finish_erasing
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.traces import remove_scraps
from memlora_mlx.settings import Settings

INTERVAL = timedelta(hours=1)
SCRAP_SECONDS = 3600.0  # what is younger may still be written to
_KEY = "housekeeping"  # in the store's table of facts about itself
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What has gone so far because of its age, and when this was looked after last."""

    at: str = ""  # ISO 8601, UTC
    messages: int = 0
    history: int = 0  # lines
    turns: int = 0  # of conversations of the chat
    scraps: int = 0
    indexes: int = 0  # files


def keep_house(store: Store, settings: Settings) -> Kept | None:
    """Do what is due. Returns the counts so far; None where nothing was due. A failure is logged and costs nothing."""
    if store.database.read_only:
        return None
    try:
        finish_erasing(store)
        before = read_counts(store)
        last = decode_time(before.at or None)
        if last is not None and last <= store.clock() < last + INTERVAL:
            return None
        return _done(store, settings, before)
    except (StoreError, OSError) as error:  # such as another process that reads for long: it is done the next time
        log.warning("what is too old could not be removed: %s", error)
        return None


def read_counts(store: Store) -> Kept:
    with store.snapshot() as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = ?", [_KEY]).fetchone()
    with contextlib.suppress(ValueError, TypeError):
        return Kept(**json.loads(row["value"])) if row is not None else Kept()
    return Kept()


def _done(store: Store, settings: Settings, before: Kept) -> Kept:
    now = store.clock()
    scraps = remove_scraps(settings.home, older_than=time.time() - SCRAP_SECONDS)
    indexes = _remove_stray_indexes(store)
    history, said = (_days_ago(now, days) for days in (settings.history_days, settings.source_days))
    lines = messages = turns = 0
    if history is not None or said is not None:
        gone = erase_planned(store, lambda connection: plan_retention(connection, history, said), keep_backups=True)
        lines, messages, turns = len(gone.history), len(gone.messages), gone.chat.count
    counts = replace(
        before,
        at=encode_time(now) or "",
        messages=before.messages + messages,
        history=before.history + lines,
        turns=before.turns + turns,
        scraps=before.scraps + len(scraps),
        indexes=before.indexes + indexes,
    )
    with store.database.write() as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [_KEY, json.dumps(asdict(counts))])
    return counts


def _days_ago(now: datetime, days: int | None) -> datetime | None:
    return (
        None if days is None else now - timedelta(days=min(days, (now - datetime.min.replace(tzinfo=now.tzinfo)).days))
    )


def _remove_stray_indexes(store: Store) -> int:
    """Remove the saved indexes of owners who are gone. Returns how many files that were."""
    with store.snapshot() as connection:
        owners = {str(row["id"]) for row in connection.execute("SELECT id FROM owners")}
    folders = (store.indexes.folder, store.message_indexes.folder)
    stray = [
        path
        for folder in folders
        for suffix in ("usearch", "json")
        for path in folder.glob(f"*.{suffix}")
        if path.stem not in owners
    ]
    for path in stray:
        path.unlink(missing_ok=True)
    return len(stray)
