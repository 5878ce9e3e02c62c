"""Frozen dataclasses from JSON, TOML or YAML values and back, each field checked against its annotation.

Files come from anywhere: a value of another kind is a ValueError that names the field by its path ("base.name").
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

ALWAYS = "always"  # in a field's metadata: it is written even where it has its default
OTHER = "other"  # a dataclass with a field of this name keeps there what it does not know
_KINDS: Mapping[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def from_json(cls: type[T], value: object, path: str = "") -> T:
    """Make a dataclass from an object's fields.

    Args:
        cls: a dataclass with fields of text, numbers, truth values, literals, tuples, mappings and such dataclasses.
        value: the object, as a parser gives it.
        path: where it stands, for messages.

    Raises:
        ValueError: a field is missing, unknown, or of another kind; the message names it.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{path or 'the file'} is {_shown(value)}, not an object")  # noqa: TRY004 - as all of a file
    kinds = _field_kinds(cast(Any, cls))
    values: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for name, content in value.items():
        where = f"{path}.{name}" if path else str(name)
        if name in kinds and name != OTHER:
            values[name] = _convert(kinds[name], content, where)
        elif OTHER in kinds:
            other[str(name)] = content
        else:
            raise ValueError(f"{where} is not a known field; known are {', '.join(sorted(kinds))}")
    for field in fields(cls):  # type: ignore[arg-type]
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{f'{path}.' if path else ''}{field.name} is missing")
    return cls(**values, **({OTHER: other} if other else {}))


def to_json(item: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON has them, without those that are as by default and not marked `ALWAYS`.

    What the dataclass kept in `other` stands among them.
    """
    result: dict[str, Any] = {}
    for field in fields(item):
        value = getattr(item, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if field.name == OTHER:
            result |= value
        elif value != default or field.metadata.get(ALWAYS):
            result[field.name] = _plain(value)
    return result


@cache
def _field_kinds(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _convert(kind: Any, value: object, path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        # Of a field that may be None, or of a few kinds: the first that takes the value.
        if value is None and type(None) in arguments:
            return None
        options = [argument for argument in arguments if argument is not type(None)]
        for option in options[:-1]:
            try:
                return _convert(option, value, path)
            except ValueError:
                continue
        return _convert(options[-1], value, path)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{path} is {_shown(value)}; it takes {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{path} is {_shown(value)}, not a list")
        return tuple(_convert(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError(f"{path} is {_shown(value)}, not an object")
        return {str(name): _convert(arguments[1], item, f"{path}.{name}") for name, item in value.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        return from_json(kind, value, path)
    return _scalar(kind, value, path)


def _scalar(kind: Any, value: object, path: str) -> object:
    is_right = isinstance(value, (int, float) if kind is float else kind)
    if not is_right or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{path} is {_shown(value)}, not {_KINDS[kind]}")
    if isinstance(value, int | float) and kind is float:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value}, not a finite number")
    return value


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _shown(value: object) -> str:
    """A value in a message: short, and of one line."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
