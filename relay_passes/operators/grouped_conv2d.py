"""Grouped convolution: every output channel reads the input channels of its group."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr
from relay_passes.operators import conv2d, rules
from relay_passes.operators.chain import Chain, MakerOf, multiplies_int8
from relay_passes.operators.depthwise_conv2d import is_depthwise
from relay_passes.operators.operator import IntegerForm, Operator, Window
from relay_passes.operators.padding import start_padded


def is_grouped(call: Expr) -> bool:
    """Whether a convolution has several groups, some of more than one channel in or out."""
    return int(call.attrs.groups) > 1 and not is_depthwise(call)


def fits(call: Expr) -> bool:
    """Whether a call is a grouped convolution, laid out as NCHW and OIHW."""
    return conv2d.fits(call) and is_grouped(call)


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a grouped convolution of int8."""
    if not (multiplies_int8(binding) and fits(binding.value)):
        return None
    return start_padded("grouped_conv2d", binding, maker_of)


def meaning(
    x: NDArray[np.int64], weight: NDArray[np.int8] | None, window: Window, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the sum over taps and the input channels of each output channel's group."""
    assert weight is not None
    groups = x.shape[1] // weight.shape[1]
    pairs = zip(np.split(x, groups, 1), np.split(weight, groups, 0), strict=True)
    each = (shape[0], shape[1] // groups, *shape[2:])
    return np.concatenate([conv2d.meaning(part, w, window, each) for part, w in pairs], axis=1)


OPERATOR: Final = Operator(
    kind="grouped_conv2d",
    title="grouped convolution",
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
    read=partial(conv2d.read, kind="grouped_conv2d"),
    out_shape=conv2d.out_shape,
    meaning=meaning,
    how="GEMM, one step per kernel tap and block of the input channels of a block's groups",
    weight_axis=0,
    integer=IntegerForm(fits=fits, make=conv2d.make, padding=conv2d.padding),
    by_group=True,
    pads=True,
)
