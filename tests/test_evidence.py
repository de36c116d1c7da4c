"""The table of evidence names every statement once, code that exists, tests that exist, and its page is up to date."""

import ast
import functools
import importlib
import importlib.util
import pydoc
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evidence import ORACLES, REQUIRED, all_rows, named_tests, unproven

TESTS = Path(__file__).parent
ROWS = all_rows()


def test_every_statement_has_one_row_in_order_of_its_kind():
    ids = [row.id for row in ROWS]
    assert len(REQUIRED) == 68 + 15 + 7 + 2
    assert ids == list(REQUIRED)
    assert all(row.statement and row.code and row.tests for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_code_and_tests_of_a_row_exist(row):
    for name in row.code:
        assert pydoc.locate(name) is not None, f"{row.id} names {name}, which cannot be imported"
    for test in row.tests:
        file, name = test.split("::")
        assert name in functions_of(file), f"{row.id} names {test}, which does not exist"


@functools.cache
def functions_of(file: str) -> set[str]:
    """Names of the test functions that a file defines."""
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_oracle_of_the_list_is_used_and_its_files_exist():
    assert {number for row in ROWS for number in row.oracles} == set(ORACLES) == set(range(1, 31))
    for words in ORACLES.values():
        names = words.rstrip(")").rsplit("(", 1)[1].split(", ")
        assert names == ["in the tests"] or all((TESTS / "oracles" / f"{name}.json").exists() for name in names)


def test_the_page_is_what_the_tool_would_write_today():
    tool = TESTS.parent / "tools" / "evidence.py"
    spec = importlib.util.spec_from_file_location("evidence_page", tool)
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: make evidence"


def test_links_of_the_page_lead_to_files():
    page = TESTS.parent / "docs" / "evidence.md"
    targets = {part.split(")")[0] for part in page.read_text(encoding="utf-8").split("](")[1:]}
    assert len(targets) > 10
    assert [target for target in targets if not (page.parent / target).exists()] == []


# A statement without a passing test fails the build


def test_only_a_test_that_passed_and_did_nothing_else_proves_a_statement():
    named = {"a": ["S1"], "b": ["S1", "M2"], "c": ["S3"], "d": ["S4"], "e": ["S5"]}
    seen = {"a": {"passed"}, "b": {"passed", "failed"}, "c": {"skipped"}, "e": {"expected to fail"}}
    assert unproven(named, seen) == ["S1, M2: b failed", "S3: c skipped", "S4: d did not run", "S5: e expected to fail"]


STUB = """
from evidence_rules import unproven
def named_tests():
    return {"test_one.py::test_held": ["S1"], "test_two.py::test_gone": ["S2"], "test_two.py::test_late": ["S3"]}
"""


def project(folder: Path, second: str) -> Path:
    """A small project that has our conftest and a table of three tests; `second` is its test_two.py."""
    tests = folder / "tests"
    tests.mkdir()
    shutil.copy(TESTS / "conftest.py", tests)
    shutil.copy(TESTS / "evidence.py", tests / "evidence_rules.py")
    (tests / "evidence.py").write_text(STUB)
    (tests / "test_one.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', ['a::b', 'c'])\ndef test_held(n): pass\n"
    )
    (tests / "test_two.py").write_text(f"import pytest\n{second}")
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\ntestpaths = ['tests']\n")
    return folder


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of pytest in a project."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


GOOD = "def test_gone(): pass\ndef test_late(): pass\n"
SKIPPED = "def test_gone(): pass\n@pytest.mark.skip\ndef test_late(): pass\n"
EXPECTED = "def test_gone(): pass\n@pytest.mark.xfail\ndef test_late(): assert 0\n"
RENAMED = "def test_other(): pass\ndef test_late(): pass\n"


@pytest.mark.parametrize(
    ("workers", "second", "words"),
    [
        ("0", SKIPPED, "S3: test_two.py::test_late skipped"),
        ("0", EXPECTED, "S3: test_two.py::test_late expected to fail"),
        ("2", RENAMED, "S2: test_two.py::test_gone did not run"),
    ],
)
def test_a_full_run_fails_where_a_named_test_did_not_pass(tmp_path, workers, second, words):
    status, output = run(project(tmp_path, second), "-n", workers)
    assert status == 1, output
    assert words in output
    assert "test_held" not in output


def test_a_full_run_passes_where_all_have(tmp_path):
    for arguments in (("-n", "0"), ("-n", "2", "tests")):
        if not (tmp_path / "tests").exists():
            project(tmp_path, GOOD)
        status, output = run(tmp_path, *arguments)
        assert status == 0, output
        assert "statements" not in output


def test_a_part_of_the_tests_is_left_alone(tmp_path):
    project(tmp_path, SKIPPED)
    for arguments in (("-k", "held"), ("tests/test_one.py",), ("-x", "--deselect", "tests/test_one.py")):
        status, output = run(tmp_path, "-n", "0", *arguments)
        assert status == 0, output
    (tmp_path / "tests" / "test_one.py").write_text("def test_held(): assert 0\n")
    status, output = run(tmp_path, "-n", "0", "-x")  # stopped before the others could run
    assert status == 1
    assert "statements" not in output


def test_every_named_test_is_named_by_its_file_and_function_alone():
    assert [name for name in named_tests() if "[" in name or not name.startswith("test_")] == []
