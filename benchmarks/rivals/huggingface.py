"""diffusers 0.42.1: its UNet2DModel, DDPMScheduler, EMAModel, and its samplers DDIM and DPM-Solver++."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional as F

NETWORK = {
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "UpBlock2D"),
    "add_attention": True,  # at 7 x 7 alone, where it costs little
    "attention_head_dim": 16,
}
FOURTH_LEVEL = {  # used from 64 x 64 on: a lower loss after the same processor time
    "block_out_channels": (16, 32, 32, 32),
    "down_block_types": ("DownBlock2D",) * 4,
    "up_block_types": ("UpBlock2D",) * 4,
}
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "clip_sample": True,
}


class HuggingFace:
    """A `Rival` for images with sides divisible by 4, from 64 on by 8."""

    samplers = ("dpm-sde-20", "dpm-20", "ddim-50", "dpm-sde-50", "ddpm-1000")

    def __init__(self, size: int = 28, network: dict | None = None, schedule: dict | None = None, channels: int = 1):
        self.shape = (channels, size, size)
        network = network or (NETWORK if size < 64 else NETWORK | FOURTH_LEVEL)
        self.module = UNet2DModel(sample_size=size, in_channels=channels, out_channels=channels, **network)
        self.noise = DDPMScheduler(**(schedule or SCHEDULE))
        self.ema = EMAModel(self.module.parameters(), decay=0.9995, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def loss(self, x: Tensor) -> Tensor:
        eps = torch.randn_like(x)
        t = torch.randint(0, self.noise.config.num_train_timesteps, (len(x),))
        target = self.noise.get_velocity(x, eps, t) if self.noise.config.prediction_type == "v_prediction" else eps
        return F.mse_loss(self.module(self.noise.add_noise(x, eps, t), t, return_dict=False)[0], target)

    def average(self) -> None:
        self.ema.step(self.module.parameters())

    def averaged(self) -> dict[str, Tensor]:
        names = [name for name, _ in self.module.named_parameters()]
        return dict(zip(names, self.ema.shadow_params, strict=True))

    def take(self, weights: dict[str, Tensor]) -> None:
        self.ema.shadow_params = [weights[name] for name, _ in self.module.named_parameters()]

    @torch.inference_mode()
    def sample(self, n: int, sampler: str) -> Tensor:
        kind, steps = sampler.rsplit("-", 1)
        if kind == "ddpm":
            scheduler = DDPMScheduler.from_config(self.noise.config)
        elif kind == "ddim":
            scheduler = DDIMScheduler.from_config(self.noise.config, timestep_spacing="trailing")
        else:
            algorithm = "sde-dpmsolver++" if kind == "dpm-sde" else "dpmsolver++"
            scheduler = DPMSolverMultistepScheduler.from_config(
                self.noise.config, algorithm_type=algorithm, timestep_spacing="trailing"
            )  # its Karras spacing spends most of its steps beyond a noise in which nothing is decided, and is worse
        scheduler.set_timesteps(int(steps))
        self.ema.store(self.module.parameters())
        self.ema.copy_to(self.module.parameters())
        x = torch.randn(n, *self.shape) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            x = scheduler.step(self.module(scheduler.scale_model_input(x, t), t).sample, t, x).prev_sample
        self.ema.restore(self.module.parameters())
        return x.clamp(-1, 1)
