"""What an estimate costs: draws of latents and evaluations of the network, counted where they happen."""

import pytest
import torch
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, SMALL_BETAS, seeded
from kakusan import distributions
from kakusan.models.diffusion import Diffusion
from kakusan.schedule import Schedule

DEPTH = len(SMALL_BETAS)
COSTS = {"path": (DEPTH, DEPTH), "pair": (2, 1), "single": (1, 1)}  # draws, evaluations


@pytest.mark.proves("S51", "S55")
@catches("""models/elbo_estimators.py: a single latent is drawn by a whole path [single]
- z_t = model.marginal(x, t).sample(generator)
+ z_t = torch.stack(draw_path(model, x, generator, cond=cond))[t, torch.arange(len(x))]""")
@catches("""models/elbo_estimators.py: the network is evaluated twice for a pair [pair]
- model.step_log_prob(z_before, z_t, t, cond), centered
+ 0.5 * (model.step_log_prob(z_before, z_t, t, cond) + model.step_log_prob(z_before, z_t, t, cond)), centered""")
@catches("""models/elbo_estimators.py: a pair is drawn by three latents [pair]
- z_before = model.marginal(x, t - 1).sample(generator)
+ model.marginal(x, t).sample(generator)
+     z_before = model.marginal(x, t - 1).sample(generator)""")
@pytest.mark.parametrize("estimator", COSTS)
def test_a_path_costs_t_draws_and_evaluations_and_a_few_latents_cost_one_evaluation(estimator, monkeypatch):
    draws, evaluations, randn = [], [], distributions.randn

    def counted(shape, *rest):
        draws.append(tuple(shape))
        return randn(shape, *rest)

    def network(z, t):
        evaluations.append(len(z))
        return 0.3 * z

    monkeypatch.setattr(distributions, "randn", counted)
    model = Diffusion(network, Schedule.from_betas(SMALL_BETAS), 2).double()
    getattr(model, f"elbo_{estimator}")(torch.ones(7, 2, dtype=F64), seeded(0))
    num_draws, num_evaluations = COSTS[estimator]
    assert draws == [(7, 2)] * num_draws
    assert evaluations == [7] * num_evaluations


@pytest.mark.proves("S55")
@catches("""models/diffusion.py: a latent at t has the amplitude of the step before
- Normal.from_var(self.schedule.at("signal", t, x) * x
+ Normal.from_var(self.schedule.at("signal", t - 1, x) * x""")
def test_any_latent_is_one_draw_from_its_closed_form():
    model = Diffusion(lambda z, t: z, Schedule.from_betas(SMALL_BETAS), 2).double()
    x, alpha_bar = torch.tensor([[1.0, -2.0]], dtype=F64), (1 - torch.tensor(SMALL_BETAS, dtype=F64)).cumprod(0)
    for t in range(1, DEPTH + 1):
        eps = torch.randn(1, 2, generator=seeded(t), dtype=F64)
        expected = alpha_bar[t - 1].sqrt() * x + (1 - alpha_bar[t - 1]).sqrt() * eps
        assert_close(model.marginal(x, t).sample(seeded(t)), expected, rtol=1e-12, atol=1e-12)
