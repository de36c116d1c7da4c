"""The DDPM paper's U-Net: what makes it fast changes nothing, and it is as large as the paper's description says."""

import pytest
import torch
from torch.nn import functional as F

from harness.support import F64
from kakusan.errors import InputError
from kakusan.nets.classic import Attention, Block, ClassicUNet, EnlargedConv2d
from kakusan.nets.time import sinusoids

ATTENDING = {"widths": (8, 16, 24), "blocks": 2, "attention": (False, True, False), "head_width": 4}


def network(channels=1, size=(8, 8), **settings):
    """A small one in float64 with random weights everywhere: those that start at zero hide the others."""
    torch.manual_seed(0)
    net = ClassicUNet(channels, size, num_steps=10, **{"widths": (8, 16), "blocks": 1, **settings}).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net


def inputs(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=F64), torch.arange(1, shape[0] + 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (9, 4)])
def test_the_classic_unet_takes_any_height_and_width(channels, size):
    z, t = inputs(2, channels, *size)
    prediction, v = network(channels, size, **ATTENDING, gate=True)(z, t)
    assert prediction.shape == v.shape == z.shape
    assert ((v >= 0) & (v <= 1)).all()
    assert network(channels, size)(z, t).shape == z.shape


@pytest.mark.parametrize("size", [(4, 4), (1, 1), (3, 5)])
def test_a_convolution_of_the_enlarged_picture_needs_no_enlarged_picture(size):
    torch.manual_seed(2)
    layer = EnlargedConv2d(3, 5).double()
    x = torch.randn(2, 3, *size, dtype=F64, requires_grad=True)
    plain = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), layer.weight, layer.bias, padding=1)
    ours = layer(x)
    probe = torch.randn_like(plain)
    wanted = torch.autograd.grad(plain, [x, layer.weight, layer.bias], probe)
    found = torch.autograd.grad(ours, [x, layer.weight, layer.bias], probe)
    for got, expected in zip((ours, *found), (plain, *wanted), strict=True):
        # the same sums of some hundred products in another order
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_every_block_hears_the_time():
    net = network(**ATTENDING)
    z, t = inputs(2, 1, 8, 8)
    calls = {block: [] for block in net.modules() if isinstance(block, Block)}
    for block, said in calls.items():
        block.register_forward_pre_hook(lambda block, args, said=said: said.append(args[1]))
    net(z, t)
    net(z, t + 1)
    assert len(calls) == 6 + 2 + 9
    for block, (now, later) in calls.items():
        assert now.shape == (2, block.width)
        assert not torch.isclose(now, later).any()
        x = torch.randn(2, block.conv1.in_channels, 4, 4, dtype=F64)
        assert not torch.isclose(block(x, now), block(x, later)).all()


def test_a_block_of_one_channel_a_group_is_deaf_to_the_time():
    block = network(groups=8).down[0]
    x, now, later = (torch.randn(2, 8, *sides, dtype=F64) for sides in ((4, 4), (), ()))
    # why the default is fewer groups: the normalisation takes away what is the same at all positions
    torch.testing.assert_close(block(x, now), block(x, later), rtol=0, atol=1e-10)


def test_each_block_has_a_part_of_its_own_in_what_the_time_says():
    net = network(**ATTENDING)
    seen = []
    for block in net.modules():
        if isinstance(block, Block):
            block.register_forward_pre_hook(lambda block, args: seen.append(args[1]))
    z, t = inputs(2, 1, 8, 8)
    net(z, t)
    # the hooks tell them in the order in which they are met
    torch.testing.assert_close(torch.cat(seen, 1), net.shifts(net.time(t)), rtol=0, atol=0)


def test_the_memory_layout_changes_nothing():
    net = network(3, (8, 8), **ATTENDING)
    z, t = inputs(2, 3, 8, 8)
    plain = net(z, t)
    for p in net.parameters():
        p.data = p.data.contiguous()
    # float64, some thousand sums in another order, on values of order 10
    torch.testing.assert_close(net(z.to(memory_format=torch.channels_last), t), plain, rtol=1e-10, atol=1e-10)


def test_pictures_stay_in_channels_last_memory_also_where_they_have_one_channel():
    net = network(**ATTENDING)
    layouts = []
    for layer in net.modules():
        if isinstance(layer, Block):
            layer.register_forward_hook(lambda layer, args, out: layouts.append((args[0], out)))
    net(*inputs(2, 1, 8, 8))
    for pictures in layouts:
        assert all(picture.is_contiguous(memory_format=torch.channels_last) for picture in pictures)


def test_attention_is_the_softmax_of_its_formula():
    torch.manual_seed(3)
    layer = Attention(8, groups=2, head_width=4).double()
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(2, 8, 3, 2, dtype=F64)
    rows = layer.norm(x).reshape(2, 8, 6).transpose(1, 2)
    q, k, v = layer.queries_keys_values(rows).chunk(3, dim=2)
    parts = []
    for head in (slice(0, 4), slice(4, 8)):
        shares = (q[..., head] @ k[..., head].transpose(1, 2) / 2).softmax(2)  # 2 = sqrt(head_width)
        parts.append(shares @ v[..., head])
    expected = x + layer.out(torch.cat(parts, 2)).transpose(1, 2).reshape(2, 8, 3, 2)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)  # float64, sums of eight


def test_a_fresh_one_predicts_zero():
    z, t = inputs(2, 1, 8, 8)
    torch.manual_seed(0)
    net = ClassicUNet(1, (8, 8), 10, **ATTENDING).double()
    assert (net(z, t) == 0).all()


def test_it_has_as_many_parameters_as_its_description_says():
    def conv(width_in, width, kernel=3):
        return width * (width_in * kernel**2 + 1)

    def block(width_in, width, attends=False):
        shortcut = conv(width_in, width, 1) if width_in != width else 0
        attention = 2 * width + 4 * (width**2 + width) if attends else 0
        time = width * (32 + 1)
        return 2 * width_in + conv(width_in, width) + 2 * width + conv(width, width) + shortcut + attention + time

    net = ClassicUNet(3, (8, 8), 10, widths=(8, 16), blocks=1, attention=(False, True))
    time = 32 * (8 + 1) + 32 * (32 + 1)
    down = block(8, 8) + conv(8, 8) + block(8, 16, True)
    middle = block(16, 16, True) + block(16, 16)
    # what is met on the way up, from the last: 16 | 8 of the halving | 8 of the block | 8 of the first convolution
    up = block(32, 16, True) + block(24, 16, True) + conv(16, 16) + block(24, 8) + block(16, 8)
    total = conv(3, 8) + time + down + middle + up + 2 * 8 + conv(8, 3)
    assert sum(p.numel() for p in net.parameters()) == total


def test_it_is_as_large_as_the_published_description_with_its_sizes():
    # 35.7 million: Ho, Jain and Abbeel 2020, appendix B, on CIFAR-10; one head, 512 features of time
    with torch.device("meta"):
        net = ClassicUNet(3, (32, 32), 1000, (128, 256, 256, 256), 2, (False, True, False, False), groups=32)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == 35.7


def test_the_time_is_told_by_the_published_sinusoids():
    net = network()
    t = torch.tensor([1, 9])
    torch.testing.assert_close(
        net.time(t), F.silu(net.time.second(F.silu(net.time.first(sinusoids(t, 8, F64))))), rtol=0, atol=0
    )


def test_muon_is_given_hidden_matrices_alone():
    net = network(**ATTENDING)
    given = {id(weight) for weight in net.hidden_matrices()}
    left = {name for name, p in net.named_parameters() if p.dim() > 1 and id(p) not in given}
    assert left == {"first.weight", "last.weight", "shifts.weight", "time.first.weight", "time.second.weight"}


@pytest.mark.parametrize(
    "settings",
    [
        {"widths": ()},
        {"widths": (8, 10)},
        {"blocks": 0},
        {"attention": (True,)},
        {"head_width": 3},
        {"size": (2, 2), "widths": (8, 4)},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(InputError):
        ClassicUNet(1, num_steps=10, **{"size": (8, 8), "widths": (8, 16), **settings})
