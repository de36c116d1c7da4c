"""A run directory has one writer, is never a foreign folder, and keeps a history without torn lines."""

import json

import pytest

from harness.faults import catches
from kakusan.errors import InputError
from kakusan.run.directory import RunDirectory, check_folder, check_new


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
