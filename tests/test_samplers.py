"""Samplers carry a Gaussian to a Gaussian where the denoiser is affine: their law is computed, not guessed."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from kakusan.bound import ancestral_sample
from kakusan.diffusion import Diffusion
from kakusan.errors import InputError
from kakusan.noise import example_streams
from kakusan.samplers import SAMPLERS, ancestral, ddim, ddim_steps, sampler
from kakusan.schedule import Schedule
from support import (
    F64,
    SMALL_BETAS,
    affine_diffusion,
    assert_covariance,
    assert_mean,
    f64,
    gaussian_x_denoiser,
    generated_law,
    oracle,
    seeded,
)

N = 100_000  # draws of a random test
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


@pytest.mark.parametrize("case", [case for case in ORACLE if "generated_mean" in ORACLE[case]["outputs"]])
def test_down_the_chain_the_law_of_the_model_is_generated(case):
    denoiser, variance = case.split("_", 1)
    mean, cov = generated_law(affine_diffusion(denoiser, variance), [2] * 5)
    assert_close(mean, f64(ORACLE[case]["outputs"]["generated_mean"]), rtol=1e-10, atol=1e-12)
    assert_close(cov, f64(ORACLE[case]["outputs"]["generated_cov"]), rtol=1e-10, atol=1e-12)


def test_ancestral_draws_follow_that_law_without_the_last_noise():
    model = affine_diffusion("arbitrary", "beta")
    mean, cov = generated_law(model, [2] * 5, mean_output=True)
    draws = ancestral(model, N, seeded(0))
    assert_mean(draws, mean)  # 4.5 s.e., 6 entries
    assert_covariance(draws, cov)
    assert_close(cov + 0.1 * torch.eye(2), f64(ORACLE["arbitrary_beta"]["outputs"]["generated_cov"]))  # beta_1 = 0.1


def test_at_full_length_ancestral_is_the_generative_chain_itself():
    model = optimal_model()
    ours, chain = ancestral(model, 8, seeded(1)), ancestral_sample(model, 8, seeded(1), mean_output=True)
    assert torch.equal(ours, chain)


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
    for t, (z, x_hat) in zip(range(schedule.depth - 1, -1, -1), ddim_steps(model, N, seeded(3), eta)):
        assert torch.equal(x_hat, x.expand_as(z))
        if t > 0:
            # the start N(0, I) has mean 0 in place of a_T x = 0.0024: 0.75 s.e. at most. 4.5 s.e., 6 entries, 5 steps
            assert_mean(z, schedule.alpha_bar[t].sqrt() * x)
            assert_covariance(z, schedule.noise_var[t] * torch.eye(2, dtype=F64))
    assert_close(z, x.expand_as(z), rtol=1e-12, atol=0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_of_ddim_replaces_a_share_eta_squared_of_the_noise(eta):  # Song, Meng and Ermon 2021, equation 12
    model, generator = optimal_model(), seeded(9)
    start, fresh = (torch.randn(4, 2, generator=generator, dtype=F64) for _ in range(2))
    z, x_hat = next(ddim_steps(model, 4, seeded(9), eta))
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
    steps = list(ddim_steps(model, 3, seeded(5)))
    assert len(steps) == 5
    assert torch.equal(steps[-1][0], ddim(model, 3, seeded(5)))
    assert_close(steps[-1][0], steps[-1][1], rtol=1e-12, atol=0)  # the last step is the data estimate


def test_ddim_keeps_a_clipped_estimate_in_its_range():
    schedule = Schedule.from_betas(SMALL_BETAS)
    model = Diffusion(lambda z, t: 5 * z, schedule, 2, "x", clip=(-1.0, 1.0)).double()
    assert ddim(model, 50, seeded(0)).abs().max() <= 1


# Fewer steps, and everything that holds for any sampler


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_with_fewer_steps_ancestral_follows_the_coarser_chain(num_steps):
    coarse = optimal_model().respaced(num_steps).double()
    mean, cov = generated_law(coarse, [2] * num_steps, mean_output=True)
    draws = ancestral(coarse, N, seeded(6))
    assert_mean(draws, mean)  # 4.5 s.e., 6 entries
    assert_covariance(draws, cov)


def test_with_fewer_steps_ddim_asks_the_network_at_its_own_times():
    asked = []
    model = optimal_model()
    network = model.denoiser
    model.denoiser = lambda z, t: asked.append(int(t[0])) or network(z, t)
    ddim(model.respaced(2).double(), 1, seeded(0))
    assert asked == [5, 2]


@pytest.mark.parametrize("name", SAMPLERS)
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


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_seed_gives_the_same_samples_and_another_gives_others(name):
    model = optimal_model()
    first, again, other = (sampler(name)(model, 3, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_shape_and_the_numbers_of_the_model_and_no_gradient(name):
    network = nn.Conv2d(2, 2, 1)
    model = Diffusion(lambda z, t: network(z), Schedule.from_betas(SMALL_BETAS), (2, 3, 3))
    samples = sampler(name)(model, 4, seeded(0))
    assert samples.shape == (4, 2, 3, 3)
    assert samples.dtype == torch.float32
    assert not samples.requires_grad
    assert sampler(name)(model, 0, seeded(0)).shape == (0, 2, 3, 3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_fewer_than_no_samples_are_refused(name):
    with pytest.raises(InputError, match="number of samples"):
        sampler(name)(optimal_model(), -1)


@pytest.mark.parametrize("eta", [-0.5, 1.5, math.nan])
def test_an_eta_that_is_no_share_of_the_noise_is_refused(eta):
    with pytest.raises(InputError, match="eta"):
        ddim(optimal_model(), 2, eta=eta)


def test_a_sampler_that_does_not_exist_is_named_beside_those_that_do():
    with pytest.raises(InputError, match=r"'euler'.*ancestral, ddim"):
        sampler("euler")
    assert sampler("ddim") is ddim
