"""The command line: find the verb, call it, exit; a mistake is one line. torch is imported by the verbs that need it."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import warnings

from kakusan import __version__
from kakusan.cli.allocator import keep_freed_memory
from kakusan.cli.arguments import VERBS
from kakusan.cli.flags import parse
from kakusan.errors import MISTAKE, InputError, PeerFailed, Stopped, printable
from kakusan.signals import EXIT_STATUS, handled_by, stop

USAGE = """\
kakusan trains, measures and uses generative models under one ELBO.

  kakusan demo                          digits in minutes: trains, samples, evaluates, writes a report
  kakusan train RECIPE [--minutes 3]    train a recipe; --data for your own images or counts
  kakusan train --resume RUN            go on where a run stopped
  kakusan sample RUN -n 64              new examples: a picture and an array
  kakusan evaluate RUN [--json]         bits per dimension with a standard error
  kakusan compare RUN RUN               which of two is better, with the error of the paired difference
  kakusan report RUN                    one HTML page
  kakusan export RUN                    the model as one file to share; sample, evaluate and info take it as a RUN
  kakusan doctor RUN [--json]           whether a run is whole, and what to type to go on
  kakusan replay RUN --step K           do one training step again and show what was in it
  kakusan recipes                       what can be trained, for how long, how well
  kakusan data PATH                     what is in a data file or folder
  kakusan info FILE                     what a run, a .safetensors file or a picture is

Each has --help; kakusan train RECIPE --help shows every setting of that recipe.
"""
SHARED = ("sample", "evaluate")  # verbs whose work several processes share, as training does: torchrun -m kakusan ...
OTHER_WORDS = {"resume": "train --resume", "generate": "sample", "draw": "sample", "check": "doctor"}


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exits 0, 2 for a user's mistake, 128 + its number after a signal: 130 for Ctrl-C, 143 for SIGTERM."""
    arguments = sys.argv[1:] if arguments is None else arguments
    keep_freed_memory()
    try:
        with warnings.catch_warnings(), handled_by(stop):
            warnings.showwarning = _show_warning
            status = _dispatch(arguments)
    except PeerFailed as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"kakusan: {error}", file=sys.stderr)
        status = 1
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":  # of several processes that all see the mistake, one says so
            notes = map(printable, getattr(error, "__notes__", ()))  # e.g. a line for each bad file
            print(f"kakusan: {printable(str(error))}", *notes, sep="\n", file=sys.stderr)
        status = MISTAKE
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            print("kakusan: interrupted", file=sys.stderr)
        status = EXIT_STATUS + stopped.number
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        status = 1
    sys.exit(status)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file=None, line: str | None = None
) -> None:
    """One line, as for mistakes; where in our code it arose is of no use to a user."""
    print(f"kakusan: warning: {printable(str(message))}", file=sys.stderr)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    verb, *rest = arguments
    if verb == "--version":
        print(__version__)
        return 0
    if verb == "train":
        return importlib.import_module("kakusan.cli.train_arguments").main(rest)
    if verb not in VERBS:
        verbs = ["train", *VERBS]
        near = [OTHER_WORDS[verb]] if verb in OTHER_WORDS else difflib.get_close_matches(verb, verbs, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"no command {verb!r}; {hint}There are: {', '.join(verbs)}")
    return _run(verb, rest)


def _run(verb: str, arguments: list[str]) -> int:
    """Parse, then hand the parsed command to kakusan.cli.commands.VERB.main."""
    command = parse(VERBS[verb], arguments, f"kakusan {verb}")
    main = importlib.import_module(f"kakusan.cli.commands.{verb}").main
    if verb not in SHARED or os.environ.get("WORLD_SIZE", "1") == "1":
        return main(command)
    from kakusan.train.device import device_named
    from kakusan.train.engine import process_group

    with process_group(device_named(command.device)):
        if os.environ["RANK"] != "0":  # it helps, and the first one speaks
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        return main(command)


if __name__ == "__main__":
    main()
