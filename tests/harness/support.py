"""Shared helpers: the oracles, exact averages over Gaussian noise, and checks at 4.5 standard errors."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kakusan.cli import main
from kakusan.models.diffusion import Diffusion
from kakusan.noise import Randomness
from kakusan.schedule import Schedule
from kakusan.solvers import Solver, SolverStep, solve

F64 = torch.float64
SMALL_BETAS = [0.1, 0.2, 0.35, 0.5, 0.7]

# |z| > 4.5 has probability 7e-6 for a right estimator; seeds are fixed, so a test that passes once passes always
LIMIT = 4.5


def status(*arguments: object) -> int | str | None:
    """Run the command in this process; return its exit status."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int | str | None, str, str]:
    """Run the command in this process; return exit status, stdout and stderr."""
    code = status(*arguments)
    return code, *capsys.readouterr()


def oracle(name: str) -> dict:
    """The cases of one file of tests/oracles: exact values from tests/oracles/make.

    In these files `seed` means the study notes' form, and position t-1 of an array holds step t.
    """
    return json.loads((Path(__file__).parent.parent / "oracles" / f"{name}.json").read_text())["cases"]


def f64(values) -> Tensor:
    return torch.tensor(values, dtype=F64)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gauss_hermite(dims: int) -> tuple[Tensor, Tensor]:
    """Nodes (3^dims, dims) and weights: E f(eps), eps ~ N(0, I), without error for f of degree <= 5 in each coordinate.

    Log-densities of linear-Gaussian models have degree 2, their squares degree 4: their means and variances are exact.
    """
    root = math.sqrt(3)
    nodes = torch.tensor(list(itertools.product((-root, 0.0, root), repeat=dims)), dtype=F64)
    weights = torch.where(nodes == 0, f64(2 / 3), f64(1 / 6)).prod(1)
    return nodes, weights


def mean_of(values: Tensor, weights: Tensor) -> float:
    return (values * weights).sum().item()


def standard_errors_off(draws: Tensor, expected) -> Tensor:
    """Distance of the mean of draws (n, ...) from the expected value, in standard errors."""
    return ((draws.mean(0) - expected) / (draws.std(0) / math.sqrt(len(draws)))).abs()


def assert_mean(draws: Tensor, expected) -> None:
    """Check the mean of draws at 4.5 standard errors; false-alarm rate 7e-6 per entry."""
    off = standard_errors_off(draws, expected)
    assert (off < LIMIT).all(), f"{off.max().item():.1f} standard errors off"


def assert_variance(draws: Tensor, expected) -> None:
    """Check the sample variance at 4.5 standard errors of the mean of squared deviations."""
    assert_mean((draws - draws.mean(0)).square(), expected)


def assert_covariance(draws: Tensor, expected: Tensor) -> None:
    """Check the covariance (d, d) of draws (n, d) entry by entry at 4.5 standard errors."""
    centred = draws - draws.mean(0)
    assert_mean(centred[:, :, None] * centred[:, None, :], expected)


def normal_log_prob(x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    return torch.distributions.MultivariateNormal(mean, cov).log_prob(x)


def affine_map(function, dims: int) -> tuple[Tensor, Tensor]:
    """(A, b) of an affine function z -> A z + b on rows, from its values at 0 and at the unit vectors."""
    values = function(torch.cat([torch.zeros(1, dims, dtype=F64), torch.eye(dims, dtype=F64)]))
    return (values[1:] - values[0]).T, values[0]


def generated_law(chain, dims: list[int], mean_output: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and covariance of p(x) of a chain with affine decoders, computed without sampling.

    Args:
        chain: Chain of depth T.
        dims: Dimensions of z_1, ..., z_T.
        mean_output: Return the law of the decoder's mean, without the last noise.
    """
    mean, cov = torch.zeros(dims[-1], dtype=F64), torch.eye(dims[-1], dtype=F64)
    for t in range(chain.depth, 0, -1):
        matrix, shift = affine_map(lambda z, t=t: chain.decode(z, t).mean, dims[t - 1])
        mean, cov = matrix @ mean + shift, matrix @ cov @ matrix.T
        if not (t == 1 and mean_output):
            at_zero = chain.decode(torch.zeros(1, dims[t - 1], dtype=F64), t)
            cov = cov + at_zero.var.expand_as(at_zero.mean)[0].diag()
    return mean, cov


def drawn(
    solver: Solver,
    model: Diffusion,
    n: int,
    randomness: Randomness = None,
    times: Sequence[int] | None = None,
    callback: Callable[[SolverStep], None] | None = None,
) -> Tensor:
    """n samples of a solver that starts from the prior and visits all steps, or the listed ones."""
    z = model.prior().expand(n).sample(randomness)
    return solve(model, z, solver, times or range(1, model.depth + 1), randomness=randomness, callback=callback)


def steps_of(
    solver: Solver, model: Diffusion, n: int, randomness: Randomness = None, times: Sequence[int] | None = None
) -> list[SolverStep]:
    """Each step of `drawn`, in order."""
    steps: list[SolverStep] = []
    drawn(solver, model, n, randomness, times, steps.append)
    return steps


# The small diffusion model of oracles O12 to O15: T = 5, D = 2, affine denoisers of the reverse mean

VARIANCES = {
    "unit_seed": "unit",
    "beta": "beta",
    "beta_tilde_t1_takes_beta_tilde_2": "beta_tilde",
    "learned_diag": "learned",
}


def affine_diffusion(denoiser: str, variance: str, **options) -> Diffusion:
    """Model of O12 with the "arbitrary" or "optimal" denoiser and a variance by its name in the oracle."""
    setting = oracle("diffusion_linear_T5_D2")["setting"]
    tables = {**setting["inputs"], **setting["outputs"]}
    matrices, shifts = f64(tables[f"A_{denoiser}"]), f64(tables[f"b_{denoiser}"])
    v = f64(setting["inputs"]["learned_interpolation_v_per_dimension"])

    def mean(z, t):
        out = torch.einsum("bij,bj->bi", matrices[t - 1], z) + shifts[t - 1]
        return (out, v.expand_as(out)) if VARIANCES[variance] == "learned" else out

    options = {"prediction": "mean", **options}
    return Diffusion(mean, Schedule.from_betas(SMALL_BETAS), 2, variance=VARIANCES[variance], **options).double()


def gaussian_x_denoiser(schedule: Schedule, mean: Tensor, cov: Tensor):
    """E[x | z_t] for x ~ N(mean, cov), as a denoiser for prediction="x" (theory M8, oracle O12)."""
    power, eye = schedule.alpha_bar, torch.eye(len(mean), dtype=F64)
    inverse = torch.linalg.inv(power[1:, None, None] * cov + schedule.noise_var[1:, None, None] * eye)
    gain = torch.cat([eye[None], power[1:].sqrt()[:, None, None] * cov @ inverse])  # index 0 is the data

    def denoiser(z, t):
        return mean + torch.einsum("bij,bj->bi", gain[t], z - power[t].sqrt()[:, None] * mean)

    return denoiser
