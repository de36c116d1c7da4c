"""kakusan info: what a run, a weights file or a figure is."""

from __future__ import annotations

from kakusan.cli.arguments import Info
from kakusan.errors import printable
from kakusan.run.info import info


def main(command: Info) -> int:
    """Print the description."""
    print(*map(printable, info(command.file)), sep="\n")
    return 0
