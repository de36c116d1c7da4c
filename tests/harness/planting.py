"""Run one test with one fault planted in the library, in a process of its own.

torch takes seconds to import, a fork takes milliseconds: a server process imports what is slow, but not the library,
and every fault gets a fork of it. The fork loads the changed module from memory, so no file is ever written to.
"""

from __future__ import annotations

import gc
import importlib.util
import multiprocessing
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from harness.faults import PACKAGE, TESTS

SOURCE = PACKAGE.parent
LIMIT_S = 600  # a test chosen here takes less than a second; only one that hangs comes near
SLOW_IMPORTS = [
    "torch",
    "torch._dynamo",
    "torch.distributions",
    "torch.testing",
    "numpy",
    "pytest",
    "safetensors.torch",
]

CAUGHT, PASSED = "caught", "passed"


class Changed(SourceFileLoader):
    """Importer of one module of the library from a changed text."""

    def __init__(self, file: str, text: str):
        parts = (PACKAGE / file).relative_to(SOURCE).with_suffix("").parts
        super().__init__(".".join(parts[:-1] if parts[-1] == "__init__" else parts), str(PACKAGE / file))
        self.text, self.used = text, False

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str):
        self.used = True
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Witness:
    """A pytest plugin that records the collected tests and what each of them raised."""

    def __init__(self):
        self.found: list[str] = []
        self.raised: list[BaseException | None] = []  # one for each test whose body ran

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        self.found.append(item.nodeid.removeprefix(f"{TESTS.name}/"))

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> None:
        if call.when == "call":
            self.raised.append(call.excinfo.value if call.excinfo else None)

    def verdict(self) -> str:
        """CAUGHT if an assertion of a test failed; a test that breaks down with another error has caught nothing."""
        if not self.raised:
            return "no test ran"
        wrong = [error for error in self.raised if error is not None]
        if not wrong:
            return PASSED
        checks = (AssertionError, pytest.fail.Exception)
        return CAUGHT if isinstance(wrong[0], checks) else f"broke down with {type(wrong[0]).__name__}: {wrong[0]}"


def start_server() -> None:
    """Start the fork server once, with one thread, which forking needs."""
    from multiprocessing import forkserver

    with pytest.MonkeyPatch.context() as patch:
        for library in ("OMP", "OPENBLAS", "MKL"):
            patch.setenv(f"{library}_NUM_THREADS", "1")
        multiprocessing.get_context("forkserver").set_forkserver_preload(SLOW_IMPORTS)
        forkserver.ensure_running()


def verdict(test: str, file: str, text: str, scratch: Path) -> str:
    """Run one test with `text` in place of a file of the package; CAUGHT, PASSED, or what else happened."""
    return in_a_fork(_run_planted, test, file, text, scratch)


def verdict_without(tests: list[str], scratch: Path) -> str:
    """Run these tests in the same way in the unchanged library."""
    return in_a_fork(_run, tests, scratch)


def ids_in(files: list[str], scratch: Path) -> list[str]:
    """Ids of all tests in these files."""
    return in_a_fork(_collect, files, scratch)


def in_a_fork(function: Callable[..., None], *arguments: object, limit_s: float = LIMIT_S) -> Any:
    """Call a function in a fork and return what it sends back; TimeoutError or EOFError if it sends nothing."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(limit_s):
            raise TimeoutError(f"no end after {limit_s} s")
        return ours.recv()
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def _run_planted(test: str, file: str, text: str, scratch: Path, answer: Connection) -> None:
    changed = Changed(file, text)
    sys.meta_path.insert(0, changed)
    witness = _pytest([str(TESTS / test), "--exitfirst"], scratch)
    answer.send(witness.verdict() if changed.used else f"the test does not use {file}")


def _run(tests: list[str], scratch: Path, answer: Connection) -> None:
    answer.send(_pytest([str(TESTS / test) for test in tests], scratch).verdict())


def _collect(files: list[str], scratch: Path, answer: Connection) -> None:
    answer.send(_pytest([*(str(TESTS / file) for file in files), "--collect-only"], scratch).found)


def _pytest(arguments: list[str], scratch: Path) -> Witness:
    """Run pytest in this process without plugins, conftest.py and output."""
    import torch

    torch.set_num_threads(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path.insert(0, str(SOURCE))
    witness = Witness()
    quiet = ["--override-ini=addopts=", "--noconftest", "--tb=no", "-p", "no:cacheprovider"]
    quick = ["--assert=plain", "-p", "no:unraisableexception", "-p", "no:threadexception", "-p", "no:faulthandler"]
    gc.freeze()  # what the server imported is not to be searched for garbage again
    pytest.main([*arguments, *quiet, *quick, f"--rootdir={TESTS.parent}", f"--basetemp={scratch}"], plugins=[witness])
    return witness
