"""A run directory has one writer, is never a foreign folder, and keeps a history without torn lines."""

import pytest

from harness.faults import catches
from kakusan.errors import InputError
from kakusan.run.directory import RunDirectory


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


def test_history_forgets_a_torn_line_and_what_came_after_a_step(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    for step in (1, 2, 3):
        run.append_history({"step": step})
    with (tmp_path / "run" / "history.jsonl").open("a") as file:
        file.write('{"step": 4')
    run.cut_history(2)
    assert [line["step"] for line in run.history()] == [1, 2]
    run.unlock()
