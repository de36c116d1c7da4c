"""`kakusan.fit`: train a chain on a tensor, without a run directory."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from kakusan.chain import LatentChain
from kakusan.checks import check_event, check_finite
from kakusan.errors import InputError
from kakusan.models.mixture import split
from kakusan.noise import Randomness
from kakusan.settings import seed_of
from kakusan.training.loop import Trainer
from kakusan.training.settings import Budget, Optim

CHECKED = 64  # number of examples that are validated at the start
WIDTH, HEIGHT, MOST_POINTS = 320, 80, 200  # size of the curve in a notebook in pixels, and number of its points


@dataclass
class History:
    """Losses over a fit: for each recorded step its number, the seconds so far and the running mean of the loss."""

    step: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)

    def add(self, trainer: Trainer) -> None:
        """Record the step that the trainer has just taken.

        On a CPU a skipped step is not recorded. On other devices checks come late, and the loss is that of the last check.
        """
        state = trainer.state
        if state.loss is not None and state.step - 1 not in state.skipped:
            self.step.append(state.step)
            self.seconds.append(state.seconds)
            self.loss.append(state.loss)

    def to_dict(self) -> dict[str, list[float]]:
        """Return the columns by name, e.g. for a data frame."""
        return dataclasses.asdict(self)

    def _repr_html_(self) -> str:
        """Return the text of repr above a small curve of the loss, for notebooks."""
        return f"<div>{html.escape(repr(self))}{self._curve()}</div>"

    def _curve(self) -> str:
        """Return the loss over the steps as SVG; empty with fewer than two steps or non-finite values."""
        every = math.ceil(len(self.loss) / MOST_POINTS) or 1
        loss = [*self.loss[::every], *self.loss[-1:]]
        low, high = min(loss, default=0.0), max(loss, default=0.0)
        if len(self.loss) < 2 or not math.isfinite(high - low):
            return ""
        across, up = WIDTH / (len(loss) - 1), HEIGHT / ((high - low) or 1.0)
        points = " ".join(f"{k * across:.1f},{(high - value) * up:.1f}" for k, value in enumerate(loss))
        return (
            f'<br><svg role="img" aria-label="loss over the steps" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="-2 -2 {WIDTH + 4} {HEIGHT + 4}"><polyline points="{points}" fill="none" stroke="#2f81c5" '
            'stroke-width="2"/></svg>'
        )

    def __repr__(self) -> str:
        if not self.step:
            return "History(no steps)"
        words = f"{self.step[-1]:,} steps, {self.seconds[-1]:.1f} s"
        return f"History({words}, loss {self.loss[0]:.4g} -> {self.loss[-1]:.4g})"


def fit(
    chain: LatentChain,
    x: Tensor,
    *,
    cond: Tensor | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    optim: Optim | None = None,
    average: bool = True,
    on_step: Callable[[Trainer], None] | None = None,
) -> History:
    """Train a chain on a tensor, in place.

    The chain and its data must be on one device. After Ctrl-C the chain keeps what it has learned so far.

    Args:
        chain: A chain that is an `nn.Module` with trainable parameters.
        x: Training examples on the chain's scale, (N, *event).
        cond: Condition of each example, (N,) or (N, ...), for a conditional chain.
        steps: Budget in steps.
        minutes: Budget in minutes, instead of steps.
        seed: Random seed, a whole number of at least 0, of batches and noise.
        optim: Optimizer settings (default: `Optim()`, with batches of at most N examples).
        average: Whether to leave the averaged weights in the chain (default); they are usually better than the last ones.
        on_step: Function that is called with the trainer after each step; it must be fast.

    Returns:
        The losses over the run.

    Raises:
        InputError: If the chain cannot be trained on these data, or not exactly one budget is given.

    Example:
        >>> import kakusan as kk, torch
        >>> chain = kk.VAE(kk.nets.GaussianMLP((2,), (16,), (1,)), kk.nets.MLP((1,), (16,), (2,)), latent_shape=1)
        >>> kk.fit(chain, torch.randn(256, 2), steps=5).step
        [1, 2, 3, 4, 5]
    """
    model, seed = _checked(chain, x, cond), seed_of(seed)
    history = History()

    def loss(indices: Tensor, randomness: Randomness) -> Tensor:
        return model.loss(x[indices], randomness, cond=None if cond is None else cond[indices])

    def record(trainer: Trainer) -> None:
        history.add(trainer)
        if on_step is not None:
            on_step(trainer)

    was_training = model.training
    trainer = Trainer(model, loss, len(x), _fitting(optim or Optim(), len(x)), _budget(steps, minutes), seed, x.device)
    finished = trainer.run([], lambda trainer: None, record)
    if average:
        model.load_state_dict(trainer.ema.module.state_dict())
    model.train(was_training)
    if not finished:
        raise KeyboardInterrupt
    return history


def _budget(steps: int | None, minutes: float | None) -> Budget:
    """Return the budget; InputError unless exactly one is given."""
    if (steps is None) == (minutes is None):
        raise InputError("fit needs a budget: give either steps=1000 or minutes=5")
    return Budget(minutes, steps)


def _fitting(settings: Optim, num_examples: int) -> Optim:
    """Return the settings with a batch no larger than the data, in equal micro-batches."""
    batch = max(1, min(settings.batch, num_examples) // settings.num_groups) * settings.num_groups
    return dataclasses.replace(settings, batch=batch)


def _checked(chain: Any, x: Tensor, cond: Tensor | None) -> Any:
    """Return the chain, which is also an nn.Module; InputError unless it can be trained on these examples."""
    if not isinstance(chain, LatentChain) or not isinstance(chain, nn.Module):
        raise InputError(f"fit trains a LatentChain that is an nn.Module, got {type(chain).__name__}")
    parameters = [p for p in chain.parameters() if p.requires_grad]
    if not parameters:
        raise InputError(f"{type(chain).__name__} has no trainable parameters; give it networks that are nn.Modules")
    check_event(x)
    if len(x) < 1:
        raise InputError("x must hold at least one example, got none")
    first = parameters[0]
    if x.device != first.device or x.dtype != first.dtype:
        raise InputError(
            f"x is {x.dtype} on {x.device} and the chain {first.dtype} on {first.device}; "
            "convert one of them: x.to(next(chain.parameters()))"
        )
    check_finite(x)
    if cond is not None and len(cond) != len(x):
        raise InputError(f"cond must have an entry for each of the {len(x):,} examples, got {len(cond):,}")
    classes = split(chain)[1]
    if classes is not None:
        classes.check_found()
    chain.validate(x[:CHECKED], None if cond is None else cond[:CHECKED])
    return chain
