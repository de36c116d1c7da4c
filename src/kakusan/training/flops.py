"""Floating-point operations of a training step, and the peak rate of the device.

Matrix products, convolutions and attention are counted, forward and backward; a multiply-add is two operations.
Recomputation, elementwise operations and the optimizer are not counted. This is the usual definition of model FLOPs.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kakusan import distributed
from kakusan.noise import stream
from kakusan.training.loop import Trainer, buffers_kept

COUNTED = 16  # number of examples on which operations are counted
SIDE = 8192  # size of the square matrices whose products measure a GPU's peak
PRODUCTS = 20


@dataclass(frozen=True)
class Effort:
    """Training cost of an example, and peak rate of the devices."""

    flops: float | None = None  # operations per example; None if not counted
    peak: float | None = None  # peak FLOP/s of all devices together; None if unknown

    def words(self, rate: float) -> str:
        """Describe a rate in examples per second, e.g. as "85 GFLOP/s" or "400,000 GFLOP/s, 51 % of the peak"."""
        if not self.flops:
            return ""
        share = f", {rate * self.flops / self.peak:.0%} of the peak" if self.peak else ""
        gigas = rate * self.flops / 1e9
        return f"{gigas:{',.0f' if gigas >= 10 else '.2g'}} GFLOP/s{share}"


def effort_of(trainer: Trainer) -> Effort:
    """Count the operations and measure the peak; takes a fraction of a second."""
    peak = peak_of(trainer)
    return Effort(per_example(trainer), None if peak is None else peak * distributed.world_size())


def per_example(trainer: Trainer) -> float:
    """Count the FLOPs of loss and gradient per example.

    They are counted on a few examples without compilation. Weights, gradients and random streams do not change.
    """
    parameters = [p for p in trainer.module.parameters() if p.requires_grad]
    indices = torch.arange(COUNTED, device=trainer.device) % trainer.num_examples
    noise = stream(trainer.seed, "flops", device=trainer.device)
    # set_stance imports torch's compiler, which takes a second
    plain = nullcontext() if trainer.settings.compile == "none" else torch.compiler.set_stance("force_eager")
    # attention as plain products, because fused kernels are counted wrongly
    attention, counter = sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False)
    with buffers_kept(trainer.module), plain, attention, counter:
        loss = trainer.loss(indices, noise).mean()
        torch.autograd.grad(loss, parameters, allow_unused=True)
    return counter.get_total_flops() / COUNTED


def measured_peak(device: torch.device, dtype: torch.dtype, side: int = SIDE, products: int = PRODUCTS) -> float:
    """Measure the peak FLOP/s of the device: the fastest of several products of two random square matrices."""
    noise = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(side, side, generator=noise, device=device, dtype=torch.float32).to(dtype) for _ in "ab")
    seconds = []
    for _ in range(products):
        wait(device)
        began = time.perf_counter()
        left @ right
        wait(device)
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds)


def peak_of(trainer: Trainer) -> float | None:
    """Measure the peak FLOP/s of the trainer's GPU at its precision; None on a CPU."""
    if trainer.device.type != "cuda":
        return None
    dtype = torch.bfloat16 if trainer.settings.precision == "bfloat16" else torch.float32
    with trainer.computing.step():
        return measured_peak(trainer.device, dtype)


def wait(device: torch.device) -> None:
    """Wait until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
