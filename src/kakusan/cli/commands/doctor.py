"""kakusan doctor: check a run or an exported file, and print how to continue."""

from __future__ import annotations

import json

from kakusan.cli.arguments import Doctor
from kakusan.console import say
from kakusan.run.doctor import examine

DAMAGED = 1


def main(command: Doctor) -> int:
    """Print the findings; returns 1 if something is damaged."""
    findings = examine(command.run)
    if command.json:
        say(json.dumps(findings.record()))
    else:
        say(*findings.lines())
    return DAMAGED if findings.damaged else 0
