"""Latents of given examples: how each model family encodes, interpolates and decodes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kakusan.errors import InputError
from kakusan.likelihood.step_groups import default_law
from kakusan.models.mixture import split
from kakusan.noise import randn
from kakusan.solvers import Solver, solver_named
from kakusan.solvers.inversion import invert
from kakusan.solvers.loop import solve
from kakusan.solvers.time_grid import times as grid

if TYPE_CHECKING:
    from kakusan.models.diffusion import Diffusion

INVERSION_STEPS = 50
INVERSION_SOLVER = "ddim"
NO_EARLY_END = 100.0  # log SNR
PARALLEL = 1e-6  # sine of an angle below which two latents count as parallel


class MeanLatents:
    """Latents of a chain with a learned encoder: the means of q(z_t | z_{t-1}), from the data upward.

    Attributes:
        chain: The chain without its classes.
        classes: Its classes, or None.
    """

    def __init__(self, model: Any):
        self.chain, self.classes = split(model)
        self._model = model

    def cond_of(self, x: Tensor) -> Tensor | None:
        """Return the class of each example, int64 (b,): the known one, or the one of largest responsibility."""
        if self.classes is None:
            return None
        k = self.classes.of(x)
        return self._model.responsibilities(x).argmax(1) if k is None else k

    @torch.no_grad()
    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Encode x. Returns z_1 for depth 1; otherwise z_1, ..., z_L flattened and concatenated along the last axis."""
        means = [x]
        for t in range(1, self.chain.depth + 1):
            means.append(self.chain.encode(means[-1], t, cond).mean)
        return means[1] if len(means) == 2 else torch.cat([mean.flatten(1) for mean in means[1:]], 1)

    @torch.no_grad()
    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the mean of p(x | z_1), on the model's scale."""
        if self.chain.depth > 1:
            shape = self.chain.latent_shapes[0]
            z = z[:, : torch.Size(shape).numel()].unflatten(1, shape)
        return self.chain.decode(z, 1, cond).mean

    def through(self, x: Tensor, t: int, streams: list[torch.Generator], cond: Tensor | None = None) -> Tensor:
        """Draw z_1, ..., z_t from q, go back to z_1 through the decoder's means, and return the mean of p(x | z_1)."""
        if not 1 <= t <= self.chain.depth:
            raise InputError(f"t must lie in 1..{self.chain.depth}, the model's levels, got {t}")
        with torch.no_grad():
            z = x
            for level in range(1, t + 1):
                z = self.chain.encode(z, level, cond).sample(streams)
            for level in range(t, 0, -1):
                z = self.chain.decode(z, level, cond).mean
        return z

    def estimates(self, x: Tensor, num: int, generator: torch.Generator, cond: Tensor | None = None) -> list[Tensor]:
        """Return estimates of x from `num` draws of z_1."""
        first = self.chain.encode(x, 1, cond)
        return [self.chain.decode(first.sample(generator), 1, cond).mean for _ in range(num)]

    def between(self, a: Tensor, b: Tensor, share: float) -> Tensor:
        """Return latents on the straight line from a (share 0) to b (share 1)."""
        return (1 - share) * a + share * b


class SimplexLatents(MeanLatents):
    """Latents of counts: posterior means of the category probabilities. They cannot be decoded."""

    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Raise InputError, because the total count is not part of the latents."""
        raise InputError(
            "counts are encoded, not reconstructed or interpolated: their latents are category probabilities; "
            "use encode, or sample"
        )

    def through(self, x: Tensor, t: int, streams: list[torch.Generator], cond: Tensor | None = None) -> Tensor:
        """Raise InputError, because counts have no reconstruction."""
        return self.decode(x)


class NoiseLatents(MeanLatents):
    """Latents z_T of a diffusion chain by deterministic inversion of its solver, without guidance.

    Args:
        model: A `Diffusion`, or a `Mixture` of them.
        steps: Number of steps in each direction; default: 50, or T if smaller.
        solver: A deterministic solver or its name; default: "ddim".
    """

    chain: Diffusion

    def __init__(self, model: Any, steps: int | None = None, solver: Solver | str | None = None):
        super().__init__(model)
        chosen = INVERSION_SOLVER if solver is None else solver
        self.solver = solver_named(chosen) if isinstance(chosen, str) else chosen
        num = min(INVERSION_STEPS, self.chain.depth) if steps is None else steps
        self.times = grid(self.chain.schedule, num, "karras", NO_EARLY_END)

    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return z_T, in the shape of x."""
        return invert(self.chain, x, self.solver, self.times, cond=cond)

    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Solve from z_T to the data; the last step returns the estimate of x."""
        return solve(self.chain, z, self.solver, self.times, cond=cond)

    def through(self, x: Tensor, t: int, streams: list[torch.Generator], cond: Tensor | None = None) -> Tensor:
        """Draw z_t ~ q(z_t | x), and solve from there to the data.

        Source: Meng et al. 2022, SDEdit, https://arxiv.org/abs/2108.01073, algorithm 1.
        """
        if not 1 <= t <= self.chain.depth:
            raise InputError(f"t must lie in 1..{self.chain.depth}, the model's timesteps, got {t}")
        z = self.chain.marginal(x, t).sample(streams)
        return solve(self.chain, z, self.solver, [*(s for s in self.times if s < t), t], cond=cond)

    def estimates(self, x: Tensor, num: int, generator: torch.Generator, cond: Tensor | None = None) -> list[Tensor]:
        """Return estimates of x at `num` noise levels, whose intervals each cost about equally many nats of the bound."""
        chain, eps = self.chain, randn((1, *x.shape[1:]), generator, x.dtype, x.device)
        found = []
        for t in default_law(chain).draw(num, generator).tolist():
            q = chain.marginal(x, t)
            found.append(chain.data_estimate(q.mean + q.std * eps, t, cond))
        return found

    def between(self, a: Tensor, b: Tensor, share: float) -> Tensor:
        """Return latents on the great circle from a to b, which preserves the norm of Gaussian noise.

        Source: Shoemake 1985, https://doi.org/10.1145/325165.325242, equation 2.
        """
        flat_a, flat_b = a.flatten(1).double(), b.flatten(1).double()
        angle = torch.nn.functional.cosine_similarity(flat_a, flat_b).clamp(-1, 1).acos()[:, None]
        sine = angle.sin()
        weight_a = torch.where(sine > PARALLEL, ((1 - share) * angle).sin() / sine, 1 - share)
        weight_b = torch.where(sine > PARALLEL, (share * angle).sin() / sine, share)
        return (weight_a * flat_a + weight_b * flat_b).view_as(a).to(a.dtype)


def refuse_solver(model: Any, steps: int | None, solver: Any) -> None:
    """Raise InputError if options of diffusion models are given for another model."""
    if steps is not None or solver is not None:
        raise InputError(f"steps and solver are for diffusion models; omit them for {model.recipe.name}")
