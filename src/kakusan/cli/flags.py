"""Typed flags to a dataclass, and what is wrong with them in one line: expected, got, what to type. No torch here."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
import typing
from typing import Any

import tyro
from tyro.conf import FlagCreatePairsOff, Positional

from kakusan.errors import InputError, shown

POSITIONAL = typing.get_args(Positional[int])[1]
KINDS = {"INT": "a whole number", "FLOAT": "a number", "{None}|INT": "a whole number", "{None}|FLOAT": "a number"}
OWN_FLAGS = {"recipe.": "", "pictures.bad": "bad-images", "pictures.": "", "budget.": ""}  # settings with short flags
NEAR = 0.6  # of a name that may have been meant, as difflib counts


def parse(kind: type, arguments: list[str], program: str, default=None):
    """Flags to a dataclass; a mistake is one line and exit 2."""
    extra = {} if default is None else {"default": default}
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words):
            return tyro.cli(kind, args=arguments, prog=program, config=(FlagCreatePairsOff,), **extra)
    except SystemExit as stop:
        if stop.code != 2:
            raise
        own = _our_own(stop)
        said = as_typed(str(own)) if own else _unknown(arguments, program, kind)
        raise InputError(said or mistake(words.getvalue(), program, kind)) from None


def _our_own(error: BaseException | None) -> InputError | None:
    """What a setting's own check said, beneath what the parser made of it."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def mistake(box: str, program: str, kind: type) -> str:
    """The parser's words about what was typed as one line.

    Args:
        box: What the parser printed, with the frame it draws.
        program: e.g. "kakusan sample".
        kind: The dataclass whose fields are the flags.
    """
    text = " ".join(line.strip("│╭╮╰╯─ ") for line in box.splitlines())
    see = _see(program)
    if found := re.search(r"Unrecognized options: (\S+?)(?:,|\s|$)", text):
        word = found[1]
        if not word.startswith("-"):
            return f"{program} takes no {shown(word)} here; {see}"
        return _no_flag(word, program, kind)
    if found := re.search(r"invalid choice '(.*?)' for argument '(\S+)'\. Expected one of \((.*?)\)", text):
        names = sorted({*re.findall(r"'(.*?)'", found[3])} - {"None"})  # the parser has them in no order
        return f"{found[2]} must be one of {', '.join(names)}, got {shown(found[1])}"
    if found := re.search(r"Missing value for argument '(\S+)'", text):
        return f"{found[1]} needs a value; {see}"
    if found := re.search(r"Missing from \S.*?: (\S+)\s+(.*?)\s*\(required\)", text):
        words = re.sub(r"^[A-Z]+ ", "", found[2]) if found[1].startswith("-") else found[2]
        return f"{program} needs {found[1]}: {words.rstrip('.')}; {see}"
    if found := re.search(r"Error parsing (\S+): .*?(?:from \['(.*?)'\]|: '(.*?)')", text):
        name = found[1].rpartition("/")[2]  # of -n/--n the help says: -n INT, --n INT
        metavar = re.search(rf"Argument helptext: .*?{re.escape(name)} (\S+)", text)
        wanted = KINDS.get(metavar[1] if metavar else "", "another kind of value")
        return f"{found[1]} must be {wanted}, got {shown(found[2] or found[3])}; {see}"
    return (
        f"{re.sub(r' +', ' ', text).strip()}; {see}" if text.strip() else f"{program}: cannot read these flags; {see}"
    )


def _see(program: str) -> str:
    return f"{program} --help lists all flags"


def _no_flag(word: str, program: str, kind: type) -> str:
    near = nearest(word, flags_of(kind))
    return f"{program} has no flag {word}; {f'did you mean {near}? ' if near else ''}{_see(program)}"


def _unknown(arguments: list[str], program: str, kind: type) -> str | None:
    """About the first flag that there is not, which the parser names only if nothing else is missing."""
    known = {"--help", *flags_of(kind)}
    typed = (word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--"))
    return next((_no_flag(word, program, kind) for word in typed if word not in known), None)


def flags_of(kind: Any, before: str = "") -> list[str]:
    """Every flag that the fields of a dataclass make, those of its parts with a dot."""
    found = []
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if POSITIONAL in typing.get_args(hint):
            continue
        flag, plain = before + name.replace("_", "-"), typing.get_args(hint)[0] if typing.get_args(hint) else hint
        found += flags_of(plain, f"{flag}.") if dataclasses.is_dataclass(plain) else [f"--{flag}"]
    return found


def nearest(word: str, flags: list[str]) -> str | None:
    """The flag that was most likely meant; one of a part may have been typed without its dot."""
    names = {flag.rpartition(".")[2].removeprefix("--"): flag for flag in reversed(flags)}
    names |= {flag.removeprefix("--"): flag for flag in flags}
    near = difflib.get_close_matches(word.lstrip("-"), names, n=1, cutoff=NEAR)
    return names[near[0]] if near else None


def as_typed(message: str) -> str:
    """A message about a setting, which names it as Python does, with the name of its flag."""
    name, space, rest = message.partition(" ")
    if not re.fullmatch(r"(recipe|pictures|budget|model|optim|distil)\.[a-z_]+", name):
        return message
    for before, flag in OWN_FLAGS.items():
        if name.startswith(before):
            name = flag + name.removeprefix(before)
            break
    return f"--{name.replace('_', '-')}{space}{rest}"
