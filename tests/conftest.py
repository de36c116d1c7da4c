"""One thread per worker; a full run fails unless every test that proves a statement of the theory has passed.

A test that is skipped or expected to fail proves nothing. A run of part of the tests is not checked.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import torch

from harness.proofs import proofs, required, unproven

HERE = Path(__file__).parent
PARTIAL = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "collectonly")
outcomes: dict[str, set[str]] = defaultdict(set)  # of file::test, over its parameters and phases
failures: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # one process per core: threads of several would wait for one another
        torch.set_num_threads(1)


def is_full(config: pytest.Config) -> bool:
    """Whether all tests were asked for: no part chosen by name, mark, file or history."""
    if any(config.getoption(option, default=None) for option in PARTIAL):
        return False
    asked = {(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args}
    return asked <= {HERE, HERE.parent} and not any("::" in argument for argument in config.args)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = report.nodeid.split("[")[0].removeprefix(f"{HERE.name}/")
    if hasattr(report, "wasxfail"):
        outcomes[name].add("expected to fail")
    elif report.when == "call" or not report.passed:
        outcomes[name].add(report.outcome)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    stopped = session.shouldstop or session.shouldfail or exitstatus not in (0, 1)
    if hasattr(session.config, "workerinput") or stopped or not is_full(session.config):
        return  # a worker sees its own tests only
    failures.extend(unproven(proofs(), outcomes, required()))
    if failures:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if failures:
        terminalreporter.section("statements without a passing test", red=True)
        for line in failures:
            terminalreporter.line(line)
