"""Errors of the user, as opposed to faults of the library."""

from __future__ import annotations

import reprlib
from typing import Any

MISTAKE = 2  # exit status after a mistake of the user

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_LONGEST_INT = 10**40


class InputError(ValueError):
    """Invalid input from the user.

    The message is one line: what was expected, what was found, and what to type instead. The command
    line prints it without a traceback and exits with 2; in Python it is an ordinary `ValueError`.
    """


class ScheduleWarning(UserWarning):
    """Warning that a noise schedule leaves too much of the data in z_T."""


class Stopped(KeyboardInterrupt):
    """Stop requested by a signal; `number` is the number of the signal."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def printable(text: str) -> str:
    """Return the text with control and other invisible characters escaped, safe for a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(value: Any) -> str:
    """Return an untrusted value as one short line of printable text."""
    if isinstance(value, int) and abs(value) > _LONGEST_INT:
        return f"a whole number of {value.bit_length()} bits"
    return _SHORT.repr(value)


class SaveError(InputError):
    """Failure to write to the disk; earlier content is unchanged."""


class DamageWarning(UserWarning):
    """Warning about a damaged or undeletable file, which is left unchanged while the work continues."""


class PeerFailed(InputError):
    """Failure of another rank of the job; the message names the rank and the reason."""
