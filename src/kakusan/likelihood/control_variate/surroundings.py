"""Distance of each pixel from the value that its surroundings predict; unusual pixels are the hardest to denoise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

REACH = 2  # pixels to each side: 24 neighbors
ENOUGH = 400_000  # values that suffice to fit the prediction
AT_ONCE = 100_000  # values at a time; their surroundings take 25 times their memory
RIDGE = 1e-6  # share of the mean square added to each direction, for directions in which all examples are equal


class Surroundings:
    """Best affine prediction of a value from its neighbors by least squares, the same at every position."""

    def __init__(self, images: Tensor):
        """Fit the prediction to images (n, C, H, W), n >= 1, or to as many of them as suffice."""
        width = (2 * REACH + 1) ** 2
        self._center = width // 2
        squares = torch.zeros(width + 1, width + 1, dtype=torch.float64)
        each = images[0].numel()
        for part in images[: max(1, ENOUGH // each)].split(max(1, AT_ONCE // each)):
            patches = F.unfold(_padded(part), 2 * REACH + 1).transpose(1, 2).reshape(-1, width).double()
            known = torch.cat([patches, torch.ones(len(patches), 1, dtype=torch.float64)], 1)
            squares += known.T @ known
        others = [k for k in range(width + 1) if k != self._center]
        gram, right = squares[others][:, others], squares[others, self._center]
        penalty = RIDGE * (squares.diag()[:-1].mean() + squares[-1, -1])
        weights = torch.linalg.solve(gram + penalty * torch.eye(width, dtype=torch.float64), right)
        kernel = torch.zeros(width, dtype=torch.float64)
        kernel[: self._center], kernel[self._center + 1 :] = weights[: self._center], weights[self._center : -1]
        self._kernel, self._constant = kernel.view(1, 1, 2 * REACH + 1, -1), weights[-1].item()

    def off(self, x: Tensor) -> Tensor:
        """Return x minus its prediction, in the shape of x (n, C, H, W)."""
        return x - (F.conv2d(_padded(x), self._kernel.to(x)) + self._constant).view_as(x)


def _padded(x: Tensor) -> Tensor:
    """Images with one channel each and a repeated border, (n * C, 1, H + 2 REACH, W + 2 REACH)."""
    return F.pad(x.flatten(0, 1)[:, None], [REACH] * 4, mode="replicate")
