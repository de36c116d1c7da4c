"""Batches: every example once an epoch, a function of seed and step."""

import pytest
import torch

from harness.faults import catches
from kakusan.training.batches import Batches

CPU = torch.device("cpu")


@pytest.mark.proves("S28")
@catches("""training/batches.py: every epoch has the same order
- stream(self.seed, "order", self.salt, epoch)
+ stream(self.seed, "order", self.salt)""")
def test_an_epoch_shows_every_example_once():
    batches = Batches(num_examples=10, batch=4, seed=0, device=CPU)
    seen = torch.cat([batches.indices(step) for step in range(5)])  # two epochs
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


@catches("""training/batches.py: every seed has the same batches
- stream(self.seed, "order", self.salt, epoch)
+ stream("order", self.salt, epoch)""")
def test_a_batch_is_a_function_of_seed_and_step():
    asked_late = Batches(1000, 32, seed=5, device=CPU).indices(10**9)
    assert torch.equal(asked_late, Batches(1000, 32, seed=5, device=CPU).indices(10**9))
    assert not torch.equal(asked_late, Batches(1000, 32, seed=6, device=CPU).indices(10**9))


def test_a_batch_may_be_larger_than_the_data():
    assert sorted(Batches(3, 7, seed=0, device=CPU).indices(0)[:6].tolist()) == [0, 0, 1, 1, 2, 2]


@catches("""training/batches.py: micro-batches of one step overlap
- first = step * self.batch + micro_batch * self.slice
+ first = step * self.batch + micro_batch""")
def test_the_micro_batches_of_a_step_are_the_parts_of_its_batch_also_across_two_epochs():
    whole, parts = (Batches(10, 6, 3, torch.device("cpu"), micro_batches) for micro_batches in (1, 3))
    for step in range(5):
        joined = torch.cat([parts.indices(step, micro_batch) for micro_batch in range(3)])
        assert joined.tolist() == whole.indices(step).tolist()
