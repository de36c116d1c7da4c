"""kakusan replay: redo one training step and show what was in it."""

from __future__ import annotations

import json

from kakusan.cli.arguments import Replay
from kakusan.errors import printable
from kakusan.run.replay import replay


def main(command: Replay) -> int:
    """Print the step; with --json one object alone on stdout."""
    found = replay(command.run, command.step, out=command.out, device=command.device)
    if command.json:
        print(json.dumps(found.record()))
    else:
        print(*map(printable, found.lines()), sep="\n")
    return 0
