"""Integer geometry: ranges, windows with zeros around them, nests of loops and micro-ops."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final, NamedTuple

from vta_config.errors import CapacityError
from vta_config.isa import MAX_PAD

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Rows × columns from which on they are the hardware's loops.
MANY_VECTORS: Final = 16


class Range(NamedTuple):
    """[start, start + count)."""

    start: int
    count: int  # type: ignore[assignment]  # a field here, not tuple.count


#: Nothing.
NO_RANGE: Final = Range(0, 0)


class Window(NamedTuple):
    """Rows or columns of the picture that a tile needs, and the zeros before and after them."""

    start: int
    count: int  # type: ignore[assignment]  # a field here, not tuple.count
    before: int
    after: int

    @property
    def extent(self) -> int:
        """Rows or columns with their zeros."""
        return self.before + self.count + self.after


class Dim(NamedTuple):
    """One dimension of a nest: its extent and the strides of the three operands, elements."""

    count: int  # type: ignore[assignment]  # a field here, not tuple.count
    dst: int
    src: int
    wgt: int = 0


def split(total: int, extent: int) -> list[Range]:
    """Cut [0, total) into ranges of `extent`, the last one shorter if need be."""
    return [Range(start, min(extent, total - start)) for start in range(0, total, extent)]


def window(
    out: Range, *, stride: int, padding: int, extent: int, size: int, where: object
) -> Window:
    """Return the part of [0, size) that outputs `out` read, `extent` long with its zeros.

    Raises
    ------
    CapacityError
        When an edge needs more zeros than a LOAD can make.
    """
    low = out.start * stride - padding
    start, end = max(low, 0), min(low + extent, size)
    before, after = start - low, low + extent - end
    if max(before, after) > MAX_PAD or end <= start:
        raise CapacityError(
            where,
            f"must need at most {MAX_PAD} zeros at an edge",
            got=max(before, after),
            hint="leave it on the host",
        )
    return Window(start, end - start, before, after)


def view(out: Range, *, offset: int, stride: int, size: int) -> Range:
    """Return the outputs whose input, at output · stride + offset, lies inside [0, size)."""
    low = max(out.start, -(offset // stride))
    high = min(out.start + out.count, (size - 1 - offset) // stride + 1)
    return Range(low, max(0, high - low))


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
    return prod(counts[i] for i in _loops_first(counts)[2:])


def _loops_first(counts: Sequence[int]) -> list[int]:
    order = list(range(len(counts)))
    if len(counts) > 2 and counts[0] * counts[1] < MANY_VECTORS:
        order.sort(key=lambda i: -counts[i])
    return order
