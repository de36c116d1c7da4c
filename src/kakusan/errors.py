"""Errors of the user, as opposed to faults of the library."""

from __future__ import annotations

import reprlib
from typing import Any

MISTAKE = 2  # the exit status after a user's mistake

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_LONGEST_INT = 10**40


class InputError(ValueError):
    """A value that a user gave cannot be used.

    The message is one line: what was expected, what was found, and what to type instead. The command
    line prints it without a traceback and exits with 2; in Python it is an ordinary `ValueError`.
    """


class ScheduleWarning(UserWarning):
    """A noise schedule leaves so much of the data in z_T that the bound pays for it."""


class Stopped(KeyboardInterrupt):
    """A signal asked to leave; `number` is that of the signal."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def printable(text: str) -> str:
    """Text with its control and other invisible characters escaped: none of them reaches a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(value: Any) -> str:
    """A value from outside as one short line of printable text: control characters escaped, long ones cut."""
    if isinstance(value, int) and abs(value) > _LONGEST_INT:
        return f"a whole number of {value.bit_length()} bits"
    return _SHORT.repr(value)


class SaveError(InputError):
    """Something could not be written to the disk; what was there before is as it was."""


class DamageWarning(UserWarning):
    """Something on the disk is damaged or cannot be removed; it is left as it is, and the work continues without it."""


class PeerFailed(InputError):
    """Another process of the job could not do its part; the message says which and why."""
