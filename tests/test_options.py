"""Every option of a network, a solver, a schedule and a sampler changes what it says that it changes."""

import dataclasses
import inspect

import pytest
import torch

import kakusan as kk
from harness.faults import catches
from harness.support import seeded
from kakusan import nets
from kakusan.nets.base import ImageDenoiser
from kakusan.schedule import Schedule
from kakusan.solvers import sample

IMAGE = {"channels": 2, "size": (9, 8), "num_steps": 6, "time": "table"}
# Another value of every option, where the network and its other options are small.
DENOISER = {
    "channels": 3,
    "size": (8, 9),
    "num_steps": 7,
    "time": "sinusoidal",
    "gate": True,
    "num_classes": 3,
    "time_width": 12,
    "cond_dim": 2,
}
WIDE = {"width": 16, "blocks": 2, "time_width": 8}
NETS = {
    "UNet": (
        {**IMAGE, "width": 8, "inner_width": 16, "blocks": 2, "time_width": 8},
        {**DENOISER, "width": 16, "inner_width": 24, "blocks": 1, "fold": 1, "refine": 4, "checkpointing": True},
    ),
    "ClassicUNet": (
        {**IMAGE, "widths": (8, 16), "blocks": 1, "attention": (False, True)},
        {
            **{key: value for key, value in DENOISER.items() if key != "time_width"},
            "widths": (16, 16),
            "blocks": 2,
            "attention": (True, True),
            "middle_attention": False,
            "head_width": 4,
            "groups": 2,
            "time_features": 4,
        },
    ),
    "Transformer": (
        {**IMAGE, "width": 128, "blocks": 1, "time_width": 8},
        {**DENOISER, "width": 64, "blocks": 2, "patch": 2},
    ),
    "ConvNeXt": ({**IMAGE, **WIDE}, {**DENOISER, "width": 8, "blocks": 1, "patch": 2}),
    "CosineMLP": ({**IMAGE, **WIDE}, {**DENOISER, "width": 8, "blocks": 1}),
    "SeriesNet": ({**IMAGE, **WIDE, "size": (9,)}, {**DENOISER, "width": 8, "blocks": 1, "size": (8,)}),
    "TableNet": (
        {**IMAGE, **WIDE, "size": ()},
        {**{key: value for key, value in DENOISER.items() if key != "size"}, "width": 8, "blocks": 1},
    ),
    "GaussianMLP": (
        {"in_shape": (3, 2), "hidden": (5, 5), "out_shape": (2,)},
        {
            "in_shape": (7,),
            "hidden": (4, 5),
            "out_shape": (2, 2),
            "activation": "tanh",
            "residual": True,
            "num_classes": 2,
        },
    ),
    "MLP": (
        {"in_shape": (3, 2), "hidden": (5, 5), "out_shape": (2,)},
        {
            "in_shape": (7,),
            "hidden": (4, 5),
            "out_shape": (2, 2),
            "sigmoid": True,
            "activation": "tanh",
            "residual": True,
            "num_classes": 2,
        },
    ),
    "LinearPlusMLP": (
        {"inputs": 3, "hidden": (5,), "outputs": 2},
        {"inputs": 4, "hidden": (6,), "outputs": 3, "activation": "tanh", "dropout": 0.5, "num_classes": 2},
    ),
    "ConvEncoder": (
        {"in_shape": (1, 12, 9), "out_shape": (3,), "width": 16},
        {"in_shape": (2, 12, 9), "out_shape": (4,), "width": 32, "blocks": 2, "num_classes": 2},
    ),
    "ConvDecoder": (
        {"in_shape": (3,), "out_shape": (1, 12, 9), "width": 16},
        {
            "in_shape": (4,),
            "out_shape": (2, 12, 9),
            "width": 32,
            "blocks": 2,
            "has_log_var": False,
            "sigmoid": True,
            "num_classes": 2,
        },
    ),
}
NEEDS = {("ClassicUNet", "time_features"): {"time": "sinusoidal"}}  # without which an option has no effect
UNUSED = {("TableNet", "size")}  # as its documentation says


def trace(name, options):
    """Shapes of the weights, the output for random weights and inputs, and how often a layer was called."""
    torch.manual_seed(0)
    net = getattr(nets, name)(**options)
    for number, p in enumerate(net.parameters()):
        torch.nn.init.normal_(p, std=0.3, generator=seeded(number))
    calls = []
    for layer in net.modules():
        layer.register_forward_hook(lambda *_: calls.append(1))
    inputs = [torch.randn(2, *event_of(net, options), generator=seeded(1))]
    if isinstance(net, ImageDenoiser):
        inputs.append(torch.tensor([1, 5]))
    if options.get("num_classes"):
        inputs.append(torch.tensor([0, 1]))
    if options.get("cond_dim"):
        inputs.append(torch.ones(2, options["cond_dim"]))
    out = net(*inputs)
    out = out if isinstance(out, tuple) else (out,)
    sum(one.square().sum() for one in out).backward()
    return {key: value.shape for key, value in net.state_dict().items()}, out, len(calls)


def event_of(net, options):
    if isinstance(net, ImageDenoiser):
        return (options["channels"], *options["size"])
    return options["in_shape"] if "in_shape" in options else (options["inputs"],)


@catches("""nets/classic.py: the classic U-Net ignores the width of a head [ClassicUNet-head_width]
- Attention(width, groups, head_width or width)
+ Attention(width, groups, width)""")
@catches("""nets/classic.py: the classic U-Net ignores its number of sinusoids [ClassicUNet-time_features]
- time_features or widths[0])
+ widths[0])""")
@catches("""nets/conv.py: an encoder has one block at every level [ConvEncoder-blocks]
- range(blocks if level else 0)
+ range(1 if level else 0)""")
@catches("""nets/conv.py: a decoder has one block at every level [ConvDecoder-blocks]
- range(1 if level == finest else blocks)
+ range(1)""")
@catches("""nets/table.py: hidden units are never dropped [LinearPlusMLP-dropout]
- nn.Dropout(dropout)
+ nn.Dropout(0.0)""")
@catches("""nets/unet.py: the coarse blocks are never recomputed [UNet-checkpointing]
- if self.checkpointing and torch.is_grad_enabled():
+ if self.checkpointing and not torch.is_grad_enabled():""")
@catches("""nets/conv.py: a decoder with log-variances ignores its sigmoid [ConvDecoder-sigmoid]
- return mean.sigmoid() if self.sigmoid else mean, log_var
+ return mean, log_var""")
@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, (_, others) in NETS.items() for option in others]
)
def test_every_option_of_a_network_changes_it(name, option):
    base, others = NETS[name]
    base, value = base | NEEDS.get((name, option), {}), others[option]
    shapes, out, calls = trace(name, base)
    other_shapes, other_out, other_calls = trace(name, base | {option: value})
    same = shapes == other_shapes and calls == other_calls and len(out) == len(other_out)
    assert not same or not all(map(torch.equal, out, other_out))


def test_these_are_all_networks_with_all_their_options():
    networks = {name for name in nets.__all__ if inspect.isclass(getattr(nets, name))}
    assert set(NETS) == networks - {"Denoiser", "ImageDenoiser"}
    for name, (_, others) in NETS.items():
        known = set(inspect.signature(getattr(nets, name)).parameters)
        assert known - set(others) == {option for network, option in UNUSED if network == name}


# Solvers and sampling

CHAIN = kk.Diffusion(lambda z, t: torch.tanh(z), Schedule.cosine(40), 2, prediction="x")
KINDS = {kk.solvers.Ancestral: {}, kk.solvers.Renoise: {}, kk.solvers.DDIM: {"eta": 0.5}, kk.solvers.Heun: {"churn": 4.0}, kk.solvers.UniPC: {"predictor_order": 1}, kk.solvers.DPMSolver: {"order": 1, "sde": True}}  # fmt: skip


@pytest.mark.parametrize(("kind", "option"), [(kind, option) for kind, others in KINDS.items() for option in others])
def test_every_option_of_a_solver_changes_its_samples(kind, option):
    assert {field.name for field in dataclasses.fields(kind)} == set(KINDS[kind])
    plain, other = kind(), kind(**{option: KINDS[kind][option]})
    assert not torch.equal(sample(CHAIN, 2, solver=plain, steps=8), sample(CHAIN, 2, solver=other, steps=8))


def test_these_are_all_solvers():
    assert {
        getattr(factory, "func", factory) for factory in map(kk.solvers.SOLVERS.__getitem__, kk.solvers.SOLVERS)
    } == set(KINDS)


@pytest.mark.parametrize(
    "change",
    [
        {"z": torch.ones(3, 2)},
        {"solver": "ddim"},
        {"steps": 9},
        {"times": [3, 20, 40]},
        {"seed": 1},
        {"spacing": "uniform"},
        {"spacing": "log-snr"},
        {"end_log_snr": 1.0},
        {"first": 1},
    ],
    ids=str,
)
def test_every_argument_of_sample_changes_the_samples(change):
    assert not torch.equal(sample(CHAIN, 3, **{"steps": 8, **change}), sample(CHAIN, 3, steps=8))


def test_samples_without_arguments_are_those_of_the_documented_defaults():
    named = sample(
        CHAIN, 3, solver=kk.solvers.DPMSolver(order=2, sde=True), steps=20, spacing="karras", seed=0, first=0
    )
    assert torch.equal(sample(CHAIN, 3), named)
    short = kk.Diffusion(CHAIN.denoiser, Schedule.cosine(7), 2, prediction="x")
    assert torch.equal(sample(short, 3), sample(short, 3, steps=7))


def test_samples_from_a_first_index_on_are_those_of_a_longer_batch():
    assert torch.equal(sample(CHAIN, 3, first=2, steps=4), sample(CHAIN, 5, steps=4)[2:])
    vae = kk.VAE(lambda x: (x, x), torch.sin, 2)
    assert torch.equal(sample(vae, 3, first=2), sample(vae, 5)[2:])


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("linear", {"beta_min": 1e-3}),
        ("linear", {"beta_max": 0.3}),
        ("cosine", {"offset": 0.1}),
        ("cosine", {"max_beta": 0.5}),
        ("sigmoid", {"start": -2.0}),
        ("sigmoid", {"end": 2.0}),
        ("sigmoid", {"tau": 0.5}),
        ("sigmoid", {"max_beta": 0.5}),
        ("sigmoid_beta", {"beta_min": 1e-3}),
        ("sigmoid_beta", {"beta_max": 0.3}),
    ],
    ids=str,
)
def test_every_option_of_a_schedule_changes_it(kind, change):
    build = getattr(Schedule, kind)
    assert not torch.equal(build(20, **change).beta, build(20).beta)
