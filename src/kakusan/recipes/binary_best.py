"""Two-level VAE with the best bound on binarized digits found for ten minutes on two CPU cores.

It has residual perceptrons with SiLU units and a second level of latents with learned variances. Training uses a large
learning rate with linear decay, and averaged weights. docs/log.md has the gain of each choice.
"""

from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="binary-best",
    summary="Two-level VAE for binarized digits, the best bound found for ten minutes",
    model=HierarchyConfig(
        hidden=400,
        upper_hidden=150,
        layers=3,
        latents=(50, 32),
        likelihood="bernoulli",
        variance="learned",
        activation="silu",
        residual=True,
    ),
    data="mnist-binary",
    optim=Optim(lr=4e-3, weight_decay=0.0, clip=None, batch=256, ema=0.1, betas=(0.9, 0.999)),
    steps=10_000,
)
