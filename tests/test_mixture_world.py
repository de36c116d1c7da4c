"""Data that are a mixture of Gaussians: the exact denoiser is known, and with it what training can reach (O18 to O20)."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, assert_mean, drawn, f64, oracle, seeded
from kakusan.models.diffusion import Diffusion
from kakusan.schedule import Schedule
from kakusan.solvers import Ancestral

ORACLE = oracle("gaussian_mixture")
DATA = ORACLE["elbo_linear_T100"]["inputs"]
WEIGHT, MEAN, VAR = (f64(DATA[key]) for key in ("weights", "means", "variances"))
SCHEDULES = {"elbo_linear_T100": Schedule.linear(100, 1e-3, 0.2), "elbo_linear_T1000": Schedule.linear(1000)}
# The narrowest law on this grid has a spread of 0.25, and responsibilities change over 0.04 at the least: at this step
# the trapezoid rule on such analytic functions errs by less than 1e-11.
GRID = torch.linspace(-7, 7, 561, dtype=F64)


def components(schedule: Schedule, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """At each z_t: log weight_k q_k(z_t), and the mean and variance of x under component k; each (b, 2)."""
    a, b2 = schedule.alpha_bar[t].sqrt()[:, None], schedule.noise_var[t][:, None]
    marginal = a.square() * VAR + b2
    off = z - a * MEAN
    log_joint = WEIGHT.log() - 0.5 * (off.square() / marginal + marginal.log() + math.log(2 * math.pi))
    return log_joint, MEAN + a * VAR / marginal * off, VAR * b2 / marginal


def exact_denoiser(schedule: Schedule):
    """E[x | z_t] for one-dimensional data of the mixture."""

    def denoiser(z, t):
        log_joint, mean, _ = components(schedule, z, t)
        return (log_joint.softmax(1) * mean).sum(1, keepdim=True)

    return denoiser


def mixture_model(schedule: Schedule, variance: str = "beta") -> Diffusion:
    return Diffusion(exact_denoiser(schedule), schedule, 1, "x", variance).double()


def expected_costs(model: Diffusion, times: Tensor) -> Tensor:
    """E step_cost over data and z_t at each of these steps, (len(times),), by quadrature over z_t and, exactly, over x."""
    means = []
    for part in times.split(100):
        t = part.repeat_interleave(len(GRID))
        z = GRID.repeat(len(part))[:, None]
        log_joint, mean, var = components(model.schedule, z, t)
        total = torch.zeros(len(t), dtype=F64)
        for k in range(2):
            for node, weight in ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6)):  # of degree 2 in x
                x = mean[:, k : k + 1] + var[:, k : k + 1].sqrt() * node
                total += weight * log_joint[:, k].exp() * model.step_cost(x, z, t)
        means.append(torch.trapezoid(total.view(len(part), -1), GRID, dim=1))
    return torch.cat(means)


def steps(first: int, last: int) -> Tensor:
    return torch.arange(first, last + 1)


# O18: one model in four words, at the points of the oracle


def points(case: str) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """z_t (b, D), t (b,), and what the oracle says there of x, score, eps and v."""
    keys = [key.split(",", 1) for key in ORACLE[case]["outputs"]]
    t = torch.tensor([int(step.removeprefix("t=")) for step, _ in keys])
    z = f64([[float(value) for value in place.removeprefix("x=").strip("[]").split(",")] for _, place in keys])
    rows = ORACLE[case]["outputs"].values()
    said = {"x": "x0", "score": "score", "eps": "eps", "v": "v"}
    return z, t, {word: f64([row[key] for row in rows]).view(len(t), -1) for word, key in said.items()}


@pytest.mark.proves("M8", "O18")
@pytest.mark.parametrize("case", ["denoiser_1d", "denoiser_2d"])
@pytest.mark.parametrize("word", ["score", "eps", "v"])
def test_score_noise_and_velocity_of_a_mixture_are_its_posterior_mean(case, word):  # Tweedie, theory M8
    z, t, exact = points(case)
    model = Diffusion(lambda z, t: exact[word], Schedule.linear(1000), z.shape[1], word).double()
    # the oracle's 17 digits, divided by sqrt(alpha_bar) = 0.006 at t = 1000
    assert_close(model.data_estimate(z, t), exact["x"], rtol=1e-10, atol=1e-12)


def test_the_exact_denoiser_of_these_tests_is_the_oracles():
    z, t, exact = points("denoiser_1d")
    assert_close(exact_denoiser(Schedule.linear(1000))(z, t), exact["x"], rtol=1e-10, atol=1e-12)


# O19: what training can reach


@pytest.mark.proves("M7", "E14", "O10", "O11", "O19", "O17")
@pytest.mark.parametrize("case", SCHEDULES)
@pytest.mark.parametrize(
    ("variance", "key"), [("unit", "unit_seed"), ("beta", "beta"), ("beta_tilde", "tilde_t1_beta")]
)
def test_the_exact_denoiser_has_the_best_bound_of_its_variance(case, variance, key):
    model, known = mixture_model(SCHEDULES[case], variance), ORACLE[case]["outputs"]["by_variance"][key]
    costs = expected_costs(model, steps(1, model.depth))
    assert costs[1:].sum().item() == pytest.approx(known["sum_step_kl"], rel=1e-9)
    nodes = torch.cat([MEAN + VAR.sqrt() * node for node in (-math.sqrt(3), 0.0, math.sqrt(3))])[:, None]
    weights = torch.cat([WEIGHT * w for w in (1 / 6, 2 / 3, 1 / 6)])
    prior = (weights * model.prior_kl(nodes)).sum()
    assert prior.item() == pytest.approx(known["prior"], rel=1e-9)
    if variance == "beta_tilde":
        return  # at t = 1 the oracle takes beta_1 and the model beta_tilde_2: the steps above are what they share
    assert -costs[0].item() == pytest.approx(known["reconstruction"], rel=1e-9)
    assert -(prior + costs.sum()).item() == pytest.approx(known["best_mean_elbo"], rel=1e-9)
    assert known["best_mean_elbo"] < ORACLE[case]["outputs"]["minus_entropy"]  # theory M14


def test_a_worse_denoiser_has_a_worse_bound():
    schedule = SCHEDULES["elbo_linear_T100"]
    exact = exact_denoiser(schedule)
    best = ORACLE["elbo_linear_T100"]["outputs"]["by_variance"]["beta"]["sum_step_kl"]
    for wrong in (lambda z, t: 1.02 * exact(z, t), lambda z, t: exact(z, (t - 1).clamp(min=1))):
        model = Diffusion(wrong, schedule, 1, "x", "beta").double()
        assert expected_costs(model, steps(2, 100)).sum() > best + 1e-3  # the quadrature is right to 1e-9


@pytest.mark.proves("M14", "O19", "O20")
@pytest.mark.parametrize("case", SCHEDULES)
def test_the_simple_loss_of_the_exact_denoiser_is_its_floor(case):
    schedule, exact = SCHEDULES[case], exact_denoiser(SCHEDULES[case])

    def eps_hat(z, t):
        return (z - schedule.alpha_bar[t].sqrt()[:, None] * exact(z, t)) / schedule.noise_var[t].sqrt()[:, None]

    which = torch.multinomial(WEIGHT, 100_000, replacement=True, generator=seeded(0))
    x = MEAN[which] + VAR[which].sqrt() * torch.randn(100_000, generator=seeded(1), dtype=F64)
    draws = Diffusion(eps_hat, schedule, 1, "eps").double().loss(x[:, None], seeded(2))
    # 4.5 s.e. and more: the strata of t make the true standard error smaller
    assert_mean(draws, ORACLE[case]["outputs"]["mean_over_t_of_mmse_eps"])


# O20: with the posterior's own variance a step costs what it tells of the data


@pytest.mark.proves("M14", "O19", "O20")
@pytest.mark.parametrize("case", SCHEDULES)
@catches("""schedule.py: log beta_tilde is log beta
- log_beta_tilde = self.beta_tilde.log()
+ log_beta_tilde = self.beta.log()""")
def test_a_step_with_beta_tilde_costs_half_its_gain_in_snr_times_the_mean_square_error(case):  # theory M14
    schedule = SCHEDULES[case]
    known = {int(t): mmse for t, mmse in ORACLE[case]["outputs"]["mmse_x0"].items() if t != "1"}
    t = torch.tensor(list(known))
    expected = 0.5 * (schedule.snr[t - 1] - schedule.snr[t]) * f64(list(known.values()))
    assert_close(expected_costs(mixture_model(schedule, "beta_tilde"), t), expected, rtol=1e-9, atol=0)


@pytest.mark.proves("M14", "O19", "O20")
def test_the_steps_of_a_fine_chain_sum_to_the_information_in_its_noise():  # d I / d SNR = mmse / 2
    known = ORACLE["i_mmse"]
    sums = []
    for depth in (400, 800):
        snr = torch.logspace(
            math.log10(known["inputs"]["snr_to"]), math.log10(known["inputs"]["snr_from"]), depth, dtype=F64
        )
        alpha_bar = torch.cat([f64([1.0]), snr / (1 + snr)])
        schedule = Schedule.from_betas(1 - alpha_bar[1:] / alpha_bar[:-1])
        sums.append(expected_costs(mixture_model(schedule, "beta_tilde"), steps(2, depth)).sum().item())
    information = known["outputs"]["information_gain"]
    errors = [total - information for total in sums]
    assert 0 < errors[1] < 0.52 * errors[0]  # an upper sum of a falling curve, of first order in the step
    # without the first order, what is left is of second order in the step of log SNR, 0.05: 7e-4 of 3.97
    assert 2 * sums[1] - sums[0] == pytest.approx(information, abs=1e-3)


# O23: what is generated


def distance_to_the_data(draws: Tensor) -> float:
    """Largest difference of the empirical and the true distribution function (Kolmogorov's)."""
    ordered = draws.flatten().sort().values
    true = (WEIGHT * torch.special.ndtr((ordered[:, None] - MEAN) / VAR.sqrt())).sum(1)
    rank = torch.arange(1, len(ordered) + 1, dtype=F64) / len(ordered)
    return (true - rank).abs().max().item()


@pytest.mark.proves("S41", "O17")
def test_samples_of_the_exact_denoiser_are_nearly_the_data_and_with_unit_variance_far_off():  # theory S41, E14
    n, schedule = 20_000, SCHEDULES["elbo_linear_T100"]
    # 20,000 draws of the data themselves lie within 1.63 / sqrt(n) = 0.0115 in 99 of 100 cases; a hundred steps add to it
    assert distance_to_the_data(drawn(Ancestral(), mixture_model(schedule, "beta"), n, seeded(0))) < 0.03
    assert distance_to_the_data(drawn(Ancestral(), mixture_model(schedule, "unit"), n, seeded(0))) > 0.2
