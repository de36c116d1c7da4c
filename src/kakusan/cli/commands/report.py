"""kakusan report: write the HTML report of a run again."""

from __future__ import annotations

from kakusan.cli.arguments import Report
from kakusan.console import say
from kakusan.run.report.page import write_report


def main(command: Report) -> int:
    """Write the report outside the run and print its path."""
    say(str(write_report(command.run, command.out)))
    return 0
