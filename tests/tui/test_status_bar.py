"""The status bar over a real store."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from memlora_mlx.memory.changes import Add, EmbeddingFingerprint
from memlora_mlx.memory.store.store import Store
from memlora_mlx.memory.store.upkeep import build_indexes
from memlora_mlx.records import Scope
from memlora_mlx.settings import load_settings
from memlora_mlx.tui.backend import Backend, BackendStatus
from memlora_mlx.tui.widgets.status import StatusBar


def test_the_status_bar_shows_how_much_of_a_large_index_is_built(
    isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store whose graph is held up before its first vector, and then finished."""
    turn = threading.Lock()
    with turn, Store(isolated_home / "store", EmbeddingFingerprint("random", 8), exact_limit=2) as store:
        store.commit(Scope("ann"), [Add(f"memory {row}", vector) for row, vector in enumerate(np.eye(8))])
        store.indexes.read_at_once, store.indexes._turn = 4, turn
        backend = Backend(load_settings())
        backend._status = BackendStatus("failed")
        backend._workspace = cast(Any, SimpleNamespace(store=store))
        app = SimpleNamespace(backend=backend, background_work={})
        monkeypatch.setattr(StatusBar, "app", property(lambda _: app))
        bar = StatusBar()
        assert not any("indexing" in words for words, _ in bar.parts())
        assert len(store.search(np.eye(8)[0], 3)) == 3
        assert ("indexing 0 %", 1) in bar.parts()
        turn.release()
        build_indexes(store)
        turn.acquire()
        assert not any("indexing" in words for words, _ in bar.parts())
