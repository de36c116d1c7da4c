"""Printing: results on stdout, messages and progress on stderr, and commands that can be typed as shown.

File names and texts of records are untrusted. This module escapes control characters, terminal escapes and
direction marks in everything that it prints.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from kakusan.errors import SaveError, printable

_quiet = ContextVar("quiet", default=False)
MANY = 1000  # a measurement of at least this many examples is announced
QUIET_SECONDS = 2.0  # seconds before progress is first shown
LIVE_SECONDS, PLAIN_SECONDS = 0.2, 10.0  # seconds between two updates: in a terminal, elsewhere
WIDE = 80  # least terminal width at which a flag and its help share a line
COLUMN = 30
CLEAR = "\033[K"  # escape sequence that clears the rest of a line


def say(*lines: str) -> None:
    """Print lines of a result to stdout."""
    for line in lines:
        print(printable(line))


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress messages for callers in Python; warnings and progress are still shown."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def tell(line: str) -> None:
    """Print a message to stderr, so that stdout holds results only; only rank 0 prints."""
    if _is_first() and not _quiet.get():
        print(f"\r{CLEAR}" if Status.shown else "", printable(line), sep="", file=sys.stderr, flush=True)


def tell_measuring(examples: int, by: str = "") -> None:
    """Announce the measurement of a bound on many examples; `by` names one of several models."""
    if examples >= MANY:
        tell(f"measuring the bound of {counted(examples, 'example')}{by}")


class Status:
    """Progress line on stderr: rewritten in place in a terminal, otherwise a new line every ten seconds."""

    shown = False  # whether the next message must clear a progress line

    def __init__(self) -> None:
        self.live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._next = time.monotonic() + QUIET_SECONDS

    @property
    def due(self) -> bool:
        """Return whether enough time has passed for the next update."""
        return _is_first() and time.monotonic() >= self._next

    def show(self, text: str) -> None:
        """Show a text, which replaces the previous one."""
        self._next = time.monotonic() + (LIVE_SECONDS if self.live else PLAIN_SECONDS)
        Status.shown = self.live
        text = printable(text)
        print(
            f"\r{text[: line_width()]}{CLEAR}" if self.live else text,
            end="" if self.live else "\n",
            file=sys.stderr,
            flush=True,
        )

    def end(self, keep: bool = False) -> None:
        """End the progress line; keep its last text or clear it."""
        if Status.shown:
            Status.shown = False
            print("\n" if keep else f"\r{CLEAR}", end="", file=sys.stderr, flush=True)


def minutes(seconds: float) -> str:
    """Return a duration as minutes and seconds, e.g. 2:05."""
    whole, rest = divmod(round(max(seconds, 0.0)), 60)
    return f"{whole}:{rest:02d}"


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def command(*words: object) -> str:
    """Return a kakusan command as it can be typed in the current folder, quoted for the shell."""
    return " ".join([program(), *map(quoted, words)])


def quoted(word: object) -> str:
    """Quote a word for the shell; control characters are written as escapes that the shell reads."""
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(
        c if c.isprintable() and c not in "\\'" else "".join(f"\\x{b:02x}" for b in os.fsencode(c)) for c in text
    )
    return f"$'{escaped}'"


def program() -> str:
    """Return the words that start this program from the current folder."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py" and script.parent.name == "kakusan":
        script = Path(sys.executable).with_name("kakusan")  # the script installed next to this Python
        if not script.exists():
            return f"{_typed(Path(sys.executable))} -m kakusan"
    elif script.name != "kakusan":  # called from Python
        return "kakusan"
    found = shutil.which("kakusan")
    return "kakusan" if found and os.path.samefile(found, script) else _typed(script)


def _typed(path: Path) -> str:
    """Return a program's path as it is typed in the current folder."""
    try:
        return quoted(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return quoted(path)


def line_width() -> int:
    """Return the number of columns of a line of text: the terminal's, at most 120."""
    return min(shutil.get_terminal_size().columns, 120) - 1


def entry(head: str, text: str) -> str:
    """Return a name and its description in two columns, or on separate lines in a narrow terminal."""
    column = COLUMN if line_width() >= WIDE - 1 else 6
    indent = " " * column
    lines = textwrap.wrap(text, line_width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    head = f"  {head}"
    if lines and len(head) < column - 1:
        lines[0] = head.ljust(column) + lines[0].lstrip()
    else:
        lines.insert(0, head)
    return "\n".join(lines)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Convert a failure to write a file given by --out into a one-line SaveError."""
    try:
        yield
    except OSError as error:
        raise SaveError(
            f"cannot write {error.filename2 or error.filename or out} ({error.strerror}); choose another --out"
        ) from error


def counted(number: int, word: str) -> str:
    """Return a number with its noun, e.g. "1 example" or "2,000 examples"."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
