"""The examples in docstrings and pages that look like a Python session print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def with_examples(paths) -> list[Path]:
    """Files that hold a line with the prompt of a Python session."""
    return sorted(path for path in paths if ">>> " in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", with_examples(SRC.rglob("*.py")), ids=lambda path: path.stem)
def test_examples_of_a_module_print_what_they_say(path):
    name = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("path", with_examples(PAGES), ids=lambda path: path.stem)
def test_examples_of_a_page_print_what_they_say(path):
    failed, tried = doctest.testfile(str(path), module_relative=False, encoding="utf-8")
    assert tried > 0
    assert failed == 0
