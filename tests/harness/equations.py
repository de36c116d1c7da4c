"""Equations of the theory pages: the code that computes each one and the tests that hold it.

An equation is a fence in a page:

    ```{equation} S7 S8
    :code: kakusan.bound.elbo
    \\mathrm{ELBO}(x) = ...
    ```

Its arguments are statements of docs/theory.md. Its tests are those with the marker `proves` of one of them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path

from harness.proofs import ANCHOR, THEORY, proofs

ROOT = Path(__file__).resolve().parent.parent.parent
FENCE = re.compile(r"^```\{equation\} (.*)\n:code: (.*)\n((?:.*\n)*?)```$", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """Lines of a file of the repository, under a name."""

    name: str
    file: str
    line: int


@dataclass(frozen=True)
class Equation:
    """One equation of a page."""

    statements: tuple[str, ...]
    code: tuple[str, ...]
    formula: str


def equations(text: str) -> list[Equation]:
    """Equations of a page, in order."""
    return [Equation(tuple(s.split()), tuple(c.split()), f.strip()) for s, c, f in FENCE.findall(text)]


def place_of(name: str) -> Place:
    """Where `kakusan.module.object` is defined.

    Raises:
        ValueError: If there is no such object.
    """
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = inspect.getattr_static(found, part, None) or getattr(found, part, None)
            if found is None:
                break
        else:
            found = getattr(found, "func", None) or getattr(found, "fget", None) or getattr(found, "__func__", found)
            file = Path(inspect.getsourcefile(found) or "").relative_to(ROOT)
            return Place(name, str(file), 1 if inspect.ismodule(found) else inspect.getsourcelines(found)[1])
    raise ValueError(f"there is no {name}")


@functools.cache
def known_statements() -> frozenset[str]:
    """Every statement that docs/theory.md defines."""
    return frozenset(ANCHOR.findall(THEORY.read_text(encoding="utf-8")))


@functools.cache
def marked_tests() -> dict[str, list[str]]:
    """Statements that each test proves."""
    return proofs()


def proofs_of(statements: tuple[str, ...]) -> list[Place]:
    """Tests that prove any of the statements, those that prove the fewest others first.

    Raises:
        ValueError: If a statement is not defined, or no test proves it.
    """
    found: list[tuple[int, str]] = []
    for statement in statements:
        if statement not in known_statements():
            raise ValueError(f"docs/theory.md defines no {statement}")
        hits = [(len(names), test) for test, names in marked_tests().items() if statement in names]
        if not hits:
            raise ValueError(f"no test proves {statement}")
        found += sorted(hits)
    return [_test_place(test) for test in dict.fromkeys(test for _, test in found)]


def _test_place(test: str) -> Place:
    file, name = test.split("::")
    lines = (ROOT / "tests" / file).read_text(encoding="utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith(f"def {name}("))
    return Place(name.removeprefix("test_").replace("_", " "), f"tests/{file}", line)
