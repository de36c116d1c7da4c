"""kakusan report: the page of a run, made anew."""

from __future__ import annotations

from pathlib import Path

from kakusan.cli.arguments import Report
from kakusan.run.directory import RunDirectory, refuse_inside_a_run
from kakusan.run.report.page import write_report


def main(command: Report) -> int:
    """Write the page outside the run, which is kept as it is; prints where."""
    run = RunDirectory.open(command.run)
    out = command.out or Path(f"{command.run.resolve().name}-report.html")
    refuse_inside_a_run(out)
    print(write_report(run, out))
    return 0
