"""A linear VAE is probabilistic PCA: its evidence, posterior and bound are known (oracle O6, theory S3 to S8)."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import (
    F64,
    assert_covariance,
    assert_mean,
    f64,
    gauss_hermite,
    generated_law,
    mean_of,
    oracle,
    seeded,
)
from kakusan.bound import ancestral_sample, elbo, sample_path
from kakusan.chain import log_weight
from kakusan.distributions import DiscretizedNormal
from kakusan.errors import InputError
from kakusan.likelihoods import as_likelihood
from kakusan.models.networks import as_module
from kakusan.models.vae import VAE

N = 100_000  # draws of a random test
ORACLE = oracle("linear_vae")
GIVEN = ["generic_W", "orthogonal_columns"]


def linear_vae(w, c, v, d, std, **options):
    """q(z | x) = N(V x + d, diag std^2), p(x | z) = N(W z + c, I)."""
    log_var = 2 * std.log()
    return VAE(lambda x: (x @ v.T + d, log_var.expand(len(x), -1)), lambda z: z @ w.T + c, len(std), **options).double()


def given(case):
    inputs = {key: f64(value) for key, value in ORACLE[case]["inputs"].items()}
    model = linear_vae(*(inputs[key] for key in ("W", "c", "V", "d", "s")))
    return model, inputs, ORACLE[case]["outputs"]


def best_diagonal(case):
    """The encoder at the posterior mean with the best diagonal covariance."""
    _, inputs, known = given(case)
    w, c = inputs["W"], inputs["c"]
    v = torch.linalg.solve(torch.eye(w.shape[1], dtype=F64) + w.T @ w, w.T)
    return linear_vae(w, c, v, -v @ c, f64(known["best_diagonal_sigma"])), inputs["x"][None], known


def exact_mean(model, x, function):
    """E_q of a function of the path, by quadrature that is exact for these models."""
    eps, weights = gauss_hermite(2)
    q = model.encode(x, 1)
    return mean_of(function([x.expand(len(eps), -1), q.mean + q.std * eps]), weights)


# The bound


@pytest.mark.proves("S7")
@catches("""bound.py: a path takes means instead of draws [generic_W]
- path.append(chain.encode(path[-1], t, cond).sample(generator))
+ path.append(chain.encode(path[-1], t, cond).mean)""")
@pytest.mark.parametrize("case", GIVEN)
def test_the_bound_is_the_exact_one(case):
    model, inputs, known = given(case)
    x = inputs["x"][None]
    assert exact_mean(model, x, lambda path: log_weight(model, path)) == pytest.approx(
        known["given_q"]["elbo"], rel=1e-10
    )
    assert_mean(elbo(model, x.expand(N, -1), seeded(0)), known["given_q"]["elbo"])  # 4.5 s.e.
    assert known["given_q"]["elbo"] < known["log_marginal"]


@pytest.mark.proves("S4", "S7", "O6")
@catches("""models/vae.py: the KL to the prior is a gain [generic_W]
- "level 1": -normal_kl(q, self.prior(cond))
+ "level 1": normal_kl(q, self.prior(cond))""")
@catches("""models/vae.py: the KL is that of the prior to the encoder [generic_W]
- -normal_kl(q, self.prior(cond))
+ -normal_kl(self.prior(cond), q)""")
@catches("""models/vae.py: the mean of the encoder is decoded instead of a draw [generic_W]
- self.decode(q.sample(generator), 1, cond)
+ self.decode(q.mean, 1, cond)""")
@pytest.mark.parametrize("case", GIVEN)
def test_its_terms_are_reconstruction_and_minus_kl(case):
    model, inputs, known = given(case)
    x = inputs["x"][None]
    reconstruction = exact_mean(model, x, lambda path: model.decode(path[1], 1).log_prob(path[0]))
    assert reconstruction == pytest.approx(known["given_q"]["reconstruction"], rel=1e-10)
    terms = model.terms(x.expand(N, -1), generator=seeded(0))
    assert terms["level 1"][0].item() == pytest.approx(-known["given_q"]["kl_to_prior"], rel=1e-10)
    assert_mean(terms["reconstruction"], known["given_q"]["reconstruction"])  # 4.5 s.e.
    assert_mean(sum(terms.values()), known["given_q"]["elbo"])


@pytest.mark.proves("S25")
@pytest.mark.parametrize("case", GIVEN)
def test_the_notes_loss_is_minus_twice_the_bound_without_its_constant(case):
    model, inputs, known = given(case)
    x = inputs["x"][None]
    constant = x.shape[1] * torch.tensor(2 * torch.pi, dtype=F64).log().item()
    loss = -2 * exact_mean(model, x, lambda path: log_weight(model, path)) - constant
    assert loss == pytest.approx(known["given_q"]["expected_seed_loss"], rel=1e-10)


@pytest.mark.proves("S8", "O4", "O6")
@pytest.mark.parametrize("case", GIVEN)
def test_the_best_diagonal_encoder_leaves_the_known_gap(case):
    model, x, known = best_diagonal(case)
    bound = exact_mean(model, x, lambda path: log_weight(model, path))
    assert bound == pytest.approx(known["elbo_best_diagonal_q"], rel=1e-10)
    assert known["log_marginal"] - bound == pytest.approx(known["gap_best_diagonal"], abs=1e-12)


@pytest.mark.proves("S8", "O4", "O6")
def test_at_the_exact_posterior_every_draw_is_the_evidence():
    model, x, known = best_diagonal("orthogonal_columns")
    draws = elbo(model, x.expand(1000, -1), seeded(0))
    assert_close(draws, torch.full_like(draws, known["log_marginal"]), rtol=0, atol=1e-10)  # zero variance


@pytest.mark.proves("S8", "O4", "O6")
def test_without_the_exact_posterior_draws_differ():
    model, x, _ = best_diagonal("generic_W")
    assert elbo(model, x.expand(1000, -1), seeded(0)).std() > 1e-3


@pytest.mark.proves("S7", "O6")
def test_the_optimum_of_training_has_the_known_value_and_no_gradient():  # O6 training_target
    case = ORACLE["training_target"]
    cov = f64(case["inputs"]["data_covariance"])
    values, vectors = torch.linalg.eigh(cov)
    w = (vectors[:, -2:] * (values[-2:] - 1).sqrt()).requires_grad_()  # the two eigenvalues above 1 (theory E36)
    v = (w / values[-2:]).detach().T.clone().requires_grad_()
    log_var = (-values[-2:].log()).requires_grad_()
    assert_close((-values[-2:]).neg().reciprocal().flip(0), f64(case["outputs"]["posterior_variances_at_optimum"]))
    model = VAE(lambda x: (x @ v.T, log_var.expand(len(x), -1)), lambda z: z @ w.T, 2).double()
    eps, weights = gauss_hermite(5 + 2)  # the data and the noise of q
    x = eps[:, :5] @ torch.linalg.cholesky(cov).T
    q = model.encode(x, 1)
    mean = (log_weight(model, [x, q.mean + q.std * eps[:, 5:]]) * weights).sum()
    assert mean.item() == pytest.approx(case["outputs"]["max_mean_log_likelihood"], rel=1e-10)
    for gradient in torch.autograd.grad(mean, (w, v, log_var)):
        assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)


# Generation, theory S6


@pytest.mark.proves("S6", "O6", "O23")
@pytest.mark.parametrize("mean_output", [True, False])
@catches("""bound.py: samples never have the last noise
- z = down.mean if t == 1 and mean_output else
+ z = down.mean if t == 1 else""")
def test_samples_have_covariance_w_wt_and_noise_only_where_it_is_drawn(mean_output):
    model, inputs, _ = given("generic_W")
    cov = inputs["W"] @ inputs["W"].T + (0 if mean_output else torch.eye(4, dtype=F64))
    mean, carried = generated_law(model, [2], mean_output)
    assert_close(mean, inputs["c"], rtol=1e-12, atol=0)
    assert_close(carried, cov, rtol=1e-12, atol=1e-14)
    draws = ancestral_sample(model, N, seeded(0), mean_output=mean_output)
    assert_mean(draws, inputs["c"])  # 4.5 s.e., 20 entries in all
    assert_covariance(draws, cov)


# The parts


@pytest.mark.proves("S3", "O6")
@catches("""distributions.py: the prior has half its std
- return Normal(zeros, torch.ones_like(zeros), zeros)
+ return Normal(zeros, torch.ones_like(zeros) / 2, zeros)""")
def test_the_prior_is_standard_and_has_no_parameters():
    model = VAE(nn.Linear(4, 6), nn.Linear(3, 4), 3).double()
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"encoder", "decoder"}
    prior = model.prior()
    assert torch.equal(prior.mean, torch.zeros(1, 3, dtype=F64))
    assert torch.equal(prior.std, torch.ones(1, 3, dtype=F64))
    draws = prior.expand(N).sample(seeded(0))
    assert_mean(draws, 0.0)  # 4.5 s.e.
    assert_covariance(draws, torch.eye(3, dtype=F64))


@pytest.mark.proves("S7", "S20", "O4")
@catches("""bound.py: the draw of the encoder stops the gradient
- path.append(chain.encode(path[-1], t, cond).sample(generator))
+ path.append(chain.encode(path[-1], t, cond).sample(generator).detach())""")
def test_gradients_flow_through_the_draw():
    model, inputs, _ = given("generic_W")
    mean, log_var = torch.zeros(1, 2, dtype=F64, requires_grad=True), torch.zeros(1, 2, dtype=F64, requires_grad=True)
    model.encoder = as_module(lambda x: (mean.expand(len(x), -1), log_var.expand(len(x), -1)))
    x = inputs["x"][None]

    def value():
        return elbo(model, x, seeded(3)).sum()

    gradient = torch.cat(torch.autograd.grad(value(), (mean, log_var)))
    numerical = torch.zeros_like(gradient)
    with torch.no_grad():
        for row, parameter in enumerate((mean, log_var)):
            for i in range(2):
                for sign in (1, -1):
                    parameter[0, i] += sign * 1e-5
                    numerical[row, i] += sign * value() / 2e-5  # central difference with the noise held fixed
                    parameter[0, i] -= sign * 1e-5
    assert_close(gradient, numerical, rtol=1e-8, atol=1e-8)  # h^2 and eps/h are both 1e-10


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "discretized"])
def test_every_likelihood_gives_a_finite_bound_and_samples_of_its_kind(likelihood):
    def encoder(x):
        return x[:, :2], x[:, 2:4]

    model = VAE(encoder, lambda z: torch.cat([z, z], 1), 2, likelihood).double()
    x = {
        "gaussian": torch.randn(5, 4, generator=seeded(0), dtype=F64),
        "bernoulli": torch.ones(5, 4, dtype=F64),
        "discretized": torch.randint(0, 256, (5, 4), generator=seeded(0)) / f64(127.5) - 1,
    }[likelihood]
    assert elbo(model, x, seeded(0)).isfinite().all()
    path = sample_path(model, x, seeded(0))
    assert torch.equal(elbo(model, x, seeded(0)), log_weight(model, path))
    samples = ancestral_sample(model, 7, seeded(0))
    assert samples.shape == (7, 4)
    if likelihood == "bernoulli":
        assert set(samples.flatten().tolist()) <= {0.0, 1.0}
    if likelihood == "discretized":
        assert isinstance(model.decode(path[1], 1), DiscretizedNormal)
        levels = (samples + 1) * 127.5
        assert_close(levels, levels.round(), rtol=0, atol=1e-9)


def test_the_probabilities_of_a_bit_sum_to_one():
    def encoder(x):
        return 0.3 * x, torch.zeros_like(x)

    model = VAE(encoder, lambda z: 2 * z - 0.5, 1, "bernoulli").double()
    total = sum(elbo(model, f64([[bit]]).expand(N, 1), seeded(int(bit))).exp() for bit in (0.0, 1.0))
    assert_mean(total, 1.0)  # weights average to p(x), theory S45; 4.5 s.e.


@pytest.mark.parametrize(("latent_shape", "likelihood"), [(0, "gaussian"), ((), "gaussian"), (2, "poisson")])
def test_a_model_that_cannot_be_is_refused(latent_shape, likelihood):
    with pytest.raises(InputError):
        VAE(nn.Identity(), nn.Identity(), latent_shape, likelihood)


@pytest.mark.parametrize("log_var", [-300.0, -100.0, -16.0, 0.0, 300.0])
def test_an_overconfident_decoder_of_grey_levels_keeps_finite_values_and_gradients(log_var):
    x = torch.linspace(-1, 1, 256)[None]
    mean = torch.zeros(1, 256, requires_grad=True)
    log_vars = torch.full((1, 256), log_var, requires_grad=True)
    value = as_likelihood("discretized").distribution((mean, log_vars)).log_prob(x)
    value.sum().backward()
    assert value.isfinite().all()
    assert mean.grad.isfinite().all()
    assert log_vars.grad.isfinite().all()
