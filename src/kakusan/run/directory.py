"""A run directory: layout, records and lock of the single writer. Does not import torch.

run.json        recipe with every setting, seed, versions, command line     written once
data.json       shape, counts and digest of the data                        written once
teacher.safetensors  the teacher of a student                               written once
initial.safetensors  the model that fine-tuning started from                written once
history.jsonl   one line per measurement during training
checkpoints/    the newest two intact ones
samples/        samples during training, always from the same noise
*.png           figures of the finished run
summary.json    numbers of the finished run; its presence means that the run is finished
report.html     report of the run on one page
lock            held by the process that writes here; owner.json names it while it is held
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from kakusan.console import command, quoted
from kakusan.errors import InputError, shown
from kakusan.run.records import check_record
from kakusan.storage import commit, files, journal, records
from kakusan.storage.lock import LOCK, OWNER, Busy, WriterLock

TEACHER = "teacher.safetensors"
INITIAL = "initial.safetensors"
# files, besides empty folders, that a run leaves if it is killed before it has written run.json
BEGINNING = {name for one in (OWNER, "data.json", "run.json", TEACHER, INITIAL) for name in (one, f".{one}.draft")}
BEGINNING = (BEGINNING | {LOCK}) - {"run.json"}
MOST_RECORD_BYTES = 16 * files.MIB
MOST_FIGURE_BYTES = 32 * files.MIB


class RunDirectory:
    """Paths, records and lock of one run."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.report = path / "report.html"
        self._lock = WriterLock(path)

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """Create a run and lock it. InputError if the path is taken; nothing changes then."""
        run = cls(path)
        if path.exists():
            run._check_free()
        try:
            files.make_folders(run.samples)
            files.make_folders(run.checkpoints)
        except OSError as error:
            raise InputError(f"cannot create the run {path} ({error.strerror}); choose another --out") from error
        run.lock()
        if run.finished or run._file("run.json").exists():  # another process has created it in the meantime
            run.unlock()
            run._check_free()
        return run

    def discard(self) -> None:
        """Remove a run that was refused before its first step, so that its path is free again. Errors are ignored."""
        with contextlib.suppress(OSError):  # the refusal is what the user must see
            files.remove(self._file("run.json"))  # first, because the path is free without it
            self.unlock()
            shutil.rmtree(self.path, ignore_errors=True)

    def _check_free(self) -> None:
        """Raise InputError unless the existing path is empty, or a run that was killed before it wrote run.json."""
        if not self.path.is_dir():
            raise InputError(f"{self.path} exists and is not a folder; choose another --out")
        names = {item.name for item in self.path.iterdir()}
        if self.finished:
            raise InputError(
                f"{self.path} already holds a finished run; resume with: {resume_command(self.path)} --minutes 10   "
                "or choose another --out"
            )
        owner = self.owner()
        if owner is not None:
            raise self._in_use(owner)
        if "run.json" in names:
            raise InputError(
                f"{self.path} already holds an unfinished run; resume with: {resume_command(self.path)}   "
                "or choose another --out"
            )
        own = {
            folder.name for folder in (self.samples, self.checkpoints) if folder.is_dir() and not any(folder.iterdir())
        }
        if names - own - (BEGINNING if LOCK in names else set()):
            raise InputError(f"{self.path} exists and is not a run; choose another --out")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run for reading; InputError if there is none."""
        run = cls(path)
        if not run._file("run.json").exists():
            near = _run_near(path)
            hint = f"; did you mean {near}?" if near else ""
            raise InputError(
                f"no run at {path}: expected a directory with run.json, as {command('train')} makes it{hint}"
            )
        return run

    def lock(self) -> None:
        """Become the single writer, and remove incomplete files of a killed writer. InputError if another process writes."""
        try:
            with files.writing(self._file(OWNER)):
                self._lock.acquire()
        except Busy as busy:
            raise self._in_use(busy.owner) from None
        try:
            with files.writing(self._file(OWNER)):
                for path in sorted(self.path.glob(".*.draft")):
                    files.remove(path)
                commit.sweep(self.checkpoints)
        except BaseException:
            self._lock.release()
            raise

    def unlock(self) -> None:
        """Release the lock."""
        self._lock.release()

    def owner(self) -> dict[str, Any] | None:
        """Return the record of the writer (pid, host, since, command; empty if unreadable), or None without a writer."""
        return self._lock.owner()

    def _in_use(self, owner: dict[str, Any]) -> InputError:
        return InputError(f"{self.path} is in use by {owner_words(owner)}; wait for it, or choose another --out")

    @property
    def finished(self) -> bool:
        """Return whether training has used up its budget and everything is measured."""
        return self._file("summary.json").exists()

    def reopen(self) -> None:
        """Mark a finished run as unfinished; its summary is kept as summary-before.json."""
        if self.finished:
            with files.writing(self._file("summary.json")):
                files.rename(self._file("summary.json"), self._file("summary-before.json"))
                files.sync_folder(self.path)

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file atomically and durably."""
        self.write_bytes(name, records.to_bytes(content))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write any file of the run atomically and durably; its folder must exist."""
        with files.writing(self._file(name)):
            files.replace(self._file(name), content)

    def read(self, name: str) -> dict[str, Any]:
        """Read and return run.json, data.json or summary.json; InputError if it is damaged."""
        try:
            return check_record(name, records.parse(self.read_bytes(name), name, MOST_RECORD_BYTES))
        except (OSError, InputError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self._file(name)} cannot be read ({reason}); the run is damaged") from error

    def read_bytes(self, name: str, limit: int = MOST_RECORD_BYTES) -> bytes:
        """Return the content of a regular file of the run. OSError for a link, a pipe, a device or a file above the limit."""
        folder = self._file(name).parent
        if not folder.resolve().is_relative_to(self.path.resolve()):
            raise OSError(0, f"{folder} lies outside the run")
        return files.read_regular(self._file(name), limit, follow=False)

    def append_history(self, line: dict[str, Any]) -> None:
        """Append one measurement to history.jsonl."""
        with files.writing(self._file("history.jsonl")):
            journal.append(self._file("history.jsonl"), line)

    def history(self) -> list[dict[str, Any]]:
        """Return all measurements so far. Damaged lines are skipped with a DamageWarning."""
        file = self._file("history.jsonl")
        try:
            return journal.read(file, lambda value, where: check_record("history.jsonl", value, where))
        except OSError as error:
            raise InputError(f"{file} cannot be read ({error.strerror}); the run is damaged") from error

    def cut_history(self, step: int) -> None:
        """Remove measurements and samples after `step`, the step from which the run resumes."""
        kept = [line for line in self.history() if line["step"] <= step]
        with files.writing(self._file("history.jsonl")):
            for figure in sorted(self.samples.glob("step-*.png")):
                if int(figure.stem.removeprefix("step-")) > step:
                    files.remove(figure)
            journal.replace(self._file("history.jsonl"), kept)

    def _file(self, name: str) -> Path:
        return self.path / name


def resume_command(run: Path, *moves: tuple[Path, Path]) -> str:
    """Return the shell command that resumes a run, after renaming each given (old, new) pair of paths."""
    moved = [f"mv {quoted(old)} {quoted(new)}" for old, new in moves]
    return " && ".join([*moved, command("train", "--resume", run)])


def owner_words(owner: dict[str, Any]) -> str:
    """Describe the process that holds a run's lock; `owner` as `RunDirectory.owner` returns it."""
    if not owner:
        return "another process"
    return f"another process: {owner['pid']} on {owner['host']} since {owner['since']} ({shlex.join(owner['command'])})"


def _run_near(path: Path) -> Path | None:
    """Suggest a run: one that contains the path, or one with a similar name next to it or in runs/."""
    for folder in path.parents:
        if (folder / "run.json").is_file():
            return folder
    there = {
        found.parent.name: found.parent for root in (path.parent, Path("runs")) for found in root.glob("*/run.json")
    }
    near = difflib.get_close_matches(path.name, there, n=1)
    return there[near[0]] if near else None


def path_of_run(source: Path | str) -> Path:
    """Return the path of a run or model file; InputError for a value that is no path."""
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"give the path of a run directory or an exported file, got {shown(source)}; e.g. 'runs/first'"
        )
    return Path(source)


def check_new(path: Path) -> None:
    """Raise InputError if this path exists, or writing to it would change a run."""
    if os.path.lexists(path):
        raise InputError(f"{path} exists and is left unchanged; choose another --out")
    refuse_inside_a_run(path)


def check_folder(out: Path, content: str) -> None:
    """Raise InputError unless this can be a folder for files with these names, outside of every run."""
    if out.suffix.lower() in (".png", ".npy", ".npz"):
        raise InputError(f"--out is the folder for {content}, got {out}; give e.g. {out.with_suffix('')}")
    refuse_inside_a_run(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} exists and is not a folder; choose another --out")


def refuse_inside_a_run(path: Path) -> None:
    """Raise InputError if writing to this path would change a run."""
    absolute = path.resolve()
    for folder in (absolute, *absolute.parents):
        if (folder / "run.json").is_file():
            raise InputError(f"{path} lies inside the run {folder}, which is left unchanged; choose another --out")
