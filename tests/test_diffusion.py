"""The diffusion model against exact values: closed forms, one model in five words, one bound at three prices.

Most averages are taken by a quadrature that is exact for affine denoisers, through the model's pure functions;
the estimators that draw are then held against the same numbers.
"""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import (
    F64,
    LIMIT,
    SMALL_BETAS,
    VARIANCES,
    affine_diffusion,
    affine_map,
    assert_covariance,
    assert_mean,
    assert_variance,
    f64,
    gauss_hermite,
    gaussian_x_denoiser,
    generated_law,
    mean_of,
    normal_log_prob,
    oracle,
    seeded,
    standard_errors_off,
)
from kakusan.bound import ancestral_sample, draw_path, elbo, sample_path
from kakusan.distributions import DiscretizedNormal, Normal
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.models.elbo_estimators import _uniform_steps, bound_constant
from kakusan.noise import example_streams
from kakusan.schedule import Schedule, Step

N = 100_000  # draws of a random test
ORACLE = oracle("diffusion_linear_T5_D2")
CASES = [(denoiser, variance) for denoiser in ("arbitrary", "optimal") for variance in VARIANCES]
WORDS = oracle("parametrisations")
STEPS = [case for case in WORDS if "_t" in case and "x_t" in WORDS[case]["outputs"]]
X = f64([[0.9, -0.5]])  # the example of the oracle
DEPTH = 5


def outputs(denoiser, variance):
    return ORACLE[f"{denoiser}_{variance}"]["outputs"]


def single_nodes(model, x, t):
    """z_t at each node of q(z_t | x), and the weights."""
    eps, weights = gauss_hermite(x.shape[1])
    q = model.marginal(x, t)
    return q.mean + q.std * eps, weights


def pair_nodes(model, x, t):
    """(z_{t-1}, z_t) at each node of their joint law given x, and the weights."""
    dims = x.shape[1]
    eps, weights = gauss_hermite(2 * dims)
    before = model.marginal(x, t - 1)
    z_before = before.mean + before.std * eps[:, :dims]
    step = model.encode(z_before, t)
    return z_before, step.mean + step.std * eps[:, dims:], weights


def exact_elbo(model, x):
    """By the KL form, without error for an affine model."""
    total = -model.prior_kl(x).item()
    for t in range(1, model.depth + 1):
        z_t, weights = single_nodes(model, x, t)
        total -= mean_of(model.step_cost(x.expand_as(z_t), z_t, t), weights)
    return total


# The noising, O8


@pytest.mark.proves("S35", "S52", "S54", "S59", "O9", "O12")
@catches("""models/diffusion.py: a noising step takes its variance for its standard deviation [3]
- return Normal.from_var((1 - beta).sqrt() * z, beta)
+ return Normal((1 - beta).sqrt() * z, beta)""")
@catches("""models/diffusion.py: the closed form lacks a square root [3]
- self.schedule.at("signal", t, x) * x, self.schedule.at("noise_var", t, x)
+ self.schedule.at("alpha_bar", t, x) * x, self.schedule.at("noise_var", t, x)""")
@pytest.mark.parametrize("t", range(6))
def test_the_closed_form_is_the_law_of_the_steps(t):
    model = affine_diffusion("arbitrary", "beta")
    mean, var = X, torch.zeros(1, 2, dtype=F64)
    for s in range(1, t + 1):
        gain, shift = affine_map(lambda z, s=s: model.encode(z, s).mean, 2)
        mean, var = mean @ gain.T + shift, var * gain.diag().square() + model.encode(mean, s).var
    q = model.marginal(X, t)
    assert_close(q.mean, mean, rtol=1e-12, atol=0)
    assert_close(q.std.square().expand_as(var), var, rtol=1e-12, atol=1e-15)


@pytest.mark.proves("S35", "S54", "O8")
@catches("""bound.py: every level of a path is encoded from the data
- path.append(chain.encode(path[-1], t, cond)
+ path.append(chain.encode(path[0], t, cond)""")
def test_a_path_has_the_known_covariances_between_its_steps():
    path = sample_path(affine_diffusion("arbitrary", "beta"), X.expand(N, -1), seeded(0))
    first = torch.stack([z[:, 0] for z in path[1:]], 1)
    expected = torch.zeros(5, 5, dtype=F64)
    for key, value in ORACLE["forward_joint"]["outputs"].items():
        s, t = (int(i) - 1 for i in key.split(","))
        expected[s, t] = expected[t, s] = value
    assert_covariance(first, expected)  # 25 entries at 4.5 s.e.: false alarm below 2e-4
    assert_mean(first, 0.9 * f64(ORACLE["setting"]["outputs"]["alpha_bar_0_to_T"])[1:].sqrt())


@pytest.mark.proves("S32", "S33", "S34")
@catches("""models/diffusion.py: a diffusion model has a parameter of its own
- self.register_buffer("_zero", torch.zeros(()), persistent=False)
+ self._zero = nn.Parameter(torch.zeros(()))""")
def test_the_encoder_has_no_parameters_and_latents_have_the_shape_of_the_data():  # theory S32, S33
    model = Diffusion(nn.Identity(), Schedule.from_betas(SMALL_BETAS), (3, 4, 4))
    assert not list(model.parameters())
    assert all(z.shape == (2, 3, 4, 4) for z in sample_path(model, torch.zeros(2, 3, 4, 4), seeded(0)))
    assert model.num_dims == 48


@pytest.mark.proves("M5", "O11", "O12", "O13")
@catches("""models/diffusion.py: the weights of x and of z_t in the posterior are swapped [2]
- self.schedule.at("mean_coef_x", t, x) * x + self.schedule.at("mean_coef_z", t, x) * z_t
+ self.schedule.at("mean_coef_z", t, x) * x + self.schedule.at("mean_coef_x", t, x) * z_t""")
@pytest.mark.parametrize("t", [1, 2, 4])
def test_the_posterior_is_bayes_rule(t):  # theory 2.3.4
    model = affine_diffusion("arbitrary", "beta")
    z_t = f64([[0.3, -1.0]])
    z = torch.linspace(-2, 2, 9, dtype=F64)[:, None].expand(-1, 2)
    if t == 1:
        assert_close(model.posterior(z_t, X, 1).mean, X, rtol=1e-12, atol=0)
        assert model.posterior(z_t, X, 1).std == 0
        return
    joint = model.marginal(X, t - 1).log_prob(z) + model.encode(z, t).log_prob(z_t)
    bayes = joint - model.marginal(X, t).log_prob(z_t)
    assert_close(model.posterior(z_t, X, t).log_prob(z), bayes, rtol=1e-10, atol=1e-10)


# One model in five words, theory M8, O11


def worded(case, prediction, variance="beta"):
    """The model whose network, asked at this step, says what the oracle's network says."""
    inputs, known = WORDS[case]["inputs"], WORDS[case]["outputs"]
    said = {"eps": inputs["eps_hat"], "x": known["pred"]["x0"], **known["pred"]}[prediction]
    schedule = Schedule.from_betas(SMALL_BETAS) if case.startswith("small") else Schedule.linear(1000)
    return Diffusion(lambda z, t: f64([said]), schedule, 3, prediction, variance).double()


def step_of(case):
    inputs, known = WORDS[case]["inputs"], WORDS[case]["outputs"]
    return f64([inputs["x0"]]), f64([known["x_t"]]), inputs["t"], known


# At t = 1000 x_hat = (z - b eps_hat) / a has a = 0.006, so that an input's rounding of 1e-16 grows to 1e-13
PRECISE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.mark.proves("M8", "O18")
@catches("""models/parametrization.py: predicted noise is scaled by its variance [eps-small_T5_t3]
- return (z - step.noise * output) / step.signal
+ return (z - step.noise_var * output) / step.signal""")
@catches("""models/parametrization.py: a predicted v is read with the wrong sign [v-small_T5_t3]
- return step.signal * z - step.noise * output
+ return step.signal * z + step.noise * output""")
@catches("""models/parametrization.py: a predicted score is read with the wrong sign [score-small_T5_t3]
- return (z + step.noise_var * output) / step.signal
+ return (z - step.noise_var * output) / step.signal""")
@pytest.mark.parametrize("case", STEPS)
@pytest.mark.parametrize("prediction", ["eps", "x", "v", "mean", "score"])
def test_five_predictions_are_one_reverse_step(case, prediction):
    model = worded(case, prediction)
    _, z_t, t, known = step_of(case)
    assert_close(model.reverse(z_t, t).mean, f64([known["pred"]["mean"]]), **PRECISE)
    assert_close(model.data_estimate(z_t, t), f64([known["pred"]["x0"]]), **PRECISE)
    assert_close(model.reverse(z_t, torch.tensor([t])).mean, model.reverse(z_t, t).mean, rtol=0, atol=0)


@pytest.mark.proves("M7", "O10", "O11")
@pytest.mark.parametrize("case", STEPS)
@pytest.mark.parametrize("prediction", ["eps", "x", "v", "mean", "score"])
def test_costs_of_a_step_are_the_exact_ones_for_every_prediction(case, prediction):
    x, z_t, t, known = step_of(case)
    for variance, key in (("unit", "variance_unit_seed"), ("beta", "variance_beta")):
        model = worded(case, prediction, variance)
        expected = known["minus_expected_log_decoder"][key]
        assert -model.step_cross_entropy(x, z_t, t).item() == pytest.approx(expected, rel=1e-9)
        expected = known["kl_step"][key] if t > 1 else expected
        assert model.step_cost(x, z_t, t).item() == pytest.approx(expected, rel=1e-9)  # the same loss of digits
    if t > 1:
        cost = worded(case, prediction, "beta_tilde").step_cost(x, z_t, t)
        assert cost.item() == pytest.approx(known["kl_step"]["variance_beta_tilde"], rel=1e-9)


@pytest.mark.proves("M8", "O11", "O18")
@catches("""models/parametrization.py: the target of v has its halves swapped [v-linear_T1000_t250]
- return step.signal * eps - step.noise * x
+ return step.noise * eps - step.signal * x""")
@catches("""models/parametrization.py: the target of the score has the wrong sign [score-linear_T1000_t250]
- return -eps / step.noise
+ return eps / step.noise""")
@pytest.mark.parametrize("case", STEPS)
@pytest.mark.parametrize("prediction", ["eps", "x", "v", "mean", "score"])
def test_the_training_target_is_the_true_word(case, prediction):
    x, z_t, t, known = step_of(case)
    true = {
        "eps": WORDS[case]["inputs"]["eps"],
        "x": WORDS[case]["inputs"]["x0"],
        "mean": known["true"]["posterior_mean"],
        **known["true"],
    }[prediction]
    eps = f64([WORDS[case]["inputs"]["eps"]])
    model = worded(case, prediction)
    found = model.parametrization.target(x, z_t, eps, Step(model.schedule, torch.tensor([t]), x))
    assert_close(found, f64([true]), **PRECISE)


@pytest.mark.proves("M8", "O18")
@pytest.mark.parametrize("prediction", ["eps", "x", "v", "mean", "score"])
def test_one_denoiser_in_five_words_is_one_bound(prediction):
    schedule = Schedule.from_betas(SMALL_BETAS)
    setting = ORACLE["setting"]["inputs"]
    x_hat = gaussian_x_denoiser(schedule, f64(setting["data_mean"]), f64(setting["data_cov"]))

    def word(z, t):
        a, b = schedule.alpha_bar[t].sqrt()[:, None], schedule.noise_var[t].sqrt()[:, None]
        eps_hat = (z - a * x_hat(z, t)) / b
        return {
            "x": x_hat(z, t),
            "eps": eps_hat,
            "v": a * eps_hat - b * x_hat(z, t),
            "score": -eps_hat / b,
            "mean": (z - schedule.beta[t][:, None] / b * eps_hat) / (1 - schedule.beta[t])[:, None].sqrt(),
        }[prediction]

    model = Diffusion(word, schedule, 2, prediction, "beta").double()
    assert exact_elbo(model, X) == pytest.approx(outputs("optimal", "beta")["elbo"], rel=1e-10)


@pytest.mark.proves("M13", "O17")
@pytest.mark.parametrize("prediction", ["eps", "x", "v", "mean", "score"])
def test_a_network_that_knows_the_truth_has_no_simple_loss(prediction):
    schedule = Schedule.from_betas(SMALL_BETAS)
    x = torch.randn(64, 3, generator=seeded(0), dtype=F64)

    def truth(z, t):
        a, b = schedule.alpha_bar[t].sqrt()[:, None], schedule.noise_var[t].sqrt()[:, None]
        eps = (z - a * x) / b
        c0, ct = schedule.mean_coef_x[t][:, None], schedule.mean_coef_z[t][:, None]
        return {"x": x, "eps": eps, "v": a * eps - b * x, "score": -eps / b, "mean": c0 * x + ct * z}[prediction]

    model = Diffusion(truth, schedule, 3, prediction).double()
    assert_close(model.loss(x, seeded(1)), torch.zeros(64, dtype=F64), rtol=0, atol=1e-24)  # squares of 1e-15


# The bound, O12


@pytest.mark.proves("S47", "M2", "M5", "O12", "O11", "O13")
@catches("""models/diffusion.py: the single estimate forgets D beta_tilde / (2 s^2) [arbitrary-unit_seed]
- -down.cross_entropy(q.mean, q.var)
+ down.log_prob(q.mean)""")
@catches("""models/elbo_estimators.py: the prior in the constant of the bound has the wrong sign [optimal-beta]
- -model.num_dims * HALF_LOG_2PI - 0.5 * (
+ -model.num_dims * HALF_LOG_2PI + 0.5 * (""")
@catches("""models/elbo_estimators.py: the entropy in the constant of the bound lacks its half a dimension [optimal-beta]
- 2 * HALF_LOG_2PI + 1)
+ 2 * HALF_LOG_2PI)""")
@pytest.mark.parametrize(("denoiser", "variance"), CASES)
def test_the_bound_is_the_exact_one_by_each_of_its_pure_functions(denoiser, variance):
    model, known = affine_diffusion(denoiser, variance), outputs(denoiser, variance)
    single = pair = 0.0
    for t in range(1, DEPTH + 1):
        z_t, weights = single_nodes(model, X, t)
        x = X.expand_as(z_t)
        cross = mean_of(model.step_cross_entropy(x, z_t, t), weights)
        z_before, z_after, pair_weights = pair_nodes(model, X, t)
        both = mean_of(model.step_log_prob(z_before, z_after, t), pair_weights)
        assert cross == pytest.approx(known["step_expectations_l_t"][t - 1], rel=1e-10)
        assert both == pytest.approx(cross, rel=1e-10)
        cost = mean_of(model.step_cost(x, z_t, t), weights)
        assert cost == pytest.approx(
            -known["reconstruction"] if t == 1 else known["step_kls_t2_to_T"][t - 2], rel=1e-10
        )
        single, pair = single + cross, pair + both
    assert single == pytest.approx(known["J"], rel=1e-10)
    assert bound_constant(model, X).item() == pytest.approx(known["C"], rel=1e-10)
    assert model.prior_kl(X).item() == pytest.approx(known["prior_kl"], rel=1e-10)
    assert exact_elbo(model, X) == pytest.approx(known["elbo"], rel=1e-10)
    assert pair + bound_constant(model, X).item() == pytest.approx(known["elbo"], rel=1e-10)


@pytest.mark.proves("S42", "O12")
@pytest.mark.parametrize(("denoiser", "variance"), CASES)
@catches("""models/diffusion.py: the KL of a step is a gain
- down.log_prob(x)), kl)
+ down.log_prob(x)), -kl)""")
def test_the_bound_lies_below_the_exact_evidence(denoiser, variance):
    model, known = affine_diffusion(denoiser, variance), outputs(denoiser, variance)
    mean, cov = generated_law(model, [2] * DEPTH)
    log_px = normal_log_prob(X[0], mean, cov).item()
    assert log_px == pytest.approx(known["log_p_x0"], rel=1e-10)
    assert exact_elbo(model, X) < log_px


@pytest.mark.proves("M14", "O16")
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("denoiser", ["arbitrary", "optimal"])
@catches("""models/diffusion.py: the KL to the prior is twice as large
- return 0.5 * (alpha_bar * sum_event(x.square()) + self.num_dims * left)
+ return alpha_bar * sum_event(x.square()) + self.num_dims * left""")
def test_averaged_over_the_data_the_bound_is_the_exact_one(denoiser, variance):  # O16
    setting = ORACLE["setting"]["inputs"]
    eps, weights = gauss_hermite(2)
    xs = f64(setting["data_mean"]) + eps @ torch.linalg.cholesky(f64(setting["data_cov"])).T
    model = affine_diffusion(denoiser, variance)
    mean = sum(exact_elbo(model, x[None]) * w.item() for x, w in zip(xs, weights))
    assert mean == pytest.approx(ORACLE["data_average"]["outputs"][f"{denoiser}_{variance}"]["mean_elbo"], rel=1e-10)
    assert mean < ORACLE["data_average"]["outputs"]["minus_entropy_of_data"]  # theory M14


@pytest.mark.proves("M7", "O10", "O11", "O17")
@pytest.mark.parametrize("case", ["T5", "T100_s0p25", "T1000_s0p25", "T1000_s1", "T1000_s4"])
@pytest.mark.parametrize(
    ("variance", "key"), [("unit", "unit_seed"), ("beta", "beta"), ("beta_tilde", "tilde_t1_tilde2")]
)
def test_one_dimensional_gaussian_data_at_any_depth(case, variance, key):  # O17
    setup = oracle("diffusion_gaussian_1d")[case]
    i, known = setup["inputs"], setup["outputs"]["by_variance"][key]
    if case == "T5":
        schedule = Schedule.from_betas(SMALL_BETAS)
    else:
        schedule = Schedule.linear(i["T"], i["beta_1"], i["beta_T"])
    denoiser = gaussian_x_denoiser(schedule, f64([i["m"]]), f64([[i["s"]]]))
    model = Diffusion(denoiser, schedule, 1, "x", variance).double()
    eps, weights = gauss_hermite(2)  # the data and the noise, at every step: 9 T rows, one call
    x = (i["m"] + math.sqrt(i["s"]) * eps[:, :1]).repeat(schedule.depth, 1)
    t = torch.arange(1, schedule.depth + 1).repeat_interleave(len(eps))
    q = model.marginal(x, t)
    z_t = q.mean + q.std * eps[:, 1:].repeat(schedule.depth, 1)
    total = mean_of(model.prior_kl(x[:9]), weights) + mean_of(
        model.step_cost(x, z_t, t), weights.repeat(schedule.depth)
    )
    # a thousand steps, each right to 1e-13 or better, and a reconstruction of up to 3e3 that cancels against them
    assert -total == pytest.approx(known["mean_elbo"], rel=1e-9)
    mean, cov = generated_law(model, [1] * schedule.depth)
    assert mean.item() == pytest.approx(known["generated_mean"], rel=1e-10)
    assert cov.item() == pytest.approx(known["generated_variance"], rel=1e-9)


# One bound, three prices: O13


ESTIMATORS = {
    "est_T": lambda model, x, g: model.elbo_path(x, g),
    "est_2": lambda model, x, g: model.elbo_pair(x, g, centered=False),
    "est_2_centred": lambda model, x, g: model.elbo_pair(x, g),
    "est_1": lambda model, x, g: model.elbo_single(x, g, centered=False),
    "est_1_centred": lambda model, x, g: model.elbo_single(x, g),
}


@pytest.mark.proves("S43", "S48", "S55", "S56", "S57", "M3", "M4", "M6", "O13", "O8", "O12")
@catches("""models/elbo_estimators.py: one noise for both latents of a pair [arbitrary-beta-est_2]
- z_t = Normal.from_var((1 - beta).sqrt() * z_before, beta).sample(generator)
+ p, q = model.marginal(x, t - 1), model.marginal(x, t)
+     z_t = q.mean + q.std * (z_before - p.mean) / p.std.clamp(min=1e-9)""")
@catches("""models/elbo_estimators.py: both latents of a pair come from their closed forms, independently [arbitrary-beta-est_2]
- z_t = Normal.from_var((1 - beta).sqrt() * z_before, beta).sample(generator)
+ z_t = model.marginal(x, t).sample(generator)""")
@catches("""models/elbo_estimators.py: the first latent of a pair stands at t [arbitrary-beta-est_2_centred]
- z_before = model.marginal(x, t - 1)
+ z_before = model.marginal(x, t)""")
@catches("""models/elbo_estimators.py: the pair estimate lacks the factor T [optimal-beta-est_2]
- model.depth * (log_prob.to(constant.device) - free)
+ (log_prob.to(constant.device) - free)""")
@catches("""models/elbo_estimators.py: the single estimate is centered as if it were a pair [arbitrary-beta-est_1_centred]
- step_cross_entropy(x, z_t, t, cond), centered, pair=False)
+ step_cross_entropy(x, z_t, t, cond), centered, pair=True)""")
@catches("""models/elbo_estimators.py: the path estimate begins at the second step [optimal-beta-est_T]
- for t in range(1, model.depth + 1):
+ for t in range(2, model.depth + 1):""")
@catches("""models/elbo_estimators.py: what is centered by forgets the variance of the posterior [arbitrary-unit_seed-est_1_centred]
- free = free - 0.5 * model.schedule.beta_tilde * (-log_var).exp()
+ pass""")
@catches("""models/elbo_estimators.py: what is centered by is taken at the step before [arbitrary-unit_seed-est_1_centred]
- free.to(where)[t.to(where)]
+ free.to(where)[t.to(where) - 1]""")
@catches("""models/elbo_estimators.py: the centering sum begins at the data [arbitrary-unit_seed-est_2_centred]
- free[1:].sum()
+ free.sum()""")
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("denoiser", "variance"), CASES)
def test_every_estimator_has_the_exact_mean_and_variance(denoiser, variance, estimator):
    model, known = affine_diffusion(denoiser, variance), outputs(denoiser, variance)
    draws = ESTIMATORS[estimator](model, X.expand(N, -1), seeded(17))
    assert_mean(draws, known["elbo"])  # 4.5 s.e., 80 comparisons in all: false alarm below 6e-4
    if estimator.endswith("centred") and VARIANCES[variance] == "learned":
        # a learned variance has no part that no network moves; what the model centers by has a variance of its own
        assert draws.var() < known["variance"][estimator.removesuffix("_centred")]
    else:
        assert_variance(draws, known["variance"][estimator])


@pytest.mark.proves("S44", "S46", "O12")
@pytest.mark.parametrize(("denoiser", "variance"), CASES)
def test_the_log_weight_of_a_path_has_the_same_mean(denoiser, variance):
    model, known = affine_diffusion(denoiser, variance), outputs(denoiser, variance)
    assert_mean(elbo(model, X.expand(N, -1), seeded(3)), known["elbo"])  # 4.5 s.e.


@pytest.mark.proves("M6")
@pytest.mark.parametrize(("denoiser", "variance"), CASES)
def test_integrating_out_a_latent_removes_the_exact_amount_of_variance(denoiser, variance):  # theory M6.1
    model, known = affine_diffusion(denoiser, variance), outputs(denoiser, variance)
    second = {"pair": 0.0, "single": 0.0}
    for t in range(1, DEPTH + 1):
        z_before, z_t, weights = pair_nodes(model, X, t)
        second["pair"] += DEPTH * mean_of(model.step_log_prob(z_before, z_t, t).square(), weights)
        z_t, weights = single_nodes(model, X, t)
        second["single"] += DEPTH * mean_of(model.step_cross_entropy(X.expand_as(z_t), z_t, t).square(), weights)
    # the quadrature is exact for the squares too: they have degree 4
    assert second["pair"] - known["J"] ** 2 == pytest.approx(known["variance"]["est_2"], rel=1e-9)
    assert second["single"] - known["J"] ** 2 == pytest.approx(known["variance"]["est_1"], rel=1e-9)
    assert second["single"] < second["pair"]


@pytest.mark.proves("S51", "S55", "O8", "O13")
@pytest.mark.parametrize(("estimator", "calls"), [("est_T", DEPTH), ("est_2_centred", 1), ("est_1_centred", 1)])
def test_an_estimate_costs_the_promised_number_of_network_evaluations(estimator, calls):  # theory S51
    model, counted = affine_diffusion("arbitrary", "beta"), []
    network = model.denoiser
    model = model.with_network(lambda z, t: counted.append(len(z)) or network(z, t))
    ESTIMATORS[estimator](model, X.expand(7, -1), seeded(0))
    assert counted == [7] * calls


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_estimate_of_example_i_does_not_depend_on_its_neighbours(estimator):
    model = affine_diffusion("arbitrary", "beta")
    many = ESTIMATORS[estimator](model, X.expand(5, -1), example_streams(3, range(5)))
    few = ESTIMATORS[estimator](model, X.expand(2, -1), example_streams(3, range(3, 5)))
    assert_close(many[3:], few, rtol=1e-12, atol=0)


@catches("""models/elbo_estimators.py: the first step is never drawn
- (uniform * model.depth).long() + 1)
+ (uniform * (model.depth - 1)).long() + 2)""")
def test_every_step_is_drawn_equally_often():
    model = affine_diffusion("arbitrary", "beta")
    t = _uniform_steps(model, torch.zeros(N, 2), seeded(0))
    assert_mean((t[:, None] == torch.arange(1, DEPTH + 1)).to(F64), 1 / DEPTH)  # 4.5 s.e., 5 entries
    assert t.min() == 1
    assert t.max() == DEPTH


# What a wrong estimator converges to, O15: the check that the right ones pass must tell them apart


def one_noise_for_both(model, x, t, g):
    eps = torch.randn(x.shape, generator=g, dtype=F64)
    before, after = model.marginal(x, t - 1), model.marginal(x, t)
    return DEPTH * model.step_log_prob(before.mean + before.std * eps, after.mean + after.std * eps, t)


def two_closed_forms(model, x, t, g):
    return DEPTH * model.step_log_prob(model.marginal(x, t - 1).sample(g), model.marginal(x, t).sample(g), t)


def without_the_posterior_variance(model, x, t, g):
    z_t = model.marginal(x, t).sample(g)
    return DEPTH * model.reverse(z_t, t).log_prob(model.posterior(z_t, x, t).mean)


def without_the_factor_t(model, x, t, g):
    return model.step_cross_entropy(x, model.marginal(x, t).sample(g), t)


def without_the_first_step(model, x, t, g):
    later = torch.randint(2, DEPTH + 1, t.shape, generator=g)
    return DEPTH * model.step_cross_entropy(x, model.marginal(x, later).sample(g), later)


@pytest.mark.proves("S56", "M4", "E23c", "O13", "O14", "O15")
@pytest.mark.parametrize("variance", ["unit_seed", "beta"])
@pytest.mark.parametrize(
    ("faulty", "key"),
    [
        (one_noise_for_both, "same_eps_for_both_samples"),
        (two_closed_forms, "independent_eps_for_both_samples"),
        (without_the_posterior_variance, "one_sample_without_D_beta_tilde_term"),
        (without_the_factor_t, "factor_T_forgotten"),
        (without_the_first_step, "t_from_2_to_T_only_with_factor_T"),
    ],
)
@catches("""schedule.py: beta_tilde is not divided
- self._with_zero(self.beta[1:] * self.noise_var[:-1] / self.noise_var[1:])
+ self._with_zero(self.beta[1:] * self.noise_var[:-1])""")
def test_a_faulty_estimator_is_many_standard_errors_off(faulty, key, variance):
    model, known = affine_diffusion("arbitrary", variance), ORACLE["faulty_estimators"]["outputs"][variance]
    t = torch.randint(1, DEPTH + 1, (N,), generator=seeded(1))
    draws = faulty(model, X.expand(N, -1), t, seeded(2))
    assert_mean(draws, known[key])  # the fault that was meant; 4.5 s.e.
    assert standard_errors_off(draws, known["right_J"]) > 5 * LIMIT


# Gradients, O14


class Affine(nn.Module):
    """The arbitrary denoiser with its own parameters for every example, so that gradients come one by one."""

    def __init__(self, examples):
        super().__init__()
        inputs = ORACLE["setting"]["inputs"]
        self.matrix = nn.Parameter(f64(inputs["A_arbitrary"]).expand(examples, -1, -1, -1).clone())
        self.shift = nn.Parameter(f64(inputs["b_arbitrary"]).expand(examples, -1, -1).clone())

    def forward(self, z, t):
        rows = torch.arange(len(z)) % len(self.shift)
        return torch.einsum("bij,bj->bi", self.matrix[rows, t - 1], z) + self.shift[rows, t - 1]


@pytest.mark.proves("M6", "O13", "O14")
@pytest.mark.parametrize("variance", ["unit_seed", "beta"])
@catches("""distributions.py: a cross-entropy counts its squares twice
- 0.5 * squared * (-self.log_var).exp()
+ squared * (-self.log_var).exp()""")
def test_the_gradient_of_the_bound_is_the_exact_one(variance):
    network = Affine(1)
    model = Diffusion(network, Schedule.from_betas(SMALL_BETAS), 2, "mean", VARIANCES[variance]).double()
    known = ORACLE[f"gradient_J_arbitrary_{variance}"]["outputs"]
    bound = 0.0
    for t in range(1, DEPTH + 1):
        z_t, weights = single_nodes(model, X, t)
        bound = bound + (weights * model.step_cross_entropy(X.expand_as(z_t), z_t, t)).sum()
    bound.backward()
    assert_close(network.matrix.grad[0], f64(known["dJ_dA"]), rtol=1e-10, atol=1e-12)
    assert_close(network.shift.grad[0], f64(known["dJ_db"]), rtol=1e-10, atol=1e-12)


@pytest.mark.proves("S48", "S56", "S57", "M6", "O13", "O14", "O15")
@pytest.mark.parametrize("estimator", ["est_T", "est_2_centred", "est_1_centred"])
@pytest.mark.parametrize("variance", ["unit_seed", "beta"])
@catches("""models/elbo_estimators.py: an estimate from one step is not multiplied by T
- return (constant + free_sum + model.depth * (log_prob.to(constant.device) - free)).to(x)
+ return (constant + free_sum + (log_prob.to(constant.device) - free)).to(x)""")
def test_gradients_of_every_estimator_average_to_the_exact_one(variance, estimator):
    network = Affine(N)
    model = Diffusion(network, Schedule.from_betas(SMALL_BETAS), 2, "mean", VARIANCES[variance]).double()
    known = ORACLE[f"gradient_J_arbitrary_{variance}"]["outputs"]
    ESTIMATORS[estimator](model, X.expand(N, -1), seeded(5)).sum().backward()
    assert_mean(network.matrix.grad, f64(known["dJ_dA"]))  # 4.5 s.e., 180 entries in all: false alarm 1e-3
    assert_mean(network.shift.grad, f64(known["dJ_db"]))


# Networks that do nothing, O10


DO_NOTHING = {
    "x_hat_zero": lambda z, t: torch.zeros_like(z),
    "x_hat_equals_x_t": lambda z, t: z,
}


@pytest.mark.proves("S49", "M2", "M15", "O10", "O13", "O12")
@pytest.mark.parametrize("case", ["trivial_networks_T5", "trivial_networks_linear_T1000"])
@pytest.mark.parametrize("network", [*DO_NOTHING, "x_hat_equals_posterior_mean_with_true_x0"])
@catches("""models/elbo_estimators.py: the entropy of the path lacks its half nats
- + 2 * HALF_LOG_2PI + 1).sum()
+ + 2 * HALF_LOG_2PI).sum()""")
def test_a_network_that_does_nothing_has_the_known_bound(case, network):
    i, known = WORDS[case]["inputs"], WORDS[case]["outputs"]
    schedule = Schedule.from_betas(SMALL_BETAS) if i["T"] == 5 else Schedule.linear(1000)
    x = torch.full((1, i["D"]), math.sqrt(i["norm_x0_squared"] / i["D"]), dtype=F64)

    def ceiling(z, t):  # knows the data
        return schedule.mean_coef_x[t][:, None] * x + schedule.mean_coef_z[t][:, None] * z

    model = Diffusion(DO_NOTHING.get(network, ceiling), schedule, i["D"], "mean", "unit").double()
    total = bound_constant(model, x).item()
    assert total == pytest.approx(known["C_of_x0"], rel=1e-10)
    for sign in (1, -1):
        # the terms depend on z_t through its squared norm alone: +- one vector of norm sqrt(D) is an exact quadrature
        t = torch.arange(1, i["T"] + 1)
        q = model.marginal(x.expand(i["T"], -1), t)
        total += model.step_cross_entropy(x.expand(i["T"], -1), q.mean + sign * q.std, t).sum().item() / 2
    assert total == pytest.approx(known[network]["elbo"], rel=1e-10)
    j = total - known["C_of_x0"] + known["constant_T_D_ln2pi_over_2"]
    assert j == pytest.approx(known[network]["seed_J_without_constant"], rel=1e-9)  # a sum of 1e6 cancels


@catches("""models/simple_loss.py: the simple loss is a sum over the dimensions
- return loss / model.num_dims
+ return loss""")
def test_silence_about_the_noise_costs_one_a_dimension():
    model = Diffusion(lambda z, t: torch.zeros_like(z), Schedule.linear(1000), 2, "eps").double()
    # theory S49; the strata of t do not matter as the loss is eps^2 at each; 4.5 s.e.
    assert_mean(model.loss(X.expand(N, -1), seeded(0)), 1.0)


# The prior term, O21


@pytest.mark.proves("S37", "M9", "O17", "O21")
@catches("""models/diffusion.py: the KL to the prior lacks its logarithm
- left = -math.log1p(-alpha_bar) - alpha_bar
+ left = -alpha_bar""")
def test_the_prior_term_is_the_exact_one():
    gaussians = oracle("gaussians")
    small, long = Schedule.from_betas(SMALL_BETAS), Schedule.linear(1000)
    for schedule, case, rel in (
        (small, "prior_term_small_T5", 1e-10),
        # abar = 4e-5 of 1: the term keeps 1e-16 / 4e-5 of relative precision, and less where it cancels
        (long, "prior_term_linear_T1000", 1e-9),
        (long, "prior_term_linear_T1000_D784_all_plus_minus_one", 1e-9),
        (long, "prior_term_linear_T1000_D784_all_zero", 1e-5),
    ):
        inputs = gaussians[case]["inputs"]
        if "D" in inputs:
            x = torch.full((1, 784), float(inputs["x0"].split()[-1]), dtype=F64)
        else:
            x = f64([inputs["x0"]])
        model = Diffusion(nn.Identity(), schedule, x.shape[1]).double()
        assert model.prior_kl(x).item() == pytest.approx(gaussians[case]["outputs"]["kl"], rel=rel, abs=0), case


# Pure functions


@pytest.mark.proves("M5", "O11", "O12", "O13")
@catches("""models/diffusion.py: the cost of the first step is a gain [beta]
- torch.where(first, -self._with_likelihood(
+ torch.where(first, self._with_likelihood(""")
@pytest.mark.parametrize("variance", VARIANCES)
def test_a_cost_is_a_cross_entropy_without_the_entropy_of_the_posterior(variance):
    model = affine_diffusion("arbitrary", variance)
    z_t = torch.randn(20, 2, generator=seeded(0), dtype=F64)
    x = X.expand_as(z_t)
    assert_close(model.step_cost(x, z_t, 1), -model.step_cross_entropy(x, z_t, 1), rtol=1e-12, atol=0)
    assert_close(model.step_log_prob(x, z_t, 1), model.step_cross_entropy(x, z_t, 1), rtol=1e-12, atol=0)
    for t in range(2, DEPTH + 1):
        entropy = model.posterior(z_t, x, t).entropy()
        assert_close(model.step_cost(x, z_t, t), -model.step_cross_entropy(x, z_t, t) - entropy, rtol=1e-10, atol=0)


def test_the_steps_of_a_batch_may_differ():
    for likelihood in ("gaussian", "discretized"):
        for variance in VARIANCES:
            model = affine_diffusion("arbitrary", variance, likelihood=likelihood)
            t = torch.tensor([3, 1, 5, 1, 2, 4])
            z_t = torch.randn(6, 2, generator=seeded(0), dtype=F64)
            x = (torch.randint(0, 256, (6, 2), generator=seeded(1)) / 127.5 - 1).to(F64)
            for function in (model.step_cost, model.step_cross_entropy, model.step_log_prob):
                together = function(x, z_t, t)
                alone = [function(x[i : i + 1], z_t[i : i + 1], int(t[i])) for i in range(6)]
                assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("likelihood", ["gaussian", "discretized"])
@pytest.mark.parametrize("variance", VARIANCES)
def test_the_point_mass_at_the_first_step_leaves_no_nan_in_a_gradient(variance, likelihood):
    model = affine_diffusion("arbitrary", variance, likelihood=likelihood)
    z_t = torch.randn(6, 2, generator=seeded(0), dtype=F64, requires_grad=True)
    x, t = on_grid(6), torch.tensor([3, 1, 5, 1, 2, 4])
    together = torch.autograd.grad(model.step_cost(x, z_t, t).sum(), z_t)[0]
    alone = [model.step_cost(x[i : i + 1], z_t[i : i + 1], int(t[i])) for i in range(6)]
    assert_close(together, torch.autograd.grad(torch.cat(alone).sum(), z_t)[0], rtol=1e-10, atol=1e-12)
    for draws in (model.elbo_single(x, seeded(1)), model.elbo_pair(x, seeded(1)), model.loss(x, seeded(1))):
        assert draws.isfinite().all()


def test_the_pure_functions_draw_nothing():
    model = affine_diffusion("arbitrary", "beta")
    before = torch.get_rng_state()
    for function in (model.step_cost, model.step_cross_entropy, model.step_log_prob):
        assert torch.equal(function(X, X, 2), function(X, X, 2))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("t", [1, 2, 500, 1000])
def test_costs_in_float32_keep_three_digits_at_every_step(t):
    schedule = Schedule.linear(1000)
    x, z = (torch.randn(4, 784, generator=seeded(i), dtype=F64) for i in (0, 1))
    model = Diffusion(lambda z, t: 0.9 * z, schedule, 784, "eps")
    z_t = schedule.alpha_bar[t].sqrt() * x + schedule.noise_var[t].sqrt() * z
    for variance in ("beta", "beta_tilde"):
        model.variance = variance
        exact = model.step_cost(x, z_t, t)
        # float32 rounds z_t by 6e-8 beside a noise of 1e-2 at t = 1; tables are cast from float64
        assert_close(model.step_cost(x.float(), z_t.float(), t).double(), exact, rtol=1e-3, atol=1e-6)


# The discretised likelihood


def on_grid(n, dims=2):
    return (torch.randint(0, 256, (n, dims), generator=seeded(4)) / 127.5 - 1).to(F64)


@pytest.mark.proves("M10", "O22")
def test_the_discretized_likelihood_concerns_the_first_step_alone():
    smooth, rounded = (affine_diffusion("arbitrary", "beta", likelihood=name) for name in ("gaussian", "discretized"))
    x, z_t = on_grid(8), torch.randn(8, 2, generator=seeded(0), dtype=F64)
    for t in range(2, DEPTH + 1):
        assert isinstance(rounded.decode(z_t, t), Normal)
        for name in ("step_cost", "step_cross_entropy", "step_log_prob"):
            assert torch.equal(getattr(rounded, name)(x, z_t, t), getattr(smooth, name)(x, z_t, t))
    expected = DiscretizedNormal(smooth.reverse(z_t, 1)).log_prob(x)
    assert isinstance(rounded.decode(z_t, 1), DiscretizedNormal)
    assert_close(rounded.decode(z_t, 1).log_prob(x), expected, rtol=1e-12, atol=0)
    assert_close(rounded.step_log_prob(x, z_t, 1), expected, rtol=1e-12, atol=0)
    assert_close(rounded.step_cross_entropy(x, z_t, 1), expected, rtol=1e-12, atol=0)
    assert_close(rounded.step_cost(x, z_t, 1), -expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("variance", VARIANCES)
def test_all_estimators_of_a_discretised_bound_agree(variance):
    model = affine_diffusion("optimal", variance, likelihood="discretized")
    x = ((X + 1) * 127.5).round() / 127.5 - 1
    values = {name: estimate(model, x.expand(N, -1), seeded(9)) for name, estimate in ESTIMATORS.items()}
    values["log_weight"] = elbo(model, x.expand(N, -1), seeded(9))
    reference = values.pop("est_1_centred")
    for name, draws in values.items():
        stderr = math.sqrt((draws.var() + reference.var()).item() / N)
        assert abs(draws.mean() - reference.mean()) < LIMIT * stderr, name  # two means: 7e-6 each, 20 pairs


def test_a_discretised_model_of_one_step_gives_all_levels_probability_one():
    schedule = Schedule.from_betas([0.99999])
    model = Diffusion(lambda z, t: 0.5 * z, schedule, 1, "mean", "unit", "discretized").double()
    levels = (torch.arange(256, dtype=F64) / 127.5 - 1)[:, None]
    z = torch.linspace(-9, 9, 721, dtype=F64)[:, None]  # the trapezoid rule is exact to rounding here
    density = model.prior().log_prob(z).exp()
    total = sum(torch.trapezoid(model.step_log_prob(x.expand_as(z), z, 1).exp() * density, z[:, 0]) for x in levels)
    assert total.item() == pytest.approx(1, rel=1e-10)


# Learned variance


@pytest.mark.proves("M7", "O10", "O11")
@catches("""models/diffusion.py: the learned variance runs from beta to beta_tilde
- v * self.schedule.at("log_beta", t, like) + (1 - v) * self.schedule.at("log_beta_tilde", t, like)
+ (1 - v) * self.schedule.at("log_beta", t, like) + v * self.schedule.at("log_beta_tilde", t, like)""")
def test_a_learned_variance_runs_from_beta_tilde_to_beta():
    z_t = torch.zeros(1, 2, dtype=F64)
    for value, name in ((0.0, "beta_tilde"), (1.0, "beta")):

        def network(z, t, value=value):
            return z, torch.full_like(z, value)

        learned = Diffusion(network, Schedule.from_betas(SMALL_BETAS), 2, variance="learned").double()
        fixed = Diffusion(lambda z, t: z, Schedule.from_betas(SMALL_BETAS), 2, variance=name).double()
        for t in range(1, DEPTH + 1):
            expected = fixed.reverse(z_t, t).var.expand(1, 2)
            assert_close(learned.reverse(z_t, t).var, expected, rtol=1e-12, atol=0)


@pytest.mark.proves("S38", "M7", "O10", "O11")
@catches("""models/diffusion.py: the learned variance is a mean of variances instead of logarithms [learned_diag]
- v * self.schedule.at("log_beta", t, like) + (1 - v) * self.schedule.at("log_beta_tilde", t, like)
+ (v * self.schedule.at("beta", t, like) + (1 - v) * self.schedule.at("log_beta_tilde", t, like).exp()).log()""")
@catches("""schedule.py: beta_1 stands in for beta_tilde_1 [beta_tilde_t1_takes_beta_tilde_2]
- log_beta_tilde[2] if self.depth > 1 else
+ self.beta[1].log() if self.depth > 1 else""")
@pytest.mark.parametrize("variance", VARIANCES)
def test_reverse_variances_are_the_tables(variance):
    table = f64(ORACLE["setting"]["outputs"]["variance_tables"][variance])
    model = affine_diffusion("arbitrary", variance)
    for t in range(1, DEPTH + 1):
        assert_close(model.reverse(X, t).var.expand(1, 2), table[t - 1 : t], rtol=1e-10, atol=0)


@pytest.mark.proves("M7", "O10", "O11")
@catches("""models/simple_loss.py: the bound beside the simple loss moves the mean too
- prediction.detach()
+ prediction""")
def test_the_bound_in_the_hybrid_loss_moves_the_variance_alone():
    x = torch.randn(32, 2, generator=seeded(0), dtype=F64)
    gradients = {}
    for variance in ("learned", "beta"):
        said = torch.zeros(32, 2, dtype=F64, requires_grad=True)
        v = torch.full((32, 2), 0.5, dtype=F64, requires_grad=True)

        def network(z, t, variance=variance, said=said, v=v):
            out = 0.3 * z + said
            return (out, v) if variance == "learned" else out

        model = Diffusion(network, Schedule.from_betas(SMALL_BETAS), 2, "eps", variance).double()
        model.loss(x, seeded(1)).sum().backward()
        gradients[variance] = said.grad
        if variance == "learned":
            assert (v.grad.abs() > 0).all()
    assert_close(gradients["learned"], gradients["beta"], rtol=1e-12, atol=0)


def test_a_network_of_the_wrong_number_of_answers_is_refused():
    for variance, network in (("learned", lambda z, t: z), ("beta", lambda z, t: (z, z))):
        model = Diffusion(network, Schedule.from_betas(SMALL_BETAS), 2, variance=variance).double()
        with pytest.raises(InputError, match="pair"):
            model.step_cost(X, X, 2)


# Training


@pytest.mark.proves("M13", "M15", "O17")
@pytest.mark.parametrize("objective", ["path", "pair", "single"])
def test_a_loss_is_minus_the_bound_a_dimension(objective):
    model = affine_diffusion("arbitrary", "beta")
    bound = getattr(model, f"elbo_{objective}")(X.expand(9, -1), seeded(2))
    assert_close(model.loss(X.expand(9, -1), seeded(2), objective), -bound / 2, rtol=1e-14, atol=0)


@pytest.mark.proves("M14")
def test_the_simple_loss_of_the_best_denoiser_is_its_floor():  # theory M14: the mean over t of SNR_t mmse(t)
    schedule, cov = Schedule.from_betas(SMALL_BETAS), f64([[0.25]])
    x_hat = gaussian_x_denoiser(schedule, f64([0.3]), cov)

    def eps_hat(z, t):
        return (z - schedule.alpha_bar[t].sqrt()[:, None] * x_hat(z, t)) / schedule.noise_var[t].sqrt()[:, None]

    model = Diffusion(eps_hat, schedule, 1, "eps").double()
    x = 0.3 + 0.5 * torch.randn(N, 1, generator=seeded(0), dtype=F64)
    draws = model.loss(x, seeded(1))
    power = schedule.alpha_bar[1:] * 0.25
    floor = (power / (power + schedule.noise_var[1:])).mean().item()
    assert_mean(draws, floor)  # 4.5 s.e. and more: the strata of t make the true standard error smaller


def test_the_steps_of_the_simple_loss_are_spread_evenly_over_the_batch():
    seen = []
    model = Diffusion(lambda z, t: seen.append(t) or z, Schedule.from_betas(SMALL_BETAS), 2).double()
    for seed in range(20):
        model.loss(X.expand(10, -1), seeded(seed))
        model.loss(X.expand(1, -1), seeded(seed))
    for t in seen[::2]:
        counts = torch.bincount(t, minlength=6)
        assert counts[0] == 0
        assert (counts[1:] - 2).abs().max() <= 1
    assert {int(t) for t in seen[1::2]} == set(range(1, 6))  # 20 single draws miss a step with probability 6%


@pytest.mark.proves("S1", "S34", "S58", "O17", "O19")
@catches("""models/simple_loss.py: the network is asked for another noise
- * x + model.schedule.at("noise", t, x) * eps
+ * x + model.schedule.at("noise", t, x) * randn(x.shape, generator, x.dtype, x.device)""")
def test_a_short_training_lowers_the_loss():  # theory S1
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    model = Diffusion(lambda z, t: network(torch.cat([z, t[:, None] / 5], 1)), Schedule.from_betas(SMALL_BETAS), 2)
    optimiser, losses = torch.optim.Adam(network.parameters(), 0.02), []
    for seed in range(150):
        x = 0.3 * torch.randn(64, 2, generator=seeded(seed))
        loss = model.loss(x, seeded(1000 + seed)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


# Data that are known to lie in a range


@catches("""models/diffusion.py: the data estimate is not limited to its range
- return x if self.clip is None else x.clamp(*self.clip)
+ return x""")
@catches("""models/diffusion.py: a predicted mean escapes the limits of the data
- if self.prediction == "mean" and self.clip is None:
+ if self.prediction == "mean":""")
def test_clipping_limits_the_data_estimate_in_the_reverse_step_too():
    z_t = f64([[3.0, -0.2]])
    for prediction in ("x", "mean", "eps"):
        free = Diffusion(lambda z, t: 0.5 * z, Schedule.from_betas(SMALL_BETAS), 2, prediction).double()
        held = Diffusion(lambda z, t: 0.5 * z, free.schedule, 2, prediction, clip=(-1.0, 1.0)).double()
        for t in range(1, DEPTH + 1):
            x_hat = free.data_estimate(z_t, t).clamp(-1, 1)
            assert_close(held.data_estimate(z_t, t), x_hat, rtol=1e-12, atol=1e-14)
            assert_close(held.reverse(z_t, t).mean, free.posterior(z_t, x_hat, t).mean, rtol=1e-12, atol=1e-14)


# Fewer steps


def optimal_x_model(variance="beta"):
    setting, schedule = ORACLE["setting"]["inputs"], Schedule.from_betas(SMALL_BETAS)
    denoiser = gaussian_x_denoiser(schedule, f64(setting["data_mean"]), f64(setting["data_cov"]))
    return Diffusion(denoiser, schedule, 2, "x", variance).double()


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4])
@pytest.mark.parametrize("variance", ["beta", "beta_tilde", "unit"])
def test_a_respaced_model_has_the_same_marginals_and_a_valid_bound(num_steps, variance):
    model = optimal_x_model(variance)
    coarse = model.respaced(num_steps)
    assert coarse.depth == num_steps
    times = [0, *coarse.denoiser.times.tolist()[1:]]
    assert times[-1] == DEPTH
    for k, t in enumerate(times):
        assert_close(coarse.marginal(X, k).mean, model.marginal(X, t).mean, rtol=1e-12, atol=0)
        assert_close(coarse.marginal(X, k).std, model.marginal(X, t).std, rtol=1e-12, atol=0)
        if k > 0:  # the same network, asked at its own time
            assert_close(coarse.data_estimate(X, k), model.data_estimate(X, t), rtol=1e-12, atol=0)
    log_px = normal_log_prob(X[0], *generated_law(coarse, [2] * num_steps)).item()
    bound = exact_elbo(coarse, X)
    assert bound < log_px
    assert_mean(coarse.elbo_single(X.expand(N, -1), seeded(0)), bound)  # 4.5 s.e.
    assert_mean(coarse.elbo_path(X.expand(N, -1), seeded(1)), bound)


def test_a_respaced_model_with_a_learned_variance_keeps_it():
    coarse = affine_diffusion("optimal", "learned_diag").respaced(2)
    assert coarse.variance == "learned"
    assert exact_elbo(coarse, X) < normal_log_prob(X[0], *generated_law(coarse, [2, 2])).item()


def test_all_the_steps_are_the_model_itself():
    model = optimal_x_model()
    assert model.respaced(DEPTH) is model


def test_a_respaced_model_computes_in_the_numbers_of_the_model():
    assert optimal_x_model().respaced(2).prior().mean.dtype == F64
    with_parameters = Diffusion(nn.Bilinear(2, 1, 2), Schedule.from_betas(SMALL_BETAS), 2).double()
    assert with_parameters.respaced(2).prior().mean.dtype == F64


@pytest.mark.parametrize("num_steps", [0, -1, 6])
def test_a_number_of_steps_that_the_model_has_not_is_refused(num_steps):
    with pytest.raises(InputError, match=r"1\.\.5"):
        optimal_x_model().respaced(num_steps)


def test_a_chain_of_one_step_is_a_model():
    schedule = Schedule.from_betas([0.99])
    for variance in ("unit", "beta", "beta_tilde"):
        model = Diffusion(lambda z, t: 0.4 * z, schedule, 2, "x", variance).double()
        bound = exact_elbo(model, X)
        for estimate in ESTIMATORS.values():
            assert_mean(estimate(model, X.expand(N, -1), seeded(0)), bound)  # 4.5 s.e.
        assert bound < normal_log_prob(X[0], *generated_law(model, [2])).item()


# A user's mistakes


@pytest.mark.parametrize(
    "wrong",
    [
        {"prediction": "epsilon"},
        {"variance": "small"},
        {"likelihood": "poisson"},
        {"event_shape": ()},
        {"event_shape": True},
    ],
)
def test_a_model_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError):
        Diffusion(nn.Identity(), Schedule.from_betas(SMALL_BETAS), **{"event_shape": 2, **wrong})


def test_an_objective_that_is_not_one_is_refused():
    with pytest.raises(InputError, match="simple, path, pair, single"):
        affine_diffusion("arbitrary", "beta").loss(X, objective="hybrid")


@pytest.mark.proves("S32", "S38")
def test_images_keep_their_shape_through_every_function():
    model = Diffusion(lambda z, t: 0.5 * z, Schedule.from_betas(SMALL_BETAS), (2, 3, 3))
    x = torch.zeros(4, 2, 3, 3)
    t = torch.tensor([1, 2, 5, 1])
    assert model.reverse(x, t).mean.shape == x.shape
    for values in (model.step_cost(x, x, t), model.elbo_path(x), model.elbo_pair(x), model.loss(x), elbo(model, x)):
        assert values.shape == (4,)
    assert ancestral_sample(model, 3).shape == (3, 2, 3, 3)


@pytest.mark.proves("M9")
@catches("""models/diffusion.py: the KL to the prior forgets the data
- (alpha_bar * sum_event(x.square()) + self.num_dims * left)
+ (0 * sum_event(x.square()) + self.num_dims * left)""")
def test_the_prior_kl_is_right_in_float32_where_one_minus_alpha_bar_rounds_to_one():
    # oracle O7: the cosine schedule ends at alpha_bar = 2.43e-9, below float32's 6e-8 beside 1. M9 to first order in
    # it is alpha_bar |x|^2 / 2; the next order is 1e-9 of that.
    model = Diffusion(lambda z, t: z, Schedule.cosine(1000), (784,))
    alpha_bar = 2.4287669070344683560e-9
    kl = model.prior_kl(torch.full((1, 784), 0.5))
    assert kl.dtype == torch.float32
    assert kl.item() == pytest.approx(alpha_bar * 784 * 0.25 / 2, rel=1e-6)


def test_a_thousand_steps_in_float32_are_summed_without_losing_nats():
    schedule = Schedule.linear(1000)
    model = Diffusion(lambda z, t: 0.9 * z, schedule, 784)
    x = torch.rand(3, 784, generator=seeded(0)) * 2 - 1
    path = [z.double() for z in draw_path(model, x, seeded(1))]
    found, double = model.elbo_path(x, seeded(1)), model.double()
    exact = bound_constant(double, path[0])
    for t in range(1, 1001):
        exact = exact + double.step_log_prob(path[t - 1], path[t], t)
    # a step's 2,000 nats are rounded by 1e-4, a thousand of them by 4e-3 together; summed in float32 they lost 0.18
    assert_close(found.double(), exact, rtol=0, atol=0.02)
