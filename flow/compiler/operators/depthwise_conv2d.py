"""Lowering of depthwise convolutions: GEMM with a diagonal weight for each tap.

A block of output channels reads the block of input channels of its number and no other, so a tile
needs as many blocks of inp as it makes of acc, and its reduction is one chunk:

    acc[c, y, x] += Σ_taps diag(w[c, tap]) · inp[c, y · stride + tap_y, x · stride + tap_x].
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from flow.compiler.buffers import SlotPool
from flow.compiler.epilogue import finish_tile, residual_jobs
from flow.compiler.geometry import Dim, Range, nest_uops, split
from flow.compiler.operators.operator import Lowerer
from flow.compiler.tiling import extents, too_small
from flow.program.layouts import blocks
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.shapes import Capacity, ConvShape
    from flow.compiler.workbench import Workbench


def depthwise_conv2d(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Lower a depthwise convolution, a job a tile; a tile's weights stay for the next places."""
    layer, shape, emit = normal.layer, normal.shape, bench.emit
    oc_each, oh, ow = _tile(shape, bench.residents.capacity_of(normal), layer.name)
    row = shape.constants + shape.taps
    inp = {"residual": SlotPool(oh * ow)} if shape.residuals else {}
    inp["chunk"] = SlotPool(oc_each * _window_elems(shape, oh, ow))
    acc = oc_each * oh * ow
    (weights_at,) = bench.begin_layer(normal, inp=inp, wgt=SlotPool(oc_each * row), acc=acc)
    splits = (split(shape.out_height, oh), split(shape.out_width, ow))
    for oc, n, oy, ox in product(split(shape.oc, oc_each), bench.batches(layer), *splits):
        tile, job = bench.tile(layer, n, oc, oy, ox), bench.new_job()
        y, x = (shape.window(out, axis, tile.origin) for axis, out in enumerate((oy, ox)))
        wgt = bench.place_weights(job, normal, weights_at, oc, Range(0, shape.ic), row, tile.origin)
        base, loads = bench.place_input(job, (layer.name, n, oc, oy, ox))
        if loads is not None:
            origin, step = tile.origin.to(Purpose.INPUT), shape.row_step
            loads += emit.load_window(layer.inputs[0], base, n, oc, y, x, origin, row_step=step)
        nest = (
            Dim(oy.count, ox.count, shape.stride[0] * x.extent),
            Dim(ox.count, 1, shape.stride[1]),
            Dim(oc.count, tile.area, y.extent * x.extent, row),
            Dim(shape.kernel[0], 0, shape.dilation[0] * x.extent, shape.kernel[1]),
            Dim(shape.kernel[1], 0, shape.dilation[1], 1),
        )
        job.body.append(emit.reset(tile.acc, tile.vectors, tile.origin))
        job.body += bench.add_constants(
            tile.acc, oc.count, tile.area, wgt, row, shape.constants, tile.origin
        )
        starts = (tile.acc, base, wgt + shape.constants)
        job.body.append(emit.gemm(nest, starts, tile.origin.to(Purpose.GEMM)))
        jobs = [job, *residual_jobs(bench, normal.residuals, tile)]
        yield from finish_tile(bench, normal, tile, jobs)


def _window_elems(shape: ConvShape, oh: int, ow: int) -> int:
    """Return the inp elements, zeros included, that a block of a tile of oh × ow reads."""
    return shape.extent_in(oh, 0) * shape.extent_in(ow, 1)


def _tile(shape: ConvShape, capacity: Capacity, where: str) -> tuple[int, int, int]:
    """Choose the tile (blocks, rows, columns) that loads least, two in flight if they fit.

    Raises
    ------
    CapacityError
        When not even the smallest tile fits.
    """
    best: tuple[tuple[bool, int, int], tuple[int, int, int]] | None = None
    for oh, ow in product(extents(shape.out_height), extents(shape.out_width)):
        elems, area = _window_elems(shape, oh, ow), oh * ow
        inp = capacity.inp - (2 * area if shape.residuals else 0)
        fits = min(
            inp // elems, capacity.wgt // (shape.constants + shape.taps), capacity.acc // area
        )
        each = range(min(shape.oc, max(1, fits // 2)), 0, -1)
        small = (n for n in each if nest_uops((oh, ow, n, *shape.kernel)) <= capacity.uop)
        oc = next(small, 0)
        if fits < 1 or not oc:
            continue
        places = blocks(shape.out_height, oh) * blocks(shape.out_width, ow)
        key = (fits < 2, places * elems * shape.oc, places * blocks(shape.oc, oc))
        if best is None or key < best[0]:
            best = (key, (oc, oh, ow))
    if best is None:
        raise too_small(shape, capacity, where)
    return best[1]


LOWERER: Final = Lowerer(lower=depthwise_conv2d)
