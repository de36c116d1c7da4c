"""Planted faults: wrong lines for the library, each declared on the test that must notice it.

`@catches` only declares. The faults are read from the text of the test files, so collecting them imports nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

TESTS = Path(__file__).parent.parent
PACKAGE = TESTS.parent / "src" / "kakusan"
Test = TypeVar("Test")


def catches(file: str, old: str, new: str, fault: str, *, case: str = "") -> Callable[[Test], Test]:
    """Declare that the decorated test fails when one text of the library is replaced by another.

    Args:
        file: File under src/kakusan.
        old: Text that occurs exactly once in it.
        new: Text that replaces it.
        fault: What is then wrong, in words.
        case: Parameter id of the test that must fail (default: any).
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
                file, old, new, name = map(ast.literal_eval, call.args)
                case = "".join(f"[{ast.literal_eval(keyword.value)}]" for keyword in call.keywords)
                yield Fault(name, file, old, new, f"{path.relative_to(TESTS)}::{test.name}{case}")
