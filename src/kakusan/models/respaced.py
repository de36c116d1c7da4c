"""Denoiser of a diffusion chain that uses only some steps of a finer chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kakusan.models.networks import reference

if TYPE_CHECKING:
    from kakusan.models.diffusion import Diffusion


class Respaced(nn.Module):
    """Denoiser of a coarser chain, which converts its steps to those of the finer chain and returns estimates of x."""

    def __init__(self, model: Diffusion, times: list[int]):
        super().__init__()
        self.model = model
        device = reference(model).device  # the table is created on the model's device, so no evaluation has to move it
        self.register_buffer("times", torch.tensor([0, *times], device=device), persistent=False)

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the estimate of x, and v if the variance is learned."""
        own = self.times.to(t.device)[t]
        prediction, v = self.model.predict(z_t, own, cond)
        x_hat = self.model.x_from(prediction, z_t, own)
        return x_hat if v is None else (x_hat, v)
