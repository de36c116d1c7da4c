"""Kills, I/O errors and power cuts at every operation of code that writes through `kakusan.storage.files`.

`kill_everywhere` and `fail_everywhere` repeat an action and end it, or let it fail, at its first operation, its second,
and so on to the last. `power_cuts` replays recorded operations on a model of a disk that guarantees no more than POSIX,
and writes out every state that a power cut may leave. The caller's check reads real files after each.
Source of the idea: the I/O-error and crash tests of SQLite (https://www.sqlite.org/testing.html).
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from harness import planting
from kakusan.storage import files

Action = Callable[[Path], object]
SUBSETS_OF = 8  # operations whose order is open: of more, a state has all but one of them, or those before one
FULL_DISK, BROKEN_DISK, NO_PERMISSION, QUOTA = errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT


class Operation(NamedTuple):
    """One call of `files.watch`; kinds are those of files.py, and "mark" for a mark of the test."""

    kind: str
    path: Path
    other: bytes | Path | None


@contextmanager
def watching(watch: Callable[[str, Path, bytes | Path | None], None]) -> Iterator[None]:
    """Call `watch` before every file operation."""
    files.watch, before = watch, files.watch
    try:
        yield
    finally:
        files.watch = before


@contextmanager
def recorded() -> Iterator[list[Operation]]:
    """Record the operations of the block except reads."""
    seen: list[Operation] = []
    with watching(lambda *told: seen.append(Operation(*told)) if told[0] != "read" else None):
        yield seen


# Ended or failed at the n-th operation


def kill_everywhere(action: Action, check: Action, start: Path, scratch: Path) -> int:
    """SIGKILL `action` at its n-th operation on a fresh copy of `start`, for every n; return the number of operations.

    A write is killed in its middle. `action` and `check` run in another process, so they must be functions of a module.
    `check` gets the copy after each kill, and after a last run without one.
    """
    planting.start_server()
    points, failure = planting.in_a_fork(_kill_everywhere, action, check, start, scratch)
    assert failure is None, f"after an end at operation {points + 1}: {failure}"
    return points


def _kill_everywhere(action: Action, check: Action, start: Path, scratch: Path, answer: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    for points in itertools.count():
        work = fresh_copy(start, scratch)
        child = os.fork()
        if child == 0:
            try:
                files.watch = end_at(points + 1)
                action(work)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            assert status in (0, -signal.SIGKILL), f"the action broke down with status {status}"
            check(work)
        except BaseException:
            answer.send((points, traceback.format_exc()))
            return
        if status == 0:
            answer.send((points, None))
            return


def end_at(number: int) -> Callable[[str, Path, bytes | Path | None], None]:
    """A watcher that kills the process at an operation, or in the middle of a write."""
    count = 0

    def watch(kind: str, path: Path, other: bytes | Path | None) -> None:
        nonlocal count
        count += kind != "read"
        if count == number:
            if isinstance(other, bytes):
                with path.open("ab") as file:
                    file.write(other[: len(other) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    return watch


def fail_everywhere(
    action: Action, check: Callable[[Path, bool], object], start: Path, scratch: Path, error: int
) -> int:
    """Let the n-th operation of `action` fail on a fresh copy of `start`, for every n; return the number of operations.

    A full disk stays full but allows removing, a missing permission stays missing, and a broken disk fails once.
    `check` gets the copy and True for the last run, which has no failure. `action` must handle its own errors.
    """
    for points in itertools.count():
        work = fresh_copy(start, scratch)
        faults = _Failing(points + 1, error)
        with watching(faults):
            action(work)
        check(work, not faults.hit)
        if not faults.hit:
            return points
    raise AssertionError("there is no last operation")


@dataclass
class _Failing:
    number: int
    error: int
    count: int = 0
    hit: bool = False

    def __call__(self, kind: str, path: Path, other: bytes | Path | None) -> None:
        if kind == "read":
            return
        self.count += 1
        if self.error in (FULL_DISK, QUOTA) and kind in ("remove", "remove folder", "rename"):
            return
        lasting = self.error != BROKEN_DISK
        if self.count == self.number or (lasting and self.count > self.number):
            self.hit = True
            raise OSError(self.error, os.strerror(self.error), str(path))


def fresh_copy(start: Path, scratch: Path) -> Path:
    """Copy the folder `start` under scratch, in place of an earlier copy."""
    work = scratch / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(start, work)
    return work


# A power cut


@dataclass(eq=False)
class DiskFile:
    """Synced content of a file, and the operations since."""

    sure: bytes = b""
    since: list[bytes | None] = field(default_factory=list)  # added bytes; None empties the file

    def contents(self) -> set[bytes]:
        """Contents that a power cut may leave: all operations so far, or the last one absent, half done, or as zeros."""
        found, content = {self.sure}, self.sure
        for added in self.since:
            if added is None:
                content = b""
            else:
                found |= {content + added[: len(added) // 2], content + bytes(len(added))}
                content += added
            found.add(content)
        return found

    def settle(self) -> None:
        for added in self.since:
            self.sure = b"" if added is None else self.sure + added
        self.since = []


@dataclass(eq=False)
class DiskFolder:
    """Synced names of a folder, and the changes since: each maps names to entries, None for a removal."""

    sure: dict[str, DiskFile | DiskFolder] = field(default_factory=dict)
    since: list[dict[str, DiskFile | DiskFolder | None]] = field(default_factory=list)

    def after(self, changes: list[dict[str, DiskFile | DiskFolder | None]]) -> dict[str, DiskFile | DiskFolder]:
        names: dict[str, DiskFile | DiskFolder | None] = dict(self.sure)
        for change in changes:
            names |= change
        return {name: node for name, node in names.items() if node is not None}

    @property
    def names(self) -> dict[str, DiskFile | DiskFolder]:
        """Names as a program sees them."""
        return self.after(self.since)

    def possible(self) -> list[dict[str, DiskFile | DiskFolder]]:
        """Names that a power cut may leave: any subset of the changes, since their order on the disk is open."""
        count = len(self.since)
        if count <= SUBSETS_OF:
            kept = list(itertools.product((True, False), repeat=count))
        else:
            kept = [tuple(i < k for i in range(count)) for k in range(count + 1)]
            kept += [tuple(i != k for i in range(count)) for k in range(count)]
        found = [self.after([c for c, keep in zip(self.since, row) if keep]) for row in kept]
        return [names for i, names in enumerate(found) if names not in found[:i]]

    def settle(self) -> None:
        self.sure, self.since = self.names, []


class Disk:
    """A tree of files that guarantees only synced contents and the names in synced folders.

    Args:
        root: Real folder whose operations are replayed; its content before them counts as synced.
    """

    def __init__(self, root: Path, before: dict[str, bytes | dict]):
        self.root, self.top = root, _as_nodes(before)

    def play(self, operation: Operation) -> None:
        """Apply one operation."""
        kind, path, other = operation
        if kind == "mark":
            return
        if kind == "sync folder":
            node = self._node(path)
            assert isinstance(node, DiskFolder)
            node.settle()
            return
        folder = self._node(path.parent)
        assert isinstance(folder, DiskFolder)
        node = folder.names.get(path.name)
        if kind == "create" and node is None:
            folder.since.append({path.name: DiskFile()})
        elif kind == "create":
            node.since.append(None)
        elif kind in ("write", "append"):
            node.since.append(other)
        elif kind == "sync":
            node.settle()
        elif kind == "make folder":
            folder.since.append({path.name: DiskFolder()})
        elif kind == "rename":
            assert node is not None
            assert other.parent == path.parent
            folder.since.append({path.name: None, other.name: node})
        elif kind in ("remove", "remove folder"):
            assert node is not None
            folder.since.append({path.name: None})
        else:
            raise AssertionError(f"what does {kind!r} do to a disk?")

    def _node(self, path: Path) -> DiskFile | DiskFolder:
        node: DiskFile | DiskFolder = self.top
        for name in path.relative_to(self.root).parts:
            assert isinstance(node, DiskFolder)
            node = node.names[name]
        return node

    def states(self) -> Iterator[tuple]:
        """Every tree that a power cut may leave, as nested pairs (name, content or pairs), without hidden names."""
        return _states(self.top)


def _states(folder: DiskFolder) -> Iterator[tuple]:
    for names in folder.possible():
        shown = sorted((name, node) for name, node in names.items() if not name.startswith("."))
        choices = [node.contents() if isinstance(node, DiskFile) else list(_states(node)) for _, node in shown]
        for choice in itertools.product(*choices):
            yield tuple((name, content) for (name, _), content in zip(shown, choice))


def _as_nodes(tree: dict[str, bytes | dict]) -> DiskFolder:
    return DiskFolder({n: DiskFile(c) if isinstance(c, bytes) else _as_nodes(c) for n, c in tree.items()})


def tree_of(folder: Path) -> dict[str, bytes | dict]:
    """All files below a folder."""
    return {path.name: tree_of(path) if path.is_dir() else path.read_bytes() for path in sorted(folder.iterdir())}


def lay_out(state: tuple, folder: Path) -> Path:
    """Write a state of the disk as real files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in state:
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            lay_out(content, folder / name)
    return folder


def power_cuts(
    root: Path,
    before: dict[str, bytes | dict],
    operations: list[Operation],
    check: Callable[[Path, list[str]], object],
    scratch: Path,
) -> int:
    """Cut the power after every operation in every way; return the number of different states.

    Args:
        root: Folder of the operations.
        before: `tree_of(root)` before the first operation, all of it synced.
        operations: Result of `recorded`, with marks for what was promised by then.
        check: Function of a folder with the state after a cut, and of the marks passed before the cut.
        scratch: Folder for those states.
    """
    disk, promised, seen = Disk(root, before), [], set()
    for operation in (Operation("mark", root, None), *operations):
        if operation.kind == "mark" and operation.path != root:
            promised.append(operation.path.name)
        disk.play(operation)
        for state in disk.states():
            if (key := (state, len(promised))) not in seen:
                seen.add(key)
                check(lay_out(state, scratch / "cut"), promised)
    return len(seen)


def mark(operations: list[Operation], promise: str) -> None:
    """Record that something must outlast every later power cut."""
    operations.append(Operation("mark", Path(promise), None))


def without_each_sync(operations: list[Operation]) -> Iterator[tuple[str, list[Operation]]]:
    """For each sync, its name and the operations without it."""
    for index, operation in enumerate(operations):
        if operation.kind.startswith("sync"):
            yield f"{operation.kind} {operation.path.name}", operations[:index] + operations[index + 1 :]
