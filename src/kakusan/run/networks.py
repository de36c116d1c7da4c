"""From the settings of a diffusion model to the network that denoises."""

from __future__ import annotations

from torch import nn

from kakusan.nets.classic import ClassicUNet
from kakusan.nets.convnext import ConvNeXt
from kakusan.nets.cosine import CosineMLP
from kakusan.nets.transformer import Transformer
from kakusan.nets.unet import UNet
from kakusan.run.recipe import DiffusionConfig


def denoiser(config: DiffusionConfig, event_shape: tuple[int, ...]) -> nn.Module:
    """(z_t (b, C, H, W), t (b,), and k (b,) of one with clusters) -> prediction, and v with a learned variance; untrained."""
    channels, height, width = event_shape
    size = (height, width)
    known = {"time": config.time, "gate": config.variance == "learned", "clusters": config.clusters}
    match config.network:
        case "unet":
            return UNet(channels, size, config.depth, config.width, config.inner_width, config.blocks, **known)
        case "convnext":
            return ConvNeXt(channels, size, config.depth, config.width, config.blocks, config.patch, **known)
        case "transformer":
            return Transformer(channels, size, config.depth, config.width, config.blocks, config.patch, **known)
        case "cosine":
            return CosineMLP(channels, size, config.depth, config.width, config.blocks, **known)
        case "classic":
            widths = (config.width, config.inner_width, config.inner_width)
            return ClassicUNet(channels, size, config.depth, widths, config.blocks, **known)
