"""Streams of random numbers by seed and step."""

import torch
from torch import nn

from harness.faults import catches
from kakusan.noise import stream
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim

# First eight bytes of the SHA-256 of the keys, little-endian
SEED_OF_A_SAMPLE = 14080059593509975369
SEED_OF_A_CHUNK = 2922165586622080317


@catches("""training/loop.py: every step has the same noise
- stream(self.seed, "step", salt, step, micro_batch, device=self.device)
+ stream(self.seed, "step", salt, micro_batch, device=self.device)""")
@catches("""training/loop.py: every seed has the same noise
- stream(self.seed, "step", salt, step, micro_batch, device=self.device)
+ stream("step", salt, step, micro_batch, device=self.device)""")
def test_every_step_has_noise_of_its_own_by_seed_and_number():
    def noise(seed):
        module, heard = nn.Linear(1, 1), []

        def loss(indices, randomness):
            heard.append(torch.rand((), generator=randomness).item())
            return module(torch.ones(len(indices), 1))[:, 0].square()

        trainer = Trainer(module, loss, 8, Optim(batch=4), Budget(steps=5), seed, torch.device("cpu"))
        assert trainer.run([1.0], lambda trainer: None, lambda trainer: None)
        return heard

    assert noise(0) == noise(0)
    assert len({*noise(0), *noise(1)}) == 10


@catches("""noise.py: seeds give other numbers than in earlier versions
- int.from_bytes(digest[:8], "little", signed=True)
+ int.from_bytes(digest[:8], "big", signed=True)""")
def test_a_key_has_the_same_numbers_in_every_version():
    seeds = {(7, "sample", 3): SEED_OF_A_SAMPLE, (0, "evaluate", 250, 1): SEED_OF_A_CHUNK}
    assert {key: stream(*key).initial_seed() for key in seeds} == seeds
