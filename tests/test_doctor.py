"""kakusan doctor says what is damaged, and what it tells to type works."""

import json
import shlex
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest

from harness import disk_model
from harness.faults import catches
from kakusan.cli import main
from kakusan.run.directory import RunDirectory
from kakusan.run.doctor import Findings, _to_type

pytestmark = pytest.mark.reliability

TINY = ["--model.hidden", "4", "--model.latent", "2", "--optim.batch", "8"]


def call(capsys, *arguments):
    """Exit status, stdout and stderr of a command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    done = capsys.readouterr()
    return stop.value.code, done.out, done.err


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A run of ten steps on data of its own, and the file operations that made it."""
    root = tmp_path_factory.mktemp("doctor")
    np.save(root / "mine.npy", np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8))
    given = ["--data", str(root / "mine.npy"), "--steps", "10", *TINY, "--out", str(root / "run")]
    with disk_model.recorded() as operations, pytest.raises(SystemExit) as stop:
        main(["train", "mnist-vae", *given])
    assert stop.value.code == 0
    return root / "run", operations


@pytest.fixture
def finished(training):
    return training[0]


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, in a folder whose name needs quoting."""
    shutil.copytree(finished, tmp_path / "my run")
    return tmp_path / "my run"


def newest(run):
    return max((run / "checkpoints").glob("step-*"))


def what_to_type(out):
    """The command of the last line, as a shell takes it apart."""
    line = out.splitlines()[-1]
    assert line.startswith("continue with: ")
    return line.removeprefix("continue with: ")


def obey(capsys, typed):
    """Type what was told: moves as they are, kakusan in this process."""
    *moves, last = typed.split(" && ")
    for move in moves:
        assert move.startswith("mv ")
        subprocess.run(shlex.split(move), check=True)
    program, *arguments = shlex.split(last)
    assert program == "kakusan"
    return call(capsys, *arguments)


def test_a_whole_run_is_whole_and_looking_changes_nothing(capsys, run):
    before = disk_model.tree_of(run)
    with disk_model.recorded() as operations:
        code, out, _ = call(capsys, "doctor", run)
    assert code == 0
    assert not operations
    assert disk_model.tree_of(run) == before
    assert "DAMAGED" not in out
    assert out.count(": intact") == 2
    assert "mine.npy unchanged" in out
    assert what_to_type(out) == f"kakusan sample '{run}' -n 64"


def test_every_file_of_a_run_came_through_the_one_door_to_the_disk(training):
    run, operations = training
    made = {operation.path for operation in operations if operation.kind in ("create", "make folder")}
    made |= {operation.other for operation in operations if operation.kind == "rename"}  # with what lies in it
    there = [path for path in run.rglob("*") if path not in made and path.parent not in made - {run}]
    assert [path.name for path in there] == ["lock"]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_every_damaged_file_is_named_and_the_run_can_be_brought_to_its_end_again(capsys, run, name):
    weights = json.loads((run / "summary.json").read_text())["weights_sha256"]
    with (newest(run) / name).open("ab") as file:
        file.write(b"\n")
    code, out, _ = call(capsys, "doctor", run)
    assert code == 1
    assert f"checkpoints/{newest(run).name}: DAMAGED: {name}" in out
    assert out.count(": intact") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of tests
        code, _, err = obey(capsys, what_to_type(out))
    assert code == 0
    assert err.count("and left as it is; using step-") == 1
    assert json.loads((run / "summary.json").read_text())["weights_sha256"] == weights
    code, out, _ = call(capsys, "doctor", run)
    assert code == 0
    assert f"checkpoints/damaged-1-{newest(run).name}: damaged, renamed and never used again" in out


def test_with_every_checkpoint_damaged_the_run_can_begin_anew(capsys, run):
    weights = json.loads((run / "summary.json").read_text())["weights_sha256"]
    for folder in (run / "checkpoints").glob("step-*"):
        (folder / "ema.safetensors").unlink()
    code, out, _ = call(capsys, "doctor", run)
    assert code == 1
    assert out.count("DAMAGED: ema.safetensors is missing") == 2
    assert obey(capsys, what_to_type(out))[0] == 0
    assert json.loads((run / "summary.json").read_text())["weights_sha256"] == weights


def test_an_unfinished_run_is_told_how_to_resume(capsys, run):
    (run / "summary.json").unlink()
    code, out, _ = call(capsys, "doctor", run)
    assert code == 0
    assert "not finished" in out
    assert what_to_type(out) == f"kakusan train --resume '{run}'"


def test_a_damaged_summary_can_be_made_again(capsys, run):
    (run / "summary.json").write_text("{")
    code, out, _ = call(capsys, "doctor", run)
    assert code == 1
    assert "summary.json cannot be read" in out
    assert obey(capsys, what_to_type(out))[0] == 0
    assert call(capsys, "doctor", run)[0] == 0


@catches("""run/doctor.py: the history is not examined
- _examine_history(findings, run)
+ findings.records.copy()""")
def test_a_damaged_history_is_named(capsys, run):
    (run / "history.jsonl").write_text('{"step": "x", "loss": []}\n[1]\n')
    code, out, _ = call(capsys, "doctor", run)
    assert code == 1
    assert f"DAMAGED: line 1 of {run / 'history.jsonl'} is damaged" in out
    assert what_to_type(out) == f"kakusan sample '{run}' -n 64"


def test_every_command_names_the_record_without_a_recipe_in_it(capsys, run, tmp_path):
    record = json.loads((run / "run.json").read_text())
    record["recipe"] = dict.fromkeys(record["recipe"], 7)
    (run / "run.json").write_text(json.dumps(record))
    words = f"{run / 'run.json'} does not hold a recipe (the record's family must be one of "
    for verb in ("info", "sample", "evaluate", "export", "report", "doctor"):
        out = ["--out", tmp_path / verb] if verb in ("sample", "report") else []
        code, said, err = call(capsys, verb, run, *out)
        assert (code, words in said + err) == ((1 if verb == "doctor" else 2), True), verb
    code, _, err = call(capsys, "train", "--resume", run, "--steps", 20)
    assert (code, words in err) == (2, True)


@pytest.mark.parametrize("name", ["run.json", "data.json"])
@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_without_the_records_that_a_run_stands_on_it_says_so(capsys, run, name, content):
    if (name, content) == ("data.json", "{}"):
        content = '{"digest": 3}'
    (run / name).write_text(content)
    code, out, _ = call(capsys, "doctor", run)
    assert code == 1
    assert "DAMAGED" in out


def test_changed_data_are_damage_and_data_that_are_elsewhere_are_not(capsys, run, finished, tmp_path):
    data = tmp_path / "moved.npy"
    record = json.loads((run / "run.json").read_text())
    record["recipe"]["data"] = str(data)
    (run / "run.json").write_text(json.dumps(record))
    code, out, _ = call(capsys, "doctor", run)
    assert code == 0
    assert "cannot be opened here" in out
    shutil.copy(finished.parent / "mine.npy", data)
    assert " unchanged" in call(capsys, "doctor", run)[1]
    pictures = np.load(data)
    pictures[3, 1, 2] ^= 1
    np.save(data, pictures)
    code, out, _ = call(capsys, "doctor", run)
    assert code == 1
    assert "DAMAGED: data: " in out
    assert "changed since the run was started" in out


def test_a_run_that_is_being_worked_on_is_left_to_it(capsys, run):
    holder = RunDirectory.open(run)
    holder.lock()
    code, out, _ = call(capsys, "doctor", run)
    assert code == 0
    assert "in use by another process: " in out
    assert "continue with" not in out
    found = json.loads(call(capsys, "doctor", run, "--json")[1])
    assert found["in_use_by"].keys() == {"pid", "host", "since", "command"}
    holder.unlock()


def test_as_json_it_says_the_same(capsys, run):
    (newest(run) / "ema.safetensors").unlink()
    code, out, _ = call(capsys, "doctor", run, "--json")
    found = json.loads(out)
    assert code == 1
    assert found["damaged"]
    assert found["finished"]
    assert found["in_use_by"] is None
    assert found["checkpoints"][newest(run).name] == ["ema.safetensors is missing"]
    assert found["to_type"].endswith(f"kakusan train --resume '{run}'")


def test_what_is_no_run_is_a_mistake_in_one_line(capsys, tmp_path):
    code, out, err = call(capsys, "doctor", tmp_path)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


def test_a_name_with_terminal_escapes_does_not_reach_the_terminal(capsys, run):
    (newest(run) / "\x1b[31mred").write_text("")
    out = call(capsys, "doctor", run)[1]
    assert "\x1b" not in out
    assert "does not belong to it" in out


@pytest.mark.parametrize("summary", ["there", "gone"])
def test_who_uses_a_run_without_a_whole_checkpoint_is_told_to_type_what_doctor_says(capsys, run, summary):
    if summary == "gone":
        (run / "summary.json").unlink()
    for name in ("ema.safetensors", "."):  # first damaged, then gone
        for folder in run.glob("checkpoints/step-*"):
            (folder / name).unlink() if name != "." else shutil.rmtree(folder)
        typed = what_to_type(call(capsys, "doctor", run)[1])
        for verb in ("sample", "evaluate", "export"):
            code, _, err = call(capsys, verb, run)
            assert (code, len(err.splitlines())) == (2, 1)
            assert err.strip().endswith(f"resume with: {typed}")
    assert obey(capsys, typed)[0] == 0


def test_a_shared_file_is_looked_at_too(capsys, run, tmp_path):
    file = tmp_path / "my model.safetensors"
    assert call(capsys, "export", run, "--out", file)[0] == 0
    code, out, _ = call(capsys, "doctor", file)
    assert (code, what_to_type(out)) == (0, f"kakusan sample '{file}' -n 64")
    content = bytearray(file.read_bytes())
    content[-3] ^= 16
    file.write_bytes(content)
    code, out, _ = call(capsys, "doctor", file)
    refused, _, err = call(capsys, "sample", file)
    assert (code, refused) == (1, 2)
    assert out == err.replace("kakusan: ", "DAMAGED: ")
    assert "kakusan export RUN" in out
    found = json.loads(call(capsys, "doctor", file, "--json")[1])
    assert found["damaged"]
    assert found["to_type"] is None


def test_a_run_without_checkpoints_may_begin(capsys, run):
    for folder in Path(run / "checkpoints").iterdir():
        shutil.rmtree(folder)
    (run / "summary.json").unlink()
    code, out, _ = call(capsys, "doctor", run)
    assert code == 0
    assert "no checkpoint yet" in out
    assert obey(capsys, what_to_type(out))[0] == 0


@catches("""run/doctor.py: a finished run with an older damaged checkpoint is trained again [older]
- and not problems[-1]:
+ and not problems[0]:""")
@pytest.mark.parametrize(
    ("damaged", "changes", "typed"),
    [
        pytest.param((), {}, "kakusan sample r -n 64", id="none"),
        pytest.param((1,), {}, "kakusan sample r -n 64", id="older"),
        pytest.param((2,), {}, "kakusan train --resume r", id="newest"),
        pytest.param((1, 2), {}, "mv r/checkpoints r/damaged && kakusan train --resume r", id="all"),
        pytest.param((), {"finished": False}, "kakusan train --resume r", id="unfinished"),
        pytest.param((), {"records": {"teacher.safetensors": "x"}}, None, id="teacher"),
        pytest.param((2,), {"in_use_by": {}}, None, id="in use"),
    ],
)
def test_what_is_to_be_typed_follows_from_what_is_damaged(damaged, changes, typed):
    checkpoints = {f"step-{k}": ["a byte has changed"] if k in damaged else [] for k in (1, 2)}
    findings = Findings(**{"run": "r", "finished": True, "in_use_by": None, "checkpoints": checkpoints, **changes})
    assert _to_type(findings, RunDirectory(Path("r"))) == typed
    assert findings.damaged == bool(damaged or findings.records)


def test_the_findings_are_told_line_by_line():
    found = Findings(
        "r", True, {"pid": 1, "host": "h", "since": "s", "command": ["c"]}, {"run.json": "bad"}, {"one": [], "two": ["a", "b"]},
        "x changed", True, ["damaged-1"],
    )  # fmt: skip
    assert found.lines() == [
        "r: finished, in use by another process: 1 on h since s (c)",
        "DAMAGED: bad",
        "checkpoints/one: intact",
        "checkpoints/two: DAMAGED: a",
        "checkpoints/two: DAMAGED: b",
        "checkpoints/damaged-1: damaged, renamed and never used again; you may delete it",
        "DAMAGED: data: x changed",
        "restore the data before continuing",
    ]
    assert found.damaged
    quiet = Findings("r", False, None, data="x unchanged")
    assert not quiet.damaged
    assert quiet.lines() == [
        "r: not finished", "no checkpoint yet", "data: x unchanged",
        "the run cannot continue without these records; train again with another --out",
    ]  # fmt: skip
    quiet.to_type = "type this"
    assert quiet.lines()[-1] == "continue with: type this"
    assert Findings("m", True, None, is_file=True, to_type="t").lines() == [
        "m: exported model, intact",
        "continue with: t",
    ]
    assert Findings("m", True, None, {"m": "bad"}, is_file=True).lines() == ["DAMAGED: bad"]
    assert Findings("r", True, None, data_changed=True).record()["damaged"]
