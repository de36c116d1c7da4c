"""Shared code of the benchmarks: fair clocks, the machine, and results as files for docs/benchmarks.md.

A result is a table of plain rows with the question that it answers; `page.py` prints and plots it. Times are processor
time of one thread wherever that answers the question, because it does not count other load: a minute of two cores is 120
processor seconds.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = DOCS / "benchmarks"
CORES = 2  # of the machine that a minute is a minute of
LIBRARIES = ("torch", "denoising-diffusion-pytorch", "diffusers", "azula", "numpy")


@dataclass(frozen=True)
class Figure:
    """Plot of a table: column `y` against column `x`, a line or a set of points per value of `by`."""

    x: str
    y: str
    by: str
    x_log: bool = False
    y_log: bool = False
    points: bool = False  # not joined
    among: tuple[str, Any] | None = None  # only rows with this value in this column


@dataclass
class Result:
    """Result of one benchmark; `notes` explain what the numbers mean and what they do not."""

    name: str
    question: str
    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path = FOLDER) -> Path:
        """Write the result as JSON, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        half = path.with_suffix(".part")
        half.write_text(json.dumps(asdict(self) | {"made": made()}, indent=1) + "\n")
        half.replace(path)
        print(path)
        return path


def made() -> dict[str, Any]:
    """Date, machine and versions."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue  # not every benchmark needs every library
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_at_the_end": load,
        "python": platform.python_version(),
        "versions": versions,
        "command": shlex.join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def processor() -> str:
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of n repetitions."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(middle, low, high, len(values))

    def each(self, per: Callable[[float], float]) -> Spread:
        """Median and quartiles of a monotonic function of the value, such as images per second."""
        low, high = sorted((per(self.low), per(self.high)))
        return Spread(per(self.median), low, high, self.n)


def processor_seconds(run: Callable[[], object]) -> float:
    """Processor seconds of one call in this process."""
    began = time.process_time()
    run()
    return time.process_time() - began


def clock_seconds(run: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def interleaved(
    blocks: dict[Any, Callable[[], object]], rounds: int, clock: Callable[[Callable[[], object]], float]
) -> dict[Any, list[float]]:
    """Times of each block by `clock`, once per round, in an order that is redrawn each round."""
    found: dict[Any, list[float]] = {name: [] for name in blocks}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(blocks), len(blocks)):
            found[name].append(clock(blocks[name]))
    return found


@dataclass(frozen=True)
class Child:
    """Resources that a child process used."""

    wall_seconds: float
    processor_seconds: float
    peak_mib: float  # of resident memory


# Linux carries the peak memory of a process over into what it starts, so a small process stands between.
_BETWEEN = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
wall = time.perf_counter() - began
print(json.dumps([process.returncode, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


def child(arguments: list[str], threads: int = 1) -> Child:
    """Run a command to its end and discard its output.

    Raises:
        RuntimeError: If it fails.
    """
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _BETWEEN, *arguments],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    status, wall, took, peak = json.loads(told.stdout)
    if status:
        raise RuntimeError(f"{' '.join(arguments)} ended with {status}: {told.stderr[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    return Child(wall, took, peak * unit / 2**20)
