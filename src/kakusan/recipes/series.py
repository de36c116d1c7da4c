"""Diffusion model for series, with residual convolutions in one dimension."""

from kakusan.run.families.values import SeriesConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="series",
    summary="Diffusion model for series of real values with one or more channels",
    model=SeriesConfig(),
    data="series.npy",
    optim=Optim(lr=1e-3, batch=64, ema=0.1),
    steps=2000,
)
