"""Max-pool."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, dtype_of, ints
from relay_passes.operators import rules
from relay_passes.operators.chain import Chain, MakerOf
from relay_passes.operators.operator import Operator, Reading, Window


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a max-pool of int8."""
    if dtype_of(binding.var) != "int8":
        return None
    return Chain.start("max_pool2d", binding, binding.value.args[0])


def read(call: Expr, in_shape: tuple[int, ...]) -> Reading:
    """Read the window."""
    return Reading("max_pool2d", Window.of(call.attrs, ints(call.attrs.pool_size)))


def out_shape(
    in_shape: tuple[int, ...], window: Window, weight_shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return [N, C, OH, OW]."""
    return (*in_shape[:2], *window.extent(in_shape))


def meaning(
    x: NDArray[np.int64], weight: NDArray[np.int8] | None, window: Window, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the maximum over the window; padding is minus infinity."""
    parts = [part for _, _, part in window.views(x, shape, fill=np.iinfo(np.int8).min)]
    return np.asarray(np.maximum.reduce(parts))


OPERATOR: Final = Operator(
    kind="max_pool2d",
    title="max-pool",
    float_op="nn.max_pool2d",
    integer_op="nn.max_pool2d",
    rules=(
        rules.nchw_layout,
        rules.dense_dilation,
        rules.padding_fits,
        rules.windows_start_inside,
        *rules.STEPS_FIT,
    ),
    start=start,
    read=read,
    out_shape=out_shape,
    meaning=meaning,
    how="ALU MAX over shifted views; if possible on the accumulators of the convolution before it",
    by_channel=True,
    keeps_scale=True,
    int8_range=True,
)
