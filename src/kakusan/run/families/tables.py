"""The table family: a VAE of table rows, initialized as a factor analyzer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.columns import MOST_COLUMNS, Column, Record, from_record, num_numbers
from kakusan.errors import InputError
from kakusan.run.families.base import ModelConfig, Units
from kakusan.run.families.vae import PerceptronFamily
from kakusan.settings import Between, Length, check

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kakusan.data.dataset import Dataset
    from kakusan.data.options import ImageOptions
    from kakusan.data.table_scale import TableScale
    from kakusan.models.vae import VAE

FEWEST_ROWS = 4  # least rows per latent dimension; with fewer rows, the factors memorize them


@dataclass(frozen=True)
class TableConfig(ModelConfig):
    """Settings of a VAE of the rows of a table."""

    family = "table-vae"

    latent: Units | None = None
    """Number of latent dimensions. Default: the length of a row's vector, at most 20 and at most a quarter of the rows."""
    hidden: Annotated[tuple[Units, ...], Length(1, 32)] = (64,)
    """Widths of the hidden layers of the encoder, and of the decoder in reverse order."""
    activation: Literal["relu", "tanh", "silu"] = "tanh"
    """Activation function of the hidden layers."""
    dropout: Annotated[float, Between(0, 1, "[)")] = 0.1
    """Dropout rate of the hidden units in training."""
    importance_samples: Annotated[int, Between(1, 10_000)] = 1
    """Number of samples K of the importance-weighted training bound. 1: the ELBO with its KL in closed form."""
    columns: Annotated[tuple[Record, ...], Length(0, MOST_COLUMNS)] = ()
    """Columns of the training data, recorded by training. Set their types with --columns."""

    def __post_init__(self):
        check(self, "model")


class TableFamily(PerceptronFamily):
    """Family of VAEs of tables."""

    name = "table-vae"
    config = TableConfig
    kind = "tables"

    def for_data(self, config: TableConfig, dataset: Dataset, own_data: bool) -> TableConfig:
        """Return the settings with the transformed columns of these data and the number of latents."""
        config = dataclasses.replace(config, columns=records_of(dataset))
        if config.latent is not None:
            return config
        most = min(num_numbers(columns_of(config)), 20, max(1, len(dataset.train) // FEWEST_ROWS))
        return dataclasses.replace(config, latent=most)

    def build(self, config: TableConfig, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a VAE between a row's vector and its latents."""
        return table_vae(columns_of(config), config)

    def scale(self, config: TableConfig) -> TableScale:
        """Return the scale to row vectors: transformed values, one-hot categories, and flags of missing values."""
        from kakusan.data.table_scale import TableScale

        return TableScale(columns_of(config))

    def inputs(self, config: TableConfig, examples: Tensor, augment: str, randomness: Any) -> Tensor:
        """Convert stored rows to row vectors."""
        return self.scale(config).to_model(examples).to(examples.device)

    def conform(self, config: TableConfig, dataset: Dataset) -> Dataset:
        """Return the data with the model's columns, matched by name, in its order and with its category codes."""
        from kakusan.data.table_file import with_columns

        return with_columns(dataset, columns_of(config)) if dataset.columns else dataset

    def reading(self, config: TableConfig, options: ImageOptions) -> ImageOptions:
        """Return reading options with the model's column types."""
        from kakusan.data.column_types import written_types

        return dataclasses.replace(options, size=None, channels=None, columns=written_types(columns_of(config)))

    def prepare(self, module: VAE, data: Tensor, augment: str) -> None:
        """Initialize the VAE as the factor analyzer of the training rows."""
        from kakusan.data.table_scale import TableScale

        likelihood: Any = module.likelihood
        start_at_rows(module, TableScale(likelihood.columns).to_model(data.cpu()))

    def density_bin_width(self, config: TableConfig) -> None:
        """Return None, because the bound is a density in the units of the columns."""

    def figures(self, model: Any, held_out: Tensor) -> dict:
        """Return no figures."""
        return {}


def records_of(dataset: Dataset) -> tuple[str, ...]:
    """Return the records of the training rows' columns with their transformations."""
    from kakusan.data.table_columns import fitted

    if dataset.columns:
        return tuple(column.record() for column in fitted(dataset.columns, dataset.train))
    return ()


def columns_of(config: Any) -> tuple[Column, ...]:
    """Return the columns from recorded settings.

    Raises:
        InputError: If the settings have no columns.
    """
    if not config.columns:
        raise InputError("this model needs the columns of a table; train it with --data TABLE.csv")
    return tuple(map(from_record, config.columns))


def table_vae(columns: tuple[Column, ...], config: Any) -> VAE:
    """Build an untrained VAE of rows with these columns; config has latent, hidden, activation and dropout."""
    from kakusan.likelihoods.table import Table
    from kakusan.models.vae import VAE
    from kakusan.nets.table import LinearPlusMLP

    numbers = num_numbers(columns)
    latent = config.latent or numbers
    encoder = LinearPlusMLP(numbers, config.hidden, latent, config.activation, config.dropout)
    decoder = LinearPlusMLP(latent, config.hidden[::-1], numbers, config.activation, config.dropout)
    return VAE(encoder, decoder, latent, Table(columns), numbers)


def start_at_rows(vae: VAE, x: Tensor) -> None:
    """Initialize a VAE of rows as the factor analyzer of their vectors; categories start at their frequencies.

    Args:
        vae: A VAE of `table_vae`.
        x: Vectors of the training rows.
    """
    import torch

    from kakusan.nets.table import start_at_factors

    likelihood: Any = vae.likelihood
    encoder: Any = vae.encoder
    decoder: Any = vae.decoder
    start_at_factors(encoder, decoder, x, likelihood.numeric(), likelihood.seen(x))
    at, log_shares = likelihood.log_frequencies(x)
    with torch.no_grad():
        decoder.linear.bias[at] = log_shares.to(decoder.linear.bias)
