"""A denoiser of another library, with its own numbering of steps and its own form of a learned variance."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kakusan.errors import InputError
from kakusan.models.networks import tensor_of


class Wrapped(nn.Module):
    """Denoiser that calls a module with that module's own step numbers.

    Args:
        module: Called as module(z_t, steps), or module(z_t, steps, cond).
        first: The module's number for our t = 1, the first noisy level: 0 or 1.
        time_scale: Factor of the step numbers, e.g. 1000 / T for OpenAI's `rescale_timesteps`.
        learned_range: Whether the output has twice the channels. The second half is then r, and the log-variance is
            v log beta + (1 - v) log beta_tilde with v = (r + 1) / 2. r may lie outside [-1, 1].

    Source of the learned range: Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672, equation 15.
    """

    bounded = False  # v may lie outside [0, 1], as in the published code

    def __init__(self, module: nn.Module, first: int, time_scale: float = 1.0, learned_range: bool = False):
        super().__init__()
        if not isinstance(module, nn.Module):
            raise InputError(f"wrap takes an nn.Module, got {type(module).__name__}; put the function into a module")
        if first not in (0, 1) or isinstance(first, bool):
            raise InputError(f"first must be 0 or 1, the module's own number of the first noisy level, got {first!r}")
        self.module, self.shift = module, first - 1
        self.time_scale, self.learned_range = time_scale, learned_range

    def forward(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Any:
        """Return the prediction for t in 1..T, and v with a learned range."""
        steps = t + self.shift
        steps = steps if self.time_scale == 1 else steps * self.time_scale
        output = tensor_of(self.module(z_t, steps) if cond is None else self.module(z_t, steps, cond))
        if not self.learned_range:
            return output
        if not isinstance(output, Tensor) or output.dim() < 2 or output.shape[1] != 2 * z_t.shape[1]:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(
                f"a learned range needs an output of {2 * z_t.shape[1]} channels for inputs of {z_t.shape[1]}, "
                f"got {found}; omit learned_range if the network predicts no variance"
            )
        prediction, r = output.chunk(2, dim=1)
        return prediction, (r + 1) / 2
