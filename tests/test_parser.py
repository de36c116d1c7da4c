"""Typed words become a checked dataclass, and each help text is a sentence."""

import dataclasses
import functools
import math
import re
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from harness.faults import catches
from kakusan.cli.arguments import COMMANDS, Resume
from kakusan.cli.parser import OptionsOf, Parser, Positional
from kakusan.cli.train import _parser as parser_of_recipe
from kakusan.errors import InputError
from kakusan.recipes import RECIPES
from kakusan.registry import Registry
from kakusan.settings import Between, Choice, Length, check, fits, from_values, seed_of, settings_of
from kakusan.settings import words as words_of

MOST_WORDS = 25


@dataclass(frozen=True)
class Net:
    hidden: Annotated[tuple[int, ...], "any"] = (8, 8)
    """Widths."""
    pair: tuple[float, float] = (-1.0, 1.0)
    """Two numbers."""
    rate: Annotated[float, Between(-1, 1)] = 0.5
    """Rate."""
    clip: float | None = 1.0
    """Largest norm. None: no clipping."""
    residual: bool = False
    """Skip connections."""
    learn: bool | None = None
    """Learn it. Default: it depends."""

    def __post_init__(self):
        check(self, "net")
        if self.hidden == (0,):
            raise InputError("net.hidden must not be empty; got (0,)")


@dataclass(frozen=True)
class Command:
    """Do something."""

    run: Annotated[Path, Positional("RUN")]
    """Run directory."""
    n: int = 64
    """Number of examples."""
    kind: Literal["ddim", "heun"] | None = None
    """Kind of thing. Default: the best."""
    json: bool = False
    """Print JSON."""
    net: Any = None


def parse(*words: str) -> Command | str:
    """The command, or what is said instead."""
    try:
        return Parser(Command, "kakusan test", {"net": Net()}, stray="--data").parse(list(words))
    except InputError as error:
        return str(error)
    except Exception as error:
        return f"a traceback: {error!r}"


@catches(r"""cli/parser.py: a negative number is taken for a flag
- re.match(r"-[^\d.]", word)
+ re.match(r"-.", word)""")
@catches("""cli/parser.py: only the first word of a tuple is read
- (not values or argument.takes_many)
+ (not values)""")
@catches("""settings.py: None is text
- return None if words == ["None"] else
+ return None if words == ["none"] else""")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["x"], {}),
        (["x", "-n", "3"], {"n": 3}),
        (["-n3", "x"], {"n": 3}),
        (["-n=3", "x"], {"n": 3}),
        (["--n=3", "x", "--json"], {"n": 3, "json": True}),
        (["--json", "x", "--no-json"], {"json": False}),
        (["x", "--net.learn"], {"net": Net(learn=True)}),
        (["x", "--net.no-learn"], {"net": Net(learn=False)}),
        (["x", "-n", "3", "-n", "4"], {"n": 4}),
        (["x", "--kind", "ddim", "--kind", "None"], {"kind": None}),
        (["x", "--net.hidden", "4"], {"net": Net(hidden=(4,))}),
        (["--net.hidden", "4", "5", "6", "--json", "x"], {"net": Net(hidden=(4, 5, 6)), "json": True}),
        (["x", "--net.pair", "-3", "-1e-3"], {"net": Net(pair=(-3, -1e-3))}),
        (["x", "--net.rate", "-1e-3"], {"net": Net(rate=-1e-3)}),
        (["x", "--net.rate=-.5"], {"net": Net(rate=-0.5)}),
        (["x", "--net.clip", "None"], {"net": Net(clip=None)}),
        (["x", "--net.residual"], {"net": Net(residual=True)}),
        (["x", "--net.no-residual"], {"net": Net()}),
    ],
)
def test_words_become_the_values_that_they_say(words, expected):
    assert parse(*words) == dataclasses.replace(Command(Path("x"), net=Net()), **expected)


@catches("""cli/parser.py: a flag that there is not is read after what is missing
-             if _is_flag(word) and self._split(word)[0] not in self.flags:
-                 raise
+             if False:
+                 raise""")
@catches("""cli/parser.py: a flag that was typed without its section is not recognized
- for name in reversed(self.flags)}
+ for name in ()}""")
@catches("""cli/parser.py: a check of a section names a setting as Python does
-                 with naming_flags():
-                     values
+                 if True:
+                     values""")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "kakusan test needs RUN (run directory); kakusan test --help lists all flags"),
        (["x", "y z"], "unexpected argument 'y z'; did you mean --data 'y z'?"),
        (["x", "-n"], "-n needs a value (a whole number); kakusan test --help lists all flags"),
        (["x", "-n", "--json"], "-n needs a value (a whole number); kakusan test --help lists all flags"),
        (["x", "-n", "1.5"], "-n must be a whole number, got '1.5'"),
        (["x", "-n", "9" * 5000], f"-n must be a whole number, got '{'9' * 37}...{'9' * 38}'"),
        (["x", "--kind", "ddmi"], "--kind must be one of ddim, heun, got 'ddmi'; did you mean 'ddim'?"),
        (["x", "--kind", "euler"], "--kind must be one of ddim, heun, got 'euler'"),
        (["x", "--json=1"], "--json takes no value, got '1'; type --json alone"),
        (["x", "--net.rate", "2"], "--net.rate must be a number from -1 to 1, got '2'"),
        (["x", "--net.rate", "nan"], "--net.rate must be a number from -1 to 1, got 'nan'"),
        (["x", "--net.pair", "2"], "--net.pair must be (a number, a number), got '2'"),
        (["x", "--net.hidden", "0"], "--net.hidden must not be empty; got (0,)"),
        (
            ["x", "--rate", "2"],
            "kakusan test has no flag --rate; did you mean --net.rate? kakusan test --help lists all flags",
        ),
        (
            ["x", "--clpi", "2"],
            "kakusan test has no flag --clpi; did you mean --net.clip? kakusan test --help lists all flags",
        ),
        (["x", "--qqq=2"], "kakusan test has no flag --qqq; kakusan test --help lists all flags"),
        (["--hlep"], "kakusan test has no flag --hlep; kakusan test --help lists all flags"),
    ],
)
def test_a_mistake_names_what_was_expected_and_given(words, message):
    assert parse(*words) == message


@catches("""settings.py: the home folder of data is not expanded
- float: float, str: os.path.expanduser
+ float: float, str: str""")
def test_a_tilde_is_the_home_folder_whether_or_not_the_shell_expands_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/mine")
    assert parse("~/x").run == Path("/home/of/mine/x")
    data = Parser(COMMANDS["evaluate"], "kakusan evaluate").parse(["x", "--data=~/y"]).data
    assert data == "/home/of/mine/y"


# Choices and options of a registry


@dataclass(frozen=True)
class Slow:
    eta: Annotated[float, Between(0, 1)] = 0.0
    """Share of fresh noise."""


@dataclass(frozen=True)
class Fast:
    order: int = 2
    """Order of the steps."""
    eta: Annotated[float, Between(0, 1)] = 0.5
    """Share of fresh noise."""


MODULE = types.ModuleType("solvers_of_this_test")
MODULE.Slow, MODULE.Fast, MODULE.second = Slow, Fast, functools.partial(Fast, order=2)
NAMES = {"slow": "Slow", "fast": "Fast", "second": "second"}
MODULE.SOLVERS = Registry("solver", {name: f"{MODULE.__name__}:{place}" for name, place in NAMES.items()})
SOLVERS = Choice(f"{MODULE.__name__}:SOLVERS")


@dataclass(frozen=True)
class Draw:
    """Draw."""

    solver: Annotated[str, SOLVERS] | None = None
    """Solver."""
    options: Annotated[dict[str, Any], OptionsOf(SOLVERS)] = field(default_factory=dict)


@catches("""cli/parser.py: an option that a name fixes is offered
- if setting.name not in fixed:
+ if True:""")
def test_names_and_options_of_a_registry_become_choices_and_flags(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, MODULE.__name__, MODULE)
    parser = Parser(Draw, "kakusan draw")
    assert parser.parse(["--solver", "fast", "--order", "3"]) == Draw("fast", {"order": 3})
    assert parser.parse([]) == Draw()
    with pytest.raises(
        InputError, match=r"--solver must be one of slow, fast, second, got 'fats'; did you mean 'fast'\?"
    ):
        parser.parse(["--solver", "fats"])
    with pytest.raises(InputError, match="--eta must be a number from 0 to 1, got '2'"):
        parser.parse(["--eta", "2"])
    page = " ".join(parser.help().split())
    assert "--solver {slow,fast,second} Solver." in page
    assert (
        "--eta FLOAT Share of fresh noise. Option of slow (default: 0.0), fast (default: 0.5), second (default: 0.5)."
        in page
    )
    assert "--order INT Order of the steps. Option of fast (default: 2)." in page


# Records


def test_a_record_of_settings_is_read_strictly():
    assert from_values(Net, {"hidden": [3], "clip": None}, "net") == Net(hidden=(3,), clip=None)
    for values, message in {
        "[]": "the record's net must be a table of settings",
        "{'hiden': 3}": "did you mean 'hidden'?",
        "{'rate': '1'}": "net.rate must be a number from -1 to 1, got '1'",
        "{'rate': True}": "net.rate must be a number",
        "{'clip': 'x'}": "net.clip must be a number or None, got 'x'",
    }.items():
        with pytest.raises(InputError, match=re.escape(message)):
            from_values(Net, eval(values), "net")
    with pytest.raises(InputError, match="incomplete: run missing"):
        from_values(Command, {}, "command")


# Help

PARSERS = {
    **{name: Parser(kind, f"kakusan {name}") for name, kind in COMMANDS.items()},
    "train --resume": Parser(Resume, "kakusan train"),
    **{f"train {name}": parser_of_recipe(recipe) for name, recipe in RECIPES.items()},
}


@pytest.mark.parametrize("name", PARSERS)
def test_every_help_text_is_a_plain_sentence(name):
    texts = {argument.head(): argument.setting.help for argument in PARSERS[name].arguments}
    for head, text in {**texts, "itself": PARSERS[name].summary}.items():
        assert re.match(r"[A-Z]", text), f"{head}: {text!r} does not begin as a sentence"
        assert not re.match(r"(Of|What|Whether|How|If|Which|For)\b", text), f"{head}: {text!r} has no subject"
        assert text.endswith("."), f"{head}: {text!r} does not end as a sentence"
        for sentence in re.split(r"(?<=[.])\s+", text):
            assert len(sentence.split()) <= MOST_WORDS, f"{head}: {sentence!r} is too long"


@catches("""cli/parser.py: help of a setting leaves out its default
- return f"{text} Default: {typed}."
+ return text""")
def test_help_has_each_flag_with_its_values_its_text_and_its_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    page = Parser(Command, "kakusan test", {"net": Net()}).help().splitlines()
    assert page[:3] == ["usage: kakusan test RUN [options]", "", "Do something."]
    lines = [" ".join(line.split()) for line in page[3:]]
    for line in (
        "RUN Run directory.", "-n, --n INT Number of examples. Default: 64.", "--json Print JSON.",
        "--kind {ddim,heun} Kind of thing. Default: the best.", "net options:",
        "--net.hidden INT ... Widths. Default: 8 8.", "--net.pair FLOAT FLOAT Two numbers. Default: -1.0 1.0.",
        "--net.rate FLOAT Rate. Default: 0.5.", "--net.residual Skip connections.",
    ):  # fmt: skip
        assert line in lines, line
    assert "--net.learn --net.no-learn" in " ".join(lines)


@catches("""settings.py: a limit is described with an end that is not in it
- {'' if self.ends[1] == ']' else 'below '}{high}"
+ {high}\"""")
def test_a_limit_is_described_with_its_ends():
    described = {
        "from 1 to 5,000": Between(1, 5000), "from 0 to below 1": Between(0, 1, "[)"), "of at least 2": Between(2),
        "above 0 and at most 1.5": Between(0, 1.5, "(]"), "above 0 and below 1": Between(0, 1, "()"),
        "above 0": Between(0, ends="()"),
    }  # fmt: skip
    assert {words: str(limit) for words, limit in described.items()} == {words: words for words in described}


def test_help_says_the_default_of_a_recipe():
    page = " ".join(parser_of_recipe(RECIPES["binary-best"]).help().split())
    assert "--model.no-residual" in page
    assert "--model.latents INT ... Dimensions of z_1, ..., z_L." in page
    assert "Default: 50 32." in page
    assert settings_of(Net)[0].help == "Widths."


@catches("""settings.py: settings of a class whose module is gone end in an error
- except (OSError, TypeError, KeyError):
+ except (OSError, TypeError):""")
def test_settings_of_a_class_without_source_have_no_help():
    made = dataclasses.make_dataclass("Made", [("width", int, 3)])
    made.__module__ = "a_module_that_is_gone"
    try:
        (setting,) = settings_of(made)
    except KeyError as error:
        pytest.fail(f"the source is needed: {error}")
    assert (setting.name, setting.default, setting.help) == ("width", 3, "")


@pytest.mark.parametrize(
    ("hint", "described"),
    [
        (bool, "true or false"),
        (str, "text"),
        (Path | None, "a path or None"),
        (dict[str, int], "a table"),
        (Annotated[str, Length(1, 1000)], "text of 1 to 1,000 printable characters"),
        (Annotated[tuple[int, ...], Length(0, 4)], "0 to 4 values, each a whole number"),
        (tuple[int, ...], "(a whole number, ...)"),
        (tuple[float, str], "(a number, text)"),
        (Literal[1, 3] | None, "one of 1, 3 or None"),
        (Literal[1, 3], "one of 1, 3"),
        (Annotated[int, Between(1)] | None, "a whole number of at least 1 or None"),
        (Any, "Any"),
        (3, "another kind of value"),
    ],
)
def test_a_type_is_described_in_words(hint, described):
    assert words_of(hint) == described


@pytest.mark.parametrize(
    ("hint", "right", "wrong"),
    [
        (Annotated[float, Between(0, 1)], [0, 1, 0.5], [-1e-9, 1.001, True, math.nan, "0", None]),
        (Annotated[float, Between(0, 1, "()")], [0.5], [0, 1]),
        (Annotated[float, Between(0, 1, "(]")], [1], [0]),
        (Annotated[float, Between(0, 1, "[)")], [0], [1]),
        (Annotated[str, Length(1, 3)], ["a", "abc"], ["", "abcd", "a\n", 3]),
        (Annotated[tuple[int, ...], Length(1, 2)], [(1,), (1, 2)], [(), (1, 2, 3), [1], (1.0,)]),
        (tuple[int, str], [(1, "a")], [(1,), (1, "a", 2), ("a", 1)]),
        (Literal[1, "a"], [1, "a"], [True, 1.0, "b"]),
        (dict[str, int], [{}, {"a": 1}], [{"a": "b"}, {1: 1}, [], None]),
        (int | None, [None, 3], [False, 3.0]),
    ],
)
def test_a_value_fits_a_type_within_its_limits_alone(hint, right, wrong):
    assert [value for value in right if not fits(value, hint)] == []
    assert [value for value in wrong if fits(value, hint)] == []


def test_a_seed_is_a_whole_number_from_zero_of_any_kind():
    assert [seed_of(value) for value in (0, np.int64(7), np.uint8(255))] == [0, 7, 255]
    assert type(seed_of(np.int64(7))) is int
    for value in (-1, True, 1.0, "1", None):
        with pytest.raises(InputError, match=r"^seed must be a whole number of at least 0, got "):
            seed_of(value)


def test_an_unknown_or_missing_setting_is_answered_with_those_there_are():
    with pytest.raises(InputError) as caught:
        from_values(Net, {"widths": 3}, "net")
    assert str(caught.value) == (
        "the record's net has a setting that this version does not know: 'widths'; there are: hidden, pair, rate, "
        "clip, residual, learn"
    )
    with pytest.raises(InputError) as caught:
        from_values(Net, [1], "net")
    assert str(caught.value) == "the record's net must be a table of settings, got [1]"
    with pytest.raises(InputError, match=r"^RUN must be a path, got ''$"):
        Parser(Command, "kakusan test", {"net": Net()}).parse([""])
