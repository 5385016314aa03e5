"""Calls of the float graph: which have weights, move values, clip; what a call of one means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import Expr, clip_limits, constant, op_name, static_shape
from relay_passes.operators.averages import is_average
from relay_passes.operators.operator import IntegerForm
from relay_passes.operators.scale_channels import factors_of
from relay_passes.operators.table import OPERATORS

#: Operators whose output holds the input's values in another shape or order.
RESHAPES: Final = frozenset({"reshape", "permute_dims", "squeeze", "expand_dims"})
#: Operators that move values of one tensor and compute nothing: the output has its scale. Of some
#: only certain calls do: `is_move`.
MOVES: Final = RESHAPES | {op for row in OPERATORS.values() if row.keeps_scale
                           for op in row.float_ops}  # fmt: skip
#: Operators whose second operand is a weight, with the axis of its output channels.
WEIGHT_AXIS: Final = {
    row.float_op: row.weight_axis for row in OPERATORS.values() if row.weight_axis is not None
}
#: Operators that average; `averages.is_average` tells of a call whether integers express it.
AVERAGES: Final = frozenset({"mean", "nn.avg_pool2d"})
_INTEGER_OPS: Final = frozenset(row.float_op for row in OPERATORS.values())


def _clip_ceiling(call: Expr) -> float | None:
    low, high = clip_limits(call)
    return high if low == 0.0 and high > 0.0 else None


class Activation(NamedTuple):
    """An operator that an accumulator may end behind: integers compute min(max(x, 0), ceiling).

    Parameters
    ----------
    title : str
        The calls that integers express, for people.
    ceiling : callable
        The largest result of a call, infinity for none; None for a call that integers do not
        express, as of a clip to [-1, 1].
    otherwise : str
        Why the host computes such a call.
    """

    title: str
    ceiling: Callable[[Expr], float | None]
    otherwise: str = ""


#: By the operator of the float graph.
ACTIVATIONS: Final[Mapping[str, Activation]] = MappingProxyType(
    {
        "nn.relu": Activation("ReLU", lambda call: inf),
        "clip": Activation(
            "from 0 to a positive limit, as ReLU6",
            _clip_ceiling,
            "integers express a clip only from 0 to a positive limit",
        ),
    }
)


def ceiling_of(call: Expr) -> float | None:
    """Return the largest result of an activation that integers express; None for other calls."""
    activation = ACTIVATIONS.get(op_name(call))
    return None if activation is None else activation.ceiling(call)


def _pads_zeros(call: Expr) -> bool:
    return str(call.attrs.pad_mode) != "constant" or float(call.attrs.pad_value) == 0.0


_MOVES_IF: Final[Mapping[str, Callable[[Expr], bool]]] = {
    "take": lambda call: constant(call.args[1]) is not None,
    "image.resize2d": lambda call: str(call.attrs.method) == "nearest_neighbor",
    "nn.pad": _pads_zeros,
}


def is_move(call: Expr) -> bool:
    """Whether a call only moves values of its first operand; what it adds are zeros."""
    kind = op_name(call)
    return kind in MOVES and (kind not in _MOVES_IF or _MOVES_IF[kind](call))


def is_concat(call: Expr) -> bool:
    """Whether a call puts variables side by side."""
    return op_name(call) == "concat" and all(
        isinstance(field, relax.Var) for field in getattr(call.args[0], "fields", (None,))
    )


def moved(call: Expr) -> list[Expr]:
    """Return the tensors whose values a call moves; none where it computes."""
    if is_concat(call):
        return list(call.args[0].fields)
    return [call.args[0]] if is_move(call) else []


def ends_accumulator(call: Expr) -> bool:
    """Whether a call is an activation that integers express: an accumulator may end behind it."""
    return ceiling_of(call) is not None


def is_pair(call: Expr) -> bool:
    """Whether a call subtracts or compares two tensors of one shape."""
    if op_name(call) not in ("subtract", "maximum", "minimum"):
        return False
    tensors = [a for a in call.args if isinstance(a, relax.Var)]
    return len(tensors) == 2 and static_shape(tensors[0]) == static_shape(tensors[1])


def has_integer_form(call: Expr) -> bool:
    """Whether integers compute a call; a tensor that such a call makes or reads is quantized."""
    kind = op_name(call)
    if kind in AVERAGES or is_average(call):
        return is_average(call)
    if kind == "multiply":
        return factors_of(call) is not None
    if kind in MOVES or kind == "concat":
        return bool(moved(call))
    return kind in _INTEGER_OPS or ends_accumulator(call) or is_pair(call)


def integer_form(call: Expr) -> IntegerForm | None:
    """Return the integer implementation of an operator with a weight, if this call has one."""
    rows = (row for row in OPERATORS.values() if row.float_op == op_name(call))
    return next((r.integer for r in rows if r.integer is not None and r.integer.fits(call)), None)


def weight_rows(call: Expr, values: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the weight of a convolution or dense layer as one row an output channel, [O, K].

    Parameters
    ----------
    call : relax.Call
        Its weight is a constant, unless `values` are given.
    values : number[...], optional
        In place of the weight and laid out like it: its integers.
    """
    weight = constant(call.args[1]) if values is None else values
    assert weight is not None, call
    axis = WEIGHT_AXIS[op_name(call)]
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def weight_of_rows(call: Expr, rows: NDArray[Any]) -> NDArray[Any]:
    """Return what `weight_rows` made rows of, laid out as the weight of the call."""
    axis, shape = WEIGHT_AXIS[op_name(call)], static_shape(call.args[1])
    moved = shape[axis], *shape[:axis], *shape[axis + 1 :]
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, axis))


def split_bias(call: Expr) -> tuple[Expr, NDArray[np.float64]] | None:
    """Split an add into its tensor and its constant, float64[C]; None when it is no bias."""
    if op_name(call) != "add":
        return None
    for tensor, other in ((call.args[0], call.args[1]), (call.args[1], call.args[0])):
        value = constant(other)
        if value is None or not isinstance(tensor, relax.Var):
            continue
        numbers = channel_numbers(value, static_shape(tensor))
        if numbers is not None:
            return tensor, numbers
    return None


def channel_numbers(value: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Return a constant as one number a channel, float64[C]; None where it is no such.

    Parameters
    ----------
    value : number[...]
        The constant.
    shape : (N, C, ...)
        Of what it is broadcast to.
    """
    full = (1,) * (len(shape) - value.ndim) + value.shape
    if full == tuple(n if axis == 1 else 1 for axis, n in enumerate(shape)):
        return value.reshape(-1).astype(np.float64)
    return np.full(shape[1], float(value.reshape(-1)[0])) if value.size == 1 else None


def is_dense_layer(value: Expr) -> bool:
    """Whether a call is a dense layer, or a convolution of one group, with a constant weight."""
    kind = op_name(value)
    if kind not in WEIGHT_AXIS or constant(value.args[1]) is None:
        return False
    if kind == "matmul":
        return len(static_shape(value.args[0])) == 2
    return int(value.attrs.groups) == 1 and str(value.attrs.data_layout) == "NCHW"


def is_grouped_layer(value: Expr) -> bool:
    """Whether a call is a convolution of several groups with a constant weight."""
    if op_name(value) != "nn.conv2d" or constant(value.args[1]) is None:
        return False
    return int(value.attrs.groups) > 1 and str(value.attrs.data_layout) == "NCHW"
