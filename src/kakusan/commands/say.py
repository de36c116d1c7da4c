"""Words for a person."""

from __future__ import annotations

import os
import sys


def tell(line: str) -> None:
    """To stderr, so that stdout stays for results; of several processes the first speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr, flush=True)


def counted(number: int, word: str) -> str:
    """A number of things in words: 1 example, 2,000 examples."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
