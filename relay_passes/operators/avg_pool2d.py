"""Average pool whose windows contain different numbers of pixels: sums, each times a factor.

Other average pools are depthwise convolutions with ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, constant, ints, op_name, static_shape
from relay_passes.operators import max_pool2d, rules
from relay_passes.operators.averages import pixel_counts, sum_factors
from relay_passes.operators.chain import Chain, MakerOf, multiplies_int8
from relay_passes.operators.conv2d import fits
from relay_passes.operators.depthwise_conv2d import is_depthwise
from relay_passes.operators.operator import Operator, Reading, Window


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of sums over windows, each times the factor that makes them comparable."""
    data, factor = binding.value.args
    sums, factors = maker_of(data), constant(factor)
    if sums is None or factors is None or op_name(sums.value) != "nn.conv2d":
        return None
    if factors.dtype != np.int32 or not (multiplies_int8(sums) and fits(sums.value)):
        return None
    weight = constant(sums.value.args[1])
    assert weight is not None
    one_each = is_depthwise(sums.value) or weight.shape[:2] == (1, 1)
    if not one_each or ints(sums.value.attrs.dilation) != (1, 1) or bool(np.any(weight != 1)):
        return None
    window = Window.of(sums.value.attrs, weight.shape[2:])
    shape, out_shape = static_shape(sums.value.args[0]), static_shape(sums.var)
    expected = _factors(window, shape, out_shape)
    if factors.shape != (1, 1, *out_shape[2:]) or (factors[0, 0] != expected).any():
        return None
    chain = Chain.start("avg_pool2d", sums, sums.value.args[0], binding)
    chain.output = binding.var
    return chain


def _factors(
    window: Window, shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the factor of each window's sum, int64[OH, OW]; 0 where no window has a pixel."""
    counts = pixel_counts(
        shape[2:], out_shape[2:], window.kernel, window.stride, window.padding[:2]
    )
    return sum_factors(counts) if counts.all() else np.zeros_like(counts)


def read(call: Expr, in_shape: tuple[int, ...]) -> Reading:
    """Read the window, that of the sums."""
    weight = constant(call.args[1])
    assert weight is not None
    return Reading("avg_pool2d", Window.of(call.attrs, weight.shape[2:]))


def meaning(
    x: NDArray[np.int64], weight: NDArray[np.int8] | None, window: Window, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the sum over each window, times its factor."""
    total = np.zeros(shape, np.int64)
    for _, _, part in window.views(x, shape):
        total += part
    return total * _factors(window, x.shape, shape)


OPERATOR: Final = Operator(
    kind="avg_pool2d",
    title="average pool with windows of different sizes",
    float_op="nn.avg_pool2d",
    integer_op="multiply",
    rules=(
        rules.nchw_layout,
        rules.padding_fits,
        rules.windows_meet_the_input,
        rules.window_fits,
        *rules.POST_OPS_FIT,
    ),
    start=start,
    read=read,
    out_shape=max_pool2d.out_shape,
    meaning=meaning,
    how="GEMM with diagonal weights, which differ at the edges; other average pools are depthwise "
    "convolutions with ones",
    by_channel=True,
    takes_product=True,
)
