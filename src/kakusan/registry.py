"""Registries of names whose objects are imported on first use.

Solvers, likelihoods, networks, model families, metrics, kinds of data and recipes are all found through a `Registry`.
A built-in entry is one file and one line in its registry. Your own objects need no entry: pass them directly.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kakusan.errors import InputError

CLOSE_ENOUGH = 0.6  # lowest similarity at which a name is suggested


class Registry(Mapping[str, Any]):
    """A read-only table from names to objects that are imported on first use.

    Args:
        kind: Name of one entry in error messages, e.g. "solver".
        places: "module:attribute" for each name.
    """

    def __init__(self, kind: str, places: Mapping[str, str]):
        self.kind = kind
        self._places = dict(places)

    def __getitem__(self, name: str) -> Any:
        """Return the object of this name.

        Raises:
            InputError: If there is none; the message suggests the nearest name.
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
        homes: The module of the package that defines each name.
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
    """Return the choice most similar to a word, or None if no choice is similar."""
    return next(iter(difflib.get_close_matches(word, list(choices), n=1, cutoff=CLOSE_ENOUGH)), None)


def did_you_mean(word: object, choices: Iterable[str]) -> str:
    """Return a suggestion that ends in "? ", or an empty text if no choice is similar."""
    near = nearest(str(word), choices)
    return f"did you mean {near!r}? " if near else ""
