"""What starts and ends a tile: sums by falling exponent, residuals, ALU passes, its stores."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flow.compiler.bias import LateConstants, RegisterOp
from flow.compiler.cost import PIECE_VECTORS
from flow.compiler.geometry import Dim, Range, split
from flow.compiler.multiply import Action, ShiftAdds
from flow.compiler.residual import CopiedResiduals, Residual
from vta_config.isa import Memory, Opcode
from vta_config.lanes import pack_lanes
from vta_config.origin import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from flow.compiler.emit import Emitter, Tile
    from flow.compiler.epilogue_ops import ImmediateOp
    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.tokens import Emitted
    from flow.compiler.workbench import Workbench
    from vta_config.origin import Origin


class Addition(NamedTuple):
    """A term of a tile's sums: its exponent, and what makes the jobs that add it."""

    exponent: int
    jobs: Callable[[], Iterable[Job]]


def sum_up(
    bench: Workbench, tile: Tile, terms: Iterable[Addition], *, vectors: int = 0
) -> list[Job]:
    """Start a tile at 0 and add terms by falling exponent, with a left shift between exponents.

    Parameters
    ----------
    bench : Workbench
    tile : Tile
    terms : iterable of Addition
    vectors : int
        Acc elements from the tile's first on; 0: the tile's.
    """
    dims = (Dim(vectors or tile.vectors, 1, 1),)
    jobs: list[Job] = []
    at = 0

    def shift_to(exponent: int) -> None:
        if jobs and exponent < at:
            amount, origin = exponent - at, tile.origin.to(Purpose.SHIFT)
            jobs[-1].body.append(
                bench.emit.alu("shr", dims, (tile.acc, tile.acc), origin, imm=amount)
            )

    for exponent, make in sorted(terms, key=lambda term: -term[0]):
        shift_to(exponent)
        jobs += make()
        at = exponent
    shift_to(0)
    jobs[0].body.insert(0, bench.emit.reset(tile.acc, dims[0].count, tile.origin))
    return jobs


def sum_tile(
    bench: Workbench, normal: NormalLayer, tile: Tile, terms: Iterable[Addition]
) -> list[Job]:
    """Start a tile and add terms, as `sum_up` does, and the residuals that count among them."""
    return sum_up(bench, tile, [*terms, *_additions(bench, normal, normal.early_residuals, tile)])


def _additions(
    bench: Workbench, normal: NormalLayer, residuals: Iterable[Residual], tile: Tile
) -> list[Addition]:
    """Return what `sum_up` adds of residuals, each at its exponent."""
    return [
        Addition(residual.exponent, partial(_residual_jobs, bench, normal, [residual], tile))
        for residual in residuals
    ]


def finish_tile(bench: Workbench, normal: NormalLayer, tile: Tile, jobs: list[Job]) -> list[Job]:
    """Append the last residuals, the epilogue and the stores to a tile's jobs; return the jobs."""
    jobs = finish_sums(bench, normal, tile, jobs)
    jobs[-1].body += _stores(bench, normal, tile)
    return jobs


def finish_sums(bench: Workbench, normal: NormalLayer, tile: Tile, jobs: list[Job]) -> list[Job]:
    """Append the last residuals and the epilogue to a tile's jobs; return the jobs."""
    jobs += _residual_jobs(bench, normal, normal.last_residuals, tile)
    for step in normal.epilogue:
        if isinstance(step, Residual):
            jobs += _residual_jobs(bench, normal, [step], tile)
        elif isinstance(step, CopiedResiduals):
            jobs += _copied_residuals(bench, normal, step, tile)
        elif isinstance(step, ShiftAdds):
            jobs[-1].body += _shift_adds(bench, step, tile)
        elif isinstance(step, RegisterOp):
            _register_op(bench, step, tile, jobs)
        elif isinstance(step, LateConstants):
            jobs[-1].body += _late_constants(bench, jobs[-1], normal, step, tile)
        else:
            jobs[-1].body += _alu_pass(bench, step, tile)
    return jobs


def _stores(bench: Workbench, normal: NormalLayer, tile: Tile) -> Iterator[Emitted]:
    """Store a tile plane by plane, with a right shift between planes.

    A plane of int8 is read back with its sign, so the rest is rounded, not cut. It waits until the
    plane is stored; so the tile is cut into pieces, and one is stored while another is shifted.
    """
    output, wide = normal.last.output, normal.last.out_dtype == "int32"
    bits, origin = bench.config.inp_bits, tile.origin.to(Purpose.STORE)
    planes = bench.tensors[output].planes
    pieces = [tile] if wide or planes == 1 else tile.pieces(PIECE_VECTORS)
    for plane, piece in product(range(planes), pieces):
        dims, start = (Dim(piece.vectors, 1, 1),), (piece.acc, piece.acc)
        if plane and not wide:
            yield bench.emit.alu("add", dims, start, origin, imm=1 << bits - 1)
        if plane:
            yield bench.emit.alu("shr", dims, start, origin, imm=bits)
        yield from bench.emit.store(output, piece, plane)


def _residual_jobs(
    bench: Workbench, normal: NormalLayer, residuals: Sequence[Residual], tile: Tile
) -> list[Job]:
    """Add int8 tensors to a tile, block by block, by GEMM with a diagonal weight."""
    jobs: list[Job] = []
    origin = tile.origin.to(Purpose.RESIDUAL)
    for residual, block in product(residuals, range(tile.oc.count)):
        oc = Range(tile.oc.start + block, 1)
        if residual.diagonals is None and not residual.terms[oc.start]:
            continue
        job = bench.new_job()
        key = (residual.tensor, residual.plane, tile.n, oc, tile.oy, tile.ox)
        base, loads = bench.place_input(job, key, "residual")
        if loads is not None:
            loads += bench.emit.load_window(
                residual.tensor,
                base,
                tile.n,
                oc,
                tile.oy,
                tile.ox,
                origin,
                plane=residual.plane,
            )
        if residual.diagonals is None:
            terms = [
                (bench.place_diagonal(job, normal, weight, origin), repeats, 0)
                for weight, repeats in residual.terms[oc.start]
            ]
        else:
            terms = [(_place_diagonals(bench, job, residual, oc, tile), residual.passes, 1)]
        for wgt, repeats, stride in terms:
            dims = (Dim(tile.area, 1, 1), Dim(repeats, 0, 0, stride))
            start = (tile.acc + block * tile.area, base, wgt)
            job.body.append(bench.emit.gemm(dims, start, origin))
        jobs.append(job)
    return jobs


def _copied_residuals(
    bench: Workbench, normal: NormalLayer, step: CopiedResiduals, tile: Tile
) -> Iterator[Job]:
    """Sum up residuals beside a tile, in pieces that the copy holds, and add them to it."""
    copy, width = bench.residents.copy, tile.ox.count
    columns = min(width, copy.count)
    pieces = (
        range(tile.oc.count),
        split(tile.oy.count, copy.count // columns),
        split(width, columns),
    )
    for block, oy, ox in product(*pieces):
        piece = replace(
            tile,
            oc=Range(tile.oc.start + block, 1),
            oy=Range(tile.oy.start + oy.start, oy.count),
            ox=Range(tile.ox.start + ox.start, ox.count),
            acc=copy.start,
        )
        jobs = sum_up(bench, piece, _additions(bench, normal, step.parts, piece))
        dims = (Dim(oy.count, width, ox.count), Dim(ox.count, 1, 1))
        acc = tile.acc + block * tile.area + oy.start * width + ox.start
        origin = tile.origin.to(Purpose.RESIDUAL)
        jobs[-1].body.append(bench.emit.alu("add", dims, (acc, copy.start), origin))
        yield from jobs


def _place_diagonals(bench: Workbench, job: Job, residual: Residual, oc: Range, tile: Tile) -> int:
    """Return where a block's diagonal weights lie in wgt; load them if they must be."""
    assert residual.diagonals is not None
    base, loads = bench.place_constant(job, (id(residual), oc), "diagonals")
    if loads is not None:
        steps = residual.passes
        data = pack_lanes(residual.diagonals, bench.config.wgt_bits)
        at = bench.constants.add(data) // bench.config.wgt_elem_bytes
        loads.append(
            bench.emit.load_constant(
                Memory.WGT,
                base,
                at + oc.start * steps,
                tile.origin.to(Purpose.RESIDUAL),
                columns=steps,
            )
        )
    return base


def _late_constants(
    bench: Workbench, job: Job, normal: NormalLayer, step: LateConstants, tile: Tile
) -> list[Emitted]:
    """Add a constant to each channel of a tile.

    The first `job` that needs some loads the digits of the whole layer; they stay.
    """
    late = [e for e in normal.epilogue if isinstance(e, LateConstants)]
    base, loads = bench.place_constant(job, normal.layer.name, "late")
    if loads is not None:
        digits = np.concatenate([e.digits.reshape(-1, *e.digits.shape[2:]) for e in late])
        data = pack_lanes(digits, bench.config.wgt_bits)
        at = bench.constants.add(data) // bench.config.wgt_elem_bytes
        origin = tile.origin.to(Purpose.BIAS)
        loads.append(bench.emit.load_constant(Memory.WGT, base, at, origin, columns=len(digits)))
    steps = step.digits.shape[1]
    before = sum(e.digits.shape[1] for e in late[: late.index(step)]) * normal.shape.oc
    at = base + before + tile.oc.start * steps
    return bench.add_constants(tile.acc, tile.oc.count, tile.area, at, steps, steps, tile.origin)


def _register_op(bench: Workbench, step: RegisterOp, tile: Tile, jobs: list[Job]) -> None:
    """Shift a tile by, or add to it, its channels' numbers; load those that acc does not hold.

    LOAD comes first on the bus, and begins to load when a chunk has been used. So COMPUTE loads
    before the last instruction of a chunk, when LOAD has probably done.
    """
    body = jobs[-1].body
    origin, capacity = tile.origin.to(Purpose.REQUANTIZE), bench.residents.amounts
    each, total = step.each, len(step.values) // step.each
    first, end = tile.oc.start, tile.oc.start + tile.oc.count
    while first < end:
        of, held = bench.amounts_held
        if of != id(step) or not held.within(Range(first, 1)).count:
            most = capacity.count // each
            begin = first // most * most
            held = Range(begin, min(most, total - begin))
            if step.places and total > most:
                # Many: those of the tile that this one may be a piece of.
                held = Range(first, min(most, sum(tile.group) - first))
            bench.amounts_held = id(step), held
            at = bench.constants.add(step.values) // bench.config.acc_elem_bytes
            load = bench.emit.load_constant(
                Memory.ACC,
                capacity.start,
                at + held.start * each,
                origin,
                columns=held.count * each,
            )
            _before_last_gemm(jobs, load)
        count = held.within(Range(first, end - first)).count
        acc = tile.acc + (first - tile.oc.start) * tile.area
        amounts = capacity.start + (first - held.start) * each
        if not step.places:
            dims: tuple[Dim, ...] = (Dim(count, tile.area, 1), Dim(tile.area, 1, 0))
            body.append(bench.emit.alu(step.op, dims, (acc, amounts), origin))
        for index, (oy, ox) in enumerate(step.places):
            rows, columns = oy.within(tile.oy), ox.within(tile.ox)
            if rows.count and columns.count:
                corner = (rows.start - tile.oy.start) * tile.ox.count
                corner += columns.start - tile.ox.start
                dims = (
                    Dim(rows.count, tile.ox.count, 0),
                    Dim(columns.count, 1, 0),
                    Dim(count, tile.area, each),
                )
                body.append(bench.emit.alu(step.op, dims, (acc + corner, amounts + index), origin))
        first += count


def _before_last_gemm(jobs: list[Job], load: Emitted) -> None:
    """Insert a load into acc where no later instruction needs what lay there."""
    for job in reversed(jobs):
        for at in range(len(job.body) - 1, -1, -1):
            insn = job.body[at].insn
            if insn.opcode == Opcode.ALU:
                jobs[-1].body.append(load)
                return
            if insn.origin.purpose == Purpose.GEMM:
                job.body.insert(at, load)
                return
    jobs[-1].body.append(load)


def _shift_adds(bench: Workbench, step: ShiftAdds, tile: Tile) -> Iterator[Emitted]:
    """Multiply a tile: each run of blocks with equal actions, in pieces that the copy holds."""
    copy = bench.residents.copy
    for actions, run in tile.runs(step.actions):
        origin = tile.origin.to(Purpose.REQUANTIZE)
        most = copy.count if Action("copy") in actions else run.count
        for piece in split(run.count, most):
            acc = run.start + piece.start
            for action in actions:
                yield from _action(bench.emit, action, piece.count, acc, copy.start, origin)


def _action(
    emitter: Emitter, action: Action, vectors: int, acc: int, copy: int, origin: Origin
) -> Iterator[Emitted]:
    dims = (Dim(vectors, 1, 1),)
    if action.move == "shr":
        yield emitter.alu("shr", dims, (acc, acc), origin, imm=action.amount)
        return
    if action.move == "copy":
        yield emitter.reset(copy, vectors, origin)
        origin = origin.to(Purpose.COPY)
    operands = {
        "double": (acc, acc),
        "copy": (copy, acc),
        "add": (acc, copy),
        "double_copy": (copy, copy),
    }
    yield emitter.alu("add", dims, operands[action.move], origin)


def _alu_pass(bench: Workbench, step: ImmediateOp, tile: Tile) -> Iterator[Emitted]:
    """Run an ALU pass over a tile: an instruction for each run of blocks with one immediate."""
    origin = tile.origin.to(Purpose.REQUANTIZE)
    for imm, run in tile.runs(step.imm):
        dims = (Dim(run.count, 1, 1),)
        if step.op == "double":
            yield bench.emit.alu("add", dims, (run.start, run.start), origin)
        elif imm or step.op not in ("shr", "add"):
            yield bench.emit.alu(step.op, dims, (run.start, run.start), origin, imm=imm)
