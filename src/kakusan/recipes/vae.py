"""Convolutional VAE for 8-bit images of any size, about ten minutes on two CPU cores."""

from kakusan.run.families.conv import ConvVAEConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="vae",
    summary="Convolutional VAE for 8-bit images of any size, 64 latents",
    model=ConvVAEConfig(),
    optim=Optim(lr=2e-3, batch=64, ema=0.1, betas=(0.9, 0.98)),
    steps=4000,
)
