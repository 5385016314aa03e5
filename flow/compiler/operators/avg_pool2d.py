"""Lowering of average pools whose windows contain different numbers of pixels.

A window's sum counts with a factor, which GEMM's diagonal weights have. The factors differ along
the edges only: a tile is cut into the rectangles of one factor, and each is a GEMM instruction for
each weight that the factor is a sum of. Padding reads as zero.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby, product
from typing import TYPE_CHECKING, Final

from flow.compiler.averages import factors_of
from flow.compiler.buffers import SlotPool
from flow.compiler.cost import Tiling
from flow.compiler.epilogue import Addition, finish_tile, sum_tile
from flow.compiler.geometry import Dim, Range, split, tap_nests
from flow.compiler.operators.conv2d import reduction
from flow.compiler.operators.depthwise_conv2d import choose_tile, window_elems
from flow.compiler.operators.operator import Lowerer
from flow.compiler.residual import weight_terms
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from flow.compiler.emit import Tile
    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.workbench import Workbench


def avg_pool2d(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Lower sums over windows, each times its factor, a job a tile."""
    layer, shape, capacity = normal.layer, normal.shape, bench.residents.capacity_of(normal)
    bits, planes = bench.config.inp_bits, bench.tensors[layer.inputs[0]].planes
    factors = factors_of(layer)
    oc_each, oh, ow = choose_tile(
        shape, capacity, layer.name, planes=(planes, 1), row=max(1, shape.constants)
    )
    inp = {"residual": SlotPool(oh * ow)} if shape.residuals else {}
    inp["chunk"] = SlotPool(oc_each * window_elems(shape, oh, ow), 2 * planes)
    weights_at = bench.begin_layer(
        normal,
        inp=inp,
        wgt=SlotPool(max(1, oc_each * shape.constants)),
        acc=oc_each * oh * ow,
    )
    tiling = Tiling(oc=oc_each, oh=oh, ow=ow, ic=0, oc_w=oc_each, oc_outer=True)
    splits = (split(shape.out_height, oh), split(shape.out_width, ow))
    for oc, n, oy, ox in product(split(shape.oc, oc_each), bench.batches(layer), *splits):
        tile = bench.tile(layer, n, oc, oy, ox)
        constants = partial(reduction, bench, normal, tiling, tile, weights_at[0])
        sums = (
            Addition(bits * plane, partial(_sums, bench, normal, tile, plane, factors))
            for plane in range(planes)
        )
        jobs = sum_tile(bench, normal, tile, [Addition(0, constants), *sums])
        yield from finish_tile(bench, normal, tile, jobs)


def _sums(
    bench: Workbench, normal: NormalLayer, tile: Tile, plane: int, factors: NDArray[np.int64]
) -> Iterator[Job]:
    """Add a plane of a tile's windows, in one job."""
    layer, shape, oc, job = normal.layer, normal.shape, tile.oc, bench.new_job()
    axes = (shape.axis(tile.oy, 0), shape.axis(tile.ox, 1))
    y, x = (axis.window for axis in axes)
    base, loads = bench.place_input(job, (layer.name, plane, tile.n, oc, tile.oy, tile.ox))
    if loads is not None:
        origin = tile.origin.to(Purpose.INPUT)
        loads += bench.emit.load_window(
            layer.inputs[0], base, tile.n, oc, y, x, origin, plane=plane
        )
    for rows, columns in product(_alike(factors, tile.oy), _alike(factors.T, tile.ox)):
        factor = int(factors[rows.start, columns.start])
        for weight, repeats in weight_terms(factor, bench.config.wgt_max):
            nests = tap_nests(
                axes,
                (Dim(oc.count, tile.area, y.count * x.count),),
                (tile.acc, base, bench.residents.diagonal_at[weight]),
                pitch=tile.ox.count,
                weights=(0, 0),
                some=(rows, columns),
            )
            origin = tile.origin.to(Purpose.POOL)
            for dims, start in nests:
                job.body += [bench.emit.gemm(dims, start, origin) for _ in range(repeats)]
    yield job


def _alike(factors: NDArray[np.int64], out: Range) -> Iterator[Range]:
    """Cut a tile's rows into those with the same factors."""
    first = out.start
    rows = (row.tobytes() for row in factors[out.start : out.start + out.count])
    for _, run in groupby(rows):
        count = len([*run])
        yield Range(first, count)
        first += count


LOWERER: Final = Lowerer(lower=avg_pool2d)
