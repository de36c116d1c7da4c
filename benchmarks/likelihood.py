"""Accuracy and cost of a reported bound: coverage in a world with a known answer, and variance on a trained run.

    python benchmarks/likelihood.py                     2,000 replicates of the control-variate estimator
    python benchmarks/likelihood.py runs/demo           variance on that run at equal NFE, compared with uniform t

Prints one JSON object.
"""

from __future__ import annotations

import json
import math
import sys

import torch

from kakusan.data.open import open_data
from kakusan.distributions import add
from kakusan.likelihood.diffusion import of_diffusion
from kakusan.likelihood.evaluation import summarize
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture
from kakusan.oracles import MixtureWorld
from kakusan.run.trained_model import load
from kakusan.schedule import Schedule
from kakusan.timesteps import StepLaw

REPLICATES, EXAMPLES, DEPTH = 2000, 1000, 40


def coverage() -> dict[str, float]:
    """Share of 95 % intervals that hold the exact mean bound of a mixture world, with new examples each time."""
    world = MixtureWorld([0.3, 0.7], [[-0.6], [0.5]], [[[0.04]], [[0.09]]])
    betas = Schedule.linear(DEPTH, 0.1 / DEPTH, 20 / DEPTH).beta[1:].tolist()
    model = Diffusion(
        world.network(betas, "x"), Schedule.from_betas(betas), 1, prediction="x", variance="beta"
    ).double()
    exact = world.mean_bound(betas).elbo.item()
    inside = 0
    for k in range(REPLICATES):
        x = world.sample(EXAMPLES, torch.Generator().manual_seed(k))
        estimate = of_diffusion(model, lambda rows, x=x: x[rows], EXAMPLES, seed=k)
        off = add(estimate.terms.values()).mean().item() - exact
        inside += abs(off) < 1.96 * math.sqrt(estimate.var or math.nan)
    return {"replicates": REPLICATES, "examples": EXAMPLES, "depth": DEPTH, "covered": inside / REPLICATES}


def variance(run: str) -> dict[str, float]:
    """Monte Carlo variance of the bound at one evaluation per example: ours, without the control variate, and plain."""
    model = load(run)
    assert model.diffusion is not None, "a diffusion run"
    assert isinstance(model.chain, Diffusion | Mixture)
    data = open_data(model.recipe.data).test
    batch, num = model.batches(data), len(data)
    found = {"calls": num}
    plain_law = StepLaw.uniform(model.diffusion.depth)
    for name, options in {
        "ours": {},
        "without_control": {"control": False},
        "uniform": {"control": False, "law": plain_law},
    }.items():
        estimate = of_diffusion(model.chain, batch, num, **options)
        if name == "uniform":  # plain: each example for itself, without the credit for stratified steps
            total = add(estimate.terms.values())
            var = total.var().item() / num
        else:
            var = estimate.var_monte_carlo or math.nan
        found[f"{name}_variance_nats2"] = var
        found[f"{name}_bits_per_dim"] = summarize(estimate, model.num_dims).bits_per_dim
    found["ratio_to_uniform"] = found["uniform_variance_nats2"] / found["ours_variance_nats2"]
    found["ratio_without_control"] = found["without_control_variance_nats2"] / found["ours_variance_nats2"]
    found["standard_error_bits_per_dim"] = math.sqrt(found["ours_variance_nats2"]) / (model.num_dims * math.log(2))
    return found


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(variance(sys.argv[1]) if len(sys.argv) > 1 else coverage(), indent=1))
