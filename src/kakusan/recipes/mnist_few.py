"""Student of the digits DDPM, or of any other diffusion model, that samples in one network evaluation."""

from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.recipe import Distil, Recipe
from kakusan.training.settings import Optim

RECIPE = Recipe(
    name="mnist-few",
    summary="Student of a diffusion run (--teacher) that samples in one network evaluation",
    model=DiffusionConfig(guidance=1.0),
    distil=Distil(),
    optim=Optim(method="muon", lr=1e-3, matrix_lr=0.015, weight_decay=0.0, warmup=30, clip=None, batch=32, ema=0.1),
    steps=1000,
)
