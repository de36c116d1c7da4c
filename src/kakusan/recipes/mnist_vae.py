"""VAE for 8-bit digits, about two minutes on two CPU cores."""

from kakusan.run.families.vae import VAEConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="mnist-vae",
    summary="VAE for 8-bit images, 32 latents, multi-layer perceptrons",
    model=VAEConfig(),
    optim=Optim(lr=5e-4, batch=128, ema=0.1, betas=(0.9, 0.999)),
    steps=3000,
)
