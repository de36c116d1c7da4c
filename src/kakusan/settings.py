"""Typed settings: dataclass fields with ranges, choices and help, parsed from JSON records and command-line words.

    @dataclass(frozen=True)
    class Optim:
        lr: Annotated[float, Between(0, 100)] = 1e-3
        "Peak learning rate."

        def __post_init__(self):
            check(self, "optim")

The type of a field is the only definition of its allowed values. Does not import torch, so that help is instant.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import math
import numbers
import os
import sys
import textwrap
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from kakusan.errors import InputError, shown
from kakusan.registry import did_you_mean

Record = TypeVar("Record")
LONGEST_NAME = 64  # characters of an unknown setting that are compared with known ones
UNIONS = (typing.Union, types.UnionType)


@dataclass(frozen=True, repr=False)
class Between:
    """Range of a number. `ends` states in interval notation whether each end is included."""

    low: float
    high: float = math.inf
    ends: Literal["[]", "[)", "(]", "()"] = "[]"

    def holds(self, value: Any) -> bool:
        """Return whether a number lies in the range."""
        above = self.low <= value if self.ends[0] == "[" else self.low < value
        return above and (value <= self.high if self.ends[1] == "]" else value < self.high)

    def __repr__(self) -> str:
        low, high = (f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        if self.ends[0] == "[":
            upper = f" to {'' if self.ends[1] == ']' else 'below '}{high}"
            return f"of at least {low}" if self.high == math.inf else f"from {low}{upper}"
        upper = f" and {'at most' if self.ends[1] == ']' else 'below'} {high}"
        return f"above {low}{'' if self.high == math.inf else upper}"


Seed = Annotated[int, Between(0)]


@dataclass(frozen=True, repr=False)
class Length:
    """Number of printable characters of a text, or of entries of a tuple."""

    low: int
    high: int

    def holds(self, value: Any) -> bool:
        """Return whether a text or a tuple has an allowed length."""
        return self.low <= len(value) <= self.high and (not isinstance(value, str) or value.isprintable())

    def __repr__(self) -> str:
        return f"{self.low} to {self.high:,}"


@dataclass(frozen=True)
class Choice:
    """Names in a `kakusan.registry.Registry`, which is given as "module:ATTRIBUTE" and imported when it is needed."""

    place: str

    @property
    def registry(self) -> Mapping[str, Any]:
        """The imported registry."""
        module, _, attribute = self.place.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def holds(self, value: Any) -> bool:
        """Return whether the registry has this name."""
        return value in self.registry


@dataclass(frozen=True)
class Setting:
    """Field of a dataclass that a user can set."""

    name: str  # with a dot for a nested field, e.g. "model.width"
    hint: Any
    default: Any  # `dataclasses.MISSING` if it is required
    help: str


def settings_of(kind: type) -> list[Setting]:
    """List the fields of a dataclass with type, default and help; inherited fields come last."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    own_first = dict.fromkeys(name for base in kind.__mro__ for name in inspect.get_annotations(base) if name in fields)
    return [Setting(name, hints(kind)[name], _default(fields[name]), _help(kind).get(name, "")) for name in own_first]


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@functools.cache
def hints(kind: type) -> dict[str, Any]:
    """Return the annotated type of each field of a dataclass."""
    return typing.get_type_hints(kind, include_extras=True)


@functools.cache
def _help(kind: type) -> dict[str, str]:
    """Return the string below each field of a dataclass, on one line."""
    found: dict[str, str] = {}
    for base in filter(dataclasses.is_dataclass, reversed(kind.__mro__)):
        for field, text in itertools.pairwise(_class_body(base)):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[name] = " ".join(words.split())
    return found


def _class_body(kind: type) -> list[ast.stmt]:
    """Return the statements of a class body; empty for a class that was created without a source file."""
    classes = _classes_of(kind.__module__)
    if kind.__name__ in classes and kind.__qualname__ == kind.__name__:
        return classes[kind.__name__].body
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):
        return []
    return typing.cast(ast.ClassDef, definition).body


@functools.cache
def _classes_of(module: str) -> dict[str, ast.ClassDef]:
    """Return the classes of a module by name, parsed once: `inspect` parses the whole file for each class."""
    try:
        parsed = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, KeyError):
        return {}
    return {node.name: node for node in parsed.body if isinstance(node, ast.ClassDef)}


def check(record: Any, where: str) -> None:
    """Check the type and range of every field of a dataclass.

    Raises:
        InputError: If one does not fit; the message names it as `where.field`.
    """
    for name, hint in hints(type(record)).items():
        value = getattr(record, name)
        if not fits(value, hint):
            raise mismatch(f"{where}.{name}", hint, value)


def from_values(kind: type[Record], values: Any, where: str) -> Record:
    """Build a self-checking dataclass from plain JSON values.

    Raises:
        InputError: If a setting is unknown, missing or does not fit.
    """
    if not isinstance(values, dict):
        raise InputError(f"the record's {where} must be a table of settings, got {shown(values)}")
    known = {setting.name: setting for setting in settings_of(kind)}
    for name in values:
        if name not in known:
            raise InputError(
                f"the record's {where} has a setting that this version does not know: {shown(name)}; "
                f"{did_you_mean(name[:LONGEST_NAME], list(known))}there are: {', '.join(known)}"
            )
    missing = [s.name for s in known.values() if s.default is dataclasses.MISSING and s.name not in values]
    if missing:
        raise InputError(f"the record's {where} is incomplete: {', '.join(missing)} missing")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def read(name: str, hint: Any, words: list[str]) -> Any:
    """Return the value of command-line words.

    Raises:
        InputError: If they do not fit the type and range; `name` is the setting's name in the message.
    """
    value = _read(words, hint)
    if not fits(value, hint):
        wanted = typing.get_args(hint)[0] if typing.get_origin(hint) in UNIONS else hint  # a word cannot give None
        raise mismatch(name, wanted, words[0] if len(words) == 1 else tuple(words))
    return value


def _read(words: list[str], hint: Any) -> Any:
    """Convert words as far as the type allows; other words stay text and fail the check."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _read(words, arguments[0])
    if origin in UNIONS:
        return None if words == ["None"] else _read(words, arguments[0])
    if origin is tuple:
        parts = (arguments[0],) * len(words) if arguments[-1] is Ellipsis else arguments
        return tuple(_read([word], part) for word, part in zip(words, parts)) if len(words) == len(parts) else words
    (word,) = words
    if origin is Literal:
        return next((option for option in arguments if str(option) == word), word)
    try:
        return _READERS[hint](word)
    except ValueError:
        return word


def _path(word: str) -> Path:
    if not word:
        raise ValueError("the empty text names no file")
    return Path(os.path.expanduser(word))


_READERS = {int: int, float: float, str: os.path.expanduser, Path: _path}


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value has the type and lies in the range of a field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        kind, *limits = arguments
        return fits(value, kind) and all(limit.holds(value) for limit in limits if hasattr(limit, "holds"))
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in arguments)
    if origin in UNIONS:
        return any(fits(value, option) for option in arguments)
    if origin is dict:
        key, entry = arguments
        return isinstance(value, dict) and all(fits(k, key) and fits(v, entry) for k, v in value.items())
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        parts = (arguments[0],) * len(value) if arguments[-1] is Ellipsis else arguments
        return len(value) == len(parts) and all(map(fits, value, parts))
    if hint is float:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole or (isinstance(value, float) and math.isfinite(value))
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def seed_of(value: Any) -> int:
    """Return a seed as an int, also one of numpy; InputError unless it is a whole number of at least 0."""
    seed = int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else value
    if not fits(seed, Seed):
        raise mismatch("seed", Seed, value)
    return seed


def mismatch(name: str, hint: Any, value: Any) -> InputError:
    """Return the error about an invalid value: expected value, given value and suggestion."""
    near = did_you_mean(value[:LONGEST_NAME], choices(hint)) if isinstance(value, str) else ""
    return InputError(f"{name} must be {words(hint)}, got {shown(value)}{near and f'; {near.rstrip()}'}")


def choices(hint: Any) -> list[str]:
    """List the names that a field may hold, or nothing if it is not a choice."""
    if isinstance(hint, Choice):
        return list(hint.registry)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return [str(option) for option in arguments]
    if typing.get_origin(hint) in (Annotated, *UNIONS):
        return [name for argument in arguments for name in choices(argument)]
    return []


def words(hint: Any) -> str:
    """Return a description of a type and its range."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if names := choices(hint):
        nothing = origin in UNIONS and type(None) in arguments
        return f"one of {', '.join(names)}{' or None' if nothing else ''}"
    if origin is Annotated:
        kind, *limits = arguments
        ranges = [limit for limit in limits if isinstance(limit, Between | Length)]
        if kind is str and ranges:
            return f"text of {ranges[0]} printable characters"
        if typing.get_origin(kind) is tuple:
            return f"{ranges[0]} values, each {words(typing.get_args(kind)[0])}"
        return " ".join([words(kind), *map(str, ranges)])
    if origin in UNIONS:
        return " or ".join(words(option) for option in arguments)
    if origin is tuple:
        return f"({', '.join('...' if part is Ellipsis else words(part) for part in arguments)})"
    if origin is dict:
        return "a table"
    return _NAMES.get(hint, getattr(hint, "__name__", "another kind of value"))


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    type(None): "None",
}
