"""What every denoiser keeps, whichever network it is; and what is special in each of them."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.faults import catches
from harness.support import F64, status
from kakusan.errors import InputError
from kakusan.nets import NETWORKS
from kakusan.nets.cosine import CosineMLP, cosine_basis
from kakusan.nets.folding import Folding
from kakusan.nets.layers import attend
from kakusan.nets.transformer import Attention, Block, Transformer
from kakusan.nets.unet import PositionMixer
from kakusan.recipes import RECIPES
from kakusan.run.build import blueprint, build, count_parameters, training_loss
from kakusan.run.families.diffusion import DiffusionConfig
from kakusan.run.trained_model import load
from kakusan.training import checkpoint
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget

SMALL = {
    "unet": {"width": 8, "inner_width": 16, "blocks": 2},
    "convnext": {"width": 16, "blocks": 2, "patch": 2},
    "transformer": {"width": 16, "blocks": 2, "patch": 2},
    "cosine": {"width": 16, "blocks": 2},
    "classic": {"width": 8, "inner_width": 16, "blocks": 1},
}
every_network = pytest.mark.parametrize("name", SMALL)


def small(name, shape=(1, 8, 8), **changes):
    """A small network of one kind in float64, for ten steps."""
    torch.manual_seed(0)
    config = DiffusionConfig(depth=10, network=name, **SMALL[name], **changes)
    return NETWORKS[name].from_config(config, shape).double()


def stirred(network):
    """With random weights everywhere: those that start at zero hide the others."""
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return network


def random_z(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=F64)


@pytest.mark.proves("S40", "O24")
@catches("""nets/folding.py: a learned variance's v is left as log-odds
- return prediction, logit.sigmoid()
+ return prediction, logit""")
@every_network
@pytest.mark.parametrize("time", ["sinusoidal", "table"])
@pytest.mark.parametrize("size", [(28, 28), (8, 8), (5, 7), (30, 33)])
def test_a_network_takes_any_height_and_width(name, time, size):
    network = stirred(small(name, (2, *size), time=time, variance="learned"))
    prediction, v = network(random_z(3, 2, *size), torch.tensor([1, 5, 10]))
    assert prediction.shape == v.shape == (3, 2, *size)
    assert ((v >= 0) & (v <= 1)).all()
    assert v.std() > 0
    assert small(name, (3, *size))(random_z(1, 3, *size), torch.tensor([10])).shape == (1, 3, *size)


@catches("""nets/layers.py: a layer that is to start at zero does not
- nn.init.zeros_(parameter)
+ nn.init.normal_(parameter)""")
@every_network
def test_a_fresh_network_predicts_zero(name):
    prediction, v = small(name, variance="learned")(random_z(2, 1, 8, 8), torch.tensor([1, 4]))
    assert (prediction == 0).all()
    assert (v == 0.5).all()


@pytest.mark.proves("S39", "O24")
@catches("""nets/convnext.py: a convnext is not told the time [convnext]
- self.modulation(e)[:, None, None]
+ self.modulation(0 * e)[:, None, None]""")
@every_network
def test_the_output_of_a_network_depends_on_the_timestep(name):
    network = stirred(small(name))
    z = random_z(1, 1, 8, 8)
    assert (network(z, torch.tensor([1])) - network(z, torch.tensor([9]))).abs().max() > 1e-3


@catches("""nets/convnext.py: a convnext's neighbours are the examples of a batch [convnext]
- self.norm = nn.LayerNorm(width)
-         self.modulation
+ self.norm = lambda h: h - h.mean(0)
+         self.modulation""")
@every_network
def test_an_example_is_denoised_by_itself(name):
    network = stirred(small(name, (2, 6, 7)))
    z, t = random_z(3, 2, 6, 7), torch.tensor([2, 9, 5])
    alone = torch.cat([network(z[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(z, t), alone, rtol=1e-9, atol=1e-9)  # float64, sums in another order


@every_network
@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_every_pixel_hears_of_every_other(name, size):
    network = stirred(small(name, (1, *size)))
    z, t = random_z(1, 1, *size), torch.tensor([5])
    jacobian = torch.autograd.functional.jacobian(lambda z: network(z, t).flatten(), z)
    assert (jacobian.abs() > 1e-12).all()


@every_network
def test_every_parameter_has_a_gradient(name):
    network = stirred(small(name, variance="learned"))
    prediction, v = network(random_z(2, 1, 8, 8), torch.tensor([1, 4]))
    (prediction.square().sum() + v.square().sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@catches("""nets/layers.py: depthwise convolutions are orthogonalized [convnext]
- and getattr(layer, "groups", 1) == 1]
+ ]""")
@every_network
def test_hidden_matrices_are_weights_without_the_first_the_last_and_the_time(name):
    network = small(name)
    names = {id(p): name for name, p in network.named_parameters()}
    hidden = [names[id(p)] for p in network.hidden_matrices()]
    assert len(hidden) == len(set(hidden)) >= 4
    for one in hidden:
        assert one.endswith("weight")
        assert not one.startswith(("first", "last", "time", "wholes"))
        assert not any(part in one for part in ("modulation", "norm", "across"))


@every_network
def test_a_networks_blueprint_is_that_of_the_network_and_allocates_nothing(name):
    config = DiffusionConfig(network=name, **SMALL[name])
    found = {key: (tuple(value.shape), value.dtype) for key, value in build(config, (3, 9, 5)).state_dict().items()}
    assert blueprint(config, (3, 9, 5)) == found
    with pytest.raises(InputError, match="parameters, more than"):  # 2^40 numbers and more, in no time
        blueprint(DiffusionConfig(network=name, width=4096, inner_width=4096, blocks=32), (3, 2048, 2048))


@catches("""run/build.py: a blueprint draws normal numbers
- torch.device("meta"), _WithoutNormalDraws(), warnings
+ torch.device("meta"), warnings""")
@catches("""models/clusters.py: a blueprint pools an image on the meta device
- torch.zeros(num, num_features(event_shape), dtype
+ torch.zeros(num, coarse(torch.zeros(1, *event_shape)).shape[1], dtype""")
def test_a_blueprint_draws_nothing_and_imports_no_compiler(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError(
            "on the meta device the first normal draw or pooling imports torch's compiler, for more than a second"
        )

    monkeypatch.setattr(torch._refs, "normal_", refuse, raising=False)
    monkeypatch.setattr(torch.Tensor, "normal_", refuse)
    monkeypatch.setattr(F, "avg_pool2d", refuse)
    blueprint.cache_clear()
    for name in SMALL:
        assert blueprint(DiffusionConfig(network=name, depth=12, clusters=3, **SMALL[name]), (1, 20, 20))


def test_the_blueprint_of_the_demo_imports_nothing_of_torch_that_import_torch_does_not():
    script = """
import sys, torch
before = set(sys.modules)
from kakusan.recipes import find
from kakusan.run.build import blueprint
assert blueprint(find("mnist-ddpm").model, (1, 28, 28))
print(sorted(name for name in set(sys.modules) - before if name.startswith(("torch.fx", "torch._", "sympy"))))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@every_network
def test_bfloat16_autocast_changes_the_prediction_by_its_rounding_alone(name):
    network = stirred(small(name)).float()
    z, t = random_z(4, 1, 8, 8).float(), torch.tensor([1, 4, 7, 10])
    exact = network(z, t)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(z, t).float()
    # 8 bits of mantissa are 0.4 % a rounding, and some ten roundings lie one after the other
    assert (rounded - exact).norm() < 0.05 * exact.norm()


@catches("""nets/layers.py: bfloat16 numbers are normalised as such [unet]
- super().forward(input.to(self.weight.dtype) if input.dtype == torch.bfloat16 else input)
+ super().forward(input)""")
@pytest.mark.parametrize("name", ["unet", "classic"])
def test_under_bfloat16_autocast_groups_are_normalised_in_float32(name):
    network, seen = small(name).float(), set()
    for layer in network.modules():
        if isinstance(layer, nn.GroupNorm):
            layer.register_forward_hook(lambda layer, inputs, output: seen.add(output.dtype))
    z, t = random_z(2, 1, 8, 8).float(), torch.tensor([1, 4])
    with torch.autocast("cpu", torch.bfloat16):
        network(z, t)
    assert seen == {torch.float32}
    assert network.to(torch.bfloat16)(z.bfloat16(), t).dtype == torch.bfloat16  # weights of it are normalised in it


@catches("""nets/layers.py: logits of attention are rounded to bfloat16 [dtype1-0.0025]
- F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(value.dtype)
+ torch.softmax(query @ key.transpose(2, 3) * query.shape[3] ** -0.5, dim=3) @ value""")
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-12), (torch.bfloat16, 0.0025)])
def test_attention_is_its_definition_in_either_precision(dtype, tolerance):
    query, key, value = (
        one.to(dtype) for one in random_z(3, 2, 3, 64, 64) * torch.tensor([2, 2, 1]).view(3, 1, 1, 1, 1)
    )
    logits = torch.einsum("bhpw,bhqw->bhpq", query.double(), key.double()) / 8  # 4 or so
    weights = (logits - logits.amax(3, keepdim=True)).exp()
    wanted = torch.einsum("bhpq,bhqw->bhpw", weights / weights.sum(3, keepdim=True), value.double())
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(query, key, value)
    assert found.dtype == dtype
    # what comes out is rounded once, by 0.4 % at most, 0.17 % in the mean square; with rounded logits it is 0.6 %
    assert (found.double() - wanted).norm() < tolerance * wanted.norm()


@every_network
def test_a_network_compiles_as_one_graph(name):
    network = stirred(small(name, variance="learned"))
    z, t = random_z(2, 1, 8, 8), torch.tensor([1, 4])
    compiled = torch.compile(network, fullgraph=True, backend="eager")  # no compiler of machine code is needed
    for one, other in zip(compiled(z, t), network(z, t)):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def training(name):
    """Six steps of a small network on random pictures."""
    recipe = RECIPES["mnist-ddpm"]
    config = DiffusionConfig(depth=10, network=name, **SMALL[name])
    torch.manual_seed(0)
    module = build(config, (1, 8, 8))
    data = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    optim = dataclasses.replace(recipe.optim, batch=8, warmup=2)
    loss = training_loss(module, config, data)
    return Trainer(module, loss, len(data), optim, Budget(steps=6), seed=1, device=torch.device("cpu"))


@every_network
def test_training_goes_on_to_the_same_bits(name, tmp_path):
    whole, broken, resumed = (training(name) for _ in range(3))
    whole.go_to(6)
    broken.go_to(3)
    checkpoint.save(broken, tmp_path)
    checkpoint.restore(resumed, tmp_path)
    resumed.go_to(6)
    (tensors, _), (others, _), (halfway, _) = whole.snapshot(), resumed.snapshot(), broken.snapshot()
    for part in ("model", "ema", "optimizer"):
        assert all(torch.equal(tensor, others[part][key]) for key, tensor in tensors[part].items())
    assert not all(torch.equal(tensor, halfway["model"][key]) for key, tensor in tensors["model"].items())


@every_network
def test_the_command_trains_it(name, tmp_path):
    np.save(tmp_path / "pictures.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    settings = [word for key, value in SMALL[name].items() for word in (f"--model.{key.replace('_', '-')}", value)]
    command = ["train", "mnist-ddpm", "--data", tmp_path / "pictures.npy", "--model.network", name, *settings]
    command += ["--model.depth", 10, "--optim.batch", 8, "--steps", 2, "--out", tmp_path / "run"]
    assert status(*command) == 0
    assert load(tmp_path / "run").recipe.model.network == name


# Folding


@catches("""nets/folding.py: pictures are padded on the left
- (0, -width % multiple, 0, -height % multiple)
+ (-width % multiple, 0, 0, -height % multiple)""")
@pytest.mark.parametrize(("fold", "multiple"), [(1, None), (2, None), (2, 4), (7, None)])
@pytest.mark.parametrize("size", [(28, 28), (5, 7), (1, 9)])
def test_what_is_folded_comes_back(size, fold, multiple):
    folding = Folding(3, size, fold, multiple)
    z = random_z(2, 3, *size)
    folded = folding.into(z)
    assert folded.shape == (2, folding.channels_in, *folding.grid)
    assert all(side * fold % (multiple or fold) == 0 for side in folding.grid)
    assert torch.equal(folding.back(folded), z)


# The transformer


@catches("""nets/transformer.py: keys have any length
- self.norm(query), self.norm(key), value
+ self.norm(query), key, value""")
def test_attention_is_the_softmax_of_normalised_queries_and_keys():
    torch.manual_seed(0)
    attention = stirred(Attention(128)).double()
    x = random_z(2, 5, 128)

    def expected(rows):  # one example, one head after the other, by the definition
        heads = []
        for head in range(2):
            own = slice(64 * head, 64 * head + 64)
            query, key, value = (F.linear(rows, part[own]) for part in attention.ask.weight.chunk(3))
            query, key = (8 * rows / rows.norm(dim=1, keepdim=True) for rows in (query, key))
            weights = (query @ key.T / 8).exp()
            heads.append(weights / weights.sum(1, keepdim=True) @ value)
        return F.linear(torch.cat(heads, 1), attention.answer.weight, attention.answer.bias)

    with torch.no_grad():
        # float64; the normalisation's epsilon is 2e-16
        torch.testing.assert_close(attention(x), torch.stack([expected(rows) for rows in x]), rtol=1e-10, atol=1e-10)


@catches("""nets/transformer.py: a transformer does not know where a patch lies
- self.first(patches) + self.positions
+ self.first(patches) + 0 * self.positions""")
def test_a_transformer_knows_where_a_patch_lies_by_the_learned_positions_alone():
    network = stirred(Transformer(1, (8, 8), 10, width=16, blocks=2, patch=4)).double()
    z, t = random_z(1, 1, 8, 8), torch.tensor([3])

    def swapped(picture):  # upper and lower half: two patches each
        return picture.roll(4, dims=2)

    assert (network(swapped(z), t) - swapped(network(z, t))).abs().max() > 1e-3
    torch.nn.init.zeros_(network.positions)
    torch.testing.assert_close(network(swapped(z), t), swapped(network(z, t)), rtol=1e-9, atol=1e-9)


def test_a_transformer_scales_from_one_million_parameters_to_a_hundred():
    # by hand, without the ends: of a block with D channels, hidden H and E features of t
    #   6 D (E + 1) modulation, 4 D^2 + D attention, D 2 H + 2 H + H D + D perceptron
    def of_blocks(blocks, width, hidden, features=128):
        of_one = 6 * width * (features + 1) + 4 * width**2 + width + 3 * width * hidden + 2 * hidden + width
        return blocks * of_one

    for width, blocks, hidden in ((128, 4, 352), (512, 12, 1376)):
        made = Transformer(1, (28, 28), 1000, width, blocks, patch=2)
        ends = (4 * width + width) + 196 * width + (64 * 128 + 128) + (128**2 + 128) + 2 * width * 129 + 4 * width + 4
        assert count_parameters(made) == of_blocks(blocks, width, hidden) + ends


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(InputError, match="multiple of 64, got 96"):
        Transformer(1, (8, 8), 10, width=96)


# Cosines


@catches("""nets/cosine.py: the constant cosine is too long
- basis[0] /= 2**0.5
+ basis[0] /= 2""")
@pytest.mark.parametrize("size", [1, 2, 7, 28, 64])
def test_the_cosine_basis_is_orthonormal(size):
    basis = cosine_basis(size)
    torch.testing.assert_close(basis @ basis.T, torch.eye(size, dtype=F64), rtol=0, atol=1e-12)
    torch.testing.assert_close(basis.T @ basis, torch.eye(size, dtype=F64), rtol=0, atol=1e-12)


@catches("""nets/cosine.py: cosines are those of type four
- torch.arange(size, dtype=torch.float64)[:, None]
+ torch.arange(size, dtype=torch.float64)[:, None] + 0.5""")
def test_the_cosine_basis_is_the_discrete_cosine_transform_of_type_two():
    # oracle: half the Fourier transform of the signal followed by its mirror image, turned by half a position
    x = random_z(9)
    frequency = torch.arange(9, dtype=F64)
    spectrum = torch.fft.fft(torch.cat([x, x.flip(0)]))[:9] * torch.exp(-1j * torch.pi * frequency / 18)
    expected = spectrum.real / 2 * (2 / 9) ** 0.5
    expected[0] /= 2**0.5
    torch.testing.assert_close(cosine_basis(9) @ x, expected, rtol=0, atol=1e-12)


@catches("""nets/cosine.py: coefficients come back by the wrong transform
- unflatten(1, self.shape) @ self.horizontal
+ unflatten(1, self.shape) @ self.horizontal.T""")
def test_gains_of_one_give_the_picture_back():
    network = CosineMLP(2, (5, 7), 10, width=16, blocks=1)
    torch.nn.init.ones_(network.gain.bias)
    z = random_z(3, 2, 5, 7).float()
    torch.testing.assert_close(network(z, torch.tensor([1, 5, 9])), z, rtol=0, atol=1e-5)  # float32, two transforms


def test_the_first_gain_moves_the_mean_grey_alone():
    network = CosineMLP(1, (4, 6), 10, width=16, blocks=1)
    with torch.no_grad():
        network.gain.bias[0] = 1
    z = random_z(1, 1, 4, 6).float()
    mean = z.mean().expand_as(z)
    torch.testing.assert_close(network(z, torch.tensor([5])), mean, rtol=0, atol=1e-5)


@catches("""nets/unet.py: a fresh mixer of positions changes its input
- self.back = zeroed(nn.Linear(hidden, positions))
+ self.back = nn.Linear(hidden, positions)""")
def test_a_fresh_mixer_of_positions_is_the_identity():
    x = random_z(2, 8, 4, 4).float()
    assert torch.equal(PositionMixer(8, 16)(x), x)


@catches("""nets/transformer.py: a fresh block changes its input
- self.modulation = zeroed(Modulation(time_width, 6 * width))
+ self.modulation = Modulation(time_width, 6 * width)""")
def test_a_fresh_block_of_a_transformer_is_the_identity():
    x = random_z(2, 5, 32).float()
    assert torch.equal(Block(32, 16)(x, random_z(2, 16).float()), x)
