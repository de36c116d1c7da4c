"""Optimizers from settings, and their state as named tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kakusan.errors import InputError
from kakusan.training.muon import Muon
from kakusan.training.settings import Optim


class Optimizers:
    """Torch optimizers that share one step and one learning-rate factor.

    A module may have `rate_factors`, which maps a prefix of parameter names to a factor of their peak learning rates.
    """

    def __init__(self, module: nn.Module, settings: Optim):
        trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._all: list[tuple[torch.optim.Optimizer, float, list[str]]] = []
        factors: dict[str, float] = getattr(module, "rate_factors", {})
        for beginning, factor in (*factors.items(), ("", 1.0)):
            mine = {name: trainable.pop(name) for name in list(trainable) if name.startswith(beginning)}
            self._add(module, settings, mine, factor)
        if settings.method == "muon" and not any(isinstance(optimizer, Muon) for optimizer, _, _ in self._all):
            raise InputError(
                "optim.method=muon is for weights between hidden layers, and no network of this model has a method "
                "hidden_matrices() that returns them; add one, or choose optim.method=adam"
            )

    def _add(self, module: nn.Module, settings: Optim, trainable: dict[str, nn.Parameter], factor: float) -> None:
        matrices = {}
        if settings.method == "muon":
            marked = {id(p) for m in module.modules() for p in getattr(m, "hidden_matrices", list)()}
            matrices = {name: p for name, p in trainable.items() if id(p) in marked}
        rest = {name: p for name, p in trainable.items() if name not in matrices}
        if rest:
            adam = torch.optim.AdamW(
                rest.values(), settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
            )
            self._all.append((adam, settings.lr * factor, list(rest)))
        if matrices:
            muon = Muon(matrices.values(), settings.matrix_lr, weight_decay=settings.weight_decay)
            self._all.append((muon, settings.matrix_lr * factor, list(matrices)))

    def step(self, scale: float, skip: Tensor | None = None) -> None:
        """Take one step at `scale` times the peak learning rates, then clear the gradients.

        Args:
            scale: Factor of the peak learning rates.
            skip: Scalar on the device; 1 skips this step without synchronization.
        """
        for optimizer, peak, _ in self._all:
            optimizer.found_inf = skip  # type: ignore[attr-defined]
            for group in optimizer.param_groups:
                group["lr"] = peak * scale
            optimizer.step()
        self.clear()

    def clear(self) -> None:
        """Clear the gradients."""
        for optimizer, _, _ in self._all:
            optimizer.zero_grad()

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state, named slot.parameter."""
        return {
            f"{slot}.{name}": value if value.dim() else value[None]
            for optimizer, _, names in self._all
            for index, state in optimizer.state_dict()["state"].items()
            for slot, value in state.items()
            for name in [names[index]]
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load a state from `tensors`, on any device."""
        for optimizer, _, names in self._all:
            full = optimizer.state_dict()
            # uses the memory layout of the parameters, because the fused step reads both as flat memory
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            state: dict[int, dict[str, Tensor]] = {}
            for index, name in enumerate(names):
                slots = {key[: -len(name) - 1]: value for key, value in tensors.items() if key.endswith(f".{name}")}
                state[index] = {
                    slot: value[0] if slot == "step" else torch.empty_like(parameters[index]).copy_(value)
                    for slot, value in slots.items()
                    if "." not in slot
                }
            optimizer.load_state_dict({"state": state, "param_groups": full["param_groups"]})
