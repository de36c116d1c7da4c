"""Registries of names whose objects are imported on first use.

Solvers, likelihoods, networks, model families, metrics, kinds of data and recipes are all found through a `Registry`.
A built-in entry is one file and one line in its registry. Your own object needs neither.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kakusan.errors import InputError

CLOSE_ENOUGH = 0.6  # least similarity of a suggestion


class Registry(Mapping[str, Any]):
    """A read-only table from names to objects that are imported on first use.

    Args:
        kind: Name of one entry in error messages, e.g. "solver".
        places: For each name "module:attribute".
    """

    def __init__(self, kind: str, places: Mapping[str, str]):
        self.kind = kind
        self._places = dict(places)

    def __getitem__(self, name: str) -> Any:
        """The object of this name.

        Raises:
            InputError: If there is none; the message names the nearest.
        """
        if not isinstance(name, str) or name not in self._places:
            raise InputError(f"no {self.kind} {name!r}; {did_you_mean(name, self._places)}there are: {', '.join(self)}")
        module, _, attribute = self._places[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def lazy_names(
    package: str, homes: Mapping[str, str], public: Iterable[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package whose names are imported on first use.

    Args:
        package: Its `__name__`.
        homes: For each name the module in the package that defines it.
        public: Its `__all__`.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(missing(package, name, public))
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return load, lambda: list(public)


def missing(module: str, name: str, public: Iterable[str]) -> str:
    """Message of an AttributeError, with the nearest public name."""
    return f"module {module!r} has no attribute {name!r}; {did_you_mean(name, public)}".rstrip("; ")


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice most similar to a word, or None if none is near."""
    return next(iter(difflib.get_close_matches(word, list(choices), n=1, cutoff=CLOSE_ENOUGH)), None)


def did_you_mean(word: object, choices: Iterable[str]) -> str:
    """Return a suggestion that ends in "? ", or nothing if no choice is near."""
    near = nearest(str(word), choices)
    return f"did you mean {near!r}? " if near else ""
