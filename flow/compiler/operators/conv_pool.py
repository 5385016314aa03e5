"""A convolution and the max-pool that follows it, lowered as one: the wide tensor stays in acc.

Shifts and clips only grow with their operand, so the maximum may be taken first: of the sums, in
place; constants and epilogue then touch only the few that remain. For that the sums of a tile lie
as s × s *planes*, s the pool's stride: plane (py, px) holds the convolution's outputs at rows ≡ py
and columns ≡ px (mod s). A view of the pool is then a shift of one plane against another:

1. every plane (py, 0) takes the maximum with the planes (py, px) that its row of the window needs;
2. plane (0, 0), which is the pool's tile, takes the maximum with the planes (py, 0).

This needs a window whose other taps never fall on phase 0, as 3 × 3 / 2 or 2 × 2 / 2 have it.

A tile shares rows with the one above it. Where two tiles fit acc, that one may still lie there when
this one takes its maxima, and is read; otherwise the rows between them are computed twice, as the
columns between neighbours are.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from flow.compiler.bias import RegisterOp, late_constants
from flow.compiler.buffers import CONSTANTS_SHARE, SlotPool
from flow.compiler.cost import Cost, Tiling, cost, least_cycles, objective_cost
from flow.compiler.epilogue import Addition, finish_tile, sum_up
from flow.compiler.epilogue_ops import ImmediateOp
from flow.compiler.geometry import NO_RANGE, Dim, Range, split, tap_nests, view
from flow.compiler.multiply import ShiftAdds
from flow.compiler.normal_form import normal_layer
from flow.compiler.operators.conv2d import last_blocks
from flow.compiler.tiling import channel_extents, extents, too_small
from flow.program.layouts import blocks
from relay_passes.operators.conv2d import OPERATOR as CONV2D
from relay_passes.operators.max_pool2d import OPERATOR as MAX_POOL2D
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flow.compiler.emit import Tile
    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.shapes import Capacity, ConvShape
    from flow.compiler.workbench import Workbench
    from flow.program.input_form import InputForm
    from relay_passes.partition.layers import Layer, Subgraph
    from vta_config.hardware import VTAConfig


def fused_pools(subgraph: Subgraph) -> dict[str, Layer]:
    """Return the max-pools that can join the convolution before them, by that layer's name."""
    readers: dict[str, list[Layer]] = {}
    for layer in subgraph.layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    kept = {spec.name for spec in subgraph.outputs}
    result = {}
    for layer in subgraph.layers:
        pool = readers.get(layer.output, [None])[0]
        alone = len(readers.get(layer.output, [])) == 1 and layer.output not in kept
        if layer.operator is CONV2D and alone and pool is not None and _fits(pool):
            result[layer.name] = pool
    return result


def _fits(pool: Layer) -> bool:
    """Tell whether a pool's window meets phase 0 with one tap only, inside the picture."""
    if pool.operator is not MAX_POOL2D or pool.post_ops or pool.dilation != (1, 1):
        return False
    axes = zip(pool.kernel, pool.stride, pool.padding[:2], strict=True)
    taps = all(sum((t - pad) % s == 0 for t in range(k)) == 1 and pad < k for k, s, pad in axes)
    sizes = zip(pool.in_shape[2:], pool.out_shape[2:], pool.stride, strict=True)
    return taps and all((out - 1) * s < size for size, out, s in sizes)


def normal_layer_with_pool(
    layer: Layer,
    pool: Layer | None,
    config: VTAConfig,
    form: InputForm | None = None,
    planes: Mapping[str, int] | None = None,
) -> NormalLayer:
    """Bring a layer into normal form, joined with the pool that follows it where that can be."""
    if pool is not None:
        # Constants come after the maximum, so those of edges cannot be among them.
        alone = normal_layer(layer, config, form=form, planes=planes, with_edges=False)
        if _can_pool_first(alone):
            joined = _joined(alone, pool, config)
            if joined.late_elems <= config.wgt_depth // CONSTANTS_SHARE:
                return joined
    return normal_layer(layer, config, form=form, planes=planes)


def _can_pool_first(normal: NormalLayer) -> bool:
    """Tell whether the maximum commutes with everything that follows the reduction.

    One output for the whole picture makes no planes.
    """
    steps = (
        isinstance(s, ShiftAdds | RegisterOp) or (isinstance(s, ImmediateOp) and s.monotone)
        for s in normal.epilogue
    )
    further = normal.residuals or normal.has_further_layers
    return not (normal.flat or further) and all(steps)


def _joined(normal: NormalLayer, pool: Layer, config: VTAConfig) -> NormalLayer:
    """Join a convolution and its pool; max(x + c) = max(x) + c, so constants come after it."""
    if not any(part.shape.constants for part in normal.reductions):
        return replace(normal, pool=pool)
    assert normal.bias is not None
    own, *summands = (
        replace(part, shape=replace(part.shape, constants=0), digits=None, own_digits=NO_RANGE)
        for part in (normal, *normal.summands)
    )
    return replace(
        own,
        pool=pool,
        shape=replace(own.shape, summands=tuple(part.shape for part in summands)),
        summands=tuple(summands),
        epilogue=(late_constants(normal.bias, config, normal.layer.name), *normal.epilogue),
    )


class _Axis(NamedTuple):
    """The rows (or columns) of the convolution that a tile of the pool reads, and its window."""

    rows: Range
    stride: int
    kernel: int
    padding: int
    size: int

    def phase(self, phase: int) -> Range:
        """Return a plane's rows: row r of it is row r · stride + phase of the convolution."""
        first = -(-(self.rows.start - phase) // self.stride)
        last = (self.rows.start + self.rows.count - 1 - phase) // self.stride
        return Range(first, max(0, last - first + 1))

    def others(self) -> list[tuple[int, int]]:
        """Return (phase, shift) of the window's taps that do not lie on phase 0."""
        taps = (t - self.padding for t in range(self.kernel))
        return [(t % self.stride, t // self.stride) for t in taps if t % self.stride]


def conv_pool(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Lower a convolution and its pool."""
    pool, shape = normal.pool, normal.shape
    assert pool is not None
    capacity = bench.residents.capacity_of(normal)
    estimate, tiling, (height, width) = choose_pooled(normal, pool, capacity)
    # The cost is that of a larger picture, which may need more of inp than there is.
    slots = max(1, estimate.slots.inp)
    weights_at = bench.begin_layer(
        normal,
        inp={"chunk": SlotPool(tiling.inp_elems(shape), slots)},
        wgt=SlotPool(tiling.wgt_elems(shape), estimate.slots.wgt),
        acc=tiling.acc_elems,
    )
    above: dict[tuple[int, int], _Plane] = {}
    for n, oc, oy, ox in _order(bench, normal, tiling, (height, width)):
        tile = bench.tile(normal.layer, n, oc, oy, ox)
        axes = _axes(pool, (oy, ox), keep=tiling.oc_outer)
        planes = _planes(tile, axes)
        terms = (
            Addition(
                part.shape.exponent,
                partial(_reduction, bench, part, tiling, tile, axes, planes, at),
            )
            for part, at in zip(normal.reductions, weights_at, strict=True)
        )
        vectors = oc.count * axes[0].rows.count * axes[1].rows.count
        jobs = sum_up(bench, tile, terms, vectors=vectors)
        _maximum(bench, jobs[-1], tile, axes, planes, above)
        above = planes
        yield from finish_tile(bench, normal, tile, jobs)


def _reduction(
    bench: Workbench,
    normal: NormalLayer,
    tiling: Tiling,
    tile: Tile,
    axes: tuple[_Axis, _Axis],
    planes: dict[tuple[int, int], _Plane],
    weights_at: int,
) -> Iterator[Job]:
    """Add a reduction to all planes of a tile, one job a chunk."""
    shape, name, oc = normal.shape, normal.layer.name, tile.oc
    y, x = (shape.axis(axis.rows, a).window for a, axis in enumerate(axes))
    for ic, part in product(split(shape.ic, tiling.ic), split(oc.count, tiling.oc_w)):
        job = bench.new_job()
        row = ic.count * shape.taps
        group = Range(oc.start + part.start, part.count)
        wgt = bench.place_weights(job, normal, weights_at, group, ic, row, tile.origin)
        key = (name, shape.input_plane, tile.n, ic, tile.oy, tile.ox)
        base, loads = bench.place_input(job, key)
        if loads is not None:
            loads += bench.emit.load_window(
                normal.layer.inputs[0],
                base,
                tile.n,
                ic,
                y,
                x,
                tile.origin.to(Purpose.INPUT),
                row_step=shape.row_step,
                corner=shape.corner,
                plane=shape.input_plane,
            )
        for (py, px), plane in planes.items():
            area = plane.rows.count * plane.columns.count
            outputs, pixels = Dim(part.count, area, 0, row), y.count * x.count
            nests = tap_nests(
                (
                    shape.axis(plane.rows, 0, step=axes[0].stride, phase=py),
                    shape.axis(plane.columns, 1, step=axes[1].stride, phase=px),
                ),
                (outputs, Dim(ic.count, 0, pixels, shape.taps)),
                (plane.at + part.start * area, base, wgt),
                pitch=plane.columns.count,
                weights=(shape.kernel[1], 1),
                window=(y, x),
                last=last_blocks(shape, ic, outputs, pixels),
            )
            origin = tile.origin.to(Purpose.GEMM)
            job.body += [bench.emit.gemm(dims, start, origin) for dims, start in nests]
        yield job


def _order(
    bench: Workbench, normal: NormalLayer, tiling: Tiling, sizes: tuple[int, int]
) -> Iterator[tuple[int, Range, Range, Range]]:
    """Yield (n, oc, oy, ox) of the tiles; where rows are kept, each below the one before it."""
    assert normal.pool is not None
    rows, columns = (
        split(out, size) for out, size in zip(normal.pool.out_shape[2:], sizes, strict=True)
    )
    groups = split(normal.shape.oc, tiling.oc)
    for n in bench.batches(normal.pool):
        if tiling.oc_outer:
            yield from ((n, oc, oy, ox) for oc, ox, oy in product(groups, columns, rows))
        else:
            yield from ((n, oc, oy, ox) for oy, ox, oc in product(rows, columns, groups))


def _without_edges(shape: ConvShape, out_height: int, out_width: int) -> ConvShape:
    """Return a convolution that makes so many rows and columns, all taps of which lie inside."""
    return replace(
        shape,
        summands=tuple(_without_edges(part, out_height, out_width) for part in shape.summands),
        padding=(0, 0),
        out_height=out_height,
        out_width=out_width,
        height=shape.extent_in(out_height, 0),
        width=shape.extent_in(out_width, 1),
    )


class _Plane(NamedTuple):
    """Where a plane lies in acc, as [oc][rows][columns]."""

    at: int
    rows: Range
    columns: Range


def _overlap(pool: Layer) -> int:
    """Return the rows that a tile shares with the one above it."""
    return max(0, pool.kernel[0] - pool.stride[0])


def _axes(pool: Layer, out: tuple[Range, Range], *, keep: bool) -> tuple[_Axis, _Axis]:
    """Return what a tile computes; with `keep`, without the rows that the one above it has."""
    result = []
    for axis, places in enumerate(out):
        stride, kernel, padding = pool.stride[axis], pool.kernel[axis], pool.padding[axis]
        size = pool.in_shape[2 + axis]
        low = max(0, places.start * stride - padding)
        if keep and axis == 0 and places.start:
            low += _overlap(pool)
        high = min(size, (places.start + places.count - 1) * stride - padding + kernel)
        result.append(_Axis(Range(low, high - low), stride, kernel, padding, size))
    return result[0], result[1]


def _planes(tile: Tile, axes: tuple[_Axis, _Axis]) -> dict[tuple[int, int], _Plane]:
    """Lay the planes out one after the other, (0, 0) first: it is the tile that is stored."""
    planes, at = {}, tile.acc
    for py, px in product(range(axes[0].stride), range(axes[1].stride)):
        rows, columns = axes[0].phase(py), axes[1].phase(px)
        if rows.count and columns.count:
            planes[py, px] = _Plane(at, rows, columns)
            at += tile.oc.count * rows.count * columns.count
    return planes


def _maximum(
    bench: Workbench,
    job: Job,
    tile: Tile,
    axes: tuple[_Axis, _Axis],
    planes: dict[tuple[int, int], _Plane],
    above: dict[tuple[int, int], _Plane],
) -> None:
    """Take the window's maximum into plane (0, 0): along rows first, then along columns.

    `above` are the planes of the tile above, for the rows that this one leaves to it.
    """

    def meet(into: _Plane, source: _Plane, axis: int, valid: Range, shift: int) -> None:
        if valid.count > 0:
            dims, start = _shifted(tile, into, source, axis, valid, shift)
            job.body.append(bench.emit.alu("max", dims, start, tile.origin.to(Purpose.POOL)))

    for axis in (1, 0):
        phases = range(axes[0].stride) if axis == 1 else (0,)
        for keep, (phase, shift) in product(phases, axes[axis].others()):
            into, key = planes.get((keep, 0)), (keep, phase) if axis == 1 else (phase, 0)
            if into is None:
                continue
            valid = view(
                (tile.oy, tile.ox)[axis],
                offset=shift * axes[axis].stride + phase,
                stride=axes[axis].stride,
                size=axes[axis].size,
            )
            left = 0
            if axis == 0 and valid.start * axes[0].stride + shift * axes[0].stride + phase < (
                axes[0].rows.start
            ):
                left = 1
                meet(into, above[key], axis, Range(valid.start, 1), shift)
            if key in planes:
                rest = Range(valid.start + left, valid.count - left)
                meet(into, planes[key], axis, rest, shift)


def _shifted(
    tile: Tile, into: _Plane, source: _Plane, axis: int, valid: Range, shift: int
) -> tuple[Sequence[Dim], tuple[int, int]]:
    """Return the nest that meets `into` with `source` shifted along `axis`."""
    width, source_width = into.columns.count, source.columns.count
    along = valid.start - (into.rows, into.columns)[axis].start
    from_ = valid.start + shift - (source.rows, source.columns)[axis].start
    strides = (width, source_width) if axis == 0 else (1, 1)
    across = Dim(into.rows.count, width, source_width) if axis == 1 else Dim(width, 1, 1)
    dims = (
        across,
        Dim(valid.count, *strides),
        Dim(
            tile.oc.count,
            into.rows.count * width,
            source.rows.count * source_width,
        ),
    )
    return dims, (into.at + along * strides[0], source.at + from_ * strides[1])


def choose_pooled(
    normal: NormalLayer, pool: Layer, capacity: Capacity
) -> tuple[Cost, Tiling, tuple[int, int]]:
    """Choose the tiling of the convolution and the pool's (rows, columns) that it makes.

    Raises
    ------
    CapacityError
        When not even the smallest chunk fits a memory.
    """
    shape = normal.shape
    (ky, kx), (sy, sx) = pool.kernel, pool.stride
    # Cycles that each of the pool's outputs takes; a maximum is of two registers.
    timing, maxima = capacity.timing, (kx - 1) * sy + ky - 1
    narrow = timing.alu_reg_step * maxima + sum(e.cycles(timing) for e in normal.epilogue)
    shifts, stores = len(normal.exponents) - 1, 2 * (shape.out_planes - 1)
    passes = blocks(2 * maxima + sum(e.passes for e in normal.epilogue) + stores, sy * sx)
    narrow += stores * timing.alu_imm_step
    wides: list[tuple[ConvShape, tuple[int, int, bool], tuple[int, int]]] = []
    for height, width in product(extents(pool.out_shape[2]), extents(pool.out_shape[3])):
        columns = min((width - 1) * sx + kx, pool.in_shape[3])
        tiles = (blocks(pool.out_shape[2], height), blocks(pool.out_shape[3], width))
        for keep in (False, True):
            rows = min((height - 1) * sy + ky - keep * _overlap(pool), pool.in_shape[2])
            # As a convolution that makes every tile's rows and columns anew.
            wide = replace(
                _without_edges(shape, tiles[0] * rows, tiles[1] * columns),
                vector_cycles=timing.gemm_reset_step
                + shifts * timing.alu_imm_step
                + blocks(narrow, sy * sx),
                tile_cycles=timing.overhead(alu=False, reset=True)
                + (shifts + passes) * timing.overhead(alu=True),
                planes=sy * sx,
            )
            wides.append((wide, (rows, columns, keep), (height, width)))
    best: tuple[Cost, Tiling, tuple[int, int]] | None = None
    least, first = inf, 0
    channels = channel_extents(shape, capacity)
    # The fastest first, so that of most there is no need to cost the tilings.
    for index in sorted(range(len(wides)), key=lambda i: wides[i][0].cycles):
        wide, (rows, columns, keep), size = wides[index]
        if wide.cycles > least:
            break
        oc, ic, oc_w = channels[:, (1 + keep) * rows * columns * channels[0] <= capacity.acc]
        tilings = Tiling(oc=oc, oh=rows, ow=columns, ic=ic, oc_w=oc_w, oc_outer=keep)
        fit: Any = tilings.inp_elems(shape) <= capacity.inp
        fit &= least_cycles(wide, tilings, capacity) <= least
        oc, ic, oc_w = (extent[fit] for extent in (oc, ic, oc_w))
        if not len(oc):
            continue
        tilings = replace(tilings, oc=oc, ic=ic, oc_w=oc_w)
        estimates = cost(wide, tilings, capacity)
        values: Any = objective_cost(estimates, capacity)
        at = int(values.argmin())
        if best is None or (values.item(at), index) < (least, first):
            least, first = values.item(at), index
            best = (estimates.at(at), tilings.at(at), size)
    if best is None:
        smallest = (min(ky, pool.in_shape[2]), min(kx, pool.in_shape[3]))
        raise too_small(shape, capacity, normal.layer.name, smallest)
    return best
