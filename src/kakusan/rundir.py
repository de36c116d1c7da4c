"""A run directory: what lies in it, and that only one process writes there. No torch here.

run.json        recipe with every setting, seed, versions, command line     written once
data.json       what the data were: shape, counts, digest                    written once
history.jsonl   one line for each time the model was measured
checkpoints/    the newest two
samples/        sheets of samples over the run, always from the same noise
*.png           samples at the end, both directions of the chain or reconstructions
summary.json    the numbers at the end; its presence says that the run is finished
report.html     all of it on one page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kakusan.errors import InputError


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
            run.samples.mkdir(parents=True, exist_ok=True)
            run.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the run directory {path} ({error.strerror}); choose another --out"
            ) from error
        run.lock()
        return run

    def _check_free(self) -> None:
        """InputError unless the existing path is empty or the start of a run that nobody works on."""
        if not self.path.is_dir():
            raise InputError(f"{self.path} exists and is not a folder; choose another --out")
        names = {item.name for item in self.path.iterdir()}
        if self.finished:
            raise InputError(
                f"{self.path} already holds a finished run; go on with: kakusan train --resume {self.path} --minutes 10   "
                "or choose another --out"
            )
        if "lock" in names:
            self.lock()
            self.unlock()
        if "run.json" in names:
            raise InputError(
                f"{self.path} already holds an unfinished run; go on with: kakusan train --resume {self.path}   "
                "or choose another --out"
            )
        own = [folder for folder in (self.samples, self.checkpoints) if folder.is_dir() and not any(folder.iterdir())]
        if names - {"lock", *(folder.name for folder in own)}:
            raise InputError(f"{self.path} exists and is not a run; choose another --out")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run, to read; InputError if there is none."""
        run = cls(path)
        if not run._file("run.json").is_file():
            raise InputError(f"no run at {path}: expected a directory with run.json, as kakusan train makes it")
        return run

    def lock(self) -> None:
        """Become the only writer; InputError if another process is. Freed by the kernel if this one dies."""
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                f"{self.path} is in use by another process; wait for it, or choose another --out"
            ) from error
        self._lock = lock

    def unlock(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def finished(self) -> bool:
        """Whether training used up its budget."""
        return self._file("summary.json").exists()

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file whole: a reader sees the old or the new one."""
        draft = self._file(f".{name}.draft")
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        draft.replace(self._file(name))

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file; InputError if it is damaged."""
        try:
            return json.loads(self._file(name).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise InputError(f"{self._file(name)} cannot be read ({error}); the run is damaged") from error

    def append_history(self, line: dict[str, Any]) -> None:
        """Add one measurement."""
        with self._file("history.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """All measurements so far; a line that a crash cut short is left out."""
        file = self._file("history.jsonl")
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def cut_history(self, step: int) -> None:
        """Forget what was measured and drawn after a step: the run goes on from there."""
        for sheet in self.samples.glob("step-*.png"):
            if int(sheet.stem.removeprefix("step-")) > step:
                sheet.unlink()
        kept = [line for line in self.history() if line["step"] <= step]
        draft = self._file(".history.draft")
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept))
        draft.replace(self._file("history.jsonl"))

    def _file(self, name: str) -> Path:
        return self.path / name


def refuse_inside_a_run(path: Path) -> None:
    """InputError if writing to this path would change a run, which is kept as it is."""
    absolute = path.resolve()
    for folder in (absolute, *absolute.parents):
        if (folder / "run.json").is_file():
            raise InputError(f"{path} lies inside the run {folder}, which is kept as it is; choose another --out")
