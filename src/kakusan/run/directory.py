"""A run directory: what lies in it, and that only one process writes there. No torch here.

run.json        recipe with every setting, seed, versions, command line     written once
data.json       what the data were: shape, counts, digest                    written once
teacher.safetensors  of a student: the model that it learns from        written once
history.jsonl   one line for each time the model was measured
checkpoints/    the newest two that are whole
samples/        sheets of samples over the run, always from the same noise
*.png           samples at the end, both directions of the chain or reconstructions
summary.json    the numbers at the end; its presence says that the run is finished
report.html     all of it on one page
lock            held by the process that writes here; owner.json says who that is while it is held
"""

from __future__ import annotations

import difflib
import fcntl
import json
import os
import platform
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kakusan.errors import DamageWarning, InputError, SaveError
from kakusan.storage import commit, files

TEACHER = "teacher.safetensors"
# what a run that was killed before it wrote run.json may hold beside empty folders
BEGINNING = {"lock", "owner.json", "data.json", ".owner.json.draft", ".data.json.draft", ".run.json.draft"}
BEGINNING |= {TEACHER, f".{TEACHER}.draft"}


class RunDirectory:
    """Paths and small files of one run."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.report = path / "report.html"
        self._lock: FileLock | None = None

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """A new run, locked; InputError if the place is taken, and nothing in it is touched then."""
        run = cls(path)
        if path.exists():
            run._check_free()
        try:
            files.make_folders(run.samples)
            files.make_folders(run.checkpoints)
        except OSError as error:
            raise InputError(
                f"cannot make the run directory {path} ({error.strerror}); choose another --out"
            ) from error
        run.lock()
        if run.finished or run._file("run.json").exists():  # made by another process since we looked
            run.unlock()
            run._check_free()
        return run

    def _check_free(self) -> None:
        """InputError unless the existing path is empty or the start of a run that nobody works on."""
        if not self.path.is_dir():
            raise InputError(f"{self.path} exists and is not a folder; choose another --out")
        names = {item.name for item in self.path.iterdir()}
        if self.finished:
            raise InputError(
                f"{self.path} already holds a finished run; go on with: {to_go_on(self.path)} --minutes 10   "
                "or choose another --out"
            )
        owner = self.owner()
        if owner is not None:
            raise self._in_use(owner)
        if "run.json" in names:
            raise InputError(
                f"{self.path} already holds an unfinished run; go on with: {to_go_on(self.path)}   "
                "or choose another --out"
            )
        own = {
            folder.name for folder in (self.samples, self.checkpoints) if folder.is_dir() and not any(folder.iterdir())
        }
        if names - own - (BEGINNING if "lock" in names else set()):
            raise InputError(f"{self.path} exists and is not a run; choose another --out")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run, to read; InputError if there is none."""
        run = cls(path)
        if not run._file("run.json").is_file():
            near = _run_near(path)
            hint = f"; did you mean {near}?" if near else ""
            raise InputError(f"no run at {path}: expected a directory with run.json, as kakusan train makes it{hint}")
        return run

    def lock(self) -> None:
        """Become the only writer and remove what a killed one left half-done; InputError, saying who, if there is one.

        The kernel frees the lock if this process dies.
        """
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise self._in_use(self._owner_record()) from error
        except OSError as error:
            raise SaveError(f"cannot write in {self.path} ({error.strerror}); make it writable, or copy it") from error
        self._lock = lock
        try:
            with self._writing("owner.json"):
                files.replace(self._file("owner.json"), _as_json(_this_process()))
                for path in sorted(self.path.glob(".*.draft")):
                    files.remove(path)
                commit.sweep(self.checkpoints)
        except BaseException:
            self._lock = None
            lock.release()
            raise

    def unlock(self) -> None:
        """Let others write."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        try:
            if self._file("owner.json").exists():
                files.remove(self._file("owner.json"))
        except OSError as error:  # it says who writes here only while somebody holds the lock
            words = f"{self._file('owner.json')} cannot be removed ({error.strerror})"
            warnings.warn(words, DamageWarning, stacklevel=2)
        finally:
            lock.release()

    def owner(self) -> dict[str, Any] | None:
        """Who writes here now (pid, host, since, command; empty if that cannot be told), None if nobody does."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._owner_record()
        finally:
            os.close(descriptor)
        return None

    def _owner_record(self) -> dict[str, Any]:
        try:
            return json.loads(self._file("owner.json").read_text())
        except (OSError, ValueError):  # it began or ended just now; that it holds the lock is known all the same
            return {}

    def _in_use(self, owner: dict[str, Any]) -> InputError:
        return InputError(f"{self.path} is in use by {owner_words(owner)}; wait for it, or choose another --out")

    @property
    def finished(self) -> bool:
        """Whether training used up its budget."""
        return self._file("summary.json").exists()

    def reopen(self) -> None:
        """Let a finished run count as unfinished: its numbers are kept as summary-before.json."""
        if self.finished:
            with self._writing("summary.json"):
                files.rename(self._file("summary.json"), self._file("summary-before.json"))
                files.sync_folder(self.path)

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file whole, on the disk when this returns: a reader sees the old or the new one."""
        self.write_bytes(name, _as_json(content))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write any file of the run whole, in the same way; its folder must be there."""
        with self._writing(name):
            files.replace(self._file(name), content)

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file; InputError if it is damaged."""
        try:
            return dict(json.loads(files.read_regular(self._file(name), 16 * files.MIB)))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{self._file(name)} cannot be read ({error}); the run is damaged") from error

    def append_history(self, line: dict[str, Any]) -> None:
        """Add one measurement."""
        self._append("history.jsonl", line)

    def history(self) -> list[dict[str, Any]]:
        """All measurements so far; the last is left out if a crash cut it short, with a DamageWarning any other."""
        return self._lines("history.jsonl")

    def _append(self, name: str, line: dict[str, Any]) -> None:
        file = self._file(name)
        with self._writing(name):
            if file.exists() and not files.ends_in_newline(file):  # a crash or a full disk cut the last line short
                files.replace(file, b"".join(one for one in _lines_of(file) if one.endswith(b"\n")))
            files.append(file, (json.dumps(line) + "\n").encode())

    def _lines(self, name: str) -> list[dict[str, Any]]:
        file = self._file(name)
        found = []
        for number, line in enumerate(_lines_of(file), 1):
            if not line.endswith(b"\n"):
                continue
            try:
                measured = json.loads(line)
                int(measured["step"])
            except (ValueError, TypeError, KeyError):
                words = f"line {number} of {file} is damaged and left out"
                warnings.warn(words, DamageWarning, stacklevel=2)
            else:
                found.append(measured)
        return found

    def cut_history(self, step: int) -> None:
        """Forget what was measured and drawn after a step: the run goes on from there."""
        kept = [line for line in self.history() if line["step"] <= step]
        with self._writing("history.jsonl"):
            for sheet in sorted(self.samples.glob("step-*.png")):
                if int(sheet.stem.removeprefix("step-")) > step:
                    files.remove(sheet)
            lines = "".join(json.dumps(line) + "\n" for line in kept)
            files.replace(self._file("history.jsonl"), lines.encode())

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """One line, SaveError, for a disk that is full, read-only or broken."""
        try:
            yield
        except OSError as error:
            raise SaveError(
                f"cannot write {self._file(name)} ({error.strerror}); {files.free_words(self.path)}"
            ) from error

    def _file(self, name: str) -> Path:
        return self.path / name


def to_go_on(run: Path, *moves: tuple[Path, Path]) -> str:
    """What to type to go on with a run, for a shell; before that, what lies in its way is moved from here to there."""
    typed = [["mv", str(old), str(new)] for old, new in moves] + [["kakusan", "train", "--resume", str(run)]]
    return " && ".join(map(shlex.join, typed))


def owner_words(owner: dict[str, Any]) -> str:
    """Who holds a run, for a person; `owner` as `RunDirectory.owner` gives it."""
    if not {"pid", "host", "since", "command"} <= owner.keys():
        return "another process"
    return f"another process: {owner['pid']} on {owner['host']} since {owner['since']} ({shlex.join(owner['command'])})"


def _run_near(path: Path) -> Path | None:
    """The run that was most likely meant: one that the path lies in, or one beside it or in runs/ with a name like it."""
    for folder in path.parents:
        if (folder / "run.json").is_file():
            return folder
    there = {
        found.parent.name: found.parent for root in (path.parent, Path("runs")) for found in root.glob("*/run.json")
    }
    near = difflib.get_close_matches(path.name, there, n=1)
    return there[near[0]] if near else None


def _lines_of(file: Path) -> list[bytes]:
    return files.read_regular(file, 64 * files.MIB).splitlines(keepends=True) if file.exists() else []


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def refuse_inside_a_run(path: Path) -> None:
    """InputError if writing to this path would change a run, which is kept as it is."""
    absolute = path.resolve()
    for folder in (absolute, *absolute.parents):
        if (folder / "run.json").is_file():
            raise InputError(f"{path} lies inside the run {folder}, which is kept as it is; choose another --out")
