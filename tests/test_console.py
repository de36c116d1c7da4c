"""What is printed can be read by a person, typed in a shell, and does nothing to a terminal."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from harness.faults import catches
from kakusan import console
from kakusan.console import command, counted, entry, program, progress, quoted, say, tell

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


class Clock:
    """Time that passes a second whenever somebody looks."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@catches("""console.py: the time left is the whole time
- (total - done) / done
+ total / done""")
@catches("""console.py: a dumb terminal gets escapes
- os.environ.get("TERM", "dumb") != "dumb"
+ True""")
@pytest.mark.parametrize(("terminal", "term"), [(True, "dumb"), (False, "xterm"), (True, "xterm")])
def test_progress_is_shown_after_two_seconds_with_the_time_left(monkeypatch, terminal, term):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(console.time, "monotonic", Clock())
    assert list(progress(range(100), "sampling\x1b")) == list(range(100))
    shown = stream.getvalue()
    live = terminal and term != "dumb"
    assert ("\r" in shown) == ("\033" in shown) == live
    lines = shown.replace("\033[K", "").strip("\r").split("\r") if live else shown.splitlines()
    assert lines[0] == "sampling\\x1b: 1%, 3:18 left"
    assert len(lines) > (90 if live else 5)


def test_progress_of_quick_work_is_not_shown(capsys):
    assert list(progress(iter("abc"), "quick", total=3)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


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
