"""What is printed can be read by a person, typed in a shell, and does nothing to a terminal."""

import ast
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.faults import catches
from kakusan import console
from kakusan.console import command, counted, entry, minutes, program, quiet, quoted, say, tell, tell_measuring, writing
from kakusan.errors import InputError, SaveError, Stopped, printable, shown
from kakusan.registry import Registry, did_you_mean, missing, nearest

NASTY = [
    "a b",
    "it's",
    "$HOME",
    "x;y",
    "\x1b[2J",
    "a\nb",
    "\u202egnp",
    "tab\there",
    "back\\slash\x07",
    "it's\x07",
    "Größe",
    "",
    "画像",
]


@catches(r"""console.py: a backslash in a quoted name is lost
- and c not in "\\'" else
+ else""")
@pytest.mark.parametrize("word", NASTY)
def test_a_printed_command_is_typed_as_it_is_and_means_the_same(word):
    text = quoted(word)
    assert text.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {text}"], capture_output=True, check=False)
    assert done.stdout == word.encode()


@catches("""console.py: a result brings control characters to the terminal
-         print(printable(line))
-
+         print(line)
+""")
def test_nothing_that_is_printed_reaches_the_terminal_as_a_control(capsys):
    say("one\x1b[2J", "two\u202e")
    tell("three\x07\r")
    out, err = capsys.readouterr()
    assert out == "one\\x1b[2J\ntwo\\u202e\n"
    assert err == "three\\x07\\r\n"


@catches("""console.py: a printed command is on no PATH
- if found and os.path.samefile(found, script) else
+ if True else""")
@pytest.mark.parametrize(
    ("argv", "on_path", "expected"),
    [
        ("{folder}/bin/kakusan", True, "kakusan"),
        ("{folder}/bin/kakusan", False, "bin/kakusan"),
        ("{folder}/kakusan/__main__.py", True, "kakusan"),
        ("{folder}/kakusan/__main__.py", False, "bin/kakusan"),
        ("/usr/bin/pytest", False, "kakusan"),
    ],
)
def test_a_printed_command_begins_as_this_program_was_started(tmp_path, monkeypatch, argv, on_path, expected):
    (tmp_path / "bin").mkdir()
    for name in ("kakusan", "python"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [argv.format(folder=tmp_path)])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin") if on_path else "/nowhere")
    assert command("sample", Path("my runs/a"), "-n", 64) == f"{expected} sample 'my runs/a' -n 64"


def test_without_an_installed_script_a_command_begins_with_python(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "kakusan" / "__main__.py")])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == f"{tmp_path}/python -m kakusan"


@catches("""console.py: every rank prints messages
- if _is_first() and not _quiet.get():
+ if not _quiet.get():""")
def test_only_the_first_rank_of_a_command_prints_messages_and_progress(monkeypatch, capsys):
    monkeypatch.setattr(console, "QUIET_SECONDS", 0.0)
    with quiet():
        tell("to nobody")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        tell(f"of rank {rank}")
        assert console.Status().due == (rank == "0")
    assert capsys.readouterr() == ("", "of rank 0\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_table_fits_the_terminal(monkeypatch):
    for columns in (60, 80, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = entry("--model.width INT", "Number of channels. " * 20).splitlines()
        assert max(map(len, lines)) < columns
        assert len(lines) > 3
    assert counted(2000, "example") == "2,000 examples"


def test_a_message_clears_the_line_of_progress_and_stands_alone(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    status = console.Status()
    status.show("50%")
    tell("a message")
    status.show("60%")
    status.end(keep=True)
    tell("the end")
    assert stream.getvalue() == "\r50%\033[K\r\033[Ka message\n\r60%\033[K\nthe end\n"


VERBS = [
    "train",
    "sample",
    "evaluate",
    "compare",
    "classify",
    "score",
    "encode",
    "reconstruct",
    "interpolate",
    "report",
    "export",
    "doctor",
    "replay",
]


def test_a_command_in_a_message_is_printed_as_it_can_be_typed_here():
    """`command` quotes it and finds the program, which need not be on the path; help of the command line may name it."""
    package = Path(console.__file__).parent
    plain = []
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in docs else ""
            if isinstance(text, str) and re.search(rf"\bkakusan ({'|'.join(VERBS)})\b", text):
                plain.append(f"{path.relative_to(package)}: {text}")
    elsewhere = ("cli/", "exchange/card.py")  # help; the card of a file, which is read on another machine
    assert [line for line in plain if not line.startswith(elsewhere)] == []


def test_durations_and_numbers_of_things_are_written_as_people_write_them():
    assert [minutes(seconds) for seconds in (-3, 0.4, 59.6, 125, 3600)] == ["0:00", "0:00", "1:00", "2:05", "60:00"]
    assert [counted(number, "file") for number in (0, 1, 2, 1000)] == ["0 files", "1 file", "2 files", "1,000 files"]


def test_an_entry_has_two_columns_if_its_name_is_short_and_the_terminal_wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert entry("a" * 26, "Text.") == f"  {'a' * 26}  Text."
    assert entry("a" * 27, "Text.") == f"  {'a' * 27}\n{' ' * 30}Text."
    assert entry("name", "") == "  name"
    monkeypatch.setenv("COLUMNS", "79")
    assert entry("name", "Text.") == "  name\n      Text."
    for columns, width in ((80, 79), (120, 119), (200, 119)):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert console.line_width() == width


def test_a_measurement_of_a_thousand_examples_is_announced(capsys):
    tell_measuring(999)
    tell_measuring(1000)
    tell_measuring(20_000, " by run-1")
    with quiet():
        tell_measuring(20_000)
    assert capsys.readouterr().err == (
        "measuring the bound of 1,000 examples\nmeasuring the bound of 20,000 examples by run-1\n"
    )


def test_a_file_that_cannot_be_written_is_named_once(tmp_path):
    for error, name in (
        (OSError(28, "No space left on device", "a"), "a"),
        (OSError(28, "No space left on device", "a", None, "b"), "b"),
        (OSError(28, "No space left on device"), "out.npy"),
    ):
        with pytest.raises(SaveError) as caught, writing(Path("out.npy")):
            raise error
        assert str(caught.value) == f"cannot write {name} (No space left on device); choose another --out"


def test_a_value_from_outside_is_one_short_line():
    assert shown("x" * 100) == f"'{'x' * 37}...{'x' * 38}'"
    assert shown("x" * 78) == f"'{'x' * 78}'"
    assert shown(10**40) == repr(10**40)[:18] + "..." + repr(10**40)[-19:]
    assert shown(10**40 + 1) == "a whole number of 133 bits"
    assert shown(-(2**200)) == "a whole number of 201 bits"
    assert printable("a\n\x1b\u202e\u00e9") == "a\\n\\x1b\\u202e\u00e9"
    assert (Stopped(15).number, Stopped(15).args) == (15, (15,))


def test_a_name_is_suggested_if_it_is_similar_enough():
    assert nearest("abcde", ["abcxy", "vwxyz"]) == "abcxy"  # three of five letters are the same
    assert nearest("abcde", ["abxyz"]) is None
    assert did_you_mean("heum", ["ddim", "heun"]) == "did you mean 'heun'? "
    assert did_you_mean(3, ["ddim"]) == ""
    assert missing("kakusan", "lode", ["load"]) == "module 'kakusan' has no attribute 'lode'; did you mean 'load'?"
    assert missing("kakusan", "qqq", ["load"]) == "module 'kakusan' has no attribute 'qqq'"
    registry = Registry("thing", {"path": "pathlib:Path", "counter": "collections:Counter"})
    assert (list(registry), len(registry), registry["path"], "path" in registry) == (["path", "counter"], 2, Path, True)
    for name, sentence in (
        ("paht", "no thing 'paht'; did you mean 'path'? there are: path, counter"),
        (3, "no thing 3; there are: path, counter"),
    ):
        with pytest.raises(InputError) as caught:
            registry[name]
        assert str(caught.value) == sentence
