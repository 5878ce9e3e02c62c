"""Filters as SQL give what the same filters give in plain Python."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memlora_mlx.errors import UsageError
from memlora_mlx.memory.changes import Add, EmbeddingFingerprint
from memlora_mlx.memory.retrieval.filters import parse_filters
from memlora_mlx.memory.stages import format_day
from memlora_mlx.memory.store.store import Store
from memlora_mlx.records import Exchange, MemoryRecord, Scope

SPACE = EmbeddingFingerprint("one", 2)
VECTOR = np.array([1, 0], dtype=np.float32)

KEYS = ["mood", "a.b", 'quo"te', "", "new\nline", "back\\slash", "$.mood", "ключ", "' OR 1=1 --", "[0]"]
WORDS = ["", "glad", "Glad", "STRASSE", "straße", "*", "%", "1", "2023-05-08", "猫", "' OR 1=1 --", '{"a": 1}']
scalars = st.one_of(
    st.sampled_from(WORDS), st.integers(-3, 3), st.sampled_from([-0.5, 1.0, 2.5]), st.booleans(), st.none()
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.just({"a": 1}))
metadata = st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
MOMENTS = [datetime(2023, 5, day, tzinfo=zone) for day in (1, 2, 3) for zone in (None, UTC)]
moments = st.sampled_from(MOMENTS)
wholes = st.one_of(st.sampled_from(WORDS), st.integers(-3, 3), st.sampled_from([-0.5, 1.0]), st.booleans())
metadata_tests = st.one_of(
    scalars,
    st.fixed_dictionaries({}, optional={name: wholes for name in ("gt", "gte", "lt", "lte", "eq", "ne")}).filter(bool),
    st.fixed_dictionaries({}, optional={name: st.lists(scalars, max_size=3) for name in ("in", "nin")}).filter(bool),
    st.fixed_dictionaries({"contains": wholes}),
    st.fixed_dictionaries({"icontains": st.sampled_from(WORDS)}),
)
time_tests = st.one_of(
    moments,
    st.none(),
    st.just("*"),
    st.fixed_dictionaries({}, optional={n: moments for n in ("gt", "gte", "lt", "lte", "eq", "ne")}).filter(bool),
    st.fixed_dictionaries({"in": st.lists(moments, max_size=2)}),
)
text_tests = st.one_of(
    st.sampled_from(["anna", "ben", "*", None]),
    st.fixed_dictionaries({"in": st.lists(st.sampled_from(["anna", "conv-26"]), max_size=2)}),
    st.fixed_dictionaries({"ne": st.sampled_from(["anna", "conv-26"])}),
    st.fixed_dictionaries({"contains": st.sampled_from(["n", "conv"])}),
    st.fixed_dictionaries({"gte": st.just("b")}),
)
terms = st.one_of(
    st.tuples(st.sampled_from(KEYS), metadata_tests),
    st.tuples(st.just("said_at"), time_tests),
    st.tuples(st.sampled_from(["user_id", "agent_id", "source"]), text_tests),
).map(lambda pair: {pair[0]: pair[1]})
filters = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["AND", "OR", "NOT"]), st.lists(inner, max_size=3)).map(
            lambda pair: {pair[0]: pair[1]}
        ),
        st.tuples(inner, inner).map(lambda pair: {**pair[0], **pair[1]}),
    ),
    max_leaves=6,
)


def holds(memory: MemoryRecord, wanted: Mapping[str, Any]) -> bool:
    """The plain meaning of a filter."""
    for key, test in wanted.items():
        if key in ("AND", "OR", "NOT"):
            results = [holds(memory, part) for part in test]
            if not (all(results) if key == "AND" else any(results) if key == "OR" else not any(results)):
                return False
            continue
        columns = {
            "said_at": memory.said_at,
            "source": memory.source,
            "user_id": memory.owner.user_id,
            "agent_id": memory.owner.agent_id,
        }
        value = columns[key] if key in columns else memory.metadata.get(key)
        if test == "*":
            if value is None:
                return False
        elif not all(compare(operator, value, operand) for operator, operand in operators(test)):
            return False
    return True


def operators(test: Any) -> list[tuple[str, Any]]:
    return list(test.items()) if isinstance(test, Mapping) else [("eq", test)]


def compare(operator: str, value: Any, operand: Any) -> bool:
    match operator:
        case "eq":
            if operand is None:
                return value is None
            return kind(value) == kind(operand) != "other" and plain(value) == plain(operand)
        case "ne":
            return not compare("eq", value, operand)
        case "in":
            return any(compare("eq", value, item) for item in operand)
        case "nin":
            return not compare("in", value, operand)
        case "contains" | "icontains":
            fold = str.casefold if operator == "icontains" else str
            if isinstance(value, list):
                if operator == "icontains":
                    return any(isinstance(item, str) and fold(item) == fold(operand) for item in value)
                return any(compare("eq", item, operand) for item in value)
            return isinstance(value, str) and isinstance(operand, str) and fold(operand) in fold(value)
    if kind(value) != kind(operand) or kind(value) == "other":
        return False
    left, right = plain(value), plain(operand)
    return bool({"gt": left > right, "gte": left >= right, "lt": left < right, "lte": left <= right}[operator])


def kind(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool | int | float):
        return "number"
    return "time" if isinstance(value, datetime) else "other"


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return value.encode() if isinstance(value, str) else value


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("filters"), SPACE)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(st.tuples(metadata, st.one_of(st.none(), moments)), min_size=1, max_size=6),
    wanted=st.lists(filters, min_size=5, max_size=5),
)
def test_filters_equal_plain_python(
    store: Store, rows: list[tuple[dict[str, Any], datetime | None]], wanted: list[dict[str, Any]]
) -> None:
    store.delete_all(Scope())
    for number, (fields, said_at) in enumerate(rows):
        owner = Scope("anna") if number % 2 else Scope("ben", "cook")
        exchange = Exchange(str(number), owner, (), None, "conv-26", 0) if number % 3 else None
        store.commit(owner, [Add(str(number), VECTOR, said_at, metadata=fields)], exchange=exchange)
    memories = store.list(order="stored")
    for one in wanted:
        expected = [memory.text for memory in memories if holds(memory, one)]
        assert [memory.text for memory in store.list(filters=one, order="stored")] == expected
        assert [hit.memory.text for hit in store.search(VECTOR, 9, filters=one)] == expected
        assert store.count(filters=one) == len(expected)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mood": {"like": "x"}}, "'like' is no filter operator"),
        ({"mood": {}}, "has no operator"),
        ({"mood": ["a"]}, "cannot take eq .'a'."),
        ({"mood": {"gt": None}}, "cannot take gt None"),
        ({"mood": {"in": "text"}}, "cannot take in"),
        ({"mood": {"in": [[1]]}}, "cannot take in .1."),
        ({"mood": float("nan")}, "cannot take eq nan"),
        ({"mood": 2**70}, "cannot take eq"),
        ({"mood": {"icontains": 3}}, "cannot take icontains 3"),
        ({"said_at": "yesterday"}, "cannot take eq 'yesterday'"),
        ({"said_at": {"contains": "2023"}}, "cannot take contains"),
        ({"said_at": {"gt": "0001-01-01T00:00:00+23:00"}}, "cannot take gt"),
        ({"user_id": 7}, "cannot take eq 7"),
        ({"AND": {"mood": "x"}}, "AND takes a list"),
        ({"OR": [3]}, "a filter is a mapping"),
        ({3: "x"}, "key is text"),
        ({"OR": [{"mood": str(number)} for number in range(2000)]}, "too many terms"),
        ({"x" * 500 + "\n": {"like": 1, "\n" * 90: 2}}, "no filter operator"),
    ],
)
def test_a_wrong_filter_is_one_line(store: Store, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        store.list(filters=wrong)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_endless_nesting_is_refused(store: Store) -> None:
    deep: dict[str, Any] = {"mood": "x"}
    for _ in range(50):
        deep = {"NOT": [deep]}
    with pytest.raises(UsageError, match="nested"):
        store.list(filters=deep)


def test_long_lists_are_fine(store: Store) -> None:
    store.delete_all(Scope())
    store.commit(Scope("anna"), [Add("x", VECTOR, id="9999", metadata={"n": 9999})])
    many = list(range(50_000))
    assert len(store.list(filters={"n": {"in": many}, "id": {"in": [str(one) for one in many]}})) == 1


def test_stored_and_changed_times(tmp_path: Path) -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    with Store(tmp_path, SPACE, clock=lambda: now) as store:
        store.commit(Scope("anna"), [Add("a", VECTOR, id="a"), Add("b", VECTOR, id="b")])
        now += timedelta(days=1)
        store.revise("b", "b, again", VECTOR)
        changed = {"updated_at": {"gte": "2024-01-02"}}
        assert [memory.id for memory in store.list(filters=changed)] == ["b"]
        assert store.count(filters={"created_at": {"lt": "2024-01-02"}}) == 2
        assert store.count(filters={"revised_at": "*"}) == 1


def test_typed_days_are_those_of_this_machines_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Honolulu, four in the afternoon of 24 November is the 25th in UTC; what has no zone is taken as written."""
    monkeypatch.setenv("TZ", "Pacific/Honolulu")
    time.tzset()
    try:
        said = {"chat": datetime(2026, 11, 25, 2, 4, tzinfo=UTC), "file": datetime(2026, 11, 24, 23, 0)}
        with Store(tmp_path, SPACE) as store:
            store.commit(Scope("ann"), [Add(text, VECTOR, at) for text, at in said.items()])

            def found(since: str, until: str) -> set[str]:
                return {memory.text for memory in store.list(filters=parse_filters((), None, since, until))}

            assert found("2026-11-24", "2026-11-25") == {"chat", "file"}
            assert found("2026-11-25", "") == set()
            assert found("", "24 November 2026") == set()
        assert {format_day(at) for at in said.values()} == {"24 November 2026"}
    finally:
        monkeypatch.undo()
        time.tzset()
