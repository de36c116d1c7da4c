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
MOST_AT_ONCE = 2**24  # numbers


class Muon(torch.optim.Optimizer):
    """For parameters of two or more dimensions; beyond the first they are taken as the columns of one matrix.

    Source: Jordan et al. 2024, with Nesterov momentum, decoupled weight decay, and a learning rate scaled by
    sqrt(max(1, rows / columns)).

    Args:
        params: What moves.
        lr: Learning rate.
        momentum: Memory of the mean gradient.
        weight_decay: Share of the learning rate by which weights shrink.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

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
            for alike in batches(moving):
                gradients = [p.grad for p in alike if p.grad is not None]  # all have one
                momenta = [self.state[p]["momentum"] for p in alike]
                means = [m.lerp(gradient, 1 - group["momentum"]) for m, gradient in zip(momenta, gradients)]
                aheads = [
                    whole(gradient.lerp(mean, group["momentum"])).flatten(1) for gradient, mean in zip(gradients, means)
                ]
                lying = orthogonalised(torch.stack([_lying(ahead) for ahead in aheads])).unbind()
                for p, momentum, mean, ahead, update in zip(alike, momenta, means, aheads, lying):
                    rows, columns = ahead.shape
                    step = (update if rows <= columns else update.mT).reshape(p.shape)
                    moved = p * (1 - group["lr"] * group["weight_decay"])
                    moved.add_(cut(step, p), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
                    for tensor, new in ((momentum, mean), (p, moved)):
                        kept = part(new) if skip is None else torch.where(skip > 0, part(tensor), part(new))
                        part(tensor).copy_(kept)


def batches(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Those that are orthogonalised at once: of one shape, standing or lying.

    So many that their copies stay small beside a model, also of tensors that processes hold in parts; the same ones
    however they are held, so that a step comes to the same bits.
    """
    alike: dict[tuple[int, int], list[Tensor]] = {}
    for p in parameters:
        sizes = (len(p), p[0].numel())
        alike.setdefault((min(sizes), max(sizes)), []).append(p)
    found = []
    for (rows, columns), those in alike.items():
        size = max(1, MOST_AT_ONCE // (rows * columns))
        found += [those[start : start + size] for start in range(0, len(those), size)]
    return found


def _lying(matrix: Tensor) -> Tensor:
    """With no more rows than columns."""
    return matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT


def orthogonalised(matrix: Tensor) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T: a quintic iteration that drives all of S near 1.

    Of one matrix (rows, columns), or of each of a batch of them. The iteration X <- (a + b G + c G^2) X with G = X X^T
    multiplies X from the left by polynomials of the first G alone, so it is done on the smaller of the two squares, and X
    is multiplied once: a third of the work where columns are nine times as many. In float32 the smallest singular
    values, below 1e-3 of the largest, are then off by some thousandths of 1.
    """
    a, b, c = NEWTON_SCHULZ
    lying = _lying(matrix)
    x = lying / (torch.linalg.vector_norm(lying, dim=(-2, -1), keepdim=True) + 1e-7)
    gram = x @ x.mT
    factors = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        factor = b * gram + c * gram @ gram
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        factors = factor @ factors
        gram = factor @ gram @ factor
    x = factors @ x
    return x if lying is matrix else x.mT
