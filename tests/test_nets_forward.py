"""Every network computes what its description says: compared with plain formulas on the same weights, in float64."""

import inspect
import re

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64
from kakusan import nets
from kakusan.errors import InputError
from kakusan.nets import NETWORKS, classic, conv, convnext, cosine, series
from kakusan.nets.classic import ClassicUNet
from kakusan.nets.conv import ConvDecoder, ConvEncoder
from kakusan.nets.convnext import ConvNeXt
from kakusan.nets.cosine import CosineMLP, cosine_basis
from kakusan.nets.mlp import MLP, GaussianMLP
from kakusan.nets.series import SeriesNet
from kakusan.nets.table import LinearPlusMLP
from kakusan.nets.table_denoiser import TableNet
from kakusan.nets.time import SinusoidalTime, time_network
from kakusan.nets.transformer import Transformer
from kakusan.nets.unet import PositionMixer, Refine, ResidualBlock, UNet, WholeImage
from kakusan.run.families.diffusion import DiffusionConfig

EXACT = {"rtol": 1e-9, "atol": 1e-9}  # float64; sums of some hundred products in another order
T = torch.tensor([1, 4, 9])


def stirred(network):
    """With random weights everywhere: those that start at zero hide the others."""
    torch.manual_seed(0)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return network.double()


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=F64)


class Weights:
    """The weights of one part of a network, and the layers that they stand for."""

    def __init__(self, tensors, prefix=""):
        self.tensors, self.prefix = tensors, prefix

    def __getitem__(self, name):
        return Weights(self.tensors, f"{self.prefix}{name}.")

    @property
    def pair(self):
        return self.tensors[f"{self.prefix}weight"], self.tensors.get(f"{self.prefix}bias")

    def linear(self, name, x):
        return F.linear(x, *self[name].pair)

    def conv(self, name, x, **how):
        return F.conv2d(x, *self[name].pair, **how)

    def groups(self, name, x, num):
        return F.group_norm(x, num, *self[name].pair)

    def layers(self, name, x):
        return F.layer_norm(x, x.shape[-1:], *self[name].pair)

    def rms(self, x):
        return F.rms_norm(x, x.shape[-1:])

    def time(self, t):
        """Sinusoids and two layers, as in Vaswani et al. 2017 and Ho et al. 2020."""
        width = self["time"]["first"].pair[0].shape[1]
        angles = torch.stack([t.double() * 10_000 ** (-2 * i / width) for i in range(width // 2)], 1)
        e = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
        return F.silu(self["time"].linear("second", F.silu(self["time"].linear("first", e))))


def weights_of(network):
    return Weights(dict(network.state_dict()))


@catches("""nets/layers.py: a scale of 0 is no scale of 1
- torch.addcmul(h + shift, h, scale)
+ torch.addcmul(shift, h, scale)""")
@catches("""nets/unet.py: a residual block of the U-Net has no shortcut
- return x + self.conv2(
+ return self.conv2(""")
@catches("""nets/unet.py: the coarse level and the skip connection change places
- torch.cat([F.pixel_shuffle(self.up(inner), 2), h], dim=1)
+ torch.cat([h, F.pixel_shuffle(self.up(inner), 2)], dim=1)""")
@catches("""nets/unet.py: the whole image is seen before positions are mixed
- whole(mixer(block(inner, e)))
+ mixer(whole(block(inner, e)))""")
@catches("""nets/unet.py: a residual block is not normalized at its entry
- h = self.norm2(self.conv1(F.silu(self.norm1(x))))
+ h = self.norm2(self.conv1(F.silu(x)))""")
@catches("""nets/unet.py: the whole-image perceptron has another activation
- self.back(F.silu(self.into(h.flatten(1))))
+ self.back(F.relu(self.into(h.flatten(1))))""")
@catches("""nets/time.py: sines and cosines of t change places
- torch.stack([angles.sin(), angles.cos()], dim=-1)
+ torch.stack([angles.cos(), angles.sin()], dim=-1)""")
def test_the_unet_is_its_description():
    net = stirred(UNet(2, (6, 8), 10, width=8, inner_width=16, blocks=2))
    w, z = weights_of(net), noise(3, 2, 6, 8)

    def block(w, x, e):
        scale, shift = w.linear("modulation", e)[:, :, None, None].chunk(2, 1)
        h = w.groups("norm2", w.conv("conv1", F.silu(w.groups("norm1", x, 8)), padding=1), 8)
        return x + w.conv("conv2", F.silu(h * (1 + scale) + shift), padding=1)

    e = w.time(T)
    padded = F.pad(z, (0, 0, 0, 2))  # to a multiple of four
    folded = padded.unflatten(2, (4, 2)).unflatten(4, (4, 2)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    h = w.conv("first", folded, padding=1)
    inner = w.conv("down", h, stride=2)
    for k in "01":
        inner = block(w["coarse"][k], inner, e)
        mixer, whole = w["mixers"][k], w["wholes"][k]
        rows = mixer.groups("norm", inner, 8).flatten(2)
        inner = inner + mixer.linear("back", F.silu(mixer.linear("into", rows))).view_as(inner)
        few = whole.conv("squeeze", whole.groups("norm", inner, 8))
        seen = whole.linear("back", F.silu(whole.linear("into", few.flatten(1)))).view_as(few)
        inner = inner + whole.conv("expand", seen)
    up = F.pixel_shuffle(w.conv("up", inner), 2)
    h = block(w["fine"], w.conv("merge", torch.cat([up, h], 1)), e)
    y = F.pixel_shuffle(w.conv("last", F.silu(w.groups("last_norm", h, 8)), padding=1), 2)
    assert_close(net(z, T), y[:, :, :6], **EXACT)


@catches("""nets/convnext.py: scale and shift of a ConvNeXt block change places
- scale, shift = self
+ shift, scale = self""")
@catches("""nets/convnext.py: a ConvNeXt block has no shortcut
- return x + self.narrow(
+ return self.narrow(""")
@catches("""nets/convnext.py: ConvNeXt has another activation
- F.gelu(
+ F.silu(""")
def test_convnext_is_its_description():
    net = stirred(ConvNeXt(2, (4, 6), 10, width=8, blocks=2, patch=2))
    w, z = weights_of(net), noise(3, 2, 4, 6)
    e, h = w.time(T), w.linear("first", F.pixel_unshuffle(z, 2).permute(0, 2, 3, 1))
    for k in "01":
        part = w["blocks"][k]
        scale, shift = part.linear("modulation", e)[:, None, None].chunk(2, -1)
        mixed = part.conv("across", h.permute(0, 3, 1, 2), padding=3, groups=8).permute(0, 2, 3, 1)
        wide = part.linear("widen", part.layers("norm", mixed) * (1 + scale) + shift)
        assert wide.shape[-1] == 32
        h = h + part.linear("narrow", F.gelu(wide))
    y = F.pixel_shuffle(w.linear("last", w.layers("norm", h)).permute(0, 3, 1, 2), 2)
    assert_close(net(z, T), y, **EXACT)


@catches("""nets/transformer.py: attention has the perceptron's gate
- x = x + gate1 * self.attention(
+ x = x + gate2 * self.attention(""")
@catches("""nets/transformer.py: the gated perceptron is gated by its values
- self.narrow(value * F.silu(switch))
+ self.narrow(F.silu(value) * switch)""")
@catches("""nets/transformer.py: a transformer's last scale is not around 1
- torch.addcmul(shift, self.norm(h), 1 + scale)
+ torch.addcmul(shift, self.norm(h), scale)""")
@catches("""nets/transformer.py: the transformer's perceptron has another width
- MULTIPLE = 32
+ MULTIPLE = 64""")
def test_the_transformer_is_its_description():
    net = stirred(Transformer(2, (4, 6), 10, width=128, blocks=2, patch=2))
    w, z = weights_of(net), noise(3, 2, 4, 6)
    e = w.time(T)
    h = w.linear("first", F.pixel_unshuffle(z, 2).flatten(2).transpose(1, 2)) + w.tensors["positions"]
    for k in "01":
        part = w["blocks"][k]
        s1, b1, g1, s2, b2, g2 = part.linear("modulation", e)[:, None].chunk(6, -1)
        rows = (
            part["attention"].linear("ask", w.rms(h) * (1 + s1) + b1).unflatten(-1, (3, 2, 64)).permute(2, 0, 3, 1, 4)
        )
        query, key, value = rows
        shares = (w.rms(query) @ w.rms(key).transpose(2, 3) / 8).softmax(3)
        h = h + g1 * part["attention"].linear("answer", (shares @ value).transpose(1, 2).flatten(2))
        value, switch = part.linear("widen", w.rms(h) * (1 + s2) + b2).chunk(2, -1)
        assert value.shape[-1] == 352  # 8/3 of the width, up to a multiple of 32
        h = h + g2 * part.linear("narrow", value * F.silu(switch))
    scale, shift = w.linear("modulation", e)[:, None].chunk(2, -1)
    y = w.linear("last", w.rms(h) * (1 + scale) + shift)
    assert_close(net(z, T), F.pixel_shuffle(y.transpose(1, 2).unflatten(2, (2, 3)), 2), **EXACT)


@catches("""nets/cosine.py: gains are those of pixels
- self._pixels(prediction + self.gain(e) * coefficients)
+ self._pixels(prediction) + self.gain(e).view_as(z_t) * z_t""")
@catches("""nets/cosine.py: a block of the cosine perceptron has no shortcut
- return x + self.back(
+ return self.back(""")
def test_the_cosine_perceptron_is_its_description():
    net = stirred(CosineMLP(2, (4, 6), 10, width=16, blocks=2))
    w, z = weights_of(net), noise(3, 2, 4, 6)
    down, across = cosine_basis(4), cosine_basis(6)
    # the basis is made in float32, as the network's weights are
    net.vertical, net.horizontal = down, across
    e, c = w.time(T), torch.einsum("fy,bcyx,gx->bcfg", down, z, across).flatten(1)
    h = w.linear("first", c)
    for k in "01":
        part = w["blocks"][k]
        scale, shift = part.linear("modulation", e).chunk(2, -1)
        h = h + part.linear("back", F.silu(part.linear("into", part.layers("norm", h) * (1 + scale) + shift)))
    y = (w.linear("last", w.layers("norm", h)) + w.linear("gain", e) * c).view(3, 2, 4, 6)
    assert_close(net(z, T), torch.einsum("fy,bcfg,gx->bcyx", down, y, across), **EXACT)


@catches("""nets/classic.py: the time's shift comes after the normalization
- self.norm2(h + shift[:, :, None, None])
+ self.norm2(h) + shift[:, :, None, None]""")
@catches("""nets/classic.py: attention does not see the shortcut
- return self.attention(self.shortcut(x) + h)
+ return self.attention(h) + self.shortcut(x)""")
@catches("""nets/classic.py: a skip connection comes before what is below it
- torch.cat([h, kept.pop()], dim=1)
+ torch.cat([kept.pop(), h], dim=1)""")
@catches("""nets/classic.py: the classic U-Net ends without an activation
- return self.folding.back(self.last(F.silu(self.norm(h))))
+ return self.folding.back(self.last(self.norm(h)))""")
def test_the_classic_unet_is_its_description():
    net = stirred(ClassicUNet(2, (4, 6), 10, widths=(8, 16), blocks=1, attention=(False, True)))
    w, z = weights_of(net), noise(3, 2, 4, 6)
    shifts = iter(w.linear("shifts", w.time(T)).split([8, 16, 16, 16, 16, 16, 8, 8], 1))

    def block(w, x, attends):
        h = w.conv("conv1", F.silu(w.groups("norm1", x, 4)), padding=1) + next(shifts)[:, :, None, None]
        h = w.conv("conv2", F.silu(w.groups("norm2", h, 4)), padding=1)
        h = h + (w.conv("shortcut", x) if f"{w.prefix}shortcut.weight" in w.tensors else x)
        if not attends:
            return h
        part = w["attention"]
        rows = part.groups("norm", h, 4).flatten(2).transpose(1, 2)
        q, k, v = part.linear("queries_keys_values", rows).chunk(3, 2)
        found = (q @ k.transpose(1, 2) / 4).softmax(2) @ v  # one head of 16
        return h + part.linear("out", found).transpose(1, 2).view_as(h)

    first = w.conv("first", z, padding=1)
    one = block(w["down"]["0"], first, False)
    small = w.conv("shrink.0", one, stride=2, padding=1)
    two = block(w["down"]["1"], small, True)
    h = block(w["middle"]["1"], block(w["middle"]["0"], two, True), False)
    h = block(w["up"]["0"], torch.cat([h, two], 1), True)
    h = block(w["up"]["1"], torch.cat([h, small], 1), True)
    h = w.conv("enlarge.0", F.interpolate(h, scale_factor=2, mode="nearest"), padding=1)
    h = block(w["up"]["2"], torch.cat([h, one], 1), False)
    h = block(w["up"]["3"], torch.cat([h, first], 1), False)
    assert_close(net(z, T), w.conv("last", F.silu(w.groups("norm", h, 4)), padding=1), **EXACT)


@catches("""nets/mlp.py: a residual layer has no shortcut
- return h + self.layer(h)
+ return self.layer(h)""")
@catches("""nets/mlp.py: tanh is a sigmoid
- "tanh": nn.Tanh
+ "tanh": nn.Sigmoid""")
@catches("""nets/mlp.py: a decoder of pixels is not bounded
- return y.sigmoid() if self.sigmoid else y
+ return y""")
@catches("""nets/mlp.py: mean and log-variance change places
- return self.mean(h).unflatten(1, self.out_shape), self.log_var(h)
+ return self.log_var(h).unflatten(1, self.out_shape), self.mean(h)""")
def test_perceptrons_are_their_description():
    one = stirred(GaussianMLP((2, 3), (5, 5), (2, 2), "tanh", residual=True))
    w, x = weights_of(one), noise(4, 2, 3)
    h = w["body"].linear("0", x.flatten(1)).tanh()
    h = h + w["body"]["2"]["layer"].linear("0", h).tanh()
    mean, log_var = one(x)
    assert_close(mean, w.linear("mean", h).view(4, 2, 2), **EXACT)
    assert_close(log_var, w.linear("log_var", h).view(4, 2, 2), **EXACT)
    two = stirred(MLP((2,), (5, 4), (1, 3), sigmoid=True, activation="silu"))
    w, z = weights_of(two), noise(4, 2)
    h = F.silu(w["body"].linear("2", F.silu(w["body"].linear("0", z))))
    assert_close(two(z), w.linear("out", h).sigmoid().view(4, 1, 3), **EXACT)


# Conditions


@catches("""nets/time.py: a conditional network is not given the time
- return self.time(t) + self.table(cond)
+ return self.table(cond)""")
@catches("""nets/time.py: classes start far apart
- nn.init.normal_(self.table.weight, std=CLASS_STD)
+ nn.init.normal_(self.table.weight)""")
def test_the_embedding_of_a_condition_is_added_to_that_of_the_time():
    torch.manual_seed(0)
    classes, features = time_network("sinusoidal", 128, 10, num_classes=40), time_network("table", 12, 10, cond_dim=3)
    k, c = torch.tensor([7, 0, 39]), torch.randn(3, 3)
    assert isinstance(classes.time, SinusoidalTime)
    assert_close(classes(T, k), classes.time(T) + classes.table.weight[k])
    assert_close(features(T, c), features.time.table.weight[T] + c @ features.table.weight.T)
    assert classes.table.weight.std().item() == pytest.approx(0.3, rel=0.05)  # 5,120 values: 1 % is 1 s.e.


@pytest.mark.parametrize("name", NETWORKS)
@catches("""nets/base.py: features are not read
- return self.time(t) if cond is None else self.time(t, cond)
+ return self.time(t) if cond is None else self.time(t, cond * (0 if self.cond_dim else 1))""")
def test_every_network_takes_features_as_a_condition(name):
    small = {"widths": (8, 8), "blocks": 1} if name == "classic" else {"width": 16, "blocks": 1}
    net = stirred(NETWORKS[name](1, (4, 4), 10, cond_dim=2, **small))
    z, cond = noise(1, 1, 4, 4).expand(3, -1, -1, -1), noise(3, 2)
    said = net(z, T[:1].expand(3), cond)
    assert (said[0] - said[1]).abs().max() > 1e-3
    assert_close(net(z, T, cond=cond), net(z, T, cond), rtol=0, atol=0)


@catches("""nets/base.py: classes of other examples are broadcast
- cond is None or cond.is_floating_point() or cond.shape != (num,)
+ cond is None or cond.is_floating_point()""")
@catches("""nets/base.py: an unconditional network takes a condition
- if not (self.num_classes or self.cond_dim):
+ if self.cond_dim and self.num_classes:""")
@pytest.mark.parametrize(
    ("build", "cond", "words"),
    [
        ({"num_classes": 3}, None, r"class-conditional on 3 classes: pass cond, int64 of shape \(b,\), got None"),
        ({"num_classes": 3}, torch.zeros(3), r"int64 of shape \(b,\), got float32 of shape \(3,\)"),
        ({"num_classes": 3}, torch.zeros(1, dtype=torch.int64), r"got int64 of shape \(1,\)"),
        ({"cond_dim": 2}, None, r"conditional on 2 features: pass cond, float of shape \(b, 2\), got None"),
        ({"num_classes": 3}, torch.zeros(3, 1).long(), r"got int64 of shape \(3, 1\)"),
        ({"cond_dim": 2}, torch.zeros(3, 2).long(), r"got int64 of shape \(3, 2\)"),
        ({"cond_dim": 2}, torch.zeros(1, 2), r"got float32 of shape \(1, 2\)"),
        ({"cond_dim": 2}, torch.zeros(3, 3), r"got float32 of shape \(3, 3\)"),
        ({}, torch.zeros(3, dtype=torch.int64), "unconditional: omit cond"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(build, cond, words):
    net = UNet(1, (4, 4), 10, width=8, inner_width=16, blocks=1, **build)
    try:
        answer = net(torch.zeros(3, 1, 4, 4), T, cond)
    except InputError as error:
        answer = str(error)
    except TypeError as error:
        answer = repr(error)
    assert isinstance(answer, str)
    assert re.search(words, answer)


def test_one_kind_of_condition_is_chosen():
    with pytest.raises(InputError, match="choose num_classes=3 or cond_dim=2"):
        UNet(1, (4, 4), 10, num_classes=3, cond_dim=2)


# The registry


@catches("""nets/base.py: a learned variance has no network
- gate=config.variance == "learned"
+ gate=False""")
@catches("""nets/base.py: a config's clusters are not built
- num_classes=config.num_conditions
+ num_classes=0""")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_built_from_the_attributes_of_a_config(name):
    config = DiffusionConfig(
        depth=7, network=name, width=16, inner_width=24, blocks=2, patch=2, variance="learned", clusters=5, time="table"
    )
    net = NETWORKS[name].from_config(config, (2, 5, 6))
    assert net.num_classes == 5
    z, t, k = torch.zeros(2, 2, 5, 6), torch.tensor([1, 7]), torch.tensor([0, 4])
    prediction, v = net(z, t, k)
    assert prediction.shape == v.shape == z.shape
    assert net.time.time.table.weight.shape[0] == 8
    widths = {p.shape[0] for p in net.hidden_matrices()}
    assert widths & {16, 32, 48, 64}
    assert (name in ("unet", "classic")) == (24 in widths)


def test_the_defaults_of_the_unet_are_those_of_a_recipe():
    config = DiffusionConfig()
    ours = {key: value.shape for key, value in UNet(1, (8, 8), config.depth).state_dict().items()}
    built = NETWORKS[config.network].from_config(config, (1, 8, 8)).state_dict()
    assert ours == {key: value.shape for key, value in built.items()}


def test_the_names_of_networks_are_exported_and_their_modules_import_on_use():
    assert set(NETWORKS) == {"unet", "convnext", "transformer", "cosine", "classic"}
    assert all(getattr(nets, name) is not None for name in nets.__all__)
    assert nets.UNet is NETWORKS["unet"]
    with pytest.raises(InputError, match="did you mean 'unet'"):
        NETWORKS["unett"]
    with pytest.raises(AttributeError, match="ResNet"):
        nets.ResNet  # noqa: B018


# What a fresh network is

FRESH = {
    "a block of the U-Net": (lambda: ResidualBlock(16, 8), (2, 16, 4, 4), True),
    "a layer over the whole image": (lambda: WholeImage(16, 16), (2, 16, 4, 4), False),
    "a block of the classic U-Net": (lambda: classic.Block(8, 8, 4, None, False), (2, 8, 4, 4), 8),
    "attention of the classic U-Net": (lambda: classic.Attention(8, 4, 8), (2, 8, 4, 4), False),
    "a block of ConvNeXt": (lambda: convnext.Block(6, 8), (2, 4, 4, 6), True),
    "a block of the cosine perceptron": (lambda: cosine.Block(6, 8), (2, 6), True),
    "a block of a series": (lambda: series.Block(6, 8, 2), (2, 6, 9), True),
    "a block of an encoder": (lambda: conv.Block(6), (2, 6, 4, 4), False),
}


@pytest.mark.parametrize("name", FRESH)
def test_a_fresh_residual_layer_is_the_identity(name):
    build, shape, told = FRESH[name]
    torch.manual_seed(0)
    layer, x = build().double(), noise(*shape)
    assert torch.equal(layer(x, noise(2, 8)) if told else layer(x), x)
    assert not torch.equal(stirred(layer)(x, noise(2, 8)) if told else stirred(layer)(x), x)


def test_fresh_refining_networks_of_rows_and_series_and_perceptrons_of_rows_begin_with_their_plain_part():
    torch.manual_seed(0)
    y, z, e = noise(2, 3, 5, 4), noise(2, 3, 5, 4), noise(2, 8)
    assert torch.equal(Refine(3, 3, 4, 8).double()(y, z, e), y)
    for net, example in (
        (TableNet(4, (), 10, width=8, blocks=1), noise(3, 4)),
        (SeriesNet(2, (9,), 10, width=8, blocks=1), noise(3, 2, 9)),
    ):
        assert (net.double()(example, T) == 0).all()
    rows = LinearPlusMLP(4, (5,), 3).double()
    mean, log_var = rows(noise(6, 4))
    assert_close(mean, rows.linear(noise(6, 4)), **EXACT)
    assert (log_var == 0).all()
    # the last scale and shift of a transformer begin at zero also where its last layer does not
    net = Transformer(1, (4, 4), 10, width=32, blocks=1, patch=2)
    torch.nn.init.normal_(net.last.weight)
    net = net.double()
    z = noise(1, 1, 4, 4).expand(3, -1, -1, -1)
    assert_close(net(z, T)[0], net(z, T)[1], **EXACT)


IMAGES = {"time": "sinusoidal", "gate": False, "num_classes": 0, "cond_dim": 0}
DEFAULTS = {
    UNet: {
        **IMAGES, "width": 32, "inner_width": 64, "blocks": 3, "time_width": 128, "fold": 2, "refine": 0,
        "checkpointing": False,
    },
    ConvNeXt: {**IMAGES, "width": 96, "blocks": 6, "patch": 4, "time_width": 128},
    Transformer: {**IMAGES, "width": 128, "blocks": 4, "patch": 4, "time_width": 128},
    CosineMLP: {**IMAGES, "width": 512, "blocks": 3, "time_width": 128},
    ClassicUNet: {
        **IMAGES, "widths": (32, 64, 128), "blocks": 2, "attention": None, "middle_attention": True,
        "head_width": None, "groups": 4, "time_features": None,
    },
    SeriesNet: {**IMAGES, "width": 64, "blocks": 6, "time_width": 128},
    TableNet: {**IMAGES, "size": (), "num_steps": 1000, "width": 256, "blocks": 3, "time_width": 128},
    ConvEncoder: {"width": 32, "blocks": 1, "num_classes": 0},
    ConvDecoder: {"width": 32, "blocks": 1, "has_log_var": True, "sigmoid": False, "num_classes": 0},
    LinearPlusMLP: {"activation": "silu", "dropout": 0.0, "num_classes": 0},
    GaussianMLP: {"activation": "relu", "residual": False, "num_classes": 0},
    MLP: {"sigmoid": False, "activation": "relu", "residual": False, "num_classes": 0},
    PositionMixer: {"hidden": 128},
    WholeImage: {"channels": 8, "hidden": 256},
    SinusoidalTime: {"frequencies": 64},
}  # fmt: skip


@pytest.mark.parametrize("kind", DEFAULTS)
def test_the_defaults_of_a_network_are_those_with_which_it_was_measured(kind):
    given = inspect.signature(kind).parameters.values()
    assert {one.name: one.default for one in given if one.default is not one.empty} == DEFAULTS[kind]


def test_the_embedding_of_a_network_has_64_sinusoids_and_its_classic_one_as_many_as_its_first_width():
    assert UNet(1, (4, 4), 10, width=8, inner_width=16).time.first.in_features == 64
    assert time_network("sinusoidal", 8, 10).first.in_features == 64
    for features, expected in ((None, 8), (12, 12)):
        net = ClassicUNet(1, (4, 4), 10, widths=(8, 16), time_features=features)
        assert (net.time.first.in_features, net.time.first.out_features) == (expected, 32)


def test_a_config_gives_the_classic_unet_its_widths_and_blocks_and_the_others_their_settings():
    config = DiffusionConfig(
        depth=7, network="classic", width=16, inner_width=24, blocks=2, patch=2, fold=4, refine=8, checkpointing=True
    )
    net = ClassicUNet.from_config(config, (2, 8, 12))
    assert (net.shift_widths[::2], net.blocks, net.folding.size) == ([16, 24, 24, 24, 24, 24, 24, 16, 16], 2, (8, 12))
    unet = UNet.from_config(config, (2, 8, 12))
    assert (len(unet.coarse), unet.folding.fold, unet.checkpointing) == (2, 4, True)
    assert (unet.first.out_channels, unet.down.out_channels, unet.refine.conv1.out_channels) == (16, 24, 8)
    for kind in (ConvNeXt, Transformer):
        made = kind.from_config(config, (2, 8, 12))
        assert (made.first.out_features, len(made.blocks), made.folding.fold) == (16, 2, 2)
    rows = TableNet.from_config(config, (5,))
    assert (rows.first.in_features, rows.first.out_features, len(rows.blocks)) == (5, 16, 2)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: UNet(1, (8, 8), 10, width=12),
            "widths must be multiples of 8 and blocks at least 1, got 12, 64 and 3",
        ),
        (lambda: UNet(1, (8, 8), 10, inner_width=20), "got 32, 20 and 3"),
        (lambda: UNet(1, (8, 8), 10, width=0), "got 0, 64 and 3"),
        (lambda: UNet(1, (8, 8), 10, inner_width=0), "got 32, 0 and 3"),
        (lambda: UNet(1, (8, 8), 10, blocks=0), "got 32, 64 and 0"),
        (lambda: UNet(1, (4, 3), 10, inner_width=8), "images of 4 x 3 need an inner width of at least 16, got 8"),
        (lambda: Transformer(1, (8, 8), 10, width=65), "must be up to 64 or a multiple of 64, got 65"),
        (
            lambda: ClassicUNet(1, (2, 2), 10, widths=(8, 4)),
            r"images of \(2, 2\) need a coarsest width of at least 8, got 4",
        ),
        (
            lambda: ClassicUNet(1, (8, 8), 10, widths=(8, 12), groups=8),
            r"multiples of groups=8 and head_width=None, got \(8, 12\)",
        ),
        (lambda: ClassicUNet(1, (8, 8), 10, widths=(8, 16), head_width=16), r"head_width=16, got \(8, 16\)"),
        (lambda: ClassicUNet(1, (8, 8), 10, widths=(8,), blocks=0), r"got \(8,\), \[False\] and 0"),
    ],
)
def test_widths_and_blocks_that_cannot_be_are_refused_with_their_numbers(build, words):
    with pytest.raises(InputError, match=words):
        build()


def test_the_smallest_widths_that_can_be_are_taken():
    assert UNet(1, (8, 4), 10, width=8, inner_width=8, blocks=1)(torch.zeros(1, 1, 8, 4), T[:1]).shape == (1, 1, 8, 4)
    assert Transformer(1, (8, 8), 10, width=64, blocks=1).blocks[0].attention.heads == 1
    assert Transformer(1, (8, 8), 10, width=48, blocks=1).blocks[0].attention.heads == 1
    net = ClassicUNet(1, (2, 4), 10, widths=(8, 4), blocks=1)
    assert net(torch.zeros(1, 1, 2, 4), T[:1]).shape == (1, 1, 2, 4)
