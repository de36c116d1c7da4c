"""Networks of rows, series and images' latents compute what their descriptions say: plain formulas on the same weights."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, f64
from kakusan.nets.class_shift import ClassShift
from kakusan.nets.conv import ConvDecoder, ConvEncoder, _widths
from kakusan.nets.series import SeriesNet
from kakusan.nets.table import LinearPlusMLP, _positive, factors
from kakusan.nets.table_denoiser import TableNet
from kakusan.nets.transformer import Transformer
from kakusan.nets.unet import Refine
from test_nets_forward import EXACT, T, noise, stirred, weights_of

K = torch.tensor([1, 0, 1])


def groups(part, x):
    return part.groups("norm", x, 1)


@catches("""nets/series.py: all blocks of a series have one dilation
- min(2**k, MOST_DILATION)
+ 1""")
@catches("""nets/series.py: a series does not know its positions
- h = self.first(z_t) + self.place
+ h = self.first(z_t)""")
@catches("""nets/series.py: a block of a series has no shortcut
- return h + self.back(
+ return self.back(""")
def test_the_network_of_series_is_its_description():
    net = stirred(SeriesNet(2, (9,), 10, width=8, blocks=3, gate=True))
    w, z = weights_of(net), noise(3, 2, 9)
    e, h = w.time(T), F.conv1d(z, *w["first"].pair, padding=1) + w.tensors["place"]
    for k in range(3):
        part = w["blocks"][str(k)]
        scale, shift = part.linear("modulation", e)[:, :, None].chunk(2, 1)
        y = F.silu(groups(part, h) * (1 + scale) + shift)
        y = F.silu(F.conv1d(y, *part["into"].pair, padding=2**k, dilation=2**k))
        h = h + F.conv1d(y, *part["back"].pair)
    prediction, v = F.conv1d(F.silu(groups(w, h)), *w["last"].pair, padding=1).chunk(2, 1)
    assert_close(net(z, T), (prediction, v.sigmoid()), **EXACT)


def test_the_dilation_of_a_series_doubles_up_to_64():
    net = SeriesNet(1, (9,), 10, width=8, blocks=9)
    assert [block.into.dilation for block in net.blocks] == [(min(2**k, 64),) for k in range(9)]


@catches("""nets/table_denoiser.py: a network of rows with a learned variance has no gain [True]
- return prediction + self.gain(e) * z_t, v.sigmoid()
+ return prediction, v.sigmoid()""")
@catches("""nets/table_denoiser.py: a network of rows has no gain [False]
- return out + self.gain(e) * z_t
+ return out""")
@pytest.mark.parametrize("gate", [False, True])
def test_the_denoiser_of_rows_is_its_description(gate):
    net = stirred(TableNet(4, (), 10, width=8, blocks=2, gate=gate))
    w, z = weights_of(net), noise(3, 4)
    e, h = w.time(T), w.linear("first", z)
    for k in "01":
        part = w["blocks"][k]
        scale, shift = part.linear("modulation", e).chunk(2, 1)
        h = h + part.linear("back", F.silu(part.linear("into", part.layers("norm", h) * (1 + scale) + shift)))
    out, *v = w.linear("last", w.layers("norm", h)).split(4, 1)
    prediction = out + w.linear("gain", e) * z
    assert_close(net(z, T), (prediction, v[0].sigmoid()) if gate else prediction, **EXACT)


@catches("""nets/table.py: the change of a log-variance has no limit
- LARGEST_RATIO * torch.tanh(log_ratio / LARGEST_RATIO)
+ log_ratio""")
@catches("""nets/table.py: the perceptron of rows is not told the class
- joined(x, cond, self.shift.num_classes)
+ joined(x, 0 * cond, self.shift.num_classes)""")
def test_a_linear_map_plus_a_perceptron_is_its_description():
    net = stirred(LinearPlusMLP(4, (5,), 3, "tanh", dropout=0.5, num_classes=2)).eval()
    w, x = weights_of(net), noise(3, 4)
    joined = torch.cat([x, F.one_hot(K, 2).double()], 1)
    more, ratio = w.linear("head", w["body"].linear("0", joined).tanh()).chunk(2, 1)
    mean = w.linear("linear", x) + w.tensors["shift.table.weight"][K] + more
    log_var = w.tensors["log_var"] + 1.5 * (ratio / 1.5).tanh()
    assert_close(net(x, K), (mean, log_var), **EXACT)


def residual(part, h):
    return h + part.conv("second", F.silu(part.conv("first", F.silu(h), padding=1)), padding=1)


@catches("""nets/conv.py: a block of an encoder has no shortcut [latents0]
- return h + self.second(
+ return self.second(""")
@pytest.mark.parametrize("latents", [(3,), (2, 6, 5)])
def test_a_convolutional_encoder_is_its_description(latents):
    net = stirred(ConvEncoder((1, 12, 9), latents, 16, blocks=2, num_classes=2))
    w, x = weights_of(net), noise(3, 1, 12, 9)
    h = w["body"].conv("0", x, padding=1) + w.tensors["shift.table.weight"][K][:, :, None, None]
    h = w["body"].conv("2", F.silu(h), stride=2, padding=1)
    h = F.silu(residual(w["body"]["4"], residual(w["body"]["3"], h)))
    out = w.conv("out", h) if len(latents) == 3 else w.linear("out", h.flatten(1))
    mean, log_var = out.chunk(2, 1)
    assert_close(net(x, K), (mean.view(3, *latents), log_var.view(3, *latents)), **EXACT)


@catches("""nets/conv.py: a decoder of pixels is enlarged by interpolation between them [latents0-options0]
- size=self.sizes[level])
+ size=self.sizes[level], mode="bilinear")""")
@catches("""nets/conv.py: a decoder that returns means alone is not bounded [latents0-options2]
- return out.sigmoid() if self.sigmoid else out
+ return out""")
@pytest.mark.parametrize("options", [{}, {"sigmoid": True}, {"sigmoid": True, "has_log_var": False}])
@pytest.mark.parametrize("latents", [(3,), (2, 6, 5)])
def test_a_convolutional_decoder_is_its_description(latents, options):
    net = stirred(ConvDecoder(latents, (1, 12, 9), 16, blocks=2, num_classes=2, **options))
    w, z = weights_of(net), noise(3, *latents)
    shift = w.tensors["shift.table.weight"][K]
    h = w.conv("first", z) if len(latents) == 3 else w.linear("first", z).view(3, 16, 6, 5)
    h = h + (shift[:, :, None, None] if len(latents) == 3 else shift.view(3, 16, 6, 5))
    h = residual(w["levels"]["0"]["1"], residual(w["levels"]["0"]["0"], h))
    h = F.interpolate(w["up"].conv("0", h, padding=1), size=(12, 9), mode="nearest")
    out = w.conv("out", F.silu(residual(w["levels"]["1"]["0"], h)), padding=1)
    if options.get("has_log_var", True):
        mean, log_var = out.chunk(2, 1)
        expected = (mean.sigmoid() if "sigmoid" in options else mean, log_var)
    else:
        expected = out.sigmoid()
    assert_close(net(z, K), expected, **EXACT)


@catches("""nets/table.py: the factor analyzer ignores which values are missing
- seen = torch.ones_like(x) if weights is None else weights.double()
+ seen = torch.ones_like(x)""")
def test_a_factor_analyzer_of_incomplete_rows_is_that_of_their_observed_values():
    torch.manual_seed(0)
    weight, mean = f64([[2.0], [-1.0], [0.5]]), f64([3.0, -2.0, 1.0])
    x = torch.randn(20_000, 1, dtype=F64) @ weight.T + mean + 0.5 * torch.randn(20_000, 3, dtype=F64)
    seen = (torch.rand(x.shape) < 0.7).double()
    found, center, noise_var = factors(torch.where(seen > 0, x, 0.0), 1, seen)
    # 0.05 is above four standard errors of each number: the variances are up to 4.25, of 7,000 pairs or more
    assert_close(found @ found.T, weight @ weight.T, rtol=0.05, atol=0.08)
    assert_close(center, mean, rtol=0, atol=0.08)
    assert_close(noise_var, f64([0.25] * 3), rtol=0, atol=0.1)


@catches("""nets/unet.py: scale and shift of refining change places
- return y + self.conv2(F.silu(modulate(h, scale, shift)))
+ return y + self.conv2(F.silu(modulate(h, shift, scale)))""")
@catches("""nets/unet.py: refining reads the prediction in place of z_t
- torch.cat([y, z_t], dim=1)
+ torch.cat([z_t, y], dim=1)""")
def test_refining_is_its_description():
    net = stirred(Refine(2, 2, 4, 8))
    w, y, z, e = weights_of(net), noise(3, 2, 5, 4), noise(3, 2, 5, 4).flip(0), noise(3, 8)
    scale, shift = w.linear("modulation", e)[:, :, None, None].chunk(2, 1)
    h = w.conv("conv1", torch.cat([y, z], 1), padding=1) * (1 + scale) + shift
    assert_close(net(y, z, e), y + w.conv("conv2", F.silu(h), padding=1), **EXACT)


@catches("""nets/class_shift.py: shifts of classes start far apart
- nn.init.normal_(self.table.weight, std=CLASS_STD)
+ nn.init.normal_(self.table.weight)""")
@catches("""nets/transformer.py: places start far apart
- 0.02 * torch.randn(
+ torch.randn(""")
@catches("""nets/conv.py: coarse levels are ever wider
- width * min(2**k, MOST_WIDER)
+ width * 2**k""")
@catches("""nets/conv.py: the level of single pixels is as wide as the next one
- max(8, width // FINEST_SHARE)
+ max(8, width)""")
def test_classes_and_places_start_near_each_other_and_levels_have_their_widths():
    torch.manual_seed(0)
    assert ClassShift(40, (50,)).table.weight.std().item() == pytest.approx(0.3, rel=0.1)  # 2,000 values: 1.6 %
    assert Transformer(1, (32, 32), 10, width=64).positions.std().item() == pytest.approx(0.02, rel=0.1)
    assert [_widths(levels, 32) for levels in (1, 2, 5)] == [[16], [16, 32], [16, 32, 64, 128, 128]]
    assert _widths(2, 8) == [8, 8]


@catches("""nets/table.py: covariances of incomplete pairs may be negative
- return (vectors * values.clamp(min=0)) @ vectors.T
+ return cov""")
def test_the_nearest_covariance_has_no_negative_eigenvalue():
    cov = f64([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    values, vectors = torch.linalg.eigh(cov)
    assert values[0] < -0.5
    assert_close(_positive(cov), vectors[:, 1:] @ torch.diag(values[1:]) @ vectors[:, 1:].T, **EXACT)
