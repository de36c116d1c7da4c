"""Training images per second of one architecture: rivals with their own training step, and the same network in ours.

    python benchmarks/throughput.py --rounds 9 --threads 1 2

Needs the rivals' environment. Both sides of a pair have the same parameters, batch, precision and data in memory. Each is
a process of its own, and takes its steps while the others wait. The diffusers side is its UNet2DModel with DDPMScheduler
and EMAModel. Ours is ClassicUNet, which must give the same numbers from the same weights before anything is timed. The
other rival's network has linear attention and RMS normalization: there our trainer trains the rival's network object, in
channels-last memory.

Times are in float32, as in the rivals' documented loops on a CPU. On a processor with bfloat16 units they are in bfloat16
too, the rivals under autocast as in accelerate's mixed_precision. Ours is also timed compiled (optim.compile default) in
float32; the cost of compiling is a column. Small cases come first, and the result is written after each, so that an
interrupted run keeps its results.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
from results import FOLDER, Figure, Result, Spread, clock_seconds, interleaved, processor, processor_seconds
from rivals import Rival, rival
from rivals.train import Steps
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.cli.allocator import keep_freed_memory
from kakusan.data.digits import mnist
from kakusan.models.diffusion import Diffusion
from kakusan.nets.classic import ClassicUNet
from kakusan.run.train import PARALLEL
from kakusan.schedule import Schedule
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim

TOLERANCE = 1e-5  # of outputs of order one, float32
LEVELS = {"block_out_channels": (32, 64, 128)}
PLAIN = {"down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3}
ATTENDING = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}
# name, which starts with the rival's: (side of the images, batch, settings of its network; None: as tuned)
CASES: dict[str, tuple[int, int, dict[str, Any] | None]] = {
    "diffusers small": (28, 32, None),
    "lucidrains small": (28, 32, None),
    "diffusers 32-64-128": (32, 64, LEVELS | PLAIN),
    "lucidrains 32, 1-2-4": (32, 64, {"dim": 32, "dim_mults": (1, 2, 4)}),
    "diffusers 32-64-128, attention at 16": (32, 64, LEVELS | ATTENDING),
}


def classic(theirs: nn.Module) -> ClassicUNet:
    """ClassicUNet with a UNet2DModel's architecture and weights; AssertionError unless it gives the same numbers."""
    c = theirs.config
    ours = ClassicUNet(
        c.in_channels,
        (c.sample_size, c.sample_size),
        num_steps=1000,
        widths=c.block_out_channels,
        blocks=c.layers_per_block,
        attention=["Attn" in kind for kind in c.down_block_types],
        middle_attention=c.add_attention,
        head_width=c.attention_head_dim,
        groups=c.norm_num_groups,
    )
    ours.load_state_dict(carried(theirs.state_dict(), ours.blocks))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    z, t = torch.randn(4, c.in_channels, c.sample_size, c.sample_size), torch.tensor([1, 10, 500, 999])
    with torch.no_grad():
        difference = (ours(z, t) - theirs(z, t, return_dict=False)[0]).abs().max().item()
    assert difference < TOLERANCE, f"ClassicUNet is {difference:.1e} off UNet2DModel"
    return ours


def carried(theirs: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Weights of a UNet2DModel under our names."""
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


def our_steps(network: nn.Module, data: Tensor, optim: Optim) -> Callable[[int], None]:
    """Steps of our trainer with its checks, clock and averaged weights; the first one compiles, if asked to."""
    module = Diffusion(network, Schedule.cosine(1000), tuple(data.shape[1:]), prediction="v")

    def loss(indices: Tensor, randomness: torch.Generator) -> Tensor:
        return module.loss(data[indices].float() / 127.5 - 1, randomness)

    trainer = Trainer(module, loss, len(data), optim, Budget(steps=10**9), 0, torch.device("cpu"))
    trainer.module.train()

    def take(steps: int) -> None:
        for _ in range(steps):
            trainer.step()

    return take


def seconds_with_children(run: Callable[[], object]) -> float:
    """Processor seconds of one call, including the C++ compiler that it starts."""
    began = os.times()
    run()
    return sum(os.times()[:4]) - sum(began[:4])


@dataclass(frozen=True)
class Side:
    """One side of a case: library, precision and compilation."""

    ours: bool
    precision: Literal["float32", "bfloat16"] = "float32"
    compiled: bool = False
    keeps: bool = False  # the memory that its steps free; ours does in any case


SIDES = {
    "theirs": Side(False),
    "theirs, memory kept": Side(False, keeps=True),
    "ours": Side(True),
    "theirs, bfloat16": Side(False, "bfloat16"),
    "bfloat16": Side(True, "bfloat16"),
    "compiled": Side(True, compiled=True),
}
RATIOS = {  # of one of ours, and to which of theirs: the fastest in each round, of those that were run
    "ratio, ours": ("ours", ["theirs"]),
    "ratio, memory kept": ("ours", ["theirs, memory kept"]),
    "ratio, bfloat16": ("bfloat16", ["theirs", "theirs, bfloat16"]),
    "ratio, compiled": ("compiled", ["theirs"]),
}


def network_of(name: str, one: Rival) -> nn.Module:
    """Network that both sides train."""
    return classic(one.module) if name.startswith("diffusers") else one.module.model


def steps_of(name: str, side: Side, threads: int) -> Callable[[int], None]:
    """Function that takes n steps of one side in this process."""
    if (side.ours or side.keeps) and not keep_freed_memory():
        raise SystemExit("the environment sets up the allocator: unset MALLOC_*, GLIBC_TUNABLES and LD_PRELOAD")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    size, batch, settings = CASES[name]
    one = rival(name.split()[0], size, settings)
    data = F.pad(mnist().train, ((size - 28) // 2,) * 4)
    if not side.ours:
        return Steps(one, data, batch, 1e-3, side.precision).take
    groups = 1 if side.compiled else min(threads, PARALLEL)
    optim = Optim(batch=batch, groups=groups, precision=side.precision, compile="default" if side.compiled else "none")
    return our_steps(network_of(name, one).to(memory_format=torch.channels_last), data, optim)


def serve(name: str, side: Side, threads: int, orders: Connection) -> None:
    """Take as many steps as each line of stdin orders, and print the seconds that they took."""
    take = steps_of(name, side, threads)
    clock = processor_seconds if threads == 1 else clock_seconds  # a core that waits for another one is lost as well
    orders.send(seconds_with_children(partial(take, 1)))  # it compiles, chooses kernels, fills the optimizer's state
    while (steps := orders.recv()) > 0:
        orders.send(clock(partial(take, steps)))


def measured(name: str, rounds: int, threads: int, sides: list[str]) -> dict[str, Any]:
    """Row of the table."""
    size, batch, settings = CASES[name]
    network = network_of(name, rival(name.split()[0], size, settings))
    row: dict[str, Any] = {"case": name, "size": size, "batch": batch, "threads": threads}
    row["parameters"] = sum(p.numel() for p in network.parameters())
    steps, context = 4 if size == 28 else 1, multiprocessing.get_context("spawn")
    ends, first = {}, {}
    with tempfile.TemporaryDirectory() as empty:  # what was compiled before would hide what compiling costs
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = empty
        for label in sides:
            ends[label], other = context.Pipe()
            context.Process(target=serve, args=(name, SIDES[label], threads, other), daemon=True).start()
            other.close()  # so that a side that fails is an end of its messages
            first[label] = ends[label].recv()  # one after the other, so that none disturbs another one

        def seconds_of(label: str) -> float:
            ends[label].send(steps)
            return ends[label].recv()

        blocks = {label: partial(seconds_of, label) for label in sides}
        took = interleaved(blocks, rounds, lambda ask: ask())
        for end in ends.values():
            end.send(0)
    for label in sides:
        row |= column(label, Spread.of(took[label]).each(lambda seconds: steps * batch / seconds))
    for ratio, (label, against) in RATIOS.items():
        if label in sides:
            fastest = map(min, *(took[one] for one in against), took[against[0]])
            row |= column(ratio, Spread.of([them / us for them, us in zip(fastest, took[label], strict=True)]))
    return row | {"seconds to compile": first.get("compiled"), "rounds": rounds}


def has_bfloat16() -> bool:
    """True if this processor has bfloat16 multiplication."""
    said = Path("/proc/cpuinfo")
    words = said.read_text().split() if said.exists() else []
    return "avx512_bf16" in words or "amx_bf16" in words or "bf16" in words


def column(name: str, spread: Spread) -> dict[str, Any]:
    """Median and quartiles as text."""
    return {name: spread.median, f"{name}, quartiles": f"{spread.low:.3g} to {spread.high:.3g}"}


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=9)
    words.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    words.add_argument(
        "--only", nargs="*", choices=list(CASES), default=list(CASES), help="cases to run; rows of the others are kept"
    )
    words.add_argument("--plain", action="store_true", help="leave out the compiled side")
    return words


def main() -> None:
    given = parser().parse_args()
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # in the process, so that what it takes is counted
    left_out = ["compiled"] if given.plain else []
    left_out += [] if has_bfloat16() else [label for label, side in SIDES.items() if side.precision == "bfloat16"]
    rows: list[dict[str, Any]] = []
    for threads in given.threads:
        for name in given.only:
            rows.append(measured(name, given.rounds, threads, [label for label in SIDES if label not in left_out]))
            print(rows[-1], flush=True)
            written(rows)


def written(rows: list[dict[str, Any]]) -> None:
    """Write docs/benchmarks/throughput.json; this machine's rows of other cases and threads are kept."""
    path, new = FOLDER / "throughput.json", {(row["case"], row["threads"]) for row in rows}
    notes = [
        "The columns theirs, ours, bfloat16 (also ours) and compiled are in images per second. With one thread, seconds are "
        "processor time; with two, they are wall-clock time. Values are medians and quartiles of interleaved rounds, and ratios are "
        "computed within each round. The bfloat16 ratio is to the faster of theirs in float32 and theirs in bfloat16. Seconds "
        "to compile are processor time, measured once per run, and include the first step.",
        "Each library runs in its own process. Ours keeps memory that a step has freed, as the command does "
        "(kakusan.cli.allocator). Theirs does so in the columns named memory kept.",
        "With two threads, theirs divides each operation between them. Ours computes two micro-batches in parallel "
        "(optim.groups), which is the default; when compiled, it has one micro-batch.",
        "diffusers: ClassicUNet with the weights of their network, whose outputs are equal to 1e-5. lucidrains: its own "
        "network object in our trainer, in channels-last memory.",
        "Processor time excludes the time of other processes (the load is stated below), but not their effect on shared "
        "caches and memory bandwidth. Interleaving the rounds reduces this effect on the ratios.",
    ]
    before = json.loads(path.read_text()) if path.exists() else {"notes": None}
    if before["notes"] == notes and before["made"]["processor"] == processor():  # measured in the same way
        rows = rows + [row for row in before["rows"] if (row["case"], row["threads"]) not in new]
    rows.sort(key=lambda row: (row["threads"], list(CASES).index(row["case"])))
    question = "How many training images a second, at the same architecture and parameters?"
    Result("throughput", question, rows, notes, [Figure("case", "ratio, ours", "threads", points=True)]).write()


if __name__ == "__main__":
    main()
