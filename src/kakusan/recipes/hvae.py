"""Convolutional hierarchical VAE of 8-bit images of any size, about ten minutes on two CPU cores."""

from kakusan.run.families.conv import ConvHierarchyConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="hvae",
    summary="Convolutional hierarchical VAE for 8-bit images of any size: latent maps and 64 latents",
    model=ConvHierarchyConfig(),
    optim=Optim(lr=2e-3, batch=64, ema=0.1, betas=(0.9, 0.98)),
    steps=4000,
)
