"""Averages of the float graph, and the integer sums that they become.

An average of n numbers is their sum, whose scale is 1/n of theirs. Where windows contain different
numbers n of pixels, as at the edges of a padded feature map that does not count its padding, each
sum is multiplied by L / n, L the least common multiple of all n, and its scale is 1/L of theirs:

    mean = 1/L * (L / n) * sum.
"""

from __future__ import annotations

from math import lcm
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, ints, op_name, static_shape
from relay_passes.operators.interpolation import interpolated_line

#: The largest factor of a sum: each 127 take a GEMM step per pixel.
MOST_FACTOR: Final = 1016
#: Why an average that is none of these stays on the host.
NO_AVERAGE: Final = (
    "integers express an average over all rows and columns, or over windows that each contain a "
    "pixel, have no dilation beside padding that is not counted, and whose numbers of pixels have "
    "a small common multiple"
)


def is_average(call: Expr) -> bool:
    """Whether integers express an average: over all rows and columns, windows, or neighbours."""
    if op_name(call) == "mean":
        return _is_global(call)
    if op_name(call) == "image.resize2d":
        return interpolated_line(call) is not None
    if op_name(call) != "nn.avg_pool2d" or str(call.attrs.layout) != "NCHW":
        return False
    sides = ints(call.attrs.padding)
    counted = bool(call.attrs.count_include_pad) or not any(sides)
    if (ints(call.attrs.dilation) != (1, 1) and not counted) or min(sides) < 0:
        return False
    counts = window_counts(call)
    return bool(counts.min() > 0 and (lcm(*counts.flat) // counts).max() <= MOST_FACTOR)


def _is_global(call: Expr) -> bool:
    axes = call.attrs.axis
    if axes is None or len(static_shape(call.args[0])) != 4 or not bool(call.attrs.keepdims):
        return False
    return sorted(int(a) % 4 for a in axes) == [2, 3]


def averaged(call: Expr) -> int:
    """Return what the sum of an average's integers is divided by: L, the pixels of any window."""
    if (line := interpolated_line(call)) is not None:
        return line.total
    if op_name(call) == "mean":
        _, _, height, width = static_shape(call.args[0])
        return height * width
    return lcm(*window_counts(call).flat)


def window_counts(call: Expr) -> NDArray[np.int64]:
    """Return how many numbers each output of an ``nn.avg_pool2d`` is the mean of, int64[OH, OW]."""
    attrs, sides = call.attrs, ints(call.attrs.padding)
    kernel, strides = ints(attrs.pool_size), ints(attrs.strides)
    shape, out_shape = static_shape(call.args[0]), static_shape(call)
    if bool(attrs.count_include_pad) or ints(attrs.dilation) != (1, 1):
        return np.full(out_shape[2:], kernel[0] * kernel[1])
    return pixel_counts(shape[2:], out_shape[2:], kernel, strides, sides[:2])


def pixel_counts(
    size: tuple[int, ...],
    out_size: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    padding: tuple[int, ...],
) -> NDArray[np.int64]:
    """Return how many pixels of the feature map each window contains, int64[OH, OW].

    Parameters
    ----------
    size, out_size : tuple[int, int]
        Rows and columns of the feature map and of the output.
    kernel, strides, padding : tuple[int, int]
        (vertical, horizontal); padding is that before the first row and column.
    """
    axes = []
    for n, outs, k, stride, before in zip(size, out_size, kernel, strides, padding, strict=True):
        starts = np.arange(outs, dtype=np.int64) * stride - before
        axes.append(np.minimum(starts + k, n) - np.maximum(starts, 0))
    rows, columns = (np.maximum(axis, 0) for axis in axes)
    return np.asarray(rows[:, np.newaxis] * columns)


def sum_factors(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what each window's sum is multiplied by, L / n: int64 of the shape of `counts`."""
    return np.asarray(lcm(*counts.flat) // counts)
