"""The trainer: what it draws, averages and saves, and that stopping it changes nothing."""

import pytest
import torch

from harness.faults import catches
from kakusan.errors import InputError
from kakusan.run.directory import RunDirectory
from kakusan.train import checkpoint
from kakusan.train.batches import Batches
from kakusan.train.ema import Ema
from kakusan.train.loop import Trainer
from kakusan.train.muon import Muon, orthogonalised
from kakusan.train.settings import Budget, Optim

CPU = torch.device("cpu")


def regression(steps, method="adam", **changes):
    """A small deterministic problem: the trainer must find y = 3 x - 1, with noise in the inputs."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Linear(8, 1))
    module.hidden_matrices = lambda: [module[2].weight]
    x = torch.linspace(-1, 1, 64)[:, None]

    def loss(indices, randomness):
        noisy = x[indices] + 0.01 * torch.randn(len(indices), 1, generator=randomness)
        return (module(noisy) - 3 * x[indices] + 1).square().squeeze(1)

    settings = Optim(method=method, lr=1e-2, batch=16, warmup=5, **changes)
    return Trainer(module, loss, len(x), settings, Budget(steps=steps), seed=1, device=CPU)


def weights(trainer):
    return torch.cat([p.flatten() for p in (*trainer.module.parameters(), *trainer.ema.module.parameters())])


def run(trainer, stop_at=None):
    def on_step(trainer):
        if trainer.state.step == stop_at:
            raise StopIteration

    try:
        return trainer.run([0.5, 1.0], lambda trainer: None, on_step)
    except StopIteration:
        return False


@pytest.mark.proves("S28")
@catches("""train/batches.py: every epoch has the same order
- stream(self.seed, "order", self.salt, epoch)
+ stream(self.seed, "order", self.salt)""")
def test_an_epoch_shows_every_example_once():
    batches = Batches(num_examples=10, batch=4, seed=0, device=CPU)
    seen = torch.cat([batches.indices(step) for step in range(5)])  # two epochs
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


@catches("""train/batches.py: every seed has the same batches
- stream(self.seed, "order", self.salt, epoch)
+ stream("order", self.salt, epoch)""")
def test_a_batch_is_a_function_of_seed_and_step():
    asked_late = Batches(1000, 32, seed=5, device=CPU).indices(10**9)
    assert torch.equal(asked_late, Batches(1000, 32, seed=5, device=CPU).indices(10**9))
    assert not torch.equal(asked_late, Batches(1000, 32, seed=6, device=CPU).indices(10**9))


def test_a_batch_may_be_larger_than_the_data():
    assert sorted(Batches(3, 7, seed=0, device=CPU).indices(0)[:6].tolist()) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("method", ["adam", "muon"])
def test_training_finds_the_line(method):
    trainer = regression(400, method)
    assert run(trainer)
    assert trainer.state.loss < 0.01  # the variance of the targets is 3


@catches("""train/loop.py: a resumed run has lost the state of its optimiser [adam]
- self.optimizers.load({name: tensor.to(self.device) for name, tensor in tensors["optimizer"].items()})
+ pass""")
@catches("""train/loop.py: a resumed run has lost its averaged weights [muon]
- (self.ema.tensors, tensors["ema"])):
+ ):""")
@pytest.mark.parametrize("method", ["adam", "muon"])
def test_a_stopped_run_ends_with_the_same_bits_as_an_unbroken_one(tmp_path, method):
    whole = regression(60, method)
    run(whole)
    broken = regression(60, method)
    run(broken, stop_at=23)
    checkpoint.save(broken, tmp_path)
    resumed = regression(60, method)
    checkpoint.restore(resumed, tmp_path)
    assert resumed.state.step == 23
    run(resumed)
    assert torch.equal(weights(whole), weights(resumed))


@catches("""train/loop.py: the early weights are not averaged ones
- for name, value in self.ema.module.state_dict().items()
+ for name, value in self.module.state_dict().items()""")
@catches("""train/loop.py: a resumed run has lost its early weights
- self.early = None if early is None else {name: value.to(self.device) for name, value in early.items()}
+ pass""")
def test_the_early_weights_are_those_of_their_moment_and_survive_a_resume(tmp_path):
    moment = regression(6, decay="none")  # without decay the first six steps are the same for any budget
    run(moment)
    broken = regression(60, decay="none", early=0.1)
    run(broken, stop_at=23)
    checkpoint.save(broken, tmp_path)
    resumed = regression(60, decay="none", early=0.1)
    checkpoint.restore(resumed, tmp_path)
    run(resumed)
    for name, value in moment.ema.module.state_dict().items():
        assert torch.equal(resumed.early[name], value)
        assert not torch.equal(resumed.early[name], resumed.ema.module.state_dict()[name])


def test_a_run_keeps_no_early_weights_unless_asked(tmp_path):
    trainer = regression(10)
    run(trainer)
    checkpoint.save(trainer, tmp_path)
    assert trainer.early is None
    assert checkpoint.early_weights(checkpoint.latest(tmp_path)) is None


@catches("""storage/commit.py: the oldest checkpoints are kept
- good[keep:]
+ good[:-keep]""")
def test_checkpoints_keep_the_newest_two(tmp_path):
    trainer = regression(10)
    for _ in range(4):
        trainer.state.step += 1
        checkpoint.save(trainer, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


@catches("""train/ema.py: the average has the wrong power
- (1 / self.share - 1)
+ (1 / self.share)""")
def test_the_average_is_the_mean_of_a_power_profile():
    # With share 1 / (p + 2) the weight of step s among k is proportional to about s^p; share 0.5 is a plain mean.
    module = torch.nn.Linear(1, 1, bias=False)
    ema = Ema(module, share=0.5)
    for step in range(1, 11):
        module.weight.data.fill_(float(step))
        ema.update(step)
    assert ema.module.weight.item() == pytest.approx(5.5, abs=1e-5)  # float32 arithmetic on ten numbers


def test_no_average_is_the_last_weights():
    module = torch.nn.Linear(1, 1)
    ema = Ema(module, share=0.0)
    module.weight.data.fill_(3.0)
    ema.update(7)
    assert ema.module.weight.item() == 3.0


@catches(
    "train/ema.py",
    "kept.copy_(current)",
    "pass",
    "the average keeps the buffers of the start",
)
def test_the_average_copies_buffers():
    module = torch.nn.BatchNorm1d(2)
    ema = Ema(module, share=0.5)
    module.running_mean.fill_(4.0)
    ema.update(3)
    assert ema.module.running_mean.tolist() == [4.0, 4.0]


@catches("""train/muon.py: the update of Muon is far from orthogonal [shape2]
- ITERATIONS = 5
+ ITERATIONS = 1""")
@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_an_orthogonalised_update_keeps_directions_and_levels_their_sizes(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    sizes = torch.diagonal(u.T @ orthogonalised(matrix) @ v.T)
    # the quintic iteration is tuned for speed: after five rounds singular values lie between 0.7 and 1.2
    assert sizes.min() > 0.6
    assert sizes.max() < 1.3
    off = u.T @ orthogonalised(matrix) @ v.T - torch.diag(sizes)
    assert off.abs().max() < 1e-9


def test_an_update_of_single_precision_is_that_of_double_though_singular_values_span_six_orders():
    noise = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(32, 200, dtype=torch.float64, generator=noise), full_matrices=False)
    matrix = (u * torch.logspace(0, -6, 32, dtype=torch.float64)) @ v
    off = torch.linalg.matrix_norm(orthogonalised(matrix.float()) - orthogonalised(matrix), ord=2)
    # a square of the matrix in float32 loses what is below 3e-4, and five rounds enlarge that by up to 3.4^5 = 480
    assert off < 0.01
    sizes = torch.diagonal(u.T @ orthogonalised(matrix) @ v.T)
    assert sizes[0] > 0.6
    assert sizes[-1] < 1e-3  # too small for five rounds, in any precision


@catches("""train/muon.py: matrices of half precision are orthogonalised in it
- lying.to(torch.promote_types(lying.dtype, torch.float32))
+ lying""")
def test_matrices_in_half_precision_are_orthogonalised_in_single():
    matrix = torch.outer(torch.arange(1.0, 9), torch.arange(1.0, 20)).bfloat16()  # of rank 1: nothing else may grow
    update = orthogonalised(matrix)
    assert update.dtype == torch.bfloat16
    # rounding to 8 bits, and the noise of rounding the matrix, which single precision enlarges by 3.4^5 at most
    assert torch.linalg.matrix_norm(update.float() - orthogonalised(matrix.float()), ord=2) < 0.01


@catches("""train/muon.py: Muon steps uphill
- alpha=-group["lr"]
+ alpha=group["lr"]""")
def test_muon_steps_along_the_gradient_of_any_matrix_shape():
    kernel = torch.nn.Parameter(torch.zeros(4, 2, 3, 3))
    kernel.grad = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    Muon([kernel], lr=0.1).step()
    assert (kernel * kernel.grad).sum() < 0


@catches("""train/loop.py: the learning rate does not warm up
- min(1.0, (self.state.step + 1) / self.settings.warmup)
+ min(1.0, self.state.step + 1)""")
def test_the_learning_rate_falls_to_zero_over_the_budget():
    trainer = regression(50)
    scales = []
    step = trainer.optimizers.step
    trainer.optimizers.step = lambda scale, skip=None: (scales.append(scale), step(scale))
    run(trainer)
    assert scales[0] == pytest.approx(0.2)  # the first of five warm-up steps
    assert scales[25] == pytest.approx(0.5)
    assert scales[-1] == pytest.approx(0.02)


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


@catches(
    "train/optimizers.py",
    'slot: value[0] if slot == "step" else torch.empty_like(parameters[index]).copy_(value)',
    'slot: value[0] if slot == "step" else value.contiguous()',
    "the state of an optimiser comes back in another memory layout",
)
def test_resuming_keeps_the_memory_layout_of_convolutions(tmp_path):
    def convolution(steps):
        torch.manual_seed(0)
        module = torch.nn.Conv2d(3, 5, 3)
        module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
        x = torch.randn(16, 3, 6, 6)
        settings = Optim(lr=1e-2, batch=8, warmup=0)

        def loss(indices, randomness):
            return (module(x[indices]) - 1).square().flatten(1).mean(1)

        return Trainer(module, loss, len(x), settings, Budget(steps=steps), seed=1, device=CPU)

    whole = convolution(20)
    run(whole)
    broken = convolution(20)
    run(broken, stop_at=7)
    checkpoint.save(broken, tmp_path)
    resumed = convolution(20)
    checkpoint.restore(resumed, tmp_path)
    run(resumed)
    assert torch.equal(weights(whole), weights(resumed))


@pytest.mark.parametrize(
    "change", [{"batch": 0}, {"lr": -1.0}, {"ema": 1.0}, {"clip": 0.0}, {"warmup": -1}, {"betas": (0.9, 1.0)}]
)
def test_settings_that_cannot_work_are_refused(change):
    with pytest.raises(InputError, match=f"optim.{next(iter(change))}"):
        Optim(**change)
