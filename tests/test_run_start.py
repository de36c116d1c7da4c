"""A new or resumed run begins with what was asked for, and records it."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.faults import catches
from kakusan.data.options import ImageOptions
from kakusan.errors import InputError
from kakusan.recipes import find
from kakusan.run import evaluation_data, initial, own_data, train
from kakusan.run import job as jobs
from kakusan.run.families.conditional import ConditionalConfig
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.initial import fine_tuned
from kakusan.run.recipe import Distil
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


@catches("""run/own_data.py: the size of a run is recorded as width and height
- size = (dataset.event_shape[1], dataset.event_shape[2])
+ size = (dataset.event_shape[2], dataset.event_shape[1])""")
def test_the_size_and_the_network_that_were_chosen_for_the_data_are_recorded(monkeypatch):
    told, recipe = [], find("images")
    monkeypatch.setattr(own_data, "takes", lambda path, option: True)
    monkeypatch.setattr(own_data, "tell", told.append)
    family = SimpleNamespace(plan=lambda model, shape, num: (dataclasses.replace(model, width=shape[1]), "wide"))
    monkeypatch.setattr(own_data, "family_of", lambda model: family)
    found = own_data.planned(recipe, SimpleNamespace(event_shape=(3, 24, 16), train=range(9)))
    assert (found.pictures.size, found.pictures.fit, found.model.width, told) == ((24, 16), False, 24, ["wide"])


@catches("""run/initial.py: images of other channels than those of the first model are trained on
- ("channels", pictures.channels, shape[0])
+ ("channels", None, shape[0])""")
def test_a_run_that_starts_from_a_model_has_its_size_and_channels():
    recipe, theirs = find("images"), find("mnist-ddpm")
    first = SimpleNamespace(facts=SimpleNamespace(event_shape=(3, 24, 16), recipe=theirs))
    found = fine_tuned(recipe, first)
    assert (found.pictures.size, found.pictures.channels, found.pictures.fit) == ((24, 16), 3, False)
    assert (found.model, found.name) == (theirs.model, "images")
    for wanted, words in (({"channels": 1}, "channels 3, got --channels 1"), ({"size": (16, 24)}, "got --size")):
        other = dataclasses.replace(recipe, pictures=dataclasses.replace(recipe.pictures, **wanted))
        with pytest.raises(InputError, match=words):
            fine_tuned(other, first)


@catches("""run/evaluation_data.py: images are brought to the width and height of a model in the other order
- ImageOptions((height, width), channels, wanted.bad)
+ ImageOptions((width, height), channels, wanted.bad)""")
def test_images_of_any_size_are_brought_to_the_shape_of_the_model(monkeypatch):
    monkeypatch.setattr(evaluation_data, "takes", lambda path, option: path == "photos")
    wanted = ImageOptions(bad="skip")
    found = evaluation_data.options_for("photos", (3, 24, 16), wanted)
    assert (found.size, found.channels, found.bad) == ((24, 16), 3, "skip")
    assert evaluation_data.options_for("photos", (7,), wanted) is wanted
    assert evaluation_data.options_for("x.npy", (3, 24, 16), wanted) is None


@pytest.mark.parametrize(
    ("threads", "batch", "num", "groups"), [(2, 128, 2, 2), (1, 128, 2, 1), (2, 127, 2, 1), (2, 128, 1, 1)]
)
def test_a_small_diffusion_model_has_two_micro_batches_if_two_threads_can_share_them(
    monkeypatch, threads, batch, num, groups
):
    monkeypatch.setattr(train.torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(train, "allows_threads", lambda optim, device: True)
    for name, found in (("mnist-ddpm", groups), ("mnist-vae", 1)):
        recipe = find(name)
        recipe = dataclasses.replace(recipe, optim=dataclasses.replace(recipe.optim, batch=batch, groups=None))
        assert train.with_groups(recipe, torch.device("cpu"), num).optim.groups == found
    monkeypatch.setattr(train, "allows_threads", lambda optim, device: False)
    assert train.with_groups(recipe, torch.device("cpu"), num).optim.groups == 1


def test_images_for_a_recipe_of_other_data_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(own_data, "takes", lambda path, option: (path, option) == ("photos", "size"))
    counts = dataclasses.replace(find("counts-dirichlet"), data="photos")
    with pytest.raises(
        InputError,
        match=r"recipe counts-dirichlet needs counts, and photos is a folder of images; .*kakusan train images --data photos",
    ):
        own_data.check_images(counts)
    own_data.check_images(dataclasses.replace(counts, data="x.npy"))
    own_data.check_images(dataclasses.replace(find("mnist-vae"), data="photos"))


def test_data_of_another_shape_than_those_of_the_first_model_are_refused(monkeypatch, tmp_path):
    other = SimpleNamespace(facts=SimpleNamespace(event_shape=(1, 2, 4)))
    monkeypatch.setattr(train, "read_initial", lambda path, recipe: other)
    monkeypatch.setattr(train, "fine_tuned", lambda recipe, initial: recipe)
    monkeypatch.setattr(train, "_prepared", lambda wanted, device: (None, DATASET, wanted.recipe))
    wanted = Start(find("mnist-vae"), tmp_path / "none", device="cpu", init=Path("i"))
    with pytest.raises(
        InputError, match=r"--init is of examples of shape \(1, 2, 4\), and x has \(1, 2, 3\); give --data"
    ):
        train.start(wanted, [])


def test_students_are_no_first_models(monkeypatch):
    plain = find("mnist-ddpm")
    student = dataclasses.replace(plain, distil=Distil())
    for recipe, theirs in ((student, plain), (plain, student)):
        shared = SimpleNamespace(facts=SimpleNamespace(recipe=theirs))
        monkeypatch.setattr(
            initial, "open_source", lambda path, shared=shared: SimpleNamespace(read_shareable=lambda: shared)
        )
        with pytest.raises(
            InputError, match="--init is not for students, and i or recipe mnist-ddpm is one; omit --init"
        ):
            initial.read_initial(Path("i"), recipe)
    shared = SimpleNamespace(facts=SimpleNamespace(recipe=plain))
    monkeypatch.setattr(initial, "open_source", lambda path: SimpleNamespace(read_shareable=lambda: shared))
    assert initial.read_initial(Path("i"), plain) is shared
    own = dataclasses.replace(plain, name="own", model=dataclasses.replace(plain.model, width=16))
    assert initial.read_initial(Path("i"), own) is shared  # a recipe that is not of the library keeps no settings


def test_weights_of_another_network_are_refused_as_first_weights():
    module, given = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    initial.start_from(module, SimpleNamespace(weights={**given.state_dict(), "clusters.centroids": torch.ones(1)}))
    assert torch.equal(module.weight, given.weight)
    for weights in ({"weight": given.weight}, {**given.state_dict(), "other": torch.ones(1)}):
        with pytest.raises(InputError, match="the weights of --init do not fit the model of its own settings"):
            initial.start_from(module, SimpleNamespace(weights=weights))


def test_every_micro_batch_needs_an_example():
    recipe = find("mnist-vae")
    recipe = dataclasses.replace(recipe, optim=dataclasses.replace(recipe.optim, groups=4, batch=8))
    data = SimpleNamespace(train=torch.zeros(3, 1, 2, 3, dtype=torch.uint8))
    module = jobs.untrained(recipe, (1, 2, 3), None)
    one = SimpleNamespace(
        dataset=data, device=torch.device("cpu"), module=module, recipe=recipe, teacher=None, initial=None
    )
    with pytest.raises(InputError, match="4 micro-batches need at least as many training examples, got 3"):
        jobs.trainer_of(one)


def test_a_condition_that_the_data_or_the_settings_lack_is_refused():
    data = SimpleNamespace(labeled_by="", classes=("a",), train_cond=None, name="x", labels=lambda: "1 class")
    data.form = SimpleNamespace(how_to_label="label them")
    with pytest.raises(InputError, match=r"model\.condition clusters needs their number; add --model\.clusters 128"):
        DiffusionConfig(condition="clusters").for_labels(data)
    with pytest.raises(InputError, match="labels of two classes or more, and x has 1 class; label them"):
        DiffusionConfig(condition="labels").for_labels(data)
    data.labels = lambda: ""
    with pytest.raises(InputError, match="and x has none; label them"):
        DiffusionConfig(condition="labels").for_labels(data)
    data.labeled_by = "folders"
    assert DiffusionConfig().for_labels(data) == DiffusionConfig()
    assert (ConditionalConfig.conditional, DiffusionConfig().null_share, DiffusionConfig().column_of_labels) == (
        True,
        0.1,
        "",
    )


def test_the_jobs_of_a_launcher_have_its_id_and_other_runs_have_none(monkeypatch, tmp_path):
    (tmp_path / "run.json").touch()
    monkeypatch.setattr(train.RunDirectory, "read", lambda self, name: {"job": "7"})
    for given, job_id, own in (("7", "7", True), ("8", "8", False), ("none", "", False), (None, "", False)):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", given) if given else monkeypatch.delenv("TORCHELASTIC_RUN_ID")
        assert (train._job_id(), train._is_of_this_job(tmp_path)) == (job_id, own)
        assert not train._is_of_this_job(tmp_path / "other")
