"""A latent above z_T, the cluster: its bound and its samples, in a world of three Gaussians far apart whose answers are known."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

import kakusan
from harness.faults import catches
from harness.support import F64, call, f64, seeded
from kakusan.bound import ancestral_sample, elbo, importance_bound, sample_path
from kakusan.chain import log_weight
from kakusan.data.augment import augmented
from kakusan.data.scale import SIGNED
from kakusan.errors import InputError
from kakusan.guidance import guided
from kakusan.likelihood.diffusion import of_diffusion
from kakusan.likelihood.evaluation import stratified_var
from kakusan.likelihood.three import three_estimates
from kakusan.models import clusters
from kakusan.models.clusters import EXAMPLES_PER_CLUSTER, Clusters, coarse, num_features
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import Mixture, WithClass, split
from kakusan.nets.time import time_network
from kakusan.noise import example_streams, stream
from kakusan.oracles import GaussianWorld
from kakusan.recipes import find
from kakusan.run import model_file
from kakusan.run.build import build, start_at, training_loss
from kakusan.run.families import conditional as family
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.recipe import Recipe, from_record
from kakusan.run.student import distillation, distillation_loss, student_recipe
from kakusan.run.trained_model import TrainedModel, _rebuilt
from kakusan.schedule import Schedule
from kakusan.solvers import SOLVERS, Heun, sample, solver_named

SCHEDULE = Schedule.from_betas([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
SHARE = f64([0.5, 0.2, 0.3])
CENTRES = f64([[40.0, 0.0], [0.0, -50.0], [-30.0, 30.0]])
WORLDS = [GaussianWorld(centre, [[0.6, 0.2], [0.2, 0.4]]) for centre in CENTRES]


class Knowing(nn.Module):
    """(z_t, t, k) -> the best guess of x in the k-th world; times a factor, for a network that is less than best."""

    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.networks, self.factor = [world.network(SCHEDULE.beta[1:], "x") for world in WORLDS], factor

    def forward(self, z, t, k):
        guesses = torch.stack([network(z, t) for network in self.networks], 1)
        return self.factor * guesses[torch.arange(len(z)), k]


def known_clusters(share=SHARE, centres=CENTRES):
    found = Clusters(len(share), (2,))
    found.share.copy_(share)
    found.centres.copy_(centres)
    return found


def conditional(factor=1.0, variance="beta"):
    return Diffusion(Knowing(factor), SCHEDULE, 2, "x", variance).double()


def model(factor=1.0, variance="beta"):
    return Mixture(conditional(factor, variance), known_clusters()).double()


def alone(k, variance="beta"):
    """The chain of the k-th world, which knows of no clusters."""
    return Diffusion(WORLDS[k].network(SCHEDULE.beta[1:], "x"), SCHEDULE, 2, "x", variance).double()


def examples(n, seed=0):
    """Of all three worlds, and of which each is."""
    k = torch.arange(n) % 3
    return torch.stack([WORLDS[int(i)].sample(1, stream(seed, j))[0] for j, i in enumerate(k)]), k


@pytest.mark.proves("B1")
@pytest.mark.parametrize("estimate", ["elbo_path", "elbo_pair", "elbo_single"])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_each_estimator_of_the_bound_is_that_of_the_clusters_own_chain_and_its_share(estimate, k):
    x = WORLDS[k].sample(6, seeded(k))
    wanted = getattr(alone(k), estimate)(x, seeded(1))
    told = getattr(conditional(), estimate)(x, seeded(1), cond=torch.full((6,), k))
    assert_close(told, wanted, rtol=1e-12, atol=1e-10)
    terms, own = model().terms(x, generator=seeded(1)), alone(k).terms(x, generator=seeded(1))
    assert_close(terms.pop("cluster"), SHARE[k].log().expand(6), rtol=1e-12, atol=0)
    assert_close(terms, own, rtol=1e-12, atol=1e-10)


@pytest.mark.proves("B1")
@catches("""models/mixture.py: a weight leaves the cluster's share out [1]
- return log_prob + rows.gather(1, value.k.to(rows.device)[:, None])[:, 0].to(log_prob)
+ return log_prob""")
@pytest.mark.parametrize("k", [0, 1, 2])
def test_what_is_written_for_every_chain_is_right_for_one_of_clusters(k):
    x = WORLDS[k].sample(5, seeded(k))
    path = sample_path(alone(k), x, seeded(2))
    own = SHARE[k].log()
    pairs = [x, *(WithClass(z, torch.full((5,), k)) for z in path[1:])]
    assert_close(log_weight(model(), pairs), log_weight(alone(k), path) + own, rtol=1e-12, atol=1e-10)
    assert_close(elbo(model(), x, seeded(3)), elbo(alone(k), x, seeded(3)) + own, rtol=1e-12, atol=1e-10)
    bounds = [importance_bound(one, x, 7, seeded(4)) for one in (model(), alone(k))]
    assert_close(bounds[0], bounds[1] + own, rtol=1e-12, atol=1e-10)


@pytest.mark.proves("B1")
def test_the_bound_lies_below_the_log_density_of_the_mixture_by_what_the_steps_cost_alone():
    """log p(x) of the mixture from its definition; the clusters are so far apart that telling them costs nothing."""
    x, k = examples(9)
    densities = [
        torch.distributions.MultivariateNormal(world.mean, world.cov).log_prob(x) + share.log()
        for world, share in zip(WORLDS, SHARE)
    ]
    exact = torch.stack(densities).logsumexp(0)
    bound = torch.stack(
        [WORLDS[int(i)].exact_elbo(SCHEDULE.beta[1:], "beta", x[j : j + 1])[0] for j, i in enumerate(k)]
    )
    assert (bound + SHARE[k].log() < exact).all()
    mixture = model()
    draws = torch.stack([sum(mixture.terms(x, generator=seeded(seed)).values()) for seed in range(4000)])
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - bound - SHARE[k].log()).abs() < 4.5 * error).all()  # by chance one in 16,000 of nine


@pytest.mark.proves("B1")
@catches("""likelihood/diffusion.py: an evaluation leaves the cluster's share out
- {name: nats}
+ {name: 0 * nats}""")
def test_an_evaluation_names_the_cluster_among_its_terms():
    x, k = examples(60)
    found = of_diffusion(model(), lambda rows: x[rows], len(x), seed=3)
    assert list(found.terms) == ["cluster", "prior", "diffusion", "reconstruction"]
    assert_close(found.terms["cluster"], SHARE[k].log(), rtol=1e-12, atol=1e-12)
    rows = (k == 1).nonzero()[:, 0]
    mine = of_diffusion(model(), lambda part: x[rows][part], len(rows), seed=4)
    plain = of_diffusion(alone(1), lambda part: x[rows][part], len(rows), seed=4)
    assert list(plain.terms) == ["prior", "diffusion", "reconstruction"]
    for name in plain.terms:
        assert_close(mine.terms[name], plain.terms[name], rtol=1e-10, atol=1e-10)
    assert mine.var == pytest.approx(plain.var, rel=1e-9)


@catches("""likelihood/diffusion.py: the spread of a bound knows nothing of the clusters' shares
- log_share - prior - by_group.sum(1)
+ -prior - by_group.sum(1)""")
def test_the_spread_of_an_evaluation_is_that_of_its_sum():
    x, _ = examples(90)
    found = of_diffusion(model(), lambda rows: x[rows], len(x), seed=3)
    assert found.strata is not None
    assert found.var == pytest.approx(stratified_var(sum(found.terms.values()), found.strata), rel=1e-9)


def test_three_prices_agree_where_clusters_differ():
    x, _ = examples(4)
    found = three_estimates(model(), lambda rows: x[rows], 4, paths=400)
    assert all(abs(found[name]["errors_from_path"]) < 4.5 for name in ("pair", "single"))  # one in 150,000 each


def test_the_loss_is_that_of_the_network_told_the_right_cluster():
    x, k = examples(30)
    mine = model(0.9).loss(x, seeded(5))
    told = Diffusion(lambda z, t: Knowing(0.9)(z, t, k), SCHEDULE, 2, "x").double()
    assert torch.equal(mine, told.loss(x, seeded(5)))


@pytest.mark.proves("B2")
@catches("""solvers/base.py: heun asks a chain of other clusters [heun]
- x_hat = self._chain.data_estimate(z, level.index, self._cond)
+ x_hat = self._chain.data_estimate(z, level.index, None if self._cond is None else self._cond.flip(0))""")
@pytest.mark.parametrize("name", SOLVERS)
def test_every_sampler_draws_a_cluster_for_each_sample_and_samples_it(name):
    chain = Mixture(split(guided(model(), model(0.99), 1.5))[0].respaced([1, 3, 5, 7]), known_clusters())
    drawn = known_clusters().draw(40, example_streams(7, range(40)))
    solver = Heun(churn=1.0) if name == "heun" else solver_named(name)
    x = sample(chain, 40, solver=solver, times=range(1, 5), seed=7)
    assert len(set(drawn.tolist())) == 3
    assert torch.equal(known_clusters().of(x), drawn)


@catches("""guidance.py: guidance asks about the first cluster
- known = None if cond is None else cond[rows]
+ known = None if cond is None else cond[:1].expand(len(rows))""")
def test_guidance_asks_both_models_about_the_same_cluster():
    z, k = torch.randn(6, 2, generator=seeded(0), dtype=F64), torch.tensor([0, 1, 2, 2, 1, 0])
    wanted = (2 - 0.9) * conditional().data_estimate(z, 3, k)
    assert_close(split(guided(model(), model(0.9), 2.0))[0].data_estimate(z, 3, k), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.proves("B2")
def test_a_sample_depends_on_its_own_stream_alone():
    many = sample(model(), 5, solver="ddim")
    few = sample(model(), 2, solver="ddim", first=3)
    assert_close(many[3:], few, rtol=1e-12, atol=1e-12)
    again = ancestral_sample(model(), 2, example_streams(0, range(3, 5)))
    assert torch.equal(known_clusters().of(again), known_clusters().of(few))


@pytest.mark.proves("B2")
def test_clusters_are_drawn_as_often_as_their_share():
    """Chi square of two degrees of freedom, 40,000 draws: above 24 one time in 160,000."""
    share = f64([0.5, 0.0, 0.2, 0.3, 0.0])
    drawn = known_clusters(share, torch.zeros(5, 2)).draw(40_000, seeded(1)).bincount(minlength=5)
    assert drawn[1] == drawn[4] == 0
    expected = share[share > 0] * 40_000
    assert ((drawn[share > 0] - expected).square() / expected).sum() < 24


@catches("""models/clusters.py: shares of any sum are taken from a file [share2]
- not abs(total - 1) < SLACK
+ False""")
@catches("""models/clusters.py: shares below 0 are taken from a file [share1]
- not (self.share >= 0).all()
+ False""")
@pytest.mark.parametrize("share", [[0.0, 0.0, 0.0], [5.0, -4.5, 0.5], [1e300, 1e300, 0.0], [0.5, 0.5, math.nan]])
def test_a_file_whose_shares_are_no_probabilities_is_refused(share, tmp_path):
    recipe = Recipe("r", "", small(clusters=3))
    for spoiled in ("weights", "early"):
        parts = {name: build(recipe.model, (1, 8, 8)).state_dict() for name in ("weights", "early")}
        parts[spoiled]["clusters.share"] = f64(share)
        with pytest.raises(InputError, match=r"from elsewhere: class probabilities must .* sum to 1, got"):
            _rebuilt(recipe, (1, 8, 8), parts["weights"], parts["early"], torch.device("cpu"), Path("from elsewhere"))


@catches("""models/clusters.py: centroids that are no numbers are taken from a file
- not self.centres.isfinite().all()
+ False""")
def test_a_file_whose_centroids_are_no_numbers_is_refused():
    found = known_clusters(centres=CENTRES.clone())
    found.check("from elsewhere")
    found.centres[1, 0] = math.nan
    with pytest.raises(InputError, match="from elsewhere: cluster centroids must be finite"):
        found.check("from elsewhere")


@catches("""models/clusters.py: an empty cluster is drawn at the beginning of the shares [0.0]
- right=True)
+ right=False)""")
@pytest.mark.parametrize("drawn", [0.0, 1 - 2**-53])
def test_at_the_ends_of_what_can_be_drawn_a_cluster_has_a_share(drawn, monkeypatch):
    monkeypatch.setattr(clusters, "rand", lambda shape, *_: torch.full(shape, drawn, dtype=F64))
    for share in ([0.0, 0.1, 0.2, 0.7, 0.0], [0.0, 0.3, 0.3 - 1e-17, 0.1, 0.0]):
        found = known_clusters(f64(share), torch.zeros(5, 2)).draw(1)
        assert found == (1 if drawn == 0 else 3)


# Finding them


@catches("""models/clusters.py: the nearest centre is that of the largest product
- (part @ centres.T - half_squares)
+ (part @ centres.T)""")
@catches("""models/clusters.py: centres stay where they were put
- ROUNDS = 20
+ ROUNDS = 0""")
def test_clusters_that_lie_apart_are_found_with_their_centres_and_shares():
    k = torch.multinomial(SHARE, 3000, replacement=True, generator=seeded(0))
    x = CENTRES[k] + torch.randn(3000, 2, generator=seeded(1), dtype=F64)
    found = Clusters(12, (2,))
    found.find(coarse(x))
    # 12 centres for 3 places: each of them has some, and together they share what lies there
    place = torch.cdist(found.centres, CENTRES).argmin(1)
    at = torch.zeros(3, dtype=F64).index_add_(0, place, found.share)
    assert_close(at, k.bincount(minlength=3).double() / 3000, rtol=0, atol=1e-12)
    assert torch.cdist(found.centres, CENTRES).min(1).values.max() < 4  # within the places, whose radius that is
    own = found.of(x)
    assert torch.equal(own, torch.cdist(x, found.centres).argmin(1))
    assert_close(own.bincount(minlength=12).double() / 3000, found.share, rtol=0, atol=1e-12)
    for one in range(12):  # where the search ends a centre is the mean of what lies nearest to it, or nearly
        assert (found.centres[one] - x[own == one].mean(0)).norm() < 0.5


def test_the_same_examples_have_the_same_clusters():
    x = torch.randn(500, 1, 20, 20, generator=seeded(0))
    one, two, other = (Clusters(4, (1, 20, 20)) for _ in range(3))
    one.find(coarse(x))
    torch.randn(3)
    two.find(coarse(x))
    other.find(coarse(x + torch.randn(500, 1, 20, 20, generator=seeded(1))))
    assert torch.equal(one.centres, two.centres)
    assert torch.equal(one.share, two.share)
    assert not torch.equal(one.centres, other.centres)


@catches("""models/clusters.py: a cluster may have 20 examples on average
- EXAMPLES_PER_CLUSTER = 50
+ EXAMPLES_PER_CLUSTER = 20""")
@catches("""models/clusters.py: an example is of a cluster that has no share
- .masked_fill(~among, math.inf)""")
@catches("""models/clusters.py: a few examples are divided among many clusters
- len(features) // EXAMPLES_PER_CLUSTER
+ len(features)""")
def test_few_examples_have_few_clusters_and_nothing_is_ever_of_the_others():
    x = torch.randn(3 * 50 + 1, 1, 8, 8, generator=seeded(0))
    found = Clusters(64, (1, 8, 8))
    found.find(coarse(x))
    assert (found.share > 0).sum() == 3
    assert found.share.sum() == pytest.approx(1, abs=1e-12)
    assert found.of(torch.zeros(1, 1, 8, 8)) < 3  # where the others' centres lie, unused
    assert set(found.draw(200, seeded(0)).tolist()) == {0, 1, 2}
    one = Clusters(64, (1, 8, 8))
    one.find(coarse(x[:2]))
    assert one.of(x).tolist() == [0] * len(x)


@catches("""models/clusters.py: clusters of earlier examples keep their shares
-         self.share.zero_()
-
+         pass
+""")
def test_clusters_that_are_found_again_are_those_of_the_new_examples_alone():
    x = torch.randn(4 * EXAMPLES_PER_CLUSTER, 2, generator=seeded(0), dtype=F64)
    again, fresh = Clusters(4, (2,)), Clusters(4, (2,))
    with pytest.raises(InputError, match="no centroids yet"):
        again.check_found()
    Clusters(1, (2,)).check_found()  # one cluster holds everything
    again.find(x)
    again.check_found()
    for found in (again, fresh):
        found.find(x[: 2 * EXAMPLES_PER_CLUSTER])
    assert torch.equal(again.share, fresh.share)
    assert torch.equal(again.centres, fresh.centres)


@catches("""models/clusters.py: a centroid without examples moves to zero
- torch.where(count > 0, total / count.clamp(min=1), centres)
+ total / count.clamp(min=1)""")
def test_examples_that_are_all_alike_are_one_cluster():
    found = Clusters(3, (2,))
    found.find(coarse(torch.ones(400, 2)))
    assert found.share.tolist() == [1.0, 0.0, 0.0]
    assert found.of(torch.ones(2, 2)).tolist() == [0, 0]
    assert (found.centres == 1).all()  # a centroid without examples stays where it was


def test_before_any_are_found_everything_is_of_the_first_cluster():
    fresh = Clusters(5, (1, 4, 4))
    assert fresh.of(torch.randn(3, 1, 4, 4)).tolist() == [0, 0, 0]
    assert fresh.draw(3).tolist() == [0, 0, 0]
    assert fresh.log_prob(torch.tensor([0])).tolist() == [0.0]


@pytest.mark.parametrize(
    ("shape", "features"), [((1, 28, 28), 14 * 14), ((3, 33, 16), 3 * 11 * 16), ((1, 8, 8), 64), ((5,), 5)]
)
def test_pictures_are_told_apart_by_a_coarse_copy(shape, features):
    x = torch.randn(2, *shape, generator=seeded(0))
    assert coarse(x).shape == (2, features)
    assert num_features(shape) == features
    assert coarse(x).dtype == F64
    if shape == (1, 28, 28):
        assert coarse(x)[0, 1].item() == pytest.approx(x[0, 0, :2, 2:4].double().mean().item(), abs=1e-12)


# Asking rightly


def test_a_model_of_clusters_is_not_asked_without_them():
    for ask in (lambda m, z: m.data_estimate(z, 3), lambda m, z: m.decode(z, 3), lambda m, z: m.reverse(z, 1)):
        with pytest.raises(InputError, match=r"called as net\(z_t, t\), and its signature is \(z, t, k\)"):
            ask(conditional(), torch.zeros(2, 2, dtype=F64))
    k = torch.tensor([0, 2])
    assert conditional().data_estimate(torch.zeros(2, 2, dtype=F64), 7, k).shape == (2, 2)
    with pytest.raises(InputError, match=r"one row per example; got torch.int64 \(2,\)"):
        model().validate(torch.zeros(3, 2, dtype=F64), k)
    with pytest.raises(InputError, match=r"called as net\(z_t, t, cond\)"):
        alone(0).predict(torch.zeros(2, 2, dtype=F64), 3, k)


@pytest.mark.parametrize("named", [[0, 3], [-1, 0], [[0], [1]], [0.0, 1.0]])
def test_only_clusters_that_there_are_can_be_given(named):
    with pytest.raises(InputError, match=r"class indices (lie in 0\.\.2|must be int64)"):
        model().prior(torch.tensor(named))


@catches("""models/clusters.py: of class indices the wrong one is named
- got {least if least < 0 else most}
+ got {least}""")
def test_a_class_index_that_there_is_not_is_named():
    for named, words in (([0, 3], r"0\.\.2, got 3"), ([-1, 5], r"0\.\.2, got -1")):
        with pytest.raises(InputError, match=words):
            model().prior(torch.tensor(named))


def test_guidance_is_by_a_model_of_the_same_clusters():
    other = Mixture(conditional(), known_clusters(SHARE.flip(0))).double()
    for weaker in (alone(0), other):
        with pytest.raises(InputError, match="same classes"):
            guided(model(), weaker, 2.0)


def test_a_model_in_another_precision_still_tells_its_clusters():
    x, k = examples(6)
    for chain in (model().float(), model().to(torch.bfloat16)):
        assert chain.clusters.of(x.float()).tolist() == k.tolist()
        assert set(chain.clusters.draw(50, seeded(0)).tolist()) == {0, 1, 2}


@catches("""models/clusters.py: only the first examples have a cluster
- features.split(EXAMPLES_AT_ONCE)])
+ features.split(EXAMPLES_AT_ONCE)][:1])""")
def test_distances_are_taken_of_all_examples_however_few_at_a_time(monkeypatch):
    x, k = examples(30)
    monkeypatch.setattr(clusters, "EXAMPLES_AT_ONCE", 7)
    assert known_clusters().of(x).tolist() == k.tolist()


@catches("""models/clusters.py: centres begin at the first examples
- torch.randperm(len(features), generator=stream("clusters"))
+ torch.arange(len(features))""")
def test_sorted_examples_have_the_centres_of_mixed_ones():
    """Were the first ones taken, all centres would begin in one place, and one would stay between the other two."""
    k = torch.arange(3).repeat_interleave(1000)
    found = Clusters(6, (2,))
    found.find(CENTRES[k] + torch.randn(3000, 2, generator=seeded(1), dtype=F64))
    assert torch.cdist(CENTRES, found.centres).min(1).values.max() < 2


@catches("""models/diffusion.py: a derived chain rounds its network to its own precision
-         other._zero = self._zero
-
+         other.to(self._zero)
+""")
def test_one_model_given_and_used_keeps_its_clusters_in_double_precision():
    single = Mixture(Diffusion(lambda z, t, k: 0 * z, SCHEDULE, 2, "x"), known_clusters())
    single.chain.denoiser.register_buffer("table", torch.zeros(2, dtype=F64))
    for chain in (single, Mixture(single.chain.respaced([2, 7]), single.classes), guided(single, single, 2.0)):
        sample(chain, 3, solver="ddim")
        assert single.clusters.centres.dtype == single.chain.denoiser.table.dtype == F64
        single.terms(torch.zeros(1, 2))
    assert torch.equal(single.clusters.share, SHARE)


# In recipes


def small(**settings):
    return DiffusionConfig(depth=20, **{"width": 8, "inner_width": 16, "blocks": 1, **settings})


NETWORKS = {
    "unet": small(clusters=3),
    "convnext": small(network="convnext", clusters=3),
    "transformer": small(network="transformer", width=16, clusters=3),
    "cosine": small(network="cosine", width=16, clusters=3),
    "classic": small(network="classic", inner_width=8, clusters=3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_told_the_cluster_and_learns_of_those_it_saw(name):
    torch.manual_seed(0)
    network = split(build(NETWORKS[name], (1, 8, 8)))[0].denoiser
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.1)  # blocks that begin as the identity hear nothing
    z, t = torch.randn(1, 1, 8, 8).expand(2, -1, -1, -1), torch.tensor([5, 5])
    one, two = network(z, t, torch.tensor([0, 2]))
    assert not torch.allclose(one, two)
    network(z, t, torch.tensor([0, 2])).square().sum().backward()
    assert (network.time.table.weight.grad.abs().sum(1) > 0).tolist() == [True, False, True]


@pytest.mark.parametrize("kind", ["sinusoidal", "table"])
def test_what_is_said_of_the_cluster_is_added_to_what_is_said_of_the_time(kind):
    both = time_network(kind, 12, 9, num_classes=4)
    t, k = torch.tensor([1, 9]), torch.tensor([3, 0])
    assert_close(both(t, k) - both.time(t), both.table.weight[k])


def test_the_trainer_finds_the_clusters_of_the_training_part():
    data = torch.randint(256, (400, 1, 8, 8), generator=seeded(0), dtype=torch.uint8)
    data[200:] //= 4
    config = small(clusters=2)
    module = build(config, (1, 8, 8))
    start_at(module, config, data)
    assert module.clusters.share.tolist() == [0.5, 0.5]
    of = module.clusters.of(SIGNED.to_model(data))
    assert len(set(of[:200].tolist())) == len(set(of[200:].tolist())) == 1
    losses = training_loss(module, config, data)(torch.arange(8), seeded(1))
    assert losses.shape == (8,)


@catches("""run/families/conditional.py: clusters are found where pictures lay at rest
- augmented(data[part], augment, drawn)
+ augmented(data[part], "none", drawn)""")
def test_of_moved_pictures_the_clusters_are_those_that_training_sees():
    """Bars in one place, moved: as often of each cluster as they are drawn; at rest they are all of one.

    Frequencies of 3,000 draws are off by 0.06 in one of 12 less than one time in 10^9.
    """
    data = torch.zeros(3000, 1, 8, 8, dtype=torch.uint8)
    data[:, :, 2, 3:6] = 255
    config = small(clusters=12)
    module = build(config, (1, 8, 8))
    start_at(module, config, data, "shift")
    moved = augmented(data, "shift", seeded(3))
    seen = module.clusters.of(SIGNED.to_model(moved)).bincount(minlength=12) / 3000
    assert (seen - module.clusters.share).abs().max() < 0.06
    assert module.clusters.share.max() < 0.5


def test_clusters_are_looked_for_in_parts_of_a_limited_size(monkeypatch):
    data = torch.randint(256, (400, 1, 8, 8), generator=seeded(0), dtype=torch.uint8)
    one, two = (build(small(clusters=4), (1, 8, 8)) for _ in range(2))
    start_at(one, small(clusters=4), data)
    sizes = []
    monkeypatch.setattr(family, "VALUES_AT_ONCE", 640)
    monkeypatch.setattr(clusters, "coarse", lambda x: sizes.append(x.numel()) or coarse(x))
    start_at(two, small(clusters=4), data)
    assert max(sizes) == 640
    assert torch.equal(one.clusters.centres, two.clusters.centres)


def test_a_record_of_a_setting_that_is_gone_is_still_read():
    record = find("mnist-ddpm").record()
    record["model"]["references"] = 1024
    assert from_record(record) == find("mnist-ddpm")


def test_a_run_keeps_its_clusters_through_files_and_a_student_has_its_teachers(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (260, 8, 8), dtype=np.uint8)
    pictures[::2] //= 8
    np.save("pictures.npy", pictures)
    flags = ["--model.width", 8, "--model.inner-width", 16, "--model.blocks", 1, "--optim.batch", 8]
    run = ["train", "mnist-ddpm", "--data", "pictures.npy", "--steps", 6, "--out", "run", *flags]
    code, _, said = call(capsys, *run, "--model.clusters", 2)
    assert code == 0
    assert "found 2 clusters\n" in said
    with Image.open("run/clusters.png") as picture:
        assert picture.width > 2 * 8
    assert "centers of the k-means clusters" in Path("run/report.html").read_text(encoding="utf-8").lower()
    trained = kakusan.load("run")
    assert (trained.chain.clusters.share > 0).sum() == 2
    assert torch.equal(trained.weaker.clusters.centres, trained.chain.clusters.centres)
    assert call(capsys, "export", "run", "--out", "run.safetensors")[0] == 0
    assert model_file.read(tmp_path / "run.safetensors").facts.recipe.model.clusters == 2
    given_away = kakusan.load("run.safetensors")
    assert np.array_equal(given_away.sample(3), trained.sample(3))
    assert call(capsys, "evaluate", "run", "--json")[1].count('"cluster"') >= 1
    assert call(capsys, "train", "mnist-few", "--teacher", "run", "--steps", 3, "--out", "student")[0] == 0
    student = kakusan.load("student")
    assert torch.equal(student.chain.clusters.centres, trained.chain.clusters.centres)
    assert torch.equal(student.chain.clusters.share, trained.chain.clusters.share)
    assert student.sample(2).shape == (2, 8, 8, 1)


@catches("""run/student.py: a student is taught of the clusters in another order
- cond = None if classes is None else classes.of(x)
+ cond = None if classes is None else classes.of(x).flip(0)""")
def test_a_student_is_taught_of_the_clusters_of_its_examples(monkeypatch):
    recipe = student_recipe(find("mnist-few"), Recipe("teacher", "", small(clusters=4)))
    teacher = build(small(clusters=4), (1, 8, 8))
    data = torch.randint(256, (400, 1, 8, 8), generator=seeded(0), dtype=torch.uint8)
    start_at(teacher, small(clusters=4), data)
    module = distillation(recipe, (1, 8, 8), teacher.state_dict())
    told, before = [], Diffusion.predict
    monkeypatch.setattr(Diffusion, "predict", lambda self, z, t, cond: told.append(cond) or before(self, z, t, cond))
    distillation_loss(module, recipe, data, teacher)(torch.arange(12), seeded(0))
    wanted = teacher.clusters.of(SIGNED.to_model(data[:12]))
    assert len(set(wanted.tolist())) > 1
    assert len(told) == 3  # of the teacher, the student and the fake-score network
    assert all(torch.equal(one, wanted) for one in told)


def test_fewer_clusters_than_asked_for_are_told():
    found = Clusters(64, (1, 8, 8))
    assert found.lines() == [
        f"found 1 cluster instead of 64: a cluster needs at least {EXAMPLES_PER_CLUSTER} distinct images"
    ]
    found.find(coarse(torch.randn(3 * EXAMPLES_PER_CLUSTER, 1, 8, 8, generator=seeded(0))))
    assert found.lines()[0].startswith("found 3 clusters instead of 64")


@catches("""models/clusters.py: images of clusters have height and width swapped
- for side, factor in zip(size, _factors(size))]
-         return
+ for side, factor in zip(size, _factors(size))][::-1]
+         return""")
def test_clusters_are_shown_the_most_common_first():
    found = Clusters(3, (1, 20, 30))
    found.centres[:] = torch.arange(3, dtype=F64)[:, None]
    found.share.copy_(f64([0.3, 0.0, 0.7]))
    shown = found.images()
    assert shown.shape == (2, 1, 20, 30)
    assert shown[:, 0, 5, 7].tolist() == [2.0, 0.0]
    picture = torch.arange(20, dtype=F64)[:, None].expand(20, 30)  # brighter from row to row
    found.centres[2] = coarse(picture[None, None])[0]
    assert (found.images()[0, 0] - picture).abs().max() <= 0.5  # at the border, where nothing lies beyond


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Clusters(0, (1, 8, 8)), "at least one cluster"),
        (
            lambda: Clusters(2, (1, 8, 8)).find(torch.zeros(9, 1, 8, 8)),
            r"got \(9, 1, 8, 8\); call clusters\.find\(coarse",
        ),
        (lambda: Clusters(2, (1, 8, 8)).find(torch.full((9, 64), math.nan)), "finite features"),
        (lambda: Mixture(conditional(), 0), "Clusters, Classes or a positive number of classes, got 0"),
    ],
)
def test_wrong_clusters_are_refused_where_they_are_made(wrong, words):
    with pytest.raises(InputError, match=words):
        wrong()


def test_the_samples_of_a_trained_model_draw_their_cluster_from_their_own_seed():
    recipe = Recipe("r", "", small(clusters=4))
    module = build(recipe.model, (1, 8, 8))
    module.clusters.find(coarse(torch.randn(400, 1, 8, 8, generator=seeded(0))))
    trained = TrainedModel(recipe, module, (1, 8, 8), torch.device("cpu"))
    assert np.array_equal(trained.sample(4, steps=3)[2:], trained.sample(2, steps=3, first=2))


def test_the_default_recipe_has_clusters():
    assert find("mnist-ddpm").model.clusters > 0
