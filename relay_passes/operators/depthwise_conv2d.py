"""Depthwise convolution: every channel has a kernel of its own."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, static_shape
from relay_passes.operators import conv2d, rules
from relay_passes.operators.chain import Chain, MakerOf, multiplies_int8
from relay_passes.operators.operator import IntegerForm, Operator, Window
from relay_passes.operators.padding import start_padded


def is_depthwise(call: Expr) -> bool:
    """Whether a convolution has one group for each channel of its input and of its output."""
    channels = static_shape(call.args[0])[1]
    return 1 < int(call.attrs.groups) == channels == static_shape(call.args[1])[0]


def fits(call: Expr) -> bool:
    """Whether a call is a depthwise convolution, laid out as NCHW and OIHW."""
    return conv2d.fits(call) and is_depthwise(call)


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a depthwise convolution of int8."""
    if not (multiplies_int8(binding) and fits(binding.value)):
        return None
    return start_padded("depthwise_conv2d", binding, maker_of)


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
    read=partial(conv2d.read, kind="depthwise_conv2d"),
    out_shape=conv2d.out_shape,
    meaning=meaning,
    how="GEMM with a diagonal weight per kernel tap and block of channels",
    weight_axis=0,
    integer=IntegerForm(fits=fits, make=conv2d.make, padding=conv2d.padding),
    by_channel=True,
    pads=True,
)
