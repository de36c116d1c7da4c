"""A mixture of chains: exact where its parts are exact, a bound elsewhere, and the same weights as without classes."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, LIMIT, f64, seeded
from kakusan.bound import ancestral_sample, elbo, importance_bound, sample_path
from kakusan.chain import log_weight
from kakusan.errors import InputError
from kakusan.models.diffusion import Diffusion
from kakusan.models.mixture import ClassFirst, KnownClass, Mixture, WithClass
from kakusan.models.vae import VAE
from kakusan.oracles import MixtureWorld
from kakusan.schedule import Schedule
from kakusan.solvers.loop import sample
from test_laws import ExactByClass

SHARE, MEANS, VARS = f64([0.3, 0.7]), f64([-0.6, 0.5]), f64([0.2, 0.6])
WORLD = MixtureWorld(SHARE, MEANS, VARS)
X = torch.linspace(-2, 2, 9, dtype=F64)[:, None]


def nearest(x):
    return (x[:, 0] > 0).long()


def mixture(assign=None):
    return Mixture(ExactByClass(MEANS, VARS), 2, SHARE, assign)


def log_joint(x, k):
    """log p(k) + log p(x | k)."""
    return SHARE[k].log() + torch.distributions.Normal(MEANS[k], VARS[k].sqrt()).log_prob(x[:, 0])


def test_with_exact_responsibilities_every_path_weighs_the_log_density_of_the_mixture():
    for seed in range(3):
        path = sample_path(mixture(), X, seeded(seed))
        assert_close(log_weight(mixture(), path), WORLD.log_prob(X), rtol=0, atol=1e-10)
    assert_close(importance_bound(mixture(), X, 5, seeded(4)), WORLD.log_prob(X), rtol=0, atol=1e-10)
    assert_close(sum(mixture().terms(X, generator=seeded(5)).values()), WORLD.log_prob(X), rtol=0, atol=1e-10)


def test_with_certain_classes_the_bound_lies_below_by_minus_log_of_the_responsibility():
    k = nearest(X)
    bound = elbo(mixture(nearest), X, seeded(0))
    assert_close(bound, log_joint(X, k), rtol=0, atol=1e-10)
    gap = WORLD.log_prob(X) - bound
    assert (gap > 0).all()
    known = WORLD.responsibilities(X, 1.0, 0.0)[k, torch.arange(len(X))]
    assert_close(gap, -known.log(), rtol=1e-9, atol=1e-10)


@catches("""models/mixture.py: a class other than the known one costs nothing
- return log_prob.masked_fill(value.k != self.k, -math.inf)
+ return log_prob""")
@catches("""models/mixture.py: the mean of a mixture is that of the first class
- self._given(self.probs.argmax(1)).mean
+ self._given(0 * self.probs.argmax(1)).mean""")
@catches("""models/mixture.py: an expanded mixture has the classes of its first example
- return ClassFirst(self.chain, self.probs.expand(num_examples, -1), x)
+ return ClassFirst(self.chain, self.probs[:1].expand(num_examples, -1), x)""")
def test_the_laws_of_a_mixture_score_every_class_and_repeat_their_examples():
    chain, probs = (
        VAE(lambda x, k: (x + k[:, None], 0 * x), lambda z, k: z, 1),
        f64([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]),
    )
    k = torch.tensor([1, 0, 1])
    whole = ClassFirst(chain, probs, X[:3])
    assert_close(whole.mean, chain.encode(X[:3], 1, torch.tensor([0, 1, 1])).mean)
    z = f64([[0.1], [0.2], [0.3]])
    given = chain.encode(X[:3], 1, k).log_prob(z)
    assert_close(whole.log_prob(WithClass(z, k)), given + f64([0.1, 0.2, 0.6]).log())
    assert_close(whole.expand(3).log_prob(WithClass(z, k)), whole.log_prob(WithClass(z, k)))
    known = KnownClass(chain.encode(X[:3], 1, k), k)
    assert_close(known.log_prob(WithClass(z, k)), given)
    assert known.log_prob(WithClass(z, 1 - k)).tolist() == [-math.inf] * 3
    assert torch.equal(known.mean, chain.encode(X[:3], 1, k).mean)
    one = KnownClass(chain.encode(X[:1], 1, k[:1]), k[:1]).expand(3)
    assert one.sample(seeded(0)).k.tolist() == [1, 1, 1]
    assert one.sample(seeded(0)).z.shape == (3, 1)


@catches("""models/mixture.py: the mode of a mixture does not reach its chain
-             self.chain.train(mode)
-         return super().train(mode)
+             pass
+         return super().train(mode)""")
def test_a_mixture_and_its_chain_have_one_mode():
    model = Mixture(Diffusion(nn.Linear(1, 1), Schedule.cosine(5), 1), 2)
    for mode in (False, True):
        assert model.train(mode) is model
        assert {part.training for part in (model, model.chain, model.chain.denoiser, model.classes)} == {mode}


def test_of_a_given_class_the_bound_is_that_of_its_own_chain():
    k = torch.arange(len(X)) % 2
    for one in (mixture(), mixture(nearest)):
        assert_close(elbo(one, X, seeded(0), cond=k), log_joint(X, k) - SHARE[k].log(), rtol=0, atol=1e-10)


def test_ancestral_samples_draw_classes_as_often_as_their_share():
    apart = Mixture(ExactByClass(f64([-50.0, 50.0]), VARS), 2, SHARE)
    first = (ancestral_sample(apart, 20_000, seeded(0)) < 0).double().mean().item()
    assert abs(first - 0.3) < LIMIT * math.sqrt(0.3 * 0.7 / 20_000)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.table = nn.Linear(2, 2), nn.Embedding(3, 2)

    def forward(self, z, t, cond=None):
        return self.layer(z) + (0 if cond is None else self.table(cond))


def test_weights_have_the_same_names_with_and_without_classes():
    chain = Diffusion(Network(), Schedule.cosine(5), 2, "v")
    names = set(chain.state_dict())
    both = Mixture(chain, 3)
    assert set(both.state_dict()) == names | {"clusters.share"}
    assert [name for name, _ in both.named_parameters()] == [name for name, _ in chain.named_parameters()]


@pytest.mark.parametrize(
    "change", [lambda m: m.double(), lambda m: m.to(torch.float64), lambda m: copy.deepcopy(m).double()]
)
def test_a_mixture_and_its_chain_stay_in_step(change):
    both = change(Mixture(Diffusion(Network(), Schedule.cosine(5), 2, "v"), 3))
    assert {p.dtype for p in both.parameters()} == {p.dtype for p in both.chain.parameters()} == {F64}
    for mine, held in zip(both.parameters(), both.chain.parameters()):
        assert mine is held


def test_uncertain_classes_refuse_settings_of_the_chains_own_loss():
    chain = Diffusion(lambda z, t, k: z, Schedule.cosine(4), 1)
    with pytest.raises(InputError, match="uncertain classes"):
        Mixture(chain, 2).loss(X.clone(), objective="path")
    assert Mixture(chain, 2).loss(X.clone(), objective="path", cond=nearest(X)).shape == (9,)


@catches("""models/mixture.py: the noise of a responsibility depends on the place in the batch
- noise = [stream(seed, "responsibilities", device=x.device) for _ in k]
+ noise = stream(seed, "responsibilities", device=x.device)""")
def test_a_responsibility_depends_on_its_example_alone():
    chain = VAE(lambda x, k: (x + k[:, None], x * 0), lambda z, k: z * k[:, None], 1).double()
    both = Mixture(chain, 2)
    assert_close(both.responsibilities(X)[3:4], both.responsibilities(X[3:4]), rtol=0, atol=1e-12)


def test_a_chain_of_one_pass_samples_from_given_latents():
    chain = VAE(lambda x: (x, x * 0), lambda z: (z, torch.full_like(z, -40.0)), 1).double()
    assert_close(sample(chain, z=X), X, rtol=0, atol=1e-7)  # std exp(-20)
