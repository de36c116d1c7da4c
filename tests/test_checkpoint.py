"""Checkpoints of a trainer: the newest whole one is used, and whatever cannot be saved or used is one line."""

import errno
import json
import shutil
import signal
import warnings
from pathlib import Path

import pytest
import torch

from harness import disk_model, planting
from harness.faults import catches
from kakusan.errors import DamageWarning, InputError, SaveError
from kakusan.run.directory import RunDirectory, owner_words
from kakusan.storage import commit, files
from kakusan.storage import tensors as storage
from kakusan.training import checkpoint
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim

pytestmark = pytest.mark.reliability

CPU = torch.device("cpu")
FILES = ["ema.safetensors", "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]


def line_trainer(width=3, method="adam", steps=40):
    """Some small thing that can be trained."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))
    module.hidden_matrices = lambda: [module[0].weight]
    x = torch.randn(32, 2, generator=torch.Generator().manual_seed(1))

    def loss(indices, randomness):
        return (module(x[indices]) - x[indices].sum(1, keepdim=True)).square().squeeze(1)

    settings = Optim(method=method, lr=1e-2, batch=8, warmup=0)
    return Trainer(module, loss, len(x), settings, Budget(steps=steps), seed=1, device=CPU)


def trained_to(stops, folder, **options):
    """A trainer that was saved at these steps."""
    trainer = line_trainer(**options)

    def on_step(trainer):
        if trainer.state.step in stops:
            checkpoint.save(trainer, folder)
        if trainer.state.step == max(stops):
            raise StopIteration

    with pytest.raises(StopIteration):
        trainer.run([], lambda trainer: None, on_step)
    return trainer


def everything(trainer):
    """All tensors of a trainer, by file and name, and its state."""
    tensors, state = trainer.snapshot()
    return {f"{stem}/{name}": tensor for stem, named in tensors.items() for name, tensor in named.items()}, state


def assert_same(one, other):
    (tensors, state), (expected, expected_state) = everything(one), everything(other)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert state == expected_state


@pytest.mark.parametrize("method", ["adam", "muon"])
def test_all_that_a_trainer_holds_comes_back(tmp_path, method):
    trainer = trained_to([7], tmp_path / "checkpoints", method=method)
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "step-00000007").iterdir()) == FILES
    again = line_trainer(method=method)
    checkpoint.restore(again, tmp_path / "checkpoints")
    assert_same(again, trainer)


@catches("""training/checkpoint.py: a damaged checkpoint is passed over in silence [state.json]
- for path, problem in damaged_ones:
+ for path, problem in []:""")
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_told_of_and_left_and_the_one_before_is_used(tmp_path, name):
    trained_to([3, 5], tmp_path)
    path = tmp_path / "step-00000005" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    again = line_trainer()
    with pytest.warns(DamageWarning, match=r"step-00000005 is damaged \(.*\) and left as it is; using step-00000003"):
        checkpoint.restore(again, tmp_path)
    assert again.state.step == 3
    assert path.read_bytes() == content
    with pytest.warns(DamageWarning):
        assert checkpoint.state_of(checkpoint.latest(tmp_path)).step == 3
    with pytest.warns(DamageWarning):
        assert checkpoint.averaged_weights(checkpoint.latest(tmp_path)).keys() == again.ema.tensors.keys()
    with pytest.warns(DamageWarning):
        assert checkpoint.early_weights(checkpoint.latest(tmp_path)) is None


def test_a_run_that_goes_on_before_a_damaged_checkpoint_sets_it_aside_when_it_comes_there(tmp_path):
    whole = trained_to([3, 5], tmp_path)
    (tmp_path / "step-00000005" / "state.json").write_text("{}")
    again = line_trainer()
    with pytest.warns(DamageWarning, match="using step-00000003"):
        checkpoint.restore(again, tmp_path)

    def on_step(trainer):
        if trainer.state.step == 5:
            with pytest.warns(DamageWarning, match="it is kept as damaged-1-step-00000005"):
                checkpoint.save(trainer, tmp_path)
            raise StopIteration

    with pytest.raises(StopIteration):
        again.run([], lambda trainer: None, on_step)
    last = line_trainer()
    checkpoint.restore(last, tmp_path)
    # the clock's readings are real seconds
    assert all(torch.equal(tensor, everything(whole)[0][name]) for name, tensor in everything(last)[0].items())
    assert (tmp_path / "damaged-1-step-00000005" / "state.json").read_text() == "{}"


def test_without_a_whole_checkpoint_it_says_what_is_wrong_and_what_to_type(tmp_path):
    folder = tmp_path / "my run" / "checkpoints"
    trained_to([3, 5], folder)
    for step in folder.iterdir():
        (step / "ema.safetensors").unlink()
    assert checkpoint.exists(folder)
    with pytest.raises(InputError) as caught:
        checkpoint.restore(line_trainer(), folder)
    words = str(caught.value)
    assert "the newest is step-00000005: ema.safetensors is missing" in words
    assert (
        f"resume with: mv '{folder}' '{tmp_path / 'my run' / 'damaged'}' && kakusan train --resume '{tmp_path}/my run'"
        in words
    )
    assert "\n" not in words


def test_a_checkpoint_of_a_layout_without_a_manifest_says_so(tmp_path):
    trained_to([3], tmp_path)
    (tmp_path / "step-00000003" / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"step-00000003: it has no manifest\.json"):
        checkpoint.latest(tmp_path)


def test_a_folder_without_checkpoints_is_not_a_damaged_one(tmp_path):
    assert not checkpoint.exists(tmp_path / "checkpoints")
    with pytest.raises(InputError, match="holds no checkpoint; resume with: kakusan train --resume "):
        checkpoint.latest(tmp_path / "checkpoints")


def test_weights_of_another_model_are_refused_before_anything_is_loaded(tmp_path):
    trained_to([3], tmp_path, width=4)
    other = line_trainer(width=3)
    before = {name: tensor.clone() for name, tensor in everything(other)[0].items()}
    with pytest.raises(InputError, match=r"0\.weight must be float32 of shape \(3, 2\)"):
        checkpoint.restore(other, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in everything(other)[0].items())
    assert other.state.step == 0


def rewritten(folder, step, change):
    """A whole checkpoint like the newest, with something changed in its tensors or state."""
    newest = checkpoint.latest(folder)
    tensors = {path.stem: storage.read(path)[0] for path in newest.glob("*.safetensors")}
    state = json.loads((newest / "state.json").read_text())
    change(tensors, state)
    return checkpoint.write(folder, step, tensors, state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors, state: tensors["ema"].pop("0.bias"), "1 missing, e.g. 0.bias"),
        (lambda tensors, state: tensors.update(early={"x": torch.zeros(1)}), "too many, e.g. x"),
        (lambda tensors, state: tensors["optimizer"].update({"exp_avg.9.weight": torch.zeros(1)}), "exp_avg.9.weight"),
        (lambda tensors, state: tensors["optimizer"].update({"exp_avg.0.bias": torch.zeros(7)}), "exp_avg.0.bias must"),
        (lambda tensors, state: tensors["model"].update({"0.bias": torch.zeros(3).double()}), "must be float32"),
        (lambda tensors, state: tensors.pop("optimizer"), "optimizer.safetensors cannot be read"),
        (lambda tensors, state: state.update(surprise=1), "surprise"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_line_and_loads_nothing(tmp_path, change, words):
    trained_to([3], tmp_path)
    rewritten(tmp_path, 4, change)
    trainer = line_trainer()
    before = {name: tensor.clone() for name, tensor in everything(trainer)[0].items()}
    with pytest.raises(InputError, match=words) as caught:
        checkpoint.restore(trainer, tmp_path)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in everything(trainer)[0].items())


def test_a_tensor_that_is_not_finite_is_never_written(tmp_path):
    with pytest.raises(InputError, match="weight holds numbers that are not finite"):
        checkpoint.write(tmp_path, 1, {"model": {"weight": torch.tensor([1.0, float("nan")])}}, {})
    assert not list(tmp_path.iterdir())


def test_the_shards_of_a_run_of_version_03_are_joined_in_the_order_of_their_ranks(tmp_path):
    """Rows are divided over the ranks; what cannot be divided is in the first file alone."""
    names = ["ema.10-of-11", "ema.9-of-11", "emas.0-of-1", "model", "ema.x-of-2", "ema.0-of-11"]
    assert checkpoint._files_of("ema", names) == ["ema.0-of-11", "ema.9-of-11", "ema.10-of-11"]
    assert checkpoint._files_of("model", names) == ["model"]
    trained_to([3], tmp_path / "whole", width=4)
    newest = checkpoint.latest(tmp_path / "whole")
    (tmp_path / "shards").mkdir()
    with commit.Draft(tmp_path / "shards", newest.name) as draft:
        for stem in ("model", "ema", "optimizer"):
            tensors, _ = storage.read(newest / f"{stem}.safetensors")
            halves = {name: tensor.chunk(2) for name, tensor in tensors.items() if len(tensor) > 1}
            first = {name: halves[name][0] if name in halves else tensor for name, tensor in tensors.items()}
            for rank, part in enumerate((first, {name: half[1] for name, half in halves.items()})):
                draft.write(f"{stem}.{rank}-of-2.safetensors", storage.to_bytes(part))
        draft.write("state.json", (newest / "state.json").read_bytes())
        draft.publish()
    whole, joined, other = (line_trainer(width=width) for width in (4, 4, 3))
    checkpoint.restore(whole, tmp_path / "whole")
    checkpoint.restore(joined, tmp_path / "shards")
    assert_same(joined, whole)
    with pytest.raises(InputError, match=r"0\.weight must be float32 of shape \(3, 2\)"):
        checkpoint.restore(other, tmp_path / "shards")


# A damaged one that was passed over


def pass_over(root):
    """What a resumed run does before it goes on from the newest whole checkpoint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        checkpoint.rename_newer(checkpoint.latest(root / "checkpoints"))


def check_passed_over(root):
    """Nothing is lost, and once it is done a file that is mended does not make its checkpoint the newest again."""
    pass_over(root)
    folder = root / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        "damaged-1-step-00000002",
        "damaged-1-step-00000003",
        "step-00000001",
    ]
    for step in (2, 3):
        (folder / f"damaged-1-step-0000000{step}" / "state.json").write_text(json.dumps({"step": step}, indent=1))
    assert checkpoint.latest(folder).name == "step-00000001"


@pytest.fixture
def twice_damaged(tmp_path):
    folder = tmp_path / "start" / "checkpoints"
    for step in (1, 2, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commit, "prune", lambda *arguments: None)
            save_step(folder, step)
    for step in (2, 3):
        (folder / f"step-0000000{step}" / "state.json").write_text("{}")
    return tmp_path / "start"


@catches("""training/checkpoint.py: a damaged checkpoint keeps its name
- if commit.step_of(path) > commit.step_of(checkpoint)]
+ if commit.step_of(path) < commit.step_of(checkpoint)]""")
def test_a_damaged_checkpoint_that_was_passed_over_gets_another_name(twice_damaged):
    check_passed_over(twice_damaged)


def test_a_damaged_checkpoint_that_was_passed_over_is_never_the_newest_again(twice_damaged, tmp_path):
    assert disk_model.kill_everywhere(pass_over, check_passed_over, twice_damaged, tmp_path / "scratch") == 3


def test_a_damaged_checkpoint_that_cannot_be_renamed_stops_the_run_in_one_line(twice_damaged, tmp_path):
    told = []

    def failing(root):
        try:
            pass_over(root)
        except SaveError as error:
            told.append(str(error))

    def check(root, unhurt):
        assert len(list((root / "checkpoints").iterdir())) == 3
        check_passed_over(root)

    assert (
        disk_model.fail_everywhere(failing, check, twice_damaged, tmp_path / "scratch", disk_model.NO_PERMISSION) == 3
    )
    assert all("cannot rename a damaged checkpoint" in line and "\n" not in line for line in told)
    assert len(told) == 3


# Reading once


@pytest.fixture
def read(monkeypatch):
    """The files whose content is read in order to look whether they are whole."""
    paths, chunks = [], files.chunks

    def listening(path, from_device=False):
        paths.append(path)
        return chunks(path, from_device)

    monkeypatch.setattr(files, "chunks", listening)
    return paths


@catches("""storage/commit.py: a checkpoint is read again at each save
- contents=folder not in known
+ contents=True""")
def test_saving_reads_no_file_twice_of_those_that_it_knows(tmp_path, read):
    known = {save_step(tmp_path, 1)}
    for step in (2, 3, 4):
        read.clear()
        known.add(checkpoint.write(tmp_path, step, some_tensors(step), {"step": step}, known))
        contents = [path for path in read if path.name != commit.MANIFEST]
        assert len(contents) == 5  # what was just written, from the disk: four files of tensors and the state
        assert {path.parent.name.split("-")[2] for path in contents} == {f"{step:08d}"}


def test_a_known_checkpoint_of_another_size_does_not_count_as_kept(tmp_path):
    known = {save_step(tmp_path, step) for step in (1, 2)}
    (tmp_path / "step-00000002" / "ema.safetensors").write_bytes(b"")
    checkpoint.write(tmp_path, 3, some_tensors(3), {"step": 3}, known)
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["1", "2", "3"]


# Ended or failed while saving


def some_tensors(step):
    return {stem: {"weight": torch.full((50,), float(step))} for stem in ("model", "ema", "optimizer", "early")}


def save_step(folder, step):
    return checkpoint.write(folder, step, some_tensors(step), {"step": step})


def save_third(root):
    save_step(root / "checkpoints", 3)


def check_third(root):
    """Old or new, byte for byte what was saved, and the run can go on."""
    folder = root / "checkpoints"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing that can be seen may be damaged
        newest = checkpoint.latest(folder)
    step = int(newest.name[-1])
    assert step in (2, 3)
    assert len(list(folder.glob("step-*"))) >= 2
    for stem, named in some_tensors(step).items():
        assert (newest / f"{stem}.safetensors").read_bytes() == storage.to_bytes(named)
    commit.sweep(folder)
    save_step(folder, 3)
    assert sorted(path.name[-1] for path in folder.iterdir()) == ["2", "3"]


def save_first(root):
    save_step(root / "checkpoints", 1)


def check_first(root):
    folder = root / "checkpoints"
    if checkpoint.exists(folder):
        assert checkpoint.latest(folder).name == "step-00000001"
    if folder.exists():
        commit.sweep(folder)
    save_step(folder, 1)
    assert [path.name for path in folder.iterdir()] == ["step-00000001"]


@pytest.fixture
def saved_twice(tmp_path):
    for step in (1, 2):
        save_step(tmp_path / "start" / "checkpoints", step)
    return tmp_path / "start"


def test_an_end_at_any_operation_of_a_save_leaves_the_old_checkpoint_or_the_new(saved_twice, tmp_path):
    # five files and a manifest of three operations each, five around the appearing, and of the first step a rename, a
    # sync, six files and a folder removed
    ends = disk_model.kill_everywhere(save_third, check_third, saved_twice, tmp_path / "scratch")
    assert ends == 6 * 3 + 4 + 9


def test_an_end_at_any_operation_of_the_first_save_leaves_a_run_that_can_begin(tmp_path):
    (tmp_path / "start").mkdir()
    ends = disk_model.kill_everywhere(save_first, check_first, tmp_path / "start", tmp_path / "scratch")
    assert ends == 2 + 6 * 3 + 4  # the folder of checkpoints, synced, and then as above


@pytest.mark.parametrize(
    "error", [disk_model.FULL_DISK, disk_model.QUOTA, disk_model.BROKEN_DISK, disk_model.NO_PERMISSION]
)
def test_a_failure_at_any_operation_of_a_save_is_one_line_and_leaves_what_was_there(saved_twice, tmp_path, error):
    lines, told = [], []

    def failing(root):
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                save_third(root)
            told.extend(str(warning.message) for warning in warned)
        except SaveError as failure:
            lines.append(str(failure))

    def check(root, unhurt):
        check_third(root)
        assert (root / "checkpoints" / "step-00000003").exists() or not unhurt

    points = disk_model.fail_everywhere(failing, check, saved_twice, tmp_path / "scratch", error)
    assert points == 31 if error in (disk_model.BROKEN_DISK, disk_model.NO_PERMISSION) else points == 24
    assert len(lines) + len(told) == points
    for line in lines:
        assert "cannot save" in line
        assert errno_words(error) in line
        assert "it needs 800 bytes, " in line  # four tensors of 50 numbers of four bytes
        assert "bytes are free; earlier checkpoints are unchanged" in line
    for line in told:
        assert "step-00000003 is saved, but an older checkpoint cannot be removed" in line
    assert not any("\n" in line for line in lines + told)


def errno_words(error):
    return {errno.ENOSPC: "No space left", errno.EDQUOT: "quota", errno.EIO: "Input/output", errno.EACCES: "denied"}[
        error
    ]


@catches("""storage/commit.py: a failed save leaves its draft
-         if not self.path.exists():
+         if self.path.name:""")
def test_a_failed_save_leaves_no_litter_and_the_next_one_succeeds(saved_twice):
    folder = saved_twice / "checkpoints"

    def watch(kind, path, other):
        if kind == "sync" and path.name == "ema.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with disk_model.watching(watch), pytest.raises(SaveError):
        save_step(folder, 3)
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000001", "step-00000002"]
    assert save_step(folder, 4) == checkpoint.latest(folder)


def test_saving_the_same_step_again_writes_nothing_but_makes_sure(saved_twice):
    with disk_model.recorded() as operations:
        save_step(saved_twice / "checkpoints", 2)
    assert [operation.kind for operation in operations] == ["sync folder"]


def test_too_little_room_is_said_before_training_begins(tmp_path, monkeypatch):
    module = torch.nn.Linear(10, 10)  # 110 numbers of four bytes
    checkpoint.check_room(tmp_path, module)
    monkeypatch.setattr(files, "free_bytes", lambda folder: 3 * 5 * 440 - 1)
    with pytest.raises(InputError, match="needs up to 6,600 bytes for 3 checkpoints and its disk has 6,599 free"):
        checkpoint.check_room(tmp_path, module)
    save_step(tmp_path, 1)  # what a run that goes on has written already need not be free
    checkpoint.check_room(tmp_path, module)


def test_no_trainer_takes_more_room_than_is_asked_for(tmp_path):
    for method in ("adam", "muon"):
        trainer = trained_to([2], tmp_path / method, method=method)
        trainer.early = dict(trainer.ema.module.state_dict())
        tensors, _ = trainer.snapshot()
        weights = sum(t.numel() for t in trainer.module.state_dict().values())
        steps = sum(t.numel() for name, t in tensors["optimizer"].items() if name.startswith("step."))
        assert sum(t.numel() for named in tensors.values() for t in named.values()) - steps <= 5 * weights


# The run directory


RECORD = {
    "recipe": {}, "seed": 1, "device": "cpu", "parameters": 1, "command": ["kakusan"], "started": "now", "versions": {}
}  # fmt: skip
DATA = {"name": "x", "kind": "images", "event_shape": [1, 2, 2], "train": 1, "held_out": 1, "digest": "0"}


def begin_run(root):
    run = RunDirectory.create(root / "run")
    run.write("data.json", DATA)
    run.write("run.json", RECORD)
    run.append_history({"step": 1})
    run.write("summary.json", {"lines": []})
    run.unlock()


def check_begun(root):
    """What a killed beginning leaves can be begun again or gone on with."""
    path = root / "run"
    if not (path / "run.json").exists():
        begin_run(root)
    run = RunDirectory.open(path)
    assert run.read("run.json") == RECORD
    assert run.read("data.json") == DATA
    assert run.owner() is None
    if not run.finished:
        with pytest.raises(InputError, match="unfinished run"):
            RunDirectory.create(path)
    run.lock()
    assert not list(path.glob(".*"))
    run.unlock()


def test_an_end_at_any_operation_of_a_runs_beginning_leaves_one_that_can_be_begun_or_gone_on_with(tmp_path):
    (tmp_path / "start").mkdir()
    ends = disk_model.kill_everywhere(begin_run, check_begun, tmp_path / "start", tmp_path / "scratch")
    assert ends == 3 * 2 + 4 * 5 + 6 + 1  # folders; four files replaced; a line in a new file; the owner removed


def test_a_runs_first_records_outlast_a_power_cut_whole(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    with disk_model.recorded() as operations:
        run = RunDirectory.create(disk / "run")
        for name in ("data.json", "run.json"):
            run.write(name, {"name": name})
            disk_model.mark(operations, name)
    run.unlock()

    def check(folder, promised):
        for name in ("data.json", "run.json"):
            path = folder / "run" / name
            assert path.exists() or name not in promised
            assert not path.exists() or json.loads(path.read_text()) == {"name": name}

    assert disk_model.power_cuts(disk, {}, [o for o in operations if o.path.name != "lock"], check, tmp_path) > 5


@pytest.mark.parametrize("error", [disk_model.FULL_DISK, disk_model.BROKEN_DISK, disk_model.NO_PERMISSION])
def test_a_run_directory_that_cannot_be_written_is_one_line(tmp_path, error):
    (tmp_path / "start").mkdir()
    lines = []

    def failing(root):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                begin_run(root)
            except InputError as failure:
                lines.append(str(failure))
            else:
                lines.extend(str(one.message) for one in told)

    def check(root, unhurt):
        path = root / "run"
        for name in ("run.json", "data.json", "summary.json"):
            assert not (path / name).exists() or json.loads((path / name).read_text())

    points = disk_model.fail_everywhere(failing, check, tmp_path / "start", tmp_path / "scratch", error)
    assert len(lines) == points
    assert all(errno_words(error) in line and "\n" not in line for line in lines)


def hold_a_run(path, answer):
    run = RunDirectory.create(Path(path))
    answer.send(run.path.name)
    signal.pause()  # until it is killed


def test_a_second_writer_is_told_who_the_first_is_and_is_let_in_when_that_one_is_killed(tmp_path):
    import multiprocessing

    planting.start_server()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    holder = context.Process(target=hold_a_run, args=(str(tmp_path / "run"), theirs), daemon=True)
    holder.start()
    assert ours.poll(planting.LIMIT_S)
    assert ours.recv() == "run"
    with pytest.raises(
        InputError, match=rf"in use by another process: {holder.pid} on .* since \d{{4}}-\d\d-\d\d .*\("
    ):
        RunDirectory.create(tmp_path / "run")
    assert RunDirectory(tmp_path / "run").owner()["pid"] == holder.pid
    holder.kill()
    holder.join()
    run = RunDirectory.create(tmp_path / "run")
    run.unlock()
    assert run.owner() is None
    assert not (tmp_path / "run" / "owner.json").exists()
    for end in (ours, theirs):
        end.close()
    holder.close()


def test_an_owner_who_cannot_be_named_is_still_another_process():
    assert owner_words({}) == "another process"


def test_a_lock_clears_away_what_a_killed_process_left(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    run.unlock()
    (run.checkpoints / ".tmp-step-00000007-12").mkdir()
    (run.path / ".run.json.draft").write_text("{")
    run.lock()
    assert not list(run.checkpoints.iterdir())
    assert not (run.path / ".run.json.draft").exists()
    run.unlock()


def test_looking_at_a_run_changes_nothing_in_it(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    (run.checkpoints / ".tmp-step-00000007-12").mkdir()
    before = disk_model.tree_of(run.path)
    with disk_model.recorded() as operations:
        assert RunDirectory(run.path).owner() is not None
        with pytest.raises(InputError):
            RunDirectory.create(run.path)
    assert not operations
    assert disk_model.tree_of(run.path) == before
    run.unlock()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1, 2]", b"3", b'{"a": '])
def test_a_damaged_record_is_one_line(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match="the run is damaged") as caught:
        RunDirectory.open(tmp_path).read("run.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", [b"\0" * 20, b"\xff", b"3", b'{"loss": 1}'])
def test_a_damaged_line_of_the_history_is_told_of_and_left_out(tmp_path, line):
    run = RunDirectory(tmp_path)
    (tmp_path / "history.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    with pytest.warns(DamageWarning, match=r"line 2 of .*history\.jsonl"):
        assert [one["step"] for one in run.history()] == [1, 3]


@catches("""storage/journal.py: a line is added to one that a crash cut short
- if path.exists() and not files.ends_in_newline(path):
+ if False:""")
@pytest.mark.parametrize("torn", [b'{"step": 2', b"\0" * 9])
def test_a_line_after_one_that_a_crash_cut_short_is_whole(tmp_path, torn):
    run = RunDirectory(tmp_path)
    run.append_history({"step": 1})
    with (tmp_path / "history.jsonl").open("ab") as file:
        file.write(torn)
    run.append_history({"step": 3})
    assert (tmp_path / "history.jsonl").read_bytes() == b'{"step": 1}\n{"step": 3}\n'


def test_a_copy_of_a_run_verifies_where_it_lies(tmp_path):
    trained_to([3], tmp_path / "run" / "checkpoints")
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere")
    assert checkpoint.latest(tmp_path / "elsewhere" / "checkpoints").name == "step-00000003"


@catches("""storage/journal.py: one damaged line more is allowed
- if len(damaged) > MOST_DAMAGED:
+ if len(damaged) > MOST_DAMAGED + 1:""")
def test_a_hundred_damaged_lines_are_left_out_and_one_more_is_too_many(tmp_path):
    run = RunDirectory(tmp_path)
    (tmp_path / "history.jsonl").write_bytes(b"x\n" * 100 + b'{"step": 1}\n')
    with pytest.warns(DamageWarning, match="so are 99 more"):
        assert [one["step"] for one in run.history()] == [1]
    (tmp_path / "history.jsonl").write_bytes(b"x\n" * 101 + b'{"step": 1}\n')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        with pytest.raises(InputError, match="is damaged"):
            run.history()


def test_damaged_lines_are_named_with_their_number_and_reason(tmp_path):
    run, path = RunDirectory(tmp_path), tmp_path / "history.jsonl"
    path.write_bytes(b'{"step": 1}\nx\n{"step": 2}\n')
    with pytest.warns(DamageWarning) as caught:
        assert [one["step"] for one in run.history()] == [1, 2]
    start = f"line 2 of {path} is damaged and left out (it is not valid JSON ("
    assert str(caught[0].message).startswith(start)
    assert str(caught[0].message).endswith("))")
    path.write_bytes(b"x\n" * 101)
    with pytest.raises(InputError, match=r", and 100 more lines are$"):
        run.history()
    path.unlink()
    assert run.history() == []
