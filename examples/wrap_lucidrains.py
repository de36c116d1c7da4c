"""Measure and sample a U-Net of denoising_diffusion_pytorch with kakusan. Needs: pip install denoising-diffusion-pytorch"""

import sys

import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Unet

import kakusan as kk


def wrapped(diffusion: GaussianDiffusion) -> kk.Diffusion:
    """The same chain here: its U-Net counts steps from 0, its images lie in [-1, 1]."""
    return kk.Diffusion.wrap(
        diffusion.model,
        kk.Schedule.from_betas(diffusion.betas),
        (diffusion.channels, *diffusion.image_size),
        prediction={"pred_noise": "eps", "pred_x0": "x", "pred_v": "v"}[diffusion.objective],
        first=0,
        variance="beta_tilde",
        likelihood="discretized",
        clip=(-1, 1),
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    diffusion = GaussianDiffusion(Unet(dim=8, dim_mults=(1, 2), channels=1), image_size=28, objective="pred_v")
    # ... train it with its own Trainer, or load its weights ...
    chain = wrapped(diffusion).eval()
    x = kk.data.mnist().test[:100] / 127.5 - 1
    with torch.no_grad():
        nats = kk.elbo(chain.respaced(20), x)
    print(f"{kk.bits_per_dim(nats, chain.num_dims).mean():.2f} bits/dim on a chain of 20 steps", file=sys.stdout)
    images = kk.sample(chain, 4, solver="dpm++2m", steps=10, seed=0)
    print(tuple(images.shape))
