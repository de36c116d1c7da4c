"""Diffusion models of real values: table rows and series."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.columns import MOST_COLUMNS, Record, num_numbers
from kakusan.run.families.base import LogSNR
from kakusan.run.families.conditional import ConditionalConfig, conditioned
from kakusan.run.families.diffusion import Channels, DiffusionFamily, schedule_of, timestep_distribution
from kakusan.run.families.tables import LabelColumn, TableFamily, columns_of, kept_records, records_of
from kakusan.settings import Between, Length, check

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kakusan.data.dataset import Dataset
    from kakusan.data.options import ImageOptions
    from kakusan.data.series_scale import SeriesScale
    from kakusan.data.table_scale import TableScale
    from kakusan.schedule import Schedule

Number = Annotated[float, Between(-1e150, 1e150)]


@dataclass(frozen=True)
class ValuesConfig(ConditionalConfig):
    """Settings shared by the diffusion models of real values."""

    depth: Annotated[int, Between(1, 100_000)] = 1000
    """Number of timesteps T."""
    schedule: Literal["linear", "cosine", "sigmoid"] = "cosine"
    """Noise schedule. linear: beta from 1e-4 to 0.02, made for depth 1000."""
    prediction: Literal["eps", "x", "v", "mean", "score"] = "v"
    """Quantity that the network predicts."""
    variance: Literal["beta", "beta_tilde", "fixed_large", "learned"] = "beta_tilde"
    """Variance of the reverse steps. fixed_large: beta, with beta_tilde_2 at t = 1."""
    objective: Literal["simple", "path", "pair", "single"] = "simple"
    """Training loss: the simple loss, or the negative ELBO estimated from T (path), two (pair) or one (single) latents."""
    focus: tuple[LogSNR, Annotated[float, Between(0.01, 100)]] = (1.0, 2.5)
    """Mean and standard deviation of the log-SNR at which the simple loss trains most."""
    focus_share: Annotated[float, Between(0, 1)] = 0.8
    """Share of timesteps drawn around the focus. The others are drawn uniformly."""
    label_dropout: Annotated[float, Between(0, 1, "[)")] = 0.1
    """Share of labels that training replaces by a null class, for classifier-free guidance (Ho and Salimans 2022). Ignored without labels."""
    guidance_range: tuple[LogSNR, LogSNR] = (-100.0, 100.0)
    """Lowest and highest log-SNR at which sampling is guided."""
    end_log_snr: LogSNR | None = 100.0
    """Log-SNR at which few-step sampling stops and returns the network's estimate of x. 100: never, which keeps the finest detail."""
    time: Literal["sinusoidal", "table"] = "sinusoidal"
    """Embedding of the timestep. table: one learned vector for each timestep."""
    width: Channels = 64
    """Number of channels of the network."""
    blocks: Annotated[int, Between(1, 32)] = 6
    """Number of residual blocks of the network."""

    plan = "fixed"
    begin = None  # has no annotation, so it is not a setting
    guidance = 1.0

    def __post_init__(self):
        check(self, "model")

    def all_steps(self) -> Schedule:
        """Return the schedule over all T steps."""
        from kakusan.schedule import Schedule

        return getattr(Schedule, self.schedule)(self.depth)


@dataclass(frozen=True)
class SeriesConfig(ValuesConfig):
    """Settings of a diffusion model of series."""

    family = "series"

    centers: Annotated[tuple[Number, ...], Length(0, 16)] = ()
    """Mean of each channel, recorded by training."""
    scales: Annotated[tuple[Annotated[float, Between(0, 1e150, "(]")], ...], Length(0, 16)] = ()
    """Standard deviation of each channel, recorded by training."""


@dataclass(frozen=True)
class TableDiffusionConfig(ValuesConfig):
    """Settings of a diffusion model of the rows of a table."""

    family = "table-diffusion"

    width: Channels = 256
    """Number of units of each layer."""
    blocks: Annotated[int, Between(1, 32)] = 3
    """Number of residual blocks of the network."""
    columns: Annotated[tuple[Record, ...], Length(0, MOST_COLUMNS)] = ()
    """Columns of the training data, recorded by training. Set their types with --columns."""
    label: LabelColumn = ""
    """Column of the labels, recorded by training. Empty: the labels are in no column."""


class SeriesFamily(DiffusionFamily):
    """Family of diffusion models of series."""

    name = "series"
    config = SeriesConfig
    kind = "series"

    def for_data(self, config: SeriesConfig, dataset: Dataset, own_data: bool) -> SeriesConfig:
        """Return the settings with mean and standard deviation of each channel of the training series."""
        if dataset.kind != self.kind or config.centers:  # those of the model that a run starts from are kept
            return config
        values = dataset.train.flatten(0, 1)
        scales = tuple(std if std > 0 else 1.0 for std in values.std(0, correction=0).tolist())
        return dataclasses.replace(config, centers=tuple(values.mean(0).tolist()), scales=scales)

    def build(self, config: Any, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a `Diffusion` of standardized channels."""
        from kakusan.nets.series import SeriesNet

        shape = (event_shape[1], event_shape[0])
        return diffusion_of(config, SeriesNet.from_config(config, shape), shape, "gaussian")

    def scale(self, config: Any) -> SeriesScale:
        """Return the scale to standardized channels."""
        from kakusan.data.series_scale import SeriesScale

        return SeriesScale(config.centers, config.scales)

    def inputs(self, config: SeriesConfig, examples: Tensor, augment: str, randomness: Any) -> Tensor:
        """Convert stored series to standardized channels."""
        return self.scale(config).to_model(examples)

    def density_bin_width(self, config: SeriesConfig) -> float:
        """Return the length of one stored unit on the model's scale."""
        return self.scale(config).bin_width

    def figures(self, model: Any, held_out: Tensor) -> dict:
        """Return no figures; a run has only those of its samples."""
        return {}


class TableDiffusionFamily(DiffusionFamily):
    """Family of diffusion models of tables without missing values."""

    name = "table-diffusion"
    config = TableDiffusionConfig
    kind = "tables"

    def for_data(self, config: TableDiffusionConfig, dataset: Dataset, own_data: bool) -> TableDiffusionConfig:
        """Return the settings with the transformed columns of these data."""
        columns = kept_records(config, dataset) or records_of(dataset)
        return dataclasses.replace(config, columns=columns, label=dataset.label_column)

    def build(self, config: Any, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a `Diffusion` of row vectors."""
        from kakusan.likelihoods.table import Table
        from kakusan.nets.table_denoiser import TableNet

        columns = columns_of(config)
        likelihood, shape = Table(columns), (num_numbers(columns),)
        likelihood.check_noised()
        return diffusion_of(config, TableNet.from_config(config, shape), shape, likelihood)

    def scale(self, config: Any) -> TableScale:
        """Return the scale to row vectors: transformed values and one-hot categories."""
        from kakusan.data.table_scale import TableScale

        return TableScale(columns_of(config))

    def inputs(self, config: TableDiffusionConfig, examples: Tensor, augment: str, randomness: Any) -> Tensor:
        """Convert stored rows to row vectors."""
        return self.scale(config).to_model(examples)

    def conform(self, config: TableDiffusionConfig, dataset: Dataset) -> Dataset:
        """Return the data with the model's columns, matched by name, in its order and with its category codes."""
        return TableFamily().conform(config, dataset)  # type: ignore[arg-type]

    def reading(self, config: TableDiffusionConfig, options: ImageOptions) -> ImageOptions:
        """Return reading options with the model's column types."""
        return TableFamily().reading(config, options)  # type: ignore[arg-type]

    def density_bin_width(self, config: TableDiffusionConfig) -> None:
        """Return None, because the bound is a density in the units of the columns."""

    def figures(self, model: Any, held_out: Tensor) -> dict:
        """Return no figures."""
        return {}


def diffusion_of(config: ValuesConfig, network: nn.Module, shape: tuple[int, ...], likelihood: Any) -> nn.Module:
    """Build an untrained `Diffusion` whose data estimate is not clipped; with labels in a `Mixture`."""
    from kakusan.models.diffusion import Diffusion

    timestep_distribution(config)  # invalid settings raise an error now, not when training starts
    chain = Diffusion(network, schedule_of(config), shape, config.prediction, config.variance, likelihood)
    return conditioned(chain, config, shape)
