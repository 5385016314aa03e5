"""Scratchpad bytes: of every program the elements that a layer touches, counted once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.program.program import Program
from flow.sim.scratchpads import SCRATCHPADS, capacities, scratchpad_bytes
from vta_config import VTAConfig
from vta_config.isa import Insn, Memory, Opcode, encode_uop
from vta_config.origin import Origin


def test_nothing_is_used_without_a_program(default_config: VTAConfig) -> None:
    assert scratchpad_bytes([]) == dict.fromkeys(SCRATCHPADS, 0)
    assert capacities(default_config) == {
        "inp": 32768,
        "wgt": 262144,
        "acc": 131072,
        "uop": 32768,
    }


def test_elements_count_once(program: Program) -> None:
    """By hand: 3 rows of 4 inp elements with a padded one at each side, and a GEMM's nest."""
    config, here = program.config, Origin(layer="a")

    def load(memory: Memory, **fields: int) -> Insn:
        return Insn(Opcode.LOAD, {"memory_type": memory, **fields}, here)

    words = [encode_uop(config, dst_idx=index) for index in (5, 6)]
    insns = (
        load(Memory.INP, y_size=3, x_size=4, x_pad_0=1, x_pad_1=1),
        load(Memory.INP, y_size=3, x_size=4, x_pad_0=1, x_pad_1=1),  # over the first
        load(Memory.WGT, y_size=2, x_size=1, sram_base=9),
        load(Memory.WGT, y_size=1, x_size=0),  # a no-op
        load(Memory.UOP, y_size=1, x_size=2, dram_base=program.constants_at // 4),
        Insn(
            Opcode.GEMM,
            {"uop_begin": 0, "uop_end": 2, "iter_out": 2, "iter_in": 3}
            | {"dst_factor_out": 100, "dst_factor_in": 1},
            here,
        ),
        Insn(Opcode.ALU, {"uop_begin": 0, "uop_end": 1, "iter_out": 1, "iter_in": 1}, here),
        Insn(Opcode.FINISH, {}),
    )
    constants = np.array(words, "<u4").tobytes() + program.constants[8:]
    made = replace(program, insns=insns, constants=constants)
    # Indices 5 to 8 and 105 to 108 of acc.
    want = {"inp": 18 * 16, "wgt": 2 * 256, "acc": 8 * 64, "uop": 2 * 4}
    assert scratchpad_bytes([made]) == want
    other = replace(made, insns=tuple(replace(i, origin=Origin(layer="b")) for i in insns[:1]))
    assert scratchpad_bytes([made, other]) == want


def test_a_program_stays_within_the_machine(program: Program) -> None:
    peaks = scratchpad_bytes([program])
    available = capacities(program.config)
    assert all(0 < peaks[name] <= available[name] for name in SCRATCHPADS)
