"""Lowering of sums over the picture: GEMM with a diagonal weight."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Final

from flow.compiler.buffers import SlotPool
from flow.compiler.cost import PIECE_VECTORS, Tiling
from flow.compiler.epilogue import Addition, finish_tile, sum_tile
from flow.compiler.geometry import Dim, Range, split
from flow.compiler.operators.conv2d import reduction
from flow.compiler.operators.operator import Lowerer
from flow.program.layouts import blocks
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flow.compiler.emit import Tile
    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.workbench import Workbench


#: Part of inp that a chunk fills at most, so that LOAD brings some while GEMM adds others.
_CHUNK_SHARE: Final = 8


def sum_pool(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Sum all pixels of each channel: GEMM with diagonal weight 1 into one vector a block.

    A chunk is some rows of some blocks. It is small, so that the first ones are there before the
    layer before has stored its last tile.
    """
    layer, shape, capacity = normal.layer, normal.shape, bench.residents.capacity_of(normal)
    bits, most = bench.config.inp_bits, max(1, capacity.inp // _CHUNK_SHARE)
    columns = min(shape.width, most)
    rows = min(shape.height, blocks(PIECE_VECTORS, columns), max(1, most // columns))
    oc_each = max(1, min(shape.oc, capacity.acc // 2, capacity.wgt // max(1, shape.constants)))
    oc_chunk = blocks(oc_each, blocks(oc_each, max(1, most // (rows * columns))))
    chunk = oc_chunk * rows * columns
    weights_at = bench.begin_layer(
        normal,
        inp={"residual": SlotPool(1), "chunk": SlotPool(chunk, _CHUNK_SHARE)},
        wgt=SlotPool(max(1, oc_each * shape.constants)),
        acc=oc_each,
    )
    tiling = Tiling(oc=oc_each, oh=1, ow=1, ic=0, oc_w=oc_each, oc_outer=True)
    places = (split(shape.height, rows), split(shape.width, columns))
    for n, oc in product(bench.batches(layer), split(shape.oc, oc_each)):
        tile = bench.tile(layer, n, oc, Range(0, 1), Range(0, 1))
        pieces = [*product(*places, split(oc.count, oc_chunk))]
        constants = partial(reduction, bench, normal, tiling, tile, weights_at[0])
        pixels = (
            Addition(bits * plane, partial(_pixels, bench, normal, tile, plane, pieces))
            for plane in range(bench.tensors[layer.inputs[0]].planes)
        )
        jobs = sum_tile(bench, normal, tile, [Addition(0, constants), *pixels])
        yield from finish_tile(bench, normal, tile, jobs)


def _pixels(
    bench: Workbench,
    normal: NormalLayer,
    tile: Tile,
    plane: int,
    pieces: list[tuple[Range, Range, Range]],
) -> Iterator[Job]:
    """Add a plane of all pixels, a job a piece: rows, columns and some of the tile's blocks."""
    layer = normal.layer
    for oy, ox, part in pieces:
        job, oc = bench.new_job(), Range(tile.oc.start + part.start, part.count)
        base, loads = bench.place_input(job, (layer.name, plane, tile.n, oc, oy, ox))
        assert loads is not None
        origin, name = tile.origin.to(Purpose.INPUT), layer.inputs[0]
        loads += bench.emit.load_window(name, base, tile.n, oc, oy, ox, origin, plane=plane)
        area = oy.count * ox.count
        dims = (Dim(oc.count, 1, area), Dim(area, 0, 1))
        start = (tile.acc + part.start, base, bench.residents.diagonal_at[1])
        job.body.append(bench.emit.gemm(dims, start, tile.origin.to(Purpose.POOL)))
        yield job


LOWERER: Final = Lowerer(lower=sum_pool)
