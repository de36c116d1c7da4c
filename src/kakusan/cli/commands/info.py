"""kakusan info: describe a run, a weights file or a figure."""

from __future__ import annotations

from kakusan.cli.arguments import Info
from kakusan.console import say
from kakusan.run.info import info


def main(command: Info) -> int:
    """Print the description."""
    say(*info(command.file))
    return 0
