"""Words for a person: how far it is, how many, what could not be written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from kakusan.errors import SaveError

_quiet = ContextVar("quiet", default=False)
MANY = 1000  # examples, whose bound may take longer than a person waits without a word


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back messages, as Python callers want it; warnings and progress remain."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def tell(line: str) -> None:
    """To stderr, so that stdout stays for results; of several processes the first speaks."""
    if not _quiet.get() and os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr, flush=True)


def tell_measuring(examples: int, by: str = "") -> None:
    """Before the bound of many examples is measured; `by` says by which of several models."""
    if examples >= MANY:
        tell(f"measuring the bound of {counted(examples, 'example')}{by}")


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """One line, SaveError, if what a user named with --out cannot be written."""
    try:
        yield
    except OSError as error:
        raise SaveError(
            f"cannot write {error.filename2 or error.filename or out} ({error.strerror}); choose another --out"
        ) from error


def counted(number: int, word: str) -> str:
    """A number of things in words: 1 example, 2,000 examples."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
