"""Series of real values, float64 (N, length, channels)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kakusan.data.forms.base import Form
from kakusan.data.forms.tables import nats_of
from kakusan.units import nats

if TYPE_CHECKING:
    from kakusan.data.dataset import Dataset

SHOWN = 16  # series in a figure


class SeriesForm(Form):
    """Series that are measured at equal times, with one or more channels."""

    name = "series"
    unit = "series"
    shape_words = "[length, channels]"
    values = "series"
    has_figure = True
    shows_elbo = True

    def fits(self, event_shape: tuple[int, ...]) -> bool:
        """True for two sizes, length and channels."""
        return len(event_shape) == 2

    def describe(self, total: int, event_shape: tuple[int, ...], bits: bool) -> str:
        """Number, length and channels of the series, in words."""
        length, channels = event_shape
        return f"{total:,} series of length {length:,} with {channels} channel{'s' if channels > 1 else ''}"

    def recipe(self, dataset: Dataset) -> str:
        """Name of the recipe for series."""
        return "series"

    def from_model(self, parts: list[Tensor], event_shape: tuple[int, ...], scale: Any) -> np.ndarray:
        """Join batches of samples into series in stored units, float64 (n, length, channels)."""
        series = [scale.to_series(part.cpu()) for part in parts]
        return (torch.cat(series) if series else torch.zeros((0, *event_shape))).numpy()

    def stored(self, examples: Tensor, event_shape: tuple[int, ...]) -> Tensor:
        """Convert series to float64."""
        self.check(examples, event_shape, tuple(examples.shape[1:]) == event_shape)
        return examples.double()

    def in_unit(self, bits_per_dim: float, num_dims: int) -> float:
        """Convert bits/dim to nats per example."""
        return nats(bits_per_dim, num_dims)

    def rate(self, bits_per_dim: float, standard_error: float | None, num_dims: int, digits: int = 4) -> str:
        """Bound on log p(series) in nats with its standard error, in words; higher is better."""
        return nats_of(bits_per_dim, standard_error, num_dims, "series")

    def save_figure(
        self, samples: np.ndarray, path: Path, facts: dict[str, Any] | None = None, columns: int | None = None
    ) -> None:
        """Draw a panel of curves for each channel, one curve for each of the first series."""
        from matplotlib.figure import Figure

        from kakusan.storage import files

        channels = samples.shape[2]
        figure = Figure(figsize=(8, 2.4 * channels), layout="constrained")
        for channel, axes in enumerate(figure.subplots(channels, 1, squeeze=False)[:, 0]):
            axes.plot(samples[:SHOWN, :, channel].T, linewidth=0.8)
            axes.set(xlabel="time", ylabel=f"channel {channel}" if channels > 1 else "value")
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=100, metadata={"Software": None})
        files.replace(path, content.getvalue())
