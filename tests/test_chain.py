"""The bound for any chain: tight where the model is exact, a bound elsewhere, tighter with more draws."""

import math

import pytest
import torch
from torch.testing import assert_close

from harness.faults import catches
from harness.support import (
    F64,
    affine_diffusion,
    assert_covariance,
    assert_mean,
    f64,
    gauss_hermite,
    mean_of,
    normal_log_prob,
    oracle,
    seeded,
    standard_errors_off,
)
from kakusan import bound
from kakusan.bound import ancestral_sample, elbo, importance_bound, sample_path
from kakusan.chain import LatentChain, log_weight
from kakusan.distributions import Normal
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.models.dirichlet_multinomial import DirichletMultinomial
from kakusan.models.hierarchical_vae import HierarchicalVAE
from kakusan.models.vae import VAE
from kakusan.noise import example_streams
from kakusan.schedule import Schedule

N = 100_000  # draws of a random test


class GaussianWorld(LatentChain):
    """Data N(1.5, 0.25) under noise, and the exact reverse of it: z_t has mean m_t and variance v_t."""

    def __init__(self, powers=(1.0, 0.9, 0.7, 0.4, 0.1)):
        self.power = f64(powers)
        self.depth = len(powers) - 1
        self.mean, self.var = self.power.sqrt() * 1.5, self.power * 0.25 + 1 - self.power

    def prior(self, cond=None):
        return Normal(self.mean[-1].reshape(1, 1), self.var[-1].sqrt().reshape(1, 1))

    def encode(self, z, t, cond=None):
        keep = self.power[t] / self.power[t - 1]
        return Normal(keep.sqrt() * z, (1 - keep).sqrt().reshape(1, 1))

    def decode(self, z, t, cond=None):
        keep = (self.power[t] / self.power[t - 1]).sqrt()
        gain = keep * self.var[t - 1] / self.var[t]
        rest = self.var[t - 1] * (1 - keep * gain)
        return Normal(self.mean[t - 1] + gain * (z - self.mean[t]), rest.sqrt().reshape(1, 1))


class ShiftedEncoder(GaussianWorld):  # a mutant: t is off by one in the encoder
    def encode(self, z, t, cond=None):
        return super().encode(z, max(t - 1, 1))


class ShiftedDecoder(GaussianWorld):  # a mutant: t is off by one in the decoder
    def decode(self, z, t, cond=None):
        return super().decode(z, min(t + 1, self.depth))


X = torch.linspace(-2, 3, 7, dtype=F64).reshape(-1, 1)


def assert_tight(world):
    log_px = torch.distributions.Normal(f64(1.5), f64(0.5)).log_prob(X).sum(1)
    for seed in range(3):
        assert_close(elbo(world(), X, seeded(seed)), log_px, rtol=0, atol=1e-10)  # float64, four steps
        assert_close(importance_bound(world(), X, 3, seeded(seed)), log_px, rtol=0, atol=1e-10)


@pytest.mark.proves("S8", "M1", "O4", "O6", "O12")
@catches("""chain.py: the bound drops the prior
- total = chain.prior(cond).log_prob(path[-1])
+ total = 0 * chain.prior(cond).log_prob(path[-1])""")
@catches("""chain.py: the bound asks the encoder of the level below
- chain.encode(path[t - 1], t, cond)
+ chain.encode(path[t - 1], max(t - 1, 1), cond)""")
@catches("""bound.py: the importance bound lacks log K
- return total - math.log(num_samples)
+ return total""")
def test_an_exact_model_makes_every_path_tight():
    assert_tight(GaussianWorld)


@pytest.mark.parametrize("mutant", [ShiftedEncoder, ShiftedDecoder])
def test_a_step_off_by_one_is_caught(mutant):
    with pytest.raises(AssertionError):
        assert_tight(mutant)


@pytest.mark.proves("S44", "M3", "O12", "O13")
@catches("""models/diffusion.py: an encoder step scales by 1 - beta / 2
- return Normal.from_var((1 - beta).sqrt() * z, beta)
+ return Normal.from_var((1 - beta / 2) * z, beta)""")
def test_a_diffusion_model_of_standard_normal_data_is_tight_on_every_path():
    # For data N(0, I) every marginal is N(0, I), and the exact reverse is the encoder itself (theory M7: beta at s = 1)
    schedule = Schedule.linear(50, 1e-3, 0.3)

    def exact(z, t):
        return (1 - schedule.beta[t]).sqrt()[:, None] * z

    model = Diffusion(exact, schedule, 2, prediction="mean", variance="beta").double()
    x = torch.randn(5, 2, generator=seeded(0), dtype=F64)
    log_px = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    assert_close(elbo(model, x, seeded(1)), log_px, rtol=0, atol=1e-9)  # 50 steps of terms up to 5


@pytest.mark.proves("S64", "O26")
def test_the_bound_of_counts_is_tight_on_every_path():
    model = DirichletMultinomial(f64([0.5, 1.0, 2.0]))
    counts = f64([[3, 0, 2], [0, 0, 0], [10, 1, 4]])
    assert_close(elbo(model, counts, seeded(0)), model.log_evidence(counts), rtol=0, atol=1e-10)


def test_a_path_starts_at_the_data_and_has_one_entry_a_level():
    path = sample_path(GaussianWorld(), X, seeded(0))
    assert len(path) == 5
    assert path[0] is X
    assert all(z.shape == X.shape for z in path)


def test_log_weight_uses_no_randomness():
    path = sample_path(ShiftedDecoder(), X, seeded(0))
    before = torch.get_rng_state()
    assert torch.equal(log_weight(ShiftedDecoder(), path), log_weight(ShiftedDecoder(), path))
    assert torch.equal(before, torch.get_rng_state())


WHOLE, FIFTH = slice(0, 7), slice(4, 5)


@catches("""bound.py: draws of an importance bound have the generators of other examples
- else [*generator] * num_samples
+ else [one for one in generator for _ in range(num_samples)]""")
def test_the_same_generator_gives_the_same_bound():
    world = ShiftedDecoder()
    assert torch.equal(elbo(world, X, seeded(5)), elbo(world, X, seeded(5)))
    assert not torch.equal(elbo(world, X, seeded(5)), elbo(world, X, seeded(6)))
    streams = example_streams(0, range(7))
    alone = elbo(world, X[4:5], example_streams(0, range(4, 5)))
    assert_close(elbo(world, X, streams)[4:5], alone, rtol=1e-12, atol=0)  # one generator an example
    many, one = (importance_bound(world, X[part], 3, example_streams(0, range(7)[part])) for part in (WHOLE, FIFTH))
    assert_close(many[FIFTH], one, rtol=1e-12, atol=0)


# A bound, and its tightening: a linear VAE whose encoder is not the posterior (O6, given_q)


def linear_vae(case):
    inputs = oracle("linear_vae")[case]["inputs"]
    w, c, v, d, s = (f64(inputs[key]) for key in ("W", "c", "V", "d", "s"))
    model = VAE(lambda x: (x @ v.T + d, (2 * s.log()).expand(len(x), -1)), lambda z: z @ w.T + c, len(s)).double()
    return model, f64(inputs["x"])[None], oracle("linear_vae")[case]["outputs"]


@pytest.mark.proves("S45", "S60", "O6", "O29", "O26")
@catches("""distributions.py: a normal density has half its log std
- return -0.5 * sum_event(u.square() + self.log_var)
+ return -0.5 * sum_event(u.square() + 0.5 * self.log_var)""")
def test_weights_average_to_the_evidence_and_their_logs_to_less():  # O29, theory S45
    model, x, known = linear_vae("generic_W")
    weights = elbo(model, x.expand(N, -1), seeded(0))
    assert_mean(weights, known["given_q"]["elbo"])  # 4.5 s.e.
    assert_mean(weights.exp(), math.exp(known["log_marginal"]))
    assert known["given_q"]["elbo"] < known["log_marginal"]


@pytest.mark.proves("S45", "O6", "O29")
@catches("""bound.py: the importance-weighted bound keeps the best part
- total = part if total is None else torch.logaddexp(total, part)
+ total = part if total is None else torch.maximum(total, part)""")
def test_the_importance_bound_rises_with_the_number_of_draws():  # O29
    model, x, known = linear_vae("generic_W")
    draws = {k: importance_bound(model, x.expand(N // k, -1), k, seeded(k)) for k in (1, 4, 16, 64)}
    means = [draws[k].mean().item() for k in draws]
    assert_mean(draws[1], known["given_q"]["elbo"])
    # gaps fall like 1/K from 0.058 nats; the standard errors, like 1/K too, stay below 0.0015
    assert means == sorted(means)
    assert means[-1] < known["log_marginal"] + 4.5 * draws[64].std().item() / math.sqrt(len(draws[64]))
    assert known["log_marginal"] - means[-1] < 0.1 * (known["log_marginal"] - means[0])


@pytest.mark.proves("S45", "O6", "O12", "O29")
def test_importance_weights_of_a_diffusion_model_do_not_pass_its_evidence():  # O29, O12
    known = oracle("diffusion_linear_T5_D2")["optimal_beta"]["outputs"]
    model, x = affine_diffusion("optimal", "beta"), f64([[0.9, -0.5]])
    one, many = (importance_bound(model, x.expand(20_000, -1), k, seeded(k)) for k in (1, 16))
    assert_mean(one, known["elbo"])  # 4.5 s.e.
    gain = known["log_p_x0"] - known["elbo"]
    assert known["log_p_x0"] - 0.5 * gain < many.mean() < known["log_p_x0"]  # s.e. 1e-3 beside a gain of 0.087


@catches("""bound.py: the importance bound is a mean of logarithms
- .logsumexp(0)
+ .mean(0) + math.log(num_samples)""")
def test_the_running_form_is_the_log_mean_exp_of_the_same_paths():
    world = ShiftedDecoder()
    generator = seeded(3)
    paths = log_weight(world, sample_path(world, X.repeat(5, 1), generator)).view(5, len(X))
    expected = paths.logsumexp(0) - math.log(5)
    assert_close(importance_bound(world, X, 5, seeded(3)), expected, rtol=1e-12, atol=0)
    assert torch.equal(importance_bound(world, X, 1, seeded(3)), elbo(world, X, seeded(3)))


@catches("""bound.py: the last part of the draws is as large as the others
- min(at_once, num_samples - drawn)
+ at_once""")
def test_draws_that_do_not_fit_into_one_batch_are_all_counted_once(monkeypatch):
    monkeypatch.setattr(bound, "PATHS_AT_ONCE", 2 * len(X))
    world, generator = ShiftedDecoder(), seeded(3)
    parts = [log_weight(world, sample_path(world, X.repeat(k, 1), generator)).view(k, len(X)) for k in (2, 2, 1)]
    expected = torch.cat(parts).logsumexp(0) - math.log(5)
    assert_close(importance_bound(world, X, 5, seeded(3)), expected, rtol=1e-12, atol=0)


def test_a_bound_by_no_draws_is_refused():
    with pytest.raises(InputError, match="num_samples"):
        importance_bound(GaussianWorld(), X, 0)


@pytest.mark.proves("S61", "M1", "O4", "O6", "O12")
def test_the_bound_is_the_evidence_minus_a_kl_for_any_encoder():  # theory M1, S61
    eps, weights = gauss_hermite(4)
    world, x = ShiftedEncoder(), f64([[0.7]])
    path = [x.expand(len(eps), 1)]
    for t in range(1, 5):
        down = world.encode(path[-1], t)
        path.append(down.mean + down.std * eps[:, t - 1 : t])
    exact = mean_of(log_weight(world, path), weights)
    assert exact < torch.distributions.Normal(f64(1.5), f64(0.5)).log_prob(x).item()
    assert_mean(elbo(world, x.expand(N, 1), seeded(0)), exact)  # 4.5 s.e.


# Generation


def test_ancestral_samples_follow_the_law_of_the_model():
    draws = ancestral_sample(GaussianWorld(), N, seeded(0))
    assert_mean(draws, 1.5)  # 4.5 s.e.
    assert_covariance(draws, f64([[0.25]]))


@catches("""bound.py: samples asked for as means lack the noise of every level
- if t == 1 and mean_output else
+ if mean_output else""")
def test_the_mean_output_lacks_the_last_noise_alone():
    world = GaussianWorld()
    draws = ancestral_sample(world, N, seeded(0), mean_output=True)
    last = world.decode(f64([[0.0]]), 1).var
    assert_mean(draws, 1.5)
    assert_covariance(draws, 0.25 - last)


def test_samples_of_a_shifted_decoder_are_caught():
    assert (standard_errors_off(ancestral_sample(ShiftedDecoder(), N, seeded(0)), 1.5) > 9).all()


def test_sample_i_is_the_same_for_any_batch():
    world = GaussianWorld()
    many = ancestral_sample(world, 6, example_streams(11, range(6)))
    few = ancestral_sample(world, 2, example_streams(11, range(2, 4)))
    assert_close(many[2:4], few, rtol=1e-12, atol=0)


def test_no_samples_are_an_empty_batch_and_fewer_are_refused():
    assert ancestral_sample(GaussianWorld(), 0).shape == (0, 1)
    with pytest.raises(InputError, match="number of samples"):
        ancestral_sample(GaussianWorld(), -1)


def test_sampling_needs_no_gradient():
    model, _, _ = linear_vae("generic_W")
    assert not ancestral_sample(model, 3).requires_grad


@pytest.mark.proves("S9", "S12", "S13", "S14", "S46", "O4", "O12")
@pytest.mark.parametrize("case", ["generic", "negative_covariance", "exact_posterior"])
@catches("""chain.py: a log weight lacks the top level
-     total = chain.prior(cond).log_prob(path[-1])
-     for t in range(1, chain.depth + 1):
+     total = chain.prior(cond).log_prob(path[-1])
+     for t in range(1, chain.depth):""")
def test_a_log_weight_is_the_ratio_of_two_joint_gaussians(case):
    i = {key: f64(value) for key, value in oracle("hvae")[case]["inputs"].items()}
    model = HierarchicalVAE(
        [
            lambda x: (x @ i["V1"].T + i["d1"], (2 * i["s1"].log()).expand(len(x), -1)),
            lambda z: (z @ i["V2"].T + i["d2"], (2 * i["s2"].log()).expand(len(z), -1)),
        ],
        [lambda z: z @ i["W1"].T + i["c1"], lambda z: z @ i["W2"].T + i["c2"]],
        [len(i["s1"]), len(i["s2"])],
    ).double()
    sizes = [len(i["s2"]), len(i["s1"]), len(i["x"])]

    # (z2, z1, x) = mean + lift noise, all noises of unit variance
    lift = torch.eye(sum(sizes), dtype=F64)
    at_2, at_1, at_x = lift.split(sizes)
    at_1 = at_1 + i["W2"] @ at_2
    joint = torch.cat([at_2, at_1, at_x + i["W1"] @ at_1])
    mean = torch.cat([torch.zeros(sizes[0], dtype=F64), i["c2"], i["W1"] @ i["c2"] + i["c1"]])
    # (z1, z2) given x, in the same way
    lift = torch.block_diag(i["s1"].diag(), i["s2"].diag())
    q_1, q_2 = lift.split([sizes[1], sizes[0]])
    posterior = torch.cat([q_1, q_2 + i["V2"] @ q_1])
    q_mean = i["V1"] @ i["x"] + i["d1"]
    q_mean = torch.cat([q_mean, i["V2"] @ q_mean + i["d2"]])

    path = sample_path(model, i["x"].expand(20, -1), seeded(0))
    log_p = normal_log_prob(torch.cat([path[2], path[1], path[0]], 1), mean, joint @ joint.T)
    log_q = normal_log_prob(torch.cat([path[1], path[2]], 1), q_mean, posterior @ posterior.T)
    assert_close(log_weight(model, path), log_p - log_q, rtol=1e-10, atol=1e-10)


@catches("""bound.py: the bound validates its data twice
- return weigh(chain, sample_path(chain, x, generator, cond=cond), cond)
+ return __import__("kakusan.chain").chain.log_weight(chain, sample_path(chain, x, generator, cond=cond), cond=cond)""")
def test_a_bound_validates_its_data_once():
    world, seen = GaussianWorld(), []
    world.validate = lambda x, cond=None: seen.append(len(x))
    x = torch.zeros(3, 1, dtype=F64)
    assert_close(elbo(world, x, seeded(1)), log_weight(world, sample_path(world, x, seeded(1))))
    assert seen == [3, 3, 3]  # one of the bound, one of the path, one of its weight
