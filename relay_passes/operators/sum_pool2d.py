"""Sum over the feature map: a global average pool before its shift."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, dtype_of
from relay_passes.operators import rules
from relay_passes.operators.chain import Chain, MakerOf, widens
from relay_passes.operators.operator import Operator, Reading, Window


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a sum of int8 made int32."""
    wide = maker_of(binding.value.args[0])
    if dtype_of(binding.var) != "int32" or wide is None or not widens(wide.value):
        return None
    return Chain.start("sum_pool2d", binding, wide.value.args[0], wide)


def read(call: Expr, in_shape: tuple[int, ...]) -> Reading:
    """Return the whole feature map as the window."""
    return Reading("sum_pool2d", Window((in_shape[2], in_shape[3])))


def out_shape(
    in_shape: tuple[int, ...], window: Window, weight_shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return [N, C, 1, 1]."""
    return (*in_shape[:2], 1, 1)


def meaning(
    x: NDArray[np.int64], weight: NDArray[np.int8] | None, window: Window, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the sum over rows and columns."""
    return np.asarray(x.sum(axis=(2, 3), keepdims=True))


OPERATOR: Final = Operator(
    kind="sum_pool2d",
    title="global average pool",
    float_op="mean",
    integer_op="sum",
    rules=(rules.sums_rows_and_columns, *rules.STEPS_FIT),
    start=start,
    read=read,
    out_shape=out_shape,
    meaning=meaning,
    how="GEMM with a diagonal weight, one step per pixel",
    by_channel=True,
)
