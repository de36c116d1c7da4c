"""Diffusion model for your own images, with a network chosen from their size, colors and number.

Sampling ends at the log-SNR 2 log K for K steps, the default of the family. Recipes for digits end at a lower log-SNR,
which cleans the background of digits but would blur the texture of photographs.
"""

from kakusan.data.options import ImageOptions
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="images",
    summary="Diffusion model for your own images of any size, with a U-Net chosen for them",
    model=DiffusionConfig(clusters=128, guidance=2.0, plan="data"),
    pictures=ImageOptions(fit=True),
    optim=Optim(method="muon", lr=3e-3, matrix_lr=0.03, warmup=30, batch=16, ema=0.1, early=0.1),
    minutes=20.0,
)
