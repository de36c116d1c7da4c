"""Between which values a setting may lie, written beside its type and checked wherever one is made. No torch here."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from kakusan.errors import InputError, shown

Record = TypeVar("Record")
LONGEST_NAME = 64  # of a setting that a mistyped one is compared with


@dataclass(frozen=True, repr=False)
class Between:
    """Of a number: from low to high; `ends` says in interval notation which of both belong to it."""

    low: float
    high: float
    ends: Literal["[]", "[)", "(]", "()"] = "[]"

    def holds(self, value: Any) -> bool:
        above = self.low <= value if self.ends[0] == "[" else self.low < value
        return above and (value <= self.high if self.ends[1] == "]" else value < self.high)

    def __repr__(self) -> str:
        low, high = (f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        return (
            f"{'from' if self.ends[0] == '[' else 'above'} {low} {'to' if self.ends[1] == ']' else 'to below'} {high}"
        )


@dataclass(frozen=True, repr=False)
class Length:
    """Of text: so many printable characters. Of a tuple: so many entries."""

    low: int
    high: int

    def holds(self, value: Any) -> bool:
        return self.low <= len(value) <= self.high and (not isinstance(value, str) or value.isprintable())

    def __repr__(self) -> str:
        return f"{self.low} to {self.high:,}"


def check(record: Any, where: str) -> None:
    """InputError, naming the setting, unless each field of a dataclass has its type and lies within its limits."""
    for name, hint in hints(type(record)).items():
        value = getattr(record, name)
        if not _fits(value, hint):
            raise InputError(f"{where}.{name} must be {_words(hint)}, got {shown(value)}")


def from_values(kind: type[Record], values: Any, where: str) -> Record:
    """A dataclass that checks itself, from plain JSON values; InputError names what does not fit."""
    if not isinstance(values, dict):
        raise InputError(f"the record's {where} must be a table of settings, got {shown(values)}")
    known = hints(kind)
    unknown = [name for name in values if name not in known]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0])[:LONGEST_NAME], known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"the record's {where} has a setting that this version does not know: {shown(unknown[0])}; "
            f"{hint}There are: {', '.join(known)}"
        )
    needed = [
        field.name
        for field in dataclasses.fields(typing.cast(Any, kind))
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in needed if name not in values]
    if missing:
        raise InputError(f"the record's {where} is not complete: {', '.join(missing)} missing")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


@functools.cache
def hints(kind: type) -> dict[str, Any]:
    """The type of each field of a dataclass, with its limits."""
    return typing.get_type_hints(kind, include_extras=True)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        kind, *limits = arguments
        return _fits(value, kind) and all(limit.holds(value) for limit in limits)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is dict:
        key, entry = arguments
        return isinstance(value, dict) and all(_fits(k, key) and _fits(v, entry) for k, v in value.items())
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        parts = (arguments[0],) * len(value) if arguments[-1] is Ellipsis else arguments
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if hint is float:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole or (isinstance(value, float) and math.isfinite(value))
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    """What a hint asks for, to a person."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        kind, *limits = arguments
        if kind is str:
            return f"text of {limits[0]} printable characters"
        if typing.get_origin(kind) is tuple:
            return f"{limits[0]} values, each {_words(typing.get_args(kind)[0])}"
        return " ".join([_words(kind), *map(str, limits)])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(option) for option in arguments)
    if origin is tuple:
        return f"({', '.join('...' if part is Ellipsis else _words(part) for part in arguments)})"
    if origin is dict:
        return "a table"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "nothing"}
    return names.get(hint, getattr(hint, "__name__", "of another kind"))
