"""Binarised digits and importance-weighted training: the draw, the bound, its gradient, what is evaluated."""

import dataclasses
import hashlib
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, LIMIT, assert_mean, f64, oracle, seeded
from kakusan.bound import importance_bound
from kakusan.cli.arguments import Data
from kakusan.cli.commands import data as describe
from kakusan.data.digits import FILE, TEST_SHA256, TRAIN_SHA256, fixed_draw, mnist
from kakusan.data.open import open_data
from kakusan.data.scale import BINARY
from kakusan.distributions import Dirichlet, DiscretizedNormal, Multinomial, Normal, copies, repeat
from kakusan.errors import InputError
from kakusan.models.hierarchical_vae import HierarchicalVAE
from kakusan.models.vae import VAE
from kakusan.nets.mlp import MLP, GaussianMLP, Residual
from kakusan.recipes import RECIPES, find
from kakusan.run.build import build, check_kind, count_parameters, start_at, training_loss, training_terms
from kakusan.run.families.hierarchy import HierarchyConfig
from kakusan.run.families.vae import VAEConfig
from kakusan.run.recipe import Recipe
from kakusan.run.trained_model import TrainedModel

CPU = torch.device("cpu")
PIXELS = (1, 2, 3)


@pytest.fixture(scope="module")
def data():
    return open_data("mnist-binary")


def sha256(images):
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


# The draw


@catches('''data/digits.py: the fixed draw depends on the byte order
- "<u4"
+ ">u4"''')
def test_the_fixed_draw_is_the_published_one(data):
    assert sha256(data.test) == TEST_SHA256
    assert sha256(fixed_draw(data.train, "train")) == TRAIN_SHA256


@catches("""data/digits.py: binarized test digits have the labels of training digits
- test_cond=gray.test_cond,
+ test_cond=gray.train_cond,""")
def test_digits_have_their_own_labels_in_either_form(data):
    with np.load(FILE) as arrays:
        for one in (mnist(), data):
            assert np.array_equal(one.train_cond, arrays["train_labels"])
            assert np.array_equal(one.test_cond, arrays["test_labels"])
            assert one.classes == tuple("0123456789")


def test_the_draw_is_made_of_its_documented_bytes():
    grey = torch.arange(256, dtype=torch.uint8).view(2, 1, 8, 16)
    expected = []
    for i in range(2):  # in plain integers: the uniform number r / 2^32 lies below u / 255
        raw = hashlib.shake_128(f"mnist-binary test {i}".encode()).digest(4 * 128)
        numbers = [int.from_bytes(raw[4 * k : 4 * k + 4], "little") for k in range(128)]
        expected += [255 * (255 * r < (128 * i + k) << 32) for k, r in enumerate(numbers)]
    assert fixed_draw(grey, "test").flatten().tolist() == expected


@catches("""data/digits.py: white pixels are not always set
- u * 256**BYTES // 255
+ u * 256**BYTES // 256""")
def test_every_grey_level_has_its_share_of_ones(data):
    grey = mnist().test.flatten().long()
    bits = data.test.flatten() == 255
    count, ones = torch.bincount(grey, minlength=256), torch.bincount(grey[bits], minlength=256)
    share = torch.arange(256) / f64(255)
    assert ones[0] == 0
    assert ones[255] == count[255]
    off = (ones - count * share) / (count * share * (1 - share)).sqrt()
    assert (off[1:-1].abs() < LIMIT).all()  # 254 levels of 1,800 and more pixels; false alarm 2e-3 in all
    assert off[1:-1].square().mean().item() == pytest.approx(1, abs=LIMIT * math.sqrt(2 / 254))


def test_an_image_is_drawn_without_regard_to_the_others_and_parts_differ(data):
    grey = mnist().test
    assert torch.equal(fixed_draw(grey[:3], "test"), data.test[:3])
    assert not torch.equal(fixed_draw(grey[:3], "train"), data.test[:3])
    same = fixed_draw(grey[:1].expand(2, -1, -1, -1), "test")
    assert not torch.equal(same[0], same[1])


def test_training_images_are_grey_and_drawn_anew_and_held_out_ones_are_fixed(data):
    assert torch.equal(data.train, mnist().train)
    first, second = (BINARY.to_model(data.train[:50], seeded(seed)) for seed in (0, 1))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert (first != second).any()
    held_out = [BINARY.to_model(data.test[:50], seeded(seed)) for seed in (0, 1)]
    assert torch.equal(held_out[0], held_out[1])
    assert torch.equal(held_out[0], data.test[:50] / 255)
    assert "bits" in data.describe()
    assert "drawn anew" in data.describe()


def test_the_command_describes_the_data_and_names_a_recipe_for_them(capsys):
    assert describe(Data("mnist-binary")) == 0
    out = capsys.readouterr().out
    assert "60,000 to train, 10,000 held out" in out
    assert "one fixed draw of bits" in out
    assert "kakusan train binary-best --data mnist-binary" in out


@pytest.mark.parametrize("name", ["mnist-ddpm", "mnist-vae", "mnist-hvae"])
def test_a_model_of_grey_levels_is_refused_bits(data, name):
    with pytest.raises(InputError, match="bits"):
        check_kind(find(name), data)


# Laws side by side


@pytest.mark.parametrize(
    ("law", "value"),
    [
        (Normal(torch.zeros(2, 3), torch.ones(())), torch.randn(2, 3, generator=seeded(0))),
        (Normal.from_log_var(torch.ones(3, 3), torch.randn(3, generator=seeded(1))), torch.zeros(3, 3)),
        (DiscretizedNormal(Normal(torch.zeros(2, 3), torch.ones(()))), f64([[-1, 0.2, 1], [1, 1, -1]]).float()),
        (Dirichlet(torch.tensor([[1.0, 2.0], [3.0, 0.5]])), torch.tensor([[0.2, 0.8], [0.5, 0.5]])),
        (Multinomial(torch.tensor([[0.5, 0.5], [0.1, 0.9]]), 3), torch.tensor([[1.0, 2.0], [3.0, 0.0]])),
    ],
)
def test_a_repeated_law_is_the_same_law_for_every_copy(law, value):
    assert torch.equal(repeat(law, 4).log_prob(copies(value, 4)), law.log_prob(value).repeat(4))
    assert torch.equal(repeat(law, 4).mean, copies(law.mean, 4))


# The importance-weighted bound in training: oracle O6, and a Bernoulli model by quadrature


def linear_vae():
    """O6: q(z | x) = N(V x + d, diag s^2), p(x | z) = N(W z + c, I), with its parameters as leaves."""
    inputs = {key: f64(value) for key, value in oracle("linear_vae")["generic_W"]["inputs"].items()}
    w, c, v, d, s = leaves = [inputs[key].requires_grad_() for key in ("W", "c", "V", "d", "s")]
    model = VAE(lambda x: (x @ v.T + d, 2 * s.log().expand(len(x), -1)), lambda z: z @ w.T + c, len(s)).double()
    return model, leaves, inputs["x"][None]


def test_the_gradient_is_that_of_an_independent_log_mean_of_weights():
    model, leaves, x = linear_vae()
    k = 7
    bound = importance_bound(model, x, k, seeded(0))
    gradient = torch.autograd.grad(bound.sum(), leaves)
    w, c, v, d, s = leaves
    eps = torch.randn(k, 2, generator=seeded(0), dtype=F64)
    z = x @ v.T + d + s * eps
    normal = torch.distributions.Normal
    log_w = (
        normal(0.0, 1.0).log_prob(z).sum(1)
        + normal(z @ w.T + c, 1.0).log_prob(x).sum(1)
        - normal(x @ v.T + d, s).log_prob(z).sum(1)
    )
    # Burda, Grosse and Salakhutdinov 2016, equation 13: the gradients of log w, weighed by w / sum w
    share = log_w.detach().softmax(0)
    expected = torch.autograd.grad((share * log_w).sum(), leaves)
    for ours, theirs in zip(gradient, expected):
        assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_with_many_draws_the_gradient_is_that_of_the_evidence():
    model, leaves, x = linear_vae()
    w, c, *_ = leaves
    cov = torch.eye(len(c), dtype=F64) + w @ w.T
    expected = torch.autograd.grad(torch.distributions.MultivariateNormal(c, cov).log_prob(x).sum(), (w, c))
    draws = [torch.autograd.grad(importance_bound(model, x, 1000, seeded(seed)).sum(), (w, c)) for seed in range(200)]
    # the bias, of order 1/K, is far below the standard error: 12 entries at 4.5 s.e.
    for which, exact in enumerate(expected):
        assert_mean(torch.stack([draw[which] for draw in draws]), exact)


def small(num_samples):
    """A VAE of six bits with two latents, the training loss of one image, and the pixels."""
    config = VAEConfig(hidden=(5,), latent=2, likelihood="bernoulli", importance_samples=num_samples)
    torch.manual_seed(0)
    model = build(config, PIXELS)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.2 if name.startswith("encoder") else 0.8)
    pixels = torch.tensor([0, 255, 255, 0, 255, 0], dtype=torch.uint8).view(1, *PIXELS)
    return model, training_loss(model, config, pixels), pixels


@torch.no_grad()
def quadrature(model, pixels):
    """ELBO and log p(x), in nats, by sums over a grid of z: float64, 400 x 400 points, +-8 about the origin."""
    line = torch.linspace(-8, 8, 400, dtype=F64)
    z = torch.cartesian_prod(line, line)
    area = (line[1] - line[0]) ** 2
    model, x = model.double(), (pixels.double() / 255)
    log_px = -F.binary_cross_entropy_with_logits(model.decoder(z), x.expand(len(z), *PIXELS), reduction="none")
    joint = log_px.flatten(1).sum(1) + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    mean, log_var = model.encoder(x)
    log_q = torch.distributions.Normal(mean, (log_var / 2).exp()).log_prob(z).sum(1)
    model.float()
    assert (log_q.exp().sum() * area).item() == pytest.approx(1, abs=1e-6)  # the grid reaches far enough
    return (log_q.exp() * (joint - log_q)).sum().item() * area.item(), (joint.exp().sum() * area).log().item()


def test_one_draw_trains_the_elbo_and_more_draws_rise_to_the_evidence():
    n, bounds, errors = 20_000, {}, {}
    for k in (1, 4, 50):
        model, loss, pixels = small(k)
        with torch.no_grad():
            nats = -6 * loss(torch.zeros(n if k == 1 else n // 10, dtype=torch.int64), seeded(k)).double()
        bounds[k], errors[k] = nats.mean().item(), nats.std().item() / math.sqrt(len(nats))
    elbo, evidence = quadrature(model, pixels)
    assert abs(bounds[1] - elbo) < LIMIT * errors[1]
    assert elbo + 0.05 < bounds[4] < bounds[50] - 0.01  # steps of many standard errors
    assert bounds[50] < evidence + LIMIT * errors[50]
    assert evidence - bounds[50] < 0.1 * (evidence - elbo)


def test_paths_in_parts_have_the_law_of_paths_at_once(monkeypatch):
    model, _, x = linear_vae()
    with torch.no_grad():
        whole = importance_bound(model, x.expand(4000, -1), 6, seeded(0))
        monkeypatch.setattr("kakusan.bound.PATHS_AT_ONCE", 4 * 4000)  # four draws, then two
        parts = importance_bound(model, x.expand(4000, -1), 6, seeded(1))
    known = oracle("linear_vae")["generic_W"]["outputs"]
    assert_mean(parts.exp(), math.exp(known["log_marginal"]))  # theory S45, 4.5 s.e.
    assert_mean(parts - whole, 0.0)


def test_draws_of_an_example_with_its_own_stream_do_not_depend_on_its_neighbours():
    model, _, x = linear_vae()
    two = torch.cat([x, x + 1])
    together = importance_bound(model, two, 5, [seeded(0), seeded(1)])
    alone = importance_bound(model, two[1:], 5, [seeded(1)])
    assert_close(together[1:], alone, rtol=1e-12, atol=0)


def test_the_lowest_encoder_is_asked_once_and_every_other_network_once_a_draw():
    asked = {}

    def count(name, out):
        def net(z):
            asked[name] = asked.get(name, 0) + len(z)
            return (z[:, :out], z[:, :out]) if name.startswith("e") else z.repeat(1, 4)[:, :out]

        return net

    model = HierarchicalVAE([count("e1", 2), count("e2", 1)], [count("d1", 3), count("d2", 2)], (2, 1))
    importance_bound(model, torch.ones(3, 3), 10, seeded(0))
    assert asked == {"e1": 3, "e2": 30, "d1": 30, "d2": 30}


@pytest.mark.parametrize("form", ["exact", "notes"])
def test_the_terms_of_a_step_sum_to_its_loss(form):
    config, rows = HierarchyConfig(hidden=4, latents=(2, 2), third_term=form), torch.arange(3)
    module, pixels = build(config, PIXELS), torch.arange(18, dtype=torch.uint8).view(3, *PIXELS)
    loss = training_loss(module, config, pixels)(rows, seeded(1))
    terms = training_terms(module, config, pixels, rows, seeded(1))
    assert_close(-sum(terms.values()) / 6, loss)


def test_the_notes_form_and_importance_samples_exclude_each_other():
    with pytest.raises(InputError, match="exact"):
        build(HierarchyConfig(third_term="notes", importance_samples=5), PIXELS)
    with pytest.raises(InputError, match="importance_samples"):
        build(VAEConfig(importance_samples=0), PIXELS)


# Networks and recipes


def test_the_iwae_recipe_has_the_papers_network():
    model = build(find("binary-iwae").model, (1, 28, 28))
    encoder = 784 * 200 + 200 + 200 * 200 + 200 + 2 * (200 * 50 + 50)
    decoder = 50 * 200 + 200 + 200 * 200 + 200 + 200 * 784 + 784
    assert count_parameters(model) == encoder + decoder
    assert sum(isinstance(module, nn.Tanh) for module in model.modules()) == 4


def test_a_residual_layer_adds_to_what_it_reads_only_where_both_are_as_wide():
    net = GaussianMLP((3,), (4, 4, 2), (1,), residual=True)
    for parameter in net.body.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(net.body[0].bias, 1.5)  # the first layer gives 1.5, the second adds 0, the third replaces
    h = torch.ones(1, 3)
    widths = []
    for layer in net.body:
        h = layer(h)
        widths.append((h.shape[1], h[0, 0].item()))
    assert widths == [(4, 1.5), (4, 1.5), (4, 1.5), (2, 0.0), (2, 0.0)]
    plain = GaussianMLP((3,), (4, 4, 2), (1,))
    assert not any(isinstance(module, Residual) for module in plain.modules())


@pytest.mark.parametrize(("activation", "at_minus_one"), [("relu", 0.0), ("tanh", -0.76159416), ("silu", -0.26894142)])
def test_hidden_layers_have_the_activation_that_was_asked_for(activation, at_minus_one):
    net = MLP((1,), (1,), (1,), activation=activation)
    for parameter, value in zip(net.parameters(), (1.0, -1.0, 1.0, 0.0)):
        nn.init.constant_(parameter, value)
    assert net(torch.zeros(1, 1)).item() == pytest.approx(at_minus_one, abs=1e-6)


def test_a_deep_hierarchy_has_the_layers_and_the_variances_that_were_asked_for():
    config = HierarchyConfig(
        hidden=7, upper_hidden=5, layers=3, latents=(4, 2), likelihood="bernoulli", variance="learned", residual=True
    )
    model = build(config, PIXELS)
    widths = [[m.out_features for m in net.body.modules() if isinstance(m, nn.Linear)] for net in model.encoders]
    assert widths == [[7] * 3, [5] * 3]
    assert widths == [[m.out_features for m in n.body.modules() if isinstance(m, nn.Linear)] for n in model.decoders]
    z = torch.randn(9, 2, generator=seeded(0))
    assert model.decode(z, 2).var.std() > 0
    assert (build(dataclasses.replace(config, variance="unit"), PIXELS).decode(z, 2).var == 1).all()


@pytest.mark.parametrize(
    "config",
    [
        VAEConfig(hidden=(8,), latent=2, likelihood="bernoulli"),
        HierarchyConfig(hidden=8, latents=(4, 2), likelihood="bernoulli"),
    ],
)
def test_an_untrained_decoder_of_bits_gives_the_mean_image_on_average(config):
    model = build(config, (1, 1, 4))
    pixels = torch.tensor([[0, 51, 102, 255]], dtype=torch.uint8).view(1, 1, 1, 4).repeat(9, 1, 1, 1)
    start_at(model, config, pixels)
    nn.init.zeros_((model.decoder if isinstance(model, VAE) else model.decoders[0]).out.weight)
    z = torch.randn(3, model.prior().mean.shape[1])
    below = z if model.depth == 1 else model.decode(z, 2).mean
    expected = torch.tensor([0.001, 0.2, 0.4, 0.999]).expand(3, 1, 1, 4)
    assert_close(model.decode(below, 1).mean, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("binary-")])
def test_a_recipe_of_bits_trains_on_them(data, name):
    check_kind(find(name), data)
    assert find(name).data == "mnist-binary"


# Evaluation


def trained(**settings):
    torch.manual_seed(0)
    config = VAEConfig(hidden=(16,), latent=4, likelihood="bernoulli", **settings)
    recipe = Recipe("small", "", config, data="mnist-binary")
    return TrainedModel(recipe, build(config, (1, 28, 28)), (1, 28, 28), CPU)


def test_evaluation_is_of_the_fixed_draw_whatever_the_seed(data):
    model = trained()
    indices = torch.arange(100)
    for seed in (0, 1):
        assert torch.equal(model.batches(data.test, seed)(indices), data.test[:100] / 255)


def test_evaluating_by_importance_averages_the_weights_of_independent_draws(data):
    model, pixels = trained(), data.test[:40]
    result = model.evaluate(pixels, importance_samples=200)
    assert result.network_evaluations == 40 * (1 + 200)  # one encoder call an image, one decoder call a draw
    x = pixels.double().flatten(1) / 255
    with torch.no_grad():
        mean, log_var = (out.double() for out in model.chain.encoder(x.float()))
        q = torch.distributions.Normal(mean, (log_var / 2).exp())
        z = q.mean + q.stddev * torch.randn(200, 40, 4, generator=seeded(5), dtype=F64)
        logits = model.chain.decoder(z.float().flatten(0, 1)).double().view(200, 40, 784)
    bits = torch.distributions.Bernoulli(logits=logits).log_prob(x)
    log_w = bits.sum(-1) + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z).sum(-1)
    bound = log_w.logsumexp(0) - math.log(200)
    # both have the error of 200 draws for each of 40 images, and a bias of 1/200 of the weights' variance in common
    error = (log_w - bound).exp().std(0).square().mean().sqrt().item() / math.sqrt(200 * 40)
    assert abs(result.nats + bound.mean().item()) < LIMIT * math.sqrt(2) * error
    assert result.nats < model.evaluate(pixels).nats
