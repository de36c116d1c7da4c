"""The hinge of the theory: a hierarchy with fixed noise as its encoders is the diffusion model, term by term (S32-S34)."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, SMALL_BETAS, f64, gauss_hermite, mean_of, seeded
from kakusan.bound import elbo, sample_path
from kakusan.chain import LatentChain, log_weight
from kakusan.models.diffusion import Diffusion
from kakusan.models.hierarchical_vae import HierarchicalVAE
from kakusan.schedule import Schedule

BETA = f64(SMALL_BETAS)
ALPHA_BAR = (1 - BETA).cumprod(0)
EXACT = {"rtol": 0.0, "atol": 1e-12}  # float64; the terms are a few nats


class Denoiser(nn.Module):
    """A fixed random network (z_t, t) -> noise that no affine map equals."""

    def __init__(self, dims: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dims + 1, 8), nn.Tanh(), nn.Linear(8, dims)).to(F64)
        for number, parameter in enumerate(self.layers.parameters()):
            nn.init.normal_(parameter, generator=seeded(number))

    def forward(self, z, t):
        return self.layers(torch.cat([z, t[:, None].to(F64) / 5], dim=1))


def two_models(dims, depth=5):
    """The diffusion model of a network, and the hierarchy that the two changes make of it, written out by hand."""
    net = Denoiser(dims)

    def encoder(t):
        return lambda z: ((1 - BETA[t - 1]).sqrt() * z, BETA[t - 1].log().expand_as(z))

    def decoder(t):
        beta, alpha_bar = BETA[t - 1], ALPHA_BAR[t - 1]

        def down(z):
            eps = net(z, torch.full((len(z),), t))
            return (z - beta / (1 - alpha_bar).sqrt() * eps) / (1 - beta).sqrt(), beta.log().expand_as(z)

        return down

    levels = range(1, depth + 1)
    hierarchy = HierarchicalVAE([encoder(t) for t in levels], [decoder(t) for t in levels], [dims] * depth).double()
    return Diffusion(net, Schedule.from_betas(BETA[:depth]), dims).double(), hierarchy


def data(dims):
    return torch.randn(6, dims, generator=seeded(9), dtype=F64)


@pytest.mark.proves("S32", "S33", "S34")
@catches("""models/diffusion.py: a step of the forward process keeps the whole signal
- return Normal.from_var((1 - beta).sqrt() * z, beta)
+ return Normal.from_var(z, beta)""")
@catches("""models/hierarchical_vae.py: the encoders run from the top down
- output = evaluate(self.encoders[t - 1], z, cond=cond)
+ output = evaluate(self.encoders[-t], z, cond=cond)""")
def test_both_models_give_one_path_one_weight():
    diffusion, hierarchy = two_models(3)
    x = data(3)
    path = sample_path(diffusion, x, seeded(1))
    assert_close(sample_path(hierarchy, x, seeded(1)), path, **EXACT)
    assert_close(log_weight(hierarchy, path), log_weight(diffusion, path), **EXACT)
    far = [10 * torch.randn(6, 3, generator=seeded(t), dtype=F64) for t in range(6)]  # a path that nobody drew
    assert_close(log_weight(hierarchy, far), log_weight(diffusion, far), rtol=1e-12, atol=0.0)


@catches("""chain.py: the term of a level takes the decoder of the level below
- down = self.prior(cond) if t == self.depth else self.decode(path[t + 1], t + 1, cond)
+ down = self.prior(cond) if t == self.depth else self.decode(path[t + 1], t, cond)""")
def test_each_term_of_a_path_is_the_same_and_belongs_to_its_level():
    diffusion, hierarchy = two_models(3)
    x = data(3)
    path = sample_path(diffusion, x, seeded(1))
    terms, others = (LatentChain.draw_terms(model, x, None, seeded(1)) for model in (diffusion, hierarchy))
    assert list(terms) == list(others) == ["reconstruction", *[f"level {t}" for t in range(1, 6)]]
    for name in terms:
        assert_close(others[name], terms[name], **EXACT)
    assert_close(terms["reconstruction"], hierarchy.decode(path[1], 1).log_prob(x), **EXACT)
    for t in range(1, 5):
        by_hand = hierarchy.decode(path[t + 1], t + 1).log_prob(path[t]) - hierarchy.encode(path[t - 1], t).log_prob(
            path[t]
        )
        assert_close(terms[f"level {t}"], by_hand, **EXACT)


@catches("""models/hierarchical_vae.py: the closed form of a level's term lacks the entropy
- terms[f"level {level}"] = q[level - 1].entropy() + p.log_prob(path[level])
+ terms[f"level {level}"] = p.log_prob(path[level])""")
def test_the_closed_forms_of_the_hierarchy_have_the_mean_of_the_diffusion_models_weight():
    diffusion, hierarchy = two_models(1, depth=2)
    eps, weights = gauss_hermite(2)  # exact in each noise that enters squared, whatever the network
    path = [f64([[0.7]]).expand(len(eps), 1)]
    for t in (1, 2):
        q = diffusion.encode(path[-1], t)
        path.append(q.mean + q.std * eps[:, t - 1 : t])
    closed = sum(hierarchy.terms_on(path).values())
    assert mean_of(closed, weights) == pytest.approx(mean_of(log_weight(diffusion, path), weights), abs=1e-10)


def test_training_on_either_bound_moves_the_network_alike():
    diffusion, hierarchy = two_models(3)
    grads = []
    for model in (diffusion, hierarchy):
        bound = elbo(model, data(3), seeded(2)).mean()
        grads.append(torch.autograd.grad(bound, list(diffusion.parameters())))
    assert_close(grads[1], grads[0], rtol=1e-12, atol=1e-12)
