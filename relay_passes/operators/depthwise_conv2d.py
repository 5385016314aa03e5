"""Depthwise convolution: every channel has a kernel of its own."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, constant, static_shape
from relay_passes.operators import conv2d, rules
from relay_passes.operators.chain import Chain, MakerOf, multiplies_int8
from relay_passes.operators.operator import IntegerForm, Operator, Reading, Window
from relay_passes.operators.padding import start_padded


def is_depthwise(call: Expr) -> bool:
    """Whether a convolution has one group for each channel of its input and of its output."""
    channels = static_shape(call.args[0])[1]
    return 1 < int(call.attrs.groups) == channels == static_shape(call.args[1])[0]


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a depthwise convolution of int8."""
    call = binding.value
    if not (multiplies_int8(binding) and conv2d.fits(call) and is_depthwise(call)):
        return None
    return start_padded("depthwise_conv2d", binding, maker_of)


def read(call: Expr, in_shape: tuple[int, ...]) -> Reading:
    """Read window and weight, int8[C, 1, KH, KW]."""
    weight = constant(call.args[1])
    assert weight is not None
    return Reading("depthwise_conv2d", Window.of(call.attrs, weight.shape[2:]), weight)


def meaning(
    x: NDArray[np.int64], weight: NDArray[np.int8] | None, window: Window, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the sum over taps, channel by channel."""
    assert weight is not None
    total = np.zeros(shape, np.int64)
    for dy, dx, part in window.views(x, shape):
        total += weight[:, 0, dy, dx].astype(np.int64).reshape(1, -1, 1, 1) * part
    return total


OPERATOR: Final = Operator(
    kind="depthwise_conv2d",
    title="depthwise convolution",
    float_op="nn.conv2d",
    integer_op="nn.conv2d",
    rules=(
        rules.nchw_layout,
        rules.padding_fits,
        rules.windows_meet_the_input,
        rules.window_fits,
        *rules.POST_OPS_FIT,
    ),
    start=start,
    read=read,
    out_shape=conv2d.out_shape,
    meaning=meaning,
    how="GEMM with a diagonal weight per kernel tap and block of channels",
    weight_axis=0,
    integer=IntegerForm(
        fits=lambda call: conv2d.fits(call) and is_depthwise(call),
        make=conv2d.make,
        padding=conv2d.padding,
    ),
    by_channel=True,
    pads=True,
)
