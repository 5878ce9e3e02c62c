"""Dataclasses from JSON objects, as the manifests of runs and searches hold them: every field is there and has its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_json(kind: type[T], value: Any, *, version: int | None = None) -> T:
    """The dataclass that a JSON object describes. Lists become tuples where a field is a tuple.

    Args:
        version: the newest version of the format that this memlora reads. The object's own `version` is 1 if it has none.

    Raises:
        ValueError: the value is not an object, a field is missing, unknown or of another type, or the version is newer.
    """
    if not isinstance(value, Mapping):
        raise ValueError("it is not a JSON object")  # noqa: TRY004  one kind of error for all that is wrong
    given = dict(value)
    if version is not None:
        check_version(given.pop("version", 1), version)
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := set(given) - set(known):
        raise ValueError(f"it has unknown fields: {', '.join(sorted(unknown))}")
    for name, field in known.items():
        if name in given:
            given[name] = _converted(hints[name], given[name], name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"the field `{name}` is missing")
    return kind(**given)


def check_version(found: Any, newest: int) -> None:
    """Raises ValueError if a format's version is newer than this memlora reads, or is not a number."""
    if type(found) is not int:
        raise ValueError(f"its version is {found!r}, which is not a number")
    if found > newest:
        raise ValueError(f"its version is {found} and this memlora reads up to {newest}; update memlora")


def _converted(hint: Any, value: Any, name: str) -> Any:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in kinds:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is tuple and isinstance(value, (list, tuple)):
            items = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
            if len(items) == len(value):
                return tuple(_converted(item, part, name) for item, part in zip(items, value, strict=True))
        elif _fits(kind, origin, arguments, value):
            return value
    raise ValueError(f"the field `{name}` has the value {str(value)[:60]!r}, which is not valid")


def _fits(kind: Any, origin: Any, arguments: tuple[Any, ...], value: Any) -> bool:
    if origin is Literal:
        return value in arguments
    if kind is NoneType:
        return value is None
    if kind in (int, float):
        return not isinstance(value, bool) and isinstance(value, int if kind is int else (int, float))
    return isinstance(value, origin or kind)
