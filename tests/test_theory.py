"""Every number of the theory that code, tests or pages cite is defined once in docs/theory.md."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
THEORY = ROOT / "docs" / "theory.md"
CITED = re.compile(r"(?<![\w.+-])[SMEKBO][1-9]\d?[a-c]?(?!\w|\.\w)")
STATEMENT = re.compile(r'^- <a id="(\w+)"></a>\*\*(\w+)\.\*\* (\S.*)$', re.MULTILINE)
FAMILIES = {"S": 68, "M": 15, "K": 7, "B": 2, "E": 36, "O": 30}


def statements() -> list[tuple[str, str, str]]:
    """Anchor, number and first line of every statement of the page."""
    return STATEMENT.findall(THEORY.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """Files that may cite a statement."""
    code = [path for room in ("src", "tests", "benchmarks", "tools") for path in (ROOT / room).rglob("*.py")]
    prose = [path for path in (ROOT / "docs").rglob("*.md") if path.name != "log.md"]
    return sorted([*code, *prose, *ROOT.glob("*.md")])


def citations(text: str) -> set[str]:
    """Numbers of the theory that a text cites."""
    return set(CITED.findall(text))


def test_every_statement_stands_on_one_line_under_its_own_anchor():
    text = THEORY.read_text(encoding="utf-8")
    found = statements()
    assert len(found) == text.count("<a id=") == text.count("</a>**")
    assert [anchor for anchor, number, _ in found if anchor != number] == []
    assert len({anchor for anchor, _, _ in found}) == len(found)


@pytest.mark.parametrize(("letter", "count"), FAMILIES.items())
def test_the_numbers_of_a_letter_have_no_gap(letter, count):
    numbers = [anchor[1:] for anchor, _, _ in statements() if anchor[0] == letter]
    assert [number for number in numbers if number.isdigit()] == [str(number) for number in range(1, count + 1)]


def test_every_number_that_is_cited_is_defined():
    defined = {anchor for anchor, _, _ in statements()}
    lost = {
        str(path.relative_to(ROOT)): sorted(unknown)
        for path in pages()
        if (unknown := citations(path.read_text(encoding="utf-8")) - defined)
    }
    assert lost == {}, "cite a number that docs/theory.md defines, or define it there"


def test_every_link_to_a_statement_has_its_anchor():
    defined = {anchor for anchor, _, _ in statements()}
    for path in pages():
        for anchor in re.findall(r"theory\.md#(\w+)", path.read_text(encoding="utf-8")):
            assert anchor in defined, f"{path.name} links to theory.md#{anchor}"


def test_a_citation_is_a_letter_and_a_number_of_its_own():
    assert citations("S7, (M5) and E23c; theory S22.") == {"S7", "M5", "E23c", "S22"}
    assert citations("1E5 B023 E402 dpm++2M S3x noqa: S301 a.M2 BS8") == set()
