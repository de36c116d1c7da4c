"""Whatever ends a command, its user reads one line and a shell reads an exit status."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import kakusan
from harness.faults import catches
from harness.support import call
from kakusan import __main__, nets, solvers
from kakusan.cli import _refusal, commands
from kakusan.cli.arguments import COMMANDS
from kakusan.errors import InputError, PeerFailed, Stopped
from kakusan.images import Images

ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
)
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ...")


def ended(capsys, monkeypatch, error):
    """How a command ends in which this error arises: status, stdout, stderr."""

    def refuse(command):
        raise error

    monkeypatch.setattr(commands, "info", refuse)
    try:
        return call(capsys, "info", "x")
    except (Exception, Stopped):
        return "traceback", *capsys.readouterr()


REFUSALS = {
    "permission": (
        PermissionError(13, "Permission denied", "/x/\x1by"),
        "cannot use /x/\\x1by (Permission denied); check that it exists, may be used and has room",
    ),
    "two paths": (OSError(28, "No space left on device", "a", None, "b"), "cannot use b (No space left on device)"),
    "no path": (OSError(5, "Input/output error"), "cannot use the current folder (Input/output error)"),
    "link loop": (
        RuntimeError("Symlink loop from '/x'"),
        "cannot use a path (Symlink loop from '/x'); remove the symbolic links",
    ),
    "a name to write": (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "no"), "'\\udcff' is not valid UTF-8; rename"),
    "a text to read": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), "b'\\xff' is not valid UTF-8; rename"),
    "memory": (MemoryError(), "out of memory; lower the number of examples, or use a machine with more memory"),
    "memory of a GPU": (CUDA, "out of memory; lower the number of examples"),
    "memory of torch": (RuntimeError(ALLOCATOR), "out of memory; lower the number of examples"),
}


@catches("""cli/__init__.py: a GPU that is full ends in a traceback [memory of a GPU]
- "alloc" in str(error)
+ "Allocator" in str(error)""")
@catches("""cli/__init__.py: of two paths the one that was read is named [two paths]
- error.filename2 or error.filename
+ error.filename""")
@pytest.mark.parametrize("name", REFUSALS)
def test_what_the_system_refuses_is_one_line(capsys, monkeypatch, name):
    error, line = REFUSALS[name]
    code, out, err = ended(capsys, monkeypatch, error)
    assert (code, out) == (2, "")
    assert err.startswith(f"kakusan: {line}")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()


@catches("""cli/__init__.py: an interrupted command ends with the number of the signal alone
- status = EXIT_STATUS + stopped.number
+ status = stopped.number""")
def test_a_command_ends_with_the_size_to_lower_the_status_and_the_lines_of_its_error(capsys, monkeypatch):
    sizes = {"train": "--optim.batch or the size of the model", "sample": "-n", "data": "--size", "score": "the number"}
    for verb, size in sizes.items():
        assert _refusal(MemoryError(), [verb]).startswith(f"out of memory; lower {size}")
    assert ended(capsys, monkeypatch, PeerFailed("rank 1 ended"))[::2] == (1, "kakusan: rank 1 ended\n")
    assert ended(capsys, monkeypatch, Stopped(15))[::2] == (143, "kakusan: interrupted\n")
    error = InputError("2 unusable files")
    error.add_note("a.png")
    assert ended(capsys, monkeypatch, error)[::2] == (2, "kakusan: 2 unusable files\na.png\n")


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), KeyError("x"), AssertionError()])
def test_a_fault_of_ours_is_never_hidden(monkeypatch, capsys, error):
    assert ended(capsys, monkeypatch, error) == ("traceback", "", "")


def test_a_name_that_is_too_long_is_one_line(capsys):
    for verb in ("info", "doctor", "evaluate"):
        code, _, err = call(capsys, verb, "n" * 300)
        assert (code, err.count("\n")) == (2, 1), verb


def run(code: str, **options) -> subprocess.CompletedProcess:
    arguments = [sys.executable, "-c", f"import sys, os\nfrom kakusan.cli import main\n{code}"]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **options)


def test_a_reader_that_goes_away_is_no_fault():
    """The pipe is closed before the first word is written, as by `| head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [sys.executable, "-m", "kakusan", "recipes"]
    done = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_folder_that_was_removed_is_one_line(tmp_path):
    (tmp_path / "gone").mkdir()
    done = run("os.chdir('gone'); os.rmdir('../gone'); main(['data', 'x'])", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("kakusan: cannot use the current folder (No such file or directory)")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_is_130_and_one_line():
    done = run(
        "import kakusan.cli.commands as commands, signal, time\n"
        "commands.info = lambda command: (os.kill(os.getpid(), signal.SIGINT), time.sleep(9))\nmain(['info', 'x'])"
    )
    assert (done.returncode, done.stderr) == (130, "kakusan: interrupted\n")


@catches("""__init__.py: a module is no name of the package until it was imported
- if name in _MODULES:
+ if False:""")
def test_modules_are_names_of_the_package_before_they_are_imported():
    def found(name):
        try:
            return kakusan.__getattr__(name).__name__
        except AttributeError:
            return None

    names = ["data", "measure", "nets", "objectives", "oracles", "solvers"]
    assert [found(name) for name in names] == [f"kakusan.{name}" for name in names]


@catches("""images.py: images of two channels are images
- not in (1, 3, 4)
+ not in (1, 2, 3, 4)""")
@pytest.mark.parametrize("shape", [(2, 4, 4, 2), (2, 4, 4), (2, 4, 4, 5)])
def test_arrays_that_no_figure_can_show_are_refused(shape):
    with pytest.raises(ValueError, match="expected uint8"):
        Images(np.zeros(shape, np.uint8))


@catches("""registry.py: a name of a module of solvers or networks is not answered [solvers]
- raise AttributeError(missing(package, name, public))
+ raise AttributeError(missing(package, name, ()))""")
@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        pytest.param(kakusan, "Difusion", "; did you mean 'Diffusion'?", id="package"),
        pytest.param(kakusan, "qqq", "", id="nothing near"),
        pytest.param(solvers, "DDMI", "; did you mean 'DDIM'?", id="solvers"),
        pytest.param(nets, "Unet", "; did you mean 'UNet'?", id="networks"),
    ],
)
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(module, name, words):
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    assert str(caught.value) == f"module {module.__name__!r} has no attribute {name!r}{words}"


def test_sampling_without_a_number_says_what_is_missing():
    chain = kakusan.Diffusion(torch.nn.Identity(), kakusan.Schedule.cosine(5), 2, prediction="x")
    with pytest.raises(kakusan.InputError, match="number of samples is missing; give n"):
        kakusan.sample(chain)


@catches("""__main__.py: Ctrl-C while modules are imported is a traceback
- except KeyboardInterrupt:
+ except ImportError:""")
def test_ctrl_c_while_the_modules_of_the_command_are_imported_is_one_line(monkeypatch, capsys):
    class Interrupted:
        def find_spec(self, name, path=None, target=None):
            if name == "kakusan.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "kakusan.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    ended = None
    try:
        __main__.main()
    except BaseException as error:
        ended = error
    assert getattr(ended, "code", None) == 130
    assert capsys.readouterr() == ("", "kakusan: interrupted\n")


def test_out_of_memory_names_what_to_lower_in_each_command():
    lowered = {
        ("train", "mnist-ddpm"): "--optim.batch or the size of the model",
        ("sample", "x"): "-n",
        ("data", "x"): "--size",
        ("evaluate", "x"): "the number of examples",
        (): "the number of examples",
    }
    for words, what in lowered.items():
        line = f"out of memory; lower {what}, or use a machine with more memory"
        assert _refusal(MemoryError(), list(words)) == line


def test_the_list_of_commands_and_an_unknown_command_name_them_all(capsys):
    code, out, _ = call(capsys)
    lines = out.splitlines()
    assert (code, lines[0]) == (0, "kakusan trains, measures and samples generative models under one ELBO.")
    assert (code, out) == call(capsys, "--help")[:2] == call(capsys, "help")[:2]
    text = " ".join(out.split())
    assert "kakusan train RECIPE Train a recipe, on your own images or counts with --data." in text
    assert "kakusan train --resume RUN Resume a run from its newest checkpoint." in text
    assert text.endswith("Every command has --help. kakusan train RECIPE --help lists all settings of a recipe.")
    assert call(capsys, "--version")[:2] == (0, f"{kakusan.__version__}\n")
    verbs = ", ".join(["train", *COMMANDS])
    meant = {
        "resume": "train --resume",
        "generate": "sample",
        "draw": "sample",
        "check": "doctor",
        "evaluat": "evaluate",
    }
    for word, near in meant.items():
        line = f"kakusan: no command {word!r}; did you mean {near!r}? there are: {verbs}\n"
        assert call(capsys, word) == (2, "", line)
    assert call(capsys, "qqq") == (2, "", f"kakusan: no command 'qqq'; there are: {verbs}\n")


def test_words_that_do_not_fit_train_are_answered_with_those_that_do(capsys):
    for words, line in (
        (["--steps", "3"], "expected a recipe first, got '--steps'; type: kakusan train images --steps 3"),
        (["mnist-ddpm", "--resume", "x"], "--resume takes no recipe; type: kakusan train --resume x"),
        (["mnist-ddpm", "--steps", "3", "--minutes", "1"], "expected --minutes or --steps, got both; leave one out"),
        (
            ["--resume", "x", "--seed=3"],
            "a run keeps its own data and settings, so --seed cannot be given; --resume takes --minutes, --steps, "
            "--data, --rollback, --device, --devices, --restarts",
        ),
    ):
        assert call(capsys, "train", *words) == (2, "", f"kakusan: {line}\n")
