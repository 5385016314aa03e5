"""Integer geometry: ranges, windows, taps that lie inside, nests of loops and micro-ops."""

from __future__ import annotations

from itertools import groupby, product
from math import prod
from typing import TYPE_CHECKING, Final, NamedTuple

from flow.compiler.elementwise import least, most, where

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Rows × columns from which on they are the hardware's loops.
MANY_VECTORS: Final = 16


class Range(NamedTuple):
    """[start, start + count)."""

    start: int
    count: int  # type: ignore[assignment]  # a field here, not tuple.count

    def within(self, other: Range) -> Range:
        """Return what both have; its count is 0 where that is nothing."""
        start = max(self.start, other.start)
        end = min(self.start + self.count, other.start + other.count)
        return Range(start, max(0, end - start))


#: Nothing.
NO_RANGE: Final = Range(0, 0)


class TapRun(NamedTuple):
    """Taps of a kernel along an axis, and the outputs at which all of them lie inside."""

    taps: Range
    out: Range


class Axis(NamedTuple):
    """An axis of a reduction: outputs, and where their taps lie along it in the picture.

    Tap t of output o is row (or column) o · stride + offset + t · dilation of `size`.
    """

    out: Range
    stride: int
    offset: int
    kernel: int
    dilation: int
    size: int

    @property
    def window(self) -> Range:
        """What the outputs read of the picture; what lies outside is zero, and never read."""
        first = self.out.start * self.stride + self.offset
        reach = (self.out.count - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
        start, end = max(first, 0), min(first + reach, self.size)
        return Range(start, max(0, end - start))

    def outputs(self) -> list[int]:
        """Return for each tap the outputs at which it lies inside."""
        taps = range(self.kernel)
        return [
            sum(
                r.out.count
                for r in self._replace(kernel=1, offset=self.offset + t * self.dilation).runs()
            )
            for t in taps
        ]

    def runs(self, out: Range | None = None) -> list[TapRun]:
        """Return the taps that lie inside, for all outputs or for some of them."""
        result: list[TapRun] = []
        for tap in range(self.kernel):
            inside = view(
                out or self.out,
                offset=self.offset + tap * self.dilation,
                stride=self.stride,
                size=self.size,
            )
            if result and result[-1].out == inside and sum(result[-1].taps) == tap:
                first = result.pop().taps
                result.append(TapRun(Range(first.start, first.count + 1), inside))
            elif inside.count:
                result.append(TapRun(Range(tap, 1), inside))
        return result


class Dim(NamedTuple):
    """One dimension of a nest: its extent and the strides of the three operands, elements."""

    count: int  # type: ignore[assignment]  # a field here, not tuple.count
    dst: int
    src: int
    wgt: int = 0


def split(total: int, extent: int) -> list[Range]:
    """Cut [0, total) into ranges of `extent`, the last one shorter if need be."""
    return [Range(start, min(extent, total - start)) for start in range(0, total, extent)]


def runs_of(needed: Sequence[bool]) -> list[Range]:
    """Return the runs of true values."""
    result, at = [], 0
    for value, run in groupby(needed):
        count = len([*run])
        if value:
            result.append(Range(at, count))
        at += count
    return result


def view(out: Range, *, offset: int, stride: int, size: int) -> Range:
    """Return the outputs whose input, at output · stride + offset, lies inside [0, size)."""
    low = max(out.start, -(offset // stride))
    high = min(out.start + out.count, (size - 1 - offset) // stride + 1)
    return Range(low, max(0, high - low))


def tap_nests(
    axes: tuple[Axis, Axis],
    between: Sequence[Dim],
    start: tuple[int, int, int],
    *,
    pitch: int,
    weights: tuple[int, int],
    some: tuple[Range, Range] | None = None,
    window: tuple[Range, Range] | None = None,
    last: Sequence[Dim] = (),
) -> Iterator[tuple[tuple[Dim, ...], tuple[int, int, int]]]:
    """Yield the nests that multiply a window by a kernel, and where each of them starts.

    Taps outside of the picture add nothing, so they take no step: each run of taps of both axes is
    a nest over the outputs for which they lie inside.

    Parameters
    ----------
    axes : tuple[Axis, Axis]
        Rows and columns. The window lies in inp as [rows][columns], without zeros.
    between : sequence of Dim
        Blocks of channels.
    start : tuple[int, int, int]
        Elements (acc, inp, wgt) of the first output, the window's first pixel, the first tap.
    pitch : int
        Acc elements from a row of outputs to the next one.
    weights : tuple[int, int]
        Wgt elements from a row of taps, and from a tap, to the next one.
    some : tuple[Range, Range], optional
        Those outputs alone.
    window : tuple[Range, Range], optional
        What lies in inp, where that is more than these outputs read.
    last : sequence of Dim
        The blocks that the last row of taps multiplies, where these are others than `between`.
    """
    if last:
        # The last row of taps multiplies fewer blocks: a kernel of its own.
        y, *_ = axes
        window = window or (y.window, axes[1].window)
        below = y._replace(kernel=1, offset=y.offset + (y.kernel - 1) * y.dilation)
        starts = (*start[:2], start[2] + (y.kernel - 1) * weights[0])
        parts = (y._replace(kernel=y.kernel - 1), between, start), (below, last, starts)
        for rows_axis, dims_between, at in parts:
            if not all(dim.count for dim in dims_between):
                continue
            yield from tap_nests(
                (rows_axis, axes[1]),
                dims_between,
                at,
                pitch=pitch,
                weights=weights,
                some=some,
                window=window,
            )
        return
    y, x = axes
    (top, _), (left, columns) = window or (y.window, x.window)
    rows = y.runs(some and some[0])
    for (ky, oy), (kx, ox) in product(rows, x.runs(some and some[1])):
        first = oy.start * y.stride + y.offset + ky.start * y.dilation - top
        column = ox.start * x.stride + x.offset + kx.start * x.dilation - left
        dims = (
            Dim(oy.count, pitch, y.stride * columns),
            Dim(ox.count, 1, x.stride),
            *between,
            Dim(ky.count, 0, y.dilation * columns, weights[0]),
            Dim(kx.count, 0, x.dilation, weights[1]),
        )
        yield (
            dims,
            (
                start[0] + (oy.start - y.out.start) * pitch + ox.start - x.out.start,
                start[1] + first * columns + column,
                start[2] + ky.start * weights[0] + kx.start * weights[1],
            ),
        )


def span(dims: Sequence[Dim], operand: int) -> int:
    """Return the elements that a nest spans of operand 0 (dst), 1 (src) or 2 (wgt)."""
    return 1 + sum((dim.count - 1) * dim[1 + operand] for dim in dims)


def nest(
    dims: Sequence[Dim], start: tuple[int, int, int]
) -> tuple[tuple[Dim, Dim], tuple[tuple[int, int, int], ...]]:
    """Make a nest two hardware loops and micro-ops.

    The first two dimensions (rows and columns) become loops where they are long, since then one
    micro-op's weights serve many vectors; otherwise the two longest do, which leaves the fewest
    micro-ops.

    Returns
    -------
    (outer, inner), uops
        The loops, and one (dst, src, wgt) a micro-op.
    """
    order = _loops_first([dim.count for dim in dims])
    loops = [dims[i] if dims[i].count > 1 else Dim(1, 0, 0) for i in order[:2]]
    loops = [Dim(1, 0, 0)] * (2 - len(loops)) + loops
    uops = [start]
    for dim in (dims[i] for i in sorted(order[2:])):
        uops = [
            (u[0] + i * dim.dst, u[1] + i * dim.src, u[2] + i * dim.wgt)
            for u in uops
            for i in range(dim.count)
        ]
    return (loops[0], loops[1]), tuple(uops)


def nest_uops(counts: Sequence[int]) -> int:
    """Return the micro-ops that `nest` makes of a nest of these extents."""
    if len(counts) <= 2:
        return 1
    longest = second = 1
    for count in counts:
        longest, second = most(longest, count), most(second, least(longest, count))
    first = counts[0] * counts[1]
    return prod(counts) // where(first < MANY_VECTORS, longest * second, first)


def _loops_first(counts: Sequence[int]) -> list[int]:
    order = list(range(len(counts)))
    if len(counts) > 2 and counts[0] * counts[1] < MANY_VECTORS:
        order.sort(key=lambda i: -counts[i])
    return order
