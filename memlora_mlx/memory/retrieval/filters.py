"""Mem0's filters as SQL conditions: values, and metadata keys too, only ever travel as bound parameters.

A filter is `{"key": value}` or `{"key": {"operator": value}}`; `"*"` as the value means present. Several keys must
all hold. `AND`, `OR` and `NOT` take lists of filters; `NOT` holds where none of its list does.
Operators: eq, ne, gt, gte, lt, lte, in, nin, contains, icontains.

Keys: user_id, agent_id, run_id, id, source, exchange; said_at, revised_at, expires_at, created_at (stored), updated_at
(changed, or else stored); every other key is one of the memory's metadata. Numbers compare with numbers, text with text,
and what is absent is unequal to everything; `None` stands for absent. `contains` looks into text and into lists.
Datetimes are `datetime` or ISO 8601; one without a zone counts as UTC, a date as its midnight.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from memlora_mlx.conversations import parse_date
from memlora_mlx.errors import UsageError
from memlora_mlx.memory.inputs import encode_time
from memlora_mlx.text import clean_text

TEXT_COLUMNS = {
    "user_id": "o.user_id",
    "agent_id": "o.agent_id",
    "run_id": "o.run_id",
    "id": "m.public_id",
    "source": "x.source",
    "exchange": "x.key",
}
TIME_COLUMNS = {
    "said_at": "m.said_at",
    "revised_at": "m.revised_at",
    "expires_at": "m.expires_at",
    "created_at": "m.stored_at",
    "updated_at": "coalesce(m.changed_at, m.stored_at)",
}
COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
OPERATORS = ("eq", "ne", *COMPARISONS, "in", "nin", "contains", "icontains")
MAX_DEPTH = 16
MAX_SQL = 15_000  # characters: a chain of the shortest terms stays below the 1,000 that SQLite takes
_ZONE = "+00:00"  # what the text of an aware datetime has beyond that of a naive one


@dataclass(frozen=True, slots=True)
class Condition:
    """A piece of SQL over `m` (memories), `o` (owners) and `x` (exchanges) that is never NULL, and its parameters."""

    sql: str
    values: tuple[object, ...] = ()


class LocalTime(str):
    """A time in ISO 8601 as somebody types it: on this machine's clock for memories with a zone, as written for others."""

    __slots__ = ()


MATCH_ALL = Condition("1")


def all_of(*conditions: Condition) -> Condition:
    return _join(" AND ", "1", conditions)


def any_of(*conditions: Condition) -> Condition:
    return _join(" OR ", "0", conditions)


def none_of(condition: Condition) -> Condition:
    return Condition(f"NOT {condition.sql}", condition.values)


def from_filters(filters: Mapping[str, Any] | None) -> Condition:
    """Raises UsageError: an unknown operator, or a value that its operator cannot take."""
    if filters is None:
        return MATCH_ALL
    condition = _every(filters, 0)
    if len(condition.sql) > MAX_SQL:
        raise UsageError("the filter has too many terms; use `in` with a list, or ask in several steps")
    return condition


def parse_filters(people: Sequence[str], source: str | None, since: str, until: str) -> dict[str, Any] | None:
    """Filters as somebody types them: of these people (none: of all), from this file, said from a day on, and before one.

    Raises:
        UsageError: a day that cannot be read.
    """
    filters: dict[str, Any] = {}
    if people:
        filters["user_id"] = {"in": list(people)}
    if source:
        filters["source"] = source
    said: dict[str, str] = {}
    for operator, text in (("gte", since.strip()), ("lt", until.strip())):
        if text:
            try:
                said[operator] = LocalTime(parse_date(text).isoformat())
            except ValueError as error:
                raise UsageError(f"cannot read the day {text!r}; write it as 2023-05-08") from error
    if said:
        filters["said_at"] = said
    return filters or None


def said_between(after: datetime | None, before: datetime | None) -> Condition:
    """Said at `after` or later, and earlier than `before`; where either is given, memories without a time fall out."""
    bounds = [("gte", after), ("lt", before)]
    return all_of(*(_time("said_at", operator, moment) for operator, moment in bounds if moment is not None))


def not_expired(now: datetime) -> Condition:
    return none_of(_time("expires_at", "lte", now))


def _join(word: str, empty: str, conditions: tuple[Condition, ...]) -> Condition:
    if not conditions:
        return Condition(empty)
    if len(conditions) == 1:
        return conditions[0]
    sql = word.join(condition.sql for condition in conditions)
    return Condition(f"({sql})", tuple(value for condition in conditions for value in condition.values))


def _every(filters: object, depth: int) -> Condition:
    if depth > MAX_DEPTH:
        raise UsageError(f"filters are nested more than {MAX_DEPTH} deep")
    if not isinstance(filters, Mapping):
        raise UsageError(f"a filter is a mapping of keys to values, not {_shown(filters)}")
    return all_of(*(_term(key, value, depth) for key, value in filters.items()))


def _term(key: object, value: Any, depth: int) -> Condition:
    if not isinstance(key, str):
        raise UsageError(f"a filter's key is text, not {_shown(key)}")
    if key in ("AND", "OR", "NOT"):
        if not isinstance(value, list | tuple):
            raise UsageError(f"{key} takes a list of filters, not {_shown(value)}")
        parts = [_every(part, depth + 1) for part in value]
        if key == "AND":
            return all_of(*parts)
        return any_of(*parts) if key == "OR" else none_of(any_of(*parts))

    key = clean_text(key)
    compare: Callable[[str, str, Any], Condition] = _metadata
    if key in TEXT_COLUMNS:
        compare = _text
    elif key in TIME_COLUMNS:
        compare = _time
    if not isinstance(value, Mapping):
        if isinstance(value, str) and value == "*":
            return none_of(compare(key, "absent", None))
        return _compare(compare, key, "eq", value)
    if not value:
        raise UsageError(f"the filter on {_shown(key)} has no operator; known are {', '.join(OPERATORS)}")
    for operator in value:
        if operator not in OPERATORS:
            raise UsageError(f"{_shown(operator)} is no filter operator; known are {', '.join(OPERATORS)}")
    return all_of(*(_compare(compare, key, operator, operand) for operator, operand in value.items()))


def _compare(compare: Callable[[str, str, Any], Condition], key: str, operator: str, value: Any) -> Condition:
    """Reduces ne and nin, and gives eq its value as a list of one, so that a kind of column has fewer cases to know."""
    if operator in ("ne", "nin"):
        return none_of(_compare(compare, key, "eq" if operator == "ne" else "in", value))
    if operator == "in" and not isinstance(value, list | tuple | set | frozenset):
        raise _cannot(key, operator, value)
    given = list(value) if operator == "in" else [value]
    for item in given:
        too_large = isinstance(item, int) and not -(2**63) <= item < 2**63
        if too_large or (isinstance(item, float) and not math.isfinite(item)):
            raise _cannot(key, operator, item)
    if operator not in ("eq", "in"):
        return compare(key, operator, clean_text(value) if type(value) is str else value)
    items = [clean_text(item) if isinstance(item, str) else item for item in given]
    absent = [compare(key, "absent", None)] if None in items else []
    return any_of(*absent, compare(key, operator, [item for item in items if item is not None]))


def _one_of(sql: str, values: list[Any]) -> Condition:
    if not values:
        return Condition("0")
    if len(values) == 1:
        return Condition(f"{sql} = ?", (values[0],))
    return Condition(f"{sql} IN (SELECT value FROM json_each(?))", (json.dumps(values),))


def _present_and(column: str, test: Condition) -> Condition:
    """Never NULL, and unlike with `coalesce` SQLite can still use an index of the column."""
    return Condition(f"({column} IS NOT NULL AND {test.sql})", test.values)


def _text(key: str, operator: str, value: Any) -> Condition:
    column = TEXT_COLUMNS[key]
    if operator == "absent":
        return Condition(f"({column} IS NULL)")
    for item in value if operator in ("eq", "in") else [value]:
        if not isinstance(item, str):
            raise _cannot(key, operator, item)
    if operator in ("eq", "in"):
        return _present_and(column, _one_of(column, value))
    if operator in COMPARISONS:
        return _present_and(column, Condition(f"{column} {COMPARISONS[operator]} ?", (value,)))
    return _holds_text(column, operator, value)


def _time(key: str, operator: str, value: Any) -> Condition:
    column = TIME_COLUMNS[key]
    if isinstance(value, LocalTime) and operator in COMPARISONS and datetime.fromisoformat(value).tzinfo is None:
        aware = _time(key, operator, datetime.fromisoformat(value).astimezone(UTC))
        naive = _time(key, operator, str(value))
        has_zone = f"{column} IS NOT NULL AND substr({column}, -{len(_ZONE)}) = '{_ZONE}'"
        return Condition(
            f"(CASE WHEN {has_zone} THEN {aware.sql} ELSE {naive.sql} END)", (*aware.values, *naive.values)
        )
    # Stored text is either `moment` or `moment + _ZONE`; both mean the same time here, and the longer one sorts later.
    match operator:
        case "absent":
            return Condition(f"({column} IS NULL)")
        case "eq" | "in":
            moments = [_moment(key, operator, item) for item in value]
            either = [text for moment in moments for text in (moment, moment + _ZONE)]
            return _present_and(column, _one_of(column, either))
        case "gt" | "lte":
            bound = _moment(key, operator, value) + _ZONE
        case "gte" | "lt":
            bound = _moment(key, operator, value)
        case _:
            raise _cannot(key, operator, value)
    return _present_and(column, Condition(f"{column} {COMPARISONS[operator]} ?", (bound,)))


def _moment(key: str, operator: str, value: Any) -> str:
    """The time's text up to the microsecond, in UTC."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime):
            text = encode_time(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
            assert text is not None
            return text.removesuffix(_ZONE)
    except (ValueError, OverflowError):
        pass
    raise _cannot(key, operator, value)


def _metadata(key: str, operator: str, value: Any) -> Condition:
    found, found_values = _json_value(key, "value")
    if operator == "absent":
        return Condition(f"({found} IS NULL)", found_values)
    if operator in ("contains", "icontains"):
        return _json_contains(key, operator, value)
    among = operator in ("eq", "in")
    items = value if among else [value]
    for item in items:
        if not isinstance(item, str | bool | int | float):
            raise _cannot(key, operator, item)
    texts = [item for item in items if isinstance(item, str)]
    numbers = [item for item in items if isinstance(item, bool | int | float)]  # true is 1, in Python and in SQLite

    kind, kind_values = _json_value(key, "type")
    kinds = (("'text'", texts), ("'integer', 'real', 'true', 'false'", numbers))
    parts = []
    for names, wanted in kinds:
        if wanted:
            test = _one_of(found, wanted) if among else Condition(f"{found} {COMPARISONS[operator]} ?", (value,))
            # The value first: each look into the JSON parses it, and most rows fall out here.
            sql = f"(coalesce({test.sql}, 0) AND coalesce({kind} IN ({names}), 0))"
            parts.append(Condition(sql, (*found_values, *test.values, *kind_values)))
    return any_of(*parts)


def _json_contains(key: str, operator: str, value: Any) -> Condition:
    if not isinstance(value, str | bool | int | float):
        raise _cannot(key, operator, value)
    found, found_values = _json_value(key, "value")
    kind, kind_values = _json_value(key, "type")
    item = "CASE WHEN item.type = 'text' THEN casefold(item.value) END" if operator == "icontains" else "item.value"
    wanted = value.casefold() if operator == "icontains" and isinstance(value, str) else value
    item_is_text = "=" if isinstance(value, str) else "<>"
    among = f"EXISTS (SELECT 1 FROM json_each({found}) item WHERE item.type {item_is_text} 'text' AND {item} = ?)"
    branches = [f"WHEN 'array' THEN {among}"]
    values: tuple[object, ...] = (*kind_values, *found_values, wanted)
    if isinstance(value, str):
        text = _holds_text(found, operator, value)
        branches.append(f"WHEN 'text' THEN {text.sql}")
        values = (*values, *found_values, *text.values)
    elif operator == "icontains":
        raise _cannot(key, operator, value)
    return Condition(f"(CASE {kind} {' '.join(branches)} ELSE 0 END)", values)


def _holds_text(sql: str, operator: str, value: str) -> Condition:
    if operator == "icontains":
        return Condition(f"coalesce(instr(casefold({sql}), ?) > 0, 0)", (value.casefold(),))
    return Condition(f"coalesce(instr({sql}, ?) > 0, 0)", (value,))


def _json_value(key: str, want: str) -> tuple[str, tuple[object, ...]]:
    """SQL for the value, or the type, of a metadata key. NULL where the key is absent, or its value null."""
    if '"' not in key and json.dumps(key, ensure_ascii=False) == f'"{key}"':
        function = "json_extract" if want == "value" else "json_type"
        return f"{function}(m.metadata, ?)", (f'$."{key}"',)
    # A JSON path cannot name a key with quotes or escapes; a walk over the keys can.
    return f"(SELECT pair.{want} FROM json_each(m.metadata) pair WHERE pair.key = ?)", (key,)


def _cannot(key: str, operator: str, value: object) -> UsageError:
    return UsageError(f"the filter on {_shown(key)} cannot take {operator} {_shown(value)}")


def _shown(value: object) -> str:
    """For a one-line message: short, and without line breaks."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
