"""The Dirichlet-multinomial model, where evidence, posterior and bound are all known (oracles O26, O27, O28)."""

import math

import pytest
import torch
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, assert_mean, f64, oracle, seeded
from kakusan.bound import ancestral_sample, elbo, importance_bound, sample_path
from kakusan.chain import log_weight
from kakusan.errors import InputError
from kakusan.models.dirichlet_fit import ConjugateFit
from kakusan.models.dirichlet_multinomial import DirichletMultinomial

ORACLE = oracle("dirichlet_multinomial")
CASES = [case for case in ORACLE if "at_gamma" in ORACLE[case]["outputs"]]
GAMMAS = [(case, gamma) for case in CASES for gamma in ORACLE[case]["outputs"]["at_gamma"]]
# lgamma of numbers up to 1e3 has values up to 6e3, which cancel: an absolute 1e-11 is their float64 resolution
EXACT = {"rtol": 1e-10, "atol": 1e-11}


def model_and_counts(case, dtype=F64):
    inputs = ORACLE[case]["inputs"]
    return DirichletMultinomial(torch.tensor(inputs["alpha"], dtype=dtype)), torch.tensor(inputs["x"])


# O26


@pytest.mark.proves("S65", "O26")
@pytest.mark.parametrize("case", CASES)
def test_the_evidence_is_the_exact_one(case):
    model, counts = model_and_counts(case)
    assert_close(model.log_evidence(counts), f64(ORACLE[case]["outputs"]["log_evidence"]), **EXACT)


@pytest.mark.proves("S65")
@catches("""models/dirichlet_multinomial.py: the evidence lacks the multinomial coefficient
- _log_coefficient(counts) + total + ratio
+ total + ratio""")
def test_rational_evidence_is_met():  # by sequential draws from an urn
    assert math.exp(DirichletMultinomial(f64([1, 1, 1])).log_evidence([2, 3, 5])) == pytest.approx(1 / 66, rel=1e-12)
    jeffreys = DirichletMultinomial(f64([0.5, 0.5]))
    assert math.exp(jeffreys.log_evidence([0, 7])) == pytest.approx(429 / 2048, rel=1e-12)


@pytest.mark.proves("S65")
def test_the_evidence_sums_to_one_over_all_counts_of_a_total():
    counts = torch.tensor([[i, j, 6 - i - j] for i in range(7) for j in range(7 - i)])
    total = DirichletMultinomial(f64([0.3, 1.0, 4.0])).log_evidence(counts).exp().sum()
    assert total.item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_float32_evidence_is_right_to_its_own_precision(case):
    model, counts = model_and_counts(case, torch.float32)
    # sums of lgamma up to 6e3 at n = 1000, resolved to 6e-8 each, a few of them
    assert_close(
        model.log_evidence(counts).double(), f64(ORACLE[case]["outputs"]["log_evidence"]), rtol=1e-5, atol=3e-3
    )


# O27


@pytest.mark.proves("S61", "S66", "O4", "O6", "O12", "O27")
@catches("""models/dirichlet_multinomial.py: the bound lacks the constant of the prior
- _log_coefficient(counts) + torch.lgamma(alpha.sum()) - torch.lgamma(alpha).sum()
+ _log_coefficient(counts)""")
@pytest.mark.parametrize(("case", "at"), GAMMAS)
def test_the_bound_is_the_exact_one(case, at):
    model, counts = model_and_counts(case)
    known = ORACLE[case]["outputs"]["at_gamma"][at]
    bound = model.elbo(counts, f64(known["gamma"]))
    assert_close(bound, f64(known["elbo"]), **EXACT)
    assert_close(model.log_evidence(counts) - bound, f64(known["kl_to_posterior"]), **EXACT)


@pytest.mark.proves("S67", "O27")
@catches("""models/dirichlet_multinomial.py: the gradient of the bound forgets that the entries share a sum
- return rest * _trigamma(gamma) - _trigamma(total) * rest.sum(-1, keepdim=True)
+ return rest * _trigamma(gamma)""")
@pytest.mark.parametrize(("case", "at"), GAMMAS)
def test_the_gradient_of_the_bound_is_the_exact_one(case, at):
    model, counts = model_and_counts(case)
    known = ORACLE[case]["outputs"]["at_gamma"][at]
    assert_close(model.elbo_grad(counts, f64(known["gamma"])), f64(known["grad"]), **EXACT)


@pytest.mark.proves("S67", "O27")
@pytest.mark.parametrize(("case", "at"), GAMMAS)
def test_automatic_differentiation_gives_the_same_gradient(case, at):
    model, counts = model_and_counts(case)
    known = ORACLE[case]["outputs"]["at_gamma"][at]
    gamma = f64(known["gamma"]).requires_grad_()
    model.elbo(counts, gamma).backward()
    # torch differentiates digamma by a trigamma that is right to 5e-10 only; it multiplies up to n + 1 here
    assert_close(gamma.grad, f64(known["grad"]), rtol=0, atol=2e-9 * (10 + float(sum(counts))))


@pytest.mark.proves("S68", "O27", "O28")
@pytest.mark.parametrize(("case", "at"), GAMMAS)
@catches("""models/dirichlet_multinomial.py: the Fisher matrix takes the mean of gamma
- scale = _trigamma(gamma.sum(-1, keepdim=True))
+ scale = _trigamma(gamma.mean(-1, keepdim=True))""")
def test_one_natural_step_lands_on_the_posterior(case, at):
    model, counts = model_and_counts(case)
    gamma = f64(ORACLE[case]["outputs"]["at_gamma"][at]["gamma"])
    target = model.posterior(counts)
    # the Fisher matrix of large gammas is nearly singular (1e-9 at n = 1000): eight digits are lost
    assert_close(model.natural_step(counts, gamma), target, rtol=1e-8, atol=0)
    assert_close(model.natural_step(counts, gamma, size=0.25), gamma + 0.25 * (target - gamma), rtol=1e-8, atol=0)


@catches("""models/dirichlet_multinomial.py: the natural step goes down
- gamma + size * (scaled + correction / diagonal)
+ gamma - size * (scaled + correction / diagonal)""")
@catches("""models/dirichlet_multinomial.py: the natural step inverts another matrix than the Fisher matrix
- / (1 - scale *
+ / (1 + scale *""")
def test_the_natural_step_is_the_fisher_matrix_inverted():
    model, counts, gamma = DirichletMultinomial(f64([0.5, 2.0, 1.0])), [4, 0, 3], f64([1.3, 0.4, 5.0])
    two = f64(2.0)  # psi1(x) is the Hurwitz zeta function at 2; torch's polygamma(1, x) is right to 5e-10 only
    fisher = torch.special.zeta(two, gamma).diag() - torch.special.zeta(two, gamma.sum())
    step = torch.linalg.solve(fisher, model.elbo_grad(counts, gamma))
    assert_close(model.natural_step(counts, gamma), gamma + step, rtol=1e-10, atol=0)


@pytest.mark.proves("S68")
@pytest.mark.parametrize("start", [[0.5, 0.5, 0.5], [50.0, 0.3, 2.0], [1.0, 30.0, 30.0], [3.0, 4.0, 6.0]])
def test_gradient_ascent_from_anywhere_ends_at_the_posterior(start):  # theory S68
    model, counts = DirichletMultinomial(f64([1, 1, 1])), [2, 3, 5]
    free = f64(start).log().requires_grad_()
    optimiser = torch.optim.LBFGS([free], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = -model.elbo(counts, free.exp())
        loss.backward()
        return loss

    optimiser.step(closure)
    gamma = free.detach().exp()
    # curvature 0.017 and a value resolved to 1e-15 leave sqrt(1e-13) in gamma
    assert_close(gamma, f64([3, 4, 6]), rtol=1e-5, atol=0)
    assert_close(model.elbo(counts, gamma), model.log_evidence(counts), rtol=0, atol=1e-10)


@pytest.mark.proves("S62", "O12", "O27")
def test_the_bound_is_below_the_evidence_away_from_the_posterior():
    model, counts = DirichletMultinomial(f64([0.5, 1.0, 2.0])), torch.tensor([4, 1, 0])
    gamma = (torch.randn(200, 3, generator=seeded(0), dtype=F64) * 2).exp()
    assert (model.elbo(counts, gamma) < model.log_evidence(counts)).all()


# O28: the KL is not convex in gamma, and still has one stationary point


@pytest.mark.proves("E25", "O28")
@pytest.mark.parametrize("case", [case for case in ORACLE if case.startswith("kl_not_convex")])
@catches("""models/dirichlet_multinomial.py: the bound of counts adds the normalizer of gamma
- entropy = torch.lgamma(gamma).sum(-1) - torch.lgamma(gamma.sum(-1))
+ entropy = torch.lgamma(gamma).sum(-1) + torch.lgamma(gamma.sum(-1))""")
def test_the_kl_along_the_symmetric_ray_is_the_oracles_and_not_convex(case):
    known = ORACLE[case]["outputs"]
    k = ORACLE[case]["inputs"]["K"]
    model, nothing = DirichletMultinomial(torch.ones(k, dtype=F64)), torch.zeros(k)

    def kl(g):
        return model.log_evidence(nothing) - model.elbo(nothing, g * torch.ones(k, dtype=F64))

    def second_derivative(g):
        g = f64(g).requires_grad_()
        (slope,) = torch.autograd.grad(kl(g), g, create_graph=True)
        return torch.autograd.grad(slope, g)[0].item()

    for g, value in known["kl"].items():
        assert kl(f64(float(g))).item() == pytest.approx(value, rel=1e-10, abs=1e-12)
    for g, value in known["second_derivative_along_ray"].items():
        assert second_derivative(float(g)) == pytest.approx(value, rel=1e-7)  # torch's polygamma(2) in float64
    inflection = known["inflection_g"]
    assert second_derivative(inflection * 0.999) > 0 > second_derivative(inflection * 1.001)
    assert kl(f64(26.0)) > (kl(f64(2.0)) + kl(f64(50.0))) / 2  # the midpoint test of convexity fails


@pytest.mark.proves("E25")
def test_the_kl_rises_along_every_ray_from_the_posterior():
    model, counts = DirichletMultinomial(f64([0.5, 1.0, 2.0])), torch.tensor([3, 0, 1])
    target = model.posterior(counts)
    ends = (torch.randn(40, 1, 3, generator=seeded(1), dtype=F64) * 2).exp()
    steps = torch.linspace(0, 1, 30, dtype=F64)[:, None]
    bound = model.elbo(counts, target + steps * (ends - target))
    assert (bound.diff(dim=1) < 0).all()


# As a chain


@pytest.mark.proves("S62", "S64", "O12", "O27", "O26")
@catches("""chain.py: the bound forgets log q
- total = total - chain.encode(path[t - 1], t, cond).log_prob(path[t])
+ pass""")
def test_every_path_weighs_exactly_the_evidence():
    model = DirichletMultinomial(f64([0.4, 1.0, 2.5]))
    counts = f64([[0, 0, 0], [5, 1, 0], [2, 30, 7]])
    for seed in range(5):
        path = sample_path(model, counts, seeded(seed))
        assert_close(log_weight(model, path), model.log_evidence(counts), rtol=0, atol=1e-10)
    assert_close(importance_bound(model, counts, 4, seeded(0)), model.log_evidence(counts), rtol=0, atol=1e-10)


def test_paths_stay_exact_where_a_category_is_nearly_impossible():
    # z underflows to 0 in a category of small alpha and no counts; the weight is still the evidence
    model = DirichletMultinomial(f64([0.001, 1.0, 1.0]))
    counts = f64([[0, 3, 2]]).expand(2000, -1)
    assert_close(elbo(model, counts, seeded(0)), model.log_evidence(counts), rtol=0, atol=1e-8)


@catches("""models/dirichlet_multinomial.py: digamma of the parts is summed in place of digamma of the sum
- torch.digamma(gamma.sum(-1, keepdim=True))
+ torch.digamma(gamma).sum(-1, keepdim=True)""")
def test_the_terms_sum_to_the_evidence():
    model, counts = DirichletMultinomial(f64([0.4, 1.0, 2.5])), f64([[5, 1, 0], [0, 0, 0]])
    terms = model.terms(counts)
    assert_close(sum(terms.values()), model.log_evidence(counts), rtol=0, atol=1e-12)
    assert (terms["level 1"] <= 1e-12).all()  # minus a KL
    draws = model.decode(model.encode(counts[:1], 1).expand(100_000).sample(seeded(0)), 1).log_prob(counts[:1])
    assert_mean(draws, terms["reconstruction"][0].item())  # 4.5 s.e.


def test_drawn_counts_follow_the_evidence():
    model = DirichletMultinomial(f64([0.5, 1.5]), total_count=3)
    draws = ancestral_sample(model, 100_000, seeded(0))
    outcomes = f64([[0, 3], [1, 2], [2, 1], [3, 0]])
    # four frequencies at 4.5 s.e.
    assert_mean((draws[:, :1] == outcomes[:, 0]).to(F64), model.log_evidence(outcomes).exp())


@catches("""models/dirichlet_multinomial.py: the posterior is stated by its mode
- return self._out(self._counts(counts) + self._alpha)
+ return self._counts(counts) + self.concentration - 1""")
@catches("""models/dirichlet_multinomial.py: the mode of the posterior is its mean
- weight = self._counts(counts) + self._alpha - 1
+ weight = self.posterior(counts)""")
def test_the_map_estimate_is_the_mode_of_the_posterior():
    model = DirichletMultinomial(f64([1.0, 2.0, 3.0]))
    mode = model.map_estimate([4, 0, 2])
    assert_close(mode, f64([4, 1, 4]) / 9, rtol=1e-14, atol=0)
    assert_close(model.posterior([4, 0, 2]), f64([5, 2, 5]), rtol=0, atol=0)
    posterior = model.encode(f64([[4, 0, 2]]), 1)
    near = (mode + 0.01 * torch.randn(50, 3, generator=seeded(0), dtype=F64)).clamp(min=1e-6)
    assert (posterior.log_prob(near / near.sum(1, keepdim=True)) < posterior.log_prob(mode[None])).all()
    with pytest.raises(InputError, match="mode"):
        DirichletMultinomial(f64([0.5, 2.0])).map_estimate([0, 3])
    with pytest.raises(InputError, match="mode"):
        DirichletMultinomial(f64([1.0, 1.0])).map_estimate([0, 0])


def test_one_example_and_a_batch_agree():
    model, counts = DirichletMultinomial(f64([0.4, 1.0])), torch.tensor([[3, 4], [0, 9]])
    assert model.log_evidence(counts[0]).shape == ()
    assert_close(model.log_evidence(counts)[0], model.log_evidence(counts[0]), rtol=0, atol=0)


# A user's mistakes


@pytest.mark.proves("S63", "O26")
@pytest.mark.parametrize(
    "concentration", [[1.0], [[1.0, 2.0]], [1.0, 0.0], [1.0, -2.0], [1.0, math.inf], [1.0, math.nan]]
)
def test_a_concentration_that_is_no_prior_is_refused(concentration):
    with pytest.raises(InputError, match="concentration"):
        DirichletMultinomial(concentration)


@pytest.mark.proves("S63", "O26")
@pytest.mark.parametrize("counts", [[1, -1], [0.5, 1.0], [1.0, math.nan], [math.inf, 1.0], [1, 2, 3], 4])
def test_counts_that_are_not_k_whole_numbers_are_refused(counts):
    with pytest.raises(InputError, match="counts"):
        DirichletMultinomial([1.0, 1.0]).log_evidence(counts)


@pytest.mark.parametrize("gamma", [[0.0, 1.0], [-1.0, 1.0], [1.0, 1.0, 1.0]])
def test_a_gamma_that_is_no_dirichlet_is_refused(gamma):
    model = DirichletMultinomial([1.0, 1.0])
    for method in (model.elbo, model.elbo_grad, model.natural_step):
        with pytest.raises(InputError, match="gamma"):
            method([1, 2], gamma)


def test_a_negative_total_is_refused():
    with pytest.raises(InputError, match="total_count"):
        DirichletMultinomial([1.0, 1.0], total_count=-1)


@pytest.mark.proves("S60", "O6", "O26")
@catches("""distributions.py: the multinomial coefficient begins at (n - 1)!
- coefficient = torch.lgamma(value.sum(-1) + 1) - torch.lgamma(value + 1).sum(-1)
+ coefficient = torch.lgamma(value.sum(-1)) - torch.lgamma(value + 1).sum(-1)""")
def test_likelihood_times_prior_integrates_to_the_evidence():
    model, counts = DirichletMultinomial(f64([2.5, 3.0])), f64([[3, 1]])
    z = torch.linspace(0, 1, 4001, dtype=F64)[:, None]
    z = torch.cat([z, 1 - z], 1)
    integrand = (model.prior().log_prob(z) + model.decode(z, 1).log_prob(counts)).exp()
    # the integrand ends like z^4.5 and (1 - z)^3: the trapezoid rule is right to h^4 = 4e-15
    assert torch.trapezoid(integrand, z[:, 0]).item() == pytest.approx(
        model.log_evidence(counts).exp().item(), rel=1e-10
    )


@catches("""models/dirichlet_fit.py: a learned concentration has no gradient [True]
- model.concentration = self.log_concentration.exp()
+ model.concentration = self.log_concentration.detach().exp()""")
@catches("""models/dirichlet_fit.py: drawn counts have the mean total of the training rows
- int(counts.sum(-1).median())
+ int(counts.sum(-1).mean())""")
@catches("""models/dirichlet_fit.py: the distance to the optimum is that of the first row
- (self.log_gamma.exp() / exact - 1).abs().max()
+ (self.log_gamma.exp() / exact - 1)[0].abs().max()""")
@pytest.mark.parametrize("learned", [False, True])
def test_a_fit_starts_far_from_the_optimum_and_ends_at_it(learned):
    counts = f64([[1, 0, 3], [2, 2, 1], [40, 9, 0]])  # totals 4, 5 and 49
    fit = ConjugateFit(0.5, learned, (3,))
    fit.start_at(counts)
    assert fit.log_concentration.requires_grad == learned
    assert fit.chain().total_count == 5
    assert_close(fit.chain().concentration, f64([0.5] * 3))
    assert fit.distance_to_exact(counts) == pytest.approx(1.0)  # gamma = 1 where 0.5 is exact
    rows, model = torch.tensor([2, 0]), DirichletMultinomial(f64([0.5] * 3))
    bound = fit.elbo(counts[rows], rows)
    assert_close(bound, model.elbo(counts[rows], torch.ones(2, 3, dtype=F64)))
    bound.sum().backward()
    assert (fit.log_gamma.grad.abs().sum(1) > 0).tolist() == [True, False, True]
    moved = fit.log_concentration.grad is not None and bool((fit.log_concentration.grad != 0).all())
    assert moved == learned
    fit.log_gamma.data.copy_((counts + 0.5).log())
    assert fit.distance_to_exact(counts) < 1e-12
    assert_close(fit.elbo(counts[rows], rows), model.log_evidence(counts[rows]))
    fit.log_gamma.data[2, 0] += math.log(1.25)
    assert fit.distance_to_exact(counts) == pytest.approx(0.25)
