"""The equations of docs/isa.md are executed and compared with the semantics."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vta_config import VTAConfig, isa
from vta_config.equations import EQUATIONS
from vta_config.isa import AluOp, Insn, Memory, Opcode, decode_uop, encode_uop
from vta_config.semantics import Dram, MachineState, step

CONFIG = replace(VTAConfig.load("small"), capabilities=frozenset({"mul", "shr_register"}))
OPERATIONS = {  # the column op(a, b) of the ALU table
    AluOp.MIN: np.minimum,
    AluOp.MAX: np.maximum,
    AluOp.ADD: np.add,
    AluOp.SHR: lambda a, b: np.where(b >= 0, a >> np.maximum(b, 0), a << np.maximum(-b, 0)),
    AluOp.MUL: np.multiply,
}


def code(name: str, number: int = 0) -> str:
    """Return an indented part of the text as Python."""
    found = re.findall(r"(?:^    .*\n)+", EQUATIONS[name], re.M)[number]
    text = textwrap.dedent(found).replace("inp[src] · wgt[wgt]ᵀ", "inp[src] @ wgts[wgt].T")
    assert text.isascii()
    return text


def state() -> tuple[MachineState, np.ndarray]:
    rng = np.random.default_rng(3)
    memory = rng.integers(0, 256, 1 << 14, np.uint8)
    machine = MachineState(config=CONFIG, dram=Dram([(0, memory)]), strict=False)
    for pad in ("inp", "wgt", "out"):
        machine.pad(pad)[:] = rng.integers(-128, 128, machine.pad(pad).shape)
    machine.acc[:] = rng.integers(-(1 << 31), 1 << 31, machine.acc.shape)
    uops = [(3, 1, 2), (0, 4, 1), (3, 2, 0)]
    machine.uop[:3] = [
        encode_uop(CONFIG, dst_idx=dst, src_idx=src, wgt_idx=wgt) for dst, src, wgt in uops
    ]
    return machine, memory


def names_of(insn: Insn, machine: MachineState) -> dict[str, Any]:
    """Return copies of the scratchpads and the fields of an instruction, by their names."""
    fields = {f.name: insn[f.name] for f in isa.FORMAT_OF_OPCODE[insn.opcode].fields}
    pads = {pad: machine.pad(pad).copy() for pad in ("inp", "acc", "out")}  # type: ignore[arg-type]
    uop = [SimpleNamespace(**decode_uop(int(word), CONFIG)) for word in machine.uop]
    return {**fields, **pads, "wgts": machine.wgt.copy(), "uop": uop}


NEST = dict(uop_begin=0, uop_end=3, iter_out=2, iter_in=3, dst_factor_out=5, dst_factor_in=1)


def test_gemm() -> None:
    machine, _ = state()
    values = NEST | dict(src_factor_out=1, src_factor_in=2, wgt_factor_out=3, wgt_factor_in=1)
    insn = Insn(Opcode.GEMM, values)
    names = names_of(insn, machine)
    names["inp"], names["wgts"] = names["inp"].astype(np.int32), names["wgts"].astype(np.int32)
    exec(code("gemm"), names)
    step(machine, insn)
    assert np.array_equal(names["acc"], machine.acc) and np.array_equal(names["out"], machine.out)


@pytest.mark.parametrize("use_imm", [0, 1])
@pytest.mark.parametrize("op", list(AluOp))
def test_alu(op: AluOp, use_imm: int) -> None:
    machine, _ = state()
    if op == AluOp.SHR:
        machine.acc[:] %= 31  # amounts, when it is a register
    values = NEST | dict(src_factor_out=2, src_factor_in=1, alu_opcode=op, use_imm=use_imm, imm=3)
    insn = Insn(Opcode.ALU, values)
    names = names_of(insn, machine) | {"op": OPERATIONS[op]}
    exec(code("alu"), names)
    step(machine, insn)
    assert np.array_equal(names["acc"], machine.acc) and np.array_equal(names["out"], machine.out)
    assert f"| {op.name} |" in EQUATIONS["alu"]


def test_load() -> None:
    machine, memory = state()
    pads = dict(y_pad_0=1, y_pad_1=2, x_pad_0=2, x_pad_1=1)
    sizes = dict(y_size=3, x_size=4, x_stride=6, sram_base=5, dram_base=7)
    insn = Insn(Opcode.LOAD, pads | sizes | {"memory_type": Memory.INP})
    names = names_of(insn, machine)
    names |= {
        "sram": names["inp"],
        "dram": memory.view(np.int8).reshape(-1, *names["inp"][0].shape),
    }
    exec(code("mem"), names)
    step(machine, insn)
    assert np.array_equal(names["sram"], machine.inp)


def test_store() -> None:
    machine, memory = state()
    sizes = dict(y_size=3, x_size=4, x_stride=6, sram_base=5, dram_base=7)
    insn = Insn(Opcode.STORE, sizes | {"memory_type": Memory.OUT})
    names = names_of(insn, machine)
    dram = memory.view(np.int8).reshape(-1, *names["out"][0].shape).copy()
    exec(code("mem", 1), names | {"dram": dram})
    step(machine, insn)
    assert np.array_equal(dram.reshape(-1), memory.view(np.int8))
