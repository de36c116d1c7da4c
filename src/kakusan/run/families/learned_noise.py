"""The learned-noise family, between hierarchical VAE and diffusion: latents as large as the data, and a learned or fixed encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.nets import NETWORKS
from kakusan.run.families.base import Family, Figure, ModelConfig
from kakusan.run.families.diffusion import Channels
from kakusan.settings import Between, check

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kakusan.run.trained_model import TrainedModel
    from kakusan.schedule import Schedule

    Network = str
else:
    Network = Literal[*NETWORKS]

LOG_SNR = (10.0, -8.0)  # log-SNR of z_1 and z_L; at 10 the std of the noise is about the width of a gray level


@dataclass(frozen=True)
class LearnedNoiseConfig(ModelConfig):
    """Settings of a hierarchical VAE whose latents have the shape of the data."""

    family = "learned-noise"

    depth: Annotated[int, Between(2, 100)] = 8
    """Number of levels L. A training step evaluates encoder and decoder once per level."""
    encoder: Literal["learned", "noise"] = "learned"
    """Encoder. learned: a network that starts as fixed noise. noise: fixed noise, which is a diffusion model of L steps."""
    network: Network = "cosine"
    """Network of the decoders. The encoders have a second network of this kind. cosine: a perceptron on the cosine transform of the image. unet: small, for a CPU."""
    width: Channels = 256
    """Number of units of each layer, or of channels."""
    inner_width: Channels = 64
    """Number of channels at the coarse level of a unet."""
    blocks: Annotated[int, Between(1, 32)] = 2
    """Number of residual blocks."""
    patch: Annotated[int, Between(1, 64)] = 4
    """Side of a patch in pixels, for convnext and transformer."""

    # fixed choices of the networks, which are not settings here
    variance, likelihood, prediction = "learned", "discretized", "v"
    time, num_conditions, fold, refine, checkpointing = "sinusoidal", 0, 2, 0, False

    def __post_init__(self):
        check(self, "model")


class LearnedNoiseFamily(Family):
    """Family of hierarchical VAEs of images with latents as large as the data."""

    name = "learned-noise"
    config = LearnedNoiseConfig
    terms_are = "terms of one path of latents per draw"

    def build(self, config: LearnedNoiseConfig, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a `LearnedNoise` around a diffusion model of L steps."""
        import torch

        from kakusan.models.diffusion import Diffusion
        from kakusan.models.learned_noise import LearnedNoise

        network = NETWORKS[config.network]
        with torch.device("cpu"):  # the tables have values, even if the networks are built on the meta device
            schedule = schedule_of(config.depth)
        chain = Diffusion(
            network.from_config(config, event_shape),
            schedule,
            event_shape,
            config.prediction,
            config.variance,  # type: ignore[arg-type]
            config.likelihood,
        )
        return LearnedNoise(chain, network.from_config(config, event_shape) if config.encoder == "learned" else None)

    def evaluations_per_draw(self, chain: Any) -> int:
        """Return the number of decoders, and of learned encoders; fixed noise needs no network."""
        return chain.depth * (1 if chain.encoder is None else 2)

    def figures(self, model: TrainedModel, held_out: Tensor) -> dict[str, Figure]:
        """Return a figure of the latents of a few images, level by level."""
        from kakusan.run.figures import forward_strip

        return {"forward.png": forward_strip(model, held_out)}


def schedule_of(depth: int) -> Schedule:
    """Return the schedule of `depth` levels of fixed noise, evenly spaced in log-SNR."""
    import torch

    from kakusan.schedule import Schedule

    alpha_bar = torch.linspace(*LOG_SNR, depth, dtype=torch.float64).sigmoid()
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    return Schedule.from_betas(1 - alpha_bar / before)
