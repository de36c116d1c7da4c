"""kakusan export: a run's model as one file to share."""

from __future__ import annotations

from kakusan.cli.arguments import Export
from kakusan.console import command as typed
from kakusan.console import say, tell
from kakusan.run.export import export


def main(command: Export) -> int:
    """Write the file and print its path."""
    out = export(command.run, command.out)
    tell(f"{out.stat().st_size:,} bytes; sample it with: {typed('sample', out)}")
    say(str(out))
    return 0
