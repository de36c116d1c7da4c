"""Measure and sample a U-Net with the interface of OpenAI's improved-diffusion and guided-diffusion.

Their UNetModel is called as model(x, timesteps, y=None), counts steps from 0 and, with learn_sigma, returns twice the
channels: the noise, and a learned range of the variance. `Stand` has that interface, so that this file runs alone. In
its place put the model that their create_model returns, with its weights in safetensors format.
"""

import torch
from torch import nn

import kakusan as kk


class Stand(nn.Module):
    """A small network with the interface of UNetModel."""

    def __init__(self, channels: int = 3, width: int = 16):
        super().__init__()
        self.first, self.last = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, 2 * channels, 3, padding=1)

    def forward(self, x, timesteps, y=None):
        return self.last(torch.tanh(self.first(x)) * torch.cos(timesteps / 1000)[:, None, None, None])


def wrapped(model: nn.Module, steps: int = 1000, size: int = 32, rescale_timesteps: bool = False) -> kk.Diffusion:
    """The chain of its script: noise_schedule cosine, learn_sigma, and rescale_timesteps if it was set."""
    return kk.Diffusion.wrap(
        model,
        kk.Schedule.cosine(steps),
        (3, size, size),
        prediction="eps",
        first=0,
        time_scale=1000 / steps if rescale_timesteps else 1.0,
        learned_range=True,
        likelihood="discretized",
        clip=(-1, 1),
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    chain = wrapped(Stand(), steps=100, size=8, rescale_timesteps=True).eval()
    x = torch.randint(0, 256, (16, 3, 8, 8)) / 127.5 - 1
    with torch.no_grad():
        print(f"{kk.bits_per_dim(kk.elbo(chain, x), chain.num_dims).mean():.2f} bits/dim")
    print(tuple(kk.sample(chain, 4, solver="ddim", steps=10, seed=0).shape))
