"""Multiplication of a feature map by one number per channel that is computed at run time.

Squeeze-and-excitation: x[N, C, H, W] · s[N, C, 1, 1]. Each tensor's zero point is subtracted first:

    acc[n, c, y, x] = (q_x[n, c, y, x] - z_x) · (q_s[n, c] - z_s).
"""

from __future__ import annotations

from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import Expr, constant, dtype_of, op_name, static_shape
from relay_passes.operators import add, rules
from relay_passes.operators.chain import Chain, MakerOf, widens
from relay_passes.operators.operator import Operator, Reading, Window


def factors_of(call: Expr) -> tuple[Expr, Expr] | None:
    """Return the feature map and the factor that a product has; None for any other call.

    Both are variables: [N, C, H, W] and [N, C, 1, 1] in either order, or two of [N, C].
    """
    if op_name(call) != "multiply" or not all(isinstance(a, relax.Var) for a in call.args):
        return None
    for data, factor in (call.args, call.args[::-1]):
        shape, other = static_shape(data), static_shape(factor)
        alike = len(shape) == len(other) in (2, 4) and shape[:2] == other[:2]
        if alike and prod(other[2:]) == 1:
            return data, factor
    return None


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a product of two int8 tensors, one of them a number per channel."""
    if dtype_of(binding.var) != "int32" or (found := factors_of(binding.value)) is None:
        return None
    data, factor = (_operand(var, maker_of) for var in found)
    if data is None or factor is None or data[0].same_as(factor[0]):
        return None
    chain = Chain.start("scale_channels", binding, data[0], *data[2], *factor[2])
    chain.more_sources = (factor[0],)
    chain.zero_points = (data[1], factor[1])
    return chain


def _operand(var: Expr, maker_of: MakerOf) -> tuple[Expr, int, list[Expr]] | None:
    """Return the int8 tensor that an operand is made of, its zero point, and the operators."""
    made, zero = [maker_of(var)], 0
    if made[0] is not None and op_name(made[0].value) == "add":
        source, number = made[0].value.args
        value = constant(number)
        if value is None or value.size != 1 or not isinstance(source, relax.Var):
            return None
        zero = -int(value.reshape(-1)[0])
        made.append(maker_of(source))
    if made[-1] is None or not widens(made[-1].value) or not -128 <= zero <= 127:
        return None
    return made[-1].value.args[0], zero, made


def read(call: Expr, in_shape: tuple[int, ...]) -> Reading:
    """Return that there is neither window nor weight."""
    return Reading("scale_channels")


def meaning(
    x: NDArray[np.int64], weight: NDArray[np.int8] | None, window: Window, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the product with the factor, `weight` [N, C, 1, 1]; no zero point is left in both."""
    assert weight is not None
    return np.asarray(x * weight.astype(np.int64))


OPERATOR: Final = Operator(
    kind="scale_channels",
    title="multiplication by one number per channel",
    float_op="multiply",
    integer_op="multiply",
    rules=(rules.one_image_of_int8, *rules.POST_OPS_FIT),
    start=start,
    read=read,
    out_shape=add.out_shape,
    meaning=meaning,
    how="GEMM with diagonal weights that a first part of the layer makes",
    by_channel=True,
    takes_product=True,
    takes_factor=True,
)
