"""Where the cycles of each layer go: what the machine does in each cycle of the critical path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from flow.results.explanation import PARTS, ExplainedLayer, Reads
from flow.sim.timing_report import (
    critical_path,
    layer_ends,
    layers_of,
    resource_of,
    step_cycles,
)
from flow.sim.tsim import profile_of
from vta_config.isa import Memory, Opcode
from vta_config.origin import Purpose
from vta_config.semantics import dram_elem_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flow.program.program import Program
    from flow.sim.tsim import TSim
    from vta_config.isa import Insn
    from vta_config.timing import TimingProfile

#: What a LOAD of a type of memory reads.
_READS: Final = {
    Memory.INP: "inp",
    Memory.WGT: "wgt",
    Memory.ACC: "acc",
    Memory.ACC_8BIT: "acc",
    Memory.UOP: "uop",
}
#: An interval of cycles and what is done in it.
_Span = tuple[int, int, str]


def explained_layers(timed: TSim) -> tuple[ExplainedLayer, ...]:
    """Explain the layers of one timed program, in execution order."""
    program, result = timed.program, timed.result
    timing = profile_of(timed.profile)
    parts = _parts(program, timed.cycles, timed.table, timing)
    reads = _reads(program)
    _, layer = layers_of(program)
    beats = np.zeros(len(parts), np.int64)
    is_load = [insn.opcode == Opcode.LOAD for insn in program.insns]
    np.add.at(beats, layer, np.where(is_load, timed.table["beats"], 0))
    computed = np.zeros(len(parts), np.int64)
    np.add.at(computed, layer, [step_cycles(insn, timing) for insn in program.insns])
    kinds = {record.name: record.kind for record in program.layers}
    return tuple(
        ExplainedLayer(
            name=own.name,
            kind=kinds.get(own.name, ""),
            program=program.symbol,
            cycles=own.cycles,
            bound=own.bound,
            parts=parts[k],
            gemm_cycles=own.gemm_steps * timing.gemm_step,
            compute_cycles=int(computed[k]),
            bus_cycles=int(beats[k]),
            reads=reads[k],
        )
        for k, own in enumerate(result.layers)
    )


def _parts(
    program: Program, cycles: int, table: dict[str, NDArray[np.int64]], timing: TimingProfile
) -> list[dict[str, int]]:
    """Return where the cycles of each layer go, by `PARTS`."""
    names, layer = layers_of(program)
    ends = layer_ends(layer, len(names), program.insns, table["done"], cycles).tolist()
    found = [dict.fromkeys(PARTS, 0) for _ in names]
    done, beats = table["done"].tolist(), table["beats"].tolist()
    k = len(ends) - 1
    for begin, end, i, resource in critical_path(program.insns, table, timing.queue_insns):
        spans = list(_spans(program.insns[i], resource, begin, end, done[i], beats[i], timing))
        for first, last, part in reversed(spans):
            while last > first:
                while k > 0 and last <= ends[k - 1]:
                    k -= 1
                cut = max(first, ends[k - 1] if k else 0)
                found[k][part] += last - cut
                last = cut
    return found


def _spans(
    insn: Insn, resource: str, begin: int, end: int, done: int, beats: int, timing: TimingProfile
) -> Iterator[_Span]:
    """Cut what an instruction adds to the critical path, in order.

    Up to `end` the instruction after it waits: `done`, and a cycle between the two.
    """
    if resource == "fetch":
        yield begin, end, "fetch"
        return
    if resource == "sync":
        yield begin, end, "between"
        return
    done = min(done, end)
    if resource in ("gemm", "alu"):
        steps = min(begin + step_cycles(insn, timing), done)
        yield begin, steps, _computes(insn)
        yield steps, done, "pipeline"
    elif resource == "store":
        yield begin, done, "out"
    else:
        data = max(done - beats, begin)
        yield begin, data, "memory"
        yield data, done, _READS[Memory(insn["memory_type"])]
    yield done, end, "between"


def _computes(insn: Insn) -> str:
    """Return which part of a layer a GEMM or ALU instruction is."""
    if insn.opcode == Opcode.ALU:
        return "alu"
    return "gemm" if insn.origin.purpose == Purpose.GEMM else "gemm_other"


def _reads(program: Program) -> list[dict[str, Reads]]:
    """Return what each layer reads, by kind: all bytes, and each byte of DRAM once."""
    names, layer = layers_of(program)
    spans: list[dict[str, list[tuple[int, int]]]] = [{} for _ in names]
    for k, insn in zip(layer.tolist(), program.insns, strict=True):
        if insn.opcode != Opcode.LOAD or resource_of(insn) == "sync":
            continue
        memory = Memory(insn["memory_type"])
        each = dram_elem_bytes(memory, program.config)
        rows = spans[k].setdefault(_READS[memory], [])
        for y in range(insn["y_size"]):
            first = (insn["dram_base"] + y * insn["x_stride"]) * each
            rows.append((first, first + insn["x_size"] * each))
    return [
        {
            kind: Reads(bytes=sum(e - b for b, e in rows), distinct_bytes=covered(rows))
            for kind, rows in sorted(own.items())
        }
        for own in spans
    ]


def covered(rows: list[tuple[int, int]]) -> int:
    """Return how many bytes intervals cover, each counted once."""
    total = reached = 0
    for begin, end in sorted(rows):
        total += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return total
