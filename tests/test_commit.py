"""A folder appears whole or not at all, outlasts a power cut once it has been promised, and its damage is noticed."""

import contextlib
import os
import random
import re
import resource
import shutil
import signal

import pytest

from harness import disk_model, planting
from harness.faults import catches
from kakusan.storage import commit, files

pytestmark = pytest.mark.reliability

CONTENT = {"a.bin": bytes(range(256)) * 5, "b.bin": b"b" * 700, "state.json": b'{"step": 1}'}


def contents(step):
    """Files that differ from step to step in content, and not in size."""
    return {name: content[:-2] + f"{step:02}".encode() for name, content in CONTENT.items()}


def publish(root, step):
    files.make_folders(root)
    with commit.Draft(root, f"step-{step:08d}") as draft:
        for name, content in contents(step).items():
            draft.write(name, content)
        return draft.publish()


def save(root, step):
    """As a run saves: publish, then drop all but two."""
    publish(root, step)
    commit.prune(root, 2)


def is_whole(folder):
    """By the test's own knowledge of what was written, without the manifest."""
    step = int(folder.name.removeprefix("step-"))
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {name: found.get(name) for name in CONTENT} == contents(step)


def visible(root):
    return sorted(path for path in root.glob("step-*")) if root.is_dir() else []


def check_old_or_new(root):
    """After an end during the save of step 3, when 1 and 2 were there: nothing visible is hurt, and enough is left."""
    names = [folder.name[-1] for folder in visible(root)]
    assert names in (["1", "2"], ["1", "2", "3"], ["2", "3"]), names
    for folder in visible(root):
        assert is_whole(folder)
        assert commit.verify(folder) == []
    newest, damaged = commit.newest_good(root)
    assert newest == visible(root)[-1]
    assert not damaged


def save_third(root):
    save(root, 3)


def sweep_and_save_third(root):
    commit.sweep(root)
    save(root, 3) if not (root / "step-00000003").exists() else commit.prune(root, 2)
    assert [path.name for path in root.iterdir() if not path.name.startswith("step-")] == []


def check_and_go_on(root):
    """The same, and a process that takes the run up leaves no litter and the two newest."""
    check_old_or_new(root)
    sweep_and_save_third(root)
    assert [folder.name[-1] for folder in visible(root)] == ["2", "3"]


@pytest.fixture
def two(tmp_path):
    """A root that holds steps 1 and 2."""
    root = tmp_path / "root"
    save(root, 1)
    save(root, 2)
    return root


def test_an_end_at_any_operation_leaves_the_old_or_the_new(two, tmp_path):
    points = disk_model.kill_everywhere(save_third, check_and_go_on, two, tmp_path / "scratch")
    # a draft folder; three files and a manifest of three operations; two syncs and a rename around the appearing;
    # and of the first step a rename, a sync, four files and a folder removed
    assert points == 1 + 4 * 3 + 3 + 7


@pytest.mark.parametrize(
    ("error", "points"),
    # on a full disk nothing fails once all is written
    [(disk_model.FULL_DISK, 18), (disk_model.QUOTA, 18), (disk_model.BROKEN_DISK, 23), (disk_model.NO_PERMISSION, 23)],
)
def test_a_failure_at_any_operation_leaves_the_old_or_the_new(two, tmp_path, error, points):
    def failing(root):
        with contextlib.suppress(OSError):
            save(root, 3)

    def check(root, unhurt):
        check_old_or_new(root)
        litter = [path.name for path in root.iterdir() if path.name.startswith(".")]
        # without permission nothing can be cleared away, and a broken disk may break while clearing away
        assert not litter or error == disk_model.NO_PERMISSION or litter == [".dead-step-00000001"]
        check_and_go_on(root)

    assert disk_model.fail_everywhere(failing, check, two, tmp_path / "scratch", error) == points


def test_a_draft_that_cannot_be_cleared_away_either_says_so_and_what_came_first(tmp_path):
    def watch(kind, path, other):
        if kind in ("sync", "remove"):
            raise OSError(disk_model.BROKEN_DISK, f"broken at {kind}")

    with disk_model.watching(watch), pytest.raises(OSError, match="broken at sync") as caught:
        publish(tmp_path, 1)
    assert "could not be removed either" in caught.value.__notes__[0]
    commit.sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def saves_of_a_new_run(root):
    """Operations of four saves in an empty folder: into a place that does not exist, beside another, and twice with something to drop."""
    root.mkdir()
    with disk_model.recorded() as operations:
        for step in (1, 2, 3, 4):
            save(root / "run" / "checkpoints", step)
            disk_model.mark(operations, str(step))
    return operations


def check_promises(folder, promised):
    """Whatever can be seen is whole, and what was promised last, or something newer, is there."""
    root = folder / "run" / "checkpoints"
    for one in visible(root):
        assert is_whole(one), f"{one.name} can be seen and is not whole"
        assert commit.verify(one) == []
    newest, damaged = commit.newest_good(root)
    last = int(promised[-1]) if promised else 0
    found = int(newest.name[-1]) if newest else 0
    assert found in (last, last + 1), f"{last} was promised, {found} found"
    assert not damaged
    if last >= 2:
        assert len(visible(root)) >= 2


@catches("""storage/commit.py: a checkpoint appears before its names are on the disk
- files.sync_folder(self.path)
+ pass""")
@catches("""storage/commit.py: a save returns before the new name is on the disk
-         files.sync_folder(self.root)
-         return final
+         return final""")
@catches("""storage/commit.py: an old checkpoint is removed file by file in plain sight
-     if hidden:
-         files.sync_folder(root)
-""")
def test_a_power_cut_leaves_the_old_or_the_new_in_every_state_that_it_can_leave(tmp_path):
    operations = saves_of_a_new_run(tmp_path / "disk")
    states = disk_model.power_cuts(tmp_path / "disk", {}, operations, check_promises, tmp_path)
    # what can be seen: no folder, one or both of them empty; then after each save (promised or not yet) its step beside
    # the one or two before it, and from the third on without the oldest; a step too few would be one more
    assert states == 3 + 2 + 2 + 3 + 3


def test_without_any_one_sync_a_power_cut_can_lose_what_was_promised(tmp_path):
    operations = saves_of_a_new_run(tmp_path / "disk")
    needed, idle = [], []
    for name, fewer in disk_model.without_each_sync(operations):
        try:
            disk_model.power_cuts(tmp_path / "disk", {}, fewer, check_promises, tmp_path)
            idle.append(name)
        except AssertionError:
            needed.append(re.sub(r"-\d+$", "", name))
    assert not idle, f"no power cut needs these: {idle}"
    a_save = ["sync a.bin", "sync b.bin", "sync state.json", "sync manifest.json"]
    saves = [[*a_save, f"sync folder .tmp-step-0000000{step}", "sync folder checkpoints"] for step in (1, 2, 3, 4)]
    dropping = ["sync folder checkpoints"]
    made = ["sync folder disk", "sync folder run"]
    assert needed == [*made, *saves[0], *saves[1], *saves[2], *dropping, *saves[3], *dropping]


@catches("""storage/files.py: a file is renamed into place before its bytes are on the disk
-         _about_to("sync", path)
-         _sync(descriptor)
-""")
def test_a_file_that_is_replaced_is_the_old_or_the_new_after_a_power_cut(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    with disk_model.recorded() as operations:
        for content in (b"first", b"second"):
            files.replace(disk / "run.json", content)
            disk_model.mark(operations, content.decode())

    def check(folder, promised):
        found = (folder / "run.json").read_bytes() if (folder / "run.json").exists() else None
        allowed = {0: (None, b"first"), 1: (b"first", b"second"), 2: (b"second",)}
        assert found in allowed[len(promised)]

    assert disk_model.power_cuts(disk, {}, operations, check, tmp_path) == 5
    names = []
    for name, fewer in disk_model.without_each_sync(operations):
        names.append(name)
        with pytest.raises(AssertionError):
            disk_model.power_cuts(disk, {}, fewer, check, tmp_path)
    assert names == ["sync .run.json.draft", "sync folder disk"] * 2


def test_a_line_that_was_added_outlasts_a_power_cut_and_one_being_added_hurts_no_other(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    with disk_model.recorded() as operations:
        for line in (b"one\n", b"two\n"):
            files.append(disk / "history", line)
            disk_model.mark(operations, line.decode().strip())

    def check(folder, promised):
        found = (folder / "history").read_bytes() if (folder / "history").exists() else b""
        assert found.splitlines()[: len(promised)] == [name.encode() for name in promised]

    disk_model.power_cuts(disk, {}, operations, check, tmp_path)
    noticed = 0
    for _, fewer in disk_model.without_each_sync(operations):
        try:
            disk_model.power_cuts(disk, {}, fewer, check, tmp_path)
        except AssertionError:
            noticed += 1
    assert noticed == 3  # of four: an empty new file need not be synced before its first line


# Damage


def flip(path, chance):
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncate(path, chance):
    os.truncate(path, chance.randrange(path.stat().st_size))


def zero(path, chance):
    content = path.read_bytes()
    start = chance.randrange(len(content))
    block = content[start : start + 512]
    if not block.strip(b"\0"):
        return flip(path, chance)
    path.write_bytes(content[:start] + bytes(len(block)) + content[start + 512 :])
    return None


def delete(path, chance):
    path.unlink()


def swap(path, chance):
    path.write_bytes((path.parent.parent / "step-00000001" / path.name).read_bytes())


def lengthen(path, chance):
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.randrange(1, 100)))


@catches("""storage/commit.py: a changed byte of a checkpoint is not noticed
- if contents and digest.hexdigest() != entry["sha256"]:
+ if contents and len(digest.hexdigest()) != len(entry["sha256"]):""")
def test_two_thousand_random_damages_are_all_noticed_and_the_one_before_is_used(two):
    chance = random.Random(0)  # nothing here is left to luck: a damage that goes unnoticed is a fault
    old, new = visible(two)
    names = sorted(path.name for path in new.iterdir())
    assert len(names) == 4
    for _ in range(2000):
        path = new / chance.choice(names)
        before = path.read_bytes()
        damage = chance.choice([flip, flip, truncate, zero, delete, swap, lengthen])
        damage(path, chance)
        newest, damaged = commit.newest_good(two)
        assert newest == old, f"{damage.__name__} of {path.name} went unnoticed"
        assert damaged[0][0] == new
        assert path.name in damaged[0][1] or path.name == commit.MANIFEST  # whose damage may lie in what it says
        path.write_bytes(before)
    assert commit.newest_good(two) == (new, [])


@pytest.mark.parametrize("name", [*CONTENT, commit.MANIFEST])
@pytest.mark.parametrize("way", ["missing", "empty", "of another step", "a folder", "a link", "not to be read"])
def test_every_file_that_is_not_as_it_was_is_named(two, name, way):
    path, other = (two / f"step-0000000{step}" / name for step in (2, 1))
    if way == "of another step":
        shutil.copy(other, path)
    elif way == "empty":
        path.write_bytes(b"")
    elif way != "not to be read":
        path.rename(two / "moved")
        path.mkdir() if way == "a folder" else path.symlink_to(two / "moved") if way == "a link" else None

    def watch(kind, told, _):
        if way == "not to be read" and (kind, told) == ("read", path):
            raise OSError(disk_model.BROKEN_DISK, "Input/output error", str(path))

    with disk_model.watching(watch):
        problems = commit.verify(path.parent)
        assert commit.newest_good(two)[0] == other.parent
    assert len(problems) == 1
    assert name in problems[0]


@catches("""storage/commit.py: the manifest of another step will do
- if record["name"] != name:
+ if False:""")
@catches("""storage/commit.py: a file more in a checkpoint will do
- sorted(found - listed.keys())
+ sorted(found - found)""")
def test_a_file_more_a_folder_of_another_name_and_files_that_changed_places_are_noticed(two):
    folder = two / "step-00000002"
    (folder / "notes.txt").write_text("mine")
    assert commit.verify(folder) == ["'notes.txt' does not belong to it"]
    (folder / "notes.txt").unlink()
    renamed = folder.rename(two / "step-00000007")
    assert commit.verify(renamed) == ["manifest.json belongs to 'step-00000002'"]
    renamed.rename(folder)
    (folder / "a.bin").rename(folder / "c.bin")
    (folder / "b.bin").rename(folder / "a.bin")
    (folder / "c.bin").rename(folder / "b.bin")
    assert len(commit.verify(folder)) == 2


def test_a_folder_without_a_manifest_says_so(two):
    (two / "step-00000002" / commit.MANIFEST).unlink()
    assert commit.verify(two / "step-00000002") == ["it has no manifest.json"]
    assert commit.verify(two / "step-00000009") == ["there is no such folder"]


@catches("""storage/commit.py: a changed byte of a manifest is not noticed
- if not whole or not fits:
+ if not fits:""")
@pytest.mark.parametrize(
    "change", [(b"\n}\n", b"\n}"), (b'": ', b'":  '), (b'{\n "format"', b'{\n "format": 1,\n "format"')]
)
def test_a_manifest_that_says_the_same_in_other_bytes_is_noticed(two, change):
    manifest = two / "step-00000002" / commit.MANIFEST
    content = manifest.read_bytes()
    assert content != content.replace(*change, 1)
    manifest.write_bytes(content.replace(*change, 1))
    assert commit.verify(manifest.parent) == ["manifest.json is damaged"]


def test_a_manifest_of_a_later_format_is_not_taken_for_damage(two):
    manifest = two / "step-00000002" / commit.MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(b'"format": 1', b'"format": 2'))
    assert "this version of kakusan reads 1" in commit.verify(manifest.parent)[0]


@pytest.mark.parametrize(
    "manifest",
    [
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"format": 1, "name": "step-00000002", "files": 3}',
        b'{"format": 1, "name": "step-00000002", "files": {"../a": {"bytes": 1, "sha256": ""}}}',
    ],
)
def test_whatever_a_manifest_holds_it_is_a_problem_and_not_a_crash(two, manifest):
    (two / "step-00000002" / commit.MANIFEST).write_bytes(manifest)
    assert commit.verify(two / "step-00000002") == ["manifest.json is damaged"]


# What a disk that lies is told


@catches("""storage/commit.py: nobody looks whether the disk holds what was written [dropped-a.bin]
-         if problems:
-             raise OSError(errno.EIO
+         if not problems and problems:
+             raise OSError(errno.EIO""")
@pytest.mark.parametrize("name", [*CONTENT, commit.MANIFEST])
@pytest.mark.parametrize("lie", ["dropped", "cut short", "another bit", "forgotten"])
def test_a_write_that_did_not_reach_the_disk_is_found_before_the_folder_appears(two, name, lie):
    def watch(kind, path, _):
        if (kind, path.name) != ("sync", name):
            return
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 16
        if lie == "forgotten":
            path.unlink()
        else:
            path.write_bytes({"dropped": b"", "cut short": content[:-1], "another bit": content}[lie])

    with disk_model.watching(watch), pytest.raises(OSError, match=f"does not hold what was written: .*{name}"):
        publish(two, 3)
    assert [path.name for path in sorted(two.iterdir())] == ["step-00000001", "step-00000002"]


@catches("""storage/files.py: a write that the system cut short is taken for whole
- rest = rest[written:]
+ rest = rest[len(rest) :]""")
def test_a_write_that_the_system_cuts_short_is_gone_on_with(tmp_path, monkeypatch):
    whole_write = os.write
    monkeypatch.setattr(files.os, "write", lambda descriptor, content: whole_write(descriptor, content[:100]))
    files.write(tmp_path / "file", CONTENT["a.bin"])
    assert (tmp_path / "file").read_bytes() == CONTENT["a.bin"]


@catches("""storage/files.py: a sync that is told of does not happen
-         os.fsync(descriptor)
+         pass""")
def test_every_sync_that_is_told_of_asks_the_system(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(files, "FULL_SYNC", None)  # elsewhere than on macOS
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: asked.append(os.path.realpath(f"/dev/fd/{descriptor}")))
    with disk_model.recorded() as operations:
        save(tmp_path, 1)
        files.replace(tmp_path / "run.json", b"{}")
        files.append(tmp_path / "history", b"1\n")
    assert len(asked) == sum(operation.kind.startswith("sync") for operation in operations) == 6 + 2 + 3


def over_the_limit(root, answer):
    """A limit that the kernel itself keeps: no file may grow beyond 1,000 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        publish(root, 3)
        answer.send("nothing was raised")
    except OSError as error:
        answer.send((error.strerror, sorted(path.name for path in root.iterdir())))


def test_a_limit_of_the_kernel_ends_a_save_and_leaves_no_litter(two):
    planting.start_server()
    words, names = planting.in_a_fork(over_the_limit, two)
    assert words == "File too large"
    assert names == ["step-00000001", "step-00000002"]


# Several writers, order, pruning


@catches("""storage/commit.py: steps are ordered as words
- found = [(int(match[1]), path)
+ found = [(path.name, path)""")
def test_steps_are_ordered_as_numbers(tmp_path):
    for step in (99_999_999, 100_000_000, 3):
        publish(tmp_path, step)
    (tmp_path / "step-notes").mkdir()
    (tmp_path / "step-00000009").write_text("not a folder")
    assert [int(path.name[5:]) for path in commit.published(tmp_path)] == [3, 99_999_999, 100_000_000]


@catches("""storage/commit.py: a damaged checkpoint counts as one that is kept
- reversed(published(root)) if not verify(folder, contents=folder not in known)]
+ reversed(published(root))]""")
def test_damaged_folders_are_neither_counted_nor_removed(tmp_path):
    for step in range(1, 6):
        publish(tmp_path, step)
    for step in (2, 5):
        (tmp_path / f"step-0000000{step}" / "a.bin").write_bytes(b"")
    commit.prune(tmp_path, 2)
    assert [path.name[-1] for path in visible(tmp_path)] == ["2", "3", "4", "5"]


def test_fewer_than_two_are_never_kept(two):
    with pytest.raises(ValueError, match="at least 2, got 1"):
        commit.prune(two, 1)


def test_a_damaged_folder_that_is_set_aside_makes_room_and_stays(two):
    assert commit.set_aside(two / "step-00000002").name == "damaged-1-step-00000002"
    publish(two, 2)
    assert commit.set_aside(two / "step-00000002").name == "damaged-2-step-00000002"
    assert [path.name for path in commit.published(two)] == ["step-00000001"]


def test_sweeping_removes_what_a_killed_process_left_and_nothing_else(two):
    for name in (".tmp-step-00000003-17", ".dead-step-00000000", ".draft-step-00000003"):
        (two / name / "inner").mkdir(parents=True)
        (two / name / "inner" / "file").write_bytes(b"x")
    (two / ".mine").mkdir()
    commit.sweep(two)
    assert [path.name for path in sorted(two.iterdir())] == [".mine", "step-00000001", "step-00000002"]


def test_a_removal_never_follows_a_link(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    (tmp_path / "root" / ".tmp-x").mkdir(parents=True)
    (tmp_path / "root" / ".tmp-x" / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "root" / ".dead-x").symlink_to(tmp_path / "mine")
    commit.sweep(tmp_path / "root")
    assert not list((tmp_path / "root").iterdir())
    assert (tmp_path / "mine" / "file").read_text() == "keep"


def test_with_nobody_watching_an_operation_asks_one_name_and_no_more(tmp_path):
    assert files.watch is None
    with disk_model.recorded() as operations:
        publish(tmp_path, 1)
    assert files.watch is None
    assert len(operations) == 16


def test_the_problem_of_a_file_is_a_sentence_with_its_sizes(two):
    folder = two / "step-00000002"
    (folder / "a.bin").write_bytes(b"x" * 1279)
    (folder / "b.bin").write_bytes(b"x" * 700)
    (folder / "state.json").unlink()
    assert commit.verify(folder) == [
        "a.bin has 1,279 bytes, expected 1,280",
        "the content of b.bin has changed (SHA-256)",
        "state.json is missing",
    ]
    assert commit.verify(folder, contents=False) == [
        "a.bin has 1,279 bytes, expected 1,280",
        "state.json is missing",
    ]
    newest, damaged = commit.newest_good(two)
    assert newest == two / "step-00000001"
    assert damaged == [(folder, "; ".join(commit.verify(folder)))]
    assert commit.newest_good(two, at_most=1) == (newest, [])
    assert commit.newest_good(two, at_most=0) == (None, [])
    aside = commit.set_aside(folder)
    assert aside.name == "damaged-1-step-00000002"
    publish(two, 2)
    assert commit.set_aside(folder).name == "damaged-2-step-00000002"
