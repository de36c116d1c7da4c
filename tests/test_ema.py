"""The average of the weights: a power profile, buffers included."""

import pytest
import torch

from harness.faults import catches
from kakusan.training.ema import Ema


@catches("""training/ema.py: the average has the wrong power
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


@catches("""training/ema.py: the average keeps the buffers of the start
- kept.copy_(current)
+ pass""")
def test_the_average_copies_buffers():
    module = torch.nn.BatchNorm1d(2)
    ema = Ema(module, share=0.5)
    module.running_mean.fill_(4.0)
    ema.update(3)
    assert ema.module.running_mean.tolist() == [4.0, 4.0]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_averages_by_name_are_those_of_the_module(share):
    module = torch.nn.Linear(1, 1, bias=False)
    ema = Ema(module, share)
    for step, value in enumerate([3.0, 5.0], start=1):
        module.weight.data.fill_(value)
        ema.update(step)
    assert ema.tensors["weight"].item() == (5.0 if share == 0 else 4.0)
    assert ema.module.weight.item() == ema.tensors["weight"].item()
