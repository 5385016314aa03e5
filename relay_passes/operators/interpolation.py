"""Linear interpolation along one axis, and the integer sums that it becomes.

Each row (or column) of the result lies between two of its source,

    out[o] = (1 - t) * x[i] + t * x[i + 1],    o -> i + t by the coordinates of ONNX's Resize.

Integers compute L * out, with the factors L - w and w, w = round(t * L); L is a power of two, as
small as it may be for all of them to be exact, and at most 128.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Expr, op_name, static_shape

#: The most that the factors of two neighbours add up to: between them is an error of 1/256 of
#: their distance at most, which is less than rounding to int8 costs.
MOST_TOTAL: Final = 128
#: Coordinates that `coordinates` knows.
KNOWN: Final = frozenset({"half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"})

#: How a coordinate becomes a row or column; a little that float32 lost does not count.
ROUNDED: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "round": np.round,
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "floor": lambda x: np.floor(x + 1e-5),
        "ceil": lambda x: np.ceil(x - 1e-5),
    }
)


class Line(NamedTuple):
    """How an axis is interpolated.

    Parameters
    ----------
    axis : int
        2: rows; 3: columns.
    low, high : int64[O]
        The neighbours of each row or column of the result, twice the same where it has one alone.
    factor : int64[O]
        Of the higher one; that of the lower one is the rest.
    total : int
        What two factors add up to.
    """

    axis: int
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    factor: NDArray[np.int64]
    total: int

    def matrix(self, size: int) -> NDArray[np.int32]:
        """Return the factors of all rows or columns of the source, int32[O, size]."""
        result = np.zeros((len(self.low), size), np.int32)
        places = np.arange(len(self.low))
        np.add.at(result, (places, self.low), self.total - self.factor)
        np.add.at(result, (places, self.high), self.factor)
        return result


def coordinates(before: int, after: int, mode: str) -> NDArray[np.float64]:
    """Return where the rows or columns of a map of another size lie in the map before it.

    The formulas are those of ONNX's Resize.
    """
    places, scale = np.arange(after, dtype=np.float64), before / after
    if mode == "align_corners":
        return np.asarray(places * ((before - 1) / max(after - 1, 1)))
    if mode == "asymmetric":
        return np.asarray(places * scale)
    if mode == "pytorch_half_pixel" and after == 1:
        return np.zeros(1)
    shift = 0.0 if mode == "tf_half_pixel_for_nn" else 0.5
    return np.asarray((places + 0.5) * scale - shift)


def nearest(before: int, after: int, mode: str, rounding: str) -> NDArray[np.int64]:
    """Return the nearest row or column of the map before it to each, int64[after]."""
    at = ROUNDED[rounding](coordinates(before, after, mode))
    return np.asarray(np.clip(at, 0, before - 1), np.int64)


def interpolated_line(call: Expr) -> Line | None:
    """Return how a call interpolates, None unless it does so along one axis of an NCHW map."""
    if op_name(call) != "image.resize2d" or str(call.attrs.layout) != "NCHW":
        return None
    mode = str(call.attrs.coordinate_transformation_mode)
    if str(call.attrs.method) != "linear" or mode not in KNOWN:
        return None
    before, after = static_shape(call.args[0]), static_shape(call)
    axes = [axis for axis in (2, 3) if before[axis] != after[axis]]
    return _line(axes[0], before, after, mode) if len(axes) == 1 else None


def _line(axis: int, before: tuple[int, ...], after: tuple[int, ...], mode: str) -> Line:
    size = before[axis]
    at = np.clip(coordinates(size, after[axis], mode), 0, size - 1)
    low = np.floor(at + 1e-9).astype(np.int64)  # also of what is whole but for rounding
    part = np.maximum(at - low, 0.0)
    total = 1
    while total < MOST_TOTAL and np.abs(part * total - np.round(part * total)).max() > 1e-9:
        total *= 2
    factor = np.floor(part * total + 0.5).astype(np.int64)
    low = np.where(factor == total, low + 1, low)
    alone = factor % total == 0
    high = np.where(alone, low, np.minimum(low + 1, size - 1))
    return Line(axis, low, high, np.where(alone, 0, factor), total)


def line_of_matrix(matrix: NDArray[np.int32], axis: int) -> Line | None:
    """Return what `Line.matrix` made a matrix of, int32[O, size]; None of another matrix."""
    totals = {*matrix.sum(axis=1).tolist()}
    taken = matrix != 0
    low = taken.argmax(axis=1)
    high = matrix.shape[1] - 1 - taken[:, ::-1].argmax(axis=1)
    if len(totals) != 1 or (matrix < 0).any() or (high - low > 1).any():
        return None
    (total,) = totals
    factor = np.where(high > low, matrix[np.arange(len(high)), high], 0)
    line = Line(axis, low, high, factor.astype(np.int64), int(total))
    return line if 0 < total <= MOST_TOTAL else None
