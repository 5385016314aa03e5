"""Lowering of reductions by weights: the convolution, and what dense layers and additions share."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Final

from flow.compiler.buffers import SlotPool
from flow.compiler.cost import PIECE_VECTORS, Slots, Tiling, cost
from flow.compiler.epilogue import Addition, finish_sums, finish_tile, sum_tile
from flow.compiler.geometry import Axis, Dim, Range, runs_of, split, tap_nests
from flow.compiler.operators.conv_sum import add_to_sums
from flow.compiler.operators.operator import Lowerer
from flow.compiler.tiling import choose_tiling
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flow.compiler.emit import Tile
    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.shapes import ConvShape
    from flow.compiler.tokens import Emitted
    from flow.compiler.workbench import Workbench


def convolution(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Lower a convolution or a dense layer (1 × 1 on one pixel)."""
    shape, name, capacity = normal.shape, normal.layer.name, bench.residents.capacity_of(normal)
    tiling = bench.tilings.get(name) or choose_tiling(shape, capacity, name)
    return lower_tiled(bench, normal, tiling, cost(shape, tiling, capacity).slots)


def lower_tiled(
    bench: Workbench,
    normal: NormalLayer,
    tiling: Tiling,
    slots: Slots,
) -> Iterator[Job]:
    """Lower reductions in these tiles, with so many slots."""
    shape, layer = normal.shape, normal.layer
    weights_at = bench.begin_layer(
        normal,
        inp=_inp_pools(shape, tiling, slots),
        wgt=SlotPool(max(1, tiling.wgt_elems(shape)), min(slots.wgt, tiling.weight_chunks(shape))),
        acc=tiling.acc_elems,
    )
    places = list(product(split(shape.out_height, tiling.oh), split(shape.out_width, tiling.ow)))
    groups = normal.output_blocks(tiling.oc)
    if tiling.oc_outer:
        order = list(product(groups, places))
    else:
        order = [(group, place) for place in places for group in groups]
    if normal.total is not None:
        yield from _tiles_and_sums(bench, normal, tiling, order, weights_at)
        return
    alone = tiling.acc_slots(bench.residents.capacity) < 2
    tiles = list(product(bench.batches(layer), order))
    for index, (n, (group, (oy, ox))) in enumerate(tiles):
        tile = bench.tile(layer, n, group, oy, ox)
        jobs = reductions(bench, normal, tiling, tile, weights_at)
        # Where somebody waits for the tile to be stored, STORE begins with its first channels.
        waited = alone or index == len(tiles) - 1
        for piece in tile.pieces(PIECE_VECTORS if waited else tile.vectors):
            jobs = finish_tile(bench, normal, piece, jobs)
        yield from jobs


def _tiles_and_sums(
    bench: Workbench,
    normal: NormalLayer,
    tiling: Tiling,
    order: Sequence[tuple[Range, tuple[Range, Range]]],
    weights_at: tuple[int, ...],
) -> Iterator[Job]:
    """Lower tiles, (blocks, (rows, columns)) in `order`, that are added up before they are stored.

    The sums are stored after the last one.
    """
    assert normal.total is not None
    for n in bench.batches(normal.layer):
        sums = bench.sums(normal, n)
        for index, (group, (oy, ox)) in enumerate(order):
            tile = bench.tile(normal.layer, n, group, oy, ox)
            jobs = reductions(bench, normal, tiling, tile, weights_at)
            if not index:
                jobs[0].body.insert(0, bench.emit.reset(sums.acc, sums.vectors, sums.origin))
            jobs = finish_sums(bench, normal, tile, jobs)
            jobs[-1].body += add_to_sums(bench, tile, sums)
            if index == len(order) - 1:
                jobs = finish_tile(bench, normal.total, sums, jobs)
            yield from jobs


def reductions(
    bench: Workbench, normal: NormalLayer, tiling: Tiling, tile: Tile, weights_at: tuple[int, ...]
) -> list[Job]:
    """Add a tile's constants and reductions, one job a chunk, by falling exponent."""
    ics = tiling.chunk_blocks(normal.shape)
    terms = [
        Addition(
            part.shape.exponent, partial(reduction, bench, part, replace(tiling, ic=ic), tile, at)
        )
        for part, ic, at in zip(normal.reductions, ics, weights_at, strict=True)
    ]
    return sum_tile(bench, normal, tile, terms)


def reduction(
    bench: Workbench, normal: NormalLayer, tiling: Tiling, tile: Tile, weights_at: int
) -> Iterator[Job]:
    """Add one reduction and its constants to a tile."""
    shape = normal.shape
    read = normal.input_blocks(tile.oc)
    chunks = split(read.count, tiling.ic) if read.count else [Range(0, 0)]
    for ic, part in product(chunks, split(tile.oc.count, tiling.oc_w)):
        job = bench.new_job()
        constants = shape.constants if ic.start == 0 else 0
        row = constants + ic.count * shape.taps
        oc = Range(tile.oc.start + part.start, part.count)
        wgt = bench.place_weights(job, normal, weights_at, oc, ic, row, tile.origin) if row else 0
        acc = tile.acc + part.start * tile.area
        if constants:
            job.body += add_digits(bench, normal, tile, acc, part.count, wgt, row)
        if ic.count:
            axes = (shape.axis(tile.oy, 0), shape.axis(tile.ox, 1))
            channels = Range(read.start + ic.start, ic.count)
            inp = _place_input(bench, job, normal, tile, channels, axes)
            area = axes[0].window.count * axes[1].window.count
            outputs = Dim(part.count, tile.area, 0, row)
            nests = tap_nests(
                axes,
                (outputs, Dim(ic.count, 0, area, shape.taps)),
                (acc, inp, wgt + constants),
                pitch=tile.ox.count,
                weights=(shape.kernel[1], 1),
                last=last_blocks(shape, ic, outputs, area),
            )
            origin = tile.origin.to(Purpose.GEMM)
            job.body += [bench.emit.gemm(dims, start, origin) for dims, start in nests]
        yield job


def last_blocks(shape: ConvShape, ic: Range, outputs: Dim, area: int) -> tuple[Dim, ...]:
    """Return the blocks of a chunk that the last row of taps multiplies, if it lacks some."""
    count = ic.within(Range(0, shape.last_ic or shape.ic)).count
    return () if count == ic.count else (outputs, Dim(count, 0, area, shape.taps))


def add_digits(
    bench: Workbench, normal: NormalLayer, tile: Tile, acc: int, oc: int, wgt: int, row: int
) -> list[Emitted]:
    """Add a reduction's own digits and edges to `oc` blocks from `acc` on, in rows at `wgt`.

    A step leaves out blocks whose constants are small enough for the steps before it.
    """
    result: list[Emitted] = []
    block = tile.oc.start + (acc - tile.acc) // tile.area
    first, steps = normal.own_digits
    for step in range(first, first + steps):
        assert normal.digits is not None
        needed = [bool(digits.any()) for digits in normal.digits[block : block + oc, step]]
        for run in runs_of(needed):
            place, digits_at = acc + run.start * tile.area, wgt + run.start * row + step
            result += bench.add_constants(
                place, run.count, tile.area, digits_at, row, 1, tile.origin
            )
    return [*result, *_add_edges(bench, normal, tile, acc, oc, wgt, row)]


def _add_edges(
    bench: Workbench,
    normal: NormalLayer,
    tile: Tile,
    acc: int,
    oc: int,
    wgt: int,
    row: int,
) -> Iterator[Emitted]:
    """Add the constants of the outputs that some taps miss; their digits end the constants."""
    if not normal.edges:
        return
    assert normal.digits is not None
    origin, pitch = tile.origin.to(Purpose.BIAS), tile.ox.count
    block = tile.oc.start + (acc - tile.acc) // tile.area
    index = normal.own_digits.count
    for edge in normal.edges:
        rows, columns = edge.rows.within(tile.oy), edge.columns.within(tile.ox)
        first = acc + (rows.start - tile.oy.start) * pitch + columns.start - tile.ox.start
        steps = edge.digits(bench.config, normal.layer.name).shape[1]
        for step in range(index, index + steps if rows.count and columns.count else 0):
            needed = [bool(d.any()) for d in normal.digits[block : block + oc, step]]
            for run in runs_of(needed):
                dims = (
                    Dim(rows.count, pitch, 0),
                    Dim(columns.count, 1, 0),
                    Dim(run.count, tile.area, 0, row),
                )
                start = (
                    first + run.start * tile.area,
                    bench.residents.vector_at,
                    wgt + run.start * row + step,
                )
                yield bench.emit.gemm(dims, start, origin)
        index += steps


def _place_input(
    bench: Workbench,
    job: Job,
    normal: NormalLayer,
    tile: Tile,
    ic: Range,
    axes: tuple[Axis, Axis],
) -> int:
    shape, layer = normal.shape, normal.layer
    origin = tile.origin.to(Purpose.INPUT)
    plane = shape.input_plane
    base, loads = bench.place_input(job, (layer.name, plane, tile.n, ic, tile.oy, tile.ox))
    if loads is not None and normal.flat:
        loads += bench.emit.load_flat(layer.inputs[0], base, tile.n, ic, origin, plane=plane)
    elif loads is not None:
        y, x = (axis.window for axis in axes)
        name, step = layer.inputs[0], shape.row_step
        loads += bench.emit.load_window(
            name, base, tile.n, ic, y, x, origin, row_step=step, corner=shape.corner, plane=plane
        )
    return base


def _inp_pools(shape: ConvShape, tiling: Tiling, slots: Slots) -> dict[str, SlotPool]:
    residual = SlotPool(tiling.oh * tiling.ow, slots.residual)
    pools = {"residual": residual} if shape.residuals or not shape.ic else {}
    if shape.ic:
        pools["chunk"] = SlotPool(tiling.inp_elems(shape), slots.inp)
    return pools


LOWERER: Final = Lowerer(lower=convolution, searched=True)
