"""Each model family is trained for a second and generates; a little training on digits raises the bound."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, LIMIT, SMALL_BETAS, seeded
from kakusan.bound import ancestral_sample, elbo
from kakusan.chain import log_weight
from kakusan.data.digits import mnist
from kakusan.data.scale import BINARY
from kakusan.distributions import add
from kakusan.errors import InputError
from kakusan.measure.classifier import classifier
from kakusan.models.diffusion import Diffusion
from kakusan.models.hierarchical_vae import HierarchicalVAE
from kakusan.models.vae import VAE
from kakusan.nets.mlp import MLP, GaussianMLP
from kakusan.objectives.notes_third_term import notes_third_term
from kakusan.run.build import build
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.schedule import Schedule
from kakusan.solvers import sample

SMALL = Schedule.from_betas(SMALL_BETAS)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small networks train faster on one thread, many times so where others use the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# S1, S29: every family trains and generates


class TimedMLP(nn.Module):
    """z_t and t, side by side, through a perceptron."""

    def __init__(self, dims: int):
        super().__init__()
        self.body = MLP((dims + 1,), (32,), (dims,))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return self.body(torch.cat([z, t[:, None] / SMALL.depth], 1))


def small_family(name: str):
    """An untrained model of four numbers, and the loss of its training."""
    if name == "diffusion":
        model = Diffusion(TimedMLP(4), SMALL, 4)
        return model, model.loss
    encoders = [GaussianMLP((4,), (32,), (2,)), GaussianMLP((2,), (32,), (2,))]
    decoders = [MLP((2,), (32,), (4,)), MLP((2,), (32,), (2,))]
    if name == "vae":
        model = VAE(encoders[0], decoders[0], 2)
    else:
        model = HierarchicalVAE(encoders, decoders, [2, 2])
    if name == "hierarchy, notes' form":
        return model, lambda x, generator: -add(notes_third_term(model, x, generator).values())
    return model, lambda x, generator: -add(model.terms(x, generator=generator).values())


@pytest.mark.proves("S1", "S29", "S33")
@pytest.mark.parametrize("family", ["vae", "hierarchy", "hierarchy, notes' form", "diffusion"])
def test_each_family_is_trained_in_a_second_and_generates_data_of_its_shape(family):
    torch.manual_seed(0)
    model, loss = small_family(family)
    mixing = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.0, 1.0, 1.5, -2.0]])
    optimiser, losses = torch.optim.Adam(model.parameters(), 5e-3), []
    x, q = (
        torch.ones(3, 4),
        [model.encode(torch.ones(3, 4), t) for t in range(1, model.depth + 1) if family == "diffusion"],
    )
    for step in range(200):
        batch = torch.randn(64, 2, generator=seeded(step)) @ mixing
        value = loss(batch, seeded(1000 + step)).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
    samples = ancestral_sample(model, 5, seeded(0))
    assert samples.shape == (5, 4)
    assert samples.isfinite().all()
    for t, before in enumerate(q, start=1):  # theory S33: the noise is bitwise what it was
        assert torch.equal(model.encode(x, t).mean, before.mean)
        assert torch.equal(model.encode(x, t).std, before.std)


# S2, S11, S28: digits

SMALL = Schedule.from_betas(SMALL_BETAS)


@pytest.fixture(scope="module")
def digits():
    """Black and white pixels, flat: 20,000 digits to train on and 500 held out."""
    data = mnist()
    return tuple(BINARY.to_model(part, seeded(0)).flatten(1) for part in (data.train[:20_000], data.test[:500]))


def held_out_bound(model, x: Tensor) -> float:
    return elbo(model, x, seeded(7)).mean().item()


@pytest.fixture(scope="module", params=[1, 2], ids=["one level", "two levels"])
def trained(request, digits):
    """The notes' networks after a second or two of training, and their held-out bound before and after."""
    torch.manual_seed(0)
    model = build(HierarchyConfig(latents=(20,) * request.param, likelihood="bernoulli"), (784,))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    train, test = digits
    bounds = [held_out_bound(model, test)]
    for step in range(300):
        rows = torch.randint(len(train), (64,), generator=seeded(step))
        optimiser.zero_grad()
        (-add(model.terms(train[rows], generator=seeded(step)).values())).mean().backward()
        optimiser.step()
    return model, [*bounds, held_out_bound(model, test)]


@pytest.mark.proves("S11")
@catches("""models/hierarchical_vae.py: the latents above the first have the likelihood of the data
- if t == 1 else gaussian(output)
+ if t >= 1 else gaussian(output)""")
def test_two_levels_can_do_what_one_can_and_their_bounds_compare():
    """A top level that says nothing: z_2 ~ N(0, I) in both directions, and p(z_1 | z_2) = N(0, I) for every z_2."""
    up = lambda x: (x @ torch.ones(4, 2, dtype=F64) / 4, 0.1 * x[:, :2] - 1)  # noqa: E731
    down = lambda z: torch.cat([z, z.square()], 1)  # noqa: E731
    nothing = lambda z: (torch.zeros(len(z), 2, dtype=F64), torch.zeros(len(z), 2, dtype=F64))  # noqa: E731
    one = HierarchicalVAE([up], [down], [2], "bernoulli").double()
    two = HierarchicalVAE([up, nothing], [down, lambda z: 0 * z], [2, 2], "bernoulli").double()
    x, z = (torch.rand(5, 4, generator=seeded(0)) < 0.5).double(), torch.randn(5, 2, generator=seeded(1), dtype=F64)
    top = torch.randn(5, 2, generator=seeded(2), dtype=F64)
    assert_close(log_weight(two, [x, z, top]), log_weight(one, [x, z]), rtol=1e-12, atol=1e-12)
    # the terms have the same mean: the lower level is drawn in one, and in closed form in the other
    many = x[:1].expand(20_000, -1)
    found = [add(model.terms(many, generator=seeded(3)).values()) for model in (one, two)]
    standard_error = math.sqrt(sum(values.var().item() / len(many) for values in found))
    assert abs(found[0].mean() - found[1].mean()).item() < LIMIT * standard_error


@pytest.mark.proves("S2")
def test_a_little_training_on_digits_raises_the_held_out_bound(trained, record_property):
    _, (before, after) = trained
    record_property("held-out bound in nats", after)  # one level beside two: reported, not judged (theory S11)
    assert before < -500  # of 784 coins: 543 nats
    assert after > -200


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|A - B| - E|A - A'| - E|B - B'|, zero for equal laws. Source: Szekely and Rizzo 2013."""
    within = [torch.cdist(s, s).sum() / (len(s) * (len(s) - 1)) for s in (a, b)]
    return (2 * torch.cdist(a, b).mean() - sum(within)).item()


@pytest.mark.proves("S2")
@catches("""bound.py: samples start far outside the prior
- z = chain.prior(cond).expand(n).sample(generator) if z is None
+ z = 9 * chain.prior(cond).expand(n).sample(generator) if z is None""")
def test_samples_are_nearer_to_digits_than_noise_and_shuffled_pixels_are(trained, digits):
    train, test = digits

    def distance(pictures: Tensor) -> float:
        """To held-out digits, in the 64 numbers by which a classifier tells digits apart."""
        features = classifier("digits").features
        return energy_distance(*(features(2 * x.view(-1, 1, 28, 28) - 1) for x in (pictures, test)))

    shuffled = torch.stack([row[torch.randperm(784, generator=seeded(i))] for i, row in enumerate(train[:500])])
    samples = distance(ancestral_sample(trained[0], 500, seeded(0), mean_output=True))
    assert samples < 0.5 * distance(shuffled)
    assert samples < 0.5 * distance(torch.rand(500, 784, generator=seeded(1)))
    assert distance(train[500:1000]) < 0.2 * samples  # the floor: other digits, in 500 draws


NET = nn.Linear(3, 3)  # a global, as in a notebook


def test_a_function_moves_and_counts_the_networks_that_it_names():
    inner = nn.Linear(3, 3)
    for function in (lambda z, t: NET(z), lambda z, t: inner(z)):
        chain = Diffusion(function, Schedule.cosine(4), 3)
        assert len(list(chain.parameters())) == 2
        with pytest.raises(InputError, match="pass the network itself"):
            copy.deepcopy(chain)


def test_latents_and_conditions_of_different_lengths_are_refused():
    chain = Diffusion(lambda z, t, cond: z, Schedule.cosine(4), 3)
    with pytest.raises(InputError, match="3 samples need z and cond of that length, got 2, 3"):
        sample(chain, z=torch.zeros(2, 3), cond=torch.zeros(3, dtype=torch.int64))


def test_options_of_a_diffusion_solver_are_refused_by_a_chain_of_one_pass():
    vae = VAE(lambda x: (x, x), lambda z: z, 3)
    for option in ({"steps": 3}, {"end_log_snr": 2.0}, {"spacing": "karras"}):
        with pytest.raises(InputError, match=f"{next(iter(option))}: only for diffusion models"):
            sample(vae, 2, **option)
