"""Every network is called with the condition of each example, by every function that takes a condition.

Here the first value of an example is its class, and all noise is small. So a network can tell the class from its input,
and a condition that is missing or that of another example is noticed.
"""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

import kakusan as kk
from harness.faults import catches
from harness.support import F64, seeded
from kakusan.bound import ancestral_sample, importance_bound
from kakusan.guidance import classifier_free, guided
from kakusan.likelihood.chains import of_terms
from kakusan.likelihood.diffusion import of_diffusion
from kakusan.likelihood.scores import draws_of
from kakusan.likelihood.three import three_estimates
from kakusan.models.clusters import Classes
from kakusan.models.labels import Labels
from kakusan.models.learned_noise import LearnedNoise
from kakusan.models.mixture import WithClass
from kakusan.objectives.distillation import Distillation
from kakusan.objectives.notes_third_term import notes_third_term
from kakusan.solvers import DDIM, SOLVERS, sample
from kakusan.solvers.inversion import invert
from kakusan.training.settings import Optim

K = torch.tensor([2, 0, 3, 1, 3])
X = torch.stack([K.double(), torch.linspace(-1, 1, len(K), dtype=F64)], 1)
SCHEDULE = kk.Schedule.from_betas([1e-8] * 6)
NO_NOISE = -30.0  # log-variance


CALLS: list[int] = []


@contextmanager
def heard():
    """Record the calls of all networks."""
    CALLS.clear()
    yield CALLS


def check(z, cond):
    """A network is told the class of each row."""
    CALLS.append(len(z))
    assert cond is not None, "a network was not told the condition"
    assert cond.tolist() == z[:, 0].round().long().tolist()


class Coder(nn.Module):
    """Encoder or decoder that keeps its input, with hardly any noise."""

    def __init__(self):
        super().__init__()
        self.none = nn.Parameter(torch.zeros(1, dtype=F64))

    def forward(self, z, cond=None):
        check(z, cond)
        return z + self.none, torch.full_like(z, NO_NOISE)


class Denoiser(nn.Module):
    """Denoiser whose estimate of x is z_t; `pair` also returns numbers in [0, 1]."""

    def __init__(self, pair=False, null=False):
        super().__init__()
        self.none, self.pair, self.null = nn.Parameter(torch.zeros(1, dtype=F64)), pair, null

    def forward(self, z, t, cond=None):
        known = slice(None) if cond is None or not self.null else cond != 4  # without the null class
        check(z[known], None if cond is None else cond[known])
        z = z + self.none
        return (z, torch.full_like(z, 0.5)) if self.pair else z


class Shift(Denoiser):
    """Encoder of `LearnedNoise` without a shift."""

    def forward(self, z, t, cond=None):
        check(z, cond)
        return 0 * z + self.none, torch.full_like(z, 0.5)


def diffusion(**options):
    return kk.Diffusion(Denoiser(**options), SCHEDULE, 2, "x", variance="learned" if options.get("pair") else "beta")


def labels(dropout=0.0):
    return Labels(4, (2,), dropout=dropout)


CHAINS = {
    "vae": lambda: kk.VAE(Coder(), Coder(), 2),
    "hvae": lambda: kk.HierarchicalVAE([Coder(), Coder(), Coder()], [Coder(), Coder(), Coder()], [2, 2, 2]),
    "learned noise": lambda: LearnedNoise(diffusion(), Shift()),
    "diffusion": diffusion,
    "learned variance": lambda: diffusion(pair=True),
    "respaced": lambda: diffusion().respaced(3),
    "wrapped": lambda: kk.Diffusion.wrap(Denoiser(), SCHEDULE, 2, prediction="x", first=0),
    "guided": lambda: guided(diffusion(), diffusion(), 2.0),
    "labels": lambda: kk.Mixture(diffusion(), labels()),
    "labels of a vae": lambda: kk.Mixture(kk.VAE(Coder(), Coder(), 2), labels()),
    "classifier-free": lambda: classifier_free(kk.Mixture(diffusion(null=True), labels(0.1)), 2.0),
}
DIFFUSION = ["diffusion", "learned variance", "respaced", "wrapped", "guided"]
STEPS = torch.tensor([1, 2, 3, 1, 3])


def rows(indices):
    return X[indices]


def evaluated(chain):
    """Evaluation from terms, in chunks of two."""

    def terms(x, generator, cond):
        return chain.draw_terms(x, cond, generator)

    of_terms(terms, rows, len(X), 2, 1, "", size=2, cond=K)


def distilled(chain):
    """Losses of a student of the chain."""
    Distillation(chain, diffusion()).losses(chain, X, STEPS, cond=K)


def latents(chain):
    """Latents at T: the examples, and for a mixture their classes too."""
    return WithClass(X, K) if isinstance(chain, kk.Mixture) else X


OF_ALL = {
    "elbo": lambda chain: kk.elbo(chain, X, cond=K),
    "importance bound": lambda chain: importance_bound(chain, X, 3, cond=K),
    "terms": lambda chain: chain.terms(X, K),
    "loss": lambda chain: chain.loss(X, cond=K),
    "draws of the bound": lambda chain: draws_of(chain, X, 3, seeded(0), K),
    "fit": lambda chain: kk.fit(chain, X, cond=K, steps=2, optim=Optim(batch=3, lr=0)),
    "ancestral sample": lambda chain: ancestral_sample(chain, len(X), z=latents(chain), cond=K),
    "sample": lambda chain: sample(chain, z=X, cond=K),
    "evaluation of terms": evaluated,
}
OF_DIFFUSION = {
    "path": lambda chain: chain.elbo_path(X, cond=K),
    "pair": lambda chain: chain.elbo_pair(X, cond=K),
    "single": lambda chain: chain.elbo_single(X, cond=K),
    "loss of a path": lambda chain: chain.loss(X, objective="path", cond=K),
    "loss of a pair": lambda chain: chain.loss(X, objective="pair", cond=K),
    "loss of a single latent": lambda chain: chain.loss(X, objective="single", cond=K),
    "data estimate": lambda chain: chain.data_estimate(X, 1, K),
    "cost of a step": lambda chain: chain.step_cost(X, X, STEPS, K),
    "cross-entropy of a step": lambda chain: chain.step_cross_entropy(X, X, STEPS, K),
    "density of a step": lambda chain: chain.step_log_prob(X, X, STEPS, K),
    "evaluation": lambda chain: of_diffusion(chain, rows, len(X), cond=K),
    "inversion": lambda chain: invert(chain, X, DDIM(), [1, 2, 3], cond=K),
    "distillation": distilled,
    **{name: lambda chain, name=name: sample(chain, z=X, cond=K, solver=name, steps=3) for name in SOLVERS},
}
OF_HIERARCHY = {
    "terms on a path": lambda chain: chain.terms_on([X] * 4, K),
    "the notes' form": lambda chain: notes_third_term(chain, X, cond=K),
}
CASES = [(chain, use) for chain in CHAINS for use in OF_ALL]
CASES += [(chain, use) for chain in DIFFUSION for use in OF_DIFFUSION]
CASES += [("hvae", use) for use in OF_HIERARCHY]


@catches("""models/diffusion.py: the pair objective has no condition [diffusion-loss of a pair]
- estimators.from_pair(self, x, generator, True, cond) / self.num_dims
+ estimators.from_pair(self, x, generator, True, None) / self.num_dims""")
@catches("""models/elbo_estimators.py: a single latent is scored without its condition [diffusion-single]
- step_cross_entropy(x, z_t, t, cond)
+ step_cross_entropy(x, z_t, t)""")
@catches("""models/wrapped.py: a wrapped network is not told its condition [wrapped-loss]
- self.module(z_t, steps) if cond is None else self.module(z_t, steps, cond)
+ self.module(z_t, steps)""")
@catches("""models/learned_noise.py: the learned noise ignores the condition [learned noise-elbo]
- device=z.device), cond=cond)
+ device=z.device), cond=None)""")
@catches("""models/hierarchical_vae.py: the upper encoders ignore the condition [hvae-elbo]
- output = evaluate(self.encoders[t - 1], z, cond=cond)
+ output = evaluate(self.encoders[t - 1], z, cond=cond if t == 1 else None)""")
@catches("""objectives/notes_third_term.py: the notes' form ignores the condition [hvae-the notes' form]
- p = model.decode(path[level + 1], level + 1, cond)
+ p = model.decode(path[level + 1], level + 1)""")
@catches("""solvers/inversion.py: an inversion ignores the condition [diffusion-inversion]
- denoise, state = Denoise(chain, cond, steps), solver.init()
+ denoise, state = Denoise(chain, None, steps), solver.init()""")
@pytest.mark.parametrize(("name", "use"), CASES)
def test_every_network_is_told_the_condition_of_each_example(name, use):
    chain = CHAINS[name]()
    with heard() as calls:
        (OF_ALL | OF_DIFFUSION | OF_HIERARCHY)[use](chain)
    assert calls, "no network was called"


@pytest.mark.parametrize("name", [name for name in CHAINS if name in DIFFUSION or "labels" in name])
def test_examples_keep_their_conditions_when_threads_share_them(name):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        chain = CHAINS[name]()
        sample(chain, z=X, cond=K)
        if name in DIFFUSION:
            of_diffusion(chain, rows, len(X), cond=K)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("use", ["elbo", "terms", "loss", "draws", "evaluation", "three estimators"])
def test_the_class_of_an_example_is_that_of_its_cluster(use):
    chain = kk.Mixture(diffusion(), Classes([0.25] * 4, assign=lambda x: x[:, 0].round().long()))
    uses = {
        "elbo": lambda: kk.elbo(chain, X),
        "terms": lambda: chain.terms(X),
        "loss": lambda: chain.loss(X),
        "draws": lambda: draws_of(chain, X, 3, seeded(0)),
        "evaluation": lambda: of_diffusion(chain, rows, len(X)),
        "three estimators": lambda: three_estimates(chain, rows, len(X), images=5),
    }
    with heard() as calls:
        uses[use]()
    assert calls
