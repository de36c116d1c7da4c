"""Conversion of networks to modules, and checks of their outputs.

The output of a network is checked where it enters the model, because a wrong shape would broadcast to a meaningless
result.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kakusan.errors import InputError

WRONG_SHAPE = (
    "shapes cannot be multiplied",
    "expected input",
    "Expected input",
    "(batched) input",
    "The size of tensor",
)  # torch's messages


class Function(nn.Module):
    """Module that calls a plain function; modules that the function refers to are registered, so `.to` moves them."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function
        used = inspect.getclosurevars(function) if inspect.isfunction(function) else None
        held = [] if used is None else [*used.nonlocals.values(), *used.globals.values()]
        self.held = nn.ModuleList([value for value in held if isinstance(value, nn.Module)])

    def forward(self, *arguments: Any) -> Any:
        """Call the function."""
        return self.function(*arguments)

    def __deepcopy__(self, memo: dict) -> Function:
        """Copy the wrapper; refused if the copied function would still use the original network's weights."""
        if any(True for _ in self.held.parameters()):
            raise InputError(
                "a function cannot be copied together with the network that it calls; pass the network itself, or an "
                "nn.Module that holds it: class Wrapped(nn.Module): def forward(self, z, t): ..."
            )
        return Function(self.function)


def as_module(network: Callable) -> nn.Module:
    """Return a network as a module, so that its parameters belong to the model."""
    if isinstance(network, nn.Module):
        return network
    if not callable(network):
        raise InputError(f"a network must be an nn.Module or a function, got {type(network).__name__}")
    return Function(network)


def as_denoiser(network: Callable, depth: int) -> nn.Module:
    """A network as a module; InputError if it has a table of fewer steps than the schedule (time="table")."""
    net = as_module(network)
    rows = getattr(net, "most_steps", None)
    if rows is not None and rows < depth:
        raise InputError(
            f"the network was built with num_steps={rows}, and the schedule has {depth} steps; build both with the same"
        )
    return net


def evaluate(network: nn.Module, *inputs: Tensor, cond: Tensor | None) -> Any:
    """Call a network with its inputs, and with cond as the last argument if it is not None; return its output.

    Raises:
        InputError: If the network does not take these inputs, or computes in another dtype.
    """
    arguments = inputs if cond is None else (*inputs, cond)
    if not isinstance(inputs[0], Tensor):
        raise InputError(f"the input of a network must be a tensor, got {type(inputs[0]).__name__}")
    try:
        return network(*arguments)
    except (TypeError, IndexError, RuntimeError) as error:
        words = _explained(error, network, inputs, cond)
        if words is None:
            raise
        raise InputError(words) from error


def _explained(error: Exception, network: nn.Module, inputs: tuple[Tensor, ...], cond: Tensor | None) -> str | None:
    """Explanation of a network's error in terms of its inputs; None if they do not explain it."""
    arguments = inputs if cond is None else (*inputs, cond)
    if isinstance(error, TypeError):
        signature = inspect.signature(network.function if isinstance(network, Function) else network.forward)
        try:
            signature.bind(*arguments)
        except TypeError:
            names = ", ".join([*(("z",) if len(inputs) == 1 else ("z_t", "t")), *(() if cond is None else ("cond",))])
            return f"the network is called as net({names}), and its signature is {signature}; wrap it in a module that takes these"
        return None
    if isinstance(error, IndexError):  # raised by an embedding table
        given = [one for one in arguments[1:] if not one.is_floating_point() and one.numel()]
        if not given:
            return None
        ranges = " and ".join(f"{int(one.min())}..{int(one.max())}" for one in given)
        return (
            f"the network has no embedding for some of the steps or class indices {ranges} ({error}); build it with "
            "num_steps = T of the schedule and num_classes above the largest class"
        )
    if "'indices'" in str(error) and cond is not None and cond.is_floating_point():
        return f"the network takes class indices, int64, as cond, got {cond.dtype}"
    if any(words in str(error) for words in WRONG_SHAPE):
        return f"the network does not take an input of shape {tuple(inputs[0].shape)} ({error})"
    own = reference(network).dtype
    if own == inputs[0].dtype or "type" not in str(error):
        return None
    return f"the network computes in {own}, and its input is {inputs[0].dtype}; pass x.to({own}), or convert the model"


def tensor_of(output: Any) -> Any:
    """Unwrap a network's output from the object, dict or one-element tuple in which other libraries return it."""
    if isinstance(output, Mapping) and "sample" in output:
        output = output["sample"]
    elif not isinstance(output, Tensor | tuple) and hasattr(output, "sample"):
        output = output.sample
    return output[0] if isinstance(output, tuple) and len(output) == 1 else output


def denoiser_output(output: Any, z_t: Tensor, learned: bool, bounded: bool = True) -> tuple[Tensor, Tensor | None]:
    """Check the output of a denoiser; return the prediction, and v of a learned variance or None.

    Args:
        output: A tensor, an object or dict with `sample`, or with a learned variance a pair (prediction, v).
        z_t: The denoiser's input, which sets the shape and dtype of the prediction.
        learned: Whether the variance is learned.
        bounded: Whether v must lie in [0, 1]; default: True.

    Raises:
        InputError: If the type or shape is wrong; the message names the expected one, the given one and the usual cause.
    """
    output = tensor_of(output)
    pair = isinstance(output, tuple) and len(output) == 2
    if not (pair if learned else isinstance(output, Tensor)):
        raise InputError(
            "a denoiser returns one tensor, and with variance='learned' a pair (prediction, v); "
            f"got a {type(output).__name__} with variance {'learned' if learned else 'not learned'}"
        )
    if not isinstance(output, tuple):
        return _like(output, z_t, "prediction"), None
    prediction, v = _like(output[0], z_t, "prediction"), _like(output[1], z_t, "v")
    if bounded and v.device.type == "cpu" and v.numel() and not (v.min() >= 0 and v.max() <= 1):
        raise InputError(
            f"v of a learned variance must lie in [0, 1], got {v.min().item():g} to {v.max().item():g}; end with a sigmoid"
        )
    return prediction, v


def _like(output: Any, z_t: Tensor, name: str) -> Tensor:
    if not isinstance(output, Tensor) or not output.is_floating_point():
        found = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"the denoiser's {name} must be a floating-point tensor, got {found}")
    if output.shape != z_t.shape:
        raise InputError(
            f"the denoiser's {name} must have the shape of z_t, {tuple(z_t.shape)}, got {tuple(output.shape)}; "
            "check the number of output channels, and pass variance='learned' if the network also predicts a variance"
        )
    return output.to(z_t.dtype)


def encoder_output(output: Any, shape: Sequence[int], batch: int) -> tuple[Tensor, Tensor]:
    """Check the output of an encoder and return it: (mean, log_var), each (batch, *shape).

    Raises:
        InputError: If it is not a pair of tensors of that shape.
    """
    if not isinstance(output, tuple) or len(output) != 2:
        raise InputError(f"an encoder returns a pair (mean, log_var), got {_described(output)}")
    for name, part in zip(("mean", "log_var"), output):
        _check_shape(f"the encoder's {name}", part, shape, batch)
    return output


def decoder_output(output: Any, shape: Sequence[int] | None, batch: int) -> Any:
    """Check the output of a decoder and return it: one tensor or a pair, each (batch, *shape) if the shape is known.

    Raises:
        InputError: If it has another type or shape.
    """
    parts = output if isinstance(output, tuple) else (output,)
    if len(parts) > 2 or not all(isinstance(part, Tensor) for part in parts):
        raise InputError(f"a decoder returns one tensor, or a pair (mean, log_var), got {_described(output)}")
    for part in parts:
        _check_shape("the decoder's output", part, shape, batch)
    if len(parts) == 2 and parts[0].shape != parts[1].shape:
        raise InputError(
            f"mean and log_var of a decoder must have one shape, got {tuple(parts[0].shape)} and {tuple(parts[1].shape)}"
        )
    return output


def _check_shape(name: str, part: Any, shape: Sequence[int] | None, batch: int) -> None:
    if not isinstance(part, Tensor) or not part.is_floating_point():
        raise InputError(f"{name} must be a floating-point tensor, got {_described(part)}")
    if len(part) != batch or (shape is not None and part.shape[1:] != tuple(shape)):
        expected = f"{batch} rows" if shape is None else f"shape {(batch, *shape)}"
        raise InputError(f"{name} must have {expected}, got {tuple(part.shape)}")


def _described(value: Any) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def as_shape(shape: Sequence[int] | int) -> tuple[int, ...]:
    """Return a shape as a tuple; an int is the length of a vector.

    Raises:
        InputError: If a size is not a positive whole number.
    """
    sizes = (shape,) if isinstance(shape, int) else tuple(shape) if isinstance(shape, Sequence) else ()
    if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        raise InputError(f"a shape needs positive whole numbers, got {shape!r}; e.g. (20,)")
    return sizes


def reference(module: nn.Module) -> Tensor:
    """Return a tensor with a module's dtype and device: its first floating-point parameter, or else buffer."""
    # stops at the first one, because visiting all is slow
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        if tensor.is_floating_point():
            return tensor
    return torch.zeros(())
