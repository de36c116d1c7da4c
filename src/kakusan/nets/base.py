"""The protocol of every denoiser, and the base class of the built-in denoisers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from kakusan.errors import InputError
from kakusan.nets.layers import hidden_weights
from kakusan.nets.time import TimeKind, time_network


class Denoiser(Protocol):
    """A network that is called as `net(z_t, t)`, or as `net(z_t, t, cond)` if it is conditional.

    z_t is (b, *event), t is int64 (b,) in 1..T, and cond is int64 (b,) class indices or float (b, ...) features. The
    output has the shape of z_t. With `variance="learned"` it is a pair (prediction, v), v in [0, 1] (M7).

    A module may have a method `hidden_matrices() -> list[Tensor]`. It returns the weights whose updates the optimizer
    Muon orthogonalizes.
    """

    def __call__(self, z_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the prediction for z_t at t."""
        ...


class ImageDenoiser(nn.Module):
    """Base class of the built-in denoisers of images (b, C, H, W); it embeds t and cond.

    Args:
        time: Embedding of t: "sinusoidal" features, or a "table" with one row per t (M12).
        time_width: Width of the embedding of t and cond.
        num_steps: T, for the table.
        num_classes: Number of classes if class-conditional, otherwise 0.
        cond_dim: Number of features if conditional on features, otherwise 0.
        frequencies: Number of sinusoids of t.
    """

    settings: ClassVar[tuple[str, ...]]  # constructor arguments that `from_config` reads from a config
    not_hidden: ClassVar[tuple[str, ...]] = ("time", "first", "last")  # parts without hidden matrices

    def __init__(
        self,
        time: TimeKind,
        time_width: int,
        num_steps: int,
        num_classes: int = 0,
        cond_dim: int = 0,
        frequencies: int = 64,
    ):
        super().__init__()
        if num_classes and cond_dim:
            raise InputError(
                f"a network is conditional on classes or on features; choose num_classes={num_classes} or cond_dim={cond_dim}"
            )
        self.num_classes, self.cond_dim = num_classes, cond_dim
        self.most_steps = num_steps if time == "table" else None
        self.time = time_network(time, time_width, num_steps, num_classes, cond_dim, frequencies)

    @classmethod
    def from_config(cls, config: Any, event_shape: Sequence[int]) -> Self:
        """Build an untrained network for examples of shape (C, *size) from the attributes of `config`."""
        channels, *size = event_shape
        network: Any = cls
        return network(
            channels,
            tuple(size),
            config.depth,
            **cls._settings(config),
            time=config.time,
            gate=config.variance == "learned",
            num_classes=config.num_conditions,
        )

    @classmethod
    def _settings(cls, config: Any) -> dict[str, Any]:
        return {name: getattr(config, name) for name in cls.settings}

    def embed(self, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the embedding of t (b,) and cond, (b, time_width); InputError if cond does not fit this network."""
        if self.num_classes:
            check_classes(cond, t.shape[0], self.num_classes)
        if self.cond_dim and (
            cond is None or not cond.is_floating_point() or cond.shape != (t.shape[0], self.cond_dim)
        ):
            raise InputError(
                f"this network is conditional on {self.cond_dim} features: pass cond, float of shape "
                f"(b, {self.cond_dim}), got {_described(cond)}"
            )
        if not (self.num_classes or self.cond_dim):
            check_classes(cond, t.shape[0], 0)
        return self.time(t) if cond is None else self.time(t, cond)

    def hidden_matrices(self) -> list[Tensor]:
        """Weights between hidden layers, whose updates the optimizer Muon orthogonalizes."""
        return hidden_weights(*(part for name, part in self.named_children() if name not in self.not_hidden))


def check_classes(cond: Tensor | None, num: int, num_classes: int) -> None:
    """Raise an InputError unless cond holds `num` indices of `num_classes` classes; with 0 classes it must be None."""
    if num_classes and (cond is None or cond.is_floating_point() or cond.shape != (num,)):
        raise InputError(
            f"this network is class-conditional on {num_classes} classes: pass cond, int64 of shape (b,), "
            f"got {_described(cond)}"
        )
    if not num_classes and cond is not None:
        raise InputError(f"this network is unconditional: omit cond, got {_described(cond)}")


def _described(cond: Tensor | None) -> str:
    return "None" if cond is None else f"{str(cond.dtype).removeprefix('torch.')} of shape {tuple(cond.shape)}"
