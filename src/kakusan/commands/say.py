"""Words for a person."""

from __future__ import annotations

import sys


def tell(line: str) -> None:
    """To stderr, so that stdout stays for results."""
    print(line, file=sys.stderr, flush=True)
