"""Lowering of products with one number per channel: GEMM with diagonal weights made at run time.

A wgt element whose diagonal holds the factors of a block of channels is `block` vectors in DRAM,
one behind the other: vector i has factor i in lane i and 0 elsewhere. So a first part of the layer
multiplies the factors with weights of a single 1, one for each lane, and stores what it makes:

    diagonal[c, i] = E_i · factor[c],    E_i[o, k] = 1 where o = k = i.

The second part loads that as weights, and is a depthwise 1 × 1 convolution. Zero points z of both
tensors are further steps: (x - z_x) · (s - z_s) = s · x - z_s · x - s · z_x + z_x · z_s.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

from flow.compiler.buffers import SlotPool
from flow.compiler.cost import Tiling
from flow.compiler.epilogue import Addition, finish_tile, sum_tile
from flow.compiler.geometry import Dim, Range, split
from flow.compiler.operators.conv2d import reduction
from flow.compiler.operators.depthwise_conv2d import choose_tile
from flow.compiler.operators.operator import Lowerer
from flow.compiler.residual import weight_terms
from vta_config.isa import Memory
from vta_config.lanes import pack_lanes
from vta_config.origin import Origin, Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flow.compiler.emit import Tile
    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.workbench import Workbench

#: The one row or column of a factor.
_ONE: Final = Range(0, 1)


def scale_channels(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Lower a product with one number per channel: the diagonals, then a job a tile."""
    layer, block = normal.layer, bench.config.block
    capacity = bench.residents.capacity_of(normal)
    offset, factor = (sum(n for _, n in _terms(bench, -zero)) for zero in layer.zero_points)
    shape = replace(normal.shape, vector_cycles=normal.shape.vector_cycles + offset + factor)
    # Of the smallest machine's inp, the factors take no more than half.
    made = max(1, min(shape.oc, capacity.acc // (2 * block), capacity.inp // 4))
    left = replace(capacity, inp=capacity.inp - 2 * made - 1, wgt=capacity.wgt - block)
    row = shape.constants + 1
    oc_each, oh, ow = choose_tile(shape, left, layer.name, planes=(1, 1), row=row)
    residual = {"residual": SlotPool(oh * ow)} if shape.residuals else {}
    weights_at = bench.begin_layer(
        normal,
        inp={
            **residual,
            "offset": SlotPool(1, 1),
            "factor": SlotPool(made),
            "chunk": SlotPool(oc_each * oh * ow),
        },
        wgt=SlotPool(max(1, oc_each * shape.constants)),
        more_wgt={"units": SlotPool(block, 1), "factors": SlotPool(oc_each)},
        acc=max(oc_each * oh * ow, made * block),
    )
    for n, oc in product(bench.batches(layer), split(shape.oc, made)):
        yield _diagonals(bench, normal, n, oc)
    tiling = Tiling(oc=oc_each, oh=oh, ow=ow, ic=0, oc_w=oc_each, oc_outer=True)
    splits = (split(shape.out_height, oh), split(shape.out_width, ow))
    for oc, n, oy, ox in product(split(shape.oc, oc_each), bench.batches(layer), *splits):
        tile = bench.tile(layer, n, oc, oy, ox)
        terms = (
            Addition(0, partial(reduction, bench, normal, tiling, tile, weights_at[0])),
            Addition(0, partial(_products, bench, normal, tile)),
        )
        yield from finish_tile(bench, normal, tile, sum_tile(bench, normal, tile, terms))


def _diagonals(bench: Workbench, normal: NormalLayer, n: int, oc: Range) -> Job:
    """Make the weights of some blocks of channels and store them."""
    layer, block, job = normal.layer, bench.config.block, bench.new_job()
    tile = bench.tile(layer, n, oc, Range(0, block), Range(0, 1))
    origin = tile.origin.to(Purpose.DIAGONAL)
    inp, loads = bench.place_input(job, (layer.name, "factor", n, oc), "factor")
    assert loads is not None
    loads += bench.emit.load_window(layer.inputs[1], inp, n, oc, _ONE, _ONE, origin)
    wgt = _place_units(bench, job, origin)
    dims = (Dim(oc.count, block, 1), Dim(block, 1, 0, 1))
    job.body += [
        bench.emit.reset(tile.acc, tile.vectors, tile.origin),
        bench.emit.gemm(dims, (tile.acc, inp, wgt), origin),
        *bench.emit.store(normal.diagonal, tile),
    ]
    return job


def _place_units(bench: Workbench, job: Job, origin: Origin) -> int:
    """Return where the weights of a single 1 lie in wgt; load them if they must be."""
    config = bench.config
    base, loads = bench.place_constant(job, "units", "units")
    if loads is not None:
        units = np.zeros((config.block,) * 3, np.int8)
        np.einsum("iii->i", units)[:] = 1
        at = bench.constants.add(pack_lanes(units, config.wgt_bits)) // config.wgt_elem_bytes
        loads.append(bench.emit.load_constant(Memory.WGT, base, at, origin, columns=config.block))
    return base


def _products(bench: Workbench, normal: NormalLayer, tile: Tile) -> Iterator[Job]:
    """Add a tile's products, in one job."""
    layer, oc, job = normal.layer, tile.oc, bench.new_job()
    inp, loads = bench.place_input(job, (layer.name, tile.n, oc, tile.oy, tile.ox))
    if loads is not None:
        origin = tile.origin.to(Purpose.INPUT)
        place = (tile.oy, tile.ox)
        loads += bench.emit.load_window(layer.inputs[0], inp, tile.n, oc, *place, origin)
    wgt, loads = bench.place_constant(job, (layer.name, "factors", tile.n, oc), "factors")
    if loads is not None:
        origin = tile.origin.to(Purpose.WEIGHTS)
        loads.append(bench.emit.load_weights(normal.diagonal, wgt, tile.n, oc, origin))
    area = tile.area
    dims = (Dim(area, 1, 1), Dim(oc.count, area, area, 1))
    job.body.append(bench.emit.gemm(dims, (tile.acc, inp, wgt), tile.origin.to(Purpose.GEMM)))
    data_zero, factor_zero = layer.zero_points
    dims = (Dim(area, 1, 1), Dim(oc.count, area, area))
    for weight, repeats in _terms(bench, -factor_zero):
        start = (tile.acc, inp, bench.residents.diagonal_at[weight])
        origin = tile.origin.to(Purpose.RESIDUAL)
        job.body += [bench.emit.gemm(dims, start, origin) for _ in range(repeats)]
    dims = (Dim(area, 1, 0), Dim(oc.count, area, 0, 1))
    for number, repeats in _terms(bench, -data_zero):
        start = (tile.acc, _place_offset(bench, job, number, tile.origin), wgt)
        origin = tile.origin.to(Purpose.BIAS)
        job.body += [bench.emit.gemm(dims, start, origin) for _ in range(repeats)]
    yield job


def _place_offset(bench: Workbench, job: Job, number: int, origin: Origin) -> int:
    """Return where the vector whose lanes are all `number` lies in inp; load it if it must be."""
    config = bench.config
    base, loads = bench.place_input(job, number, "offset")
    if loads is not None:
        vector = np.full((config.batch, config.block), number, np.int8)
        at = bench.constants.add(pack_lanes(vector, config.inp_bits)) // config.inp_elem_bytes
        loads.append(bench.emit.load_constant(Memory.INP, base, at, origin.to(Purpose.VECTOR)))
    return base


def _terms(bench: Workbench, number: int) -> tuple[tuple[int, int], ...]:
    """Return (number, repeats) of at most one number that add up to a zero point's negative."""
    return weight_terms(number, bench.config.wgt_max)


LOWERER: Final = Lowerer(lower=scale_channels)
