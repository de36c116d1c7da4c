"""kakusan compare: the paired difference of two runs with its standard error."""

from __future__ import annotations

import json

from kakusan.cli.arguments import Compare
from kakusan.console import say
from kakusan.run.compare import compare


def main(command: Compare) -> int:
    """Compare and print the result; --json prints one object and nothing else on stdout."""
    found = compare(
        command.first,
        command.second,
        split=command.split,
        limit=command.limit,
        data=command.data,
        seed=command.seed,
        device=command.device,
    )
    if command.json:
        say(json.dumps(found.record()))
    else:
        say(*found.lines())
    return 0
