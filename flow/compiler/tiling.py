"""Tiling: how a convolution is cut into pieces that fit the buffers, chosen by cost.py.

A *tile* is a piece of the output: `oc` blocks of output channels × `oh` rows × `ow` columns, whose
sums stay in acc until they are complete. Its reduction runs in *chunks*: `ic` blocks of input
channels of the inp memory against `oc_w` × `ic` blocks of weights. Buffers are cut into equal
slots, one a chunk; a chunk that still lies in a slot is not loaded again, and with two or more
slots the next chunk is loaded while GEMM works on this one. Products that are added to the same
sums come after the layer's own reduction, in chunks that fit the same slots.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from flow.compiler.cost import Cost, Tiling, cost
from flow.compiler.shapes import Capacity, ConvShape
from vta_config.errors import CapacityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")
#: Relative difference in cycles below which the tiling that loads less is preferred.
CYCLES_TOLERANCE: Final = 0.005
#: Relative difference in cycles up to which the model's order is not trusted.
SHORTLIST_TOLERANCE: Final = 0.03
#: Tilings whose costs are worked out at once: more are slower, since they leave the cache.
MOST_AT_ONCE: Final = 1 << 15


def extents(total: int) -> list[int]:
    """Return every ⌈total / n⌉, largest first: the extents that cut `total` evenly."""
    return sorted({-(-total // n) for n in range(1, total + 1)}, reverse=True)


def channel_extents(shape: ConvShape, capacity: Capacity) -> Any:
    """Return the extents of channels whose weights fit, largest first: (oc, ic, oc_w) × choices."""
    table: Any = np.array(
        [
            (oc, ic, oc_w)
            for oc, ic in product(extents(shape.oc), extents(shape.ic))
            for oc_w in extents(oc)
        ],
        np.int64,
    ).reshape(-1, 3)
    oc, ic, oc_w = table.T
    weights = Tiling(oc=oc, oh=1, ow=1, ic=ic, oc_w=oc_w, oc_outer=False).wgt_elems(shape)
    return table[weights <= capacity.wgt].T


def _candidates(shape: ConvShape, capacity: Capacity) -> Iterator[Tiling]:
    """Yield the tilings that fit, largest extents first, as tilings of arrays."""
    channels = channel_extents(shape, capacity)
    places: Any = np.array(
        [*product(extents(shape.out_height), extents(shape.out_width))], np.int64
    ).reshape(-1, 2)
    places = places[places[:, 0] * places[:, 1] <= capacity.acc]
    step = max(1, MOST_AT_ONCE // max(1, channels.shape[1]))
    for start in range(0, len(places), step):
        some = places[start : start + step]
        place, channel = np.nonzero(
            channels[0] * (some[:, 0] * some[:, 1])[:, None] <= capacity.acc
        )
        tilings = _arrays(some[place].T, channels[:, channel], outer=False)
        fit = tilings.inp_elems(shape) <= tilings.inp_capacity(shape, capacity)
        place, channel = (np.repeat(at[fit], 2) for at in (place, channel))
        if len(place):
            outer: Any = np.arange(len(place)) % 2 == 1
            yield _arrays(some[place].T, channels[:, channel], outer=outer)


def _arrays(place: Any, channels: Any, *, outer: bool) -> Tiling:
    (oh, ow), (oc, ic, oc_w) = place, channels
    return Tiling(oc=oc, oh=oh, ow=ow, ic=ic, oc_w=oc_w, oc_outer=outer)


def _costs(
    shape: ConvShape, capacity: Capacity, tolerance: float = inf
) -> list[tuple[Cost, Tiling]]:
    """Return the tilings that fit, in order, that are so near the fastest, and what they cost."""
    costs: list[tuple[Cost, Tiling]] = []
    limit = inf
    for tilings in _candidates(shape, capacity):
        estimates = cost(shape, tilings, capacity)
        cycles: Any = estimates.cycles
        limit = min(limit, cycles.min().item() * (1 + tolerance))
        near: list[int] = np.flatnonzero(cycles <= limit).tolist()
        costs += ((estimates.at(index), tilings.at(index)) for index in near)
    return [c for c in costs if c[0].cycles <= limit]


def is_candidate(tiling: Tiling | None, shape: ConvShape, capacity: Capacity) -> bool:
    """Tell whether a tiling from elsewhere is one that `shortlist` could give."""
    return (
        tiling is not None
        and tiling.oh in extents(shape.out_height)
        and tiling.ow in extents(shape.out_width)
        and tiling.oc in extents(shape.oc)
        and tiling.ic in extents(shape.ic)
        and tiling.oc_w in extents(tiling.oc)
        and tiling.acc_elems <= capacity.acc
        and tiling.wgt_elems(shape) <= capacity.wgt
        and tiling.inp_elems(shape) <= tiling.inp_capacity(shape, capacity)
    )


def choose_tiling(shape: ConvShape, capacity: Capacity, where: str = "layer") -> Tiling:
    """Return the tiling that loads the fewest bytes among the fastest that fit.

    Memory traffic costs energy, and cycles that the model does not see; so tilings within
    `CYCLES_TOLERANCE` of the fastest count as equally fast.

    Raises
    ------
    CapacityError
        When not even the smallest chunk fits a memory.
    """
    tiling = _chosen(shape, capacity)
    if tiling is None:
        raise too_small(shape, capacity, where)
    return tiling


@lru_cache(maxsize=1024)
def _chosen(shape: ConvShape, capacity: Capacity) -> Tiling | None:
    """Return the tiling of `choose_tiling`, chosen once a shape; None where none fits."""
    costs = _costs(shape, capacity, CYCLES_TOLERANCE)
    return fastest(costs) if costs else None


def shortlist(
    shape: ConvShape, capacity: Capacity, count: int, where: str = "layer"
) -> list[tuple[Cost, Tiling]]:
    """Return the tilings worth timing: `count` of the fastest and the frugal, and the model's own.

    Raises
    ------
    CapacityError
        When not even the smallest chunk fits a memory.
    """
    costs = _costs(shape, capacity)
    if not costs:
        raise too_small(shape, capacity, where)
    costs.sort(key=lambda c: c[0])
    near = [c for c in costs if c[0].cycles <= costs[0][0].cycles * (1 + SHORTLIST_TOLERANCE)]
    frugal = sorted(near, key=lambda c: (c[0].loaded_bytes, c[0].cycles))
    chosen = [*frugal[: count // 2], *costs[: count - count // 2]]
    best = fastest(costs)
    chosen.append(next(c for c in costs if c[1] == best))
    return list({tiling: (estimate, tiling) for estimate, tiling in chosen}.values())


def fastest(costs: Sequence[tuple[Cost, T]]) -> T:
    """Return the choice that loads least among those as fast as the fastest."""
    limit = min(c.cycles for c, _ in costs) * (1 + CYCLES_TOLERANCE)
    fast = ((c.loaded_bytes, c.cycles, i) for i, (c, _) in enumerate(costs) if c.cycles <= limit)
    return costs[min(fast)[2]][1]


def too_small(
    shape: ConvShape, capacity: Capacity, where: str, size: tuple[int, int] = (1, 1)
) -> CapacityError:
    """Return the error that says that not even the smallest tile, rows × columns, fits."""
    smallest = Tiling(oc=1, oh=size[0], ow=size[1], ic=1, oc_w=1, oc_outer=False)
    inp = smallest.inp_elems(shape) + capacity.inp - smallest.inp_capacity(shape, capacity)
    wgt = max(0, capacity.wgt)
    return CapacityError(
        where,
        f"its smallest tile must fit {capacity.inp} inp, {wgt} wgt, {capacity.acc} acc elements",
        got=f"{inp}, {smallest.wgt_elems(shape)} and {smallest.acc_elems}",
        hint="choose a machine with larger buffers"
        if wgt
        else "constants and multipliers that stay fill wgt; choose a machine with a larger one",
    )
