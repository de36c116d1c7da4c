"""Every statement of the theory is proved by a test that passes, and docs/evidence.md is up to date."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.proofs import ANCHOR, ERRATA, THEORY, proofs, required, unproven

TESTS = Path(__file__).parent


def test_the_theory_has_every_statement_and_oracle_once():
    anchors = ANCHOR.findall(THEORY.read_text(encoding="utf-8"))
    numbers = [*(f"S{n}" for n in range(1, 69)), *(f"M{n}" for n in range(1, 16)), *(f"O{n}" for n in range(1, 31))]
    for name in (*numbers, *ERRATA):
        assert anchors.count(name) == 1, name


def test_markers_name_statements_that_exist():
    known = set(ANCHOR.findall(THEORY.read_text(encoding="utf-8")))
    assert {name: test for test, names in proofs().items() for name in names if name not in known} == {}


def test_every_statement_and_oracle_has_a_test():
    named = proofs()
    assert len(required()) >= 122
    assert unproven(named, {test: {"passed"} for test in named}, required()) == []


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
    targets = {part.split(")")[0].split("#")[0] for part in page.read_text(encoding="utf-8").split("](")[1:]}
    assert len(targets) > 10
    assert [target for target in targets if not (page.parent / target).exists()] == []


# A statement without a passing test fails the build


def test_only_a_test_that_passed_and_did_nothing_else_proves_a_statement():
    named = {"a": ["S1"], "b": ["S1", "M2"], "c": ["S3"], "d": ["S4"], "e": ["S5"]}
    seen = {"a": {"passed"}, "b": {"passed", "failed"}, "c": {"skipped"}, "e": {"expected to fail"}}
    lines = ["S1, M2: b failed", "S3: c skipped", "S4: d did not run", "S5: e expected to fail"]
    assert unproven(named, seen, ["S1", "S5"]) == lines
    assert unproven(named, seen, ["S1", "S6"]) == [*lines, "S6: no test has the marker"]


PROJECT = """
[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["tests"]
markers = ["proves"]
"""


def project(folder: Path, second: str) -> Path:
    """A small project that has our conftest and a theory of three statements; `second` is its test_two.py."""
    tests, docs = folder / "tests", folder / "docs"
    (tests / "harness").mkdir(parents=True)
    docs.mkdir()
    for file in ("conftest.py", "harness/__init__.py", "harness/proofs.py"):
        shutil.copy(TESTS / file, tests / file)
    (docs / THEORY.name).write_text("".join(f'<a id="S{n}"></a>\n' for n in (1, 2, 3)))
    first = "@pytest.mark.proves('S1')\n@pytest.mark.parametrize('n', ['a::b', 'c'])\ndef test_held(n): pass\n"
    for name, text in (("one", first), ("two", second)):
        (tests / f"test_{name}.py").write_text(f"import pytest\n{text}")
    (tests / "torch.py").write_text("def set_num_threads(num): pass\n")  # the real one takes seconds to import
    (folder / "pyproject.toml").write_text(PROJECT)
    return folder


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of pytest in a project."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


S2, S3 = "@pytest.mark.proves('S2')\n", "@pytest.mark.proves('S3')\n"
GOOD = f"{S2}def test_gone(): pass\n{S3}def test_late(): pass\n"
SKIPPED = f"{S2}def test_gone(): pass\n{S3}@pytest.mark.skip\ndef test_late(): pass\n"
EXPECTED = f"{S2}def test_gone(): pass\n{S3}@pytest.mark.xfail\ndef test_late(): assert 0\n"
UNMARKED = f"def test_gone(): pass\n{S3}def test_late(): pass\n"


@pytest.mark.parametrize(
    ("workers", "second", "words"),
    [
        ("0", SKIPPED, "S3: test_two.py::test_late skipped"),
        ("0", EXPECTED, "S3: test_two.py::test_late expected to fail"),
        ("2", UNMARKED, "S2: no test has the marker"),
    ],
)
def test_a_full_run_fails_where_a_statement_is_not_proved(tmp_path, workers, second, words):
    status, output = run(project(tmp_path, second), "-n", workers)
    assert status == 1, output
    assert words in output
    assert "test_held" not in output


def test_a_full_run_passes_where_all_are(tmp_path):
    project(tmp_path, GOOD)
    for arguments in (("-n", "0"), ("-n", "2", "tests")):
        status, output = run(tmp_path, *arguments)
        assert status == 0, output
        assert "statements" not in output


def test_a_part_of_the_tests_is_not_checked(tmp_path):
    project(tmp_path, SKIPPED)
    for arguments in (("-k", "held"), ("tests/test_one.py",), ("-x", "--deselect", "tests/test_one.py")):
        status, output = run(tmp_path, "-n", "0", *arguments)
        assert status == 0, output
    (tmp_path / "tests" / "test_one.py").write_text("def test_held(): assert 0\n")
    status, output = run(tmp_path, "-n", "0", "-x")  # stopped before the others could run
    assert status == 1
    assert "statements" not in output
