"""Parser from command-line words to a dataclass, and its help page. Does not import torch.

A field `steps` is the flag --steps, a field `width` of a section `model` is --model.width, and a field that is
`Annotated` with `Positional` has no flag. Values follow as --flag VALUE or --flag=VALUE. A tuple takes
several words. A boolean takes none, and --no-flag turns it off.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import textwrap
import typing
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from kakusan.console import entry, line_width, quoted, say
from kakusan.errors import InputError, printable, shown
from kakusan.registry import nearest
from kakusan.settings import UNIONS, Choice, Setting, choices, read, settings_of, words

UNNAMED = ("recipe", "pictures", "budget")  # sections whose flags omit the section's name


@dataclass(frozen=True)
class Positional:
    """Marker of a positional field, with its placeholder in the usage line."""

    metavar: str


@dataclass(frozen=True)
class OptionsOf:
    """Marker of a dict field that collects the settings of all classes of a registry, one flag per name."""

    registry: Choice


@dataclass(frozen=True, eq=False)
class Argument:
    """Flag or positional argument of a command."""

    setting: Setting
    section: str = ""  # the field of the command that contains the value
    prefix: str = ""

    @property
    def flags(self) -> list[str]:
        """Spellings on the command line, e.g. ["-n", "--n"] or ["--model.residual", "--model.no-residual"]."""
        name = self.setting.name.replace("_", "-")
        if self.is_switch:
            return [f"--{self.prefix}{name}", f"--{self.prefix}no-{name}"]
        return [f"-{name}", f"--{name}"] if len(name) == 1 else [f"--{self.prefix}{name}"]

    @property
    def is_switch(self) -> bool:
        """Return whether the value is a boolean, which takes no words."""
        return self.setting.hint in (bool, bool | None)

    @property
    def metavar(self) -> str:
        """Return the placeholder of the value in help."""
        place = _mark(self.setting.hint, Positional)
        return place.metavar if place else _metavar(self.setting.hint)

    @property
    def takes_many(self) -> bool:
        """Return whether a value consists of several words."""
        return " " in _metavar(self.setting.hint)

    def head(self) -> str:
        """Return the left column of its help entry."""
        if _mark(self.setting.hint, Positional):
            return self.metavar
        if self.is_switch:
            return " ".join(self.flags) if self.setting.default is None else self.flags[bool(self.setting.default)]
        return f"{', '.join(self.flags)} {self.metavar}"

    def text(self) -> str:
        """Return the right column of its help entry: help and default."""
        default, text = self.setting.default, self.setting.help
        if default in (None, dataclasses.MISSING) or isinstance(default, bool) or "Default:" in text:
            return text
        typed = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        return f"{text} Default: {typed}."


class Parser:
    """Arguments of one command.

    Args:
        kind: Dataclass of the command.
        program: Command as typed, e.g. "kakusan sample".
        defaults: Values that replace the fields' own defaults; a dataclass value makes a section of flags.
        stray: Flag to suggest for an unexpected word.
        summary: Description on the help page, instead of the dataclass's docstring.
    """

    def __init__(
        self, kind: type, program: str, defaults: Mapping[str, Any] | None = None, stray: str = "", summary: str = ""
    ):
        self.kind, self.program, self.stray = kind, program, stray
        self.summary = summary or (kind.__doc__ or "").partition("\n")[0]
        self.defaults = dict(defaults or {})
        self.arguments: list[Argument] = []
        for setting in settings_of(kind):
            default, name = self.defaults.get(setting.name, setting.default), setting.name
            options = _mark(setting.hint, OptionsOf)
            if options is not None:
                self.arguments += [Argument(s, name) for s in _options(options.registry)]
            elif dataclasses.is_dataclass(default):
                parts = [dataclasses.replace(s, default=getattr(default, s.name)) for s in settings_of(type(default))]
                self.arguments += [Argument(s, name, f"{name}.") for s in parts]
            else:
                self.arguments.append(Argument(dataclasses.replace(setting, default=default)))
        self.places = [one for one in self.arguments if _mark(one.setting.hint, Positional)]
        self.flags = {flag: one for one in self.arguments if one not in self.places for flag in one.flags}

    @property
    def usage(self) -> str:
        """Return the command with its required arguments."""
        needed = [one.head() for one in self.arguments if one.setting.default is dataclasses.MISSING]
        return " ".join([self.program, *needed])

    def parse(self, typed: list[str]) -> Any:
        """Return the parsed command, or None after printing help.

        Raises:
            InputError: If something is unknown, missing or does not fit.
        """
        if {"-h", "--help"} & set(typed):
            say(*self.help().splitlines())
            return None
        for word in typed:
            if _is_flag(word) and self._split(word)[0] not in self.flags:
                raise self._unknown(self._split(word)[0])
        given, rest, places = {}, deque(typed), list(self.places)
        while rest:
            word = rest.popleft()
            if _is_flag(word):
                flag, values = self._split(word)
                argument = self.flags[flag]
                given[argument] = self._value(flag, values, rest)
            elif places:
                argument = places.pop(0)
                given[argument] = read(argument.metavar, argument.setting.hint, [word])
            else:
                hint = f"did you mean {self.stray} {quoted(word)}?" if self.stray else self._see()
                raise InputError(f"unexpected argument {shown(word)}; {hint}")
        for argument in self.arguments:
            if argument.setting.default is dataclasses.MISSING and argument not in given:
                name = argument.metavar if argument in self.places else argument.flags[0]
                text = argument.setting.help.rstrip(".")
                raise InputError(f"{self.program} needs {name} ({text[:1].lower()}{text[1:]}); {self._see()}")
        return self._command(given)

    def _split(self, word: str) -> tuple[str, list[str]]:
        """Split a flag from a value in the same word: --steps=20 or -n64."""
        if word[:2] in self.flags and len(word) > 2:
            return word[:2], [word[2:].removeprefix("=")]
        flag, equals, value = word.partition("=")
        return flag.replace("_", "-"), [value] if equals else []

    def _value(self, flag: str, values: list[str], rest: deque[str]) -> Any:
        """Take the words of a flag's value from `values` and the rest of the command line."""
        argument = self.flags[flag]
        if argument.is_switch:
            if values:
                raise InputError(f"{flag} takes no value, got {shown(values[0])}; type {flag} alone")
            return flag == argument.flags[0]
        while rest and not _is_flag(rest[0]) and (not values or argument.takes_many):
            values.append(rest.popleft())
        if not values:
            wanted = words(argument.setting.hint).removesuffix(" or None")  # no value means None
            raise InputError(f"{flag} needs a value ({wanted}); {self._see()}")
        return read(flag, argument.setting.hint, values)

    def _command(self, given: dict[Argument, Any]) -> Any:
        """Build the dataclass of the command and of its sections; an error names a setting by its flag."""
        values = dict(self.defaults)
        parts: dict[str, dict[str, Any]] = {one.section: {} for one in self.arguments}
        for argument, value in given.items():
            parts[argument.section][argument.setting.name] = value
        for section, changed in parts.items():
            default = self.defaults.get(section)
            if not section:
                values |= changed
            else:
                with naming_flags():
                    values[section] = changed if default is None else dataclasses.replace(default, **changed)
        return self.kind(**values)

    def _unknown(self, flag: str) -> InputError:
        # flags by name, without and with their section
        names = {name.rpartition(".")[2].lstrip("-"): name for name in reversed(self.flags)}
        names |= {name.lstrip("-"): name for name in self.flags}
        near = nearest(flag.lstrip("-"), names)
        hint = f"did you mean {names[near]}? " if near else ""
        return InputError(f"{self.program} has no flag {printable(flag)}; {hint}{self._see()}")

    def _see(self) -> str:
        return f"{self.program} --help lists all flags"

    def help(self) -> str:
        """Return the help page, as wide as the terminal."""
        lines = [
            f"usage: {self.usage}{' [options]' if self.flags else ''}",
            "",
            *textwrap.wrap(self.summary, line_width()),
        ]
        lines += ["", *(entry(one.head(), one.text()) for one in self.places)] if self.places else []
        for prefix in dict.fromkeys(one.prefix for one in self.flags.values()):
            lines += ["", f"{prefix.rstrip('.')} options:".lstrip()]
            members = dict.fromkeys(one for one in self.flags.values() if one.prefix == prefix)
            lines += [entry(one.head(), one.text()) for one in members]
        return "\n".join(lines)


@contextmanager
def naming_flags() -> Iterator[None]:
    """Replace the setting at the start of a message by its flag: optim.batch becomes --optim.batch."""
    try:
        yield
    except InputError as error:
        raise InputError(re.sub(r"^(\w+\.\w+)(?= )", lambda found: _flag_of(found[1]), str(error))) from error


def _flag_of(name: str) -> str:
    section, _, field = name.partition(".")
    return f"--{field if section in UNNAMED else name}".replace("_", "-")


def _mark(hint: Any, kind: type) -> Any:
    """Return the marker of this class in a field's type, or None."""
    marks = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, kind)), None)


def _options(registry: Choice) -> list[Setting]:
    """List the settings of all classes of a registry; a shared setting is listed once, with its owners."""
    owners: dict[str, list[str]] = {}
    settings: dict[str, Setting] = {}
    for name, factory in registry.registry.items():
        fixed = factory.keywords if isinstance(factory, functools.partial) else {}
        for setting in settings_of(getattr(factory, "func", factory)):
            if setting.name not in fixed:
                owners.setdefault(setting.name, []).append(f"{name} (default: {setting.default})")
                settings.setdefault(setting.name, setting)
    return [
        dataclasses.replace(s, default=None, help=f"{s.help} Option of {', '.join(owners[name])}.")
        for name, s in settings.items()
    ]


def _metavar(hint: Any) -> str:
    """Return the placeholder of a value in help, e.g. INT, {cpu,cuda}, "FLOAT FLOAT" or "INT ..."."""
    if names := choices(hint):
        return f"{{{','.join(names)}}}"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated or origin in UNIONS:
        return _metavar(arguments[0])
    if origin is tuple:
        return " ".join("..." if part is Ellipsis else _metavar(part) for part in arguments)
    return {int: "INT", float: "FLOAT", Path: "PATH"}.get(hint, "TEXT")


def _is_flag(word: str) -> bool:
    """Return whether a word is a flag; a negative number is not."""
    return re.match(r"-[^\d.]", word) is not None
