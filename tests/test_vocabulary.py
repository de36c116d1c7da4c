"""Everything that a person reads uses the words of docs/notation.md: pages, help, messages, docstrings and comments."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.support import call
from kakusan.cli.arguments import COMMANDS
from kakusan.recipes import RECIPES

ROOT = Path(__file__).resolve().parent.parent
NOTATION = ROOT / "docs" / "notation.md"
FIRST_WORDS = re.compile(r"(Of|What|Whether|How|Which|Those|Whose|Who|Where|Why)\b")


def rejected() -> dict[str, str]:
    """Each rejected phrase and the words to write instead."""
    table = NOTATION.read_text(encoding="utf-8").split("## Rejected words")[1]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    return {phrase: write for phrases, write in rows for phrase in phrases.split(", ")}


def pattern_of(phrases: list[str], flags: int) -> re.Pattern[str]:
    """One pattern for all phrases; a star stands for any ending, a space for any white space."""
    forms = (re.escape(phrase).replace(r"\*", r"\w*").replace(r"\ ", r"\s+") for phrase in phrases)
    return re.compile(rf"(?<![\w-])({'|'.join(forms)})(?![\w-])", flags)


WORDS = rejected()
PATTERNS = (
    pattern_of([word for word in WORDS if word.islower()], re.IGNORECASE),
    pattern_of([word for word in WORDS if not word.islower()], 0),
)


def faults(text: str) -> list[str]:
    """Rejected phrases of a text, outside inline code and link targets."""
    prose = re.sub(r"`[^`\n]*`|\]\([^)\s]*\)|{[{%].*?[}%]}|<[^>\n]*>|https?://\S+", " ", text)
    return [match[0] for pattern in PATTERNS for match in pattern.finditer(prose)]


def python_texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of comments, docstrings and every string with a space in it."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield getattr(node, "lineno", 1), text


def pages() -> list[Path]:
    """Files whose text a person reads, history left out."""
    prose = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    src = ROOT / "src" / "kakusan"
    found = [*prose, *src.rglob("*.py"), *src.rglob("*.j2"), *src.rglob("*.html"), *src.rglob("*.css")]
    return sorted(path for path in found if path != ROOT / "docs" / "log.md")


def complaints(path: Path) -> list[str]:
    """One line for each rejected word of a file."""
    text = path.read_text(encoding="utf-8")
    if path == NOTATION:
        text = text.split("## Rejected words")[0]
    texts = python_texts(text) if path.suffix == ".py" else enumerate(text.splitlines(), 1)
    lines = [f"{path.name}:{line}: {word!r}" for line, found in texts for word in faults(found)]
    if path.suffix == ".py":
        starts = ((line, FIRST_WORDS.match(doc)) for line, doc in docstrings(text))
        lines += [f"{path.name}:{line}: a docstring begins with {match[0]!r}" for line, match in starts if match]
    return lines


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_uses_the_words_of_the_glossary(path):
    assert complaints(path) == [], "docs/notation.md says what to write instead"


HELPS = [[], *([command] for command in COMMANDS), *(["train", recipe] for recipe in RECIPES)]


@pytest.mark.parametrize("words", HELPS, ids=lambda words: " ".join(words) or "kakusan")
def test_help_uses_the_words_of_the_glossary(words, capsys):
    status, out, _ = call(capsys, *words, "--help")
    assert status == 0
    assert out.startswith(("usage: kakusan", "kakusan trains"))
    assert faults(out) == []
    assert re.findall(rf"(?m)^ {{2,}}-.*  {FIRST_WORDS.pattern}.*", out) == []


def test_the_table_of_rejected_words_is_read():
    assert len(WORDS) > 80
    assert WORDS["unless given"] == "default:"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Discretised pictures, grey.", ["Discretised", "pictures", "grey"]),
        ("Frechet distance", ["Frechet"]),
        ("`picture.py` and [link](picture.md), frechet", []),
        ("the run goes\n    on", ["goes\n    on"]),
    ],
)
def test_rejected_words_are_found_in_prose_alone(text, words):
    assert faults(text) == words


def test_messages_docstrings_and_comments_are_read():
    source = '"""Of a module."""\n# told\nraise ValueError(f"no {x} picture here")\n'
    assert [word for _, text in python_texts(source) for word in faults(text)] == ["told", "picture"]
    assert [bool(FIRST_WORDS.match(doc)) for _, doc in docstrings(source)] == [True]
