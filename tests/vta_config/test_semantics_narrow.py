"""The oracle on machines with 4-bit operands: cases by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.vta_config.test_semantics import alu
from vta_config import VTAConfig
from vta_config.isa import AluOp, Insn, Memory, Opcode
from vta_config.semantics import Dram, MachineState, step


def narrow_machine(data: bytes) -> MachineState:
    """Return `w4a4` with `data` at address 0 and micro-op 0 naming element 0 of each memory."""
    memory = np.zeros(4096, np.uint8)
    memory[: len(data)] = np.frombuffer(data, np.uint8)
    state = MachineState(config=VTAConfig.load("w4a4"), dram=Dram([(0, memory)]))
    state.written["uop"][0] = True
    return state


def transfer(opcode: Opcode, memory: Memory, **fields: int) -> Insn:
    return Insn(opcode, {"memory_type": memory, "x_size": 1, "y_size": 1, **fields})


def test_lanes_of_4_bits() -> None:
    """Lane 0 lies in bits 0 to 3; products of -8 and 7 are exact; STORE keeps the low 4 bits."""
    inp, wgt = b"\x78" * 8, b"\x87" * 64 + b"\x88" * 64
    state = narrow_machine(inp + bytes(120) + wgt)
    step(state, transfer(Opcode.LOAD, Memory.INP))
    step(state, transfer(Opcode.LOAD, Memory.WGT, dram_base=1))
    assert state.inp[0, 0].tolist() == [-8, 7] * 8
    assert state.wgt[0, 0].tolist() == [7, -8] * 8 and (state.wgt[0, 8:] == -8).all()
    state.acc[0], state.written["acc"][0] = 0, True
    step(state, Insn(Opcode.GEMM, {"uop_end": 1, "iter_out": 1, "iter_in": 1}))
    assert state.acc[0, 0].tolist() == [-896] * 8 + [64] * 8
    step(state, alu(AluOp.ADD, use_imm=1, imm=901))
    assert state.acc[0, 0].tolist() == [5] * 8 + [965] * 8
    assert state.out[0, 0].tolist() == [5] * 16  # 965 = 60 * 16 + 5
    step(state, alu(AluOp.ADD, use_imm=1, imm=4))
    step(state, transfer(Opcode.STORE, Memory.OUT, dram_base=100))
    assert state.out[0, 0].tolist() == [-7] * 16
    assert bytes(state.dram.view(800, 8)) == b"\x99" * 8
    assert (state.counters.inp_bytes, state.counters.wgt_bytes) == (8, 128)
    assert state.counters.out_bytes == 8


def test_acc_8bit_loads_int8_whatever_inp_is() -> None:
    state = narrow_machine(bytes(16) + bytes(range(248, 256)) + bytes(range(8)))
    state.config = replace(state.config, capabilities=frozenset({"acc_8bit"}))
    step(state, transfer(Opcode.LOAD, Memory.ACC_8BIT, dram_base=1))
    assert state.acc[0, 0].tolist() == [*range(-8, 8)]
    assert state.counters.acc_bytes == 64
