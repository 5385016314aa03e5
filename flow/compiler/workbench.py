"""The workbench of lowering: what stays in the scratchpads, slots for the rest, and the emitter.

Every operator works on it: it takes capacity in inp, wgt and acc, and builds instructions.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from flow.compiler.bias import register_room
from flow.compiler.buffers import CONSTANTS_SHARE, Placed, SlotBuffer, SlotPool
from flow.compiler.emit import Emitter, Tile
from flow.compiler.geometry import NO_RANGE, Dim, Range
from flow.compiler.order import Job
from flow.compiler.shapes import Capacity
from flow.compiler.tiling import too_small
from flow.program.layouts import blocks, constant_vector, diagonal_weight
from vta_config.errors import CapacityError
from vta_config.isa import Memory
from vta_config.lanes import pack_lanes
from vta_config.origin import Origin, Purpose

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from flow.compiler.cost import Tiling
    from flow.compiler.memory import Constants
    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.shapes import Objective
    from flow.compiler.tokens import Emitted
    from flow.program.layouts import DramTensor
    from relay_passes.partition.layers import Layer
    from vta_config.hardware import VTAConfig


class Residents:
    """What stays in the scratchpads for a whole program, and what it leaves to layers.

    Parameters
    ----------
    layers : sequence of NormalLayer
        All layers.
    config : VTAConfig
    objective : {"balanced", "latency"}
        What tilings are chosen by.
    """

    def __init__(
        self, layers: Sequence[NormalLayer], config: VTAConfig, objective: Objective
    ) -> None:
        """Reserve what any layer needs."""
        multipliers = sorted(set().union(*(p.multipliers - p.private_multipliers for p in layers)))
        self._config = config
        self.needs_vector = any(p.needs_vector for p in layers)
        #: The constant vector at the end of inp, diagonal weights at the end of wgt.
        self.vector_at = config.inp_depth - 1
        self.diagonal_at = {
            m: config.wgt_depth - len(multipliers) + i for i, m in enumerate(multipliers)
        }
        #: At the end of acc: what a multiplication by shifts and additions copies at a time, and
        #: before it the shift amounts of as many blocks of channels as a layer has or fit.
        share = register_room(config)
        copied = share if any(p.copies for p in layers) else 0
        amounts = max((p.register_elems for p in layers), default=0)
        self.copy = Range(config.acc_depth - copied, copied)
        self.amounts = Range(self.copy.start - min(amounts, share), min(amounts, share))
        self.capacity = Capacity.of(
            config,
            resident_inp=int(self.needs_vector),
            resident_wgt=len(multipliers),
            resident_acc=copied + self.amounts.count,
            objective=objective,
        )

    def capacity_of(self, normal: NormalLayer) -> Capacity:
        """Return the elements that a layer's chunks may use."""
        late = self.late_slots(normal) * normal.late_elems + 2 * normal.diagonal_elems
        late += len(normal.private_multipliers)
        acc = self.capacity.acc - normal.sum_elems
        return replace(self.capacity, wgt=self.capacity.wgt - late, acc=acc)

    def late_slots(self, normal: NormalLayer) -> int:
        """Return the slots for a layer's late constants: one does, of two small ones the freer."""
        return 2 if 2 * normal.late_elems <= self._config.wgt_depth // CONSTANTS_SHARE else 1


class Workbench:
    """Where the layers of one subgraph are lowered, in order.

    Parameters
    ----------
    config : VTAConfig
    residents : Residents
        What stays.
    tensors : dict[str, DramTensor]
        Where activations lie.
    constants : Constants
        Where weights and the like go.
    tilings : Mapping[str, Tiling]
        By layer, those that a search found.
    written : Mapping[str, frozenset[int]]
        By layer, the blocks of its output that lie in place.
    """

    def __init__(
        self,
        config: VTAConfig,
        residents: Residents,
        tensors: dict[str, DramTensor],
        constants: Constants,
        tilings: Mapping[str, Tiling],
        written: Mapping[str, frozenset[int]] = MappingProxyType({}),
    ) -> None:
        """Start with empty scratchpads."""
        self.config, self.residents = config, residents
        self.tensors, self.constants, self.tilings = tensors, constants, tilings
        self.written = written
        self.emit = Emitter(config, tensors)
        #: Whose shift amounts or constants acc holds, and of which blocks.
        self.amounts_held: tuple[int, Range] = (0, NO_RANGE)
        #: Number of the job that is being laid out.
        self.job = 0
        capacity = residents.capacity
        self._inp, self._acc = SlotBuffer(capacity.inp), SlotBuffer(capacity.acc)
        self._wgt = SlotBuffer(capacity.wgt, around=True)

    def new_job(self) -> Job:
        """Start the next job."""
        self.job += 1
        return Job()

    def resident_job(self) -> Job:
        """Load what stays for the whole program."""
        job, config = self.new_job(), self.config
        if self.residents.needs_vector:
            vector = pack_lanes(constant_vector(config), config.inp_bits)
            at = self.constants.add(vector) // config.inp_elem_bytes
            job.loads.append(
                self.emit.load_constant(
                    Memory.INP, self.residents.vector_at, at, Origin(purpose=Purpose.VECTOR)
                )
            )
        for multiplier, sram in self.residents.diagonal_at.items():
            origin = Origin(purpose=Purpose.DIAGONAL)
            job.loads.append(self._load_diagonal(multiplier, sram, origin))
        return job

    def place_diagonal(self, job: Job, normal: NormalLayer, multiplier: int, origin: Origin) -> int:
        """Return where a diagonal weight lies in wgt; load it if it is the layer's own, and due."""
        if multiplier not in normal.private_multipliers:
            return self.residents.diagonal_at[multiplier]
        base, loads = self.place_constant(job, multiplier, "multipliers")
        if loads is not None:
            loads.append(self._load_diagonal(multiplier, base, origin.to(Purpose.DIAGONAL)))
        return base

    def _load_diagonal(self, multiplier: int, sram: int, origin: Origin) -> Emitted:
        weight = pack_lanes(diagonal_weight(multiplier, self.config), self.config.wgt_bits)
        at = self.constants.add(weight) // self.config.wgt_elem_bytes
        return self.emit.load_constant(Memory.WGT, sram, at, origin)

    def begin_layer(
        self,
        normal: NormalLayer,
        *,
        inp: dict[str, SlotPool],
        wgt: SlotPool,
        acc: int,
        more_wgt: Mapping[str, SlotPool] = MappingProxyType({}),
    ) -> tuple[int, ...]:
        """Cut the scratchpads into slots; return the first wgt element of each reduction.

        Reductions with the same plane of weights share its elements.

        Raises
        ------
        CapacityError
            When a chunk does not fit inp, wgt or acc.
        """
        private = len(normal.private_multipliers)
        late = {
            name: SlotPool(elems, slots)
            for name, elems, slots in (
                ("late", normal.late_elems, self.residents.late_slots(normal)),
                ("diagonals", normal.diagonal_elems, 2),
                ("multipliers", min(1, private), private),
            )
            if elems
        }
        capacity = self.residents.capacity_of(normal)
        own = sum(pool.elems for pool in (wgt, *more_wgt.values()))
        if own > capacity.wgt or acc > capacity.acc:
            raise too_small(normal.shape, capacity, normal.layer.name)
        if not self._inp.fits(**inp):
            raise CapacityError(
                normal.layer.name,
                f"its chunks and what they are added to must fit {capacity.inp} inp elements",
                got=sum(p.elems * (1 if n == "chunk" else p.slots) for n, p in inp.items()),
                hint="choose a machine with a larger inp buffer",
            )
        self._inp.begin_layer(**inp)
        self._wgt.begin_layer(**late, **more_wgt, chunk=wgt)
        sums = {"sums": SlotPool(normal.sum_elems, 1)} if normal.sum_elems else {}
        self._acc.begin_layer(**sums, chunk=SlotPool(acc))
        added: dict[tuple[int, int], int] = {}
        for part in normal.reductions:
            key = (part.shape.base, part.shape.weight_plane)
            if key not in added:
                added[key] = self.constants.add_weights(part, self.config)
        keys = ((part.shape.base, part.shape.weight_plane) for part in normal.reductions)
        return tuple(added[key] // self.config.wgt_elem_bytes for key in keys)

    def batches(self, layer: Layer) -> range:
        """Return the blocks of the batch."""
        return range(blocks(layer.out_shape[0], self.config.batch))

    def tile(self, layer: Layer, n: int, oc: Range, oy: Range, ox: Range) -> Tile:
        """Give a piece of the output a place in acc."""
        where = (oc.start, oy.start, ox.start)
        acc = self._acc.place((layer.name, n, *where), self.job + 1).base
        origin = Origin(layer=layer.name, tile=where)
        return Tile(n=n, oc=oc, oy=oy, ox=ox, acc=acc, origin=origin, group=oc)

    def sums(self, normal: NormalLayer, n: int) -> Tile:
        """Return the place in acc of the sums that are computed with a layer."""
        acc = self._acc.place((normal.layer.name, n), self.job + 1, "sums").base
        oc, one = Range(0, normal.sum_elems), Range(0, 1)
        origin = Origin(layer=normal.layer.name, tile=(0, 0, 0))
        return Tile(n=n, oc=oc, oy=one, ox=one, acc=acc, origin=origin, group=oc)

    def place_input(
        self, job: Job, key: Hashable, pool: str = "chunk"
    ) -> tuple[int, list[Emitted] | None]:
        """Return where chunk `key` lies in inp, and the list for its loads if it needs any."""
        return _loads_of(job, self._inp.place(key, self.job, pool))

    def place_constant(
        self, job: Job, key: Hashable, pool: str
    ) -> tuple[int, list[Emitted] | None]:
        """Return where constants `key` lie in wgt, and the list for their loads if any are due."""
        return _loads_of(job, self._wgt.place(key, self.job, pool))

    def place_weights(
        self,
        job: Job,
        normal: NormalLayer,
        weights_at: int,
        oc: Range,
        ic: Range,
        row: int,
        origin: Origin,
    ) -> int:
        """Return where a chunk of weights lies in wgt; load it if it must be."""
        key = (normal.layer.name, normal.shape.weight_plane, oc, ic)
        base, loads = self.place_constant(job, key, "chunk")
        if loads is not None:
            shape = normal.shape
            stride = shape.constants + shape.ic * shape.taps
            at = (
                weights_at
                + oc.start * stride
                + (shape.constants + ic.start * shape.taps if ic.start else 0)
            )
            loads.append(
                self.emit.load_constant(
                    Memory.WGT,
                    base,
                    at,
                    origin.to(Purpose.WEIGHTS),
                    rows=oc.count,
                    columns=row,
                    stride=stride,
                )
            )
        return base

    def add_constants(
        self, acc: int, oc: int, area: int, wgt: int, row: int, steps: int, origin: Origin
    ) -> list[Emitted]:
        """Add a constant a channel to `oc` blocks of `area` vectors each, `steps` GEMM steps.

        Its digits lie from wgt element `wgt` on, those of the next block `row` elements later.
        """
        dims = (Dim(oc, area, 0, row), Dim(area, 1, 0))
        starts = ((acc, self.residents.vector_at, wgt + step) for step in range(steps))
        return [self.emit.gemm(dims, start, origin.to(Purpose.BIAS)) for start in starts]


def _loads_of(job: Job, placed: Placed) -> tuple[int, list[Emitted] | None]:
    """Return where a chunk was placed, and the list of a job's loads that its own belongs to."""
    return placed.base, (job.late_loads if placed.late else job.loads) if placed.fresh else None
