"""One-level VAE with the settings of the study notes: sizes 784, 100, 20, unit variance, 30 epochs, 1e-3, batch 32."""

import dataclasses

from kakusan.recipes.mnist_hvae import RECIPE as TWO_LEVELS
from kakusan.run.families.vae import VAEConfig

RECIPE = dataclasses.replace(
    TWO_LEVELS,
    name="book-vae",
    summary="VAE with the study notes' settings: 784-100-20, unit variance, 30 epochs",
    model=VAEConfig(hidden=(100,), latent=20, likelihood="gaussian"),
)
