"""A new or resumed run begins with what was asked for, and records it."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.faults import catches
from kakusan.errors import InputError
from kakusan.recipes import find
from kakusan.run import train
from kakusan.run.train import Resume, Start
from kakusan.training.settings import Budget
from kakusan.training.state import State

DATASET = SimpleNamespace(
    name="x", kind="images", event_shape=(1, 2, 3), train=range(9), test=range(4), source="a split", prepared="cropped",
    skipped={"a": "b"}, digest=lambda: "d",
)  # fmt: skip


@catches("""run/train.py: as many examples are held out as are trained on
- "held_out": len(dataset.test),
+ "held_out": len(dataset.train),""")
def test_the_record_of_the_data_has_their_counts_their_split_and_their_digest():
    assert train.data_record(DATASET) == {
        "name": "x", "kind": "images", "event_shape": [1, 2, 3], "train": 9, "held_out": 4, "split": "a split",
        "prepared": "cropped", "skipped": {"a": "b"}, "digest": "d",
    }  # fmt: skip


@catches("""run/train.py: the first weights of a run do not depend on its seed
- torch.manual_seed(wanted.seed % 2**63)
+ torch.manual_seed(0)""")
def test_a_new_run_has_the_seed_budget_and_weights_that_it_records(monkeypatch):
    seen, seed = {}, 2**63 + 5
    recipe = dataclasses.replace(find("mnist-vae"), steps=7, minutes=None)
    run = SimpleNamespace(unlock=lambda: seen.update(unlocked=True))
    initial = SimpleNamespace(facts=SimpleNamespace(event_shape=(1, 2, 3)))
    fakes = {
        "read_initial": lambda path, recipe: seen.update(init=path) or initial,
        "fine_tuned": lambda recipe, initial: recipe,
        "_prepared": lambda wanted, device: ("teacher", DATASET, wanted.recipe),
        "untrained": lambda *given: seen.update(first=torch.initial_seed(), built=given) or torch.nn.Linear(2, 3),
        "check_computing": lambda *given: None,
        "keep_initial": lambda run, initial: seen.update(kept=initial),
        "_write_records": lambda run, record, dataset, teacher: seen.update(record=record, teacher=teacher),
        "_train": lambda job, newest, fresh: seen.update(job=job, newest=newest, fresh=fresh),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(train, name, fake)
    monkeypatch.setattr(train.RunDirectory, "create", lambda out: seen.update(out=out) or run)
    with torch.random.fork_rng(devices=[]):
        train.start(Start(recipe, Path("o"), seed, "cpu", init=Path("i")), ["typed"])
    record, job = seen["record"], seen["job"]
    assert (seen["first"], seen["init"], seen["out"], seen["kept"], seen["teacher"]) == (5, Path("i"), Path("o"), initial, "teacher")  # fmt: skip
    assert (record["seed"], record["command"], record["parameters"], record["device"]) == (seed, ["typed"], 9, "cpu")
    assert (job.seed, job.budget, job.initial, job.teacher) == (seed, Budget(steps=7), initial, "teacher")
    assert (job.run, job.dataset, seen["newest"], seen["fresh"]) == (run, DATASET, None, True)
    assert seen.get("unlocked")


@catches("""run/train.py: every restart of a job makes its budget larger
- wanted = Resume(wanted.run)
+ pass""")
def test_a_run_resumes_on_its_kind_of_device_and_a_restarted_job_as_it_was(monkeypatch, tmp_path):
    seen = []
    (tmp_path / "run.json").touch()
    run = SimpleNamespace(read=lambda name: {"device": "cuda:3", "job": "7"})
    monkeypatch.setattr(train.RunDirectory, "open", lambda path: run)
    monkeypatch.setattr(train.RunDirectory, "read", lambda self, name: run.read(name))
    monkeypatch.setattr(train, "device_named", lambda name: seen.append(name) or torch.device("cpu"))
    monkeypatch.setattr(train, "_resume", lambda wanted, device: seen.append(wanted))
    more = Resume(tmp_path, steps=9)
    for job, wanted, device in (("8", more, "cuda"), ("7", Resume(tmp_path), "cuda"), ("", more, "cuda")):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", job or "none")
        train.resume(more)
        assert seen == [device, wanted]
        seen.clear()
    train.resume(Resume(tmp_path, device="cuda:1"))
    assert seen[0] == "cuda:1"


@catches("""run/train.py: the larger budget that is suggested is the one that is used up
- f"--steps {2 * state.step}" if
+ f"--steps {state.step}" if""")
@pytest.mark.parametrize(("budget", "words"), [(Budget(steps=4), "--steps 10"), (Budget(minutes=2.0), "--minutes 6")])
def test_a_budget_that_is_used_up_is_answered_with_twice_as_much(budget, words):
    run = SimpleNamespace(path=Path("r"), finished=False)
    with pytest.raises(InputError) as refused:
        train._check_budget(run, State(step=5, seconds=190.0), budget)
    assert "past this budget (5 steps, 3.2 minutes)" in str(refused.value)
    assert str(refused.value).endswith(f"kakusan train --resume r {words}")


@catches("""run/train.py: a batch that ranks cannot divide is answered with two that they cannot either
- near = optim.batch - over
+ near = optim.batch + over""")
def test_every_rank_has_a_micro_batch_and_a_batch_that_they_cannot_divide_is_refused(monkeypatch):
    monkeypatch.setattr(train.distributed, "world_size", lambda: 3)
    recipe = find("mnist-vae")
    nine, ten = (dataclasses.replace(recipe, optim=dataclasses.replace(recipe.optim, batch=size)) for size in (9, 10))
    assert train.with_groups(nine, torch.device("cpu"), 100).optim.groups == 3
    with pytest.raises(InputError, match=r"3 ranks cannot divide a batch of 10; add --optim\.batch 9 or 12"):
        train.with_groups(ten, torch.device("cpu"), 100)
