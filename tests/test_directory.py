"""A run directory has one writer, is never a foreign folder, and keeps a history without torn lines."""

import copy
import json

import pytest

from harness.faults import catches
from kakusan.errors import InputError
from kakusan.run.directory import RunDirectory, check_folder, check_new, owner_words
from kakusan.run.records import check_record


def test_one_run_directory_has_one_writer(tmp_path):
    first = RunDirectory.create(tmp_path / "run")
    with pytest.raises(InputError, match="in use by another process"):
        RunDirectory.create(tmp_path / "run")
    first.unlock()
    first.write("run.json", {})
    with pytest.raises(InputError, match="unfinished run"):
        RunDirectory.create(tmp_path / "run")
    first.write("summary.json", {})
    with pytest.raises(InputError, match=r"finished run.*--resume"):
        RunDirectory.create(tmp_path / "run")


@catches("""run/directory.py: a run in use locks its neighbors
- self._lock = WriterLock(path)
+ self._lock = WriterLock(path.parent)""")
def test_two_runs_in_one_folder_are_written_at_the_same_time(tmp_path):
    first = RunDirectory.create(tmp_path / "a")
    try:
        second = RunDirectory.create(tmp_path / "b")
    except InputError as error:
        pytest.fail(f"a neighbor is locked: {error}")
    first.unlock()
    second.unlock()


def test_a_foreign_folder_is_never_written_into(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="is not a run"):
        RunDirectory.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@catches("""run/directory.py: figures of samples after the step of a checkpoint stay
- if int(figure.stem.removeprefix("step-")) > step:
+ if False:""")
def test_history_forgets_a_torn_line_and_what_came_after_a_step(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    for step in (1, 2, 3):
        run.append_history({"step": step})
        (run.samples / f"step-{step:08d}.png").touch()
    with (tmp_path / "run" / "history.jsonl").open("a") as file:
        file.write('{"step": 4')
    run.cut_history(2)
    assert [line["step"] for line in run.history()] == [1, 2]
    assert sorted(path.name for path in run.samples.iterdir()) == ["step-00000001.png", "step-00000002.png"]
    run.unlock()


@catches("""run/directory.py: the summary of a run that is resumed is lost
- files.rename(self._file("summary.json"), self._file("summary-before.json"))
+ files.remove(self._file("summary.json"))""")
def test_a_reopened_run_keeps_its_former_summary_under_another_name(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    run.write("summary.json", {"steps": 3})
    run.reopen()
    run.reopen()
    assert not run.finished
    kept = tmp_path / "run" / "summary-before.json"
    assert kept.exists()
    assert json.loads(kept.read_text()) == {"steps": 3}
    run.unlock()


@catches("""run/directory.py: files may be written into a folder of a run
- for folder in (absolute, *absolute.parents):
+ for folder in (absolute,):""")
def test_nothing_is_written_into_a_run_or_into_a_folder_named_as_a_file(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    run.write("run.json", {})
    run.unlock()
    for path in (run.path / "x", run.samples / "deep" / "x"):
        for check in (check_new, lambda path: check_folder(path, "samples")):
            with pytest.raises(InputError, match="lies inside the run"):
                check(path)
    for name in ("x.png", "x.npy", "x.npz"):
        with pytest.raises(InputError, match="--out is the folder for samples"):
            check_folder(tmp_path / name, "samples")
    check_folder(tmp_path / "samples", "samples")
    check_new(tmp_path / "new")


LIKELIHOOD = {
    "bits_per_dim": 1.0, "standard_error": None, "nats": 2.0, "bits_per_example": 3, "num_images": 4, "estimator": "e",
    "terms": {"kl": 0.5},
}  # fmt: skip
# The least content of each record, and every further entry that it may have
LEAST = {
    "run.json": {
        "recipe": {}, "seed": 2**70, "device": "cpu", "parameters": 3, "command": ["kakusan"], "started": "then",
        "versions": {"torch": "2"},
    },
    "data.json": {"name": "x", "kind": "images", "event_shape": [1, 2], "train": 3, "held_out": 1, "digest": "d"},
    "summary.json": {"lines": ["a"], "steps": 1, "seconds": 0.5, "examples": 8, "weights_sha256": "w"},
    "history.jsonl": {"step": 1},
}  # fmt: skip
MORE = {
    "run.json": {
        "job": "", "resumed": [["kakusan"]], "budgets_before": [{"until": 1, "minutes": None, "steps": 2.5}],
        "rollbacks": [1], "teacher_sha256": "t", "first_data": "d",
    },
    "data.json": {"split": "s"},
    "summary.json": {
        "likelihood": LIKELIHOOD, "floor_bits_per_dim": 9.3, "third_term": {"exact": {"bits_per_dim": 1, "nats": 2}},
        "latents": [{"name": "z", "bits": [0.5], "total": 0.5, "collapsed": [0]}],
        "recognised": {"samples": 0.5, "num_samples": 10, "real": 0.9},
        "samples": {
            "num_samples": 1, "num_reference": 2, "features": "f", "measures": {"recall": {"value": 0.5}}, "floor": {},
        },
    },
    "history.jsonl": {
        "examples": 8, "seconds": 1.5, "loss": None, "bits_per_dim": 2.0, "standard_error": None,
        "train_bits_per_dim": 2.0, "train_standard_error": None, "terms": {"kl": 1.0},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LEAST)
def test_a_record_needs_its_entries_and_may_have_others_of_their_kinds(name):
    least, whole = LEAST[name], LEAST[name] | MORE[name]
    for content in (least, whole, whole | {"unknown": 1}):
        assert check_record(name, copy.deepcopy(content)) == content
    for entry in least:
        with pytest.raises(InputError, match=f"has no {entry}"):
            check_record(name, {key: value for key, value in whole.items() if key != entry})
    for entry in whole:
        with pytest.raises(InputError, match=rf"the file.*: {entry}.* (must be|has no)"):
            check_record(name, whole | {entry: True}, "the file")


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("run.json", {"seed": 1.0}, "run.json: seed must be a whole number"),
        ("run.json", {"versions": {"torch": 2}}, "must be text, got 2"),
        ("run.json", {"command": ["a", 1]}, "command, entry 2 must be text"),
        ("run.json", {"device": "x" * 100_001}, "device must be text"),
        ("data.json", {"train": 2**63}, "train must be a whole number"),
        ("data.json", {"train": 1.5}, "train must be a whole number"),
        ("summary.json", {"seconds": float("inf")}, "seconds must be a number"),
        ("summary.json", {"seconds": None}, "seconds must be a number"),
        (
            "summary.json",
            {"likelihood": LIKELIHOOD | {"standard_error": "0"}},
            "standard_error must be a number or null",
        ),
        (
            "summary.json",
            {"likelihood": LIKELIHOOD | {"levels": [{"name": "t"}]}},
            "levels, entry 1 has no bits_per_dim",
        ),
        ("history.jsonl", {"terms": [1.0]}, "terms must be a table"),
    ],
)
def test_an_entry_of_another_kind_is_refused_with_its_place(name, changes, words):
    with pytest.raises(InputError, match=words):
        check_record(name, LEAST[name] | changes)
    for longest in ({"device": "x" * 100_000}, {"parameters": 1 - 2**63}):
        check_record("run.json", LEAST["run.json"] | longest)


def test_a_taken_path_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "file").touch()
    runs = {name: tmp_path / name for name in ("finished", "unfinished", "other")}
    for path in runs.values():
        path.mkdir()
    for path, name in ((runs["finished"], "summary.json"), (runs["unfinished"], "run.json"), (runs["other"], "x")):
        (path / name).touch()
    for path, words in (
        (tmp_path / "file", "file exists and is not a folder; choose another --out"),
        (runs["finished"], "already holds a finished run; resume with: .* --minutes 10   or choose another --out"),
        (runs["unfinished"], "already holds an unfinished run; resume with: .*unfinished   or choose another --out"),
        (runs["other"], "other exists and is not a run; choose another --out"),
    ):
        with pytest.raises(InputError, match=words):
            RunDirectory.create(path)
    (runs["finished"] / "run.json").touch()
    with pytest.raises(InputError, match=r"no run at .*finishd: .*; did you mean .*finished\?"):
        RunDirectory.open(tmp_path / "finishd")
    with pytest.raises(InputError, match=r"did you mean .*finished\?"):
        RunDirectory.open(runs["finished"] / "samples")


def test_the_holder_of_a_lock_is_told_with_its_machine_its_time_and_its_command():
    owner = {"pid": 7, "host": "h", "since": "noon", "command": ["kakusan", "train", "a b"]}
    assert owner_words(owner) == "another process: 7 on h since noon (kakusan train 'a b')"
    assert owner_words({}) == "another process"


@pytest.mark.parametrize("suffix", [".png", ".npy", ".NPZ"])
def test_a_folder_for_files_is_not_named_like_one_of_them(tmp_path, suffix):
    with pytest.raises(InputError, match=r"--out is the folder for a and b, got .*; give e\.g\. .*/out$"):
        check_folder(tmp_path / f"out{suffix}", "a and b")
    check_folder(tmp_path / "out.csv", "a and b")
    (tmp_path / "out.csv").touch()
    with pytest.raises(InputError, match="exists and is not a folder"):
        check_folder(tmp_path / "out.csv", "a and b")
