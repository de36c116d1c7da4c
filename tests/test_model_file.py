"""The file one shares: it holds all that a run's model is, says what it holds, and is read by every later version."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import kakusan
from harness import hostile
from harness.faults import catches
from harness.support import call
from kakusan.bound import ancestral_sample
from kakusan.cli import main
from kakusan.errors import InputError
from kakusan.noise import example_streams
from kakusan.run import model_file
from kakusan.run.model_file import ExportedModel
from kakusan.storage import tensors

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    rng = np.random.default_rng(0)
    x = np.zeros((60, 4, 4), np.uint8)
    for picture, (row, column) in zip(x, rng.integers(0, 3, (60, 2))):
        picture[row : row + 2, column : column + 2] = 255
    path = tmp_path_factory.mktemp("private-folder") / "squares.npy"
    np.save(path, x)
    return path


@pytest.fixture(scope="module")
def runs(squares, tmp_path_factory):
    """A finished run of three families and the file exported from each."""
    root = tmp_path_factory.mktemp("private-runs")
    counts = root / "counts.npy"
    np.save(counts, np.random.default_rng(1).multinomial(30, [0.5, 0.3, 0.2], 40))
    small = [
        "--model.width",
        8,
        "--model.inner-width",
        16,
        "--model.blocks",
        1,
        "--model.depth",
        8,
        "--optim.batch",
        16,
    ]
    for name, arguments in {
        "ddpm": ["mnist-ddpm", "--data", squares, "--steps", 12, *small],
        "vae": ["mnist-vae", "--data", squares, "--steps", 5, "--model.hidden", 4, "--model.latent", 2],
        "counts": ["counts-dirichlet", "--data", counts, "--steps", 20],
    }.items():
        for command in (
            ["train", *arguments, "--out", root / name],
            ["export", root / name, "--out", root / f"{name}.safetensors"],
        ):
            with pytest.raises(SystemExit) as stop:
                main([str(word) for word in command])
            assert stop.value.code == 0, command
    return root


@pytest.mark.parametrize("name", ["ddpm", "vae", "counts"])
def test_the_file_is_the_runs_model_to_the_bit(runs, name):
    run, file = kakusan.load(runs / name), kakusan.load(runs / f"{name}.safetensors")
    mine, theirs = run.chain.state_dict(), file.chain.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert np.array_equal(run.sample(5, seed=3), file.sample(5, seed=3))
    assert (file.weaker is not None) == (name == "ddpm")


def test_the_guide_is_in_the_file_and_is_used(runs):
    file = kakusan.load(runs / "ddpm.safetensors")
    assert not np.array_equal(file.sample(8, guidance=20), file.sample(8, guidance=1))


@pytest.mark.parametrize("name", ["ddpm", "vae", "counts"])
def test_no_path_of_the_machine_is_in_the_file(runs, squares, name):
    content = (runs / f"{name}.safetensors").read_bytes()
    words = content[8 : 8 + int.from_bytes(content[:8], "little")].decode()  # what follows are the weights' numbers
    for private in ("private", str(Path.home()), str(runs), os.uname().nodename):
        assert not re.search(rf"(?<!\w){re.escape(private)}(?!\w)", words)
    assert model_file.read_facts(runs / f"{name}.safetensors").recipe.data in ("squares.npy", "counts.npy")


def test_what_a_fit_learned_of_each_row_of_its_data_is_not_in_the_file(runs):
    assert not any("gamma" in name for name in tensors.header(runs / "counts.safetensors").entries)


@pytest.mark.parametrize("name", ["ddpm", "vae"])
def test_sample_evaluate_and_compare_take_a_file_as_they_take_a_run(capsys, runs, squares, tmp_path, name):
    run, file = runs / name, runs / f"{name}.safetensors"
    pictures = []
    for source in (run, file):
        assert call(capsys, "sample", source, "-n", 3, "--out", tmp_path / source.name)[0] == 0
        pictures.append(np.load(tmp_path / source.name / "samples.npy"))
    assert np.array_equal(*pictures)
    of_run = json.loads(call(capsys, "evaluate", run, "--data", squares, "--json")[1])  # --data: measured whole
    of_file = json.loads(call(capsys, "evaluate", file, "--data", squares, "--json")[1])
    assert of_run == of_file
    code, out, _ = call(capsys, "compare", run, file)
    assert code == 0
    assert "+0.0000 ± 0.0000" in out
    code, out, err = call(capsys, "compare", file, run, "--data", squares)
    assert code == 0
    assert "+0.0000 ± 0.0000" in out
    assert "another split" in err  # the whole of the data, with the examples that both were trained on


def test_info_says_what_a_file_is_and_with_which_weights(capsys, runs):
    code, out, _ = call(capsys, "info", runs / "ddpm.safetensors")
    summary = json.loads((runs / "ddpm" / "summary.json").read_text())
    assert code == 0
    for words in ("mnist-ddpm", "squares.npy", "(1, 4, 4)", kakusan.__version__, summary["weights_sha256"]):
        assert words in out


def test_samples_of_a_file_go_where_its_name_says(capsys, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "sample", runs / "vae.safetensors", "-n", 2)[0] == 0
    assert (tmp_path / "samples" / "vae-seed0-n2" / "samples.npy").exists()


@catches("""run/evaluation_data.py: a file says where its data are
- if other is None and source.run is None and model.recipe.data not in EMBEDDED:
+ if False:""")
def test_a_file_does_not_say_where_to_look_for_data(capsys, tmp_path, monkeypatch):
    """Its record may name any path; nothing is opened there."""
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.npy"
    np.save(secret, np.zeros((9, 4, 4), np.uint8))
    for path in (str(secret), "secret.npy", "/dev/zero"):
        (tmp_path / "model.safetensors").write_bytes(hostile.setting("recipe.data", path))
        code, _, err = call(capsys, "evaluate", "model.safetensors")
        assert code == 2
        assert "does not contain its data" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "vae.safetensors"], "is an exported file already"),
        (["export", "nowhere"], "no run at nowhere"),
        (["export", "vae", "--out", "vae.safetensors"], "is left unchanged"),
        (["export", "vae", "--out", "vae.pt"], ".safetensors"),
        (["export", "vae", "--out", "vae/checkpoints/mine.safetensors"], "inside the run"),
        (["evaluate", "vae.safetensors"], "--data"),
        (["report", "vae.safetensors"], "no run at"),
        (["train", "--resume", "vae.safetensors"], "no run at"),
    ],
)
def test_a_mistake_about_a_file_is_one_line_and_exit_2(capsys, runs, monkeypatch, arguments, words):
    monkeypatch.chdir(runs)
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert out == ""
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


@catches("""console.py: a message brings control characters to the terminal
- "", printable(line), sep=""
+ "", line, sep="" """)
def test_a_message_brings_no_control_characters_to_the_terminal(capsys):
    code, _, err = call(capsys, "sample", "\x1b[2Jnowhere\x07")
    assert code == 2
    assert err.rstrip("\n").isprintable()


@catches("""run/model_file.py: the hash of a file is not looked at [vae]
- if found != claimed:
+ if not found:""")
@pytest.mark.parametrize("family", hostile.MODELS)
def test_every_byte_of_a_file_is_watched(tmp_path, family):
    """Of the weights: all bits are under the hash. Of the record: whatever it changes, but not how it is spelt."""
    content, path = hostile.honest(family), tmp_path / "model.safetensors"
    header, data = hostile.apart(content)
    start = len(content) - len(data)
    step = max(1, len(data) // 100)
    for position in range(start, len(content), step):
        damaged = bytearray(content)
        damaged[position] ^= 1  # the lowest bit of a byte: never NaN, hardly another number
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"SHA-256|not finite"):
            model_file.read(path)
    path.write_bytes(hostile.together(dict(reversed(header.items())), data))  # the same, spelt otherwise
    assert model_file.read(path).facts == model_file.read(path).facts


@pytest.mark.parametrize("family", hostile.MODELS)
def test_a_file_comes_back_as_it_went(tmp_path, family):
    made, path = hostile.small(family), tmp_path / "model.safetensors"
    path.write_bytes(made.to_bytes())
    back = model_file.read(path)
    assert back.facts == made.facts
    assert back.to_bytes() == made.to_bytes()
    assert tensors.digest(back.weights) == tensors.digest({k: t for k, t in made.weights.items() if k != "log_gamma"})
    assert (back.early is None) == (made.early is None)


# Files that earlier versions wrote. Never made anew: `write_golden` is for the next format.


def draws(path: Path) -> torch.Tensor:
    """Two samples, (2, 1, 4, 4), before they are rounded to pixels; guided where the file brings a guide."""
    model = kakusan.load(path, "cpu")
    chain = model.chain if model.weaker is None else kakusan.guided(model.chain, model.weaker, 2.0)
    return ancestral_sample(chain, 2, example_streams(0, range(2)), mean_output=True)


def write_golden() -> None:
    """Make tests/golden for a format."""
    record = {}
    for family in ("vae", "diffusion"):
        made = hostile.small(family, seed=1)
        # sixteenths: the files can be compressed
        parts = [
            part and {name: (16 * tensor).round() / 16 for name, tensor in part.items()}
            for part in (made.weights, made.early)
        ]
        path = GOLDEN / f"{family}-format{model_file.FORMAT}.safetensors"
        path.write_bytes(ExportedModel(made.facts, *parts).to_bytes())
        weights = tensors.digest(model_file.read(path).weights)
        record[path.name] = {"weights": weights, "samples": draws(path).tolist()}
    (GOLDEN / "expected.json").write_text(json.dumps(record, indent=1) + "\n")


@pytest.mark.parametrize("name", sorted(json.loads((GOLDEN / "expected.json").read_text())))
def test_a_file_that_an_earlier_version_wrote_is_read_and_samples_as_it_did(name):
    expected = json.loads((GOLDEN / "expected.json").read_text())[name]
    assert tensors.digest(model_file.read(GOLDEN / name).weights) == expected["weights"]
    # 4 guided steps of float32 networks: other machines, and other numbers of threads, order their sums otherwise, which
    # moved the diffusion's pixels by 5e-5 at most; weights or steps that are read wrongly move them by hundredths
    torch.testing.assert_close(draws(GOLDEN / name), torch.tensor(expected["samples"]), rtol=0, atol=5e-4)


def test_every_golden_file_is_expected():
    names = {path.name for path in GOLDEN.glob("*.safetensors")}
    assert names == json.loads((GOLDEN / "expected.json").read_text()).keys()


# No pickle


WATCHED = """
import sys
armed, seen = False, []
sys.addaudithook(lambda event, arguments: seen.append(arguments) if armed and event == "pickle.find_class" else None)
from kakusan.cli import main
for command in {commands!r}:
    armed = True
    try:
        main(command)
    except SystemExit as stop:
        assert stop.code == 0, (command, stop.code)
    armed = False
    assert not seen, (command, seen)
import pickle, pathlib
armed = True
pickle.loads(pickle.dumps(pathlib.Path("x")))
assert seen, "the hook sees nothing"
"""


def test_no_command_unpickles_anything(runs, squares, tmp_path):
    file = str(tmp_path / "again.safetensors")
    commands = [
        ["export", str(runs / "ddpm"), "--out", file],
        *(["info", str(path)] for path in (runs / "ddpm", file)),
        ["sample", str(runs / "ddpm"), "-n", "2", "--out", str(tmp_path / "of-run")],
        ["sample", file, "-n", "2", "--out", str(tmp_path / "of-file")],
        *(["evaluate", str(path), "--data", str(squares), "--limit", "4"] for path in (runs / "ddpm", file)),
        ["compare", str(runs / "ddpm"), file, "--limit", "4"],
        ["data", str(squares)],
    ]
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(runs / "ddpm"), str(copy)], check=True)
    commands += [["train", "--resume", str(copy), "--steps", "14"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = WATCHED.format(commands=commands)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
