"""The trainer: what it draws, averages and saves, and that stopping it changes nothing."""

import pytest
import torch

from harness.faults import catches
from kakusan.errors import InputError
from kakusan.training import checkpoint
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim

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


@pytest.mark.parametrize("method", ["adam", "muon"])
def test_training_finds_the_line(method):
    trainer = regression(400, method)
    assert run(trainer)
    assert trainer.state.loss < 0.01  # the variance of the targets is 3


@catches("""training/loop.py: a resumed run has lost the state of its optimiser [adam]
- self.optimizers.load({name: tensor.to(self.device) for name, tensor in tensors["optimizer"].items()})
+ pass""")
@catches("""training/loop.py: a resumed run has lost its averaged weights [muon]
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


@catches("""training/loop.py: the early weights are not averaged ones
- for name, value in self.ema.module.state_dict().items()
+ for name, value in self.module.state_dict().items()""")
@catches("""training/loop.py: a resumed run has lost its early weights
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


@catches("""training/loop.py: the learning rate does not warm up
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


@catches("""training/optimizers.py: the state of an optimiser comes back in another memory layout
- slot: value[0] if slot == "step" else torch.empty_like(parameters[index]).copy_(value)
+ slot: value[0] if slot == "step" else value.contiguous()""")
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
