"""Whatever takes a seed or a generator depends on it, and on no other random number."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import kakusan as kk
from harness.faults import catches
from harness.support import F64, seeded
from kakusan.bound import ancestral_sample, importance_bound, sample_path
from kakusan.distributions import Bernoulli, Dirichlet, DiscretizedNormal, Multinomial, Normal
from kakusan.likelihood.chains import of_terms
from kakusan.likelihood.classes import assigned, posterior
from kakusan.likelihood.diffusion import of_diffusion
from kakusan.likelihood.information import of_latents
from kakusan.likelihood.ranking import rank_examples
from kakusan.likelihood.scores import score_examples
from kakusan.likelihood.three import three_estimates
from kakusan.models.clusters import Classes
from kakusan.models.labels import Labels
from kakusan.models.learned_noise import LearnedNoise
from kakusan.models.mixture import Mixture
from kakusan.noise import example_streams
from kakusan.objectives.distillation import Distillation
from kakusan.objectives.notes_third_term import notes_third_term
from kakusan.oracles import GaussianWorld, MixtureWorld
from kakusan.solvers import SOLVERS, sample
from kakusan.timesteps import StepLaw
from kakusan.training.batches import Batches

X = torch.linspace(-1.5, 1.5, 24, dtype=F64).view(12, 2)
K = torch.arange(12) % 3


class Net(nn.Module):
    """Network of any model: `pair` also returns numbers in [0, 1]; a class moves the output."""

    def __init__(self, pair=False):
        super().__init__()
        self.weight, self.pair = nn.Parameter(torch.tensor([0.7, -0.4], dtype=F64)), pair

    def forward(self, z, *others):
        shift = sum(0.3 * other[:, None] for other in others if len(others) == 2 or other.dtype == torch.int64)
        y = torch.tanh(self.weight * z + 0.1 * shift)
        return (y, torch.full_like(y, 0.4)) if self.pair else y


def vae():
    return kk.VAE(Net(pair=True), Net(), 2)


def hierarchy():
    return kk.HierarchicalVAE([Net(pair=True), Net(pair=True)], [Net(), Net()], [2, 2])


def diffusion(pair=False):
    return kk.Diffusion(Net(pair), kk.Schedule.cosine(20), 2, "x", "learned" if pair else "beta").double()


def labels(dropout=0.0, clusters=0):
    found = Labels(3, (2,), dropout, clusters)
    if clusters:
        found.observe(torch.where(torch.arange(300) < 9, torch.arange(300) % 3, -1), features())
    return found


def features():
    return torch.cat([4 * k + torch.randn(100, 2, generator=seeded(k), dtype=F64) for k in range(3)])


def uncertain():
    return Mixture(vae(), Classes([0.2, 0.3, 0.5]))


def rows(indices):
    return X[indices]


def terms(x, generator):
    return vae().draw_terms(x, None, generator)


def fitted(seed):
    chain = diffusion()
    kk.fit(chain, X, steps=2, seed=seed)
    return chain.denoiser.weight.detach()


LAWS = {
    "normal": Normal(X, torch.ones((), dtype=F64)),
    "bernoulli": Bernoulli(X),
    "discretized": DiscretizedNormal(Normal(X, torch.ones((), dtype=F64))),
    "dirichlet": Dirichlet(X.exp()),
    "multinomial": Multinomial(X.softmax(1), 9),
}
# Each takes a seed, and returns tensors or numbers.
OF_GENERATORS = {
    **{f"a draw of {name}": lambda g, law=law: law.sample(g) for name, law in LAWS.items()},
    "a path": lambda g: sample_path(hierarchy(), X, g)[-1],
    "elbo": lambda g: kk.elbo(hierarchy(), X, g),
    "elbo of learned noise": lambda g: kk.elbo(LearnedNoise(diffusion(), Net(pair=True)), X, g),
    "importance bound": lambda g: importance_bound(vae(), X, 3, g),
    "terms of a VAE": lambda g: vae().terms(X, None, g)["reconstruction"],
    "terms of a hierarchy": lambda g: hierarchy().terms(X, None, g)["level 1"],
    "terms of a diffusion model": lambda g: diffusion().terms(X, None, g)["diffusion"],
    "terms of a mixture": lambda g: uncertain().terms(X, None, g)["reconstruction"],
    "the notes' form": lambda g: notes_third_term(hierarchy(), X, g)["level 1"],
    **{f"{one} loss": lambda g, one=one: diffusion(True).loss(X, g, one) for one in ("simple", "path", "pair", "single")},
    "loss of a VAE": lambda g: vae().loss(X, g),
    "loss of an uncertain class": lambda g: uncertain().loss(X, g),
    "loss with label dropout": lambda g: Mixture(diffusion(), labels(0.5)).loss(X, g, cond=K),
    "loss with missing labels": lambda g: Mixture(diffusion(), labels(0.5, 3)).loss(X, g, cond=torch.full((12,), -1)),
    "elbo of a path": lambda g: diffusion().elbo_path(X, g),
    "elbo of a pair": lambda g: diffusion().elbo_pair(X, g),
    "elbo of a single latent": lambda g: diffusion().elbo_single(X, g),
    "ancestral samples": lambda g: ancestral_sample(hierarchy(), 5, g),
    "steps": lambda g: StepLaw.uniform(100).draw(9, g),
    "classes": lambda g: Classes([0.5, 0.5]).draw(40, g),
    "label dropout": lambda g: labels(0.5).for_training(K.repeat(5), g),
    "missing labels": lambda g: labels(0.0, 3).completed(features(), torch.full((300,), -1), g),
    "losses of a student": lambda g: Distillation(diffusion(), diffusion()).losses(diffusion(), X, K + 1, g)[1],
}  # fmt: skip
OF_SEEDS = {
    "evaluation from terms": lambda seed: of_terms(terms, rows, 12, 2, 1, "", seed, size=5).terms["reconstruction"],
    "evaluation of a diffusion model": lambda seed: of_diffusion(diffusion(), rows, 12, seed).terms["diffusion"],
    "classes of examples": lambda seed: assigned(Mixture(vae(), labels()), rows, 12, torch.full((12, 3), 1 / 3), seed).k,
    "classes by Bayes' rule": lambda seed: assigned(Mixture(vae(), labels()), rows, 12, None, seed).log_prior,
    "Bayes' rule": lambda seed: posterior(Mixture(vae(), labels()), rows, 12, 8, seed).bounds,
    "Bayes' rule in several rounds": lambda seed: posterior(Mixture(diffusion(), labels()), rows, 12, 40, seed).bounds,
    "bits of latents": lambda seed: torch.tensor(of_latents(hierarchy(), rows, 12, seed)[0].bits),
    "scores": lambda seed: score_examples(vae(), rows, 12, 2, 4, None, seed).nats,
    "scores of a diffusion model": lambda seed: score_examples(diffusion(), rows, 12, 2, 4, None, seed).nats,
    "a ranking": lambda seed: rank_examples(vae(), rows, 12, 2, 3, 4, None, seed).scores.nats,
    "three estimators": lambda seed: torch.tensor([one["bits_per_dim"] for one in three_estimates(diffusion(), rows, 12, seed).values()]),
    "responsibilities": lambda seed: uncertain().responsibilities(X, seed),
    "samples": lambda seed: sample(hierarchy(), 5, seed=seed),
    "samples of a mixture": lambda seed: sample(uncertain(), 5, seed=seed),
    **{f"samples of {name}": lambda seed, name=name: sample(diffusion(), 5, seed=seed, solver=name, steps=4) for name in SOLVERS},
    "the order of examples": lambda seed: Batches(50, 10, seed, torch.device("cpu")).indices(0),
    "a fit": fitted,
    "examples of a Gaussian world": lambda seed: GaussianWorld([0.0], [[1.0]]).sample(4, seeded(seed)),
    "examples of a mixture world": lambda seed: MixtureWorld([0.5, 0.5], [0.0, 9.0], [1.0, 1.0]).sample(9, seeded(seed)),
}  # fmt: skip


@catches("""models/labels.py: label dropout does not follow the step's generator [label dropout]
- rand((len(k), 1), randomness, torch.float64
+ rand((len(k), 1), None, torch.float64""")
@catches("""models/labels.py: the classes of unlabeled examples do not follow the step's generator [missing labels]
- draw_classes(where_unlabeled(k, probs), randomness)
+ draw_classes(where_unlabeled(k, probs))""")
@catches("""likelihood/classes.py: Bayes' rule has one seed where classes are assigned [classes by Bayes' rule]
- len(missing), seed=seed)
+ len(missing))""")
@catches("""likelihood/chains.py: every seed of an evaluation from terms has the same draws [evaluation from terms]
- stream(seed, "evaluate", int(indices[0]), k)
+ stream("evaluate", int(indices[0]), k)""")
@catches("""likelihood/scores.py: scores do not depend on the seed [scores]
- evaluations, stream(seed, "scores"))
+ evaluations, stream("scores"))""")
@catches("""models/mixture.py: responsibilities ignore their seed [responsibilities]
- stream(seed, "responsibilities", device=x.device)
+ stream("responsibilities", device=x.device)""")
@pytest.mark.parametrize("name", [*OF_GENERATORS, *OF_SEEDS])
def test_results_depend_on_the_seed_and_on_no_other_random_number(name):
    def found(seed):
        return OF_SEEDS[name](seed) if name in OF_SEEDS else OF_GENERATORS[name](seeded(seed))

    torch.manual_seed(0)
    first, state = found(0), torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state()), "the global generator was used"
    torch.manual_seed(5)
    assert torch.equal(first, found(0))
    assert not torch.equal(first, found(1))


@pytest.mark.parametrize("name", [name for name in OF_GENERATORS if "draw of" in name])
def test_a_draw_with_a_generator_for_each_example_is_that_of_each_alone(name):
    """Draws of the examples 7, 8, ... are the same as those of a longer batch."""
    law = LAWS[name.removeprefix("a draw of ")]
    whole = law.sample(example_streams(3, range(len(X))))
    parts = [law_row(law, row).sample(example_streams(3, range(row, row + 1))) for row in range(len(X))]
    assert_close(torch.cat(parts), whole, rtol=0, atol=0)


@catches("""distributions.py: Dirichlet draws of the global generator belong to another concentration [a draw of dirichlet]
- gamma = torch._standard_gamma(a + 1)
-         elif
+ gamma = torch._standard_gamma(a)
+         elif""")
@catches("""distributions.py: Dirichlet draws of single generators belong to another concentration [a draw of dirichlet]
- row.to(g.device) + 1, generator=g
+ row.to(g.device), generator=g""")
@pytest.mark.parametrize("name", [name for name in OF_GENERATORS if "draw of" in name])
def test_whoever_makes_the_random_numbers_a_draw_is_the_same_function_of_them(name):
    law = LAWS[name.removeprefix("a draw of ")]
    torch.manual_seed(3)
    assert torch.equal(law.sample(), law.sample(seeded(3)))
    one = law_row(law, 0)
    assert torch.equal(one.sample([seeded(3)]), one.sample(seeded(3)))


def law_row(law, row):
    """The distribution of one example."""
    if isinstance(law, Normal):
        return Normal(law.mean[row : row + 1], law.std)
    if isinstance(law, DiscretizedNormal):
        return DiscretizedNormal(law_row(law.normal, row), law.levels)
    if isinstance(law, Multinomial):
        return Multinomial(law.probs[row : row + 1], law.total_count)
    return type(law)(*(getattr(law, name)[row : row + 1] for name in type(law).__dataclass_fields__))
