"""Translation of a network into a program of a dozen operations on float32 arrays, which the page's engine runs.

torch.export turns the network into a graph of torch's core operators, for one example. Each operator becomes one of the
operations of `engine.js`, with all shapes known. Values that depend only on weights are computed here. Permutations,
slices and expansions change only strides. They become a copy only if an operation needs contiguous input.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kakusan.errors import InputError

UNARY = {"sin": "sin", "cos": "cos", "sigmoid": "sigmoid", "tanh": "tanh", "exp": "exp", "rsqrt": "rsqrt", "gelu": "gelu",
         "relu": "relu", "neg": "neg", "sqrt": "sqrt", "silu": "silu"}  # fmt: skip
BINARY = {"add": "add", "sub": "sub", "mul": "mul", "div": "div"}
SAME = {"alias", "_to_copy", "detach", "lift_fresh_copy"}  # operators that return their input
RESHAPED = {"view", "unsqueeze", "squeeze", "clone", "_unsafe_view", "reshape"}


@dataclass(frozen=True)
class Array:
    """A strided view of a buffer."""

    buffer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def contiguous(self) -> bool:
        """Return whether this is a whole buffer in row-major order."""
        return self.offset == 0 and self.strides == row_major(self.shape)


@dataclass
class Program:
    """Operations of one network.

    Attributes:
        sizes: Number of values of each buffer.
        ops: [name, output buffer, ...] in order; see `engine.js`.
        inputs: Buffers of z_t, t and, for a conditional network, the class.
        output: Buffer of the prediction.
        weights: Constant tensors by buffer; all float32.
    """

    sizes: list[int] = field(default_factory=list)
    ops: list[list[Any]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    output: int = -1
    weights: dict[int, Tensor] = field(default_factory=dict)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a contiguous array."""
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


@torch.no_grad()
def lower(network: nn.Module, example: tuple[Tensor, ...]) -> Program:
    """Translate a network into a program for inputs like `example`, a batch of one.

    Raises:
        InputError: If the network has an operation that the page's engine lacks.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of torch about its own modules
        exported = torch.export.export(network, example).run_decompositions()
    return _Lowering(exported).program


class _Lowering:
    """Translation of one graph. `values` maps a node to an `Array`, a constant tensor, or a tuple of them."""

    def __init__(self, exported: Any):
        self.program = Program()
        self.values: dict[Any, Any] = {}
        constants = {**exported.state_dict, **exported.constants}
        kinds = {one.arg.name: one for one in exported.graph_signature.input_specs}
        for node in exported.graph.nodes:
            if node.op == "placeholder":
                target = kinds[node.name].target
                if target is None:
                    self.values[node] = self._new(node.meta["val"].shape)
                    self.program.inputs.append(self.values[node].buffer)
                else:
                    self.values[node] = constants[target].detach()
            elif node.op == "output":
                first = node.args[0][0]  # a learned variance would be the second output; the page does not use it
                self.program.output = self._whole(self.values[first]).buffer
            else:
                self.values[node] = self._call(node)

    def _call(self, node: Any) -> Any:
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]
        name = str(node.target).split(".")[1]
        arguments = torch.fx.node.map_arg(node.args, self.values.__getitem__)
        keywords = torch.fx.node.map_arg(node.kwargs, self.values.__getitem__)
        if name == "_assert_tensor_metadata":
            return None
        if not any(isinstance(one, Array) for one in _flat(arguments)):
            return node.target(*arguments, **keywords)
        if name in SAME:
            return arguments[0]
        if name in RESHAPED:
            return self._reshaped(arguments[0], tuple(node.meta["val"].shape))
        if name in UNARY:
            return self._unary(UNARY[name], arguments[0], keywords)
        if name in BINARY:
            return self._binary(BINARY[name], arguments[0], arguments[1], keywords.get("alpha", 1))
        method: Callable[..., Any] | None = getattr(self, f"_{name.strip('_')}", None)
        if method is None:
            raise InputError(f"the page has no operation {name}, which this network needs; choose another --format")
        return method(*arguments, **keywords)

    # Buffers

    def _new(self, shape: Sequence[int]) -> Array:
        self.program.sizes.append(math.prod(shape))
        return Array(len(self.program.sizes) - 1, tuple(shape), row_major(shape))

    def _array(self, value: Any) -> Array:
        """Return a value as an array; a constant becomes a buffer of weights."""
        if isinstance(value, Array):
            return value
        tensor = torch.as_tensor(value).detach().float().contiguous()
        made = self._new(tensor.shape)
        self.program.weights[made.buffer] = tensor
        return made

    def _whole(self, value: Any) -> Array:
        array = self._array(value)
        if array.contiguous:
            return array
        out = self._new(array.shape)
        self._copy(array, out)
        return out

    def _copy(self, source: Array, out: Array) -> None:
        self._emit("copy", out, source.shape, source.buffer, source.offset, source.strides, out.offset, out.strides)

    def _emit(self, name: str, out: Array, *rest: Any) -> Array:
        self.program.ops.append([name, out.buffer, *(list(one) if isinstance(one, tuple) else one for one in rest)])
        return out

    # Shapes

    def _reshaped(self, value: Array, shape: tuple[int, ...]) -> Array:
        if [n for n in value.shape if n != 1] == [n for n in shape if n != 1]:  # only sizes of 1 are added or removed
            strides = iter([s for n, s in zip(value.shape, value.strides) if n != 1])
            plain = row_major(shape)
            return Array(value.buffer, shape, tuple(plain[k] if n == 1 else next(strides) for k, n in enumerate(shape)), value.offset)  # fmt: skip
        return Array(self._whole(value).buffer, shape, row_major(shape))

    def _permute(self, value: Array, order: Sequence[int]) -> Array:
        return Array(value.buffer, tuple(value.shape[k] for k in order), tuple(value.strides[k] for k in order), value.offset)  # fmt: skip

    def _expand(self, value: Array, shape: Sequence[int]) -> Array:
        added = len(shape) - len(value.shape)
        old = (1,) * added + value.shape
        strides = (0,) * added + value.strides
        full = tuple(n if want == -1 else want for n, want in zip(old, shape))
        return Array(value.buffer, full, tuple(0 if n == 1 != w else s for n, w, s in zip(old, full, strides)), value.offset)  # fmt: skip

    def _slice(self, value: Array, dim: int = 0, start: int | None = 0, end: int | None = None, step: int = 1) -> Array:
        dim %= len(value.shape)
        first, last, step = slice(start, end, step).indices(value.shape[dim])
        shape, strides = list(value.shape), list(value.strides)
        shape[dim], strides[dim] = len(range(first, last, step)), value.strides[dim] * step
        return Array(value.buffer, tuple(shape), tuple(strides), value.offset + first * value.strides[dim])

    def _select(self, value: Array, dim: int, index: int) -> Array:
        dim %= len(value.shape)
        one = self._slice(value, dim, index % value.shape[dim], index % value.shape[dim] + 1)
        return Array(one.buffer, one.shape[:dim] + one.shape[dim + 1 :], one.strides[:dim] + one.strides[dim + 1 :], one.offset)  # fmt: skip

    def _split_with_sizes(self, value: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
        ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
        return [self._slice(value, dim, end - size, end) for size, end in zip(sizes, ends)]

    def _cat(self, values: Sequence[Any], dim: int = 0) -> Array:
        arrays = [self._array(one) for one in values]
        dim %= len(arrays[0].shape)
        shape = list(arrays[0].shape)
        shape[dim] = sum(one.shape[dim] for one in arrays)
        out, done = self._new(shape), 0
        for one in arrays:
            self._copy(one, self._slice(out, dim, done, done + one.shape[dim]))
            done += one.shape[dim]
        return out

    def _constant_pad_nd(self, value: Array, padding: Sequence[int], number: float = 0.0) -> Array:
        if not any(padding):
            return value
        if number:
            raise InputError("the page pads only with zeros; choose another --format")
        amounts = [(0, 0)] * (len(value.shape) - len(padding) // 2)
        amounts += list(zip(padding[::2], padding[1::2]))[::-1]
        out = inner = self._new([n + before + after for n, (before, after) in zip(value.shape, amounts)])
        for dim, (before, _) in enumerate(amounts):
            inner = self._slice(inner, dim, before, before + value.shape[dim])
        self._copy(value, inner)
        return out

    def _pixel_shuffle(self, value: Array, factor: int) -> Array:
        b, c, h, w = value.shape
        split = self._reshaped(value, (b, c // factor**2, factor, factor, h, w))
        return self._reshaped(self._permute(split, (0, 1, 4, 2, 5, 3)), (b, c // factor**2, h * factor, w * factor))

    def _pixel_unshuffle(self, value: Array, factor: int) -> Array:
        b, c, h, w = value.shape
        split = self._reshaped(value, (b, c, h // factor, factor, w // factor, factor))
        return self._reshaped(self._permute(split, (0, 1, 3, 5, 2, 4)), (b, c * factor**2, h // factor, w // factor))

    # Arithmetic

    def _unary(self, name: str, value: Array, keywords: dict[str, Any]) -> Array:
        if name == "gelu" and keywords.get("approximate", "none") != "none":
            raise InputError("the page has only the exact GELU; choose another --format")
        return self._emit(name, self._new(value.shape), self._whole(value).buffer)

    def _binary(self, name: str, one: Any, other: Any, alpha: float = 1) -> Array:
        if alpha != 1:
            other = self._binary("mul", other, alpha)
        one, other = self._array(one), self._array(other)
        shape = tuple(torch.broadcast_shapes(one.shape, other.shape))
        one, other = self._expand(one, shape), self._expand(other, shape)
        return self._emit(
            name, self._new(shape), shape, one.buffer, one.offset, one.strides, other.buffer, other.offset, other.strides
        )  # fmt: skip

    def _pow(self, value: Array, exponent: float) -> Array:
        if exponent != 2:
            raise InputError(f"the page has squares, and this network has a power {exponent}; choose another --format")
        return self._binary("mul", value, value)

    def _matmul(self, one: Any, other: Any, bias: Any = None) -> Array:
        one, other = self._whole(one), self._whole(other)
        *batch, m, k = one.shape
        n = other.shape[-1]
        bias = -1 if bias is None else self._whole(bias).buffer
        return self._emit(
            "matmul", self._new([*batch, m, n]), one.buffer, other.buffer, bias, math.prod(batch), m, k, n
        )

    _mm = _bmm = _matmul

    def _addmm(self, bias: Any, one: Any, other: Any, beta: float = 1, alpha: float = 1) -> Array:
        return self._matmul(one, other, bias)

    def _convolution(
        self, value: Array, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, extra: Any, groups: int
    ) -> Array:  # fmt: skip
        if any(one != 1 for one in dilation) or any(extra):
            raise InputError("the page has no dilated convolution; choose another --format")
        if transposed:  # equals a convolution of the image with zeros between its pixels
            b, c, h, w = value.shape
            wide = self._new((b, c, (h - 1) * stride[0] + 1, (w - 1) * stride[1] + 1))
            self._copy(value, self._slice(self._slice(wide, 2, 0, None, stride[0]), 3, 0, None, stride[1]))
            value, weight, stride = wide, weight.flip(2, 3).transpose(0, 1), (1, 1)
            padding = [size - 1 - pad for size, pad in zip(weight.shape[2:], padding)]
        _, c, h, w = value.shape
        c_out, _, *kernel = weight.shape
        size = [(n + 2 * pad - k) // step + 1 for n, pad, k, step in zip((h, w), padding, kernel, stride)]
        numbers = (c, h, w, c_out, *kernel, *stride, *padding, *size, groups)
        buffers = (
            self._whole(value).buffer,
            self._array(weight).buffer,
            -1 if bias is None else self._array(bias).buffer,
        )
        return self._emit("convolution", self._new((1, c_out, *size)), *buffers, numbers)

    def _native_group_norm(self, value: Array, weight: Any, bias: Any, n: int, c: int, positions: int, groups: int, eps: float) -> tuple:  # fmt: skip
        buffers = self._whole(value).buffer, self._array(weight).buffer, self._array(bias).buffer
        return self._emit("group_norm", self._new(value.shape), *buffers, groups, c, positions, eps), None, None

    def _native_layer_norm(self, value: Array, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> tuple:
        width = math.prod(shape)
        weight, bias = (torch.full((width,), d) if v is None else v for v, d in ((weight, 1.0), (bias, 0.0)))
        buffers = self._whole(value).buffer, self._array(weight).buffer, self._array(bias).buffer
        return self._emit("layer_norm", self._new(value.shape), *buffers, width, eps), None, None

    def _mean(self, value: Array, dims: Sequence[int], keepdim: bool = False) -> Array:
        if [d % len(value.shape) for d in dims] != [len(value.shape) - 1]:
            raise InputError("the page has only means over the last dimension; choose another --format")
        shape = value.shape[:-1] + ((1,) if keepdim else ())
        return self._emit("mean", self._new(shape), self._whole(value).buffer, value.shape[-1])

    def _softmax(self, value: Array, dim: int, half: bool = False) -> Array:
        if dim % len(value.shape) != len(value.shape) - 1:
            raise InputError("the page has only a softmax over the last dimension; choose another --format")
        return self._emit("softmax", self._new(value.shape), self._whole(value).buffer, value.shape[-1])

    def _embedding(self, table: Tensor, index: Array, *rest: Any) -> Array:
        return self._emit("row", self._new((*index.shape, table.shape[1])), self._array(table).buffer, index.buffer)

    # torch's attention maps rows of only -inf to 0; scores of a finite network are finite

    def _eq(self, value: Array, number: float) -> Tensor:
        if number != -math.inf:
            raise InputError("the page has no comparisons; choose another --format")
        return torch.zeros(value.shape, dtype=torch.bool)

    def _full_like(self, value: Array, number: float, **rest: Any) -> Tensor:
        return torch.full(value.shape, number)

    def _where(self, condition: Tensor, one: Any, other: Any) -> Any:
        if not isinstance(condition, Tensor) or condition.any():
            raise InputError("the page has no choices between values; choose another --format")
        return other


def _flat(arguments: Any) -> list[Any]:
    return [one for part in arguments for one in (_flat(part) if isinstance(part, list | tuple) else [part])]
