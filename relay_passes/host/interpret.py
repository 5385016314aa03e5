"""Run a module operator by operator in numpy: for modules that run on a few images only.

TVM takes seconds to compile a module, as long as numpy takes to run a small one on a hundred
images. The integers are those of `HostModule`, bit for bit; floats differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import (
    Expr,
    Module,
    clip_limits,
    constant,
    dtype_of,
    ints,
    op_name,
    read_graph,
    slices_of,
    static_shape,
)
from relay_passes.host.rows import inputs_of
from relay_passes.host.run import HostModule, conv2d, sums_in_float32
from relay_passes.operators.functions import MEANINGS
from relay_passes.operators.interpolation import KNOWN, ROUNDED, nearest

_Array: TypeAlias = NDArray[Any]
#: What an operator makes of its operands.
_Step: TypeAlias = Callable[..., Any]


def fast_run(mod: Module) -> Callable[..., list[_Array]]:
    """Return what runs a module on few images soonest: `Interpreter` where it knows all operators.

    Else `HostModule`, with convolutions through BLAS.
    """
    try:
        return Interpreter(mod)
    except KeyError:
        return HostModule(mod, fast=True)


class Interpreter:
    """A module that is run operator by operator; call it with arrays.

    Parameters
    ----------
    mod : IRModule
        With function ``main``.

    Raises
    ------
    KeyError
        When an operator, or a form of one, is not known.
    """

    def __init__(self, mod: Module) -> None:
        """Look at every operator once."""
        graph = read_graph(mod)
        self._params = list(graph.params)
        self._shapes = [static_shape(param) for param in graph.params]
        self._results = list(graph.results)
        self._steps = [(b.var, _step(b.value), _operands(b.value)) for b in graph.bindings]
        last = {
            var: i
            for i, (_, _, args) in enumerate(self._steps)
            for var in args
            if isinstance(var, relax.Var)
        }
        self._dead: list[list[Expr]] = [[] for _ in self._steps]
        for var, i in last.items():
            if var not in self._results:
                self._dead[i].append(var)

    def __call__(self, *inputs: _Array) -> list[_Array]:
        """Run ``main`` and return its results; inputs as those of `HostModule`."""
        if len(inputs) == 1:
            inputs = tuple(inputs_of(inputs[0], self._shapes))
        known: dict[Expr, _Array] = dict(zip(self._params, inputs, strict=True))
        for (var, step, args), dead in zip(self._steps, self._dead, strict=True):
            result = step(*(known[a] if isinstance(a, relax.Var) else a for a in args))
            known[var] = np.asarray(result)
            for old in dead:
                known.pop(old, None)
        return [known[var] for var in self._results]


def _operands(call: Expr) -> list[Any]:
    """Return what an operator reads: variables, and constants as arrays."""
    args = getattr(call.args[0], "fields", call.args) if op_name(call) == "concat" else call.args
    found = [a if isinstance(a, relax.Var) else constant(a) for a in args]
    return [a for a in found if a is not None]


def _step(call: Expr) -> _Step:
    kind = op_name(call)
    if kind in _STEPS:
        return _STEPS[kind](call)
    meaning, dtype = MEANINGS[kind], dtype_of(call)
    if dtype != "float32":
        raise KeyError(kind)

    def step(*operands: _Array) -> _Array:
        with np.errstate(all="ignore"):
            return np.asarray(meaning(call, *operands)).astype(np.float32)

    return step


def _plain(function: Callable[..., Any]) -> Callable[[Expr], _Step]:
    return lambda call: function


def _clip(call: Expr) -> _Step:
    low, high = (np.asarray(v, dtype_of(call)) for v in clip_limits(call))
    return lambda x: np.minimum(np.maximum(x, low), high)


def _astype(call: Expr) -> _Step:
    dtype = dtype_of(call)
    return lambda x: x.astype(dtype)


def _conv2d(call: Expr) -> _Step:
    attrs, weight = call.attrs, constant(call.args[1])
    if str(attrs.data_layout) != "NCHW":
        raise KeyError("nn.conv2d")
    dtype = dtype_of(call)
    exact = dtype == "float32" or (weight is not None and sums_in_float32(weight))
    numbers = ints(attrs.padding)
    stride, dilation = ints(attrs.strides), ints(attrs.dilation)

    def step(x: _Array, weight: _Array) -> _Array:
        return conv2d(
            x,
            weight,
            stride=(stride[0], stride[1]),
            padding=(numbers[0], numbers[1], numbers[2], numbers[3]),
            dilation=(dilation[0], dilation[1]),
            groups=int(attrs.groups),
            float_type=np.float32 if exact else np.float64,
        ).astype(dtype)

    return step


def _matmul(call: Expr) -> _Step:
    dtype = dtype_of(call)
    wide = np.float32 if dtype == "float32" else np.float64  # sums of int8 products are exact
    return lambda x, y: np.matmul(x.astype(wide), y.astype(wide)).astype(dtype)


def _reshape(call: Expr) -> _Step:
    shape = static_shape(call)
    return lambda x: x.reshape(shape)


def _transpose(call: Expr) -> _Step:
    axes = None if call.attrs.axes is None else ints(call.attrs.axes)
    return lambda x: x.transpose(axes)


def _concat(call: Expr) -> _Step:
    if not hasattr(call.args[0], "fields"):
        raise KeyError("concat")
    axis = int(call.attrs.axis)
    return lambda *parts: np.concatenate(parts, axis)


def _slice(call: Expr) -> _Step:
    cuts = slices_of(call)
    taken = tuple(cuts.get(axis, slice(None)) for axis in range(len(static_shape(call.args[0]))))
    return lambda x: x[taken]


def _take(call: Expr) -> _Step:
    if call.attrs.axis is None:
        raise KeyError("take")
    axis, size = int(call.attrs.axis), static_shape(call.args[0])[int(call.attrs.axis)]
    return lambda x, places: np.take(x, places.astype(np.int64) % size, axis)


def _pad(call: Expr) -> _Step:
    widths, value = ints(call.attrs.pad_width), float(call.attrs.pad_value)
    if str(call.attrs.pad_mode) != "constant" or min(widths) < 0:
        raise KeyError("nn.pad")
    pairs = list(zip(widths[::2], widths[1::2], strict=True))
    return lambda x: np.pad(x, pairs, constant_values=np.asarray(value, x.dtype))


def _resize(call: Expr) -> _Step:
    attrs, before, after = call.attrs, static_shape(call.args[0]), static_shape(call)
    mode, rounding = str(attrs.coordinate_transformation_mode), str(attrs.rounding_method)
    known = str(attrs.layout) == "NCHW" and str(attrs.method) == "nearest_neighbor"
    if not known or mode not in KNOWN or rounding not in ROUNDED:
        raise KeyError("image.resize2d")
    rows, columns = (nearest(before[axis], after[axis], mode, rounding) for axis in (2, 3))
    return lambda x: x[:, :, rows][..., columns]


def _reduced(function: Callable[..., Any]) -> Callable[[Expr], _Step]:
    def make(call: Expr) -> _Step:
        axes = None if call.attrs.axis is None else ints(call.attrs.axis)
        keep, dtype = bool(call.attrs.keepdims), dtype_of(call)
        return lambda x: function(x, axis=axes, keepdims=keep, dtype=dtype)

    return make


def _max_pool(call: Expr) -> _Step:
    attrs = call.attrs
    size, stride, dilation = ints(attrs.pool_size), ints(attrs.strides), ints(attrs.dilation)
    top, left, bottom, right = ints(attrs.padding)
    shape, before = static_shape(call), static_shape(call.args[0])
    if str(attrs.layout) != "NCHW" or len(shape) != 4:
        raise KeyError("nn.max_pool2d")
    need = [(shape[2 + i] - 1) * stride[i] + (size[i] - 1) * dilation[i] + 1 for i in range(2)]
    lower, more = (top, left), (bottom, right)
    after = [max(more[i], need[i] - lower[i] - before[2 + i]) for i in range(2)]  # ceil_mode

    def step(x: _Array) -> _Array:
        least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        sides = [(0, 0), (0, 0), (top, after[0]), (left, after[1])]
        padded = np.pad(x, sides, constant_values=least)
        parts = [
            padded[
                :,
                :,
                y * dilation[0] : y * dilation[0] + (shape[2] - 1) * stride[0] + 1 : stride[0],
                z * dilation[1] : z * dilation[1] + (shape[3] - 1) * stride[1] + 1 : stride[1],
            ]
            for y in range(size[0])
            for z in range(size[1])
        ]
        return np.asarray(np.maximum.reduce(parts))

    return step


def _softmax(call: Expr) -> _Step:
    axis, logarithm = int(call.attrs.axis), op_name(call) == "nn.log_softmax"

    def step(x: _Array) -> _Array:
        x = x - x.max(axis=axis, keepdims=True)
        total = np.exp(x).sum(axis=axis, keepdims=True)
        return np.asarray(x - np.log(total) if logarithm else np.exp(x) / total)

    return step


#: By operator: what returns the step of a call.
_STEPS: Final[Mapping[str, Callable[[Expr], _Step]]] = {
    "add": _plain(np.add),
    "subtract": _plain(np.subtract),
    "multiply": _plain(np.multiply),
    "divide": _plain(np.divide),
    "maximum": _plain(np.maximum),
    "minimum": _plain(np.minimum),
    "floor": _plain(np.floor),
    "left_shift": _plain(np.left_shift),
    "right_shift": _plain(np.right_shift),
    "nn.relu": _plain(lambda x: np.maximum(x, x.dtype.type(0))),
    "clip": _clip,
    "astype": _astype,
    "nn.conv2d": _conv2d,
    "matmul": _matmul,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "permute_dims": _transpose,
    "concat": _concat,
    "strided_slice": _slice,
    "take": _take,
    "nn.pad": _pad,
    "image.resize2d": _resize,
    "sum": _reduced(np.sum),
    "mean": _reduced(np.mean),
    "nn.max_pool2d": _max_pool,
    "nn.softmax": _softmax,
    "nn.log_softmax": _softmax,
}
