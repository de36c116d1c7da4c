"""A step on a GPU never waits for it: nothing asks the device for a number, nothing is fetched to it while it works.

There need be no GPU: torch's meta device holds no numbers, so whatever asks for one fails by itself, and every copy from
the host is seen. Two things are pretended: that its generators are its own, and that AdamW has a fused form there.
"""

import math
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness import engine_job
from harness.faults import catches
from kakusan.run.build import build, training_loss
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.training import loop, outcome
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim

META = torch.device("meta")
EVENT = (1, 8, 8)
CONFIGS = {
    "unet": DiffusionConfig(depth=20, width=8, inner_width=16, blocks=1, clusters=2),
    "transformer": DiffusionConfig(depth=20, network="transformer", width=32, blocks=1),
    "vae": VAEConfig(hidden=(16,), latent=4),
    "hierarchy": HierarchyConfig(hidden=16, latents=(4, 2), likelihood="bernoulli"),
}
# Muon needs hidden matrices, which the perceptrons of a VAE do not name
STEPPING = [
    (name, method)
    for name, config in CONFIGS.items()
    for method in ("adam", "muon")
    if method == "adam" or isinstance(config, DiffusionConfig)
]


class Generator(torch.Generator):
    """One that says it is the device's."""

    device = META


class Waits(AssertionError):
    pass


class NoCopies(TorchDispatchMode):
    """Fails where the host brings numbers to the device and waits until they are there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        fetched = func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu"
        if fetched and result.device.type != "cpu" and not kwargs.get("non_blocking"):
            raise Waits(f"a copy of {tuple(result.shape)} to the device waits for all that it was given before")
        return result


def stepping(monkeypatch, config, **settings):
    """A trainer on the device that has done its first step, which may fetch tables."""
    monkeypatch.setattr(loop, "stream", lambda *key, device="cpu": Generator().manual_seed(0))
    monkeypatch.setattr(sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["meta"])
    with META:
        module = build(config, EVENT)
        data = torch.zeros(64, *EVENT, dtype=torch.uint8)
    loss = training_loss(module, config, data, settings.get("augment", "none"))
    one = Trainer(module, loss, len(data), Optim(batch=16, **settings), Budget(steps=1000), 0, META)
    one.clock.start(0)
    one.module.train()
    step(one)
    return one


def step(one):
    try:
        one.step()
    except (RuntimeError, NotImplementedError) as error:  # in torch's words: there are no numbers to look at
        raise Waits(f"a step asks the device for a number: {error}") from error


@catches("""timesteps.py: a step fetches its table of times again [unet-adam]
- if device not in self._held:
+ if True:""")
@catches("""training/batches.py: a new epoch is waited for [vae-adam]
- order.to(self.device, non_blocking=True)
+ order.to(self.device)""")
@catches("""training/loop.py: each verdict on a step is waited for [unet-muon]
- if self._deferred.is_full:
+ if True:""")
@pytest.mark.parametrize(("name", "method"), STEPPING, ids=map("-".join, STEPPING))
def test_no_step_waits_for_the_device(monkeypatch, name, method):
    one = stepping(monkeypatch, CONFIGS[name], method=method, augment="shift")
    with NoCopies():
        for _ in range(4):
            step(one)


PLANTED = {
    "the loss asks how large it is": lambda loss: lambda i, noise: _asked(loss(i, noise)),
    "the loss looks for the large ones": lambda loss: lambda i, noise: _chosen(loss(i, noise)),
    "the loss brings a table each time": lambda loss: lambda i, noise: loss(i, noise) + torch.ones(16).to(META),
}


def _asked(losses):
    return losses if losses.mean() > 0 else -losses


def _chosen(losses):
    return losses[losses > 1]


@pytest.mark.parametrize("loss_of", PLANTED.values(), ids=PLANTED)
def test_a_loss_that_waits_is_caught(monkeypatch, loss_of):
    one = stepping(monkeypatch, CONFIGS["vae"])
    one.loss = loss_of(one.loss)
    with pytest.raises(Waits), NoCopies():
        step(one)


def test_verdicts_are_read_once_in_so_many_steps(monkeypatch):
    monkeypatch.setattr(outcome, "DEFERRED_STEPS", 4)
    one, settled = stepping(monkeypatch, CONFIGS["vae"]), []
    monkeypatch.setattr(one, "settle", lambda: (settled.append(one.state.step), one._deferred._pending.clear()))
    for _ in range(8):
        step(one)
    assert settled == [3, 7]


def test_verdicts_left_on_the_device_are_read_together_and_noted_in_their_order():
    one, plain = engine_job.trainer(), engine_job.trainer()
    losses = [3.0, math.nan, 2.5, 7.25]
    one._deferred = outcome.DeferredCheck(1.0)
    one._deferred._pending = [(k, torch.tensor(not math.isfinite(x)), torch.tensor(x)) for k, x in enumerate(losses)]
    one.settle()
    for k, x in enumerate(losses):
        plain.state.note(k, not math.isfinite(x), x)
    assert one._deferred._pending == []
    assert (one.state.skipped, one.state.num_skipped, one.state.loss) == ([1], 1, plain.state.loss)
