"""The table family: a VAE of table rows, initialized as a factor analyzer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kakusan.columns import MOST_COLUMNS, Column, Record, from_record, num_numbers
from kakusan.errors import InputError
from kakusan.run.families.base import Units
from kakusan.run.families.conditional import ConditionalConfig, conditioned, shares_of
from kakusan.run.families.vae import PerceptronFamily
from kakusan.settings import Between, Length, check

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kakusan.data.dataset import Dataset
    from kakusan.data.options import ImageOptions
    from kakusan.data.table_scale import TableScale
    from kakusan.models.vae import VAE

LabelColumn = Annotated[str, Length(0, 1000)]
FEWEST_ROWS = 4  # least rows per latent dimension; with fewer rows, the factors memorize them


@dataclass(frozen=True)
class TableConfig(ConditionalConfig):
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
    label: LabelColumn = ""
    """Column of the labels, recorded by training. Empty: the labels are in no column."""

    def __post_init__(self):
        check(self, "model")


class TableFamily(PerceptronFamily):
    """Family of VAEs of tables."""

    name = "table-vae"
    config = TableConfig
    kind = "tables"

    def for_data(self, config: TableConfig, dataset: Dataset, own_data: bool) -> TableConfig:
        """Return the settings with the transformed columns of these data and the number of latents."""
        columns = kept_records(config, dataset) or records_of(dataset)
        config = dataclasses.replace(config, columns=columns, label=dataset.label_column)
        if config.latent is not None:
            return config
        most = min(num_numbers(columns_of(config)), 20, max(1, len(dataset.train) // FEWEST_ROWS))
        return dataclasses.replace(config, latent=most)

    def build(self, config: TableConfig, event_shape: tuple[int, ...]) -> nn.Module:
        """Build a VAE between a row's vector and its latents."""
        columns = columns_of(config)
        return conditioned(table_vae(columns, config), config, (num_numbers(columns),))

    def scale(self, config: TableConfig) -> TableScale:
        """Return the scale to row vectors: transformed values, one-hot categories, and flags of missing values."""
        from kakusan.data.table_scale import TableScale

        return TableScale(columns_of(config))

    def inputs(self, config: TableConfig, examples: Tensor, augment: str, randomness: Any) -> Tensor:
        """Convert stored rows to row vectors."""
        return self.scale(config).to_model(examples).to(examples.device)

    def conform(self, config: TableConfig, dataset: Dataset) -> Dataset:
        """Return the data with the model's columns, matched by name, in its order; a column of labels becomes labels."""
        from kakusan.data.label_column import has_column, of_column
        from kakusan.data.table_file import with_columns

        if has_column(dataset, config.label):
            dataset = of_column(dataset, config.label, config.classes)
        return with_columns(dataset, columns_of(config)) if dataset.columns else dataset

    def reading(self, config: TableConfig, options: ImageOptions) -> ImageOptions:
        """Return reading options with the model's column types."""
        from kakusan.data.column_types import written_types

        return dataclasses.replace(options, size=None, channels=None, columns=written_types(columns_of(config)))

    def observe(self, module: Any, config: TableConfig, data: Tensor, augment: str, labels: Tensor | None) -> None:
        """Learn p(k), and initialize the VAE as the factor analyzer of the rows around the mean of each class."""
        from kakusan.models.mixture import split

        super().observe(module, config, data, augment, labels)
        chain, classes = split(module)
        x = self.scale(config).to_model(data.cpu())
        start_at_rows(chain, x, None if classes is None else shares_of(classes, x, labels))

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


def kept_records(config: Any, dataset: Dataset) -> tuple[str, ...]:
    """Return the records of the columns of the model that a run starts from; empty if it starts from none.

    Its weights are those of its transformations, so other data get the same ones.

    Raises:
        InputError: If the data have other columns.
    """
    if not config.columns or not dataset.columns:
        return ()
    known = columns_of(config)
    wanted, given = ([(one.name, one.type, one.categories) for one in columns] for columns in (known, dataset.columns))
    holes = dataset.train.isnan().any(0).tolist()
    if wanted != given or any(hole and not one.missing for hole, one in zip(holes, known)):
        described = "; ".join(one.describe() for one in known)
        raise InputError(
            f"{dataset.name} has other columns than the model of --init; expected, in this order: {described[:300]}"
        )
    return config.columns


def columns_of(config: Any) -> tuple[Column, ...]:
    """Return the columns from recorded settings.

    Raises:
        InputError: If the settings have no columns.
    """
    if not config.columns:
        raise InputError("this model needs the columns of a table; train it with --data TABLE.csv")
    return tuple(map(from_record, config.columns))


def table_vae(columns: tuple[Column, ...], config: Any) -> VAE:
    """Build an untrained VAE of rows with these columns; config has latent, hidden, activation, dropout and num_conditions."""
    from kakusan.likelihoods.table import Table
    from kakusan.models.vae import VAE
    from kakusan.nets.table import LinearPlusMLP

    numbers = num_numbers(columns)
    latent = config.latent or numbers
    layers = (config.activation, config.dropout, config.num_conditions)
    encoder = LinearPlusMLP(numbers, config.hidden, latent, *layers)
    decoder = LinearPlusMLP(latent, config.hidden[::-1], numbers, *layers)
    return VAE(encoder, decoder, latent, Table(columns), numbers)


def start_at_rows(vae: VAE, x: Tensor, shares: Tensor | None = None) -> None:
    """Initialize a VAE of rows as the factor analyzer of their vectors; categories start at their frequencies.

    With classes each has its own mean and frequencies, and all have the factors of the rows around the means.

    Args:
        vae: A VAE of `table_vae`.
        x: Vectors of the training rows.
        shares: q(k | x) of the class of each row, float64 (n, K); None without classes.
    """
    import torch

    from kakusan.nets.table import start_at_factors

    likelihood: Any = vae.likelihood
    encoder: Any = vae.encoder
    decoder: Any = vae.decoder
    at, seen = likelihood.numeric(), likelihood.seen(x)
    codes, log_shares = likelihood.log_frequencies(x)
    if shares is None:
        start_at_factors(encoder, decoder, x, at, seen)
    else:
        shares = shares.to(x.device, torch.float64)
        shift = torch.zeros(shares.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
        shift[:, at] = class_means(x[:, at].double(), seen.double(), shares)
        for k, share in enumerate(shares.T):
            shift[k, codes] = (likelihood.log_frequencies(x * share[:, None].to(x))[1] - log_shares).double()
        around = x.double().clone()
        around[:, at] -= (shares @ shift[:, at]) * seen
        start_at_factors(encoder, decoder, around, at, seen)
        decoder.set_shift(shift)
        encoder.set_shift(-shift[:, at] @ encoder.linear.weight.double().T[at].to(shift))
    with torch.no_grad():
        decoder.linear.bias[codes] = log_shares.to(decoder.linear.bias)


def class_means(values: Tensor, seen: Tensor, shares: Tensor) -> Tensor:
    """Mean of each class minus the mean of all, (K, numbers), of the numbers that are seen; 0 for an empty class.

    Args:
        values: Numbers (n, numbers).
        seen: 1 for an observed number and 0 for a hole.
        shares: q(k | x) of each row, (n, K).
    """
    count = shares.T @ seen
    mean = (values * seen).sum(0) / seen.sum(0).clamp(min=1)
    return (shares.T @ ((values - mean) * seen)) / count.clamp(min=1e-9)
