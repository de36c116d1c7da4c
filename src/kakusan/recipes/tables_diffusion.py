"""Diffusion model for the rows of a table without missing values, with a residual perceptron."""

from kakusan.run.families.values import TableDiffusionConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="tables-diffusion",
    summary="Diffusion model for tables without missing values",
    model=TableDiffusionConfig(),
    data="table.csv",
    optim=Optim(lr=1e-3, batch=256, ema=0.1),
    steps=3000,
)
