"""One suite of laws for every distribution, schedule, chain and solver: a new one is tested by being listed here.

What is not listed fails: the lists are held against the source. Sums and quadratures stand in for draws wherever
they are exact; the few random tests have fixed seeds and allow 4.5 standard errors, a false alarm in 7e-6 a number.
"""

import ast
import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import kakusan
from harness.faults import catches
from harness.support import F64, SMALL_BETAS, assert_covariance, assert_mean, drawn, f64, seeded
from kakusan import noise
from kakusan.bound import ancestral_sample, sample_path
from kakusan.chain import LatentChain, log_weight
from kakusan.distributions import Bernoulli, Dirichlet, DiscretizedNormal, Distribution, Multinomial, Normal
from kakusan.models.diffusion import Diffusion
from kakusan.models.dirichlet_multinomial import DirichletMultinomial
from kakusan.models.hierarchical_vae import HierarchicalVAE
from kakusan.models.learned_noise import LearnedNoise
from kakusan.models.mixture import Mixture
from kakusan.models.vae import VAE
from kakusan.oracles import DirichletWorld, GaussianWorld, LinearHierarchyWorld, LinearVAEWorld, MixtureWorld, Noising
from kakusan.schedule import Schedule
from kakusan.solvers import DDIM, SOLVERS, Ancestral, DPMSolver, Heun, Solver, dpm_solver
from kakusan.solvers.adams import adams_weights

N = 100_000  # draws of a random test


def classes() -> list[ast.ClassDef]:
    """Of the whole package, but for the worlds, which are no part of a model."""
    root = Path(kakusan.__path__[0])
    files = [path for path in root.rglob("*.py") if "oracles" not in path.relative_to(root).parts]
    return [node for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


def bases(node: ast.ClassDef) -> set[str]:
    return {ast.unparse(base).rsplit(".", 1)[-1] for base in node.bases}


# Distributions


@dataclass(frozen=True)
class Listed:
    """A law with a batch of one, and points and weights with sum w exp(log_prob) f = E f."""

    law: Distribution
    points: Tensor  # (m, *event)
    weights: Tensor  # (m,)
    mean_off: float = 1e-10  # how far `mean` may lie from the expectation


def line(low: float, high: float, num: int) -> tuple[Tensor, Tensor]:
    """The trapezoid rule, for smooth functions that vanish at both ends."""
    x = torch.linspace(low, high, num, dtype=F64)
    return x, torch.full_like(x, (high - low) / (num - 1))


def products(*rules: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One rule for each coordinate -> points (m, D) and weights (m,)."""
    points, weights = zip(*rules)
    return torch.cartesian_prod(*points), torch.cartesian_prod(*weights).prod(1)


def choices(values: list[float], dims: int) -> tuple[Tensor, Tensor]:
    """All combinations, each counted once."""
    return products(*[(f64(values), torch.ones(len(values), dtype=F64))] * dims)


def simplex(num: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre on the triangle by (u, (1 - u) v): exact for polynomials of degree below 2 num - 1."""
    x, w = (f64(values) for values in np.polynomial.legendre.leggauss(num))
    points, weights = products(((x + 1) / 2, w / 2), ((x + 1) / 2, w / 2))
    u, v = points[:, 0], points[:, 1]
    return torch.stack([u, (1 - u) * v, (1 - u) * (1 - v)], 1), weights * (1 - u)


def normal_listed(build: Callable[[Tensor, Tensor], Normal]) -> Listed:
    mean, std = f64([[[0.4, -1.0]]]), f64([[[0.8, 0.3]]])
    points, weights = products(line(-9, 10, 201), line(-5, 3, 201))  # ten standard deviations, steps of an eighth
    return Listed(build(mean, std), points[:, None], weights)


COUNTS = f64([[i, j, 4 - i - j] for i in range(5) for j in range(5 - i)])
DISTRIBUTIONS = {
    "Normal": lambda: normal_listed(Normal),
    "Normal.from_var": lambda: normal_listed(lambda mean, std: Normal.from_var(mean, std.square())),
    "Normal.from_log_var": lambda: normal_listed(lambda mean, std: Normal.from_log_var(mean, 2 * std.log())),
    "Bernoulli": lambda: Listed(Bernoulli(f64([[-2.0, 0.3, 1.0]])), *choices([0, 1], 3)),
    # its mean is that of the value before rounding: at most half a level off, if the tails beyond [-1, 1] are thin
    "DiscretizedNormal": lambda: Listed(
        DiscretizedNormal(Normal(f64([[0.1, -0.25]]), f64([[0.2, 0.15]])), levels=9),
        *choices(torch.linspace(-1, 1, 9).tolist(), 2),
        mean_off=1 / 8,
    ),
    "Dirichlet": lambda: Listed(Dirichlet(f64([[2.0, 3.0, 4.0]])), *simplex(40)),
    "Multinomial": lambda: Listed(Multinomial(f64([[0.2, 0.5, 0.3]]), 4), COUNTS, torch.ones(15, dtype=F64)),
}
PAIRS = {
    "KnownClass",
    "ClassFirst",
    "TableDistribution",
}  # over (z, k), and mixed types: test_mixture.py, test_tables.py
every_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)


def test_every_distribution_is_listed():
    found = set()
    for node in classes():
        methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        if {"sample", "log_prob"} <= methods and "Protocol" not in bases(node):
            found.add(node.name)
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and "classmethod" in map(ast.unparse, item.decorator_list):
                    found.add(f"{node.name}.{item.name}")
    assert found == set(DISTRIBUTIONS) | PAIRS


@every_distribution
def test_its_shapes_are_those_of_whole_examples(name):
    listed = DISTRIBUTIONS[name]()
    event = listed.points.shape[1:]
    for law, size in ((listed.law, 1), (listed.law.expand(3), 3)):
        assert law.mean.shape == (size, *event)
        assert law.sample(seeded(0)).shape == (size, *event)
        assert law.sample(seeded(0)).dtype == F64
        assert law.log_prob(law.sample(seeded(0))).shape == (size,)
    assert listed.law.log_prob(listed.points).shape == (len(listed.points),)


@every_distribution
def test_its_probability_is_one_and_its_mean_its_first_moment(name):
    listed = DISTRIBUTIONS[name]()
    mass = listed.weights * listed.law.log_prob(listed.points).exp()
    # sums are exact, the two quadratures converge exponentially or are exact for polynomials
    assert mass.sum().item() == pytest.approx(1, rel=1e-10)
    first = torch.einsum("m,m...->...", mass, listed.points)
    assert (first - listed.law.mean[0]).abs().max() < listed.mean_off


@every_distribution
def test_its_draws_have_the_moments_of_its_log_density(name):
    listed = DISTRIBUTIONS[name]()
    log_prob = listed.law.log_prob(listed.points)
    mass = listed.weights * log_prob.exp()

    def moments(x, log_prob):
        flat = x.flatten(1)
        return torch.cat([flat, (flat[:, :, None] * flat[:, None]).flatten(1), log_prob[:, None]], 1)

    expected = torch.einsum("m,mk->k", mass, moments(listed.points, log_prob.nan_to_num(neginf=0.0)))
    law = listed.law.expand(N)
    draws = law.sample(seeded(1))
    # 4.5 s.e., at most 13 numbers a law: false alarm below 7e-4 in all. Quadrature of z log z at the corners of the
    # simplex errs by less than 1e-6, beside standard errors of 1e-3
    assert_mean(moments(draws, law.log_prob(draws)), expected)


# Schedules


SCHEDULES = {
    "from_betas": lambda: Schedule.from_betas(SMALL_BETAS),
    "linear": lambda: Schedule.linear(20, 0.01, 0.5),
    "cosine": lambda: Schedule.cosine(12),
    "sigmoid": lambda: Schedule.sigmoid(12),
    "sigmoid_beta": lambda: Schedule.sigmoid_beta(20, 0.01, 0.5),
    "respaced": lambda: Schedule.cosine(30).respaced([3, 10, 11, 30]),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def test_every_way_to_a_schedule_is_listed():
    members = inspect.getmembers(Schedule, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
    ways = {name for name, member in members if inspect.signature(member).return_annotation == "Schedule"}
    assert {name for name in ways if not name.startswith("_")} == set(SCHEDULES)


@every_schedule
def test_its_signal_falls_from_one_and_its_tables_are_those_of_the_definition(name):
    schedule = SCHEDULES[name]()
    assert schedule.alpha_bar[0] == 1
    assert (schedule.alpha_bar.diff() < 0).all()
    assert schedule.alpha_bar[-1] > 0
    tables = Noising.from_betas(schedule.beta[1:])
    # products of up to 30 factors, by two routes
    close = {"rtol": 1e-12, "atol": 0}
    assert_close(schedule.alpha_bar.sqrt(), tables.a, **close)
    assert_close(schedule.noise_var.sqrt(), tables.b, **close)
    assert_close(schedule.beta_tilde, tables.between_var, **close)
    assert_close(schedule.mean_coef_x, tables.from_x, **close)
    assert_close(schedule.mean_coef_z, tables.from_z, **close)
    assert_close(schedule.snr[1:], (tables.a / tables.b)[1:].square(), **close)
    assert_close(schedule.log_snr[1:], 2 * (tables.a / tables.b)[1:].log(), rtol=1e-12, atol=1e-12)  # near 0 at SNR 1


@every_schedule
def test_its_closed_form_is_the_composition_of_its_steps(name):
    schedule, x = SCHEDULES[name](), f64([[0.9, -0.5]])
    model = Diffusion(lambda z, t: z, schedule, 2).double()
    mean, var = x, torch.zeros_like(x)
    for t in range(1, model.depth + 1):
        # a step is affine: its gain and its own variance, read at 0 and at 1
        zero, one = model.encode(torch.zeros_like(x), t), model.encode(torch.ones_like(x), t)
        gain = one.mean - zero.mean
        mean, var = zero.mean + gain * mean, gain.square() * var + zero.var
        q = model.marginal(x, t)
        assert_close(q.mean, mean, rtol=1e-12, atol=0)
        assert_close(q.var.expand_as(var), var, rtol=1e-12, atol=0)


@every_schedule
def test_its_posterior_is_bayes_rule_at_every_step_and_point(name):
    schedule, generator = SCHEDULES[name](), seeded(2)
    model = Diffusion(lambda z, t: z, schedule, 2).double()
    x, before, after = (torch.randn(50, 2, generator=generator, dtype=F64) for _ in range(3))
    for t in range(2, model.depth + 1):
        joint = model.posterior(after, x, t).log_prob(before) + model.marginal(x, t).log_prob(after)
        other = model.marginal(x, t - 1).log_prob(before) + model.encode(before, t).log_prob(after)
        # squares of up to 4 / beta cancel
        assert_close(joint, other, rtol=1e-10, atol=1e-10)


# Chains: each with decoders and encoders that are each other's exact reverse


@dataclass(frozen=True)
class Exact:
    """A chain that is tight, data for it, and what is known of them."""

    chain: LatentChain
    x: Tensor
    log_prob: Callable[[Tensor], Tensor]
    mean_log_prob: float  # E log p(x) for x ~ p


def exact_counts() -> Exact:
    world = DirichletWorld(["1/2", 1, "5/2"])
    table = {tuple(row): world.log_evidence(row) for row in itertools.product(range(5), repeat=3) if sum(row) == 4}

    def log_prob(x):
        return f64([table[tuple(row)] for row in x.int().tolist()])

    chain = DirichletMultinomial(f64([0.5, 1.0, 2.5]), total_count=4)
    x = f64([[4, 0, 0], [1, 1, 2], [0, 0, 4]])
    return Exact(chain, x, log_prob, sum(math.exp(value) * value for value in table.values()))


def exact_vae() -> Exact:
    world = LinearVAEWorld([[1.2, 0.5], [0.6, -1.0], [0.0, 0.0], [-0.4, 0.0]], [0.1, -0.2, 0.3, 0.0], noise_var=0.25)

    def encoder(x):
        mean, cov = world.posterior(x)  # diagonal: the columns of the weight are orthogonal
        return mean, cov.diag().log().expand_as(mean)

    def decoder(z):
        mean = z @ world.weight.T + world.bias
        return mean, torch.full_like(mean, math.log(0.25))

    x = world.sample(4, seeded(3))
    return Exact(VAE(encoder, decoder, 2).double(), x, world.log_prob, -world.data.entropy().item())


def exact_hierarchy() -> Exact:
    w1, w2, c1, c2 = f64([0.8, -1.5]), f64([2.0, 0.4]), f64([0.3, 0.0]), f64([-0.5, 1.0])
    world = LinearHierarchyWorld(w1.diag(), c1, w2.diag(), c2)  # two independent scalar hierarchies
    prior1 = w2.square() + 1
    precision1, precision2 = w1.square() + 1 / prior1, w2.square() + 1
    encoders = [
        lambda x: ((w1 * (x - c1) + c2 / prior1) / precision1, -precision1.log().expand_as(x)),
        lambda z: (w2 * (z - c2) / precision2, -precision2.log().expand_as(z)),
    ]
    chain = HierarchicalVAE(encoders, [lambda z: w1 * z + c1, lambda z: w2 * z + c2], [2, 2]).double()
    return Exact(chain, world.sample(4, seeded(4)), world.log_prob, -world.data.entropy().item())


def exact_diffusion() -> Exact:
    # the last two steps leave 1e-10 of the amplitude, so that the end is the prior
    betas = f64([*SMALL_BETAS, 1 - 1e-10, 1 - 1e-10])
    variances = f64([0.25, 0.9])  # of the data: at most 1, so that the reverse ones lie between beta_tilde and beta
    world, tables = GaussianWorld([0.3, -0.2], variances.diag()), Noising.from_betas(betas)
    marginal = tables.a.square()[:, None] * variances + tables.b.square()[:, None]
    exact_log_var = (marginal[:-1] * betas[:, None] / marginal[1:]).log()
    low, high = tables.between_var[1:].clone(), betas
    low[0] = low[1]  # as the model has it
    v = (exact_log_var - low.log()[:, None]) / (high / low).log()[:, None]
    network = world.network(tables, "x")
    chain = Diffusion(lambda z, t: (network(z, t), v[t - 1]), Schedule.from_betas(betas), 2, "x", "learned").double()
    return Exact(chain, world.sample(4, seeded(5)), world.log_prob, -world.entropy().item())


def exact_learned_noise() -> Exact:
    betas = f64(SMALL_BETAS)
    world, schedule = GaussianWorld([0.3, -0.2], f64([0.25, 0.9]).diag()), Schedule.from_betas(betas)
    decoders = Diffusion(world.network(betas, "x"), schedule, 2, "x", "beta").double()
    mean, var, reverse = torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64), {}
    for t in range(len(betas), 0, -1):  # p(z_{t-1} | z_t) = N(gain z_t + shift, beta_t), each coordinate alone
        shift = decoders.decode(torch.zeros(1, 2, dtype=F64), t).mean[0]
        gain = decoders.decode(torch.ones(1, 2, dtype=F64), t).mean[0] - shift
        total = gain.square() * var + betas[t - 1]
        reverse[t] = (mean, var * gain / total, gain * mean + shift, var * betas[t - 1] / total)
        mean, var = gain * mean + shift, total

    def encoder(z, t):
        beta, (above, weight, below, left) = betas[t[0] - 1], reverse[int(t[0])]
        moved = above + weight * (z - below) - (1 - beta).sqrt() * z
        return moved / beta.sqrt(), ((left / beta).log() / math.log(1e4) + 0.5).expand_as(z)

    law = world.generated_law(betas, "beta")
    return Exact(LearnedNoise(decoders, encoder), law.sample(4, seeded(8)), law.log_prob, -law.entropy().item())


class ExactByClass(LatentChain):
    """Scalar data N(m_k, v_k) of class k = cond under noise, and the exact reverse of it."""

    depth = 3
    event_shape = (1,)

    def __init__(self, means: Tensor, variances: Tensor):
        self.power = f64([1.0, 0.8, 0.4, 0.1])
        self.means = self.power.sqrt() * means[:, None]  # (K, T + 1), of z_t
        self.vars = self.power * variances[:, None] + 1 - self.power

    def prior(self, cond=None):
        return Normal.from_var(self.means[cond, -1:], self.vars[cond, -1:])

    def encode(self, z, t, cond=None):
        keep = self.power[t] / self.power[t - 1]
        return Normal.from_var(keep.sqrt() * z, (1 - keep).expand_as(z))

    def decode(self, z, t, cond=None):
        keep = (self.power[t] / self.power[t - 1]).sqrt()
        before, after = self.vars[cond, t - 1][:, None], self.vars[cond, t][:, None]
        gain = keep * before / after
        mean = self.means[cond, t - 1][:, None] + gain * (z - self.means[cond, t][:, None])
        return Normal.from_var(mean, before * (1 - keep * gain))


def exact_mixture() -> Exact:
    weights, means, variances = f64([0.3, 0.7]), f64([-0.6, 0.5]), f64([0.2, 0.6])  # overlapping classes
    world = MixtureWorld(weights, means, variances)
    chain = Mixture(ExactByClass(means, variances), 2, weights)
    return Exact(chain, world.sample(4, seeded(9)), world.log_prob, -world.entropy().item())


CHAINS = {
    "DirichletMultinomial": exact_counts,
    "VAE": exact_vae,
    "HierarchicalVAE": exact_hierarchy,
    "Diffusion": exact_diffusion,
    "LearnedNoise": exact_learned_noise,
    "Mixture": exact_mixture,
}
every_chain = pytest.mark.parametrize("name", CHAINS)


def test_every_chain_is_listed():
    assert {node.name for node in classes() if "LatentChain" in bases(node)} == set(CHAINS)


@every_chain
def test_each_of_its_steps_leads_to_the_shape_of_its_neighbour(name):
    exact = CHAINS[name]()
    chain, path = exact.chain, sample_path(exact.chain, exact.x, seeded(6))
    assert len(path) == chain.depth + 1
    shapes = [getattr(z, "z", z).shape for z in path]  # latents of a mixture are pairs (z, k)
    assert chain.prior().mean.shape == (1, *shapes[-1][1:])
    for t in range(1, chain.depth + 1):
        up, down = chain.encode(path[t - 1], t), chain.decode(path[t], t)
        assert up.mean.shape == shapes[t]
        assert down.mean.shape == shapes[t - 1]
        assert up.log_prob(path[t]).shape == down.log_prob(path[t - 1]).shape == (len(exact.x),)
    assert ancestral_sample(chain, 3, seeded(0)).shape == (3, *exact.x.shape[1:])


@every_chain
def test_every_path_of_an_exact_chain_weighs_the_evidence(name):
    exact = CHAINS[name]()
    for seed in range(3):
        weight = log_weight(exact.chain, sample_path(exact.chain, exact.x, seeded(seed)))
        # the diffusion chain ends 1e-10 from its prior; elsewhere rounding alone
        assert_close(weight, exact.log_prob(exact.x), rtol=0, atol=1e-8)


@every_chain
def test_its_draws_follow_its_evidence(name):
    exact = CHAINS[name]()
    draws = ancestral_sample(exact.chain, 20_000, seeded(7))
    assert_mean(exact.log_prob(draws), exact.mean_log_prob)  # 4.5 s.e., at most 21 numbers a chain
    data = getattr(exact.log_prob, "__self__", None)
    law = getattr(data, "data", data)
    if hasattr(law, "mean"):
        assert_mean(draws, law.mean)
        assert_covariance(draws, law.cov)


# Solvers: with an affine network each is an affine map of its noise, and its law is computed


WORLD = GaussianWorld([0.3, -0.2], [[0.6, 0.25], [0.25, 0.4]])


def by_angle(steps: int) -> Tensor:
    """Equal steps of the angle whose cosine is the signal, down to 1e-8 of the amplitude: the end is the prior."""
    return torch.linspace(0, math.pi / 2 - 1e-8, steps + 1, dtype=F64).cos().square()


def by_log_snr(steps: int) -> Tensor:
    """Steps that shrink evenly with their number everywhere in the log SNR, from noise of 1e-3 to a signal of 1e-6.

    They are uneven, or the leading errors of a method may cancel: on equal ones the third-order solver errs by order 4.
    """
    u = torch.linspace(0, 1, steps, dtype=F64)
    share = u + 0.5 * (2 * math.pi * u).sin() / (2 * math.pi)
    log_snr = 2 * (math.log(1e3) * (1 - share) + math.log(1e-6) * share)
    return torch.cat([f64([1.0]), log_snr.sigmoid()])


def perfect_model(steps: int, variance: str, levels=by_angle) -> Diffusion:
    alpha_bar = levels(steps)
    schedule = Schedule.from_betas(1 - alpha_bar[1:] / alpha_bar[:-1])
    return Diffusion(WORLD.network(schedule.beta[1:], "x"), schedule, 2, "x", variance).double()


def where_exact_steps_lead(model: Diffusion) -> Tensor:
    """Covariance of E[x | z_1] for z_1 as noisy data have it: every solver ends with the data estimate from z_1."""
    signal_var, noise_var = model.schedule.alpha_bar[1] * WORLD.cov, model.schedule.noise_var[1]
    return signal_var @ torch.linalg.inv(signal_var + noise_var * torch.eye(2, dtype=F64)) @ WORLD.cov


Run = Callable[[Diffusion, int, noise.Randomness], Tensor]  # (model, n, randomness) -> samples


def by(solver: Solver, times: Callable[[int], range] | None = None) -> Run:
    """Samples of a solver at all steps, or at times(T)."""
    return lambda model, n, randomness: drawn(solver, model, n, randomness, times and list(times(model.depth)))


def law_of(run: Run, model: Diffusion, monkeypatch) -> tuple[Tensor, Tensor]:
    """Mean and covariance of samples, without a random number.

    Row 0 is given zeros wherever noise is drawn, every further row a single one in a single coordinate of a single
    draw, and the last two rows arbitrary numbers, which show that the map is affine indeed.
    """
    dims, most = model.num_dims, 2 * model.depth + 2  # draws
    rows = 1 + dims * most + 2
    given = []

    def draw(law, shape, randomness, dtype, device):
        assert law is torch.randn, "a uniform draw makes no affine map"
        values = torch.zeros(rows, dims, dtype=dtype)
        start = 1 + dims * len(given)
        values[start : start + dims] = torch.eye(dims, dtype=dtype)
        values[-2:] = torch.randn(2, dims, generator=seeded(len(given)), dtype=dtype)
        given.append(values[-2:])
        assert len(given) <= most, "more draws than two a step"
        return values.reshape(shape).to(device)

    with monkeypatch.context() as patch:
        patch.setattr(noise, "_draw", draw)
        out = run(model, rows, None).flatten(1)
    response = out[1 : 1 + dims * len(given)] - out[0]
    assert_close(out[-2:], out[0] + torch.cat(given, 1) @ response, rtol=1e-9, atol=1e-9)
    return out[0], response.T @ response


def observed_order(run: Run, make: Callable[[int], Diffusion], monkeypatch) -> float:
    """log2 of how much the error of the law falls as the number of steps doubles: of its mean or covariance, the lower."""
    errors = []
    for steps in (128, 256):
        model = make(steps)
        mean, cov = law_of(run, model, monkeypatch)
        errors.append(torch.stack([(mean - WORLD.mean).norm(), (cov - where_exact_steps_lead(model)).norm()]))
    seen = errors[1] > 1e-6  # the start is 1e-6 from the noised data or nearer; most solvers move the mean exactly
    return (errors[0] / errors[1])[seen].log2().min().item()


def assert_order(run: Run, order: int, variance: str, monkeypatch) -> None:
    # what the next order adds at 128 steps is 0.09 at most; a method of another order is off by one
    seen = observed_order(run, lambda steps: perfect_model(steps, variance, by_log_snr), monkeypatch)
    assert seen == pytest.approx(order, abs=0.1)


@dataclass(frozen=True)
class TwoEstimates:
    """A solver of one's own, known to no registry: DDIM with the mean of the estimates at both ends of a step."""

    order = 2

    def init(self):
        return None

    def step(self, denoise, z, t, s, state, noise):
        kept = s.noise / t.noise
        move = lambda x: kept * z + (s.signal - kept * t.signal) * x  # noqa: E731
        x = denoise(z)
        return (x if s.is_data else move((x + denoise(move(x), s)) / 2)), None


# renoise, of order 0, is for another network: test_distillation.py
SOLVERS_OF_AN_ORDER = {name: SOLVERS[name]() for name in SOLVERS if name != "renoise"} | {
    "of one's own": TwoEstimates()
}


def test_every_solver_is_listed_with_its_order():
    assert {name: solver.order for name, solver in SOLVERS_OF_AN_ORDER.items()} == {
        "ancestral": 1,
        "ddim": 1,
        "dpm++2m": 2,
        "dpm++3m": 3,
        "dpm++2m-sde": 2,
        "heun": 2,
        "unipc-2": 3,
        "unipc-3": 4,
        "of one's own": 2,
    }
    assert SOLVERS["renoise"]().order == 0
    named = {type(SOLVERS[name]()).__name__ for name in SOLVERS}
    found = {
        node.name
        for node in classes()
        if "Protocol" not in bases(node)
        and {"init", "step", "order"}
        <= {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        | {ast.unparse(item.target) for item in node.body if isinstance(item, ast.AnnAssign)}
    }
    assert found == named


@catches("""solvers/dpm_solver.py: the solver of third order keeps two estimates [dpm++3m]
- *state)[: self.order]
+ *state)[:2]""")
@catches("""solvers/dpm_solver.py: the stochastic solver draws the noise of a deterministic step [dpm++2m-sde]
- fresh = s.noise * published_weights(2 * h,
+ fresh = s.noise * published_weights(h,""")
@catches("""solvers/adams.py: an exponential step keeps the old noise as it was [dpm++2m]
- z = s.noise / t.noise * z
+ z = s.noise * z""")
@catches("""solvers/unipc.py: the corrector of UniPC does not look at where the step led [unipc-2]
- exponential_step(z, t, s, (found, *known), adams_weights)
+ exponential_step(z, t, s, known, adams_weights)""")
@catches("""solvers/heun.py: Heun takes the slope at the beginning alone [heun]
- way / 2 * (slope + _slope(there, denoise(there, s), s))
+ way * slope""")
@pytest.mark.parametrize("name", SOLVERS_OF_AN_ORDER)
def test_its_law_nears_that_of_exact_steps_at_its_declared_order(name, monkeypatch):
    solver = SOLVERS_OF_AN_ORDER[name]
    assert_order(by(solver), solver.order, "beta_tilde", monkeypatch)


def test_the_other_variance_has_the_same_order(monkeypatch):
    assert_order(by(Ancestral()), 1, "beta", monkeypatch)


@pytest.mark.parametrize("name", SOLVERS_OF_AN_ORDER)
def test_on_equal_steps_of_the_angle_its_law_nears_the_data(name, monkeypatch):
    # there the last steps do not shrink in the log SNR, and the way from z_1 to x errs by order 2 whatever the method
    solver, model = SOLVERS_OF_AN_ORDER[name], perfect_model(256, "beta_tilde")
    mean, cov = law_of(by(solver), model, monkeypatch)
    limit = {1: 0.02, 2: 2e-3}[min(solver.order, 2)]  # the worst of each order: 0.017 and 1.3e-3
    assert (mean - WORLD.mean).norm() < limit
    assert (cov - WORLD.cov).norm() < limit


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_with_fresh_noise_keeps_its_order(eta, monkeypatch):
    assert_order(by(DDIM(eta)), 1, "beta_tilde", monkeypatch)


def test_heun_with_churn_keeps_its_order(monkeypatch):
    def make(steps):
        return perfect_model(4 * steps - 3, "beta", by_log_snr)

    def every_fourth(depth):  # the noise is raised to a step between
        return range(1, depth + 1, 4)

    churned = by(Heun(churn=4.0), every_fourth)
    assert observed_order(churned, make, monkeypatch) == pytest.approx(2, abs=0.1)
    still, moved = (law_of(run, make(16), monkeypatch)[1] for run in (by(Heun(), every_fourth), churned))
    assert (still - moved).norm() > 1e-3  # the churn is felt


def test_half_of_the_second_difference_costs_an_order(monkeypatch):
    """The third-order multistep weights as published: the same but for the quadratic term, which counts half."""

    def published(h, nodes):
        exact = adams_weights(h, nodes)
        if len(nodes) < 3:
            return exact
        return [(e + w) / 2 for e, w in zip(exact, _without_the_quadratic_term(h, nodes))]

    third = by(DPMSolver(order=3))
    assert_order(third, 3, "beta", monkeypatch)
    monkeypatch.setattr(dpm_solver, "adams_weights", published)
    with pytest.raises(AssertionError):
        assert_order(third, 3, "beta", monkeypatch)
    seen = observed_order(third, lambda steps: perfect_model(steps, "beta", by_log_snr), monkeypatch)
    assert seen == pytest.approx(2, abs=0.2)  # 1.87; the error of third order is still a tenth of it


def _without_the_quadratic_term(h: float, nodes: list[float]) -> list[float]:
    """Weights of p(0) and p'(0) alone, of the parabola p through three estimates, under the integral."""
    powers = torch.linalg.inv(f64([[1.0, u, u * u] for u in nodes]))  # estimates -> coefficients of 1, u, u^2
    constant, linear = 1 - math.exp(-h), 1 - (1 - math.exp(-h)) / h
    return (constant * powers[0] + linear * powers[1]).tolist()


def test_the_computed_law_of_ancestral_sampling_is_the_worlds(monkeypatch):
    for variance in ("unit", "beta", "beta_tilde"):
        model = perfect_model(8, variance)
        mean, cov = law_of(by(Ancestral()), model, monkeypatch)
        known = WORLD.generated_law(model.schedule.beta[1:], variance, last_noise=False)
        assert_close(mean, known.mean, rtol=1e-10, atol=1e-12)
        assert_close(cov, known.cov, rtol=1e-10, atol=1e-12)


def test_a_method_of_another_order_is_caught(monkeypatch):
    with pytest.raises(AssertionError):
        assert_order(by(Heun()), 1, "beta", monkeypatch)
    with pytest.raises(AssertionError):
        assert_order(by(DDIM()), 2, "beta", monkeypatch)


def test_a_solver_that_does_not_near_the_data_is_caught(monkeypatch):
    with pytest.raises(AssertionError):  # the notes' unit variance
        assert_order(by(Ancestral()), 1, "unit", monkeypatch)
    plain = by(DDIM())
    with pytest.raises(AssertionError):  # the start is too wide by a hundredth
        assert_order(lambda model, n, r: 1.01 * (plain(model, n, r) - WORLD.mean) + WORLD.mean, 1, "beta", monkeypatch)
