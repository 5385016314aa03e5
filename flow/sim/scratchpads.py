"""How much of the scratchpads a program uses: the elements that one layer touches, at most."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np

from vta_config.isa import UOP_BYTES, Insn, Memory, Opcode, decode_uop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flow.program.program import Program
    from vta_config.hardware import VTAConfig

#: Scratchpads in the order of the report.
SCRATCHPADS: Final = ("inp", "wgt", "acc", "uop")
#: Which of them a LOAD of a type of memory fills.
_FILLED: Final = {
    Memory.INP: "inp",
    Memory.WGT: "wgt",
    Memory.ACC: "acc",
    Memory.ACC_8BIT: "acc",
    Memory.UOP: "uop",
}


def scratchpad_bytes(programs: Sequence[Program]) -> dict[str, int]:
    """Return the most bytes of each scratchpad that a layer touches.

    An element counts once, however often it is written. The out buffer mirrors acc and does not
    count of its own.

    Returns
    -------
    dict of str to int
        By the names of `SCRATCHPADS`.
    """
    peaks = dict.fromkeys(SCRATCHPADS, 0)
    for program in programs:
        for used in bytes_by_layer(program).values():
            peaks = {name: max(peaks[name], used[name]) for name in SCRATCHPADS}
    return peaks


def capacities(config: VTAConfig) -> dict[str, int]:
    """Return the bytes of each scratchpad of a machine."""
    return {name: depth * each for name, (depth, each) in _sizes(config).items()}


def _sizes(config: VTAConfig) -> dict[str, tuple[int, int]]:
    """Return the elements of each scratchpad, and the bytes of one."""
    return {
        "inp": (config.inp_depth, config.inp_elem_bytes),
        "wgt": (config.wgt_depth, config.wgt_elem_bytes),
        "acc": (config.acc_depth, config.acc_elem_bytes),
        "uop": (config.uop_depth, UOP_BYTES),
    }


def bytes_by_layer(program: Program) -> dict[str | None, dict[str, int]]:
    """Return the bytes of each scratchpad that each layer of a program touches.

    Returns
    -------
    dict of (str or None) to dict of str to int
        By layer, what works for none by None; by the names of `SCRATCHPADS`.
    """
    config, arena = program.config, program.new_arena()
    sizes = _sizes(config)
    destinations = np.zeros(config.uop_depth, np.int64)  # of the micro-ops in the scratchpad
    found: dict[str | None, dict[str, int]] = {}
    for layer, group in groupby(program.insns, key=lambda insn: insn.origin.layer):
        touched = {name: np.zeros(depth, bool) for name, (depth, _) in sizes.items()}
        for insn in group:
            if insn.opcode == Opcode.LOAD:
                name = _FILLED[Memory(insn["memory_type"])]
                first, count = insn["sram_base"], _loaded(insn)
                touched[name][first : first + count] = True
                if name == "uop":
                    destinations[first : first + count] = _uop_destinations(insn, arena, program)
            elif insn.opcode in (Opcode.GEMM, Opcode.ALU):
                touched["acc"][_written(insn, destinations)] = True
        own = found.setdefault(layer, dict.fromkeys(SCRATCHPADS, 0))
        for name, elements in touched.items():
            own[name] = max(own[name], int(np.count_nonzero(elements)) * sizes[name][1])
    return found


def _loaded(insn: Insn) -> int:
    """Return the elements that a LOAD writes, padding included; 0 of a no-op."""
    if not insn["x_size"]:
        return 0
    rows = insn["y_pad_0"] + insn["y_size"] + insn["y_pad_1"]
    return rows * (insn["x_pad_0"] + insn["x_size"] + insn["x_pad_1"])


def _uop_destinations(insn: Insn, arena: NDArray[np.uint8], program: Program) -> NDArray[np.int64]:
    """Return the acc index that each loaded micro-op writes to."""
    begin, count = insn["dram_base"] * UOP_BYTES, insn["x_size"]
    words = arena[begin : begin + count * UOP_BYTES].view("<u4")
    return np.array([decode_uop(int(w), program.config)["dst_idx"] for w in words], np.int64)


def _written(insn: Insn, destinations: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the acc indices that a GEMM or ALU writes to."""
    outer = np.arange(insn["iter_out"])[:, np.newaxis, np.newaxis] * insn["dst_factor_out"]
    inner = np.arange(insn["iter_in"])[:, np.newaxis] * insn["dst_factor_in"]
    written: NDArray[np.int64] = destinations[insn["uop_begin"] : insn["uop_end"]] + outer + inner
    return written
