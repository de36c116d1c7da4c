"""kakusan train: train or resume a run and print its numbers."""

from __future__ import annotations

from kakusan import distributed
from kakusan.console import command as typed
from kakusan.console import say
from kakusan.run import train
from kakusan.run.directory import RunDirectory
from kakusan.signals import EXIT_STATUS


def start(wanted: train.Start, command: list[str]) -> int:
    """Train a new run; returns the exit status."""
    return _status(train.start(wanted, command))


def resume(wanted: train.Resume) -> int:
    """Resume a run; returns the exit status."""
    return _status(train.resume(wanted))


def print_summary(run: RunDirectory) -> None:
    """Print the results of a finished run, its files and the digest of its weights."""
    summary = run.read("summary.json")
    say(*summary["lines"], "", f"look at   {run.report}", f"then try  {typed('sample', run.path, '-n', 100)}", "")
    say(f"weights {summary['weights_sha256']}")


def _status(outcome: train.Outcome) -> int:
    if outcome.stopped_by:
        return EXIT_STATUS + outcome.stopped_by
    if distributed.is_rank0():
        print_summary(outcome.run)
    return 0
