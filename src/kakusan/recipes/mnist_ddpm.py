"""DDPM for 8-bit digits, about three minutes on two idle CPU cores; the recipe of the demo."""

from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="mnist-ddpm",
    summary="Diffusion model for 8-bit images, T = 1000, small U-Net",
    model=DiffusionConfig(clusters=128, guidance=2.0, end_log_snr=3.0),
    optim=Optim(method="muon", lr=3e-3, matrix_lr=0.03, warmup=30, batch=48, ema=0.1, early=0.1),
    steps=1700,
)
