"""Lowering: layers to instructions, tile by tile, as jobs that order.py puts in sequence."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from flow.compiler.buffers import CONSTANTS_SHARE, Pool, SlotBuffer
from flow.compiler.cost import PIECE_VECTORS, Tiling, cost, price
from flow.compiler.emit import Emitter, Tile
from flow.compiler.geometry import Dim, Range, Window, split
from flow.compiler.input_choice import first_layers, in_forms
from flow.compiler.memory import Constants, plan_activations
from flow.compiler.multiply import COPY_SHARE, ShiftAdds
from flow.compiler.normal_form import (
    AluStep,
    LateConstants,
    Prepared,
    RegisterShift,
    Residual,
)
from flow.compiler.operators.conv_pool import conv_pool, fused_pools, prepare_with_pool
from flow.compiler.operators.max_pool import max_pool, sum_pool
from flow.compiler.order import Job, in_layers, ordered
from flow.compiler.plan import Lowered, Schedule
from flow.compiler.shapes import Capacity, ConvShape
from flow.compiler.tiling import choose_tiling, too_small
from flow.compiler.tokens import Emitted, TokenInserter
from flow.compiler.uops import UopAllocator
from flow.program.layouts import alignment_bytes, blocks, constant_vector, diagonal_weight
from vta_config.isa import Memory
from vta_config.origin import Origin, Purpose

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from flow.program.input_form import InputForm
    from relay_passes.partition.layers import Layer, Subgraph
    from vta_config.hardware import VTAConfig


class Lowering:
    """Lower the layers of one subgraph, in order, for one machine."""

    def __init__(
        self,
        subgraph: Subgraph,
        config: VTAConfig,
        schedule: Schedule | None = None,
    ) -> None:
        """Bring the layers into normal form and place activations in DRAM."""
        config.check_runs()
        self.config = config
        schedule = schedule or Schedule()
        self._tilings = schedule.tilings
        self.work = tuple(_work(subgraph, config))
        multipliers = sorted(set().union(*(p.multipliers for p in self.work)))
        self._needs_vector = any(p.needs_vector for p in self.work)
        #: Resident: the constant vector at the end of inp, diagonal weights at the end of wgt.
        self.vector_at = config.inp_depth - 1
        self.diagonal_at = {
            m: config.wgt_depth - len(multipliers) + i for i, m in enumerate(multipliers)
        }
        #: At the end of acc: what a multiplication by shifts and additions copies at a time, and
        #: before it the shift amounts of as many blocks of channels as a layer has or fit.
        share = max(1, config.acc_depth // COPY_SHARE)
        copied = share if any(p.copies for p in self.work) else 0
        amounts = max((p.shape.oc for p in self.work if p.shifts_by_register), default=0)
        self._copy = Range(config.acc_depth - copied, copied)
        self._amounts = Range(self._copy.start - min(amounts, share), min(amounts, share))
        self._held: tuple[int, int] | None = None  # whose amounts, from which block on
        self.room = Capacity.of(
            config,
            resident_inp=int(self._needs_vector),
            resident_wgt=len(multipliers),
            resident_acc=copied + self._amounts.count,
            objective=schedule.objective,
        )
        self._forms = dict(self._inputs(subgraph) if schedule.forms is None else schedule.forms)
        self.work = tuple(
            prepare_with_pool(p.layer, p.pool, config, self._forms[p.layer.inputs[0]])
            if p.layer.inputs[0] in self._forms
            else p
            for p in self.work
        )
        shapes = {spec.name: (*spec.shape, 1, 1)[:4] for spec in subgraph.inputs}
        shapes |= {name: form.dram_shape(shapes[name]) for name, form in self._forms.items()}
        shapes |= {p.last.output: p.last.out_shape for p in self.work}
        self._tensors, self._constants_at = plan_activations(subgraph, self.work, config, shapes)
        self._constants = Constants(alignment_bytes(config), self._constants_at)
        self.emit = Emitter(config, self._tensors)
        self.inp, self._wgt = SlotBuffer(self.room.inp), SlotBuffer(self.room.wgt)
        self._acc = SlotBuffer(self.room.acc)
        self._job = 0

    # ---- the whole program
    # ---------------------------------------------------------------------------------------
    def run(self) -> Lowered:
        """Lower everything; return instructions, constants and the DRAM map."""
        config = self.config
        uops = UopAllocator(config, self._constants)
        program = [
            e
            for group in in_layers(ordered([*self._all_jobs()], config))
            for e in uops.assign(group)
        ]
        inserter = TokenInserter(
            {
                "inp": config.inp_depth,
                "wgt": config.wgt_depth,
                "acc": config.acc_depth,
                "dram": self._constants_at // config.inp_elem_bytes,
            }
        )
        return Lowered(
            insns=inserter.insert(program),
            constants=self._constants.data(),
            constants_at=self._constants_at,
            arena_bytes=self._constants_at + self._constants.size_bytes,
            tensors=self._tensors,
            work=self.work,
            forms=self._forms,
        )

    def _inputs(self, subgraph: Subgraph) -> Iterator[tuple[str, InputForm]]:
        """Yield the form of each input that does not best lie as it is."""
        for name, prepared in first_layers(subgraph, self.work):
            choices = in_forms(prepared, self.config, self.room_of(prepared))
            _, best = min(choices, key=lambda c: price(c[0], self.room), default=(None, prepared))
            if best.form is not None:
                yield name, best.form

    def _all_jobs(self) -> Iterator[Job]:
        yield self._resident_job()
        for prepared in self.work:
            for job in self._jobs_of(prepared):
                job.layer = prepared.layer.name
                yield job

    def _jobs_of(self, prepared: Prepared) -> Iterator[Job]:
        if prepared.pool is not None:
            return conv_pool(self, prepared)
        if prepared.layer.kind == "max_pool2d":
            return max_pool(self, prepared)
        if prepared.layer.kind == "sum_pool2d":
            return sum_pool(self, prepared)
        return self._conv(prepared)

    # ---- what every kind of layer shares
    # ------------------------------------------------------------------------
    def new_job(self) -> Job:
        """Start the next job."""
        self._job += 1
        return Job()

    def begin_layer(
        self, prepared: Prepared, *, inp: dict[str, Pool], wgt: Pool, acc: int
    ) -> tuple[int, ...]:
        """Cut the scratchpads into slots; return the first wgt element of each reduction."""
        late = {
            name: Pool(elems, slots)
            for name, elems, slots in (
                ("late", prepared.late_elems, self._late_slots(prepared)),
                ("diagonals", prepared.diagonal_elems, 2),
            )
            if elems
        }
        room = self.room_of(prepared)
        if wgt.elems > room.wgt or acc > room.acc:
            raise too_small(prepared.shape, room, prepared.layer.name)
        self.inp.begin_layer(**inp)
        self._wgt.begin_layer(**late, chunk=wgt)
        self._acc.begin_layer(chunk=Pool(acc))
        return tuple(
            0
            if part.weights is None
            else self._constants.add(part.weights) // self.config.wgt_elem_bytes
            for part in prepared.reductions
        )

    def tile(self, layer: Layer, n: int, oc: Range, oy: Range, ox: Range) -> Tile:
        """Give a piece of the output a place in acc."""
        where = (oc.start, oy.start, ox.start)
        acc = self._acc.place((layer.name, n, *where), self._job + 1).base
        return Tile(n=n, oc=oc, oy=oy, ox=ox, acc=acc, origin=Origin(layer=layer.name, tile=where))

    def place_input(
        self, job: Job, key: Hashable, pool: str = "chunk"
    ) -> tuple[int, list[Emitted] | None]:
        """Return where chunk `key` lies in inp, and the list for its loads if it needs any."""
        placed = self.inp.place(key, self._job, pool)
        return placed.base, (job.late_loads if placed.late else job.loads) if placed.fresh else None

    def batches(self, layer: Layer) -> range:
        """Return the blocks of the batch."""
        return range(blocks(layer.out_shape[0], self.config.batch))

    def _resident_job(self) -> Job:
        job, config = self.new_job(), self.config
        if self._needs_vector:
            at = self._constants.add(constant_vector(config)) // config.inp_elem_bytes
            job.loads.append(
                self.emit.load_constant(
                    Memory.INP, self.vector_at, at, Origin(purpose=Purpose.VECTOR)
                )
            )
        for multiplier, sram in self.diagonal_at.items():
            at = self._constants.add(diagonal_weight(multiplier, config)) // config.wgt_elem_bytes
            job.loads.append(
                self.emit.load_constant(Memory.WGT, sram, at, Origin(purpose=Purpose.DIAGONAL))
            )
        return job

    # ---- convolution, dense, addition ----
    def _conv(self, prepared: Prepared) -> Iterator[Job]:
        """Lower a convolution, a dense layer (1 × 1 on one pixel) or an addition (no taps)."""
        shape, layer = prepared.shape, prepared.layer
        tiling = self._tiling(prepared)
        # An addition has two operands and nothing that comes back.
        slots = cost(shape, tiling, self.room_of(prepared)).slots if shape.ic else (2, 2)
        weights_at = self.begin_layer(
            prepared,
            inp=_inp_pools(shape, tiling, slots[0]),
            wgt=Pool(max(1, tiling.wgt_elems(shape)), slots[1]),
            acc=tiling.acc_elems,
        )
        places = list(
            product(split(shape.out_height, tiling.oh), split(shape.out_width, tiling.ow))
        )
        groups = split(shape.oc, tiling.oc)
        if tiling.oc_outer:
            order = list(product(groups, places))
        else:
            order = [(group, place) for place in places for group in groups]
        alone = tiling.acc_slots(self.room) < 2
        tiles = list(product(self.batches(layer), order))
        for index, (n, (group, (oy, ox))) in enumerate(tiles):
            tile = self.tile(layer, n, group, oy, ox)
            jobs = self.reductions(prepared, tiling, tile, weights_at)
            # Where somebody waits for the tile to be stored, STORE begins with its first channels.
            waited = alone or index == len(tiles) - 1
            for piece in tile.pieces(PIECE_VECTORS if waited else tile.vectors):
                jobs += self.residual_jobs(prepared.residuals, piece)
                jobs = self.finish_tile(prepared, piece, jobs)
            yield from jobs

    def room_of(self, prepared: Prepared) -> Capacity:
        """Return the elements that a layer's chunks may use."""
        late = self._late_slots(prepared) * prepared.late_elems + 2 * prepared.diagonal_elems
        return replace(self.room, wgt=self.room.wgt - late)

    def _late_slots(self, prepared: Prepared) -> int:
        """Return the slots for a layer's late constants: one does, of two small ones the freer."""
        return 2 if 2 * prepared.late_elems <= self.config.wgt_depth // CONSTANTS_SHARE else 1

    def _tiling(self, prepared: Prepared) -> Tiling:
        shape = prepared.shape
        if shape.ic:
            name = prepared.layer.name
            return self._tilings.get(name) or choose_tiling(shape, self.room_of(prepared), name)
        # An addition: as many whole rows and blocks as let two operands and two tiles fit.
        room = self.room_of(prepared)
        half = max(1, min(room.inp, room.acc) // 2)
        ow = min(shape.out_width, half)
        oh = min(shape.out_height, max(1, half // ow))
        acc = room.acc // 2
        oc = max(1, min(shape.oc, acc // (oh * ow), room.wgt // max(1, shape.constants)))
        return Tiling(oc=oc, oh=oh, ow=ow, ic=0, oc_w=oc, oc_outer=True)

    def reductions(
        self, prepared: Prepared, tiling: Tiling, tile: Tile, weights_at: tuple[int, ...]
    ) -> list[Job]:
        """Start a tile at its constants and add the reductions, one job a chunk."""
        ics = tiling.chunk_blocks(prepared.shape)
        jobs = [
            job
            for part, ic, at in zip(prepared.reductions, ics, weights_at, strict=True)
            for job in self._reduction(part, replace(tiling, ic=ic), tile, at)
        ]
        jobs[0].body.insert(0, self.emit.reset(tile.acc, tile.vectors, tile.origin))
        return jobs

    def _reduction(
        self, prepared: Prepared, tiling: Tiling, tile: Tile, weights_at: int
    ) -> Iterator[Job]:
        """Add one reduction and its constants to a tile."""
        shape = prepared.shape
        chunks = split(shape.ic, tiling.ic) if shape.ic else [Range(0, 0)]
        for ic, part in product(chunks, split(tile.oc.count, tiling.oc_w)):
            job = self.new_job()
            constants = shape.constants if ic.start == 0 else 0
            row = constants + ic.count * shape.taps
            oc = Range(tile.oc.start + part.start, part.count)
            wgt = (
                self.place_weights(job, prepared, weights_at, oc, ic, row, tile.origin)
                if row
                else 0
            )
            acc = tile.acc + part.start * tile.area
            job.body += self.add_constants(
                acc, part.count, tile.area, wgt, row, constants, tile.origin
            )
            if ic.count:
                inp = self._place_input(job, prepared, tile, ic)
                window_dims = _conv_dims(shape, tile, ic, part, row)
                job.body.append(
                    self.emit.gemm(
                        window_dims,
                        (acc, inp, wgt + constants),
                        tile.origin.to(Purpose.GEMM),
                    )
                )
            yield job

    def add_constants(
        self, acc: int, oc: int, area: int, wgt: int, row: int, steps: int, origin: Origin
    ) -> list[Emitted]:
        """Add a constant a channel to `oc` blocks of `area` vectors each, `steps` GEMM steps.

        Its digits lie from wgt element `wgt` on, those of the next block `row` elements later.
        """
        dims = (Dim(oc, area, 0, row), Dim(area, 1, 0))
        starts = ((acc, self.vector_at, wgt + step) for step in range(steps))
        return [self.emit.gemm(dims, start, origin.to(Purpose.BIAS)) for start in starts]

    def place_weights(
        self,
        job: Job,
        prepared: Prepared,
        weights_at: int,
        oc: Range,
        ic: Range,
        row: int,
        origin: Origin,
    ) -> int:
        """Return where a chunk of weights lies in wgt; load it if it must be."""
        placed = self._wgt.place((prepared.layer.name, oc, ic), self._job)
        if placed.fresh:
            shape = prepared.shape
            stride = shape.constants + shape.ic * shape.taps
            at = (
                weights_at
                + oc.start * stride
                + (shape.constants + ic.start * shape.taps if ic.start else 0)
            )
            load = self.emit.load_constant(
                Memory.WGT,
                placed.base,
                at,
                origin.to(Purpose.WEIGHTS),
                rows=oc.count,
                columns=row,
                stride=stride,
            )
            (job.late_loads if placed.late else job.loads).append(load)
        return placed.base

    def _place_input(self, job: Job, prepared: Prepared, tile: Tile, ic: Range) -> int:
        shape, layer = prepared.shape, prepared.layer
        origin = tile.origin.to(Purpose.INPUT)
        base, loads = self.place_input(job, (layer.name, tile.n, ic, tile.oy, tile.ox))
        if loads is not None and prepared.flat:
            loads.append(self.emit.load_flat(layer.inputs[0], base, tile.n, ic, origin))
        elif loads is not None:
            y, x = (shape.window(out, a, tile.origin) for a, out in enumerate((tile.oy, tile.ox)))
            name, step = layer.inputs[0], shape.row_step
            loads += self.emit.load_window(name, base, tile.n, ic, y, x, origin, row_step=step)
        return base

    # ---- residuals, epilogue, stores
    # -----------------------------------------------------------------------------
    def residual_jobs(self, residuals: Sequence[Residual], tile: Tile) -> list[Job]:
        """Add int8 tensors to a tile, block by block, by GEMM with a diagonal weight."""
        jobs: list[Job] = []
        origin = tile.origin.to(Purpose.RESIDUAL)
        for residual, block in product(residuals, range(tile.oc.count)):
            job = self.new_job()
            oc = Range(tile.oc.start + block, 1)
            base, loads = self.place_input(job, self._job, "residual")
            assert loads is not None
            y, x = (Window(r.start, r.count, 0, 0) for r in (tile.oy, tile.ox))
            loads += self.emit.load_window(residual.tensor, base, tile.n, oc, y, x, origin)
            if residual.diagonals is None:
                terms = [(self.diagonal_at[w], n, 0) for w, n in residual.terms[oc.start]]
            else:
                terms = [(self._place_diagonals(job, residual, oc, tile), residual.passes, 1)]
            for wgt, repeats, stride in terms:
                dims = (Dim(tile.area, 1, 1), Dim(repeats, 0, 0, stride))
                start = (tile.acc + block * tile.area, base, wgt)
                job.body.append(self.emit.gemm(dims, start, origin))
            jobs.append(job)
        return jobs

    def _place_diagonals(self, job: Job, residual: Residual, oc: Range, tile: Tile) -> int:
        """Return where a block's diagonal weights lie in wgt; load them if they must be."""
        assert residual.diagonals is not None
        placed = self._wgt.place((id(residual), oc), self._job, "diagonals")
        if placed.fresh:
            steps = residual.passes
            at = self._constants.add(residual.diagonals) // self.config.wgt_elem_bytes
            load = self.emit.load_constant(
                Memory.WGT,
                placed.base,
                at + oc.start * steps,
                tile.origin.to(Purpose.RESIDUAL),
                columns=steps,
            )
            (job.late_loads if placed.late else job.loads).append(load)
        return placed.base

    def finish_tile(self, prepared: Prepared, tile: Tile, jobs: list[Job]) -> list[Job]:
        """Append the epilogue and the stores to a tile's jobs; return the jobs."""
        for step in prepared.epilogue:
            if isinstance(step, Residual):
                jobs += self.residual_jobs([step], tile)
            elif isinstance(step, ShiftAdds):
                jobs[-1].body += step.emit(self.emit, tile, self._copy)
            elif isinstance(step, RegisterShift):
                jobs[-1].body += self._register_shift(step, tile)
            elif isinstance(step, LateConstants):
                jobs[-1].body += self._late_constants(jobs[-1], prepared, step, tile)
            else:
                jobs[-1].body += self._alu_pass(step, tile)
        output = prepared.last.output
        for plane in range(self._tensors[output].planes):
            if plane:
                dims, origin = (Dim(tile.vectors, 1, 1),), tile.origin.to(Purpose.STORE)
                jobs[-1].body.append(
                    self.emit.alu("shr", dims, (tile.acc, tile.acc), origin, imm=8)
                )
            jobs[-1].body += self.emit.store(output, tile, plane)
        return jobs

    def _late_constants(
        self, job: Job, prepared: Prepared, step: LateConstants, tile: Tile
    ) -> list[Emitted]:
        """Add a constant to each channel of a tile.

        The first `job` that needs some loads the digits of the whole layer; they stay.
        """
        late = [e for e in prepared.epilogue if isinstance(e, LateConstants)]
        placed = self._wgt.place(prepared.layer.name, self._job, "late")
        if placed.fresh:
            digits = np.concatenate([e.digits.reshape(-1, *e.digits.shape[2:]) for e in late])
            at = self._constants.add(digits) // self.config.wgt_elem_bytes
            load = self.emit.load_constant(
                Memory.WGT, placed.base, at, tile.origin.to(Purpose.BIAS), columns=len(digits)
            )
            (job.late_loads if placed.late else job.loads).append(load)
        steps = step.digits.shape[1]
        before = sum(e.digits.shape[1] for e in late[: late.index(step)]) * prepared.shape.oc
        at = placed.base + before + tile.oc.start * steps
        return self.add_constants(tile.acc, tile.oc.count, tile.area, at, steps, steps, tile.origin)

    def _register_shift(self, step: RegisterShift, tile: Tile) -> Iterator[Emitted]:
        """Shift a tile by the amounts of its channels; load those that acc does not hold."""
        origin = tile.origin.to(Purpose.REQUANTIZE)
        for held in split(len(step.amounts), self._amounts.count):
            first = max(held.start, tile.oc.start)
            count = min(held.start + held.count, tile.oc.start + tile.oc.count) - first
            if count <= 0:
                continue
            if self._held != (id(step), held.start):
                self._held = id(step), held.start
                at = self._constants.add(step.amounts) // self.config.acc_elem_bytes
                yield self.emit.load_constant(
                    Memory.ACC,
                    self._amounts.start,
                    at + held.start,
                    origin,
                    columns=held.count,
                )
            dims = (Dim(count, tile.area, 1), Dim(tile.area, 1, 0))
            acc = tile.acc + (first - tile.oc.start) * tile.area
            amounts = self._amounts.start + first - held.start
            yield self.emit.alu("shr", dims, (acc, amounts), origin)

    def _alu_pass(self, step: AluStep, tile: Tile) -> Iterator[Emitted]:
        """Run an ALU pass over a tile: an instruction for each run of blocks with one immediate."""
        origin = tile.origin.to(Purpose.REQUANTIZE)
        for imm, run in tile.runs(step.imm):
            dims = (Dim(run.count, 1, 1),)
            if step.op == "double":
                yield self.emit.alu("add", dims, (run.start, run.start), origin)
            elif imm or step.op not in ("shr", "add"):
                yield self.emit.alu(step.op, dims, (run.start, run.start), origin, imm=imm)


def _inp_pools(shape: ConvShape, tiling: Tiling, slots: int) -> dict[str, Pool]:
    pools = {"residual": Pool(tiling.oh * tiling.ow)} if shape.residuals or not shape.ic else {}
    if shape.ic:
        pools["chunk"] = Pool(tiling.inp_elems(shape), slots)
    return pools


def _conv_dims(shape: ConvShape, tile: Tile, ic: Range, part: Range, row: int) -> tuple[Dim, ...]:
    """Return the nest of a chunk: rows, columns, oc, ic, kernel rows, kernel columns."""
    columns = shape.extent_in(tile.ox.count, 1)
    area = shape.extent_in(tile.oy.count, 0) * columns
    return (
        Dim(tile.oy.count, tile.ox.count, shape.stride[0] * columns),
        Dim(tile.ox.count, 1, shape.stride[1]),
        Dim(part.count, tile.area, 0, row),
        Dim(ic.count, 0, area, shape.taps),
        Dim(shape.kernel[0], 0, shape.dilation[0] * columns, shape.kernel[1]),
        Dim(shape.kernel[1], 0, shape.dilation[1], 1),
    )


def _work(subgraph: Subgraph, config: VTAConfig) -> Iterator[Prepared]:
    """Yield the layers in normal form, max-pools joined with the convolution before them."""
    pools = fused_pools(subgraph)
    done = set()
    for layer in subgraph.layers:
        if layer.name in done:
            continue
        prepared = prepare_with_pool(layer, pools.get(layer.name), config)
        if prepared.pool is not None:
            done.add(prepared.pool.name)
        yield prepared


def lower(subgraph: Subgraph, config: VTAConfig, schedule: Schedule | None = None) -> Lowered:
    """Lower a subgraph to one instruction stream.

    Parameters
    ----------
    subgraph : Subgraph
    config : VTAConfig
    schedule : Schedule, optional
        What `schedule.search` found; the cost model chooses the rest.

    Raises
    ------
    CapacityError
        When a layer does not fit the machine.
    ConfigError
        When the machine's numbers are not int8.
    UnsupportedModelError
        When a step needs what the machine does not have.
    """
    return Lowering(subgraph, config, schedule).run()
