"""Convolution of one group: every output channel reads every input channel."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import Expr, constant, ints
from relay_passes.operators import rules
from relay_passes.operators.chain import Chain, MakerOf, Sides, multiplies_int8
from relay_passes.operators.operator import IntegerForm, Operator, Reading, Window
from relay_passes.operators.padding import start_padded


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a convolution of int8."""
    if not multiplies_int8(binding):
        return None
    return start_padded("conv2d", binding, maker_of)


def read(call: Expr, in_shape: tuple[int, ...], kind: str = "conv2d") -> Reading:
    """Read window and weight of a convolution, int8[O, I / groups, KH, KW]."""
    weight = constant(call.args[1])
    assert weight is not None
    return Reading(kind, Window.of(call.attrs, weight.shape[2:]), weight)


def out_shape(
    in_shape: tuple[int, ...], window: Window, weight_shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return [N, O, OH, OW]."""
    assert weight_shape is not None
    return (in_shape[0], weight_shape[0], *window.extent(in_shape))


def meaning(
    x: NDArray[np.int64], weight: NDArray[np.int8] | None, window: Window, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the sum over taps and input channels."""
    assert weight is not None
    total = np.zeros(shape, np.int64)
    for dy, dx, part in window.views(x, shape):
        total += np.einsum("oc,nchw->nohw", weight[:, :, dy, dx].astype(np.int64), part)
    return total


def fits(call: Expr) -> bool:
    """Whether data and kernel are laid out as NCHW and OIHW."""
    attrs = call.attrs
    return str(attrs.data_layout) == "NCHW" and str(attrs.kernel_layout) == "OIHW"


def padding(call: Expr) -> Sides:
    """Return the rows and columns that a call pads."""
    top, left, bottom, right = ints(call.attrs.padding)
    return top, left, bottom, right


def make(call: Expr, data: Expr, weight: NDArray[np.int8], sides: Sides) -> Expr:
    """Return the convolution of integers."""
    attrs = call.attrs
    return relax.op.nn.conv2d(
        data,
        relax.const(weight),
        strides=ints(attrs.strides),
        padding=sides,
        dilation=ints(attrs.dilation),
        groups=int(attrs.groups),
        out_dtype="int32",
    )


OPERATOR: Final = Operator(
    kind="conv2d",
    title="convolution",
    float_op="nn.conv2d",
    integer_op="nn.conv2d",
    rules=(
        rules.nchw_layout,
        rules.padding_fits,
        rules.windows_meet_the_input,
        *rules.POST_OPS_FIT,
    ),
    start=start,
    read=read,
    out_shape=out_shape,
    meaning=meaning,
    how="GEMM, one step per kernel tap and block of input channels",
    weight_axis=0,
    integer=IntegerForm(fits=fits, make=make, padding=padding),
    adds_up=True,
    pads=True,
)
