"""Write docs/evidence.md from the table in tests/evidence.py. Standard library only.

python3 tools/evidence.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # before this folder, whose file of that name is this one

from evidence import GROUPS, ORACLES, Group, Row  # noqa: E402

PAGE = ROOT / "docs" / "evidence.md"
HEAD = """\
# Evidence

Every statement of the theory, the code that realises it, and the tests that hold it. S and M are statements, E errata
of the study notes ([told at length](errata.md)), B statements beyond the notes; O numbers are oracles, exact values made by
code that shares nothing with the library ([those that the tests need](../tests/oracles)). A full run of the tests fails if one of the tests
named here is missing, is skipped, or does not pass.

Written by `make evidence` from [`tests/evidence.py`](../tests/evidence.py).
"""


def page() -> str:
    """The whole document."""
    rows = [row for group in GROUPS for row in group.rows]
    tests = {test for row in rows for test in row.tests}
    count = f"{len(rows)} statements, {len(tests)} tests.\n"
    return "\n".join([HEAD, count, *(section(group) for group in GROUPS), oracles()])


def section(group: Group) -> str:
    """A heading and a table."""
    head = f"## {group.title}\n\n| | statement | code | tests | oracles |\n|---|---|---|---|---|\n"
    return head + "".join(line(row) for row in group.rows)


def oracles() -> str:
    """What the O numbers stand for."""
    lines = "".join(f"| O{number} | {words} |\n" for number, words in ORACLES.items())
    return f"## Oracles\n\nIn brackets: the file of [tests/oracles](../tests/oracles).\n\n| | |\n|---|---|\n{lines}"


def line(row: Row) -> str:
    """A row of the table."""
    code = "<br>".join(f"`{name.removeprefix('kakusan.')}`" for name in row.code)
    tests = "<br>".join(link(test) for test in row.tests)
    oracles = ", ".join(f"O{number}" for number in row.oracles)
    return f"| {row.id} | {row.statement.replace('|', chr(92) + '|')} | {code} | {tests} | {oracles} |\n"


def link(test: str) -> str:
    """The test in words, linked to its file."""
    file, name = test.split("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../tests/{file})"


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
