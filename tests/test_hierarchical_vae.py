"""The hierarchical VAE and the notes' objective: given vectors, solvable linear models, both third terms (O3, O4, O5)."""

import math
from itertools import pairwise

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
    standard_errors_off,
)
from kakusan.bound import ancestral_sample, elbo, importance_bound, sample_path
from kakusan.chain import log_weight
from kakusan.errors import InputError
from kakusan.models.hierarchical_vae import HierarchicalVAE
from kakusan.models.vae import VAE
from kakusan.objectives.notes_third_term import notes_terms_on, notes_third_term

N = 100_000  # draws of a random test
ORACLE = oracle("hvae")
LINEAR = ["generic", "negative_covariance", "z2_ignores_z1", "exact_posterior"]


def gaussian_map(matrix, shift, std=None):
    """z -> the mean, or (mean, log_var), of an affine Gaussian."""
    if std is None:
        return lambda z: z @ matrix.T + shift
    return lambda z: (z @ matrix.T + shift, (2 * std.log()).expand(len(z), -1))


def linear_model(case):
    i = {key: f64(value) for key, value in ORACLE[case]["inputs"].items()}
    model = HierarchicalVAE(
        [gaussian_map(i["V1"], i["d1"], i["s1"]), gaussian_map(i["V2"], i["d2"], i["s2"])],
        [gaussian_map(i["W1"], i["c1"]), gaussian_map(i["W2"], i["c2"])],
        [len(i["s1"]), len(i["s2"])],
    ).double()
    return model, i["x"][None], ORACLE[case]["outputs"]


def exact_path(model, x):
    """A path for each node of the quadrature of q(z | x), and the weights."""
    sizes = [shape[0] for shape in model.latent_shapes]
    eps, weights = gauss_hermite(sum(sizes))
    path = [x.expand(len(eps), -1)]
    for level, noise in enumerate(eps.split(sizes, dim=1), start=1):
        q = model.encode(path[-1], level)
        path.append(q.mean + q.std * noise)
    return path, weights


TERMS_ON = {"exact": HierarchicalVAE.terms_on, "notes": notes_terms_on}


# O3: given vectors


def given_vectors(third_term):
    vectors = {key: f64(value) for key, value in ORACLE["given_vectors"]["inputs"].items()}
    for key in ("mu1", "mu2", "z_hat", "sigma1"):
        vectors[key].requires_grad_()
    vectors["log_var2"] = (2 * vectors["sigma2"].log()).requires_grad_()
    model = HierarchicalVAE(
        [lambda x: (vectors["mu1"], 2 * vectors["sigma1"].log()), lambda z: (vectors["mu2"], vectors["log_var2"])],
        [lambda z: vectors["x_hat"], lambda z: vectors["z_hat"]],
        [3, 3],
    ).double()
    return TERMS_ON[third_term](model, [vectors["x"], vectors["z1"], torch.zeros_like(vectors["z1"])]), vectors


@pytest.mark.proves("S21", "S25", "O3")
@catches("""objectives/notes_third_term.py: the notes' top level compares the lowest encoder
- -normal_kl(q[-1], model.prior(cond))
+ -normal_kl(q[0], model.prior(cond))""")
def test_the_notes_form_on_given_vectors_is_the_notes_loss():
    terms, _ = given_vectors("notes")
    known = ORACLE["given_vectors"]["outputs"]
    batch, dims = 2, 4
    constant = batch * dims * math.log(2 * math.pi)  # what the notes' loss drops, theory S25
    assert -2 * terms["reconstruction"].sum().item() - constant == pytest.approx(known["L1"], rel=1e-10)
    assert -2 * terms["level 2"].sum().item() == pytest.approx(known["L2"], rel=1e-10)
    assert -2 * terms["level 1"].sum().item() == pytest.approx(known["L3"], rel=1e-10)
    loss = -2 * sum(terms.values()).mean().item() - constant / batch
    assert loss == pytest.approx(known["loss"], rel=1e-10)
    per_example = f64(known["seed_form_elbo_per_example_with_constant"])
    assert_close(sum(terms.values()).detach(), per_example, rtol=1e-10, atol=0)


@pytest.mark.proves("S24", "O3", "O4")
@catches("""models/hierarchical_vae.py: the third term has the notes' form where the exact one was asked for
- q[level - 1].entropy() + p.log_prob(path[level])
+ -normal_kl(q[level - 1], p)""")
@catches("""models/hierarchical_vae.py: the KL of the top level is that of the lowest
- -normal_kl(q[-1], self.prior(cond))
+ -normal_kl(q[0], self.prior(cond))""")
@catches("""models/hierarchical_vae.py: the third term scores a fresh latent instead of the drawn one
- p.log_prob(path[level])
+ p.log_prob(q[level - 1].sample())""")
def test_the_exact_form_on_given_vectors_uses_the_drawn_latent():  # theory S24
    terms, _ = given_vectors("exact")
    assert -2 * terms["level 1"].sum().item() == pytest.approx(
        ORACLE["given_vectors"]["outputs"]["fully_sampled_L3"], rel=1e-10
    )
    assert -2 * terms["level 2"].sum().item() == pytest.approx(ORACLE["given_vectors"]["outputs"]["L2"], rel=1e-10)


@pytest.mark.proves("S25", "O3")
def test_the_gradients_of_the_notes_form_are_the_given_ones():
    terms, vectors = given_vectors("notes")
    known = ORACLE["given_vectors"]["outputs"]
    lower = torch.autograd.grad(-2 * terms["level 1"].sum(), [vectors[key] for key in ("mu1", "z_hat", "sigma1")])
    for gradient, key in zip(lower, ("grad_L3_mu1", "grad_L3_z_hat", "grad_L3_sigma1")):
        assert_close(gradient, f64(known[key]), rtol=1e-10, atol=1e-12)
    (upper,) = torch.autograd.grad(-2 * terms["level 2"].sum(), vectors["log_var2"])
    assert_close(upper, f64(known["grad_L2_logvar2"]), rtol=1e-10, atol=1e-12)


# O4: linear models


@pytest.mark.proves("S15", "S16", "S17", "S18", "O4", "O1")
@catches("""models/hierarchical_vae.py: the third term lacks the entropy of its level [generic]
- q[level - 1].entropy() + p.log_prob(path[level])
+ p.log_prob(path[level])""")
@catches("""models/hierarchical_vae.py: an encoder's log variance becomes a variance where a standard deviation is due [generic]
- return gaussian(encoder_output(output, self.latent_shapes[t - 1], len(z)))
+ return Normal(output[0], output[1].exp())""")
@pytest.mark.parametrize("case", LINEAR)
def test_the_exact_bound_and_its_terms_are_the_known_ones(case):
    model, x, known = linear_model(case)
    path, weights = exact_path(model, x)
    terms = {name: mean_of(term, weights) for name, term in model.terms_on(path).items()}
    assert terms["reconstruction"] == pytest.approx(known["reconstruction"], rel=1e-10)
    assert terms["level 1"] == pytest.approx(-known["third_term_exact"], rel=1e-10)  # a cost there
    assert terms["level 2"] == pytest.approx(-known["kl_z2"], rel=1e-10)
    assert sum(terms.values()) == pytest.approx(known["exact_elbo"], rel=1e-10)
    assert mean_of(log_weight(model, path), weights) == pytest.approx(known["exact_elbo"], rel=1e-10)
    assert known["exact_elbo"] <= known["log_p_x"] + 1e-12


@pytest.mark.proves("S19")
@catches("""objectives/notes_third_term.py: the exact third term in place of the notes' form [generic]
- -normal_kl(q[level - 1], p)
+ q[level - 1].entropy() + p.log_prob(path[level])""")
@pytest.mark.parametrize("case", LINEAR)
def test_the_notes_form_and_its_terms_are_the_known_ones(case):
    model, x, known = linear_model(case)
    path, weights = exact_path(model, x)
    terms = {name: mean_of(term, weights) for name, term in notes_terms_on(model, path).items()}
    assert terms["level 1"] == pytest.approx(-known["third_term_seed_form"], rel=1e-10)
    assert sum(terms.values()) == pytest.approx(known["seed_form"], rel=1e-10)
    assert known["seed_form"] <= known["log_p_x"]


@pytest.mark.proves("S19", "E5")
@pytest.mark.parametrize("case", LINEAR)
@catches("""objectives/notes_third_term.py: the notes' third term is the KL the other way
- -normal_kl(q[level - 1], p)
+ -normal_kl(p, q[level - 1])""")
def test_the_two_forms_differ_by_the_covariance_of_z1_and_its_reconstruction(case):  # theory E5, S19
    model, x, known = linear_model(case)
    path, weights = exact_path(model, x)
    exact, notes = (mean_of(sum(terms(model, path).values()), weights) for terms in TERMS_ON.values())
    z_hat = model.decode(path[2], 2).mean
    centred = z_hat - (weights[:, None] * z_hat).sum(0)
    covariance = mean_of((path[1] * centred).sum(1), weights)
    assert covariance == pytest.approx(known["cov_trace"], abs=1e-12)
    assert exact - notes == pytest.approx(covariance, abs=1e-10)
    # and the notes' form is the bound of the independent family, less the information z2 has of z1
    assert notes + known["mutual_information"] == pytest.approx(known["elbo_of_independent_family"], rel=1e-10)


@pytest.mark.proves("S20", "S24", "O4")
@pytest.mark.parametrize("case", LINEAR)
def test_one_draw_estimates_average_to_the_exact_values(case):
    model, x, known = linear_model(case)
    x = x.expand(N, -1)
    if case != "exact_posterior":  # where the log-weight does not vary, but for rounding
        assert_mean(elbo(model, x, seeded(0)), known["exact_elbo"])  # 4.5 s.e., here and below
    assert_mean(sum(model.terms(x, generator=seeded(0)).values()), known["exact_elbo"])
    assert_mean(sum(notes_third_term(model, x, seeded(1)).values()), known["seed_form"])


@pytest.mark.proves("E5")
@pytest.mark.parametrize("case", ["generic", "negative_covariance"])
def test_draws_distinguish_the_two_forms(case):
    model, x, known = linear_model(case)
    draws = sum(notes_third_term(model, x.expand(N, -1), seeded(1)).values())
    assert standard_errors_off(draws, known["exact_elbo"]) > 20


@pytest.mark.proves("S15", "E5", "O4")
def test_at_the_exact_posterior_every_draw_is_the_evidence():
    model, x, known = linear_model("exact_posterior")
    draws = elbo(model, x.expand(1000, -1), seeded(0))
    assert_close(draws, torch.full_like(draws, known["log_p_x"]), rtol=0, atol=1e-10)  # float64


def test_the_importance_bound_is_one_of_the_evidence():
    model, x, known = linear_model("generic")
    weights = importance_bound(model, x.expand(N, -1), 1, seeded(0))
    assert_mean(weights, known["exact_elbo"])  # 4.5 s.e.
    assert_mean(weights.exp(), math.exp(known["log_p_x"]))


def test_with_a_negative_covariance_the_notes_form_passes_the_bound_of_its_own_encoder():
    known = ORACLE["negative_covariance"]["outputs"]
    assert known["exact_elbo"] < known["seed_form"] < known["log_p_x"]


# O5: what training converges to


@pytest.mark.proves("S18", "S19", "O4", "O5")
@pytest.mark.parametrize("case", [case for case in ORACLE if case.startswith("scalar_optimum")])
@pytest.mark.parametrize(("third_term", "key"), [("exact", "best_exact"), ("notes", "best_seed_form")])
@catches("""distributions.py: an entropy grows with twice the log std
- return 0.5 * sum_event(self.log_var.expand_as(self.mean))
+ return sum_event(self.log_var.expand_as(self.mean))""")
def test_the_trained_encoder_is_at_rest_at_the_known_optimum(case, third_term, key):
    inputs, best = ORACLE[case]["inputs"], ORACLE[case]["outputs"][key]
    free = f64([best["encoder1_slope"], best["encoder2_slope"], best["sigma1"], best["sigma2"]]).requires_grad_()
    model = HierarchicalVAE(
        [
            lambda x: (free[0] * x, (2 * free[2].log()).expand_as(x)),
            lambda z: (free[1] * z, (2 * free[3].log()).expand_as(z)),
        ],
        [lambda z: inputs["w1"] * z, lambda z: inputs["w2"] * z],
        [1, 1],
    ).double()
    eps, weights = gauss_hermite(3)  # the data, and the noise of the two levels
    path = [math.sqrt(inputs["data_variance"]) * eps[:, :1]]
    for level in (1, 2):
        q = model.encode(path[-1], level)
        path.append(q.mean + q.std * eps[:, level : level + 1])
    mean = (sum(TERMS_ON[third_term](model, path).values()) * weights).sum()
    assert mean.item() == pytest.approx(best["value"], rel=1e-10)
    (gradient,) = torch.autograd.grad(mean, free)
    # the optimiser behind the oracle stopped within 1e-8 of the slopes; curvatures are below 100
    assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


@pytest.mark.proves("E5", "O4", "O5")
def test_training_on_the_notes_form_ends_with_too_narrow_an_encoder():
    for case in ("scalar_optimum_w1_1.0_w2_1.0", "scalar_optimum_w1_1.5_w2_2.0"):
        known = ORACLE[case]["outputs"]
        assert known["best_seed_form"]["sigma1"] < 0.82 * known["best_exact"]["sigma1"]
        assert known["best_seed_form"]["value"] < known["best_exact"]["value"] - 0.2


# Any number of levels


def exact_chain(*slopes):
    """Scalar levels p(z_{l-1} | z_l) = N(w_l z_l, 1) with the exact posterior as encoder; and p(x)."""
    variances = [1.0]  # of z_L, ..., z_0
    for w in reversed(slopes):
        variances.append(w**2 * variances[-1] + 1)
    variances.reverse()
    encoders = [
        gaussian_map(f64([[w * above / below]]), f64([0.0]), f64([math.sqrt(above / below)]))
        for w, below, above in zip(slopes, variances, variances[1:])
    ]
    decoders = [gaussian_map(f64([[w]]), f64([0.0])) for w in slopes]
    model = HierarchicalVAE(encoders, decoders, [1] * len(slopes)).double()
    return model, torch.distributions.Normal(f64(0.0), f64(variances[0]).sqrt())


@pytest.mark.proves("S9")
@catches("""models/hierarchical_vae.py: a level is reconstructed by the decoder below its own [slopes1]
- p = self.decode(path[level + 1], level + 1, cond)
+ p = gaussian(self.decoders[level - 1](path[level + 1]))""")
@pytest.mark.parametrize("slopes", [(1.3,), (0.7, -1.1), (0.7, -1.1, 2.0), (0.5, 1.0, 0.3, -0.8, 1.2)])
def test_the_exact_posterior_makes_every_path_tight_at_any_depth(slopes):
    model, law = exact_chain(*slopes)
    x = torch.linspace(-3, 3, 5, dtype=F64)[:, None]
    assert model.depth == len(slopes)
    for seed in range(3):
        assert_close(elbo(model, x, seeded(seed)), law.log_prob(x)[:, 0], rtol=0, atol=1e-10)  # float64
    path, weights = exact_path(model, x[:1])
    assert mean_of(sum(model.terms_on(path).values()), weights) == pytest.approx(law.log_prob(x[0]).item(), rel=1e-10)
    assert list(model.terms_on(path)) == ["reconstruction", *(f"level {i}" for i in range(1, len(slopes) + 1))]


def test_three_levels_that_are_mismatched_leave_a_gap():
    model, law = exact_chain(0.7, -1.1, 2.0)
    model.encoders = torch.nn.ModuleList([model.encoders[0], model.encoders[0], model.encoders[2]])
    x = f64([[0.4]])
    path, weights = exact_path(model, x)
    bound = mean_of(log_weight(model, path), weights)
    assert bound < law.log_prob(x).item() - 0.1
    assert_mean(elbo(model, x.expand(N, 1), seeded(0)), bound)  # 4.5 s.e.


def test_one_level_is_a_vae():
    encoder, decoder = gaussian_map(f64([[0.3]]), f64([0.1]), f64([0.6])), gaussian_map(f64([[1.2]]), f64([0.0]))
    tall, flat = HierarchicalVAE([encoder], [decoder], [1]).double(), VAE(encoder, decoder, 1).double()
    x = torch.linspace(-1, 1, 4, dtype=F64)[:, None]
    assert_close(elbo(tall, x, seeded(0)), elbo(flat, x, seeded(0)), rtol=0, atol=1e-12)
    ours, theirs = tall.terms(x, generator=seeded(0)), flat.terms(x, generator=seeded(0))
    assert list(ours) == list(theirs)
    for name in ours:
        assert_close(ours[name], theirs[name], rtol=0, atol=1e-12)


@pytest.mark.proves("S10", "S20", "O25", "O4")
def test_levels_may_differ_in_size_and_every_network_gets_a_gradient():
    class Encoder(nn.Module):
        def __init__(self, below, above):
            super().__init__()
            self.mean, self.log_var = nn.Linear(below, above), nn.Linear(below, above)

        def forward(self, z):
            return self.mean(z), self.log_var(z)

    torch.manual_seed(0)
    sizes = [5, 4, 3, 2]
    model = HierarchicalVAE(
        [Encoder(a, b) for a, b in pairwise(sizes)],
        [nn.Linear(b, a) for a, b in pairwise(sizes)],
        sizes[1:],
    )
    assert len(model.encoders) + len(model.decoders) == 6  # 2 L networks, theory S10
    x = torch.randn(8, 5)
    path = sample_path(model, x, seeded(0))
    assert [z.shape for z in path] == [(8, size) for size in sizes]
    log_weight(model, path).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert ancestral_sample(model, 3, seeded(0)).shape == (3, 5)


# Generation, theory S31


@pytest.mark.proves("S13", "S31", "O4", "O23")
@pytest.mark.parametrize("case", LINEAR)
def test_generated_data_have_the_law_of_the_model(case):
    model, _, known = linear_model(case)
    sizes = [shape[0] for shape in model.latent_shapes]
    for mean_output, key in ((False, "model_cov_of_x"), (True, "model_cov_of_x_hat")):
        mean, cov = generated_law(model, sizes, mean_output)
        assert_close(mean, f64(known["model_mean_of_x"]), rtol=1e-10, atol=1e-12)
        assert_close(cov, f64(known[key]), rtol=1e-10, atol=1e-12)


@pytest.mark.proves("S31", "O4", "O23")
@pytest.mark.parametrize("mean_output", [False, True])
@catches("""bound.py: samples start at the prior's mean
- chain.prior(cond).expand(n).sample(generator) if z is None
+ chain.prior(cond).expand(n).mean if z is None""")
def test_samples_follow_that_law(mean_output):
    model, _, known = linear_model("generic")
    draws = ancestral_sample(model, N, seeded(0), mean_output=mean_output)
    assert_mean(draws, f64(known["model_mean_of_x"]))  # 4.5 s.e., 12 entries
    assert_covariance(draws, f64(known["model_cov_of_x_hat" if mean_output else "model_cov_of_x"]))


# A user's mistakes


def test_models_that_cannot_be_are_refused():
    net = nn.Identity()
    with pytest.raises(InputError, match="got 2, 1 and 2"):
        HierarchicalVAE([net, net], [net], [2, 2])
    with pytest.raises(InputError, match="L >= 1"):
        HierarchicalVAE([], [], [])
    with pytest.raises(InputError, match="likelihood"):
        HierarchicalVAE([net], [net], [2], likelihood="poisson")
    with pytest.raises(InputError, match="positive whole numbers"):
        HierarchicalVAE([net], [net], [0])
