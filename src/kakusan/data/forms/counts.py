"""Tables of counts, float64 whole numbers (N, K)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kakusan.data.forms.base import Form

if TYPE_CHECKING:
    from kakusan.data.dataset import Dataset

TOP = 255
PIXELS_LIKE = 64  # counts with at least this many categories and a largest value of 255 look like flattened images


class CountForm(Form):
    """Counts of K categories in each example."""

    name = "counts"
    unit = "rows"
    shape_words = "[categories]"
    values = "counts"

    def fits(self, event_shape: tuple[int, ...]) -> bool:
        """True for one size, the number of categories."""
        return len(event_shape) == 1

    def describe(self, total: int, event_shape: tuple[int, ...], bits: bool) -> str:
        """Number of examples and of categories, in words."""
        return f"{total:,} count vectors of {event_shape[0]} categories"

    def recipe(self, dataset: Dataset) -> str:
        """Name of the recipe for counts."""
        return "counts-dirichlet"

    def from_model(self, parts: list[Tensor], event_shape: tuple[int, ...], scale: Any) -> np.ndarray:
        """Join batches of samples into whole numbers, int64 (n, K)."""
        counts = torch.cat(parts) if parts else torch.zeros((0, *event_shape))
        return counts.cpu().numpy().astype(np.int64)

    def cautions(self, dataset: Dataset, high: float) -> list[str]:
        """Warn about counts that look like flattened images."""
        if high != TOP or dataset.event_shape[0] < PIXELS_LIKE:
            return []
        return [
            f"caution: {dataset.name} is read as counts, and up to exactly 255 they look like pixels; "
            "for flattened images save x.reshape(n, height, width)"
        ]
