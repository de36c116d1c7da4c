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

    Args:
        params: What moves.
        lr: Learning rate.
        momentum: Memory of the mean gradient.
        weight_decay: Share of the learning rate by which weights shrink.
        together: Orthogonalise matrices of one shape as one batch, the same but for rounding: on a GPU, unless told,
            where it saves a few hundred launches a step.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        together: bool | None = None,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.together = together

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient, unless `found_inf` is set; a closure is not supported."""
        assert closure is None
        skip: Tensor | None = getattr(self, "found_inf", None)  # torch's own name for it, as its fused optimisers have
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            for p in moving:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            for alike in self._batches(moving):
                gradients = [p.grad for p in alike if p.grad is not None]  # all have one
                momenta = [self.state[p]["momentum"] for p in alike]
                means = [m.lerp(gradient, 1 - group["momentum"]) for m, gradient in zip(momenta, gradients)]
                aheads = [
                    whole(gradient.lerp(mean, group["momentum"])).flatten(1) for gradient, mean in zip(gradients, means)
                ]
                rows, columns = aheads[0].shape
                single = len(aheads) == 1
                updates = [orthogonalised(aheads[0])] if single else orthogonalised(torch.stack(aheads)).unbind()
                for p, momentum, mean, update in zip(alike, momenta, means, updates):
                    moved = p * (1 - group["lr"] * group["weight_decay"])
                    moved.add_(cut(update.view(p.shape), p), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
                    for tensor, new in ((momentum, mean), (p, moved)):
                        kept = part(new) if skip is None else torch.where(skip > 0, part(tensor), part(new))
                        part(tensor).copy_(kept)

    def _batches(self, moving: list[Tensor]) -> list[list[Tensor]]:
        """Those to be orthogonalised at once; held in parts, each alone."""
        batches: dict[object, list[Tensor]] = {}
        for number, p in enumerate(moving):
            together = (p.device.type != "cpu" if self.together is None else self.together) and part(p) is p
            batches.setdefault((len(p), p[0].numel()) if together else number, []).append(p)
        return list(batches.values())


def orthogonalised(matrix: Tensor) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T: a quintic iteration that drives all of S near 1.

    Of one matrix (rows, columns), or of each of a batch of them.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT
    x = wide / (torch.linalg.vector_norm(wide, dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide is matrix else x.mT
