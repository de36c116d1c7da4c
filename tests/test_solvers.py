"""Samplers carry a Gaussian to a Gaussian where the denoiser is affine: their law is computed, not guessed."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import (
    F64,
    SMALL_BETAS,
    affine_diffusion,
    assert_covariance,
    assert_mean,
    drawn,
    f64,
    gaussian_x_denoiser,
    generated_law,
    oracle,
    seeded,
    steps_of,
)
from kakusan.bound import ancestral_sample
from kakusan.errors import InputError
from kakusan.guidance import guided
from kakusan.models.diffusion import Diffusion
from kakusan.noise import example_streams
from kakusan.oracles import GaussianWorld
from kakusan.schedule import Schedule
from kakusan.solvers import DDIM, SOLVERS, Ancestral, DPMSolver, Heun, UniPC, sample, solve, solver_named, times
from kakusan.solvers.adams import adams_weights, moment
from kakusan.solvers.evaluations import counted
from kakusan.solvers.time_grid import checked_times

N = 100_000  # draws of a random test


def ancestral(model, n, randomness=None):
    return drawn(Ancestral(), model, n, randomness)


def ddim(model, n, randomness=None, eta=0.0):
    return drawn(DDIM(eta), model, n, randomness)


def heun(model, n, randomness=None, churn=0.0):
    return drawn(Heun(churn), model, n, randomness)


def sampler(name, **options):
    """Samples by the solver of this name at all steps: (model, n, randomness) -> x."""
    return lambda model, n, randomness=None: drawn(solver_named(name, **options), model, n, randomness)


def pairs(solver, model, n, randomness=None, times=None):
    """(z_s, x_hat) of each step."""
    return [(step.z_s, step.x_hat) for step in steps_of(solver, model, n, randomness, times)]


ORACLE = oracle("diffusion_linear_T5_D2")
SETTING = ORACLE["setting"]["inputs"]


def gaussian_model(mean, cov, schedule=None, variance="beta", word="x"):
    """The exact denoiser of data N(mean, cov), saying x or eps."""
    schedule = schedule or Schedule.from_betas(SMALL_BETAS)
    x_hat = gaussian_x_denoiser(schedule, mean, cov)

    def eps_hat(z, t):
        return (z - schedule.alpha_bar[t].sqrt()[:, None] * x_hat(z, t)) / schedule.noise_var[t].sqrt()[:, None]

    return Diffusion({"x": x_hat, "eps": eps_hat}[word], schedule, len(mean), word, variance).double()


def optimal_model(variance="beta", word="x"):
    return gaussian_model(f64(SETTING["data_mean"]), f64(SETTING["data_cov"]), variance=variance, word=word)


class Network(nn.Module):
    """Says z, and can be listened to."""

    def forward(self, z, t):
        return z


def ddim_law(model):
    """Mean and covariance of deterministic ddim, from the affine map of z_T to x that a few draws reveal."""
    dims = model.num_dims
    z = model.prior().expand(dims + 3).sample(seeded(0))  # what ddim draws first from the same seed
    x = ddim(model, dims + 3, seeded(0))
    design = torch.cat([z, torch.ones(len(z), 1, dtype=F64)], 1)
    solution = torch.linalg.lstsq(design, x).solution
    assert_close(design @ solution, x, rtol=1e-10, atol=1e-10)  # two draws more than unknowns: the map is affine
    return solution[-1], solution[:-1].T @ solution[:-1]


# Ancestral, theory M13, O12


@pytest.mark.proves("M13", "O12", "O17", "O23")
@pytest.mark.parametrize("case", [case for case in ORACLE if "generated_mean" in ORACLE[case]["outputs"]])
def test_down_the_chain_the_law_of_the_model_is_generated(case):
    denoiser, variance = case.split("_", 1)
    mean, cov = generated_law(affine_diffusion(denoiser, variance), [2] * 5)
    assert_close(mean, f64(ORACLE[case]["outputs"]["generated_mean"]), rtol=1e-10, atol=1e-12)
    assert_close(cov, f64(ORACLE[case]["outputs"]["generated_cov"]), rtol=1e-10, atol=1e-12)


@pytest.mark.proves("M13", "S41", "S58", "O17", "O23", "O19")
@catches("""solvers/ancestral.py: ancestral samples carry the last noise
- down.mean if s.is_data else down.mean + down.std * noise(z)
+ down.mean + down.std * noise(z)""")
def test_ancestral_draws_follow_that_law_without_the_last_noise():
    model = affine_diffusion("arbitrary", "beta")
    mean, cov = generated_law(model, [2] * 5, mean_output=True)
    draws = ancestral(model, N, seeded(0))
    assert_mean(draws, mean)  # 4.5 s.e., 6 entries
    assert_covariance(draws, cov)
    assert_close(cov + 0.1 * torch.eye(2), f64(ORACLE["arbitrary_beta"]["outputs"]["generated_cov"]))  # beta_1 = 0.1


@pytest.mark.proves("S59", "O12")
def test_at_full_length_ancestral_is_the_generative_chain_itself():
    model = optimal_model()
    ours, chain = ancestral(model, 8, seeded(1)), ancestral_sample(model, 8, seeded(1), mean_output=True)
    assert torch.equal(ours, chain)


@pytest.mark.proves("S41", "O17")
def test_unit_variance_generates_a_law_that_is_far_too_wide():  # theory M7, E14: 276.5 at T = 1000
    known = oracle("schedules")["linear_T1000"]["outputs"][
        "seed_unit_covariance_generated_variance_for_unit_normal_data"
    ]
    model = gaussian_model(f64([0.0]), f64([[1.0]]), Schedule.linear(1000), "unit")
    _, cov = generated_law(model, [1] * 1000)
    assert cov.item() == pytest.approx(known, rel=1e-9)  # a thousand steps


# DDIM


@pytest.mark.parametrize("word", ["x", "eps"])
@pytest.mark.parametrize(("m", "s"), [(0.3, 0.25), (-1.0, 1.0), (0.3, 4.0)])
def test_ddim_carries_a_gaussian_to_the_known_gaussian(word, m, s):
    schedule = Schedule.from_betas(SMALL_BETAS)
    mean, cov = ddim_law(gaussian_model(f64([m]), f64([[s]]), schedule, word=word))
    # with v_t = abar_t s + 1 - abar_t, z_t - a_t m shrinks by (a_{t-1} a_t s + b_{t-1} b_t) / v_t, and z_T has mean 0
    a, b = schedule.alpha_bar.sqrt(), schedule.noise_var.abs().sqrt()
    v = schedule.alpha_bar * s + schedule.noise_var
    gain = ((a[:-1] * a[1:] * s + b[:-1] * b[1:]) / v[1:]).prod()
    assert cov.item() == pytest.approx(gain.item() ** 2, rel=1e-10)
    assert mean.item() == pytest.approx(m - gain.item() * a[-1].item() * m, rel=1e-10)


def test_ddim_with_many_steps_reaches_the_data_law():
    m, s = f64([0.3, -0.2]), f64(SETTING["data_cov"])
    errors = []
    for depth in (100, 400):
        mean, cov = ddim_law(gaussian_model(m, s, Schedule.cosine(depth)))
        errors.append((cov - s).abs().max().item())
        assert_close(mean, m, rtol=0, atol=0.02)  # the prior has mean 0, and the chain forgets it in a_T alone
    assert errors[1] < errors[0] / 2 < 0.05  # a first-order method


@catches("""solvers/ddim.py: a step of ddim keeps the signal of the step that it leaves
- z = s.signal * x + kept * eps
+ z = t.signal * x + kept * eps""")
def test_ddim_of_a_point_is_that_point():
    model = gaussian_model(f64([0.7, -0.1]), torch.zeros(2, 2, dtype=F64))
    assert_close(ddim(model, 4, seeded(0)), f64([[0.7, -0.1]]).expand(4, -1), rtol=1e-12, atol=0)


def test_ddim_at_eta_one_is_ancestral_with_beta_tilde():
    model = optimal_model("beta_tilde")
    assert_close(ddim(model, 6, seeded(2), eta=1.0), ancestral(model, 6, seeded(2)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_keeps_the_marginals_of_a_known_example(eta):  # Song, Meng and Ermon 2021, lemma 1
    # told the truth x, every z_t that it visits has the law q(z_t | x), whatever eta
    schedule = Schedule.from_betas([*SMALL_BETAS, 0.9999])  # ends at the prior
    x = f64([0.9, -0.5])
    model = Diffusion(lambda z, t: x.expand_as(z), schedule, 2, "x").double()
    for t, (z, x_hat) in zip(range(schedule.depth - 1, -1, -1), pairs(DDIM(eta), model, N, seeded(3))):
        assert torch.equal(x_hat, x.expand_as(z))
        if t > 0:
            # the start N(0, I) has mean 0 in place of a_T x = 0.0024: 0.75 s.e. at most. 4.5 s.e., 6 entries, 5 steps
            assert_mean(z, schedule.alpha_bar[t].sqrt() * x)
            assert_covariance(z, schedule.noise_var[t] * torch.eye(2, dtype=F64))
    assert_close(z, x.expand_as(z), rtol=1e-12, atol=0)


@catches("""solvers/ddim.py: eta is not squared [0.5]
- fresh_var = self.eta**2
+ fresh_var = self.eta""")
@catches("""solvers/ddim.py: fresh noise comes on top of all the old noise [1.0]
- max(s.noise**2 - fresh_var, 0.0)
+ max(s.noise**2, 0.0)""")
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_of_ddim_replaces_a_share_eta_squared_of_the_noise(eta):  # Song, Meng and Ermon 2021, equation 12
    model, generator = optimal_model(), seeded(9)
    start, fresh = (torch.randn(4, 2, generator=generator, dtype=F64) for _ in range(2))
    z, x_hat = pairs(DDIM(eta), model, 4, seeded(9))[0]
    table = model.schedule
    eps_hat = (start - table.alpha_bar[5].sqrt() * x_hat) / table.noise_var[5].sqrt()
    var = eta**2 * table.beta_tilde[5]
    expected = table.alpha_bar[4].sqrt() * x_hat + (table.noise_var[4] - var).sqrt() * eps_hat + var.sqrt() * fresh
    assert_close(z, expected, rtol=1e-12, atol=1e-12)


def test_ddim_draws_nothing_after_its_start():
    model, generator = optimal_model(), seeded(4)
    ddim(model, 5, generator)
    after_start = seeded(4)
    model.prior().expand(5).sample(after_start)
    assert torch.equal(generator.get_state(), after_start.get_state())


def test_the_steps_of_ddim_end_with_its_result():
    model = optimal_model()
    steps = pairs(DDIM(), model, 3, seeded(5))
    assert len(steps) == 5
    assert torch.equal(steps[-1][0], ddim(model, 3, seeded(5)))
    assert_close(steps[-1][0], steps[-1][1], rtol=1e-12, atol=0)  # the last step is the data estimate


# Solvers of higher order: a step against the formulas of the papers, and against quadrature


@pytest.mark.parametrize("h", [1e-6, 0.03, 1.0, 7.0, 40.0])
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_moments_of_the_exponential_are_those_of_quadrature(h, k):
    v = (torch.arange(400_000, dtype=F64) + 0.5) / 400_000  # the midpoint rule errs by h^2 / 24 / 400,000^2 of it
    assert moment(h, k) == pytest.approx((h * v**k * ((v - 1) * h).exp()).mean().item(), rel=1e-8)


def test_moments_stay_exact_where_their_closed_form_cancels():
    h = 1e-6  # 1 - (1 - exp(-h)) / h has ten digits left there, the next but one a single one
    assert moment(h, 1) == pytest.approx(h / 2 - h**2 / 6, rel=1e-12)
    assert moment(h, 3) == pytest.approx(h / 4 - h**2 / 20, rel=1e-12)


@pytest.mark.parametrize("nodes", [[0.0], [0.0, -1.0], [0.0, -0.4, -3.0], [1.0, 0.0, -2.0], [1.0, 0.0, -0.7, -1.1]])
def test_the_weights_are_exact_for_polynomials_and_not_beyond(nodes):
    h = 0.8
    weights = f64(adams_weights(h, nodes))
    for k in range(len(nodes) + 1):
        off = abs((weights * f64(nodes) ** k).sum().item() - moment(h, k))
        assert off < 1e-12 if k < len(nodes) else off > 1e-3


def told(model, estimates):
    """The model, whose estimates are these, one after the other."""
    words = iter(estimates)
    model.data_estimate = lambda z, t, cond=None: next(words)
    return model


@catches("""solvers/adams.py: the slope of the solver counts in full
- slope = whole / 2 / -nodes[1]
+ slope = whole / -nodes[1]""")
def test_a_second_step_of_the_solver_is_that_of_its_paper():  # Lu et al. 2022, "DPM-Solver++", algorithm 2
    model = optimal_model().respaced(3).double()  # levels 3, 2, 1 and the data
    estimates = [torch.randn(4, 2, generator=seeded(k), dtype=F64) for k in range(3)]
    table = model.schedule
    alpha, sigma, lam = table.alpha_bar.sqrt(), table.noise_var.sqrt(), table.log_snr / 2
    z = model.prior().expand(4).sample(seeded(0))
    h1, h2 = lam[2] - lam[3], lam[1] - lam[2]
    z = sigma[2] / sigma[3] * z - alpha[2] * torch.expm1(-h1) * estimates[0]
    r = h1 / h2
    d = (1 + 1 / (2 * r)) * estimates[1] - 1 / (2 * r) * estimates[0]
    z = sigma[1] / sigma[2] * z - alpha[1] * torch.expm1(-h2) * d
    states = [state for state, _ in pairs(DPMSolver(), told(model, estimates), 4, seeded(0))]
    assert_close(states[1], z, rtol=1e-12, atol=1e-12)
    assert torch.equal(states[2], estimates[2])


@catches("""solvers/dpm_solver.py: the stochastic solver forgets that its last step was of another size
- *[(level.half_log_snr - t.half_log_snr) / h for level, _ in estimates[1:]]
+ *[-1.0 for _ in estimates[1:]]""")
def test_a_second_step_of_the_stochastic_solver_is_that_of_its_paper():  # ibid., SDE-DPM-Solver++(2M)
    model, generator = optimal_model().respaced(3).double(), seeded(1)
    estimates = [torch.randn(4, 2, generator=seeded(k), dtype=F64) for k in range(3)]
    z, first, second = (torch.randn(4, 2, generator=generator, dtype=F64) for _ in range(3))
    table = model.schedule
    alpha, sigma, lam = table.alpha_bar.sqrt(), table.noise_var.sqrt(), table.log_snr / 2
    before = None
    for t, x_hat, fresh in ((3, estimates[0], first), (2, estimates[1], second)):
        h = lam[t - 1] - lam[t]
        slope = 0 if before is None else (x_hat - estimates[0]) * h / before
        whole = alpha[t - 1] * (1 - (-2 * h).exp())
        z = sigma[t - 1] / sigma[t] * (-h).exp() * z + whole * x_hat + whole / 2 * slope
        z, before = z + sigma[t - 1] * (1 - (-2 * h).exp()).sqrt() * fresh, h
    states = [state for state, _ in pairs(DPMSolver(sde=True), told(model, estimates), 4, seeded(1))]
    assert_close(states[1], z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", [DDIM(), DPMSolver(), DPMSolver(order=3), Heun(), UniPC()])
def test_deterministic_solvers_follow_the_flow_that_the_world_knows(function):
    world = GaussianWorld([0.3, -0.2], [[0.6, 0.25], [0.25, 0.4]])
    schedule = Schedule.cosine(400)
    model = Diffusion(world.network(schedule.beta[1:], "x"), schedule, 2, "x").double()
    z = model.prior().expand(5).sample(seeded(0))
    a, b = (table.sqrt().item() for table in (schedule.alpha_bar[-1], schedule.noise_var[-1]))
    exact = world.transport(z, (a, b), (1.0, 0.0))
    off = (drawn(function, model, 5, seeded(0)) - exact).abs().max().item()
    assert off < (0.03 if function == DDIM() else 3e-4)  # order 1 / T, and 1 / T^2 with the last step's error


@catches("""solvers/base.py: a callback gets the estimate at the latent that Heun predicted
- if level is self.level or level.index not in self.estimates:
+ if level.index not in self.estimates:""")
def test_heun_is_the_trapezoid_rule_in_the_angle():
    model = optimal_model()
    z = model.prior().expand(4).sample(seeded(0))
    (first, x_hat), (_, x_hat_of_second) = pairs(Heun(), model, 4, seeded(0))[:2]
    a, b = model.schedule.alpha_bar.sqrt(), model.schedule.noise_var.sqrt()
    angle = torch.atan2(b, a)

    def v(z, t):
        eps = (z - a[t] * model.data_estimate(z, t)) / b[t]
        return a[t] * eps - b[t] * model.data_estimate(z, t)

    step = angle[4] - angle[5]
    assert_close(first, z + step * (v(z, 5) + v(z + step * v(z, 5), 4)) / 2, rtol=1e-12, atol=1e-12)
    assert torch.equal(x_hat, model.data_estimate(z, 5))
    assert torch.equal(x_hat_of_second, model.data_estimate(first, 4))  # and not that of the predicted latent


@catches("""solvers/heun.py: churn keeps the signal of the latent that it raises
- return share * z + var**0.5
+ return z + var**0.5""")
@catches("""solvers/heun.py: churn raises the latent of the first step too
- if self.churn and state:
+ if self.churn:""")
@catches("""solvers/heun.py: churn knows no limit
- growth = min(1 + self.churn / denoise.num_steps, LARGEST_GROWTH)
+ growth = 1 + self.churn / denoise.num_steps""")
def test_churn_takes_a_latent_up_the_noising_chain():
    model, asked, generator = optimal_model(), [], seeded(3)
    start, first, second = (torch.randn(4, 2, generator=generator, dtype=F64) for _ in range(3))
    network = model.denoiser
    model = model.with_network(lambda z, t: asked.append((z, int(t[0]))) or network(z, t))
    states = [z for z, _ in pairs(Heun(churn=100.0), model, 4, seeded(3), [1, 3, 5])]
    # by sqrt(2) at most, to the nearest: from 3 to 4, from 1 to 2; a step begins there and ends where it would have
    assert [t for _, t in asked] == [5, 3, 4, 1, 2]
    assert torch.equal(asked[0][0], start)
    one_step = model.encode(states[0], 4)  # q(z_4 | z_3)
    assert_close(asked[2][0], one_step.mean + one_step.std * first, rtol=1e-12, atol=1e-12)
    one_step = model.encode(states[1], 2)
    assert_close(asked[4][0], one_step.mean + one_step.std * second, rtol=1e-12, atol=1e-12)
    asked.clear()
    solve(model, start, Heun(churn=100.0), [1, 3], randomness=seeded(4))
    assert [t for _, t in asked] == [3, 1, 2]  # the first step begins where it was told to


@catches("""solvers/heun.py: noise grows by all of the churn in each step [0.9-1.3]
- growth = min(1 + self.churn / denoise.num_steps, LARGEST_GROWTH)
+ growth = min(1 + self.churn, LARGEST_GROWTH)""")
@catches("""solvers/heun.py: a step at most doubles the noise [30.0-1.4142135623730951]
- LARGEST_GROWTH = math.sqrt(2)
+ LARGEST_GROWTH = 2.0""")
@pytest.mark.parametrize(("churn", "growth"), [(0.9, 1.3), (30.0, math.sqrt(2))])
def test_churn_is_shared_by_the_steps_and_limited(churn, growth):
    asked, schedule = [], Schedule.cosine(1000)  # so fine that the nearest level is near
    model = Diffusion(lambda z, t: asked.append(int(t[0])) or 0.5 * z, schedule, 2, "x").double()
    drawn(Heun(churn), model, 2, seeded(0), [200, 500, 900])
    assert [asked[k] for k in (0, 1, 3)] == [900, 500, 200]
    ratio = (-schedule.log_snr / 2).exp()
    for t, raised in ((500, asked[2]), (200, asked[4])):
        assert (ratio[raised] / ratio[t]).item() == pytest.approx(growth, rel=5e-3)  # half a level


def test_churn_that_no_step_of_the_chain_is_fine_enough_for_adds_nothing():
    model = optimal_model()
    assert torch.equal(heun(model, 3, seeded(0), churn=1e-9), heun(model, 3, seeded(0)))


@pytest.mark.parametrize("churn", [-1.0, math.inf, math.nan])
def test_a_churn_that_is_no_amount_of_noise_is_refused(churn):
    with pytest.raises(InputError, match="churn"):
        heun(optimal_model(), 2, churn=churn)


@pytest.mark.parametrize("make", [sampler("dpm++2m-sde"), lambda *a: heun(*a, churn=4.0)])
def test_fresh_noise_is_drawn_for_each_example(make):
    model = gaussian_model(f64([0.3, -0.2]), f64(SETTING["data_cov"]), Schedule.cosine(40)).respaced(5).double()
    many = make(model, 4, example_streams(8, range(4)))
    assert_close(many[2:3], make(model, 1, example_streams(8, range(2, 3))), rtol=1e-12, atol=1e-12)
    assert not torch.equal(make(model, 1, seeded(0)), make(model, 1, seeded(1)))


def test_a_solver_leaves_gradients_as_it_found_them():
    for solver in (DDIM(), Heun()):
        assert not drawn(solver, optimal_model(), 2).requires_grad
        assert torch.is_grad_enabled()


# Which steps


@catches("""solvers/time_grid.py: steps may be visited twice [999-log-snr]
- out.append(max(t, free))
+ out.append(t)""")
@pytest.mark.parametrize("spacing", ["uniform", "log-snr", "karras"])
@pytest.mark.parametrize("num_steps", [1, 2, 10, 999, 1000])
def test_steps_rise_without_repeats_within_the_chain(spacing, num_steps):
    found = times(Schedule.cosine(1000), num_steps, spacing)
    assert len(found) == num_steps
    assert found == sorted(set(found))
    assert found[0] >= 1
    assert found[-1] == 1000  # where the latents start


@catches("""solvers/time_grid.py: the steps of karras are spaced in the logarithm
- RHO = 7
+ RHO = 1e6""")
def test_steps_are_equally_spaced_in_what_their_name_says():
    schedule = Schedule.cosine(100_000)  # so fine that the nearest step is near
    noise = (-schedule.log_snr / 2).exp()
    low, high = 1 / 9, 18 / math.pi
    by_log_snr = noise[times(schedule, 9, "log-snr")][:-1].log()
    assert_close(by_log_snr, torch.linspace(math.log(low), math.log(high), 8, dtype=F64), rtol=0, atol=1e-3)
    by_root = noise[times(schedule, 9, "karras")][:-1] ** (1 / 7)
    assert_close(by_root, torch.linspace(low ** (1 / 7), high ** (1 / 7), 8, dtype=F64), rtol=1e-3, atol=0)


@catches("""solvers/time_grid.py: the first noise of a grid does not grow with the number of steps [4]
- math.log(2 * num_steps / math.pi)
+ math.log(18 / math.pi)""")
@catches("""solvers/time_grid.py: the last noise of a grid does not shrink with the number of steps [30]
- low, high = -math.log(num_steps),
+ low, high = -math.log(9),""")
@pytest.mark.parametrize("num_steps", [3, 4, 30])
def test_a_grid_begins_with_more_noise_and_ends_with_less_for_more_steps(num_steps):
    schedule = Schedule.cosine(3000)
    for spacing in ("log-snr", "karras"):
        found = times(schedule, num_steps, spacing)
        log_noise = (-schedule.log_snr[[found[0], found[-2]]] / 2).tolist()
        ends = [-math.log(num_steps), math.log(2 * num_steps / math.pi)]
        assert log_noise == pytest.approx(ends, abs=0.02)  # half a step
    one = times(schedule, 2, "karras")
    assert -schedule.log_snr[one[0]].item() / 2 == pytest.approx(-math.log(2), abs=0.02)


@catches("""solvers/time_grid.py: few steps end sharper than they would on their own
- low = min(max(low, -end_log_snr / 2), high)
+ low = min(-end_log_snr / 2, high)""")
def test_samples_end_no_sharper_than_they_are_told_to():
    schedule = Schedule.cosine(100_000)
    ended = schedule.log_snr[times(schedule, 20, "karras", end_log_snr=3.0)]
    assert_close(ended[0].item(), 3.0, rtol=0, atol=1e-3)
    assert_close(ended[-2], schedule.log_snr[times(schedule, 20, "karras")][-2])  # the other end stays
    assert times(schedule, 3, "karras", end_log_snr=3.0) == times(schedule, 3, "karras")  # 2 log 3 is lower
    assert times(schedule, 20, "uniform", end_log_snr=3.0) == times(schedule, 20, "uniform")
    whole = Schedule.cosine(50)
    assert times(whole, 50, "karras", end_log_snr=3.0) == list(range(1, 51))  # all steps are all steps


@catches("""solvers/time_grid.py: an end beyond the first noise turns the grid around [-100.0]
- low = min(max(low, -end_log_snr / 2), high)
+ low = max(low, -end_log_snr / 2)""")
@pytest.mark.parametrize("end_log_snr", [-100.0, 100.0])
def test_no_end_makes_steps_fall(end_log_snr):
    schedule = Schedule.cosine(1000)
    found = times(schedule, 20, "karras", end_log_snr=end_log_snr)
    end = math.log(40 / math.pi) if end_log_snr < 0 else -math.log(20)  # the noise at either end of 20 steps
    assert -schedule.log_snr[found[0]].item() / 2 == pytest.approx(end, abs=0.02)  # half a step
    assert found == sorted(set(found))
    assert len(found) == 20
    assert found[-1] == 1000


@pytest.mark.parametrize("end_log_snr", [101.0, -math.inf, math.nan])
def test_an_end_that_no_noise_has_is_refused(end_log_snr):
    with pytest.raises(InputError, match=r"-100\.\.100"):
        times(optimal_model().schedule, 2, "uniform", end_log_snr)


def test_a_chain_respaced_twice_is_the_finest_chain_at_the_steps_that_remain():
    model, z = optimal_model(), f64([[0.3, -1.0]])
    twice = model.respaced([1, 2, 4]).respaced([1, 3])
    for k, t in ((1, 1), (2, 4)):
        assert_close(twice.data_estimate(z, k), model.data_estimate(z, t), rtol=1e-12, atol=1e-12)


@catches("""solvers/time_grid.py: steps of a uniform grid are rounded down
- [round(depth * k / num_steps) for k
+ [depth * k // num_steps for k""")
def test_a_uniform_grid_has_the_steps_nearest_to_even_spacing():
    assert times(Schedule.cosine(11), 4) == [3, 6, 8, 11]  # of 2.75, 5.5, 8.25 and 11


@pytest.mark.parametrize("num_steps", [0, -1, 6])
def test_more_steps_than_the_chain_has_are_refused(num_steps):
    with pytest.raises(InputError, match=r"1\.\.5"):
        times(optimal_model().schedule, num_steps)


def test_a_spacing_that_does_not_exist_is_named_beside_those_that_do():
    with pytest.raises(InputError, match=r"'quadratic'.*uniform, log-snr, karras"):
        times(optimal_model().schedule, 2, "quadratic")


# Fewer steps, and everything that holds for any sampler


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_with_fewer_steps_ancestral_follows_the_coarser_chain(num_steps):
    coarse = optimal_model().respaced(num_steps).double()
    mean, cov = generated_law(coarse, [2] * num_steps, mean_output=True)
    draws = ancestral(coarse, N, seeded(6))
    assert_mean(draws, mean)  # 4.5 s.e., 6 entries
    assert_covariance(draws, cov)


@catches("""solvers/base.py: ancestral sampling takes the steps of the whole chain
- return self._chain.respaced(self._times)
+ return self._chain""")
@catches("""solvers/base.py: ancestral sampling has the variance of the step below
- place = self._times.index(self.level.index) + 1
+ place = max(self._times.index(self.level.index), 1)""")
def test_ancestral_sampling_at_some_steps_is_that_of_the_coarser_chain():
    model = optimal_model()
    ours = drawn(Ancestral(), model, 6, seeded(2), [2, 3, 5])
    chain = ancestral_sample(model.respaced([2, 3, 5]), 6, seeded(2), mean_output=True)
    assert_close(ours, chain, rtol=1e-12, atol=1e-12)


@catches("""models/respaced.py: a respaced model is asked at the coarse chain's step
- own = self.times.to(t.device)[t]
+ own = t""")
@catches("""models/respaced.py: a respaced model is asked one step early
- own = self.times.to(t.device)[t]
+ own = self.times.to(t.device)[t] - 1""")
def test_with_fewer_steps_ddim_asks_the_network_at_its_own_times():
    asked = []
    model = optimal_model()
    network = model.denoiser
    model = model.with_network(lambda z, t: asked.append(int(t[0])) or network(z, t))
    ddim(model.respaced(2).double(), 1, seeded(0))
    assert asked == [5, 2]


@pytest.mark.parametrize("name", SOLVERS)
def test_sample_i_is_the_same_for_any_batch(name):
    model = optimal_model()
    many = sampler(name)(model, 6, example_streams(8, range(6)))
    few = sampler(name)(model, 2, example_streams(8, range(3, 5)))
    alone = sampler(name)(model, 1, example_streams(8, range(5, 6)))
    assert_close(many[3:5], few, rtol=1e-12, atol=0)
    assert_close(many[5:], alone, rtol=1e-12, atol=0)
    assert not torch.equal(many[0], many[1])


def test_fresh_noise_of_ddim_is_drawn_for_each_example_too():
    model = optimal_model()
    many = ddim(model, 4, example_streams(8, range(4)), eta=0.7)
    assert_close(many[2:3], ddim(model, 1, example_streams(8, range(2, 3)), eta=0.7), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_same_seed_gives_the_same_samples_and_another_gives_others(name):
    model = optimal_model()
    first, again, other = (sampler(name)(model, 3, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", SOLVERS)
def test_samples_have_the_shape_and_the_numbers_of_the_model_and_no_gradient(name):
    network = nn.Conv2d(2, 2, 1)
    model = Diffusion(lambda z, t: network(z), Schedule.from_betas(SMALL_BETAS), (2, 3, 3))
    samples = sampler(name)(model, 4, seeded(0))
    assert samples.shape == (4, 2, 3, 3)
    assert samples.dtype == torch.float32
    assert not samples.requires_grad
    assert sampler(name)(model, 0, seeded(0)).shape == (0, 2, 3, 3)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_last_step_is_the_data_estimate_of_a_perfect_network(name, depth):
    # of data that are one point it is that point, however few the steps are: no step divides by what is 0 at t = 0
    point = f64([0.7, -0.1])
    model = gaussian_model(point, torch.zeros(2, 2, dtype=F64), Schedule.from_betas([0.5, 0.9, 0.99999][-depth:]))
    assert_close(sampler(name)(model, 4, seeded(0)), point.expand(4, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_clipped_estimate_keeps_samples_in_its_range(name):
    schedule = Schedule.from_betas(SMALL_BETAS)
    model = Diffusion(lambda z, t: 5 * z, schedule, 2, "x", clip=(-1.0, 1.0)).double()
    assert sampler(name)(model, 50, seeded(0)).abs().max() <= 1


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("word", ["eps", "v", "score", "mean"])
def test_what_the_network_predicts_makes_no_difference(name, word):
    betas = f64(SMALL_BETAS)
    world, schedule = GaussianWorld([0.3, -0.2], [[0.6, 0.25], [0.25, 0.4]]), Schedule.from_betas(betas)
    one, other = (Diffusion(world.network(betas, each), schedule, 2, each).double() for each in ("x", word))
    # the same number by another route, over five steps
    assert_close(sampler(name)(one, 4, seeded(0)), sampler(name)(other, 4, seeded(0)), rtol=1e-9, atol=1e-9)


@catches("""solvers/unipc.py: UniPC asks the network once more at the end [5-unipc-2]
- return known[0][1], state
+ return denoise(z), state""")
@catches("""solvers/evaluations.py: the count of calls goes by batches
- evaluations.total += len(arguments[0])
+ evaluations.total += 1""")
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_each_sampler_asks_as_often_as_it_says(name, num_steps):
    network = Network()
    model = Diffusion(network, Schedule.from_betas(SMALL_BETAS), 3).respaced(num_steps)
    with counted(network) as calls:
        sampler(name)(model, 4, seeded(0))
    assert calls.total == 4 * (2 * num_steps - 1 if name == "heun" else num_steps)
    sampler(name)(model, 4, seeded(0))
    assert calls.total == 4 * (2 * num_steps - 1 if name == "heun" else num_steps)  # the count has ended


@pytest.mark.parametrize("name", SOLVERS)
def test_guidance_is_counted_where_it_asks_a_second_network(name):
    better, weaker = Network(), Network()
    schedule = Schedule.cosine(20)
    ours, theirs = (Diffusion(network, schedule, 3) for network in (better, weaker))
    chain = guided(ours, theirs, 2.0, (-1.0, 1.0)).respaced(10)
    inside = (chain.schedule.log_snr.abs() <= 1).sum().item()
    assert 0 < inside < 10
    with counted(better, weaker) as calls:
        samples = sampler(name)(chain, 4, seeded(0))
    assert samples.isfinite().all()
    assert calls.total == 4 * (19 + 2 * inside if name == "heun" else 10 + inside)


@pytest.mark.parametrize("name", SOLVERS)
def test_fewer_than_no_samples_are_refused(name):
    with pytest.raises(InputError, match="number of samples"):
        sample(optimal_model(), -1, solver=name)


@pytest.mark.parametrize("eta", [-0.5, 1.5, math.nan])
def test_an_eta_that_is_no_share_of_the_noise_is_refused(eta):
    with pytest.raises(InputError, match="eta"):
        ddim(optimal_model(), 2, eta=eta)


def test_a_solver_that_does_not_exist_is_named_beside_those_that_do():
    with pytest.raises(InputError, match=r"'euler'.*ancestral, ddim"):
        solver_named("euler")
    assert solver_named("ddim", eta=None, churn=None) == DDIM()


@catches("""solvers/dpm_solver.py: the solver of third order draws noise
- if self.sde and self.order == 3:
+ if False:""")
def test_the_solver_of_third_order_draws_no_noise():
    with pytest.raises(InputError, match="order 1 or 2, got order 3"):
        DPMSolver(order=3, sde=True)


@catches("""solvers/loop.py: so many samples are drawn from more latents
- if lengths - {n}:
+ if False:""")
def test_the_number_of_samples_is_that_of_their_latents():
    with pytest.raises(InputError, match="3 samples need z and cond of that length, got 4"):
        sample(optimal_model(), 3, z=torch.zeros(4, 2, dtype=F64))


@pytest.mark.parametrize("solver", [DDIM, 3])
def test_a_solver_that_is_neither_a_name_nor_a_solver_is_refused(solver):
    with pytest.raises(InputError, match=r"solver must be a name or a solver, got .*DDIM\(\)"):
        sample(optimal_model(), 2, solver=solver, steps=4)


def test_an_option_goes_to_the_solver_that_has_it_and_to_no_other():
    assert solver_named("ddim", eta=0.5) == DDIM(0.5)
    with pytest.raises(InputError, match="eta is an option of ddim, and heun"):
        solver_named("heun", eta=0.5)
    with pytest.raises(InputError, match=r"churn is an option of heun, and dpm\+\+2m"):
        solver_named("dpm++2m", churn=1.0)


@catches("""solvers/time_grid.py: one step may come twice
- len(set(found)) < len(found)
+ len(set(found)) < len(found) - 1""")
@catches("""solvers/time_grid.py: nobody is told that the data need no step
- if found[:1] == [0] else ""
+ if found[:1] == [-1] else \"\"""")
def test_a_list_of_times_with_the_data_in_it_says_that_0_is_left_out():
    chain = Diffusion(lambda z, t: z, Schedule.cosine(50), 2, "v")
    with pytest.raises(InputError, match=r"within 1..50, got \[50, 20, 0\]; leave out 0: the last step always leads"):
        sample(chain, 2, times=[50, 20, 0])
    for wrong in ([51, 20], [50, 50, 20], [50, 20, 20]):
        with pytest.raises(InputError, match=r"must be different steps within 1..50, got \[\d+(, \d+)+\]$"):
            checked_times(wrong, 50)


def test_a_step_that_a_callback_sees_is_shown_in_one_line():
    seen = []
    sample(Diffusion(lambda z, t: z, Schedule.cosine(50), 2, "v"), 3, times=[50, 20], callback=seen.append)
    assert list(map(repr, seen)) == [
        "SolverStep(1: t = 50 to 20, latents (3, 2))",
        "SolverStep(2: t = 20 to 0, latents (3, 2))",
    ]
