"""Two-level VAE with the settings of the study notes: sizes 784, 100, 20, 30 epochs, 1e-3, batch 32."""

from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.recipe import Recipe
from kakusan.training.settings import Optim

EPOCHS, TRAINING_IMAGES, BATCH = 30, 60_000, 32

RECIPE = Recipe(
    name="mnist-hvae",
    summary="Two-level VAE of the study notes: 784-100-20-20, unit variances, 30 epochs",
    model=HierarchyConfig(hidden=100, latents=(20, 20), likelihood="gaussian", third_term="exact"),
    optim=Optim(lr=1e-3, weight_decay=0.0, warmup=0, decay="none", clip=None, batch=BATCH, ema=0.0, betas=(0.9, 0.999)),
    steps=EPOCHS * TRAINING_IMAGES // BATCH,
)
