"""The limits of the hardware and of the portable subset, each stated once.

docs/machine.md ("The portable subset") says where implementations of VTA disagree; programs of this
compiler stay where all agree. Limits that follow from the width of a field (`MAX_PAD`, `MAX_IMM`,
...) are those of the instruction table, `vta_config.isa`. The C++ core has these numbers from
``flow/sim/core/machine.gen.h``, which `vta_config.generate` writes.
"""

from __future__ import annotations

from typing import Final

#: Tokens of one kind that may wait: the hardware's counters have 8 bits.
MAX_TOKENS: Final = 255
#: Instructions that the queue of a module holds (CoreParams.instQueueEntries).
QUEUE_INSNS: Final = 512
#: Micro-ops that a program may hold at a time: the stock Chisel core has so many, whatever the
#: machine's file says.
PORTABLE_UOPS: Final = 2048
#: The largest immediate of SHR. Larger shifts are several instructions.
MAX_SHIFT: Final = 15
#: The largest shift of an accumulator by one register or several immediates.
MAX_ACC_SHIFT: Final = 31
#: The largest int8 whose negative is an int8, too: `VTAConfig.wgt_max` of 8-bit weights.
MAX_WEIGHT: Final = 127
#: GEMM steps that add one residual at most, each by a diagonal weight up to `MAX_WEIGHT`.
MAX_RESIDUAL_STEPS: Final = 64
#: How often a residual can be added.
MAX_RESIDUAL: Final = MAX_RESIDUAL_STEPS * MAX_WEIGHT


def constant_units(inp_max: int = MAX_WEIGHT, wgt_max: int = MAX_WEIGHT) -> tuple[int, ...]:
    """Return the last lanes of the inp element that constants are multiplied with, largest first.

    The lanes before them are `inp_max`, and weights, up to `wgt_max`, are the digits. What is less
    than half of `inp_max` must be a sum of digits times units: (1,) on machines of equal widths,
    (15, 1) where inp has 8 bits and wgt 4.
    """
    units = [1]
    while wgt_max * sum(units) < inp_max // 2:
        units.insert(0, units[0] * (2 * wgt_max + 1))
    return tuple(units)


def constant_reach(block: int, inp_max: int = MAX_WEIGHT, wgt_max: int = MAX_WEIGHT) -> int:
    """Return the largest constant that one GEMM step adds to an accumulator.

    The step multiplies lanes of `inp_max` and the units with weights up to `wgt_max`; with one
    unit: wgt_max · (inp_max · (block − 1) + 1).

    Parameters
    ----------
    block : int
        Lanes.
    inp_max, wgt_max : int
        Those of `VTAConfig`; 127 unless given.
    """
    units = constant_units(inp_max, wgt_max)
    return wgt_max * (inp_max * (block - len(units)) + sum(units))


def uop_room(uop_depth: int) -> int:
    """Return the micro-ops that a program may hold at a time in a buffer of `uop_depth`."""
    return min(uop_depth, PORTABLE_UOPS)
