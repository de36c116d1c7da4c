"""What a user's mistake is, as opposed to ours."""


class InputError(ValueError):
    """A value that a user gave cannot be used.

    The message is one line: what was expected, what was found, and what to type instead. The command
    line prints it without a traceback and exits with 2; in Python it is an ordinary `ValueError`.
    """


class ScheduleWarning(UserWarning):
    """A noise schedule leaves so much of the data in z_T that the bound pays for it."""
