"""Integer forms of averages, pools and interpolation: what `Requantize` makes of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax

from relay_passes import numerics
from relay_passes.graph import Expr, ints, op_name, static_shape
from relay_passes.integers.integer_values import Accumulator, Int8Tensor
from relay_passes.operators.averages import averaged, sum_factors, window_counts
from relay_passes.operators.chain import NO_SIDES, Padding
from relay_passes.operators.interpolation import interpolated_line
from relay_passes.operators.padding import padded


def average(
    call: Expr,
    data: Int8Tensor,
    name: str,
    step: Callable[[Expr, str, str], Expr],
    widen: Callable[[Int8Tensor], Accumulator],
) -> Accumulator:
    """Emit the sums of an average, each times its factor, as an accumulator.

    Parameters
    ----------
    call : relax.Call
        An average that integers express.
    data : Int8Tensor
        What it averages.
    name : str
        The tensor that it makes.
    step : callable (expression, name, role) -> variable
        Binds a step on the way to a tensor.
    widen : callable
        Makes an accumulator of an int8 tensor.

    Raises
    ------
    CapacityError
        When a sum may leave int32.
    """
    count, channels = averaged(call), static_shape(data.var)[1]
    bound = np.full(channels, data.bound * count, np.int64)
    numerics.check_accumulator(name, bound)
    if op_name(call) == "mean":
        sums = relax.op.sum(widen(data).var, axis=[2, 3], keepdims=True)
    elif (line := interpolated_line(call)) is not None:
        wide, matrix = widen(data).var, line.matrix(static_shape(data.var)[line.axis])
        if line.axis == 2:
            sums = relax.op.matmul(relax.const(matrix), wide)
        else:
            sums = relax.op.matmul(wide, relax.const(np.ascontiguousarray(matrix.T)))
    else:
        sums = _window_sums(call, data, name, step)
    return Accumulator(
        var=step(sums, name, "acc"),
        scale=np.full(channels, data.scale / count),
        bound=bound,
        offset=np.full(channels, -data.zero * count, np.int64),
        bias=np.zeros(channels),
        name=name,
    )


def _window_sums(
    call: Expr, data: Int8Tensor, name: str, step: Callable[[Expr, str, str], Expr]
) -> Expr:
    """Return the sums of an ``nn.avg_pool2d``, int32[N, C, OH, OW]."""
    attrs, var, channels = call.attrs, data.var, static_shape(data.var)[1]
    top, left, bottom, right = ints(attrs.padding)
    sides = top, left, bottom, right
    if bool(attrs.count_include_pad) and data.zero and any(sides):
        var, sides = step(padded(var, Padding(sides, data.zero)), name, "pad"), NO_SIDES
    sums = relax.op.nn.conv2d(
        var,
        relax.const(np.ones((channels, 1, *ints(attrs.pool_size)), np.int8)),
        strides=ints(attrs.strides),
        padding=sides,
        dilation=ints(attrs.dilation),
        groups=channels,
        out_dtype="int32",
    )
    factors = sum_factors(window_counts(call))
    if (factors == 1).all():
        return sums
    factor = relax.const(factors[np.newaxis, np.newaxis].astype(np.int32))
    return relax.op.multiply(step(sums, name, "sums"), factor)
