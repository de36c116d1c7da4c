"""Planted faults: wrong lines for the library, each declared on the test that must notice it.

`@catches` only declares. The faults are read from the text of the test files, so collecting them imports nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

TESTS = Path(__file__).parent.parent
PACKAGE = TESTS.parent / "src" / "kakusan"
Test = TypeVar("Test")


def catches(fault: str, *more: str, case: str = "") -> Callable[[Test], Test]:
    """Declare a fault that the decorated test must catch, written as a change of one file.

    The first line is `file: what is then wrong`, with the parameter id of the test that must fail in brackets if it is
    one of several. Lines with `- ` are the text to replace, which occurs exactly once in the file under src/kakusan;
    lines with `+ ` replace it.

        schedule.py: the cumulative product is one step late [alpha_bar-small_T5]
        - return self.beta.cumsum(0)
        + return self.beta[:-1].cumsum(0)
    """
    return lambda test: test


@dataclass(frozen=True)
class Fault:
    """A wrong line in place of a right one."""

    name: str  # what is wrong, in words
    file: str  # under src/kakusan
    old: str  # occurs once in it
    new: str
    caught_by: str  # file::test or file::test[case]; this one test must fail

    @property
    def times(self) -> int:
        """Number of times that the text to change occurs; 0 if the file is gone."""
        path = PACKAGE / self.file
        return path.read_text().count(self.old) if path.exists() else 0

    def planted(self) -> str:
        """Text of the file with the fault in it."""
        return (PACKAGE / self.file).read_text().replace(self.old, self.new, 1)


def all_faults() -> list[Fault]:
    """Every fault of every test file, in order."""
    return [fault for path in sorted(TESTS.rglob("test_*.py")) for fault in faults_of(path)]


def faults_of(path: Path) -> Iterator[Fault]:
    """Faults declared in one test file."""
    text = path.read_text()
    if "@catches(" not in text:
        return
    for test in ast.parse(text).body:
        if not isinstance(test, ast.FunctionDef):
            continue
        for call in test.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "catches":
                yield read(
                    [ast.literal_eval(argument) for argument in call.args],
                    call.keywords,
                    f"{path.relative_to(TESTS)}::{test.name}",
                )


def read(arguments: list[str], keywords: list[ast.keyword], test: str) -> Fault:
    """A fault from what a decorator says."""
    if len(arguments) > 1:  # file, old, new, what is wrong, case=
        file, old, new, name = arguments
        case = "".join(ast.literal_eval(keyword.value) for keyword in keywords)
    else:
        head, *lines = arguments[0].removesuffix("\n").split("\n")
        said = re.fullmatch(r"([\w/]+\.py): (.+?)(?: \[(.*)\])?", head)
        if not said or not all(line.startswith(("-", "+")) for line in lines):
            raise ValueError(f"{test}: expected `file: what is wrong [case]` and lines with - and +, got {head!r}")
        file, name, case = said.groups()
        old, new = ("\n".join(line[2:] for line in lines if line[0] == sign) for sign in "-+")
    return Fault(name, file, old, new, f"{test}[{case}]" if case else test)
