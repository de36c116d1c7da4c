"""Hierarchical VAE for 8-bit images with latents as large as the data: the first of the two changes alone."""

from kakusan.run.families.learned_noise import LearnedNoiseConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="learned-noise",
    summary="Hierarchical VAE whose latents are as large as the data, with a learned encoder",
    model=LearnedNoiseConfig(),
    optim=Optim(lr=2e-3, batch=64, ema=0.1),
    minutes=2.0,
)
