"""denoising-diffusion-pytorch 2.3.4: its Unet and GaussianDiffusion, its EMA (ema-pytorch), its DDIM."""

from __future__ import annotations

import sys
from types import ModuleType

from ema_pytorch import EMA
from torch import Tensor

# The package imports torchvision for its folders of images, which are not used here, and the torchvision of PyPI cannot
# be imported with a CPU build of torch. Empty modules replace it during the import.
_EMPTY = {name: ModuleType(name) for name in ("torchvision", "torchvision.transforms", "torchvision.utils")}
_EMPTY["torchvision"].transforms = _EMPTY["torchvision.transforms"]  # pyrefly: ignore
_EMPTY["torchvision"].utils = _EMPTY["torchvision.utils"]  # pyrefly: ignore
sys.modules.update(_EMPTY)
from denoising_diffusion_pytorch import GaussianDiffusion, Unet  # noqa: E402

for name in _EMPTY:
    del sys.modules[name]

NETWORK = {"dim": 8, "dim_mults": (1, 2, 4), "attn_heads": 2, "attn_dim_head": 16}
DIFFUSION = {"timesteps": 1000, "objective": "pred_v", "beta_schedule": "sigmoid", "min_snr_loss_weight": False}


class Lucidrains:
    """A `Rival` for images with sides divisible by 4."""

    samplers = ("ddim-20", "ddim-50", "ddim-100", "ddpm-1000")

    def __init__(self, size: int = 28, network: dict | None = None, diffusion: dict | None = None, channels: int = 1):
        self.module = GaussianDiffusion(
            Unet(channels=channels, **(network or NETWORK)), image_size=size, **(diffusion or DIFFUSION)
        )
        self.ema = EMA(self.module, beta=0.9995, update_after_step=100, update_every=1, include_online_model=False)

    def loss(self, x: Tensor) -> Tensor:
        return self.module((x + 1) / 2)

    def average(self) -> None:
        self.ema.update()

    def averaged(self) -> dict[str, Tensor]:
        return self.ema.ema_model.model.state_dict()

    def take(self, weights: dict[str, Tensor]) -> None:
        self.ema.ema_model.model.load_state_dict(weights)

    def sample(self, n: int, sampler: str) -> Tensor:
        model, steps = self.ema.ema_model, int(sampler.split("-")[1])
        model.is_ddim_sampling, model.sampling_timesteps = steps < model.num_timesteps, steps
        return 2 * model.eval().sample(n) - 1
