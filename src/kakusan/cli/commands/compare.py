"""kakusan compare: the paired difference of two runs with its standard error."""

from __future__ import annotations

import json

from kakusan.cli.arguments import Compare
from kakusan.errors import printable
from kakusan.run.compare import compare


def main(command: Compare) -> int:
    """Compare and print; with --json one object alone on stdout."""
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
        print(json.dumps(found.record()))
    else:
        print(*map(printable, found.lines()), sep="\n")
    return 0
