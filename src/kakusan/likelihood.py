"""Bits per dimension of a data set, by term, with a standard error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from kakusan.diffusion import Diffusion
from kakusan.distributions import add
from kakusan.noise import Randomness, stream
from kakusan.steps import StepLaw
from kakusan.units import bits_per_dim

PILOT_CALLS = 256
PILOT_BINS = 24
UNIFORM_SHARE = 0.1  # of the step distribution, against a pilot that was too sure of itself

GetBatch = Callable[[Tensor], Tensor]  # indices -> x in the model's scale


Terms = Callable[[Tensor, Randomness], dict[str, Tensor]]  # x -> nats of each term for each example


def spread(standard_error: float | None) -> str:
    """For people; one example has no spread."""
    return "?" if standard_error is None else f"{standard_error:.4f}"


@dataclass(frozen=True)
class Evaluation:
    """A bound on the log-likelihood of a data set, as rates: lower is better."""

    bits_per_dim: float
    standard_error: float | None  # of bits_per_dim: images drawn from a population, and noise; None for one image
    nats: float  # minus the bound, per example
    bits_per_example: float
    num_images: int
    num_dims: int
    network_evaluations: int
    terms: dict[str, float]  # bits per dimension; they sum to bits_per_dim
    estimator: str

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.bits_per_dim:.4f} ± {spread(self.standard_error)} bits/dim"


def summarise(
    terms: dict[str, Tensor], num_dims: int, calls: int, estimator: str, offset_nats: float = 0.0
) -> Evaluation:
    """From nats of each term for each example (b,), every example once.

    offset_nats is added to the bound of each example, e.g. num_dims * log(bin width) for a density of grid values.
    """
    terms = {name: value.double() for name, value in terms.items()}
    if offset_nats:
        shape = next(iter(terms.values()))
        terms["grid"] = torch.full_like(shape, offset_nats)
    total = add(terms.values())
    num = len(total)
    spread = total.std().item() / math.sqrt(num) if num > 1 else None
    mean = total.mean().item()
    return Evaluation(
        bits_per_dim=bits_per_dim(mean, num_dims),
        standard_error=None if spread is None else -bits_per_dim(spread, num_dims),
        nats=-mean,
        bits_per_example=bits_per_dim(mean, 1),
        num_images=num,
        num_dims=num_dims,
        network_evaluations=calls,
        terms={name: bits_per_dim(value.mean().item(), num_dims) for name, value in terms.items()},
        estimator=estimator,
    )


@torch.no_grad()
def of_terms(
    terms: Terms,
    batch: GetBatch,
    num: int,
    num_dims: int,
    calls: int,
    estimator: str,
    seed: int = 0,
    size: int = 500,
    offset_nats: float = 0.0,
) -> Evaluation:
    """Of a chain by terms whose sum is an unbiased estimate of its bound; every example once.

    Args:
        terms: (x, generator) -> nats of each term for each example.
        batch: The data.
        num: How many examples there are.
        num_dims: Scalars in one.
        calls: Network calls that `terms` makes for one example.
        estimator: What it does, in words.
        seed: Of the draws.
        size: Examples at a time.
        offset_nats: See `summarise`.
    """
    collected: dict[str, list[Tensor]] = {}
    for indices in torch.arange(num).split(size):
        values = terms(batch(indices), stream(seed, "evaluate", int(indices[0])))
        for name, value in values.items():
            collected.setdefault(name, []).append(value.cpu())
    joined = {name: torch.cat(values) for name, values in collected.items()}
    return summarise(joined, num_dims, calls * num, estimator, offset_nats)


@torch.no_grad()
def pilot(model: Diffusion, batch: GetBatch, num: int, seed: int = 0, calls: int = PILOT_CALLS) -> tuple[StepLaw, int]:
    """A step law near the best one, p(t) proportional to sqrt(E cost_t^2) (M6.6), from a few hundred calls.

    Steps are grouped in bins of equal log-SNR width; t = 1, whose term is of another kind, has its own. Also
    returned is how many network calls it took; short chains are asked uniformly, without any.
    """
    depth = model.depth
    generator = stream(seed, "pilot")
    if depth < PILOT_BINS:
        return StepLaw.uniform(depth), 0
    log_snr = model.schedule.log_snr[2:]
    edges = torch.linspace(log_snr[0].item(), log_snr[-1].item(), PILOT_BINS, dtype=torch.float64)
    bin_of = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.bucketize(-log_snr, -edges[1:-1])])
    occupied = bin_of.unique()
    per_bin = max(4, calls // len(occupied))
    t = torch.cat(
        [
            (bin_of == b).nonzero()[:, 0][torch.randint(int((bin_of == b).sum()), (per_bin,), generator=generator)] + 1
            for b in occupied
        ]
    )
    examples = torch.randint(num, (len(t),), generator=generator)
    costs = _costs(model, batch, examples, t, generator)
    scale = torch.zeros(PILOT_BINS + 1, dtype=torch.float64)
    for b in occupied:
        scale[b] = costs[bin_of[t - 1] == b].square().mean().sqrt()
    best = scale[bin_of]
    return StepLaw((1 - UNIFORM_SHARE) * best / best.sum() + UNIFORM_SHARE / depth), len(t)


@torch.no_grad()
def of_diffusion(
    model: Diffusion, batch: GetBatch, num: int, law: StepLaw | None = None, seed: int = 0, offset_nats: float = 0.0
) -> Evaluation:
    """Of a diffusion model with one network call for each example.

    Example i is asked about one step t_i, and its cost divided by the step's probability: with the prior term in
    closed form this is unbiased for its ELBO (M5, KL form). The t_i are stratified over the data set, and the
    standard error, which ignores that, is on the safe side.
    """
    calls = num
    if law is None:
        law, pilot_calls = pilot(model, batch, num, seed)
        calls += pilot_calls
    generator = stream(seed, "evaluate")
    t = law.draw(num, generator)
    examples = torch.arange(num)
    weighted = _costs(model, batch, examples, t, generator) / law.prob(t)
    first = t == 1
    zero = torch.zeros_like(weighted)
    prior = torch.cat([model.prior_kl(batch(part)).cpu() for part in examples.split(1000)])
    terms = {
        "prior": -prior,
        "diffusion": -torch.where(first, zero, weighted),
        "reconstruction": -torch.where(first, weighted, zero),
    }
    return summarise(terms, model.num_dims, calls, "one step an image, importance-sampled and stratified", offset_nats)


def _costs(
    model: Diffusion, batch: GetBatch, examples: Tensor, t: Tensor, generator: torch.Generator, size: int = 250
) -> Tensor:
    """step_cost of some examples at some steps, float64 (n,), in chunks."""
    costs = []
    for rows in torch.arange(len(t)).split(size):
        x = batch(examples[rows])
        steps = t[rows].to(x.device)
        z_t = model.marginal(x, steps).sample(generator)
        costs.append(model.step_cost(x, z_t, steps).double().cpu())
    return torch.cat(costs)


@torch.no_grad()
def three_estimates(
    model: Diffusion,
    batch: GetBatch,
    num: int,
    seed: int = 0,
    images: int = 4,
    paths: int = 2,
    offset_nats: float = 0.0,
) -> dict[str, dict[str, float]]:
    """The same ELBO of the same few examples from whole paths, from pairs and from single latents (S43).

    Args:
        model: The model.
        batch: The data.
        num: How many examples there are.
        seed: Of the noise.
        images: How many examples to ask about, the first ones.
        paths: Paths for each, at least 2; pairs and singles get as many network calls as those cost.
        offset_nats: See `summarise`.

    Returns:
        For each estimator its mean and Monte-Carlo standard error in bits/dim, its network calls, and how many
        standard errors of the difference it lies from the path's.
    """
    x = batch(torch.arange(min(images, num)))
    calls = paths * model.depth
    estimates = {
        "path": _draws(model.elbo_path, x, paths, stream(seed, "path")),
        "pair": _draws(model.elbo_pair, x, calls, stream(seed, "pair")),
        "single": _draws(model.elbo_single, x, calls, stream(seed, "single")),
    }
    result: dict[str, dict[str, float]] = {}
    for name, draws in estimates.items():
        error = (draws.var(dim=1) / draws.shape[1]).mean().sqrt().item() / math.sqrt(len(x))
        mean = bits_per_dim(draws.mean().item() + offset_nats, model.num_dims)
        result[name] = {
            "bits_per_dim": mean,
            "standard_error": -bits_per_dim(error, model.num_dims),
            "network_evaluations": len(x) * calls,
        }
        if name != "path":
            path = result["path"]
            both = math.hypot(result[name]["standard_error"], path["standard_error"])
            result[name]["errors_from_path"] = (mean - path["bits_per_dim"]) / both if both else 0.0
    return result


def _draws(
    estimate: Callable[[Tensor, torch.Generator], Tensor],
    x: Tensor,
    repeats: int,
    generator: torch.Generator,
    size: int = 250,
) -> Tensor:
    """`repeats` estimates for each example, float64 (len(x), repeats), in chunks."""
    rows = torch.arange(len(x)).repeat_interleave(repeats)
    parts = [estimate(x[part.to(x.device)], generator).double().cpu() for part in rows.split(size)]
    return torch.cat(parts).view(len(x), repeats)
