"""Lowering of depthwise convolutions: GEMM with a diagonal weight for each tap.

A block of output channels reads the block of input channels of its number and no other, so a tile
needs as many blocks of inp as it makes of acc, and its reduction is one chunk:

    acc[c, y, x] += Σ_taps diag(w[c, tap]) · inp[c, y · stride + tap_y, x · stride + tap_x].
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Final

from flow.compiler.buffers import SlotPool
from flow.compiler.cost import DEEP_LOAD_SHARE
from flow.compiler.epilogue import Addition, finish_tile, sum_tile
from flow.compiler.geometry import Dim, Range, nest_uops, split, tap_nests
from flow.compiler.operators.conv2d import add_digits
from flow.compiler.operators.operator import Lowerer
from flow.compiler.tiling import extents, too_small
from flow.program.layouts import blocks
from vta_config.isa import UOP_BYTES
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flow.compiler.emit import Tile
    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.shapes import Capacity, ConvShape
    from flow.compiler.workbench import Workbench


#: What COMPUTE waits for LOAD and STORE at a tile's start and end, as the simulator has it.
_WAIT_CYCLES: Final = 60
#: The part of wgt that all weights of a layer may fill, so that LOAD runs ahead of it.
_AHEAD_SHARE: Final = 4


def depthwise_conv2d(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Lower a depthwise convolution, a job a tile; a tile's weights stay for the next places."""
    layer, shape = normal.layer, normal.shape
    planes = _planes(shape)
    row = max(part.constants for part in shape.reductions) + shape.taps
    capacity = bench.residents.capacity_of(normal)
    oc_each, oh, ow = choose_tile(shape, capacity, layer.name, planes=planes, row=row)
    inp = {"residual": SlotPool(oh * ow)} if shape.residuals else {}
    inp["chunk"] = SlotPool(oc_each * window_elems(shape, oh, ow), 2 * planes[0])
    slots = weight_slots(shape, capacity, (oc_each, oh, ow), planes=planes, row=row)
    wgt, acc = SlotPool(oc_each * row, slots), oc_each * oh * ow
    weights_at = bench.begin_layer(normal, inp=inp, wgt=wgt, acc=acc)
    splits = (split(shape.out_height, oh), split(shape.out_width, ow))
    for oc, n, oy, ox in product(split(shape.oc, oc_each), bench.batches(layer), *splits):
        tile = bench.tile(layer, n, oc, oy, ox)
        terms = (
            Addition(part.shape.exponent, partial(_reduction, bench, part, tile, at))
            for part, at in zip(normal.reductions, weights_at, strict=True)
        )
        yield from finish_tile(bench, normal, tile, sum_tile(bench, normal, tile, terms))


def _reduction(bench: Workbench, normal: NormalLayer, tile: Tile, weights_at: int) -> Iterator[Job]:
    """Add a product of planes and its constants to a tile, in one job."""
    layer, shape, job, oc = normal.layer, normal.shape, bench.new_job(), tile.oc
    axes = (shape.axis(tile.oy, 0), shape.axis(tile.ox, 1))
    y, x = (axis.window for axis in axes)
    row = shape.constants + shape.taps
    wgt = bench.place_weights(job, normal, weights_at, oc, Range(0, shape.ic), row, tile.origin)
    key = (layer.name, shape.input_plane, tile.n, oc, tile.oy, tile.ox)
    base, loads = bench.place_input(job, key)
    if loads is not None:
        loads += bench.emit.load_window(
            layer.inputs[0],
            base,
            tile.n,
            oc,
            y,
            x,
            tile.origin.to(Purpose.INPUT),
            row_step=shape.row_step,
            corner=shape.corner,
            plane=shape.input_plane,
        )
    nests = tap_nests(
        axes,
        (Dim(oc.count, tile.area, y.count * x.count, row),),
        (tile.acc, base, wgt + shape.constants),
        pitch=tile.ox.count,
        weights=(shape.kernel[1], 1),
    )
    job.body += add_digits(bench, normal, tile, tile.acc, oc.count, wgt, row)
    origin = tile.origin.to(Purpose.GEMM)
    job.body += [bench.emit.gemm(dims, start, origin) for dims, start in nests]
    yield job


def _planes(shape: ConvShape) -> tuple[int, int]:
    """Return how many planes of its input, and of its weights, a layer multiplies."""
    inputs, weights = (
        {part.input_plane for part in shape.reductions},
        {part.weight_plane for part in shape.reductions},
    )
    return len(inputs), len(weights)


def window_elems(shape: ConvShape, oh: int, ow: int) -> int:
    """Return the most inp elements that a block of a tile of oh × ow reads."""
    return shape.window_in(oh, 0) * shape.window_in(ow, 1)


def weight_slots(
    shape: ConvShape,
    capacity: Capacity,
    tile: tuple[int, int, int],
    *,
    planes: tuple[int, int],
    row: int,
) -> int:
    """Return the slots of a layer's weights: two tiles', or all where LOAD has much to do.

    The weights of a tap fill a whole element, so small pictures take longer to load than to
    compute. With a slot for each tile the layers before can load them. Parameters as for
    `choose_tile`; (blocks, rows, columns) of the tile.
    """
    oc, oh, ow = tile
    inputs, weights = planes
    places = blocks(shape.out_height, oh) * blocks(shape.out_width, ow)
    window = places * window_elems(shape, oh, ow) * inputs * capacity.inp_elem_bytes
    load = shape.oc * (window + row * weights * capacity.wgt_elem_bytes) / capacity.bus_bytes
    tiles = blocks(shape.oc, oc)
    fit = tiles * oc * row * weights <= capacity.wgt // _AHEAD_SHARE
    ahead = fit and load > DEEP_LOAD_SHARE * shape.cycles
    return weights * (max(2, tiles) if ahead else 2)


def choose_tile(
    shape: ConvShape, capacity: Capacity, where: str, *, planes: tuple[int, int], row: int
) -> tuple[int, int, int]:
    """Choose the fastest tile (blocks, rows, columns), two in flight if they fit.

    Parameters
    ----------
    shape : ConvShape
    capacity : Capacity
    where : str
        The layer's name.
    planes : tuple[int, int]
        Planes of the input and of the weights.
    row : int
        Wgt elements of a block of channels.

    Raises
    ------
    CapacityError
        When not even the smallest tile fits.
    """
    best: tuple[tuple[bool, float, int], tuple[int, int, int]] | None = None
    inputs, weights = planes
    for oh, ow in product(extents(shape.out_height), extents(shape.out_width)):
        elems, area = window_elems(shape, oh, ow), oh * ow
        inp = capacity.inp - (2 * area if shape.residuals else 0)
        fits = min(inp // (elems * inputs), capacity.wgt // (row * weights), capacity.acc // area)
        if fits < 1:
            continue
        loaded = blocks(shape.out_height, oh) * blocks(shape.out_width, ow) * elems
        for oc in extents(shape.oc):
            if oc > max(1, fits // 2) or nest_uops((oh, ow, oc, *shape.kernel)) > capacity.uop:
                continue
            key = (fits < 2, _cycles(shape, capacity, (oc, oh, ow), planes, row), loaded)
            if best is None or key < best[0]:
                best = (key, (oc, oh, ow))
    if best is None:
        raise too_small(shape, capacity, where)
    return best[1]


def _cycles(
    shape: ConvShape,
    capacity: Capacity,
    tile: tuple[int, int, int],
    planes: tuple[int, int],
    row: int,
) -> float:
    """Estimate a layer's cycles: the busiest module's, the first load and the last store.

    What the first tile needs must be there before it starts, and its next layer waits for the last
    one to be stored: small tiles leave less of both uncovered, large ones load less. Tiles lie at
    different places, so each loads its micro-ops.
    """
    oc, oh, ow = tile
    timing = capacity.timing
    rows, columns = shape.window_in(oh, 0), shape.window_in(ow, 1)
    beats = blocks(columns * capacity.inp_elem_bytes, capacity.bus_bytes)
    window = planes[0] * capacity.load_cycles(rows, beats)
    wgt_bytes = planes[1] * row * capacity.wgt_elem_bytes
    weights = capacity.load_cycles(1, blocks(wgt_bytes, capacity.bus_bytes))
    places = blocks(shape.out_height, oh) * blocks(shape.out_width, ow)
    tiles = places * blocks(shape.oc, oc)
    load = shape.oc * (places * window + weights)
    uops = blocks(UOP_BYTES * nest_uops((oh, ow, oc, *shape.kernel)), capacity.bus_bytes)
    products, runs = planes[0] * planes[1], _runs(shape, oh, ow) / places
    gemms = products * (runs * timing.overhead(alu=False) + capacity.load_cycles(1, uops))
    steps = products * shape.steps + shape.edge_steps
    compute: float = shape.oc * steps * shape.step_cycles
    compute += shape.vectors * shape.vector_cycles
    compute += tiles * (gemms + shape.tile_cycles + _WAIT_CYCLES)
    store = 1.5 * oc * oh * ow * capacity.inp_elem_bytes / capacity.bus_bytes
    return max(load, compute) + oc * (window + weights) + store


def _runs(shape: ConvShape, oh: int, ow: int) -> int:
    """Return the GEMM instructions of all pieces of the picture for one block of channels."""
    return shape.runs(oh, 0)[0] * shape.runs(ow, 1)[0]


LOWERER: Final = Lowerer(lower=depthwise_conv2d)
