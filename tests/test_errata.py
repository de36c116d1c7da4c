"""What the study notes write and what is right, side by side: the errata that no other file shows (theory, Part 2)."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from harness.support import F64, SMALL_BETAS, f64, gauss_hermite, gaussian_x_denoiser, generated_law, oracle
from kakusan.models.diffusion import Diffusion
from kakusan.models.dirichlet_multinomial import DirichletMultinomial
from kakusan.models.vae import VAE
from kakusan.schedule import Schedule

DIRICHLET = oracle("dirichlet_multinomial")


# E12: Gaussian noise at every step does not by itself end at pure noise


def prior_nats_per_dimension(betas: list[float]) -> float:
    x = torch.ones(1, 4, dtype=F64)  # unit variance
    return Diffusion(nn.Identity(), Schedule.from_betas(betas), 4).double().prior_kl(x).item() / 4


@pytest.mark.proves("E12")
def test_noise_whose_amounts_have_a_finite_sum_never_drowns_the_data():
    depths = (10, 100, 1000)
    # beta_t = 1 / (t + 1)^2: alpha_bar = (T + 2) / (2 (T + 1)) stays above 1/2, and M9 there above (ln 2) / 2
    finite = [prior_nats_per_dimension([1 / (t + 1) ** 2 for t in range(1, depth + 1)]) for depth in depths]
    assert finite == pytest.approx([-0.5 * math.log(depth / (2 * (depth + 1))) for depth in depths], rel=1e-9)
    assert min(finite) > 0.5 * math.log(2)
    # beta_t = 1 / (t + 1): alpha_bar = 1 / (T + 1), and the term is -ln(1 - alpha_bar) / 2
    endless = [prior_nats_per_dimension([1 / (t + 1) for t in range(1, depth + 1)]) for depth in depths]
    assert endless == pytest.approx([-0.5 * math.log1p(-1 / (depth + 1)) for depth in depths], rel=1e-9)


# E14: identity covariance of the reverse steps


def mean_gradients(model: Diffusion, parameters: list[torch.Tensor], data_std: float) -> list[torch.Tensor]:
    """Of the bound averaged over N(0, data_std^2), exact for a linear denoiser."""
    eps, weights = gauss_hermite(2)
    x = data_std * eps[:, :1]
    total = torch.zeros((), dtype=F64)
    for t in range(1, model.depth + 1):
        q = model.marginal(x, t)
        total = total - (weights * model.step_cost(x, q.mean + q.std * eps[:, 1:], t)).sum()
    return list(torch.autograd.grad(total, parameters))


@pytest.mark.proves("E14", "O17")
@pytest.mark.parametrize("variance", ["unit", "beta", "beta_tilde"])
def test_the_best_mean_is_the_same_for_every_variance_of_the_reverse_step(variance):
    schedule, std = Schedule.from_betas(SMALL_BETAS), 0.7
    v = schedule.alpha_bar * std**2 + schedule.noise_var
    gain = torch.cat([f64([0.0]), (1 - schedule.beta[1:]).sqrt() * v[:-1] / v[1:]]).requires_grad_()  # E[z_{t-1} | z_t]
    model = Diffusion(lambda z, t: gain[t, None] * z, schedule, 1, "mean", variance).double()
    (gradient,) = mean_gradients(model, [gain], std)
    assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)  # at rest
    with torch.no_grad():
        gain[1:] += 0.1
    (gradient,) = mean_gradients(model, [gain], std)
    assert (gradient[1:] < -0.01).all()  # and pulled back from elsewhere


@pytest.mark.proves("E14", "O17")
def test_with_identity_covariance_the_best_mean_generates_variance_276_and_with_beta_1():
    known = oracle("schedules")["linear_T1000"]["outputs"]
    schedule = Schedule.linear(1000)
    denoiser = gaussian_x_denoiser(schedule, f64([0.0]), f64([[1.0]]))
    expected = {"unit": known["seed_unit_covariance_generated_variance_for_unit_normal_data"], "beta": 1.0}
    for variance, value in expected.items():
        _, cov = generated_law(Diffusion(denoiser, schedule, 1, "x", variance).double(), [1] * 1000)
        assert cov.item() == pytest.approx(value, rel=1e-9)  # a thousand steps


# E25: the KL of two Dirichlets is not convex in gamma; it is in the mean parameters


def kl(model: DirichletMultinomial, gamma: torch.Tensor) -> torch.Tensor:
    """KL(Dirichlet(gamma) || Dirichlet(alpha)): the gap of the bound where there are no counts."""
    nothing = torch.zeros_like(model.concentration)
    return model.log_evidence(nothing) - model.elbo(nothing, gamma)


def mean_parameters(gamma: torch.Tensor) -> torch.Tensor:
    """eta = E log z."""
    return torch.digamma(gamma) - torch.digamma(gamma.sum())


def gamma_of(eta: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Newton's method for mean_parameters(gamma) = eta, steps halved while they leave the positive numbers."""
    gamma = start.clone()
    for _ in range(60):
        two = f64(2.0)  # psi1 is the Hurwitz zeta function at 2
        fisher = torch.special.zeta(two, gamma).diag() - torch.special.zeta(two, gamma.sum())
        step = torch.linalg.solve(fisher, eta - mean_parameters(gamma))
        while (gamma + step <= 0).any():
            step = step / 2
        gamma = gamma + step
    assert_close(mean_parameters(gamma), eta, rtol=1e-12, atol=1e-12)
    return gamma


@pytest.mark.proves("E25", "O28")
@pytest.mark.parametrize("case", [case for case in DIRICHLET if "log_evidence" in DIRICHLET[case]["outputs"]])
def test_the_kl_bends_downwards_at_twice_the_posterior_for_every_data_set(case):
    inputs = DIRICHLET[case]["inputs"]
    target = f64(inputs["alpha"]) + f64(inputs["x"])
    hessian = torch.autograd.functional.hessian(lambda gamma: kl(DirichletMultinomial(target), gamma), 2 * target)
    smallest = torch.linalg.eigvalsh(hessian)[0].item()
    assert smallest < 0, "the notes' argument needs a Hessian without negative eigenvalues"
    # the gradient is zero nowhere but at the posterior all the same
    at_target = torch.autograd.functional.hessian(lambda gamma: kl(DirichletMultinomial(target), gamma), target)
    assert torch.linalg.eigvalsh(at_target)[0] > 0


@pytest.mark.proves("E25", "O28")
def test_in_the_mean_parameters_the_kl_is_convex():
    case = DIRICHLET["kl_convex_in_mean_parameters"]
    model, gamma = DirichletMultinomial(f64(case["inputs"]["a"])), f64(case["inputs"]["gamma"])
    direction, h = f64(case["inputs"]["direction"]).flatten(), 1e-3
    eta = mean_parameters(gamma)
    values = [kl(model, gamma_of(eta + step * direction, gamma)).item() for step in (-h, 0.0, h)]
    # the second difference errs by h^2 = 1e-6 times a fourth derivative, and by 1e-15 / h^2 = 1e-9 of rounding
    second = (values[0] - 2 * values[1] + values[2]) / h**2
    assert second == pytest.approx(case["outputs"]["second_derivative"], rel=1e-4)


@pytest.mark.proves("E25")
def test_the_midpoint_that_fails_in_gamma_holds_in_the_mean_parameters():
    model, ones = DirichletMultinomial(f64([1.0, 1.0, 1.0])), torch.ones(3, dtype=F64)
    ends = [2 * ones, 50 * ones]
    average = sum(kl(model, end) for end in ends) / 2
    assert kl(model, sum(ends) / 2) > average  # what a convex function cannot do
    middle = gamma_of(sum(mean_parameters(end) for end in ends) / 2, 3 * ones)
    assert kl(model, middle) < average


# E29: log(sigma ** 2) of sigma = exp(log_var / 2)


@pytest.mark.proves("E29")
@pytest.mark.parametrize("log_var", [-200.0, -110.0])
def test_the_notes_way_to_write_the_kl_is_lost_in_float32_and_the_models_is_not(log_var):
    free = torch.full((1, 3), log_var, requires_grad=True)
    sigma = (free / 2).exp()
    notes = -0.5 * (1 + torch.log(sigma**2) - sigma**2).sum()
    notes.backward()
    assert notes.item() == math.inf
    assert free.grad is not None
    assert not free.grad.isfinite().any()

    free = torch.full((1, 3), log_var, requires_grad=True)
    model = VAE(lambda x: (torch.zeros(1, 3), free), lambda z: z, 3)
    term = model.terms(torch.zeros(1, 3), torch.Generator().manual_seed(0))["level 1"]
    term.sum().backward()
    assert term.item() == pytest.approx(1.5 * (1 + log_var), rel=1e-6)  # float32; exp(log_var) is nothing beside it
    assert free.grad is not None
    assert_close(free.grad, torch.full((1, 3), 0.5))
