"""What a run records is restored when it is resumed or replayed, and a student or a fine-tuned run uses its settings."""

import dataclasses
import json
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import kakusan as kk
from harness.faults import catches
from kakusan.data.forms.images import ImageForm
from kakusan.run import job, ladder, student, teacher
from kakusan.run import replay as replaying
from kakusan.run.build import build
from kakusan.run.directory import RunDirectory
from kakusan.run.initial import start_from
from kakusan.run.recipe import Distil, from_record
from kakusan.run.replay import Replayed, replay
from kakusan.run.train import Resume, _changed_record
from kakusan.timesteps import StepLaw
from kakusan.training.settings import Budget
from kakusan.training.state import State

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of 4 steps on 40 images, of which 36 are trained on."""
    root = tmp_path_factory.mktemp("restored")
    np.save(root / "mine.npy", np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8))
    return kk.train(
        "mnist-vae", data=root / "mine.npy", steps=4, out=root / "run", seed=3, hidden=(8,), latent=2, batch=8, groups=2
    ).path


def record_of(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


@catches("""run/train.py: a former budget ended at the first step
- before = {"until": state.step,
+ before = {"until": 0,""")
@catches("""run/train.py: a former budget is the new one
- "minutes": recipe.minutes, "steps": recipe.steps}
+ "minutes": wanted.minutes, "steps": wanted.steps}""")
@catches("""run/train.py: a rollback counts from the first step
- [*record.get("rollbacks", []), state.step]
+ [*record.get("rollbacks", []), 0]""")
@catches("""run/train.py: former rollbacks are lost
- record["rollbacks"] = [*record.get("rollbacks", []), state.step]
+ record["rollbacks"] = [state.step]""")
@catches("""run/train.py: the first path of moved data is lost
- record.setdefault("first_data", recipe.data)
+ record["first_data"] = recipe.data""")
def test_a_resumed_run_records_former_budgets_rollbacks_and_paths(run, tmp_path):
    record, first = record_of(run), record_of(run)["recipe"]["data"]
    for step, wanted in (
        (4, Resume(run, steps=9, data=str(tmp_path / "a.npy"))),
        (7, Resume(run, minutes=2.0, rollback=True, data=str(tmp_path / "b.npy"))),
        (8, Resume(run, rollback=True)),
    ):
        record = _changed_record(record, wanted, State(step=step))
    assert record["budgets_before"] == [
        {"until": 4, "minutes": None, "steps": 4},
        {"until": 7, "minutes": None, "steps": 9},
    ]
    assert record["rollbacks"] == [7, 8]
    assert (record["first_data"], record["recipe"]["data"]) == (first, str(tmp_path / "b.npy"))
    assert (record["recipe"]["minutes"], record["recipe"]["steps"]) == (2.0, None)
    assert [words[5:] for words in record["resumed"]] == [
        ["9", "--data", str(tmp_path / "a.npy")],
        ["2", "--data", str(tmp_path / "b.npy")],
    ]


@catches("""run/job.py: rollbacks are forgotten by a resumed run
- rollbacks=list(record.get("rollbacks", [])),
+ rollbacks=[],""")
@catches("""run/job.py: former budgets are forgotten by a resumed run
- for one in record.get("budgets_before", [])]
+ for one in []]""")
@catches("""run/job.py: a resumed run has the first seed
-         record["seed"],
-         device,
+         0,
+         device,""")
@catches("""run/job.py: the first path of the data is forgotten by a resumed run
- first_data=record.get("first_data", ""),
+ first_data="",""")
@catches("""run/job.py: the weights that a run started from are forgotten by a resumed run
- initial=kept_initial(run),
+ initial=None,""")
@catches("""run/job.py: the trainer does not know the rollbacks
- rollbacks=job.rollbacks,
+ rollbacks=[],""")
@catches("""run/job.py: the trainer does not know the former budgets
- earlier=job.earlier,
+ earlier=[],""")
def test_a_reopened_run_has_everything_that_its_record_says(run, monkeypatch):
    record = record_of(run) | {
        "rollbacks": [2, 3],
        "budgets_before": [{"until": 2, "minutes": 1.5, "steps": None}, {"until": 3, "minutes": None, "steps": 4}],
        "first_data": "elsewhere",
    }
    initial = object()
    monkeypatch.setattr(job, "kept_initial", lambda run: initial)
    found = job.reopened(RunDirectory.open(run), record, CPU)
    assert (found.rollbacks, found.first_data, found.seed) == ([2, 3], "elsewhere", 3)
    assert found.earlier == [(2, Budget(minutes=1.5)), (3, Budget(steps=4))]
    assert found.initial is initial
    trainer = job.trainer_of(dataclasses.replace(found, initial=None))
    assert (list(trainer.rollbacks), list(trainer.earlier), trainer.seed) == ([2, 3], found.earlier, 3)


@catches("""run/job.py: the first weights of a resumed run do not depend on its seed
- torch.manual_seed(record["seed"] % 2**63)
+ torch.manual_seed(0)""")
@catches("""run/job.py: a run is trained on images that are not moved
- training_loss(module, job.recipe.model, data, job.recipe.optim.augment, labels)
+ training_loss(module, job.recipe.model, data, "none", labels)""")
def test_a_reopened_run_has_its_first_weights_and_its_augmentation(run, monkeypatch):
    record, seen = record_of(run), []
    record["recipe"]["optim"]["augment"] = "shift"
    loss = job.training_loss
    monkeypatch.setattr(job, "training_loss", lambda *given: seen.append(given[3:]) or loss(*given))
    with torch.random.fork_rng(devices=[]):
        opened = job.reopened(RunDirectory.open(run), record, CPU)
        torch.manual_seed(3)
        fresh = build(opened.recipe.model, (1, 4, 4))
    assert all(torch.equal(a, b) for a, b in zip(opened.module.parameters(), fresh.parameters(), strict=True))
    job.trainer_of(opened)
    assert seen == [("shift", None)]


@catches("""run/trained_run.py: a run resumes on its former device, whatever Python was told
- minutes, steps, device, data=
+ minutes, steps, None, data=""")
def test_every_argument_of_resume_in_python_is_used(run, monkeypatch):
    seen = []
    monkeypatch.setattr("kakusan.run.train.resume", seen.append)
    kk.Run(run).resume(minutes=2.0, data=Path("d"), device="cuda:1")
    kk.Run(run).resume(steps=9)
    assert seen == [Resume(run, minutes=2.0, device="cuda:1", data="d"), Resume(run, steps=9)]


@catches("""run/job.py: a batch larger than the data is no multiple of the micro-batches
- len(data) // groups * groups)
+ len(data))""")
def test_a_batch_larger_than_the_data_is_cut_to_equal_micro_batches(run):
    record = record_of(run)
    record["recipe"]["optim"] |= {"batch": 40, "groups": 5}
    opened = job.reopened(RunDirectory.open(run), record, CPU)
    try:
        assert job.trainer_of(opened).settings.batch == 35
    except kk.InputError as error:
        pytest.fail(str(error))


# Replay


@catches("""run/replay.py: the worst example is its place in the batch
- worst_example=int(batch[worst])
+ worst_example=worst""")
@catches("""run/replay.py: the terms of a batch have other noise than its loss
- noise = trainer.draws(step, group)[1]  # the same
+ noise = trainer.draws(step + 1, group)[1]  # the same""")
@catches("""run/replay.py: the batch of a replay is that of the next step
- batch, each = _per_example(job, trainer, step - 1)
+ batch, each = _per_example(job, trainer, step)""")
@catches("""run/replay.py: the figure of a batch shows the first examples
- job.dataset.train[batch])
+ job.dataset.train[: len(batch)])""")
def test_a_replayed_batch_has_the_loss_of_its_step_the_terms_that_make_it_up_and_its_worst_example(
    run, tmp_path, monkeypatch
):
    shown, train = [], kk.data.open_data(run.parent / "mine.npy").train
    monkeypatch.setattr(ImageForm, "save_figure", lambda self, images, *given: shown.append(np.asarray(images)))
    for step in (1, 2, 3):
        found = replay(run, step, out=tmp_path / f"{step}.png")
        assert np.array_equal(shown[-1], train[found.batch].permute(0, 2, 3, 1))
        assert (found.step, found.progress, found.skipped) == (step, (step - 1) / 4, False)
        terms = {name: value for name, value in found.terms.items() if name != "loss"}
        assert len(found.batch) == len(set(found.batch)) == len(found.losses) == 8
        assert np.mean(found.losses) == pytest.approx(found.loss, rel=1e-5)  # float32
        assert abs(sum(terms.values())) == pytest.approx(16 * found.terms["loss"], rel=1e-5)  # nats, of 16 pixels
        assert found.worst_example == found.batch[int(np.argmax(found.losses))]
    with pytest.raises(kk.InputError, match=r"--step must lie in 1\.\.4, .* \(it is finished\); got 5"):
        replay(run, 5)


@catches("""run/replay.py: a replayed step is described by the one before
- f"step {self.step:,}, {self.progress:.1%}
+ f"step {self.step - 1:,}, {self.progress:.1%}""")
def test_a_replayed_step_is_described_with_its_loss_terms_and_batch():
    found = Replayed(1234, 0.25, 0.5, 2.0, 3.0, True, {"kl": 1.5}, [*range(20)], [1.0, 4.0], 17)
    assert found.lines() == [
        "step 1,234, 25.0% of the budget, learning rates at 0.5000 of their peak",
        "loss 2.000000, gradient norm 3.000000, skipped",
        "  kl                    1.500000 on average",
        "batch: examples "
        + ", ".join(map(str, range(16)))
        + " and 4 more; the largest loss, 4.000000, is that of example 17",
    ]
    record = dataclasses.replace(found, loss=math.nan, losses=[1.0, math.inf]).record()
    assert (record["loss"], record["losses"], record["gradient_norm"]) == (None, [1.0, None], 3.0)


@catches("""run/replay.py: the terms of a replayed batch lack its labels
- indices, noise, augment, labels)
+ indices, noise, augment)""")
def test_a_replayed_step_has_the_terms_of_every_micro_batch_with_its_labels(monkeypatch):
    seen = []

    def terms(module, config, data, indices, noise, augment="none", labels=None):
        seen.append((augment, noise, labels))
        return {"kl": data[indices]}

    monkeypatch.setattr(replaying, "training_terms", terms)
    monkeypatch.setattr(replaying, "labels_of", lambda config, dataset, part: torch.tensor([part == "train"]))
    settings = SimpleNamespace(model=None, optim=SimpleNamespace(augment="shift"))
    dataset = SimpleNamespace(train=torch.arange(10.0))
    trainer = SimpleNamespace(
        computing=SimpleNamespace(step=nullcontext, forward=nullcontext),
        engine=SimpleNamespace(micro_batches=[0, 1]),
        draws=lambda step, group: (torch.tensor([4 * group + 1, 4 * group]), (step, group)),
        loss=lambda indices, noise: -indices,
    )
    batch, each = replaying._per_example(
        SimpleNamespace(dataset=dataset, recipe=settings, device=CPU, module=None), trainer, 3
    )
    assert batch.tolist() == [1, 0, 5, 4]
    assert each == {"loss": [-1, 0, -5, -4], "kl": [1, 0, 5, 4]}
    assert seen == [("shift", (3, group), torch.tensor([True])) for group in (0, 1)]


# Fine-tuning and students


class Conditional(torch.nn.Module):
    """A network with clusters."""

    def __init__(self, value):
        super().__init__()
        self.net = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(self.net.weight, value)
        self.clusters = torch.nn.Module()
        self.clusters.register_buffer("centroids", torch.full((3,), value))


@catches("""run/initial.py: fine-tuning keeps the clusters of the other data
- for name, weight in initial.weights.items() if not name.startswith(CLASSES)}
+ for name, weight in initial.weights.items()}""")
def test_fine_tuning_takes_the_weights_and_not_the_clusters_of_its_first_model():
    first, tuned = Conditional(1.0), Conditional(2.0)
    start_from(tuned, SimpleNamespace(weights=first.state_dict()))
    assert torch.equal(tuned.net.weight, first.net.weight)
    assert tuned.clusters.centroids.tolist() == [2.0] * 3


def student_of(**settings):
    """Recipe of a small student."""
    record = json.loads((Path(__file__).parent / "golden" / "student-of-7a92ee3.json").read_text())
    recipe = from_record(record)
    model = dataclasses.replace(recipe.model, depth=20, width=8, inner_width=8, blocks=1, clusters=0, begin=5)
    return dataclasses.replace(recipe, model=model, distil=Distil(**settings))


@catches("""run/student.py: the learning rate of a student is that of the fake-score network
- student_rate=_distil(recipe).student_rate)
+ student_rate=1.0)""")
@catches("""run/student.py: student and teacher are compared at the default noise
- law = StepLaw.log_snr_normal(target.schedule, *_distil(recipe).compare)
+ law = StepLaw.log_snr_normal(target.schedule, *Distil().compare)""")
@catches("""run/student.py: a student starts at the first step
- + (student.depth - 1)
+ + 0""")
@catches("""run/student.py: the loss of a student is its own alone
- return losses.student + losses.fake_score
+ return losses.student""")
def test_a_student_has_the_rate_the_noise_levels_and_the_first_step_of_its_recipe(monkeypatch):
    recipe, shape, seen = student_of(student_rate=0.625, compare=(0.5, 1.5)), (1, 8, 8), []
    whole = dataclasses.replace(recipe.model, begin=None)
    teaching = build(whole, shape)
    made = student.distillation(recipe, shape, teaching.state_dict())
    assert made.rate_factors == {"student.": 0.625}
    monkeypatch.setattr(
        made,
        "losses",
        lambda *given: seen.append(given) or SimpleNamespace(student=torch.ones(3), fake_score=torch.ones(3) * 4),
    )
    data = torch.zeros(3, *shape, dtype=torch.uint8)
    loss = student.distillation_loss(made, recipe, data, teaching)
    assert loss(torch.arange(3), None).tolist() == [5.0] * 3
    ((_, _, k, _, law, _),) = seen
    assert k.tolist() == [5] * 3
    assert torch.equal(law.probs, StepLaw.log_snr_normal(teaching.schedule, 0.5, 1.5).probs)


@catches("""run/teacher.py: the teacher of a student is not guided
- return model.sampling.chain(recipe.distil.guidance)
+ return model.sampling.chain(1.0)""")
def test_a_teacher_is_guided_as_the_recipe_of_its_student_says(monkeypatch):
    chain = torch.nn.Linear(1, 1)
    seen = []
    sampling = SimpleNamespace(chain=lambda weight: seen.append(weight) or chain)
    monkeypatch.setattr(teacher, "of_file", lambda *given: SimpleNamespace(sampling=sampling))
    assert teacher.teacher_chain(None, student_of(guidance=3.5), CPU) is chain
    assert seen == [3.5]
    assert not chain.weight.requires_grad


# The ladder


@catches("""run/ladder.py: the rungs are measured with the first seed
- measure_bound(model, examples, wanted.seed)
+ measure_bound(model, examples)""")
@catches("""run/ladder.py: another number of samples than was asked for is compared
- if wanted.samples and (samples is None or samples["num_samples"] != wanted.samples):
+ if wanted.samples and samples is None:""")
@catches("""run/ladder.py: the samples of a rung are compared though none were wanted
- summary.get("samples") if wanted.samples else None
+ summary.get("samples")""")
@pytest.mark.parametrize(("wanted", "found"), [(0, None), (300, 300), (200, 200)])
def test_a_rung_is_measured_with_the_seed_and_the_number_of_samples_of_its_ladder(monkeypatch, wanted, found):
    seeds = []
    monkeypatch.setattr(ladder, "load", lambda *given: None)
    monkeypatch.setattr(ladder, "open_source", lambda path: None)
    monkeypatch.setattr(ladder, "data_of", lambda *given: SimpleNamespace(test=range(50), name="x"))
    monkeypatch.setattr(
        ladder,
        "measure_bound",
        lambda model, examples, seed=0: seeds.append((len(examples), seed)) or SimpleNamespace(result=1),
    )
    records = {"summary.json": {"samples": {"num_samples": 300}}, "run.json": {"parameters": 7}}
    monkeypatch.setattr(ladder.RunDirectory, "open", lambda path: SimpleNamespace(read=records.get))
    monkeypatch.setattr(
        ladder, "quality_of", lambda model, dataset, num: SimpleNamespace(parts={"samples": {"num_samples": num}})
    )
    one = ladder._measured(None, Path("x"), ladder.Wanted(Path("o"), samples=wanted, limit=9, seed=5), None)
    assert seeds == [(9, 5)]
    assert (one.samples or {}).get("num_samples") == found
    assert one.parameters == 7


@catches("""run/ladder.py: the rungs are trained on images of another size
- size=wanted.size, labels="none")
+ size=None, labels="none")""")
@catches("""run/ladder.py: the rungs are trained with the first seed
- start(Start(recipe, path, wanted.seed, wanted.device), words)
+ start(Start(recipe, path, 0, wanted.device), words)""")
@catches("""run/ladder.py: the end of a path is taken for a decimal
- str(value).removesuffix(".0") if name == "minutes" else str(value)
+ str(value).removesuffix(".0")""")
def test_a_rung_is_trained_with_the_size_seed_and_budget_of_its_ladder_and_names_them(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("kakusan.run.train.start", lambda *given: seen.append(given) or SimpleNamespace(stopped_by=0))
    wanted = ladder.Wanted(tmp_path / "v1.0", data="data-2.0", size=(8, 6), minutes=3.0, seed=5, device="cpu")
    ladder._trained(ladder.RUNGS[0], tmp_path / "v1.0" / "1-vae", wanted)
    ((started, words),) = seen
    assert (started.seed, started.device, started.data, started.out) == (5, "cpu", None, tmp_path / "v1.0" / "1-vae")
    recipe = started.recipe
    assert (recipe.data, recipe.minutes, recipe.steps) == ("data-2.0", 3.0, None)
    assert (recipe.pictures.size, recipe.pictures.labels) == ((8, 6), "none")
    for flag, value in (("--data", "data-2.0"), ("--size", "8x6"), ("--seed", "5"), ("--labels", "none")):
        assert words[words.index(flag) + 1] == value
    assert ladder._flags(wanted) == [
        "--out", str(tmp_path / "v1.0"), "--data", "data-2.0", "--size", "8x6", "--minutes", "3", "--seed", "5",
        "--device", "cpu",
    ]  # fmt: skip


def test_sixteen_examples_of_a_replayed_batch_are_all_listed():
    found = Replayed(1, 0.25, 0.5, 2.0, 3.0, False, {}, [*range(16)], [1.0], 0)
    assert "more" not in found.lines()[-1]
    assert found.lines()[1] == "loss 2.000000, gradient norm 3.000000"


@pytest.mark.parametrize(("finished", "steps", "last"), [(True, None, 5), (False, None, 10_005), (False, 8, 8)])
def test_steps_that_can_be_replayed_end_with_the_budget_or_ten_thousand_after_the_last_save(
    monkeypatch, finished, steps, last
):
    monkeypatch.setattr(replaying, "trainer_of", lambda job: None)
    monkeypatch.setattr(replaying.checkpoint, "exists", lambda path: True)
    monkeypatch.setattr(replaying.checkpoint, "latest", lambda path: "newest")
    monkeypatch.setattr(replaying.checkpoint, "state_of", lambda path: SimpleNamespace(step=5))
    run = SimpleNamespace(path="r", checkpoints="c", finished=finished)
    job = SimpleNamespace(run=run, budget=SimpleNamespace(steps=steps))
    more = "it is finished" if finished else "5 are saved"
    for step in (0, last + 1):
        with pytest.raises(kk.InputError, match=rf"--step must lie in 1\.\.{last}, .* of r \({more}\); got {step}$"):
            replaying._before(job, step)


def test_the_figure_of_a_batch_is_a_new_png_of_images(tmp_path):
    for has_figure, name, words in (
        (False, "x.png", "d holds no images to write to .*x.png; omit --out"),
        (True, "x.jpg", "--out must end in .png, got .*x.jpg"),
    ):
        dataset = SimpleNamespace(name="d", form=SimpleNamespace(has_figure=has_figure))
        with pytest.raises(kk.InputError, match=words):
            replaying._check_out(SimpleNamespace(dataset=dataset), tmp_path / "new" / name)
        replaying._check_out(SimpleNamespace(dataset=dataset), None)
    replaying._check_out(SimpleNamespace(dataset=dataset), tmp_path / "new" / "x.png")
    assert (tmp_path / "new").is_dir()
