"""Muon: momentum whose update is the nearest orthogonal matrix, for hidden weights.

torch.optim.Muon does the same, in bfloat16 and for 2-D parameters alone: on a CPU without bfloat16 units it took
four times as long as this float32 form (docs/log.md), a third of a training step, and convolutions are 4-D.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from kakusan.train.engine import cut, part, whole

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For parameters of two or more dimensions; beyond the first they are taken as the columns of one matrix.

    Source: Jordan et al. 2024, with Nesterov momentum, decoupled weight decay, and a learning rate scaled by
    sqrt(max(1, rows / columns)).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient, unless `found_inf` is set; a closure is not supported."""
        assert closure is None
        skip: Tensor | None = getattr(self, "found_inf", None)  # torch's own name for it, as its fused optimisers have
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                mean = state["momentum"].lerp(p.grad, 1 - group["momentum"])
                ahead = whole(p.grad.lerp(mean, group["momentum"])).flatten(1)
                rows, columns = ahead.shape
                update = cut(orthogonalised(ahead).view(p.shape), p)
                moved = p * (1 - group["lr"] * group["weight_decay"])
                moved.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
                for tensor, new in ((state["momentum"], mean), (p, moved)):
                    part(tensor).copy_(part(new) if skip is None else torch.where(skip > 0, part(tensor), part(new)))


def orthogonalised(matrix: Tensor) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T: a quintic iteration that drives all of S near 1."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide is matrix else x.T
