"""Where a program's tensors lie in DRAM while its layers run, and what it has of the scratchpads.

Read off the program: which layer reads a tensor is known by the addresses of its LOADs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

from flow.results.details.types import ProgramMemory, Region, Scratchpad
from flow.sim.scratchpads import SCRATCHPADS, bytes_by_layer, capacities
from vta_config.isa import INSN_BYTES, Memory, Opcode
from vta_config.semantics import dram_elem_bytes

if TYPE_CHECKING:
    from flow.program.program import PortTensor, Program
    from vta_config.hardware import VTAConfig

#: Types of memory whose LOADs read activations.
_ACTIVATIONS: Final = (Memory.INP, Memory.ACC, Memory.ACC_8BIT)


def program_memory(program: Program) -> ProgramMemory:
    """Return where the tensors of a program lie, and what each layer touches of the scratchpads."""
    names = tuple(record.name for record in program.layers)
    used = bytes_by_layer(program)
    sizes = capacities(program.config)
    constant_bytes = len(program.constants)
    return ProgramMemory(
        symbol=program.symbol,
        layers=names,
        total_bytes=program.arena_bytes,
        activation_bytes=program.arena_bytes - constant_bytes,
        constant_bytes=constant_bytes,
        insn_bytes=len(program.insns) * INSN_BYTES,
        regions=_regions(program, names),
        scratchpads=tuple(
            Scratchpad(
                name=pad,
                capacity_bytes=sizes[pad],
                layer_bytes=tuple(used.get(name, {}).get(pad, 0) for name in names),
            )
            for pad in SCRATCHPADS
        ),
    )


def _regions(program: Program, names: Sequence[str]) -> tuple[Region, ...]:
    """Return all tensors with the layers that write them and read them last."""
    config = program.config
    tensors: list[tuple[PortTensor, int]] = [(tensor, -1) for tensor in program.inputs]
    tensors += [(record.output, k) for k, record in enumerate(program.layers)]
    spans = [_span(tensor, config) for tensor, _ in tensors]
    last = [first for _, first in tensors]
    reads = _reads(program, names)
    reads[len(names)] = {_span(tensor, config) for tensor in program.outputs}
    there = list(range(len(program.inputs)))
    for layer in range(len(names) + 1):
        for k in there:
            if any(_meet(spans[k], span) for span in reads.get(layer, ())):
                last[k] = layer
        if layer < len(names):  # what it writes takes the place of what lay there
            own = len(program.inputs) + layer
            there = [*(k for k in there if not _meet(spans[k], spans[own])), own]
    return tuple(
        Region(
            name=tensor.name,
            kind=_kind(first, last[k], len(names)),
            address=tensor.address,
            size_bytes=spans[k][1] - spans[k][0],
            first=first,
            last=last[k],
        )
        for k, (tensor, first) in enumerate(tensors)
    )


def _kind(first: int, last: int, layers: int) -> Literal["input", "output", "activation"]:
    if first < 0:
        return "input"
    return "output" if last == layers else "activation"


def _span(tensor: PortTensor, config: VTAConfig) -> tuple[int, int]:
    """Return the first byte of a tensor and that behind its last one."""
    return tensor.address, tensor.address + tensor.bytes_in(config)


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _reads(program: Program, names: Sequence[str]) -> dict[int, set[tuple[int, int]]]:
    """Return the bytes between the first and the last one that each LOAD of a layer reads."""
    places = {name: k for k, name in enumerate(names)}
    sizes = {memory: dram_elem_bytes(memory, program.config) for memory in _ACTIVATIONS}
    found: dict[int, set[tuple[int, int]]] = {}
    for insn in program.insns:
        if insn.opcode != Opcode.LOAD or not insn["x_size"]:
            continue
        layer = places.get(insn.origin.layer or "")
        size = sizes.get(Memory(insn["memory_type"]))
        if layer is not None and size is not None:
            elems = (insn["y_size"] - 1) * insn["x_stride"] + insn["x_size"]
            low = insn["dram_base"] * size
            found.setdefault(layer, set()).add((low, low + elems * size))
    return found
