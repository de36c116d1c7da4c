"""DDPM without additions: linear schedule, noise prediction, uniform timesteps, Adam, no clusters, no guidance.

The study notes end before the training of a DDPM. The optimizer and the number of epochs are those of their two-level
VAE. The variance and the schedule are those of Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239. The network is
that of mnist-ddpm.
"""

import dataclasses

from kakusan.recipes.mnist_hvae import RECIPE as TWO_LEVELS
from kakusan.run.families.diffusion import DiffusionConfig

RECIPE = dataclasses.replace(
    TWO_LEVELS,
    name="book-ddpm",
    summary="Plain DDPM: T = 1000, linear schedule, noise prediction, Adam, 30 epochs",
    model=DiffusionConfig(
        schedule="linear", prediction="eps", variance="fixed_large", focus_share=0.0, clusters=0, guidance=1.0
    ),
)
