"""Each law against torch.distributions, against sums and quadrature, and against the oracles."""

import math

import pytest
import torch
from torch import distributions as reference
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, assert_covariance, assert_mean, assert_variance, f64, oracle, seeded
from kakusan.distributions import HALF_LOG_2PI, Bernoulli, Dirichlet, DiscretizedNormal, Multinomial, Normal, normal_kl
from kakusan.errors import InputError
from kakusan.likelihoods import as_likelihood
from kakusan.likelihoods.base import gaussian, limit_log_var
from kakusan.noise import example_streams

GAUSSIANS = oracle("gaussians")
N = 100_000  # draws of a random test
EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64, a handful of operations on numbers of order one


def some(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


# Against torch.distributions


@catches("""distributions.py: the entropy lacks its half a dimension
- self._num_dims * (0.5 + HALF_LOG_2PI)
+ self._num_dims * HALF_LOG_2PI""")
def test_normal_agrees_with_torch():
    mean, std, value = some(3, 2, 4), some(3, 2, 4, seed=1).exp(), some(3, 2, 4, seed=2)
    ours, theirs = Normal(mean, std), reference.Independent(reference.Normal(mean, std), 2)
    assert_close(ours.log_prob(value), theirs.log_prob(value), **EXACT)
    assert_close(ours.entropy(), theirs.entropy(), **EXACT)
    other = Normal(value, std.flip(0))
    assert_close(
        normal_kl(ours, other),
        reference.kl_divergence(theirs, reference.Independent(reference.Normal(value, std.flip(0)), 2)),
        **EXACT,
    )


@catches("""distributions.py: a cross entropy forgets the variance of what it averages over
- (value - self.mean).square() + var
+ (value - self.mean).square()""")
def test_a_cross_entropy_is_entropy_plus_kl():
    mean, log_var, other = some(3, 4), some(3, 4, seed=1), some(3, 4, seed=2)
    q, p = Normal.from_log_var(mean, log_var), Normal.from_log_var(other, log_var.flip(0))
    assert_close(p.cross_entropy(q.mean, q.var), q.entropy() + normal_kl(q, p), **EXACT)
    assert_close(p.cross_entropy(q.mean, torch.zeros_like(mean)), -p.log_prob(q.mean), **EXACT)  # of a point mass


def test_three_ways_to_state_a_spread_are_one_law():
    mean, std = some(2, 3), some(2, 3, seed=1).exp()
    for law in (Normal(mean, std), Normal.from_var(mean, std.square()), Normal.from_log_var(mean, 2 * std.log())):
        assert_close(law.std, std, **EXACT)
        assert_close(law.var, std.square(), **EXACT)
        assert_close(law.log_var, 2 * std.log(), **EXACT)
    point = Normal.from_var(mean, torch.zeros_like(mean))
    assert torch.equal(point.sample(seeded(0)), mean)


def test_bernoulli_agrees_with_torch():
    logits = 3 * some(4, 3)
    bits = (some(4, 3, seed=1) > 0).to(F64)
    theirs = reference.Independent(reference.Bernoulli(logits=logits), 1)
    assert_close(Bernoulli(logits).log_prob(bits), theirs.log_prob(bits), **EXACT)
    assert_close(Bernoulli(logits).mean, theirs.mean, **EXACT)


def test_bernoulli_is_finite_for_certain_bits_in_float32():
    sure = Bernoulli(torch.tensor([[200.0, -200.0]]))
    assert_close(sure.log_prob(torch.tensor([[1.0, 0.0]])), torch.zeros(1))
    assert_close(sure.log_prob(torch.tensor([[0.0, 1.0]])), torch.tensor([-400.0]))


@pytest.mark.proves("S63", "O26")
@catches("""distributions.py: the density of a Dirichlet has an exponent too large
- torch.xlogy(a - 1, value).sum(-1) - log_norm
+ torch.xlogy(a, value).sum(-1) - log_norm""")
def test_dirichlet_agrees_with_torch():
    concentration = some(5, 4).exp()
    value = some(5, 4, seed=1).softmax(-1)
    theirs = reference.Dirichlet(concentration)
    assert_close(Dirichlet(concentration).log_prob(value), theirs.log_prob(value), **EXACT)
    assert_close(Dirichlet(concentration).mean, theirs.mean, **EXACT)


def rows_of(part, num):
    """A parameter of a law, repeated for that many examples."""
    if isinstance(part, Normal):
        return Normal(part.mean.repeat(num, 1), part.std.repeat(num, 1))
    return part.repeat(num, 1) if isinstance(part, torch.Tensor) else part


@pytest.mark.proves("S63", "O26")
def test_multinomial_agrees_with_torch():
    probs = some(4, 3).softmax(-1)
    counts = f64([[5, 0, 2], [7, 0, 0], [1, 3, 3], [0, 0, 7]])
    theirs = reference.Multinomial(7, probs)
    assert_close(Multinomial(probs).log_prob(counts), theirs.log_prob(counts), **EXACT)
    assert_close(Multinomial(probs, 7).mean, theirs.mean, **EXACT)


@catches("""distributions.py: an expanded discretized Gaussian has 256 levels
- DiscretizedNormal(self.normal.expand(num_examples), self.levels)
+ DiscretizedNormal(self.normal.expand(num_examples))""")
@catches("""distributions.py: an expanded Gaussian has its log-variance for its standard deviation
- Normal(_expand(self.mean, num_examples), _expand(std, num_examples), _expand(log_var, num_examples))
+ Normal(_expand(self.mean, num_examples), _expand(log_var, num_examples), _expand(log_var, num_examples))""")
def test_a_law_with_a_batch_of_one_scores_and_expands_to_many_examples():
    value = some(6, 3).softmax(-1)
    for law, event in (
        (Normal(some(1, 3), torch.ones(1, 1, dtype=F64)), value),
        (Bernoulli(some(1, 3)), value.round()),
        (DiscretizedNormal(Normal(some(1, 3), torch.ones(1, 1, dtype=F64))), 2 * value.round() - 1),
        (DiscretizedNormal(Normal(some(1, 3), torch.full((1, 1), 0.3, dtype=F64)), 4), 2 * value.round() - 1),
        (Dirichlet(some(1, 3).exp()), value),
        (Multinomial(some(1, 3).softmax(-1), 4), value.round()),
    ):
        many = law.expand(6)
        assert many.mean.shape == (6, 3)
        copies = type(law)(*(rows_of(getattr(law, name), 6) for name in type(law).__dataclass_fields__))
        assert torch.equal(many.sample(seeded(0)), copies.sample(seeded(0)))
        assert many.sample(seeded(0)).shape == (6, 3)
        assert_close(many.log_prob(event), law.log_prob(event), **EXACT)


# Mass one, by sums and quadrature


@catches("""distributions.py: counts lack the multinomial coefficient
- return coefficient + torch.xlogy(value, self.probs).sum(-1)
+ return torch.xlogy(value, self.probs).sum(-1)""")
def test_probabilities_sum_to_one():
    logits = some(1, 3)
    bits = torch.cartesian_prod(*[f64([0, 1])] * 3)
    assert_close(Bernoulli(logits).log_prob(bits).exp().sum(), f64(1.0), **EXACT)
    counts = f64([[i, j, 5 - i - j] for i in range(6) for j in range(6 - i)])
    assert_close(Multinomial(some(1, 3).softmax(-1)).log_prob(counts).exp().sum(), f64(1.0), **EXACT)


@catches("""distributions.py: a log-density takes log std for log variance
- sum_event(u.square() + self.log_var)
+ sum_event(u.square() + self.std.log())""")
def test_densities_integrate_to_one():
    x = torch.linspace(-12, 12, 2001, dtype=F64)[:, None]
    normal = Normal(f64([[0.4]]), f64([[0.8]]))
    # the trapezoid rule on a smooth function that vanishes at both ends: no error that matters
    assert torch.trapezoid(normal.log_prob(x).exp(), x[:, 0]).item() == pytest.approx(1, rel=1e-12)
    z = torch.linspace(0, 1, 20001, dtype=F64)[:, None]
    density = Dirichlet(f64([[2.5, 3.0]])).log_prob(torch.cat([z, 1 - z], 1)).exp()
    # h^2 rule with an endpoint singularity of order 1.5 in z: about h^2.5 = 2e-11
    assert torch.trapezoid(density, z[:, 0]).item() == pytest.approx(1, rel=1e-8)


@pytest.mark.proves("M10", "O22")
@catches("""distributions.py: the end levels do not take the tails [1.7-0.5-256]
- torch.where(at_end, tail, inner)
+ inner""")
@catches("""distributions.py: the first level does not take its tail [-0.999-0.02-256]
- torch.where(value > 0, value > 1 - half_width, value < half_width - 1)
+ value > 1 - half_width""")
@catches("""distributions.py: an end level seen across the centre takes the tail beyond it [1.7-0.5-8]
- tail = torch.where(outward, log_near, torch.special.log_ndtr(-far))
+ tail = log_near""")
@catches("""distributions.py: a level is twice as wide as the grid [0.1-0.3-8]
- near = (side * distance + half_width)
+ near = (side * distance + 3 * half_width)""")
@pytest.mark.parametrize("levels", [2, 3, 8, 256])
@pytest.mark.parametrize(
    ("mean", "std"), [(0.1, 0.3), (-0.35, 0.01), (-0.999, 0.02), (1.7, 0.5), (-3.0, 0.2), (0.2, 5.0)]
)
def test_the_levels_of_a_discretized_normal_sum_to_one(levels, mean, std):
    grid = torch.linspace(-1, 1, levels, dtype=F64)[:, None]
    law = DiscretizedNormal(Normal(f64([[mean]]), f64([[std]])), levels)
    # 256 logarithms, each right to a relative 1e-13 or so
    assert law.log_prob(grid).exp().sum().item() == pytest.approx(1, rel=1e-11)


# Oracles


@pytest.mark.proves("S22", "S23", "O1", "O3")
@catches("""distributions.py: the KL of two Gaussians is that of the second to the first [kl_1d_narrow_to_wide]
-     log_ratio = q.log_var - p.log_var
-
+     q, p = p, q
+     log_ratio = q.log_var - p.log_var
+""")
@catches("""distributions.py: the KL of two Gaussians forgets to divide the distance by the variance [kl_1d_narrow_to_wide]
- (q.mean - p.mean).square() * (-p.log_var).exp()
+ (q.mean - p.mean).square()""")
@pytest.mark.parametrize("case", [case for case in GAUSSIANS if case.startswith("kl_1d")])
def test_the_kl_of_two_normals_is_the_oracles(case):  # O1, quadrature at 50 digits
    law, expected = GAUSSIANS[case]["inputs"], GAUSSIANS[case]["outputs"]["kl"]
    q = Normal(f64([[law["mean_q"]]]), f64([[law["sigma_q"]]]))
    p = Normal(f64([[law["mean_p"]]]), f64([[law["sigma_p"]]]))
    # near_identity is 1.5e-8: only a form without cancellation reaches 1e-10 relative there
    assert normal_kl(q, p).item() == pytest.approx(expected, rel=1e-10, abs=0)


@pytest.mark.proves("S22", "S23", "O1", "O3")
def test_the_kl_of_a_vector_is_a_sum_over_its_entries():
    case = GAUSSIANS["kl_diag"]
    mean, std, other = (f64([case["inputs"][key]]) for key in ("mu", "sigma", "z_hat"))
    ones = torch.ones_like(mean)
    q = Normal(mean, std)
    assert normal_kl(q, Normal(0 * ones, ones)).item() == pytest.approx(case["outputs"]["kl_to_N(0,I)"], rel=1e-12)
    assert normal_kl(q, Normal(other, ones)).item() == pytest.approx(case["outputs"]["kl_to_N(z_hat,I)"], rel=1e-12)


@pytest.mark.proves("S4", "S21", "M15", "O2", "O6")
@catches("""distributions.py: a log-density lacks log 2 pi
- sum_event(u.square() + self.log_var) - self._num_dims * HALF_LOG_2PI
+ sum_event(u.square() + self.log_var)""")
def test_the_constant_of_a_log_density_is_kept():  # O2: what the notes' loss drops
    dropped = GAUSSIANS["dropped_log_2pi"]["outputs"]
    image = torch.zeros(1, 784, dtype=F64)
    assert math.isclose(HALF_LOG_2PI, dropped["per_dimension"], rel_tol=1e-15)
    assert gaussian(image).log_prob(image).item() == pytest.approx(-dropped["D=784"], rel=1e-14)


@pytest.mark.proves("S30", "E29", "O30")
@catches("""distributions.py: the KL takes the logarithm of a squared std
- log_ratio = q.log_var - p.log_var
+ log_ratio = (q.std**2).log() - p.log_var""")
def test_log_variances_from_minus_200_to_88_give_finite_kl_and_gradients_in_float32():  # O30, theory E29
    case = GAUSSIANS["float32_log_sigma_squared"]["outputs"]
    table = {float(key): row["exact_kl2_term_mu0"] for key, row in case.items() if float(key) <= 88}
    log_var = torch.tensor(list(table), requires_grad=True)[:, None]
    log_var.retain_grad()
    standard = Normal(torch.zeros(1, 1), torch.ones(1, 1))
    kl = normal_kl(Normal.from_log_var(torch.zeros_like(log_var), log_var), standard)
    # the oracle's term is twice the KL; float32 resolves 6e-8, times the 88 of the exponent
    assert_close(2 * kl, torch.tensor(list(table.values())), rtol=1e-5, atol=0)
    kl.sum().backward()
    assert_close(log_var.grad, 0.5 * log_var.detach().expm1(), rtol=1e-5, atol=0)


@pytest.mark.proves("E29")
def test_log_squared_std_would_not_pass_that_test():
    log_var = torch.tensor([-200.0, -104.0, 89.0])
    naive = (0.5 * log_var).exp().square().log()
    assert not naive.isfinite().any()


@pytest.mark.proves("S30")
@catches("""likelihoods/base.py: the ceiling of log variances forgets that they are summed
- 88.3 - math.log(num_dims)
+ 88.3""")
def test_limit_log_var_keeps_values_and_gradients_finite_in_float32():
    raw = torch.tensor([[-1e4, -200.0, 0.0, 70.0], [1e4, 88.0, 89.0, 1e30]], requires_grad=True)
    limited = limit_log_var(raw)
    kl = normal_kl(Normal.from_log_var(torch.zeros(2, 4), limited), Normal(torch.zeros(1, 4), torch.ones(1, 4)))
    kl.sum().backward()
    assert kl.isfinite().all()
    assert raw.grad.isfinite().all()
    kept = torch.tensor([[-200.0, -3.0, 0.0, 80.0]])
    assert torch.equal(limit_log_var(kept), kept)
    assert limit_log_var(torch.tensor([[88.0]])).item() == 88.0  # one dimension has nothing to sum
    assert gaussian((torch.zeros(1, 4), torch.full((1, 4), 1e4))).var.isfinite().all()


# The discretised likelihood, O22


DISCRETISED = [case for case in GAUSSIANS if case.startswith("discretised")]


def discretised(case, dtype):
    law = GAUSSIANS[case]["inputs"]
    levels, expected = zip(*GAUSSIANS[case]["outputs"]["log_prob"].items())
    value = (torch.tensor([float(u) for u in levels], dtype=F64) / 127.5 - 1).to(dtype)[:, None]
    normal = Normal(torch.tensor([[law["mean"]]], dtype=dtype), torch.tensor([[law["sigma"]]], dtype=dtype))
    return DiscretizedNormal(normal), value, torch.tensor(expected, dtype=F64)


@pytest.mark.proves("M10", "O22")
@pytest.mark.parametrize("case", DISCRETISED)
def test_a_discretized_normal_is_the_oracles_in_both_tails(case):
    law, value, expected = discretised(case, F64)
    # down to -9065 nats, by quadrature over the bin; float64 grid values are right to 1e-16, times (x - m) / s^2 = 1e4
    assert_close(law.log_prob(value), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", DISCRETISED)
def test_a_discretised_normal_survives_float32(case):
    law, value, expected = discretised(case, torch.float32)
    value.requires_grad_()
    result = law.log_prob(value)
    # float32 rounds x by 6e-8, and the slope of the log-density there is |x - m| / s^2, at most 2 / s^2
    slope = (value.detach() - law.normal.mean).abs()[:, 0].double() / law.normal.std.item() ** 2
    assert (((result - expected).abs()) < 1e-7 * slope + 1e-5 * expected.abs() + 1e-5).all()
    result.sum().backward()
    assert value.grad.isfinite().all()


@catches("""distributions.py: grey levels in the upper tail lose their probability
- side = torch.where(distance > 0, -1.0, 1.0)
+ side = torch.where(distance > 0, 1.0, 1.0)""")
def test_a_discretised_normal_is_its_own_mirror_image():
    grid = torch.linspace(-1, 1, 256)[:, None]
    left, right = (DiscretizedNormal(Normal(torch.tensor([[m]]), torch.tensor([[0.01]]))) for m in (-0.9, 0.9))
    # the plain difference of two Phi is log 0 in the upper tail only; float32, values down to -2e4
    assert_close(left.log_prob(grid), right.log_prob(-grid), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("std", [1e-3, 0.05, 1.0, 30.0])
def test_gradients_of_a_discretised_normal_are_finite_in_float32(std):
    grid = torch.linspace(-1, 1, 256)[:, None]
    mean, log_var = torch.tensor([[0.3]], requires_grad=True), torch.tensor([[2 * math.log(std)]], requires_grad=True)
    DiscretizedNormal(Normal.from_log_var(mean, log_var)).log_prob(grid).sum().backward()
    assert mean.grad.isfinite().all()
    assert log_var.grad.isfinite().all()


@catches("""distributions.py: draws of a discretised Gaussian leave the grid
- return grid.clamp(0, self.levels - 1) *
+ return grid *""")
def test_the_draws_of_a_discretised_normal_follow_its_probabilities():
    levels = 8
    law = DiscretizedNormal(Normal(f64([[0.4]]), f64([[0.5]])), levels)
    grid = torch.linspace(-1, 1, levels, dtype=F64)[:, None]
    draws = law.expand(N).sample(seeded(0))
    # 8 frequencies at 4.5 s.e.: false alarm below 1e-4
    assert_mean((draws - grid.T).abs().lt(1e-9).to(F64), law.log_prob(grid).exp())


@catches("""distributions.py: a gray level is at most a thousand standard deviations away
- near, far = near.clamp(min=-1e18, max=1e18), far.clamp(min=-1e18, max=1e18)
+ near, far = near.clamp(min=-1e3, max=1e3), far.clamp(min=-1e3, max=1e3)""")
def test_a_gray_level_far_beyond_the_mean_costs_its_distance():
    level, std = -1 + 2 / 255, 1e-4
    off = (0.9 - level - 1 / 255) / std  # of the nearer end of the bin
    found = DiscretizedNormal(Normal(f64([[0.9]]), f64([[std]]))).log_prob(f64([[level]]))
    # log Phi(-u) = -u^2 / 2 - log(u sqrt(2 pi)) to 1 / u^2, and the further end of the bin is exp(-1e6) less likely
    assert found.item() == pytest.approx(-0.5 * off**2 - math.log(off) - HALF_LOG_2PI, rel=1e-9)


# Draws


@pytest.mark.proves("S5", "O6")
@catches("""distributions.py: a Gaussian draws with its variance for its standard deviation
- return self.mean + self.std * randn(
+ return self.mean + self.var * randn(""")
def test_normal_draws_have_the_mean_and_the_covariance_of_the_law():
    draws = Normal(f64([[0.5, -2.0]]), f64([[0.3, 2.0]])).expand(N).sample(seeded(1))
    assert_mean(draws, f64([0.5, -2.0]))  # 4.5 s.e.: 7e-6 an entry
    assert_covariance(draws, f64([[0.09, 0], [0, 4]]))


def test_bernoulli_draws_have_the_mean_of_the_law():
    law = Bernoulli(f64([[-2.0, 0.3]]))
    assert_mean(law.expand(N).sample(seeded(2)), law.mean[0])  # 4.5 s.e.


@catches("""distributions.py: Dirichlet draws belong to another concentration [concentration1]
- a.device).log() / a
-
+ a.device).log() / (a + 1)
+""")
@pytest.mark.parametrize("concentration", [[0.01, 0.02], [0.3, 1.0, 2.5], [40.0, 1.0, 0.05]])
def test_dirichlet_draws_have_the_moments_of_the_law(concentration):
    a = f64([concentration])
    draws = Dirichlet(a).expand(N).sample(seeded(3))
    total, mean = a.sum(), (a / a.sum())[0]
    assert_close(draws.sum(1), torch.ones(N, dtype=F64))
    assert_mean(draws, mean)  # 4.5 s.e.
    assert_covariance(draws, (mean.diag() - mean[:, None] * mean) / (total + 1))


def test_log_dirichlet_draws_have_the_mean_that_the_bound_uses():  # psi(a_k) - psi(a_0), theory S66
    a = f64([[0.4, 1.0, 3.0]])
    draws = Dirichlet(a).expand(N).sample(seeded(4))
    assert_mean(draws.log(), (torch.digamma(a) - torch.digamma(a.sum()))[0])  # 4.5 s.e.


def test_multinomial_draws_have_the_moments_of_the_law():
    probs = f64([0.2, 0.5, 0.3])
    draws = Multinomial(probs[None], 6).expand(N).sample(seeded(5))
    assert (draws.sum(1) == 6).all()
    assert_mean(draws, 6 * probs)  # 4.5 s.e.
    assert_covariance(draws, 6 * (probs.diag() - probs[:, None] * probs))


def test_drawing_counts_without_a_total_says_what_to_type():
    with pytest.raises(ValueError, match="total_count"):
        Multinomial(f64([[0.5, 0.5]])).sample()
    assert Multinomial(f64([[0.5, 0.5]]), 0).sample().sum() == 0


@catches("""noise.py: every example draws from a stream that others have drawn from [Normal]
- for one in randomness]
+ for one in [randomness[0]] * len(randomness)]""")
@pytest.mark.parametrize(
    "law",
    [
        Normal(torch.zeros(1, 3), torch.ones(1, 3)),
        Bernoulli(torch.zeros(1, 3)),
        DiscretizedNormal(Normal(torch.zeros(1, 3), torch.ones(1, 3))),
        Dirichlet(torch.ones(1, 3)),
        Multinomial(torch.full((1, 3), 1 / 3), 10_000),
    ],
    ids=lambda law: type(law).__name__,
)
def test_with_one_generator_an_example_a_draw_does_not_depend_on_its_neighbours(law):
    many = law.expand(5).sample(example_streams(7, range(5)))
    few = law.expand(2).sample(example_streams(7, range(3, 5)))
    assert torch.equal(many[3:], few)
    assert not torch.equal(many[3], many[4])


def test_the_number_of_generators_must_be_the_number_of_examples():
    with pytest.raises(ValueError, match="expected 3"):
        Normal(torch.zeros(3, 1), torch.ones(1, 1)).sample(example_streams(0, range(2)))


# What a decoder's output means


@pytest.mark.proves("S4", "O6")
@catches("""likelihoods/base.py: a decoder's log variance is read as a log standard deviation
- Normal.from_log_var(mean, limit_log_var(log_var, lowest_log_var))
+ Normal.from_log_var(mean, 2 * limit_log_var(log_var, lowest_log_var))""")
def test_each_likelihood_reads_a_decoders_output_as_its_law():
    output, log_var = some(2, 3), some(2, 3, seed=1)
    plain = as_likelihood("gaussian").distribution(output)
    assert torch.equal(plain.mean, output)
    assert torch.equal(plain.std.expand_as(output), torch.ones_like(output))  # theory S4: exactly the identity
    assert_close(as_likelihood("gaussian").distribution((output, log_var)).var, log_var.exp(), **EXACT)
    assert_close(as_likelihood("bernoulli").distribution(output).mean, output.sigmoid(), **EXACT)
    rounded = as_likelihood("discretized").distribution((output, log_var))
    assert rounded.levels == 256
    assert_close(rounded.normal.var, log_var.exp(), **EXACT)


@catches("""likelihoods/__init__.py: any object is a likelihood
- if not isinstance(choice, Likelihood):
+ if False:""")
def test_outputs_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match="likelihood"):
        as_likelihood("poisson")
    with pytest.raises(InputError, match=r"must be a name .* or a Likelihood, got 3"):
        as_likelihood(3)  # pyrefly: ignore
    with pytest.raises(InputError, match="log-odds"):
        as_likelihood("bernoulli").distribution((some(1, 2), some(1, 2)))


def test_the_variance_check_itself_can_fail():
    with pytest.raises(AssertionError, match="standard errors"):
        assert_variance(some(N), 1.1)


@catches("""distributions.py: examples without a generator have no counts [Multinomial]
- if len(randomness) != len(self.probs):
+ if not randomness:""")
@pytest.mark.parametrize(
    "law",
    [
        Normal(some(3, 2), torch.ones((), dtype=F64)),
        Bernoulli(some(3, 2)),
        DiscretizedNormal(Normal(some(3, 2), torch.ones((), dtype=F64))),
        Dirichlet(some(3, 2).exp()),
        Multinomial(some(3, 2).softmax(-1), 4),
    ],
    ids=lambda law: type(law).__name__,
)
def test_every_example_needs_a_generator_of_its_own(law):
    for num in (2, 4):
        with pytest.raises(ValueError, match="expected 3 generators"):
            law.sample(example_streams(0, range(num)))
