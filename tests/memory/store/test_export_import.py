"""Export and import: a round trip loses nothing, and hostile lines are refused by number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from memlora_mlx.errors import StoreError
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint, Update
from memlora_mlx.memory.store.export_import import export_lines, import_lines
from memlora_mlx.memory.store.history import memory_history, undo_change
from memlora_mlx.memory.store.integrity import check_store
from memlora_mlx.memory.store.sources import list_owners, list_sources, mark_source
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, Image, Message, Scope

SPACE = EmbeddingFingerprint("portable", 4)
ANNA = Scope("anna", "cook", None)
MAY_8 = datetime(2023, 5, 8, 13, 56)


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    rows = np.stack([np.random.default_rng(len(text)).standard_normal(4) for text in texts])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def never(texts: Sequence[str]) -> NDArray[np.float32]:
    raise AssertionError(f"embedded {len(texts)} texts for nothing")


def fill(store: Store) -> None:
    image = Image("https://example.org/cat.jpg", "a cat")
    messages = (Message("user", "hi \U0001f600", "Anna", MAY_8, image, "D1:1"), Message("assistant", ""))
    exchange = Exchange("x1", ANNA, messages, MAY_8, "conv-26", 3)
    [one, two] = embed(["a", "bb"])
    adds = [
        Add(
            "a \U0001f600\0 and a \ud800",
            one,
            MAY_8,
            image,
            {"mood": ["glad", None, 1.5]},
            MAY_8 + timedelta(9999),
            "1",
        ),
        Add("bb", two, datetime(2023, 5, 8, tzinfo=UTC), id="2"),
    ]
    mark_source(store, "conv-26", "locomo", 9, finished=True)
    store.commit(ANNA, adds, exchange=exchange)
    store.commit(ANNA, [Update("2", "ccc", embed(["ccc"])[0], MAY_8)])
    store.commit(Scope("ben"), [Add("Ben's", one, id="3")])


def contents(store: Store) -> object:
    memories = store.list(order="stored", show_expired=True)
    return memories, store.exchange("x1"), list_sources(store), list_owners(store)


def valid_lines(tmp_path: Path) -> list[dict[str, Any]]:
    with Store(tmp_path / "valid", SPACE) as store:
        fill(store)
        return list(export_lines(store))


def test_what_was_said_at_great_length_comes_back(tmp_path: Path) -> None:
    said = Exchange("long", ANNA, (Message("user", "tea " * 300_000, "Anna"),), None, "s", 0)
    with Store(tmp_path / "one", SPACE) as one, Store(tmp_path / "two", SPACE) as two:
        one.commit(ANNA, [], exchange=said)
        import_lines(two, list(export_lines(one)), embed)
        assert two.exchange("long") == one.exchange("long")


def test_a_round_trip_through_json_is_equal(tmp_path: Path) -> None:
    with Store(tmp_path / "one", SPACE) as one, Store(tmp_path / "two", SPACE) as two:
        fill(one)
        lines = [json.dumps(line) for line in export_lines(one)]
        assert json.loads(lines[0]) == {
            "format": "memlora-store",
            "version": 1,
            "space": {"name": "portable", "dim": 4},
        }
        imported = import_lines(two, lines, embed)
        assert (imported.added, imported.skipped) == (3, 0)
        assert contents(two) == contents(one)
        assert list(export_lines(two)) == list(export_lines(one))
        assert two.search(embed(["ccc"])[0], 1)[0].memory.id == "2"
        assert [(line.event, line.actor) for line in memory_history(two, "1")] == [("ADD", "import")]
        assert check_store(two) == []


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    lines = valid_lines(tmp_path)
    with Store(tmp_path / "valid", SPACE) as store:
        before = contents(store)
        imported = import_lines(store, lines, never)
        assert (imported.added, imported.skipped) == (0, 3)
        assert contents(store) == before


def test_an_import_can_be_undone(tmp_path: Path) -> None:
    lines = valid_lines(tmp_path)
    with Store(tmp_path / "new", SPACE) as store:
        import_lines(store, lines, embed)
        undo_change(store, embed)
        assert store.count() == 2


def test_an_export_is_one_state_while_others_write(tmp_path: Path) -> None:
    with Store(tmp_path, SPACE) as store:
        fill(store)
        lines = export_lines(store)
        first = next(lines)
        store.commit(ANNA, [Add("later", embed(["x"])[0])])
        assert not any(line.get("text") == "later" for line in lines)
        assert first["version"] == 1


DEEP = "[" * 100_000
HOSTILE: list[tuple[object, str]] = [
    ("{not json", "line {n} is not JSON"),
    (DEEP, "line {n} is not JSON"),
    ("[1, 2]", "line {n} is not a JSON object"),
    (None, "line {n} is not a JSON object"),
    ({"kind": "virus"}, "line {n}: kind cannot be 'virus'"),
    ({"text": 7}, "line {n}: text must be text"),
    ({"text": ""}, "line {n}: text must be text"),
    ({"text": "\0"}, "line {n}: text must be text"),
    ({"text": "x" * 1_000_001}, "line {n}: text must be text"),
    ({"id": None}, "line {n}: id must be text"),
    ({"id": "x" * 300}, "line {n}: id is longer"),
    ({"owner": {}}, "line {n}: owner must name"),
    ({"owner": "anna"}, "line {n}: owner must be an object"),
    ({"owner": {"user_id": ["anna"]}}, "line {n}: user_id must be text"),
    ({"said_at": "yesterday"}, "line {n}: said_at must be an ISO"),
    ({"said_at": 20230508}, "line {n}: said_at must be an ISO"),
    ({"said_at": "0001-01-01T00:00:00+23:00"}, "line {n}: said_at must be an ISO"),
    ({"stored_at": "2023-05-08T00:00:00"}, "line {n}: stored_at must be an ISO 8601 date and time with a zone"),
    ({"metadata": None}, "line {n}: metadata must be an object"),
    ({"metadata": {"x": float("nan")}}, "line {n}: metadata must be JSON"),
    ({"metadata": json.loads("[" * 60 + "]" * 60)}, "line {n}: metadata must be an object"),
    ({"metadata": {"x": json.loads("[" * 60 + "]" * 60)}}, "line {n}: metadata must be JSON"),
    ({"image": "cat.jpg"}, "line {n}: image must be an object"),
    ({"image": {"source": 3}}, "line {n}: source must be text"),
    ({"exchange_key": "x9"}, "line {n}: exchange_key names no exchange"),
    ({"owner": {"user_id": "eve"}}, "line {n}: exchange_key names no exchange of its owner"),
    ({"kind": "exchange", "key": "y", "messages": {}}, "line {n}: messages must be a list"),
    ({"kind": "exchange", "key": "y", "messages": [3]}, "line {n} is not a JSON object"),
    ({"kind": "exchange", "key": "y", "messages": [{"role": "root"}]}, "line {n}: role must be one of"),
    ({"kind": "exchange", "key": "y", "messages": [], "source": "s", "position": -1}, "line {n}: position must be"),
    ({"kind": "source", "name": "s"}, "line {n}: started_at must be"),
]


@pytest.mark.parametrize(("line", "said"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_line_is_refused_by_its_number_and_nothing_is_imported(
    tmp_path: Path, line: object, said: str
) -> None:
    lines: list[object] = list(valid_lines(tmp_path))
    template = next(one for one in lines if isinstance(one, dict) and one.get("id") == "1")
    assert isinstance(template, dict)
    lines.append({**template, **line} if isinstance(line, dict) else line)
    with Store(tmp_path / "new", SPACE) as store:
        with pytest.raises(StoreError) as caught:
            import_lines(store, lines, never)
        assert str(caught.value).startswith(said.format(n=len(lines)))
        assert str(caught.value).endswith("nothing was imported")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
        assert (store.count(), list_owners(store), list_sources(store)) == (0, [], [])


@pytest.mark.parametrize("first", [{}, {"format": "memlora-store", "version": 3}, {"format": "mem0"}])
def test_another_format_is_refused(tmp_path: Path, first: dict[str, object]) -> None:
    with Store(tmp_path, SPACE) as store, pytest.raises(StoreError, match="no memlora export|upgrade memlora"):
        import_lines(store, [first], never)


def test_an_embedder_of_another_space_imports_nothing(tmp_path: Path) -> None:
    lines = valid_lines(tmp_path)
    with Store(tmp_path / "new", SPACE) as store:
        with pytest.raises(StoreError, match="does not fit"):
            import_lines(store, lines, lambda texts: np.eye(8, dtype=np.float32)[: len(texts)])
        assert store.count() == 0


def test_a_store_from_another_embedder_can_be_imported(tmp_path: Path) -> None:
    lines = valid_lines(tmp_path)
    with Store(tmp_path / "new", EmbeddingFingerprint("other", 8)) as store:
        import_lines(store, lines, lambda texts: np.eye(8, dtype=np.float32)[: len(texts)])
        assert store.count(show_expired=True) == 3
