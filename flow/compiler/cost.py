"""What a tiling costs, by an analytical model.

The cost is the time of the busiest of LOAD, COMPUTE and STORE, which overlap, plus what cannot
overlap: filling before the first GEMM step, and where a memory has a single slot, its traffic.
What an instruction takes is the machine's timing profile's to say (vta_config/timing.py). The same
formula is for one tiling and for arrays of many (elementwise.py).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from flow.compiler.elementwise import element, gcd, lcm, least, look_up, most, where
from flow.compiler.geometry import nest_uops
from flow.compiler.shapes import Capacity, ConvShape
from flow.program.layouts import blocks
from vta_config.isa import UOP_BYTES
from vta_config.portable import MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Vectors from which on a piece of a tile has an epilogue of its own, so that STORE begins sooner.
PIECE_VECTORS: Final = 64
#: Slots of inp and wgt together. LOAD may be as many chunks ahead, at a layer's end in two layers,
#: and the hardware counts tokens to `MAX_TOKENS` only; 15 are to spare.
MAX_SLOTS: Final = (MAX_TOKENS - 15) // 2
#: Slots that a layer has at least where so many fit.
SHARING_SLOTS: Final = 2
#: Share of COMPUTE's cycles above which LOAD gets all the slots there are.
DEEP_LOAD_SHARE: Final = 0.7
#: Cycles that a beat counts where bytes do: less than the one that it takes, since LOAD is idle for
#: much of the time.
BEAT_COST: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The extents of a tile and its chunks, and which loop is outside; arrays stand for many.

    Parameters
    ----------
    oc, oh, ow : int
        Tile: blocks of output channels, rows, columns.
    ic, oc_w : int
        Chunk: blocks of input channels of the layer's own reductions; blocks of output channels of
        a weight chunk.
    oc_outer : bool
        Walk all places of one group of output channels first (weights stay), or all groups of one
        place (inputs stay).
    """

    oc: int
    oh: int
    ow: int
    ic: int
    oc_w: int
    oc_outer: bool

    def area(self, part: ConvShape) -> int:
        """Inp elements that the tile needs of one block of a reduction's input channels."""
        return part.window_in(self.oh, 0) * part.window_in(self.ow, 1)

    def inp_elems(self, shape: ConvShape) -> int:
        """Inp elements of a slot: of the layer's chunk, or of another layer's smallest."""
        own = self.ic * self.area(shape)
        return most(own, *(self.area(part) for part in shape.summands if part.base))

    def wgt_elems(self, shape: ConvShape) -> int:
        """Wgt elements of a slot, with the constants that come with a tile's first chunk."""
        own = self.ic * shape.taps + shape.constants
        further = (
            (1 if part.base else self.ic) * part.taps + part.constants for part in shape.summands
        )
        return self.oc_w * most(own, *further)

    def chunk_blocks(self, shape: ConvShape) -> tuple[int, ...]:
        """Blocks of input channels of a chunk of each reduction: `ic`, or what fits the slots.

        Planes of one layer have the same chunks.
        """
        if not shape.summands:
            return (self.ic,)
        inp, wgt = self.inp_elems(shape), self.wgt_elems(shape) // self.oc_w
        sizes = {0: self.ic}
        for part in shape.summands:
            if part.base:
                fit = least(inp // self.area(part), (wgt - part.constants) // part.taps)
                even = blocks(part.ic, blocks(part.ic, fit))
                sizes[part.base] = least(even, sizes.get(part.base, even))
        return tuple(sizes[part.base] for part in shape.reductions)

    def inp_capacity(self, shape: ConvShape, capacity: Capacity) -> int:
        """Inp elements left for chunks beside two of a residual, a block of the tile each."""
        return capacity.inp - (2 * self.oh * self.ow if shape.residuals else 0)

    def sizes(self, shape: ConvShape) -> list[tuple[ConvShape, int]]:
        """Each reduction with the blocks of input channels of its chunks."""
        return [*zip(shape.reductions, self.chunk_blocks(shape), strict=True)]

    def places(self, shape: ConvShape) -> int:
        """Pieces of the picture."""
        return blocks(shape.out_height, self.oh) * blocks(shape.out_width, self.ow)

    def groups(self, shape: ConvShape) -> int:
        """Pieces of the output channels."""
        return blocks(shape.oc, self.oc)

    def runs(self, part: ConvShape) -> tuple[int, int]:
        """Return GEMM instructions of a chunk for all pieces of the picture, and kinds of these.

        Pieces at an edge lack taps, so they have instructions and micro-ops of their own.
        """
        runs, kinds = (
            look_up(lambda oh, i=i: part.runs(oh, 0)[i], self.oh)
            * look_up(lambda ow, i=i: part.runs(ow, 1)[i], self.ow)
            for i in (0, 1)
        )
        return runs, kinds

    @property
    def parts(self) -> int:
        """Weight chunks of a tile for the same input channels."""
        return blocks(self.oc, self.oc_w)

    @property
    def acc_elems(self) -> int:
        """Acc elements of a tile."""
        return self.oc * self.oh * self.ow

    def acc_slots(self, capacity: Capacity) -> int:
        """Tiles that acc holds; of only one, the next waits until it is stored."""
        return capacity.acc // self.acc_elems

    def at(self, index: int) -> Tiling:
        """Return one of a tiling of arrays."""
        extents = {f.name: element(getattr(self, f.name), index) for f in fields(self)}
        return Tiling(**extents)


class Slots(NamedTuple):
    """The slots of a layer for chunks of inp and wgt, and for residuals."""

    inp: int
    wgt: int
    residual: int = 2


class Cost(NamedTuple):
    """What a tiling costs, cycles and bytes that LOAD moves; and its slots."""

    cycles: float
    loaded_bytes: float
    slots: Slots

    def at(self, index: int) -> Cost:
        """Return what one of a tiling of arrays costs."""
        slots = Slots(*(element(n, index) for n in self.slots))
        return Cost(element(self.cycles, index), element(self.loaded_bytes, index), slots)


def objective_cost(estimate: Cost, capacity: Capacity) -> float:
    """Return cycles, and `BEAT_COST` for each beat loaded: more bytes must save that much.

    Loading more moves work from COMPUTE to the bus, which other layers need to load ahead. Where
    latency alone counts, the cost is cycles.
    """
    beats = estimate.loaded_bytes / capacity.bus_bytes
    return estimate.cycles + (BEAT_COST * beats if capacity.objective == "balanced" else 0)


def least_cycles(shape: ConvShape, tiling: Tiling, capacity: Capacity) -> int:
    """Return a bound of `cost` from below that takes less time: steps, and what jobs cost."""
    gemms = _chunks(tiling.sizes(shape)) * tiling.parts * shape.planes
    tile_cycles = gemms * capacity.timing.overhead(alu=False) + shape.tile_cycles
    return shape.cycles + tiling.places(shape) * tiling.groups(shape) * tile_cycles


def cost(shape: ConvShape, tiling: Tiling, capacity: Capacity) -> Cost:
    """Estimate the cycles of a layer and the bytes that it loads; arrays of these of many tilings.

    A tiling takes infinitely many cycles where the uop buffer does not hold one instruction's.
    """
    places, groups, parts = tiling.places(shape), tiling.groups(shape), tiling.parts
    tiles, sizes = places * groups, tiling.sizes(shape)
    room = tiling.inp_capacity(shape, capacity)
    inp_slots = least(MAX_SLOTS // 2, room // tiling.inp_elems(shape))
    wgt_slots = least(MAX_SLOTS, capacity.wgt // tiling.wgt_elems(shape))
    acc_slots = tiling.acc_slots(capacity)

    # How often each chunk is loaded: it stays while everything used between two uses fits the
    # slots. Planes share chunks: each is loaded once a tile where all of a tile's have slots.
    inputs = {(part.base, part.input_plane): blocks(part.ic, ic) for part, ic in sizes}
    weights = {(part.base, part.weight_plane): blocks(part.ic, ic) for part, ic in sizes}
    inner = (where(tiling.oc_outer, places, 1), where(tiling.oc_outer, 1, groups))
    reuse = (sum(inputs.values()) * inner[0], sum(weights.values()) * inner[1] * parts)
    inp_stays, wgt_stays = reuse[0] <= inp_slots, reuse[1] <= wgt_slots
    inp_shared = inp_stays | (sum(inputs.values()) <= least(inp_slots, SHARING_SLOTS))
    wgt_shared = wgt_stays | (sum(weights.values()) * parts <= least(wgt_slots, SHARING_SLOTS))
    inp_loads = wgt_loads = inp_cycles = wgt_cycles = loaded_bytes = 0
    for part, ic in sizes:
        count = blocks(part.ic, ic)
        inp_chunks = where(inp_stays, places, tiles) * count
        wgt_chunks = where(wgt_stays, groups, tiles) * count * parts
        # The first reduction with a plane loads it.
        if inputs.pop((part.base, part.input_plane), None) is None:
            inp_chunks = where(inp_shared, 0, inp_chunks)
        if weights.pop((part.base, part.weight_plane), None) is None:
            wgt_chunks = where(wgt_shared, 0, wgt_chunks)
        rows, columns = part.window_in(tiling.oh, 0), part.window_in(tiling.ow, 1)
        row_beats = blocks(columns * capacity.inp_elem_bytes, capacity.bus_bytes)
        # An INP load is two-dimensional: one instruction a block of channels.
        inp_cycles = inp_cycles + inp_chunks * ic * capacity.load_cycles(rows, row_beats)
        wgt_bytes = tiling.oc_w * (ic * part.taps + part.constants) * capacity.wgt_elem_bytes
        wgt_cycles = wgt_cycles + wgt_chunks * capacity.load_cycles(
            1, blocks(wgt_bytes, capacity.bus_bytes)
        )
        loaded_bytes = loaded_bytes + inp_chunks * ic * rows * columns * capacity.inp_elem_bytes
        loaded_bytes = loaded_bytes + wgt_chunks * wgt_bytes
        inp_loads = inp_loads + inp_chunks
        wgt_loads = wgt_loads + wgt_chunks
    vectors = shape.vectors
    residual_bytes = shape.residuals * vectors * capacity.inp_elem_bytes
    residual_loads = shape.residuals * tiles * tiling.oc
    load = inp_cycles + wgt_cycles + residual_bytes / capacity.bus_bytes
    load += residual_loads * capacity.load_cycles(1, 0)

    runs = [tiling.runs(part) for part, _ in sizes]
    gemms = sum(n * blocks(part.ic, ic) for (n, _), (part, ic) in zip(runs, sizes, strict=True))
    gemms = gemms * groups * parts * shape.planes + residual_loads
    pieces = blocks(tiling.oc, blocks(PIECE_VECTORS, tiling.oh * tiling.ow))
    ends = tiles + where(acc_slots < 2, tiles, 1) * (pieces - 1)
    compute: float = (
        shape.cycles + gemms * capacity.timing.overhead(alu=False) + ends * shape.tile_cycles
    )
    # A 1 × 1 product's chunks take longer to load than to compute: LOAD must be ahead by then.
    further = any(part.base for part in shape.summands)
    deep = further | (load > DEEP_LOAD_SHARE * compute)
    # Chunks of inp and of wgt: how many a tile has, what loading one takes, and GEMM with it.
    chunks = _chunks(sizes)
    steps = shape.oc * sum(part.steps for part, _ in sizes) * shape.step_cycles
    chunk_cycles = most(1, steps / (tiles * chunks))
    inp = _Stream(chunks, inp_loads, inp_cycles / most(1, inp_loads), chunk_cycles)
    wgt = _Stream(chunks * parts, wgt_loads, wgt_cycles / most(1, wgt_loads), chunk_cycles / parts)
    inp_used, wgt_used = _slots((inp_slots, wgt_slots), reuse, parts, (inp, wgt), deep=deep)
    compute = compute + inp.waits(inp_used) + wgt.waits(wgt_used)
    residual_slots = 2
    if shape.residuals:
        area = tiling.oh * tiling.ow
        free = (room - inp_used * tiling.inp_elems(shape)) // area
        residual_slots = most(2, least(2 + free, tiling.oc, MAX_SLOTS - inp_used - wgt_used))
        beats = blocks(tiling.ow * capacity.inp_elem_bytes, capacity.bus_bytes)
        residual = _Stream(
            tiling.oc * shape.residuals,
            residual_loads,
            capacity.load_cycles(tiling.oh, beats),
            area * shape.step_cycles,
        )
        compute = compute + residual.waits(residual_slots)
    slots = Slots(inp_used, wgt_used, residual_slots)
    meetings = lcm(inp_used, wgt_used // gcd(parts, wgt_used)) * least(tiles, acc_slots, 2)
    meetings = meetings * most(*(kinds for _, kinds in runs))
    insn_uops = [
        nest_uops((tiling.oh, tiling.ow, tiling.oc_w, ic, *part.kernel)) for part, ic in sizes
    ]
    chunk_uops = [parts * shape.planes * uops for uops in insn_uops]
    loaded_uops = _uops_loaded(sizes, chunk_uops, tiles, meetings, capacity.uop)
    compute = compute + UOP_BYTES * loaded_uops // capacity.bus_bytes

    out_bytes = vectors * capacity.inp_elem_bytes * shape.out_planes
    joined = (tiling.ow == shape.out_width) & (not shape.stored_rows)
    run_bytes = where(joined, tiling.oh, 1) * tiling.ow * capacity.inp_elem_bytes
    bursts = out_bytes / run_bytes * blocks(run_bytes, capacity.store_burst_bytes)
    store = 1.5 * out_bytes / capacity.bus_bytes + 3 * bursts

    fill = inp_cycles / most(1, inp_loads) + wgt_cycles / most(1, wgt_loads)
    exposed = fill + where((inp_slots < 2) & (inp_loads > 1), inp_cycles, 0)
    exposed = exposed + where((wgt_slots < 2) & (wgt_loads > 1), wgt_cycles, 0)
    exposed = exposed + where(acc_slots < 2, store, store / tiles) / pieces
    cycles = most(load, compute, store) + exposed
    cycles = where(most(*insn_uops) <= capacity.uop, cycles, inf)
    return Cost(cycles, loaded_bytes, slots)


class _Stream(NamedTuple):
    """Chunks of one memory that LOAD brings and COMPUTE uses one after the other.

    Parameters
    ----------
    chunks : int
        Of a tile.
    loads : int
        Of the layer, those that lie there already not counted.
    load_cycles, use_cycles : float
        What a load takes LOAD, and the work with a chunk COMPUTE.
    """

    chunks: int
    loads: int
    load_cycles: float
    use_cycles: float

    @property
    def ahead(self) -> int:
        """Slots, two to four, with which LOAD keeps up with COMPUTE."""
        slower = (self.load_cycles > n * self.use_cycles for n in (1, 2))
        return least(2 + sum(slower), most(2, self.chunks))

    def waits(self, slots: int) -> float:
        """Return the cycles that COMPUTE waits since LOAD waits for a slot.

        The chunk that comes `slots` behind another is loaded when that one has been used, while
        COMPUTE uses those between. What a tile ends with is time to load as many as there are
        slots, so that this happens as often as the tile has as many chunks more.
        """
        each = most(0, self.load_cycles - (slots - 1) * self.use_cycles)
        return self.loads / self.chunks * ((self.chunks - 1) // most(1, slots)) * each


def _slots(
    fit: tuple[int, int],
    reuse: tuple[int, int],
    parts: int,
    streams: tuple[_Stream, _Stream],
    *,
    deep: bool,
) -> tuple[int, int]:
    """Return the slots of inp and wgt that a layer uses, of those that fit.

    Where all chunks that come back can stay, one more lets the next one load meanwhile. Otherwise
    two do, or a few more where loading a chunk takes longer than using one: with more, the same
    micro-ops would be needed at more places. `deep` asks for more, so that LOAD runs far ahead, but
    for numbers that bring chunks to the same places again: of wgt, a multiple or a divisor of a
    tile's parts; of inp, twice that multiple.
    """
    multiple = fit[1] // parts
    ahead = (
        where(deep, 2 * most(1, multiple), streams[0].ahead),
        where(deep, look_up(_multiple_or_divisor, parts, fit[1]), streams[1].ahead),
    )
    inp, wgt = (
        least(n, where(r <= n, where(deep, n, r + 1), a))
        for n, r, a in zip(fit, reuse, ahead, strict=True)
    )
    return inp, least(wgt, MAX_SLOTS - inp)


def _multiple_or_divisor(parts: int, fit: int) -> int:
    """Return the most up to `fit` that is a multiple of `parts`, or a divisor not much smaller."""
    divisors = (n for n in range(fit, fit // 2, -1) if parts % n == 0)
    return fit // parts * parts or next(divisors, fit)


def _chunks(sizes: Sequence[tuple[ConvShape, int]]) -> int:
    return sum(blocks(part.ic, ic) for part, ic in sizes)


def _uops_loaded(
    sizes: Sequence[tuple[ConvShape, int]],
    chunk_uops: Sequence[int],
    tiles: int,
    meetings: int,
    room: int,
) -> int:
    """Estimate the micro-ops that COMPUTE loads, and waits for; acc, inp and wgt slots are few.

    Where the same `meetings` of them come again, so do the micro-ops (`chunk_uops` for all parts of
    a chunk of each reduction): if `room` holds all, those are still there.
    """
    used = 0
    counts: dict[int, list[int]] = {}
    for (part, ic), uops in zip(sizes, chunk_uops, strict=True):
        chunks = tiles * blocks(part.ic, ic)
        # A tile's first weights lie behind its constants.
        first = tiles if part.constants else 0
        used = used + chunks * uops
        # Planes of one layer have the same chunks, and so the same micro-ops.
        of = counts.setdefault(part.base, [uops, 0, 0])
        of[1], of[2] = of[1] + first, of[2] + chunks - first
    kept = sum(
        (least(first, meetings) + least(others, meetings)) * uops
        for uops, first, others in counts.values()
    )
    return where(kept <= room, kept, used)
