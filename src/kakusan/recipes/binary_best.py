"""Two-level VAE with the best bound on binarized digits that was found for ten minutes of two CPU cores.

Residual perceptrons with SiLU units, large steps that fall linearly, averaged weights, and a second level of latents
with learned variances; docs/log.md has the gain of each.
"""

from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="binary-best",
    summary="Two-level VAE for binarized digits, the best bound that ten minutes gave",
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
