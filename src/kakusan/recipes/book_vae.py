"""One-level VAE with the numbers that the study notes give: 784, 100, 20, unit variance, 30 epochs, 1e-3, batch 32."""

import dataclasses

from kakusan.recipes.mnist_hvae import RECIPE as TWO_LEVELS
from kakusan.run.families.vae import VAEConfig

RECIPE = dataclasses.replace(
    TWO_LEVELS,
    name="book-vae",
    summary="VAE with the study notes' numbers: 784-100-20, unit variance, 30 epochs",
    model=VAEConfig(hidden=(100,), latent=20, likelihood="gaussian"),
)
