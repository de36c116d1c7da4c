"""Muon: momentum whose update is the nearest orthogonal matrix, for hidden weights.

torch.optim.Muon computes in bfloat16 and accepts only 2-D parameters, but convolutions are 4-D. On a CPU without
bfloat16 units it took four times as long as this float32 version: a third of a training step (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
MOST_AT_ONCE = 2**24  # values in a batch of matrices


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two or more dimensions; all dimensions after the first form the columns of a matrix.

    Source: Jordan et al. 2024, with Nesterov momentum, decoupled weight decay, and a learning rate scaled by
    sqrt(max(1, rows / columns)).

    Args:
        params: Parameters to optimize.
        lr: Learning rate.
        momentum: Decay of the gradient's running mean.
        weight_decay: Decoupled weight decay, multiplied by the learning rate.
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
        """Update every parameter that has a gradient, unless `found_inf` is set. A closure is not supported."""
        assert closure is None
        skip: Tensor | None = getattr(self, "found_inf", None)  # the name that torch's fused optimizers use
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            for p in moving:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            for alike in batches(moving):
                aheads = [self._ahead(p, group["momentum"], skip) for p in alike]
                updates = orthogonalized(torch.stack([_lying(ahead) for ahead in aheads]))
                moves = 1.0
                if skip is not None:
                    moves = 1.0 - skip
                    updates *= moves
                for p, ahead, update in zip(alike, aheads, updates.unbind()):
                    rows, columns = ahead.shape
                    step = update if rows <= columns else update.mT
                    step = step.reshape(rows, *p.shape[2:], p.shape[1]).movedim(-1, 1)
                    p.mul_(1 - moves * (group["lr"] * group["weight_decay"]))
                    p.add_(step, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _ahead(self, p: Tensor, momentum: float, skip: Tensor | None) -> Tensor:
        """Update the running mean of the gradient; return the Nesterov look-ahead as a matrix."""
        gradient, mean = p.grad, self.state[p]["momentum"]
        assert gradient is not None
        if skip is not None:  # replacing the gradient by the mean leaves the mean unchanged
            gradient.copy_(torch.where(skip > 0, mean, gradient))
        mean.lerp_(gradient, 1 - momentum)
        # puts the columns of a kernel in memory order, with input channels last
        return gradient.lerp(mean, momentum).movedim(1, -1).flatten(1)


def batches(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Group parameters by matrix shape, up to transposition, and return the groups.

    A batch holds at most `MOST_AT_ONCE` numbers, so that the copies stay small compared with a model.
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
    """Return the matrix, transposed if it has more rows than columns."""
    return matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT


def orthogonalized(matrix: Tensor) -> Tensor:
    """Approximate U V^T of a singular value decomposition U S V^T by a quintic Newton-Schulz iteration.

    The argument is a matrix (rows, columns) or a batch of matrices. The iteration X <- (a + b G + c G^2) X with G = X X^T
    multiplies X from the left by polynomials of the first G. So only the small square matrix is iterated, and X is
    multiplied once. With nine times as many columns as rows this saves two thirds of the work.
    The precision is at least float32. If singular values span many orders of magnitude, the error reaches 0.002.
    TF32 is too coarse.
    """
    a, b, c = NEWTON_SCHULZ
    lying = _lying(matrix)
    x = lying.to(torch.promote_types(lying.dtype, torch.float32))
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
    x = x.reshape(-1, *x.shape[-2:])
    gram = x.bmm(x.mT)
    factors = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand_as(gram)
    for _ in range(ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        factors = factor.bmm(factors)
        gram = factor.bmm(gram).bmm(factor)
    x = factors.bmm(x).view_as(lying).to(lying.dtype)
    return x if lying is matrix else x.mT
