"""A student of a few calls: its gradient, its sampler and its run, against Gaussian worlds where the optimum is known."""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence
from torch.testing import assert_close

import kakusan
from harness.faults import catches
from harness.support import F64, SMALL_BETAS, call, f64, gauss_hermite, seeded, status
from kakusan import noise
from kakusan.cli import main
from kakusan.errors import InputError
from kakusan.guidance import guided
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture
from kakusan.objectives.distillation import Distillation, first_step
from kakusan.oracles import GaussianWorld
from kakusan.recipes import RECIPES
from kakusan.run import model_file
from kakusan.run.build import blueprint
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.run.fingerprint import origin
from kakusan.run.recipe import Distil, from_record
from kakusan.run.student import distillation, distillation_loss, used_weights
from kakusan.schedule import Schedule
from kakusan.solvers import Renoise
from kakusan.training.loop import Trainer
from kakusan.training.optimizers import Optimizers
from kakusan.training.precision import Computing
from kakusan.training.settings import Optim
from test_laws import by, law_of

WORLD = GaussianWorld([0.3, -0.2], [[0.6, 0.25], [0.25, 0.4]])
SCHEDULE = Schedule.from_betas([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
PROBS = f64([0.1, 0.2, 0.05, 0.25, 0.2, 0.1, 0.1])  # of the steps at which laws are compared


class Affine(nn.Module):
    """A student that makes N(mean, root root^T) out of pure noise."""

    def __init__(self, mean: Tensor, root: Tensor):
        super().__init__()
        self.mean, self.root = nn.Parameter(mean.clone()), nn.Parameter(root.clone())

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return self.mean + z @ self.root.T


class Known(nn.Module):
    """A perfect denoiser of a world with a bias that is 0 at first, to see where gradients go."""

    def __init__(self, world: GaussianWorld):
        super().__init__()
        self.network, self.bias = world.network(SCHEDULE.beta[1:], "x"), nn.Parameter(torch.zeros(2, dtype=F64))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return self.network(z, t) + self.bias


class Law(NamedTuple):
    """Of Gaussian data; with gradients, as the oracle's worlds have none."""

    mean: Tensor
    cov: Tensor


def noised(world: GaussianWorld | Law, t: Tensor) -> MultivariateNormal:
    """q(z_t) of a Gaussian world, at each of the steps."""
    signal = SCHEDULE.alpha_bar[t]
    blur = (1 - signal)[..., None, None] * torch.eye(2, dtype=F64)
    return MultivariateNormal(signal.sqrt()[..., None] * world.mean, signal[..., None, None] * world.cov + blur)


class Given:
    """Steps as they are given, in place of a law to draw them from."""

    def __init__(self, t: Tensor):
        self.t = t

    def draw(self, num, randomness, device):
        return self.t


def at_every_step_and_noise(mean, root, monkeypatch):
    """Module, teacher and expected losses, exact over z, t and the noise, of a student with its exact score."""
    nodes, weights = gauss_hermite(4)  # z and eps: the gradient is a polynomial of degree 2
    z, eps = nodes.repeat(SCHEDULE.depth, 1).chunk(2, dim=1)
    weights = (PROBS[:, None] * weights).flatten()
    t = torch.arange(1, SCHEDULE.depth + 1).repeat_interleave(len(nodes))
    end, made = SCHEDULE.respaced([1, 2, 3, 4]), GaussianWorld(mean, root @ root.T)
    module = Distillation(
        Diffusion(Affine(mean, root), end, 2, "x").double(),
        Diffusion(Known(made), SCHEDULE, 2, "x").double(),
    )
    teacher = Diffusion(Known(WORLD), SCHEDULE, 2, "x").double()
    with monkeypatch.context() as patch:
        patch.setattr(noise, "_draw", lambda law, shape, randomness, dtype, device: eps)
        losses = module.losses(teacher, z, torch.full((len(z),), 4), None, Given(t))
    return module, teacher, *((loss * weights).sum() for loss in losses)


def weighted_distance(mean: Tensor, root: Tensor, world: GaussianWorld = WORLD) -> Tensor:
    """sum_t w_t KL(q(z_t; student) || q(z_t; world)) / D by torch's own KL."""
    t = torch.arange(1, SCHEDULE.depth + 1)
    signal = SCHEDULE.alpha_bar[t]
    distance = kl_divergence(noised(Law(mean, root @ root.T), t), noised(world, t))
    return (PROBS * (1 - signal) / signal * distance).sum() / 2


@catches("""objectives/distillation.py: the student is pushed away from its teacher [mean0-root0]
- (made.detach() - gap)
+ (made.detach() + gap)""")
@pytest.mark.parametrize(
    ("mean", "root"),
    [([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]), ([0.5, -1.0], [[0.3, 0.2], [-0.4, 1.1]])],
)
def test_the_students_gradient_is_that_of_the_weighted_distance_of_the_laws(mean, root, monkeypatch):
    mean, root = f64(mean), f64(root)
    module, _, loss, _ = at_every_step_and_noise(mean, root, monkeypatch)
    loss.backward()
    mean.requires_grad_(), root.requires_grad_()
    weighted_distance(mean, root).backward()
    # sums of 7 x 81 exact products, in float64
    assert_close(module.student.mean.grad, mean.grad, rtol=1e-10, atol=1e-12)
    assert_close(module.student.root.grad, root.grad, rtol=1e-10, atol=1e-12)
    assert mean.grad.norm() > 0.01
    assert root.grad.norm() > 0.01


@catches("""objectives/distillation.py: the student is drawn to the teacher's mean, and its own score is not used
- gap = teacher.clamp(fake) - teacher.data_estimate(z_t, t, cond)
+ gap = x - teacher.data_estimate(z_t, t, cond)""")
def test_it_vanishes_where_the_student_has_the_teachers_law_however_it_makes_it(monkeypatch):
    angle = 0.7
    turn = f64([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    for root in (torch.linalg.cholesky(WORLD.cov), torch.linalg.cholesky(WORLD.cov) @ turn):
        module, _, loss, _ = at_every_step_and_noise(WORLD.mean, root, monkeypatch)
        loss.backward()
        assert loss.item() < 1e-24  # half a squared gap of rounding errors
        assert module.student.mean.grad.abs().max() < 1e-14
        assert module.student.root.grad.abs().max() < 1e-14


@catches("""objectives/distillation.py: the squared error of the fake-score network has another weight
- (fake - x).square()) / noise_var
+ (fake - x).square()) * noise_var""")
def test_the_fake_score_network_is_a_denoiser_of_the_students_samples(monkeypatch):
    mean, root = f64([0.5, -1.0]), f64([[0.3, 0.2], [-0.4, 1.1]])
    module, _, _, loss = at_every_step_and_noise(mean, root, monkeypatch)
    loss.backward()
    signal, noise_var = SCHEDULE.alpha_bar[1:], SCHEDULE.noise_var[1:]
    left = GaussianWorld(mean, root @ root.T).mmse(signal.sqrt(), noise_var.sqrt())
    assert_close(loss.detach(), (PROBS * left / noise_var).sum() / 2, rtol=1e-10, atol=0)
    assert module.fake_score.bias.grad.abs().max() < 1e-14  # no denoiser errs less


@catches("""objectives/distillation.py: the loss of the fake-score network moves the student
- x = clipped.clamp(made.detach())
+ x = clipped.clamp(made)""")
def test_no_loss_moves_what_is_not_its_own(monkeypatch):
    mean, root = f64([0.5, -1.0]), f64([[0.3, 0.2], [-0.4, 1.1]])
    for number, own in enumerate([{"student.mean", "student.root"}, {"follower.bias"}]):
        module, teacher, *losses = at_every_step_and_noise(mean, root, monkeypatch)
        losses[number].backward()
        assert {name for name, p in module.named_parameters() if p.grad is not None} == own
        assert teacher.denoiser.bias.grad is None


@catches("""objectives/distillation.py: clipping the student's estimate stops its gradient
- chain.with_network(chain.denoiser, clip=None),
+ chain,""")
def test_a_limit_of_the_data_estimate_stops_no_gradient():
    z, k = torch.full((3, 2), 9.0, dtype=F64), torch.full((3,), 4)
    student = Diffusion(
        Affine(f64([0.0, 0.0]), torch.eye(2, dtype=F64)), SCHEDULE.respaced([1, 2, 3, 4]), 2, "x", clip=(-1, 1)
    )
    fake_score, teacher = (Diffusion(Known(WORLD), SCHEDULE, 2, "x", clip=(-1, 1)) for _ in range(2))
    module = Distillation(student, fake_score)
    module.fake_score.bias.data += 1.0
    module.losses(teacher, z, k, seeded(0)).student.sum().backward()
    assert module.student.mean.grad.abs().min() > 0.1
    assert module.chain().data_estimate(z, 4).abs().max() <= 1  # samples keep to it


class Says(nn.Module):
    """A network with the same output for every pixel and input."""

    def __init__(self, word: float):
        super().__init__()
        self.word = nn.Parameter(f64([word]))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return self.word.expand(z.shape)


def constants(made: float, fake: float, taught: float, monkeypatch):
    """Module and losses of a student, a fake-score network and a teacher with constant outputs, clipped to [-1, 1]."""
    chains = (Diffusion(Says(word), SCHEDULE, 2, "x", clip=(-1, 1)).double() for word in (made, fake, taught))
    student, fake_score, teacher = chains
    module = Distillation(student, fake_score)
    monkeypatch.setattr(noise, "_draw", lambda law, shape, randomness, dtype, device: torch.zeros(shape, dtype=dtype))
    z, t = torch.zeros(3, 2, dtype=F64), torch.tensor([2, 2, 2])
    return module, module.losses(teacher, z, t, None, Given(t))


@catches("""objectives/distillation.py: the fake-score network learns samples that are not clipped
- x = clipped.clamp(made.detach())
+ x = made.detach()""")
def test_the_fake_score_network_learns_clipped_samples(monkeypatch):
    module, losses = constants(made=9.0, fake=1.0, taught=-1.0, monkeypatch=monkeypatch)
    assert losses.fake_score.tolist() == [0.0] * 3  # of 1, which is sampled, not of 9
    losses.student.sum().backward()
    assert module.student.word.grad.item() > 1  # and 9 is drawn to -1 all the same


@catches("""objectives/distillation.py: an unclipped fake score is compared with a clipped teacher
- gap = teacher.clamp(fake) - teacher.data_estimate(z_t, t, cond)
+ gap = fake - teacher.data_estimate(z_t, t, cond)""")
def test_fake_score_network_and_teacher_agree_where_both_are_clipped(monkeypatch):
    _, losses = constants(made=-1.0, fake=-1.5, taught=-1.2, monkeypatch=monkeypatch)
    assert losses.student.tolist() == [0.0] * 3


def test_in_bfloat16_the_teacher_still_answers_in_float32_and_so_do_the_losses():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = nn.Linear(2, 2), []

        def forward(self, z, t):
            out = self.layer(z)
            self.seen.append(out.dtype)
            return out

    student, fake_score, teacher = (Diffusion(Linear(), SCHEDULE, 2, "v") for _ in range(3))
    module, weaker = Distillation(student, fake_score), Diffusion(Linear(), SCHEDULE, 2, "v")
    computing = Computing(module, Optim(precision="bfloat16"), torch.device("cpu"))
    with computing.forward():
        seen = torch.zeros(3, 2), torch.full((3,), 7)
        losses = module.losses(guided(teacher, weaker, 2.0), *seen, seeded(0))
    assert teacher.denoiser.seen == weaker.denoiser.seen == [torch.float32]
    assert module.student.seen == module.fake_score.seen == [torch.bfloat16]
    assert [loss.dtype for loss in losses] == [torch.float32] * 2


# The first step of a student


@catches("""run/student.py: a student draws the classes of the first examples
- x = scale.to_model(data[indices], randomness)
+ x = scale.to_model(data[: len(indices)], randomness)""")
def test_a_student_of_clusters_draws_the_cluster_of_each_example():
    recipe, found = RECIPES["mnist-few"], []
    chain = Diffusion(Known(WORLD), SCHEDULE, 2, "x").double()
    by_sign = Mixture(chain, 2, assign=lambda x: (x.mean(1) > 0).long())

    def losses(target, z, k, randomness, law, cond):
        found.append(cond.tolist())
        return SimpleNamespace(student=z.sum(), fake_score=0)

    data = torch.tensor([[0, 0], [255, 255]] * 3, dtype=torch.uint8)
    module = SimpleNamespace(chain=lambda: by_sign, losses=losses)
    distillation_loss(module, recipe, data, chain)(torch.tensor([5, 4, 3]), seeded(0))
    assert found == [[1, 0, 1]]


@catches("""objectives/distillation.py: a student begins one step too late
- step = int((schedule.log_snr[1:] >= log_snr).sum())
+ step = int((schedule.log_snr >= log_snr).sum())""")
def test_a_student_starts_at_the_last_step_whose_log_snr_is_high_enough():
    for value in (-2.0, 0.0, 1.5):
        step = first_step(Schedule.cosine(100), value)
        assert Schedule.cosine(100).log_snr[step] >= value > Schedule.cosine(100).log_snr[step + 1]
    with pytest.raises(InputError, match="log SNR"):
        first_step(SCHEDULE, 50.0)


@catches("""training/optimizers.py: student and fake-score network have one learning rate
- settings.lr * factor
+ settings.lr""")
def test_the_students_learning_rate_is_a_share_of_that_of_the_fake_score_network():
    weight = f64([0.0, 0.0])
    student = Diffusion(Affine(weight, torch.eye(2, dtype=F64)), SCHEDULE, 2, "x")
    fake_score = Diffusion(Known(WORLD), SCHEDULE, 2, "x")
    module = Distillation(student, fake_score, student_rate=0.25)
    sum(p.sum() for p in module.parameters()).backward()
    Optimizers(module, Optim(lr=0.01, weight_decay=0.0)).step(1.0)
    # AdamW's first step is the learning rate, but for its epsilon of 1e-8
    assert_close(module.student.mean.detach(), torch.full_like(weight, -0.0025), rtol=1e-6, atol=0)
    assert_close(module.fake_score.bias.detach(), torch.full_like(weight, -0.01), rtol=1e-6, atol=0)


# The sampler


class Consistent(nn.Module):
    """Noised data, or at T pure noise, to the data's law at once: along the probability-flow equation."""

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        step = int(t[0])
        start = (
            (0.0, 1.0)
            if step == self.schedule.depth
            else (self.schedule.alpha_bar[step].sqrt(), self.schedule.noise_var[step].sqrt())
        )
        return WORLD.transport(z, start, (1.0, 0.0))


@catches("""solvers/renoise.py: the guess is noised to the level that it came from [3]
- s.signal * x_hat + s.noise * noise(z)
+ t.signal * x_hat + t.noise * noise(z)""")
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_with_a_perfect_student_renoising_keeps_the_law_of_the_data_at_every_call(steps, monkeypatch):
    schedule = Schedule.from_betas(SMALL_BETAS[:steps])
    mean, cov = law_of(by(Renoise()), Diffusion(Consistent(schedule), schedule, 2, "x").double(), monkeypatch)
    assert_close(mean, WORLD.mean, rtol=1e-12, atol=1e-12)
    assert_close(cov, WORLD.cov, rtol=1e-12, atol=1e-12)


@catches("""solvers/renoise.py: old noise stands in for fresh noise
- s.noise * noise(z)
+ s.noise * (z - t.signal * x_hat) / t.noise""")
def test_with_a_perfect_denoiser_it_does_not_and_the_spread_is_too_little_as_the_formula_says(monkeypatch):
    world, spreads = GaussianWorld([0.3], [[0.25]]), []
    for depth in (2, 8, 32):
        schedule = Schedule.cosine(depth)
        model = Diffusion(world.network(schedule.beta[1:], "x"), schedule, 1, "x").double()
        mean, var = law_of(by(Renoise()), model, monkeypatch)
        a2, b2 = schedule.alpha_bar.tolist(), schedule.noise_var.tolist()
        middle, expected = 0.0, 1.0  # of z_t: N(0, 1) at T
        for t in range(depth, 0, -1):
            gain = math.sqrt(a2[t]) * 0.25 / (a2[t] * 0.25 + b2[t])  # of E[x | z_t], regression by hand
            guess, spread = 0.3 + gain * (middle - math.sqrt(a2[t]) * 0.3), gain**2 * expected
            middle, expected = math.sqrt(a2[t - 1]) * guess, a2[t - 1] * spread + b2[t - 1]
        assert mean.item() == pytest.approx(middle, rel=1e-10)
        assert var.item() == pytest.approx(expected, rel=1e-10)
        spreads.append(var.item())
    assert max(spreads) < 0.15 < 0.25  # of the data


# A student's run

SMALL = ["--model.width", 8, "--model.inner-width", 16, "--model.blocks", 1, "--model.depth", 40, "--optim.batch", 16]
STUDENT = ["mnist-few", "--steps", 8, "--optim.batch", 8, "--seed", 5]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "squares.npy"
    pictures = np.zeros((120, 12, 8), np.uint8)
    for picture, (row, column) in zip(pictures, np.random.default_rng(0).integers(0, 4, (120, 2))):
        picture[row : row + 5, column : column + 4] = 255
    np.save(path, pictures)
    return path


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory):
    """A finished diffusion run that keeps its early weights."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    assert status("train", "mnist-ddpm", "--data", data, "--steps", 12, *SMALL, "--out", run) == 0
    return run


@pytest.fixture(scope="module")
def student(teacher, tmp_path_factory):
    run = tmp_path_factory.mktemp("student") / "run"
    assert status("train", *STUDENT, "--teacher", teacher, "--out", run) == 0
    return run


def weights_of(run):
    return json.loads((run / "summary.json").read_text())["weights_sha256"]


def test_a_run_that_broke_ends_with_the_same_bits_though_its_teacher_has_gone(student, teacher, tmp_path, monkeypatch):
    gone, run, step = tmp_path / "gone", tmp_path / "run", Trainer.step

    def failing(self, stop, save):
        if self.state.step == 5:
            raise RuntimeError("the power failed")
        return step(self, stop, save)

    shutil.copytree(teacher, gone)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", failing)
        patch.setattr(Trainer, "save_seconds", 0.0)
        with pytest.raises(RuntimeError, match="power"):
            main(["train", *map(str, STUDENT), "--teacher", str(gone), "--out", str(run)])
    shutil.rmtree(gone)
    assert status("train", "--resume", run) == 0
    assert weights_of(run) == weights_of(student)
    assert status("replay", run, "--step", 3) == 0


def test_a_student_starts_as_its_teacher_and_moves(student, teacher):
    ours, theirs = kakusan.load(student), kakusan.load(teacher)
    assert ours.diffusion is not None
    assert theirs.diffusion is not None
    assert ours.chain.depth == first_step(theirs.diffusion.schedule, -1.8) < theirs.chain.depth
    far = [(a - b).abs().max() for a, b in zip(ours.chain.parameters(), theirs.chain.parameters())]
    assert 0 < max(far) < 0.2  # eight small steps away
    assert ours.weaker is None  # guidance is in it


@catches("""run/student.py: an exported student brings the fake-score network
- if name.startswith(STUDENT)
+ if not name.startswith(STUDENT)""")
def test_of_what_a_run_averages_the_students_weights_are_used():
    held = {"student.first.weight": f64([1.0]), "follower.first.weight": f64([2.0])}
    assert used_weights(RECIPES["mnist-few"], held) == {"denoiser.first.weight": held["student.first.weight"]}
    assert used_weights(RECIPES["mnist-ddpm"], held) == held


def test_it_samples_in_one_call_and_in_as_many_as_it_is_told(student, tmp_path, capsys):
    for steps, said in (([], "1 network evaluation "), (["--steps", 4], "4 network evaluations")):
        code, _, told = call(capsys, "sample", student, "-n", 3, *steps, "--out", tmp_path / said[0])
        assert code == 0
        assert told.splitlines()[-1].startswith(said)
    model = kakusan.load(student)
    many = np.asarray(model.sample(5, seed=2, steps=2))
    assert np.array_equal(many[3:4], np.asarray(model.sample(1, seed=2, steps=2, first=3)))


def test_it_says_so_where_it_is_asked_at_noise_levels_that_it_was_not_trained_at(student, tmp_path, capsys):
    code, _, told = call(capsys, "sample", student, "-n", 1, "--steps", 3, "--out", tmp_path / "samples")
    assert code == 0
    assert re.fullmatch(r"a student is trained for --steps 1; 3 steps use noise levels .*", told.splitlines()[0])
    for known in ([], ["--steps", 1], ["--steps", 1, "--spacing", "karras"]):
        assert "is trained for" not in call(capsys, "sample", student, "-n", 1, *known, "--out", tmp_path / "known")[2]


def test_it_says_so_where_a_students_sampler_is_asked_of_another_model(teacher, tmp_path, capsys):
    said = [
        call(capsys, "sample", teacher, "-n", 1, "--steps", 2, *more, "--out", tmp_path / "samples")[2]
        for more in (["--sampler", "renoise"], [])
    ]
    assert [("renoise is for distilled students" in one) for one in said] == [True, False]


def test_weights_of_other_names_are_not_exported(student, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kakusan.run.source.used_weights", lambda recipe, weights: dict(weights))
    code, _, told = call(capsys, "export", student, "--out", tmp_path / "file.safetensors")
    assert code == 2
    assert "not the tensors of the model it describes" in told.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_an_exported_student_is_the_student_alone_and_a_file_can_teach(student, teacher, tmp_path, capsys):
    file, run = tmp_path / "student.safetensors", tmp_path / "run"
    assert status("export", student, "--out", file) == 0
    one, other = (np.asarray(kakusan.load(place).sample(3)) for place in (student, file))
    assert np.array_equal(one, other)
    held = sum(tensor.nbytes for tensor in kakusan.load(file).chain.state_dict().values())
    assert held < file.stat().st_size < held + 20_000  # a header beside the weights
    assert status("export", teacher, "--out", tmp_path / "teacher.safetensors") == 0
    data = json.loads((teacher / "run.json").read_text())["recipe"]["data"]
    taught = ["--teacher", tmp_path / "teacher.safetensors", "--data", data, "--out", run]
    assert status("train", *STUDENT, *taught) == 0
    assert weights_of(run) == weights_of(student)
    code, _, told = call(capsys, "train", *STUDENT, "--teacher", file, "--data", data, "--out", tmp_path / "second")
    assert code == 2
    assert "a student itself" in told.splitlines()[-1]


def test_it_has_no_bound_and_says_so_in_one_line(student, teacher, capsys):
    for command in (["evaluate", student], ["evaluate", student, "--json"], ["compare", student, teacher]):
        code, out, told = call(capsys, *command)
        assert (code, out) == (2, "")
        assert re.fullmatch(r"kakusan: a student has no bound.*--samples 1000\n", told.splitlines(keepends=True)[-1])
    page = (student / "report.html").read_text()
    assert "a student has no bound" in page.lower()
    assert not re.search(r"[0-9] bits/dim", page)
    assert call(capsys, "info", student)[1].count("no bound") == 1


@pytest.mark.parametrize("flag", [["--importance", 4], ["--limit", 5], ["--split", "train"]])
def test_what_asks_something_of_a_bound_is_refused_beside_its_samples(flag, student, capsys):
    code, out, told = call(capsys, "evaluate", student, "--samples", 100, *flag)
    assert (code, out) == (2, "")
    assert f"{flag[0]} is an option of the bound" in told.splitlines()[-1]


def test_its_samples_are_measured_by_features_from_elsewhere(student, tmp_path, capsys):
    features = np.random.default_rng(0).normal(size=(2, 150, 4))
    np.savez(tmp_path / "features.npz", samples=features[0], reference=features[1])
    code, out, _ = call(capsys, "evaluate", student, "--features", tmp_path / "features.npz", "--json")
    assert code == 0
    assert json.loads(out)["samples"]["num_samples"] == 150


def test_doctor_looks_at_the_teacher_that_a_run_keeps(student, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(student, run)
    assert call(capsys, "doctor", run)[0] == 0
    kept = run / "teacher.safetensors"
    content = bytearray(kept.read_bytes())
    content[-3] ^= 4
    kept.write_bytes(content)
    code, out, _ = call(capsys, "doctor", run)
    assert code == 1
    assert "teacher.safetensors is damaged" in out
    code, _, told = call(capsys, "train", "--resume", run, "--steps", 9)
    assert code == 2
    assert "teacher.safetensors is damaged" in told


@pytest.mark.parametrize("blocks", [1, 2], ids=["of the same shape", "of another network"])
def test_a_run_does_not_go_on_with_another_teacher(blocks, student, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(student, run)
    known = model_file.read(run / "teacher.safetensors").facts
    recipe = dataclasses.replace(known.recipe, model=dataclasses.replace(known.recipe.model, blocks=blocks))  # pyrefly: ignore[unexpected-keyword]
    weights = {
        name: torch.zeros(kind[0], dtype=kind[1]) for name, kind in blueprint(recipe.model, known.event_shape).items()
    }
    other = model_file.ExportedModel(dataclasses.replace(known, recipe=recipe), weights)
    (run / "teacher.safetensors").write_bytes(other.to_bytes())
    for command in (["train", "--resume", run, "--steps", 9], ["replay", run, "--step", 3]):
        code, _, told = call(capsys, *command)
        assert code == 2
        assert "is not the teacher that the run was started with" in told.splitlines()[-1]
    code, out, _ = call(capsys, "doctor", run)
    assert code == 1
    assert "is not the teacher that the run was started with" in out
    assert "go on with: " not in out


def test_guidance_that_a_teacher_cannot_give_is_not_in_the_record(student, data, tmp_path, capsys):
    plain, run = tmp_path / "plain.safetensors", tmp_path / "run"
    known = model_file.read(student / "teacher.safetensors")
    plain.write_bytes(dataclasses.replace(known, early=None).to_bytes())
    taught = ["--teacher", plain, "--data", data, "--steps", 2]
    code, _, told = call(capsys, "train", *STUDENT, *taught, "--out", run)
    assert code == 0
    assert "the teacher has no early weights for autoguidance: --distil.guidance is 1 instead of 2" in told.splitlines()
    assert json.loads((run / "run.json").read_text())["recipe"]["distil"]["guidance"] == 1


def golden_record(**settings):
    """The record of a student of an early version, with other settings of its distillation."""
    record = json.loads((Path(__file__).parent / "golden" / "student-of-7a92ee3.json").read_text())
    return {**record, "distil": {**record["distil"], **settings}}


@catches("""run/fingerprint.py: a run of version 0.3 becomes another run
- {"distil": {"calls": 1, "first_share": None}}
+ {}""")
def test_the_run_of_a_student_of_version_03_has_the_same_fingerprint():
    record = golden_record(calls=1, first_share=None)
    # as commit 446bfed computed it
    known = "8eceadcfe54e9105c6ec43f4b3c2f6e9a494f438c9d81327f5d132326800e267"
    assert origin(from_record(record), 0, "data", torch.device("cpu"))["recipe"] == known
    distillation(from_record(record), (1, 28, 28), weights_like(record))


@pytest.mark.parametrize(
    "settings", [{"calls": 4, "first_share": 0.8}, {"data_weight": 1.0, "data_compare": [0.0, 2.0]}]
)
def test_a_student_of_version_03_with_settings_that_are_gone_can_be_read(settings):
    assert from_record(golden_record(**settings)).distil == Distil()


def weights_like(record):
    """Zeros for the weights of a student's record, by the names of its model."""
    kinds = blueprint(from_record(record).model, (1, 28, 28))
    return {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in kinds.items()}


def test_a_recipe_for_a_student_is_of_a_diffusion_model():
    recipe = RECIPES["mnist-few"]
    with pytest.raises(InputError, match="student of a diffusion model, got a vae model"):
        dataclasses.replace(recipe, model=VAEConfig())
    assert dataclasses.replace(recipe, model=DiffusionConfig()).distil == Distil()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "add --teacher"),
        (["--optim.early", 0.1], "--optim.early keeps weights"),
        (["--optim.augment", "shift"], "noise alone"),
        (["--teacher", "nowhere"], "no run at nowhere"),
        (["--distil.begin-log-snr", 90], "log SNR"),
        (["--data", "mnist"], "shape"),
    ],
)
def test_a_student_that_cannot_be_is_refused_in_one_line_before_anything_is_written(
    arguments, words, teacher, tmp_path, capsys
):
    taught = [] if not arguments or "--teacher" in arguments else ["--teacher", teacher]
    code, _, told = call(capsys, "train", *STUDENT, *taught, *arguments, "--out", tmp_path / "run")
    assert code == 2
    assert words in told.splitlines()[-1]
    assert not (tmp_path / "run").exists()
