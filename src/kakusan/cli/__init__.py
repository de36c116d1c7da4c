"""The command line: find the command, parse its arguments, call it and exit.

A user's mistake is reported on one line. Only commands that need torch import it.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from kakusan import __version__
from kakusan.cli import commands, train
from kakusan.cli.allocator import keep_freed_memory
from kakusan.cli.arguments import COMMANDS
from kakusan.cli.parser import Parser
from kakusan.console import command as as_typed
from kakusan.console import entry, say, tell
from kakusan.errors import MISTAKE, InputError, PeerFailed, Stopped, shown
from kakusan.progress import showing_progress
from kakusan.registry import did_you_mean
from kakusan.signals import EXIT_STATUS, handled_by, stop

TRAIN = {  # kakusan train has two forms; each other command's summary is its docstring
    "kakusan train RECIPE": "Train a recipe, on your own images or counts with --data.",
    "kakusan train --resume RUN": "Resume a run from its newest checkpoint.",
}
SHARED = ("sample", "evaluate")  # commands that run on several processes: torchrun -m kakusan sample ...
OTHER_WORDS = {"resume": "train --resume", "generate": "sample", "draw": "sample", "check": "doctor"}
FUNCTIONS = {"import": "import_", "check-against": "check_against"}  # modules whose names differ from their commands
SIZES = {
    "train": "--optim.batch or the size of the model",
    "sample": "-n",
    "data": "--size",
}  # what to reduce when memory runs out


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit. Status: 0, or 2 after a user's mistake, or 128 + n after signal n."""
    arguments = sys.argv[1:] if arguments is None else arguments
    keep_freed_memory()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads of torch do not occupy cores
    try:
        os.getcwd()  # without a current folder, libraries would end the process before our message
        with warnings.catch_warnings(), handled_by(stop), showing_progress():
            warnings.showwarning = _show_warning
            status = _dispatch(arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has stopped reading, e.g. `| head`
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        status = 1
    except PeerFailed as error:
        tell(f"kakusan: {error}")
        status = 1
    except InputError as error:
        tell(f"kakusan: {error}")
        for note in getattr(error, "__notes__", ()):  # e.g. a line for each unusable file
            tell(note)
        status = MISTAKE
    except Stopped as stopped:
        tell("kakusan: interrupted")
        status = EXIT_STATUS + stopped.number
    except (OSError, UnicodeError, MemoryError, RuntimeError) as error:
        line = _refusal(error, arguments)
        if line is None:
            raise
        tell(f"kakusan: {line}")
        status = MISTAKE
    sys.exit(status)


def _refusal(error: Exception, arguments: list[str]) -> str | None:
    """Return a one-line message for an error of the operating system; None for other errors."""
    if isinstance(error, OSError):
        place = error.filename2 or error.filename
        where = os.fsdecode(place) if isinstance(place, str | bytes | os.PathLike) else "the current folder"
        return f"cannot use {where} ({error.strerror or error}); check that it exists, may be used and has room"
    if isinstance(error, UnicodeError):
        text = shown(error.object) if isinstance(error, UnicodeEncodeError | UnicodeDecodeError) else "a name"
        return f"{text} is not valid UTF-8; rename the file or convert its text"
    if "Symlink loop" in str(error):  # a RuntimeError of pathlib before Python 3.13
        return f"cannot use a path ({error}); remove the symbolic links that form a loop"
    if isinstance(error, MemoryError) or ("alloc" in str(error) and "memory" in str(error)):  # numpy; torch
        verb = arguments[0] if arguments else ""
        return f"out of memory; lower {SIZES.get(verb, 'the number of examples')}, or use a machine with more memory"
    return None


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file=None, line: str | None = None
) -> None:
    """Print a warning as one line, without its location in the source."""
    tell(f"kakusan: warning: {message}")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        say("kakusan trains, measures and samples generative models under one ELBO.", "")
        parsers = [Parser(kind, f"kakusan {verb}") for verb, kind in COMMANDS.items()]
        for typed, summary in [*TRAIN.items(), *((parser.usage, parser.summary) for parser in parsers)]:
            say(*entry(typed, summary).splitlines())
        say("", f"Every command has --help. {as_typed('train', 'RECIPE', '--help')} lists all settings of a recipe.")
        return 0
    verb, *rest = arguments
    if verb == "--version":
        say(__version__)
        return 0
    if verb == "train":
        return train.main(rest)
    if verb not in COMMANDS:
        verbs = ["train", *COMMANDS]
        near = f"did you mean {OTHER_WORDS[verb]!r}? " if verb in OTHER_WORDS else did_you_mean(verb, verbs)
        raise InputError(f"no command {verb!r}; {near}there are: {', '.join(verbs)}")
    command = Parser(COMMANDS[verb], f"kakusan {verb}").parse(rest)
    return 0 if command is None else _run(verb, command)


def _run(verb: str, command: Any) -> int:
    """Call the function in `commands` for a parsed command, in one process or on every rank; return the exit status."""
    main = getattr(commands, FUNCTIONS.get(verb, verb))
    if verb not in SHARED or os.environ.get("WORLD_SIZE", "1") == "1":
        return main(command)
    from kakusan.training.device import device_named
    from kakusan.training.engine import process_group

    with process_group(device_named(command.device)):
        if os.environ["RANK"] != "0":  # rank 0 prints
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        return main(command)


if __name__ == "__main__":
    main()
