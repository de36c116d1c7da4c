"""Training images a second of one architecture: rivals by their own training step, and the same network in our trainer.

    python benchmarks/throughput.py [--rounds 9] [--threads 1] [--only NAME ...]

Needs the rivals' environment. Both sides of a pair have the same parameters, batch, float32 and data in memory. The
diffusers side is its UNet2DModel with DDPMScheduler and EMAModel; ours is ClassicUNet, which must give the same numbers
from the same weights before anything is timed. The other rival's network, with linear attention and RMS normalisation,
is no setting of ours: there our trainer trains its own object, in channels-last memory.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from results import Figure, Result, Spread, interleaved, processor_seconds
from rivals.huggingface import NETWORK as SMALL_DIFFUSERS
from rivals.huggingface import HuggingFace
from rivals.lucidrains import NETWORK as SMALL_LUCIDRAINS
from rivals.lucidrains import Lucidrains
from rivals.train import Steps
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.data.mnist import mnist
from kakusan.diffusion import Diffusion
from kakusan.nets.classic import ClassicUNet
from kakusan.schedule import Schedule
from kakusan.train.loop import Told, Trainer
from kakusan.train.settings import Budget, Optim
from kakusan.train.stopping import StopRequests

TOLERANCE = 1e-5  # of outputs of order one, float32
LEVELS = {"block_out_channels": (32, 64, 128)}
PLAIN = {"down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3}
ATTENDING = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}
# name: (side of the pictures, batch, the rival's settings)
CASES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "diffusers small": (28, 32, SMALL_DIFFUSERS),
    "diffusers 32-64-128": (32, 64, LEVELS | PLAIN),
    "diffusers 32-64-128, attention at 16": (32, 64, LEVELS | ATTENDING),
    "lucidrains small": (28, 32, SMALL_LUCIDRAINS),
    "lucidrains 32, 1-2-4": (32, 64, {"dim": 32, "dim_mults": (1, 2, 4)}),
}


def classic(rival: nn.Module) -> ClassicUNet:
    """ClassicUNet of a UNet2DModel's architecture and weights; AssertionError unless it gives the same numbers."""
    c = rival.config
    ours = ClassicUNet(
        c.in_channels,
        (c.sample_size, c.sample_size),
        depth=1000,
        widths=c.block_out_channels,
        blocks=c.layers_per_block,
        attention=["Attn" in kind for kind in c.down_block_types],
        middle_attention=c.add_attention,
        head_width=c.attention_head_dim,
        groups=c.norm_num_groups,
    )
    ours.load_state_dict(carried(rival.state_dict(), ours.blocks))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in rival.parameters())
    z, t = torch.randn(4, c.in_channels, c.sample_size, c.sample_size), torch.tensor([1, 10, 500, 999])
    with torch.no_grad():
        difference = (ours(z, t) - rival(z, t, return_dict=False)[0]).abs().max().item()
    assert difference < TOLERANCE, f"ClassicUNet is {difference:.1e} off UNet2DModel"
    return ours


def carried(theirs: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """A UNet2DModel's weights under our names."""
    names = {"conv_in": "first", "conv_norm_out": "norm", "conv_out": "last"}
    names |= {"time_embedding.linear_1": "time.first", "time_embedding.linear_2": "time.second"}
    parts = {"conv_shortcut": "shortcut", "group_norm": "attention.norm", "to_out.0": "attention.out"}
    blocks_of = {"down_blocks": ("down", blocks), "up_blocks": ("up", blocks + 1), "mid_block": ("middle", 0)}
    ours: dict[str, Tensor] = {}
    grouped: dict[str, list[Tensor]] = {}  # of ours, what theirs keeps in pieces
    shifts: dict[tuple[int, int, str], Tensor] = {}
    for name, value in theirs.items():
        layer, kind = name.rsplit(".", 1)
        if layer in names:
            ours[f"{names[layer]}.{kind}"] = value
            continue
        place, _, rest = layer.partition(".")
        level, _, rest = rest.partition(".") if place != "mid_block" else ("0", "", rest)
        room, per_level = blocks_of[place]
        what, index, part = rest.split(".", 2)
        if what in ("downsamplers", "upsamplers"):
            ours[f"{'shrink' if what == 'downsamplers' else 'enlarge'}.{level}.{kind}"] = value
            continue
        number = int(level) * per_level + int(index)
        if part == "time_emb_proj":
            shifts[("down", "middle", "up").index(room), number, kind] = value
        elif part in ("to_q", "to_k", "to_v"):
            grouped.setdefault(f"{room}.{number}.attention.queries_keys_values.{kind}", []).append(value)
        else:
            ours[f"{room}.{number}.{parts.get(part, part)}.{kind}"] = value
    ours |= {name: torch.cat(values) for name, values in grouped.items()}
    for kind in ("weight", "bias"):
        ours[f"shifts.{kind}"] = torch.cat([shifts[key] for key in sorted(shifts) if key[2] == kind])
    features = ours["time.first.weight"]  # theirs reads all cosines, then all sines; ours a sine and a cosine in turn
    ours["time.first.weight"] = torch.stack(features.chunk(2, dim=1)[::-1], dim=2).flatten(1)
    return ours


def our_steps(network: nn.Module, data: Tensor, batch: int) -> Callable[[int], None]:
    """Of our trainer, its checks, clock and averaged weights included."""
    module = Diffusion(network, Schedule.cosine(1000), tuple(data.shape[1:]), prediction="v")

    def loss(indices: Tensor, randomness: torch.Generator) -> Tensor:
        return module.loss(data[indices].float() / 127.5 - 1, randomness)

    trainer = Trainer(module, loss, len(data), Optim(batch=batch), Budget(steps=10**9), 0, torch.device("cpu"))
    trainer.clock.start(0)
    trainer.module.train()
    told = Told()

    def take(steps: int) -> None:
        nonlocal told
        for _ in range(steps):
            trainer._advance(told)
            told = trainer._step(StopRequests(), save=False)

    return take


def measured(name: str, rounds: int, threads: int) -> dict[str, Any]:
    """One row of the table."""
    size, batch, settings = CASES[name]
    torch.manual_seed(0)
    data = F.pad(mnist().train, ((size - 28) // 2,) * 4)
    if name.startswith("diffusers"):
        rival = HuggingFace(size, settings)
        network: nn.Module = classic(rival.module)
    else:
        rival = Lucidrains(size, settings)
        network = copy.deepcopy(rival.module.model).to(memory_format=torch.channels_last)
    theirs, ours = Steps(rival, data, batch, 1e-3).take, our_steps(network, data, batch)
    steps = 4 if size == 28 else 1
    blocks = {"theirs": lambda: theirs(steps), "ours": lambda: ours(steps)}
    interleaved(blocks, 1, processor_seconds)  # the first steps choose kernels and fill the optimisers' states
    took = interleaved(blocks, rounds, processor_seconds)
    pace = {side: Spread.of(seconds).each(lambda one: steps * batch / one) for side, seconds in took.items()}
    ratio = Spread.of([them / us for them, us in zip(took["theirs"], took["ours"], strict=True)])
    row = {"case": name, "size": size, "batch": batch, "threads": threads}
    row["parameters"] = sum(p.numel() for p in network.parameters())
    for column, spread in {"theirs": pace["theirs"], "ours": pace["ours"], "ratio": ratio}.items():
        row |= {column: spread.median, f"{column}, quartiles": f"{spread.low:.3g} to {spread.high:.3g}"}
    return row | {"rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    given = parser.parse_args()
    rows = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        for name in given.only:
            rows.append(measured(name, given.rounds, threads))
            print(rows[-1], flush=True)
    notes = [
        "theirs and ours are images a second of processor time, summed over threads; medians and quartiles of rounds",
        "diffusers: ClassicUNet with its weights carried over, equal outputs to 1e-5; lucidrains: its own network object "
        "in our trainer, in channels-last memory",
    ]
    question = "How many training images a second, at the same architecture and parameters?"
    Result("throughput", question, rows, notes, [Figure("case", "ratio", "threads", points=True)]).write()


if __name__ == "__main__":
    main()
