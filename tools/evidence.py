"""Write docs/evidence.md: each statement of the theory, the code that cites it and the tests that prove it.

python3 tools/evidence.py    (standard library only)
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from harness.proofs import ANCHOR, THEORY, proofs, required  # noqa: E402

PAGE = ROOT / "docs" / "evidence.md"
PACKAGE = ROOT / "src" / "kakusan"
CITATION = re.compile(r"\b([SMEKB])(\d+)([a-z]?)\b(?:(?:-| to )\1(\d+)\b)?")  # S7, E23c, S12 to S31
HEAD = f"""\
# Evidence

Each statement of [the theory]({THEORY.name}), the code that cites it, and the tests that prove it. S and M are statements,
E errata of the study notes ([details](errata.md)), B statements beyond the notes. O are oracles: exact values from code
that shares nothing with the library ([files](../tests/oracles)). A full run of the tests fails if a test named here is
missing, skipped or failing.

Written by `make evidence` from the markers `@pytest.mark.proves` and the citations in src. Do not edit.
"""


def page() -> str:
    """The whole document."""
    tests, code, needed = by_statement(), citations(), set(required())
    lines = [HEAD, f"{len(needed)} statements and oracles, {len(proofs())} tests."]
    for title, statements in sections():
        rows = [row(name, text, code[name], tests[name]) for name, text in statements if name in needed]
        if rows:
            lines += [f"\n## {title}\n", "| | statement | code | tests |", "|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Headings of the theory, each with its statements: (number, first line)."""
    for section in re.split(r"^##+ ", THEORY.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        parts = ANCHOR.split(body)
        yield ANCHOR.sub("", title).strip(), [(name, sentence(text)) for name, text in zip(parts[1::2], parts[2::2])]


def sentence(text: str) -> str:
    """First line of a statement, without its number."""
    line = text.strip().split("\n")[0].strip(" |*")
    return re.sub(r"^\**[SMEKBO]\d+[a-z]?\**[.:)]?\**\s*", "", line).replace("|", "\\|")


def by_statement() -> dict[str, list[str]]:
    """Tests that prove each statement."""
    found = defaultdict(list)
    for test, names in proofs().items():
        for name in names:
            found[name].append(test)
    return found


def citations() -> dict[str, list[str]]:
    """Modules, classes and functions of the library whose docstring or comment cites each number."""
    found = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        scopes = list(scopes_of(ast.parse(text), ".".join(path.relative_to(PACKAGE).with_suffix("").parts)))
        for number, line in enumerate(text.splitlines(), 1):
            for name in cited(line):
                scope = [label for first, last, label in scopes if first <= number <= last][-1]
                if scope not in found[name]:
                    found[name].append(scope)
    return found


def cited(line: str) -> Iterator[str]:
    """Numbers that a line cites, ranges included."""
    for letter, first, part, last in CITATION.findall(line):
        yield from (
            (f"{letter}{number}" for number in range(int(first), int(last) + 1)) if last else [letter + first + part]
        )


def scopes_of(node: ast.AST, label: str) -> Iterator[tuple[int, int, str]]:
    """First line, last line and dotted name of a module and of all that it defines, outermost first."""
    yield getattr(node, "lineno", 1), getattr(node, "end_lineno", sys.maxsize), label
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from scopes_of(child, f"{label}.{child.name}")


def row(name: str, text: str, code: list[str], tests: list[str]) -> str:
    """One row of a table."""
    return f"| [{name}]({THEORY.name}#{name}) | {text} | {'<br>'.join(f'`{label}`' for label in code)} | {'<br>'.join(map(link, tests))} |"


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
