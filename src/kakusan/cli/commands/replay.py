"""kakusan replay: repeat one training step and show its batch, loss and gradient."""

from __future__ import annotations

import json

from kakusan.cli.arguments import Replay
from kakusan.console import say
from kakusan.run.replay import replay


def main(command: Replay) -> int:
    """Print the step; --json prints one object and nothing else on stdout."""
    found = replay(command.run, command.step, out=command.out, device=command.device)
    if command.json:
        say(json.dumps(found.record()))
    else:
        say(*found.lines())
    return 0
