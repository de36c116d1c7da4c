"""Tests that prove the statements of the theory, read from `@pytest.mark.proves("S7", ...)` in the test files.

Standard library only, so that tools/evidence.py runs without an environment.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

TESTS = Path(__file__).parent.parent
THEORY = TESTS.parent / "docs" / "theory.md"
ANCHOR = re.compile(r'<a id="([SMEKBO]\d+[a-z]?)"></a>')
# Errata with a section and a number in docs/errata.md
ERRATA = ("E1", "E4", "E5", "E7", "E12", "E14", "E15", "E17", "E20", "E22", "E23c", "E25", "E27", "E29")


def proofs() -> dict[str, list[str]]:
    """Statements that each test proves: {"test_vae.py::test_name": ["S7", "O6"]}."""
    return {
        f"{path.relative_to(TESTS)}::{test}": ids
        for path in sorted(TESTS.rglob("test_*.py"))
        for test, ids in proofs_in(path)
    }


def proofs_in(path: Path) -> Iterable[tuple[str, list[str]]]:
    """Tests of one file that carry the marker, with the statements it names."""
    text = path.read_text()
    for test in ast.parse(text).body if "mark.proves(" in text else []:
        for call in getattr(test, "decorator_list", []):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.proves":
                yield test.name, [ast.literal_eval(argument) for argument in call.args]


def required() -> list[str]:
    """Statements, oracles and errata of the theory that need a passing test."""
    return [name for name in ANCHOR.findall(THEORY.read_text()) if name[0] in "SMBO" or name in ERRATA]


def unproven(named: Mapping[str, list[str]], outcomes: Mapping[str, Iterable[str]], needed: Iterable[str]) -> list[str]:
    """Describe each marked test that did not pass, and each needed statement that no test names.

    Args:
        named: Statements by test.
        outcomes: Outcomes by test, over its parameters and phases.
        needed: Statements that need a test.
    """
    lines = []
    for test, ids in named.items():
        bad = sorted({"did not run"} if not outcomes.get(test) else set(outcomes[test]) - {"passed"})
        if bad:
            lines.append(f"{', '.join(ids)}: {test} {' and '.join(bad)}")
    proven = {name for ids in named.values() for name in ids}
    return [*lines, *(f"{name}: no test has the marker" for name in needed if name not in proven)]
