"""Lowering of what only copies: GEMM with weights 0 and 1, from where numbers lie to where they go.

Each block of channels of the result is made of blocks of the sources, each times a matrix that puts
its channels where they belong: the identity, where a whole block is copied. Rows and columns are
put in place by the strides of the GEMM. Blocks that lie in DRAM already (views.py) take nothing.
Interpolation has factors in place of the ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from flow.compiler.buffers import SlotPool
from flow.compiler.cost import Tiling
from flow.compiler.epilogue import Addition, finish_tile, sum_tile
from flow.compiler.geometry import Dim, Range, split
from flow.compiler.operators.conv2d import reduction
from flow.compiler.operators.operator import Lowerer
from flow.compiler.residual import weight_terms
from flow.program.layouts import blocks
from relay_passes.operators.movement import runs
from vta_config.errors import CapacityError
from vta_config.isa import Memory
from vta_config.lanes import pack_lanes
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from flow.compiler.emit import Tile
    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.tokens import Emitted
    from flow.compiler.workbench import Workbench
    from relay_passes.operators.movement import Movement, Part
    from vta_config.hardware import VTAConfig


#: Slots of inp for what tiles read.
_SLOTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Term:
    """What one block of a source gives to a block of the result.

    Parameters
    ----------
    source, block : int
        The source, and its block of channels.
    parts : tuple of Part
        Those whose copies come from it.
    weights : tuple of int
        Of each part, the place of its matrix in the row of the result's block; -1: the identity.
    """

    source: int
    block: int
    parts: tuple[Part, ...]
    weights: tuple[int, ...]


class _Block(NamedTuple):
    """A block of the result: what it is made of, and its matrices int8[M, block, block]."""

    terms: tuple[_Term, ...]
    weights: NDArray[np.int8]

    def goes_on(self, other: _Block | None, distance: int) -> bool:
        """Whether a block so far behind copies the block so far behind, in the same way."""
        if other is None or len(self.terms) != 1 or len(other.terms) != 1:
            return False
        (a,), (b,) = self.terms, other.terms
        same = (a.source, a.block + distance, a.parts) == (b.source, b.block, b.parts)
        return same and a.weights == b.weights and np.array_equal(self.weights, other.weights)


def move(bench: Workbench, normal: NormalLayer) -> Iterator[Job]:
    """Lower a movement, tile by tile: a job for each block of a source."""
    layer, shape, config = normal.layer, normal.shape, bench.config
    movement = layer.movement
    assert movement is not None
    written = bench.written.get(layer.name, frozenset())
    made = [
        None if index in written else _block(movement, index, config) for index in range(shape.oc)
    ]
    wanted = [block for block in made if block is not None]
    if not wanted:
        return
    row = max(len(block.weights) for block in wanted)
    oc_each, oh, ow, window = _tile(bench, normal, wanted, row)
    residual = {"residual": SlotPool(oh * ow, 2)} if normal.all_residuals else {}
    weights = max(1, row, oc_each * shape.constants)
    weights_at = bench.begin_layer(
        normal,
        inp={**residual, "chunk": SlotPool(oc_each * window, _SLOTS)},
        wgt=SlotPool(weights),
        acc=oc_each * oh * ow,
    )
    tiling = Tiling(oc=oc_each, oh=oh, ow=ow, ic=0, oc_w=oc_each, oc_outer=True)
    places = [*product(split(shape.out_height, oh), split(shape.out_width, ow))]
    planes = max(bench.tensors[name].planes for name in layer.data_inputs)
    for n, oc, (oy, ox) in product(bench.batches(layer), _stretches(made, oc_each), places):
        tile = bench.tile(layer, n, oc, oy, ox)
        constants = partial(reduction, bench, normal, tiling, tile, weights_at[0])
        copies = (
            Addition(config.inp_bits * plane, partial(_copies, bench, normal, tile, plane, made))
            for plane in range(planes)
        )
        jobs = sum_tile(bench, normal, tile, [Addition(0, constants), *copies])
        jobs[-1].body += _fill(bench, movement, tile)
        yield from finish_tile(bench, normal, tile, jobs)


def _block(movement: Movement, index: int, config: VTAConfig) -> _Block:
    """Return what block `index` of a result is made of."""
    block, identity = config.block, np.eye(config.block, dtype=np.int8)
    taken: dict[tuple[int, int], list[tuple[Part, NDArray[np.int8]]]] = {}
    for part in movement.parts:
        channels = part.channels[index * block : (index + 1) * block]
        for source in sorted({int(c) // block for c in channels if c >= 0}):
            matrix = np.zeros((block, block), np.int8)
            for lane in np.flatnonzero(channels // block == source):
                if channels[lane] >= 0:
                    matrix[lane, channels[lane] % block] = 1
            taken.setdefault((part.source, source), []).append((part, matrix))
    used = min(block, movement.shape[1] - index * block)
    alone = len(taken) == 1
    matrices: list[NDArray[np.int8]] = []
    known: dict[bytes, int] = {}
    terms = []
    for (source, at), found in taken.items():
        parts, places = [], []
        for part, matrix in found:
            # Lanes without a channel may hold anything: they are copied with the others.
            whole = alone and np.array_equal(matrix[:used], identity[:used])
            matrix = identity if whole else matrix
            for weight, repeats in weight_terms(part.factor, config.wgt_max):
                parts += [part] * repeats
                if whole and weight == 1:
                    places += [-1] * repeats
                    continue
                key = (weight * matrix).astype(np.int8)
                if key.tobytes() not in known:
                    known[key.tobytes()] = len(matrices)
                    matrices.append(key)
                places += [known[key.tobytes()]] * repeats
        terms.append(_Term(source=source, block=at, parts=tuple(parts), weights=tuple(places)))
    empty = np.zeros((0, block, block), np.int8)
    return _Block(tuple(terms), np.stack(matrices) if matrices else empty)


def _stretches(made: Sequence[_Block | None], each: int) -> Iterator[Range]:
    """Yield runs of blocks that must be written, each of at most so many."""
    start = 0
    while start < len(made):
        if made[start] is None:
            start += 1
            continue
        end = start
        while end < len(made) and made[end] is not None:
            end += 1
        yield from (Range(start + part.start, part.count) for part in split(end - start, each))
        start = end


def _needed(
    movement: Movement, parts: Sequence[Part], oy: Range, ox: Range
) -> tuple[Range, Range] | None:
    """Return the first to the last row and column of a source that parts of a tile need, if any."""
    found: list[Range] = []
    for axis, out in enumerate((oy, ox)):
        lines = [
            line
            for part in parts
            for line in (part.rows, part.columns)[axis][
                _within(out, movement.step[axis], part.phase[axis])
            ]
            if line >= 0
        ]
        if not lines:
            return None
        found.append(Range(int(min(lines)), int(max(lines) - min(lines) + 1)))
    return found[0], found[1]


def _within(out: Range, step: int, phase: int) -> slice:
    """Return which rows or columns of a part lie in a tile."""
    return slice(
        max(0, blocks(out.start - phase, step)), blocks(out.start + out.count - phase, step)
    )


def _copies(
    bench: Workbench, normal: NormalLayer, tile: Tile, plane: int, made: Sequence[_Block | None]
) -> Iterator[Job]:
    """Add a plane of all that a tile is made of."""
    layer, movement = normal.layer, normal.layer.movement
    assert movement is not None
    index, end = tile.oc.start, tile.oc.start + tile.oc.count
    while index < end:
        block, count = made[index], 1
        assert block is not None
        while index + count < end and block.goes_on(made[index + count], count):
            count += 1
        for term in block.terms:
            name = layer.inputs[term.source]
            lines = _needed(movement, term.parts, tile.oy, tile.ox)
            if lines is None or plane >= bench.tensors[name].planes:
                continue
            job = bench.new_job()
            channels = Range(term.block, count)
            key = (layer.name, plane, tile.n, term.source, channels, lines)
            base, loads = bench.place_input(job, key)
            if loads is not None:
                y, x = (Range(line.start, line.count) for line in lines)
                origin = tile.origin.to(Purpose.INPUT)
                loads += bench.emit.load_window(
                    name, base, tile.n, channels, y, x, origin, plane=plane
                )
            at = _place_matrices(bench, job, normal, tile, block)
            for part, place in zip(term.parts, term.weights, strict=True):
                weight = bench.residents.diagonal_at[1] if place < 0 else at + place
                job.body += _gemms(bench, movement, tile, part, lines, (index, count, base, weight))
            yield job
        index += count


def _place_matrices(
    bench: Workbench, job: Job, normal: NormalLayer, tile: Tile, block: _Block
) -> int:
    """Return where a block's matrices lie in wgt; load them if they must be."""
    if not len(block.weights):
        return 0
    key = (normal.layer.name, "moved", block.weights.tobytes())
    base, loads = bench.place_constant(job, key, "chunk")
    if loads is not None:
        data = pack_lanes(block.weights, bench.config.wgt_bits)
        at = bench.constants.add(data) // bench.config.wgt_elem_bytes
        origin, count = tile.origin.to(Purpose.WEIGHTS), len(block.weights)
        loads.append(bench.emit.load_constant(Memory.WGT, base, at, origin, columns=count))
    return base


def _gemms(
    bench: Workbench,
    movement: Movement,
    tile: Tile,
    part: Part,
    lines: tuple[Range, Range],
    places: tuple[int, int, int, int],
) -> Iterator[Emitted]:
    """Add the copies of a part: a GEMM for each run of its rows and of its columns."""
    index, count, base, weight = places
    (y0, height), (x0, width) = lines
    (sy, sx), (py, px) = movement.step, part.phase
    rows, columns = (
        (within.start, [*runs(line[within])])
        for line, within in (
            (part.rows, _within(tile.oy, sy, py)),
            (part.columns, _within(tile.ox, sx, px)),
        )
    )
    first = tile.acc + (index - tile.oc.start) * tile.area
    for row, column in product(rows[1], columns[1]):
        y = (rows[0] + row.to) * sy + py - tile.oy.start
        x = (columns[0] + column.to) * sx + px - tile.ox.start
        dims = (
            Dim(row.count, sy * tile.ox.count, row.step * width),
            Dim(column.count, sx, column.step),
            Dim(count, tile.area, height * width),
        )
        source = base + (row.start - y0) * width + column.start - x0
        start = (first + y * tile.ox.count + x, source, weight)
        yield bench.emit.gemm(dims, start, tile.origin.to(Purpose.GEMM))


def _fill(bench: Workbench, movement: Movement, tile: Tile) -> Iterator[Emitted]:
    """Write the fill into what no copy reaches of a tile; there are zeros, which nothing wrote."""
    part = movement.parts[0]
    if len(movement.parts) > 1 or min(map(np.min, (part.channels, part.rows, part.columns))) >= 0:
        return
    block, origin = bench.config.block, tile.origin.to(Purpose.GEMM)
    for index in range(tile.oc.count):
        first = tile.acc + index * tile.area
        held = part.channels[(tile.oc.start + index) * block] >= 0
        rows, columns = (
            (line[out.start : out.start + out.count] >= 0) & held
            for line, out in ((part.rows, tile.oy), (part.columns, tile.ox))
        )
        whole = [*_false_runs(rows)]
        areas = [(run, Range(0, tile.ox.count)) for run in whole]
        areas += [*product(_false_runs(~rows), _false_runs(columns))]
        for y, x in areas:
            dims = (Dim(y.count, tile.ox.count, tile.ox.count), Dim(x.count, 1, 1))
            at = first + y.start * tile.ox.count + x.start
            yield bench.emit.alu("add", dims, (at, at), origin, imm=movement.fill)


def _false_runs(flags: NDArray[np.bool_]) -> Iterator[Range]:
    """Yield the runs of neighbours that are false."""
    places = np.where(flags, -1, np.arange(len(flags)))
    for run in runs(places):
        yield Range(run.to, run.count)


def _tile(
    bench: Workbench, normal: NormalLayer, wanted: Sequence[_Block], row: int
) -> tuple[int, int, int, int]:
    """Choose a tile: whole rows where they fit, two tiles in flight.

    Returns
    -------
    (blocks, rows, columns, window)
        And the most inp elements that one of its blocks reads of a source's block.

    Raises
    ------
    CapacityError
        When what one row and column needs does not fit.
    """
    layer, shape, capacity = normal.layer, normal.shape, bench.residents.capacity_of(normal)
    movement = layer.movement
    assert movement is not None
    terms = {tuple(map(id, t.parts)): t.parts for block in wanted for t in block.terms}

    def window(oh: int, ow: int) -> int:
        found = (
            _needed(movement, parts, oy, ox)
            for parts in terms.values()
            for oy in split(shape.out_height, oh)
            for ox in split(shape.out_width, ow)
        )
        return max((rows.count * cols.count for rows, cols in (f for f in found if f)), default=1)

    def fits(oh: int, ow: int, inp: int, acc: int) -> bool:
        own = 2 * oh * ow if normal.all_residuals else 0
        return window(oh, ow) + own <= inp and oh * ow <= acc

    oh, ow = shape.out_height, shape.out_width
    for share in (2, 1):
        inp, acc = capacity.inp // share, capacity.acc // share
        oh, ow = shape.out_height, shape.out_width
        while oh > 1 and not fits(oh, ow, inp, acc):
            oh = blocks(oh, 2)
        while ow > 1 and not fits(oh, ow, inp, acc):
            ow = blocks(ow, 2)
        if fits(oh, ow, inp, acc):
            break
    else:
        raise CapacityError(
            layer.name,
            f"what a number is copied from must fit {capacity.inp} inp elements",
            got=window(1, 1),
            hint="choose a machine with larger buffers",
        )
    weights = capacity.wgt // max(1, shape.constants)
    most = window(oh, ow)
    oc_each = min(shape.oc, inp // max(1, most), acc // (oh * ow), weights)
    if row > capacity.wgt:
        raise CapacityError(
            layer.name,
            f"the matrices of a block of channels must fit {capacity.wgt} wgt elements",
            got=row,
            hint="choose a machine with larger buffers",
        )
    return max(1, oc_each), oh, ow, most


LOWERER: Final = Lowerer(lower=move)
