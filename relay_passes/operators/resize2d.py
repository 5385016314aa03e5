"""Linear interpolation along rows or columns: sums of two neighbours, each times its factor."""

from __future__ import annotations

from typing import Final

import numpy as np
from tvm import relax

from relay_passes.graph import Expr, constant, dtype_of, static_shape
from relay_passes.operators import add, concat, rules
from relay_passes.operators.chain import Chain, MakerOf, widens
from relay_passes.operators.interpolation import line_of_matrix
from relay_passes.operators.movement import interpolated
from relay_passes.operators.operator import Operator, Reading


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a product of int8 made int32 with a matrix that interpolates."""
    factors = [constant(arg) for arg in binding.value.args]
    data = [arg for arg in binding.value.args if isinstance(arg, relax.Var)]
    if dtype_of(binding.var) != "int32" or len(data) != 1:
        return None
    wide, left = maker_of(data[0]), factors[0] is not None
    matrix = factors[0] if left else factors[1]
    if wide is None or matrix is None or not widens(wide.value) or matrix.ndim != 2:
        return None
    shape = static_shape(data[0])
    if len(shape) != 4 or matrix.dtype != np.int32:
        return None
    # From the left a matrix makes other rows of a feature map, from the right other columns.
    line = line_of_matrix(matrix if left else matrix.T, 2 if left else 3)
    if line is None:
        return None
    chain = Chain.start("resize2d", binding, wide.value.args[0], wide)
    chain.movement = interpolated(shape, line)
    return chain


def read(call: Expr, in_shape: tuple[int, ...]) -> Reading:
    """Return that there is neither window nor weight."""
    return Reading("resize2d")


OPERATOR: Final = Operator(
    kind="resize2d",
    title="linear interpolation",
    float_op="image.resize2d",
    integer_op="matmul",
    rules=rules.POST_OPS_FIT,
    start=start,
    read=read,
    out_shape=add.out_shape,  # not asked: the movement says the result's shape
    meaning=concat.meaning,
    how="GEMM with diagonal weights, two steps per output; rows and columns one after the other",
    by_channel=True,
    takes_product=True,
    moves=True,
)
