"""What the study notes write and what is right, side by side: the errata that no other file shows (theory, Part 2)."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, SMALL_BETAS, f64, gauss_hermite, gaussian_x_denoiser, generated_law, mean_of, oracle
from kakusan.bound import elbo
from kakusan.chain import log_weight
from kakusan.distributions import Normal, normal_kl
from kakusan.models.diffusion import Diffusion
from kakusan.models.dirichlet_multinomial import DirichletMultinomial
from kakusan.models.hierarchical_vae import HierarchicalVAE
from kakusan.models.vae import VAE
from kakusan.schedule import Schedule

DIRICHLET = oracle("dirichlet_multinomial")


# E12: Gaussian noise at every step does not by itself end at pure noise


def prior_nats_per_dimension(betas: list[float]) -> float:
    x = torch.ones(1, 4, dtype=F64)  # unit variance
    return Diffusion(nn.Identity(), Schedule.from_betas(betas), 4).double().prior_kl(x).item() / 4


@pytest.mark.proves("E12")
@catches("""models/diffusion.py: the KL to the prior has a trace too large
- left = -math.log1p(-alpha_bar) - alpha_bar
+ left = -math.log1p(-alpha_bar)""")
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
@catches("""schedule.py: the weight of x in the posterior is one step late
- return self._with_zero(self.alpha_bar[:-1].sqrt() * self.beta[1:] / self.noise_var[1:])
+ return self._with_zero(self.alpha_bar[1:].sqrt() * self.beta[1:] / self.noise_var[1:])""")
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
@pytest.mark.parametrize("log_var", [-190.0, -110.0])
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
    term = model.terms(torch.zeros(1, 3), generator=torch.Generator().manual_seed(0))["level 1"]
    term.sum().backward()
    assert term.item() == pytest.approx(1.5 * (1 + log_var), rel=1e-6)  # float32; exp(log_var) is nothing beside it
    assert free.grad is not None
    assert_close(free.grad, torch.full((1, 3), 0.5))


# E1, E7, E27: a linear VAE with scalars, p(z) = N(0, 1), p(x | z) = N(w z, 1), so p(x) = N(0, 1 + w^2)

NODES, WEIGHTS = gauss_hermite(1)


def scalar_vae(slope: float, mean, var: float) -> VAE:
    """Encoder N(mean(x), var), decoder N(slope z, 1)."""
    log_var = math.log(var)
    return VAE(lambda x: (mean(x), torch.full_like(x, log_var)), lambda z: slope * z, 1).double()


def mean_log_weight(chain: VAE, x: float, q: Normal) -> float:
    """E[log p(x, z) - log q(z | x)] over z ~ q, exact for a linear chain."""
    z = q.mean + q.std * NODES
    return mean_of(log_weight(chain, [torch.full_like(z, x), z]), WEIGHTS)


@pytest.mark.proves("E1")
@catches("""distributions.py: a normal density has no constant
- u.square() + self.log_var) - self._num_dims * HALF_LOG_2PI
+ u.square() + self.log_var)""")
def test_an_expectation_under_the_model_is_an_upper_bound():
    # posterior N(x / 2, 1/2), encoder N(0.3 x, 1/2); averaged over p(x) = N(0, 2), exact by nodes of x
    chain = scalar_vae(1.0, lambda x: 0.3 * x, 0.5)
    evidence = written = right = 0.0
    for x, weight in zip((math.sqrt(2) * NODES[:, 0]).tolist(), WEIGHTS.tolist()):
        posterior = Normal(f64([[x / 2]]), f64([[math.sqrt(0.5)]]))
        evidence += weight * torch.distributions.Normal(f64(0.0), f64(math.sqrt(2))).log_prob(f64(x)).item()
        written += weight * mean_log_weight(chain, x, posterior)
        right += weight * mean_log_weight(chain, x, chain.encode(f64([[x]]), 1))
    assert evidence == pytest.approx(-0.5 * math.log(4 * math.pi * math.e), abs=1e-12)  # -1.766
    assert written == pytest.approx(evidence + 0.08, abs=1e-12)  # -1.686, above
    assert right == pytest.approx(evidence - 0.08, abs=1e-12)  # -1.846, below


@pytest.mark.proves("E7")
@catches("""chain.py: a log weight adds log q
- total = total - chain.encode(path[t - 1], t, cond).log_prob(path[t])
+ total = total + chain.encode(path[t - 1], t, cond).log_prob(path[t])""")
def test_twice_the_elbo_as_a_loss_falls_without_end():
    x = f64([[1.0]])
    bounds = []
    for offset in (0.0, 1.0, 3.0):  # the posterior has precision 2, so an offset costs its square
        chain = scalar_vae(1.0, lambda x, offset=offset: x / 2 + offset, 0.5)
        bounds.append(mean_log_weight(chain, 1.0, chain.encode(x, 1)))
    assert bounds[0] == pytest.approx(-0.5 * math.log(4 * math.pi) - 0.25, abs=1e-12)
    assert [2 * (bound - bounds[0]) for bound in bounds] == pytest.approx([0.0, -2.0, -18.0], abs=1e-12)


@pytest.mark.proves("E27")
@catches("""chain.py: a decoder is asked for its own latent
- total = total + chain.decode(path[t], t, cond).log_prob(path[t - 1])
+ total = total + chain.decode(path[t], t, cond).log_prob(path[t])""")
def test_the_kl_to_the_posterior_the_elbo_and_the_evidence_prefer_three_decoders():
    # x = 2 and q(z) = N(1, 1/2), the exact posterior of slope 1; slopes in steps of 1/60
    x, slopes, q = 2.0, torch.arange(30, 151, dtype=F64) / 60, Normal(f64([[1.0]]), f64([[math.sqrt(0.5)]]))
    evidence = torch.distributions.Normal(f64(0.0), (1 + slopes**2).sqrt()).log_prob(f64(x))
    bound = f64([mean_log_weight(scalar_vae(w, lambda x: x / 2, 0.5), x, q) for w in slopes.tolist()])
    kl = evidence - bound
    assert slopes[kl.argmin()].item() == pytest.approx(1.0)
    assert slopes[bound.argmax()].item() == pytest.approx(4 / 3)
    assert slopes[evidence.argmax()].item() == pytest.approx(math.sqrt(3), abs=1 / 120)
    assert kl.min().item() == pytest.approx(0.0, abs=1e-12)
    chosen = [evidence[kl.argmin()].item(), evidence[bound.argmax()].item(), evidence.max().item()]
    assert chosen == pytest.approx([-2.2655, -2.1498, -2.1121], abs=1e-4)


# E4: which encoder the second term of the two-level VAE compares with the prior


@pytest.mark.proves("E4")
@catches("""distributions.py: the KL of two normals has its log ratio upside down
- (log_ratio.expm1() - log_ratio + squared)
+ (log_ratio.expm1() + log_ratio + squared)""")
def test_with_the_first_encoder_in_the_second_term_the_sum_exceeds_the_evidence():
    # z_1 | z_2 ~ N(z_2, 1), x | z_1 ~ N(z_1, 1): q(z_1 | x) = N(2 x / 3, 2/3) and q(z_2 | z_1) = N(z_1 / 2, 1/2) are exact
    x = f64([[0.0]])
    first, prior = Normal(2 * x / 3, f64([[math.sqrt(2 / 3)]])), Normal(f64([[0.0]]), f64([[1.0]]))
    z1 = first.mean + first.std * NODES
    right = mean_of(normal_kl(Normal(z1 / 2, f64([[math.sqrt(0.5)]])), prior), WEIGHTS)
    written = normal_kl(first, prior).item()
    assert right == pytest.approx(0.17991, abs=1e-5)
    assert written == pytest.approx(0.03607, abs=1e-5)
    evidence = -0.5 * math.log(2 * math.pi * 3)
    chain = HierarchicalVAE(
        [
            lambda x: (2 * x / 3, torch.full_like(x, math.log(2 / 3))),
            lambda z: (z / 2, torch.full_like(z, -math.log(2))),
        ],
        [lambda z: z, lambda z: z],
        [1, 1],
    ).double()
    assert elbo(chain, x, torch.Generator().manual_seed(0)).item() == pytest.approx(evidence, abs=1e-12)
    assert evidence + right - written > evidence + 0.14  # no bound any more


# E15, E17: a chain of five steps over N(0, 1), whose reverse steps N(sqrt(alpha_t) z, beta_t) are exact


def exact_chain() -> Diffusion:
    schedule = Schedule.from_betas(SMALL_BETAS)
    gain = (1 - schedule.beta).sqrt()
    return Diffusion(lambda z, t: gain[t, None] * z, schedule, 1, "mean", "beta").double()


@pytest.mark.proves("E15")
@catches("""models/diffusion.py: an encoder step scales by 1 - beta
- return Normal.from_var((1 - beta).sqrt() * z, beta)
+ return Normal.from_var((1 - beta) * z, beta)""")
def test_a_bound_without_the_data_term_lies_above_the_evidence():
    chain, x = exact_chain(), f64([[1.0]])
    z1 = chain.encode(x, 1).mean + chain.encode(x, 1).std * NODES
    data_term = mean_of(chain.decode(z1, 1).log_prob(x.expand_as(z1)), WEIGHTS)
    evidence = -0.5 * math.log(2 * math.pi) - 0.5
    assert elbo(chain, x, torch.Generator().manual_seed(0)).item() == pytest.approx(evidence, abs=1e-12)
    assert data_term == pytest.approx(-0.5 * math.log(0.2 * math.pi) - 0.5, abs=1e-12)
    assert evidence - data_term == pytest.approx(-1.1512925465, abs=1e-9)  # for -1.4189385332


@pytest.mark.proves("E17")
@catches("""models/diffusion.py: the variance beta is beta_tilde
- case "beta":
-                 return self.schedule.log_beta
+ case "beta":
+                 return self.schedule.log_beta_tilde""")
def test_a_path_drawn_from_its_end_knows_nothing_of_the_data():
    chain, x = exact_chain(), f64([[1.0]])
    right = chain.encode(x, 1)
    for q, expected in ((right, -0.5), (Normal(f64([[0.0]]), f64([[1.0]])), -9.5)):  # q(z_1) of this chain is N(0, 1)
        z1 = q.mean + q.std * NODES
        data_term = mean_of(chain.decode(z1, 1).log_prob(x.expand_as(z1)), WEIGHTS)
        assert data_term == pytest.approx(-0.5 * math.log(0.2 * math.pi) + expected, abs=1e-12)


# E20, E22: two steps with alpha_{t-1} = 0.9 and alpha_t = 0.8


@pytest.mark.proves("E20")
@catches("""models/diffusion.py: a marginal has the variance of one step
- self.schedule.at("signal", t, x) * x, self.schedule.at("noise_var", t, x)
+ self.schedule.at("signal", t, x) * x, self.schedule.at("beta", t, x)""")
def test_the_second_alpha_in_the_first_step_gives_0_36_for_0_28():
    first, second = 0.9, 0.8
    chain = Diffusion(nn.Identity(), Schedule.from_betas([1 - first, 1 - second]), 1).double()
    assert chain.marginal(f64([[1.0]]), 2).var.item() == pytest.approx(0.28, abs=1e-12)
    assert second * (1 - first) + 1 - second == pytest.approx(0.28)
    assert second * (1 - second) + 1 - second == pytest.approx(0.36)  # E20 as written
    assert second - second * first == pytest.approx(0.08)  # E22 as written
