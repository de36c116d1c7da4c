"""Training in several processes on this machine, which torch's launcher starts as torchrun does."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from kakusan.console import command
from kakusan.errors import MISTAKE
from kakusan.signals import EXIT_STATUS, SIGNALS


def launch(arguments: list[str], processes: int, restarts: int) -> int:
    """Run `kakusan ARGUMENTS` in several processes that train together, and return the exit status.

    Args:
        arguments: Command line without the launcher's own flags.
        processes: Number of processes on this machine.
        restarts: Number of restarts from the last checkpoint after a process has died.
    """
    logging.disable(logging.CRITICAL)  # otherwise the launcher prints tables of exit codes
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # a new store for each attempt, see training.engine
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
        monitor_interval=0.1,
        signals_to_handle=",".join(one.name for one in SIGNALS),
    )
    try:
        elastic_launch(config, sys.executable)("-m", "kakusan", *arguments)
    except SignalException as stopped:
        return EXIT_STATUS + stopped.sigval
    except ChildFailedError as failed:
        status, killed_by = verdict([failure.exitcode for failure in failed.failures.values()])
        if killed_by is not None:
            words = f"kakusan: a process was killed by signal {killed_by}; resume with: {command('train', '--resume', 'RUN')}"
            print(words, file=sys.stderr)
        return status
    return 0


def verdict(codes: list[int]) -> tuple[int, int | None]:
    """Return the exit status of a job from those of its processes, and the signal that killed one of them, if any.

    After the first process has ended, the launcher ends the others with SIGTERM.
    """
    if MISTAKE in codes:
        return MISTAKE, None
    killed = sorted(code for code in codes if code < 0 and code != -signal.SIGTERM) or [c for c in codes if c < 0]
    if killed:
        return 1, -killed[0]
    return next((code for code in codes if code > 0), 1), None
