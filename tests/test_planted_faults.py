"""Every planted fault makes the test fail that is there to catch it."""

import ast
import functools
import os

import pytest

from harness.faults import PACKAGE, TESTS, all_faults, faults_of
from harness.planting import CAUGHT, PASSED, ids_in, start_server, verdict, verdict_without
from harness.unguarded import unguarded

FAULTS = all_faults()
FEWEST = 530

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a fault is planted in a fork of a process")


@pytest.fixture(scope="session")
def server():
    start_server()


@functools.cache
def syntax(text: str) -> str:
    return ast.dump(ast.parse(text))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught(server, tmp_path, fault):
    assert fault.times == 1, f"{fault.file} has {fault.times} times: {fault.old}"
    found = verdict(fault.caught_by, fault.file, fault.planted(), tmp_path)
    assert found == CAUGHT, f"{fault.name}: {fault.caught_by} must fail, but {found}"


def test_every_decorator_is_read():
    for path in TESTS.glob("test_*.py"):
        assert path.read_text().count("\n@catches(") == len(list(faults_of(path))), path.name


def test_every_decorator_stands_above_a_test():
    assert [fault.name for fault in FAULTS if not fault.caught_by.split("::")[-1].startswith("test_")] == []


def test_every_fault_still_has_its_place_in_the_source():
    assert [fault for fault in FAULTS if fault.times != 1] == [], "run: PYTHONPATH=tests python -m harness.lost_faults"


def test_every_statement_of_the_theory_has_a_fault_that_one_of_its_tests_must_catch():
    assert unguarded() == {}, "run: PYTHONPATH=tests python -m harness.unguarded"


def test_every_fault_changes_the_program_and_leaves_it_one():
    for fault in FAULTS:
        assert syntax((PACKAGE / fault.file).read_text()) != syntax(fault.planted()), fault.name


@pytest.mark.slow
def test_every_case_that_is_to_catch_a_fault_exists(server, tmp_path):
    named = {fault.caught_by for fault in FAULTS}
    known = ids_in(sorted({name.split("::")[0] for name in named}), tmp_path)
    known = {*known, *(name.split("[")[0] for name in known)}  # a name without a case stands for all of them
    assert not named - known


@pytest.mark.slow
def test_without_a_fault_they_all_pass(server, tmp_path):
    assert verdict_without(sorted({fault.caught_by for fault in FAULTS}), tmp_path) == PASSED


def test_there_are_many_faults_and_no_two_of_a_name():
    assert len(FAULTS) >= FEWEST
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len({(fault.file, fault.old, fault.new) for fault in FAULTS}) == len(FAULTS)


@pytest.mark.slow
def test_a_test_that_does_not_notice_is_not_taken_for_one_that_does(server, tmp_path):
    units = (PACKAGE / "units.py").read_text()
    unnoticed = "test_units.py::test_a_better_likelihood_is_a_lower_rate"
    assert verdict(unnoticed, "units.py", units.replace("math.log(2)", "1.0"), tmp_path) == "passed"
    assert verdict(unnoticed, "units.py", units.replace("math.log(2)", "log2"), tmp_path).startswith("broke down")
    assert verdict(unnoticed, "data/idx.py", "", tmp_path) == "the test does not use data/idx.py"
    assert verdict("test_units.py::test_nothing", "units.py", units, tmp_path) == "no test ran"
    assert verdict("test_units.py", "units.py", "raise ImportError", tmp_path) == "no test ran"
