"""The diffusers family: a diffusion model whose network is a UNet2DModel, as in pipelines of diffusers.

The record of such a model has the settings of the network and of the scheduler. diffusers builds both, so that
settings mean the same as there. Only the names below are accepted, each with its range; nothing else reaches diffusers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.errors import InputError
from kakusan.run.families.diffusion import DiffusionConfig, DiffusionFamily
from kakusan.settings import Between, Length, check, from_values

if TYPE_CHECKING:
    from torch import nn

    from kakusan.schedule import Schedule

Size = Annotated[int, Between(1, 4096)]
Factor = Annotated[float, Between(-1000, 1000)]
DownBlock = Literal[
    "DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D"
]
UpBlock = Literal["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D"]


@dataclass(frozen=True)
class UNetSettings:
    """Arguments of diffusers.UNet2DModel, with its defaults."""

    sample_size: Size | tuple[Size, Size] | None = None
    in_channels: Size = 3
    out_channels: Size = 3
    center_input_sample: bool = False
    time_embedding_type: Literal["positional", "learned"] = "positional"
    time_embedding_dim: Size | None = None
    freq_shift: Annotated[int, Between(0, 1)] = 0
    flip_sin_to_cos: bool = True
    down_block_types: Annotated[tuple[DownBlock, ...], Length(1, 12)] = (
        "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D",
    )  # fmt: skip
    mid_block_type: Literal["UNetMidBlock2D"] | None = "UNetMidBlock2D"
    up_block_types: Annotated[tuple[UpBlock, ...], Length(1, 12)] = (
        "AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D",
    )  # fmt: skip
    block_out_channels: Annotated[tuple[Size, ...], Length(1, 12)] = (224, 448, 672, 896)
    layers_per_block: Annotated[int, Between(1, 32)] = 2
    mid_block_scale_factor: Factor = 1
    downsample_padding: Annotated[int, Between(0, 1)] = 1
    downsample_type: Literal["conv", "resnet"] = "conv"
    upsample_type: Literal["conv", "resnet"] = "conv"
    dropout: Annotated[float, Between(0, 1, "[)")] = 0.0
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    attention_head_dim: Size | None = 8
    norm_num_groups: Size = 32
    attn_norm_num_groups: Size | None = None
    norm_eps: Annotated[float, Between(0, 1, "(]")] = 1e-5
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: bool = True
    class_embed_type: None = None
    num_class_embeds: None = None
    num_train_timesteps: Annotated[int, Between(1, 100_000)] | None = None

    def __post_init__(self):
        check(self, "unet")


@dataclass(frozen=True)
class SchedulerSettings:
    """Arguments of diffusers.DDPMScheduler that decide the noise schedule, with its defaults."""

    num_train_timesteps: Annotated[int, Between(1, 100_000)] = 1000
    beta_start: Annotated[float, Between(0, 1, "()")] = 0.0001
    beta_end: Annotated[float, Between(0, 1, "()")] = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"] = "linear"
    trained_betas: Annotated[tuple[float, ...], Length(1, 100_000)] | None = None
    rescale_betas_zero_snr: bool = False

    def __post_init__(self):
        check(self, "scheduler")
        if self.trained_betas is not None and len(self.trained_betas) != self.num_train_timesteps:
            raise InputError(
                f"scheduler.trained_betas must have num_train_timesteps = {self.num_train_timesteps} numbers, got "
                f"{len(self.trained_betas)}"
            )


@dataclass(frozen=True)
class DiffusersConfig(DiffusionConfig):
    """Settings of a diffusion model with a UNet2DModel. Inherited settings of kakusan's own networks are not used."""

    family = "diffusers"

    unet: UNetSettings = field(default_factory=UNetSettings)
    """Settings of the network."""
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    """Settings of the noise schedule."""
    clip_range: Annotated[float, Between(1, 1000)] | None = 1.0
    """Largest absolute value of the data estimate. None: unlimited."""

    def __post_init__(self):
        for name, kind in (("unet", UNetSettings), ("scheduler", SchedulerSettings)):
            if isinstance(getattr(self, name), dict):  # lists of a JSON record become tuples
                object.__setattr__(self, name, from_values(kind, getattr(self, name), f"model.{name}"))
        check(self, "model")

    def all_steps(self) -> Schedule:
        """Return the schedule of the diffusers scheduler."""
        from kakusan.schedule import Schedule

        scheduler = library().DDPMScheduler(**dataclasses.asdict(self.scheduler))
        return Schedule.from_betas(scheduler.betas)


class DiffusersFamily(DiffusionFamily):
    """Family of diffusion models with a network of diffusers."""

    name = "diffusers"
    config = DiffusersConfig

    def build(self, config: DiffusersConfig, event_shape: tuple[int, ...]) -> nn.Module:  # type: ignore[override]
        """Build a `Diffusion` on pixels in [-1, 1]."""
        from kakusan.models.diffusion import Diffusion
        from kakusan.run.families.diffusion import schedule_of, timestep_distribution

        timestep_distribution(config)
        return Diffusion.wrap(
            unet_of(config.unet),
            schedule_of(config),
            event_shape,
            prediction=config.prediction,
            first=0,
            learned_range=config.variance == "learned",
            variance=config.variance,
            likelihood=config.likelihood,
            clip=None if config.clip_range is None else (-config.clip_range, config.clip_range),
        )


def unet_of(settings: UNetSettings) -> nn.Module:
    """Build an untrained UNet2DModel; InputError if its settings contradict each other."""
    try:
        return library().UNet2DModel(**dataclasses.asdict(settings))
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"diffusers cannot build a UNet2DModel with these settings ({reason}); use those it was saved with"
        ) from error


def library() -> Any:
    """Import and return the module diffusers; InputError that names the extra if it is missing."""
    try:
        import diffusers
    except ImportError as error:
        raise InputError(
            f"this needs the package diffusers ({error}); type: pip install 'kakusan[diffusers]'"
        ) from error
    return diffusers
