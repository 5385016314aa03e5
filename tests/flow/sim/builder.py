"""Small legal programs for the tests of the simulators."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vta_config.hardware import VTAConfig
from vta_config.isa import AluOp, Insn, Memory, Opcode, encode, encode_uop
from vta_config.origin import Origin
from vta_config.semantics import dram_elem_bytes

PAGE = 4096


@dataclass
class Builder:
    """Collects instructions and micro-ops; addresses are bytes from the arena's start."""

    config: VTAConfig = field(default_factory=lambda: VTAConfig.load("default"))
    insns: list[Insn] = field(default_factory=list)
    uops: list[int] = field(default_factory=list)
    uop_at: int = 0

    def add(self, opcode: Opcode, tokens: str = "", **values: int) -> int:
        """Append an instruction; `tokens` among "<p >p <n >n": pop or push, prev or next."""
        names = {"<p": "pop_prev", ">p": "push_prev", "<n": "pop_next", ">n": "push_next"}
        flags = {names[t]: 1 for t in tokens.split()}
        self.insns.append(
            Insn(opcode, {**values, **flags}, Origin(purpose=f"step {len(self.insns)}"))
        )
        return len(self.insns) - 1

    def mem(
        self,
        opcode: Opcode,
        memory: Memory,
        address: int,
        sram: int,
        x: int,
        tokens: str = "",
        y: int = 1,
        **values: int,
    ) -> int:
        size = dram_elem_bytes(memory, self.config)
        assert address % size == 0
        return self.add(
            opcode,
            tokens,
            memory_type=memory,
            sram_base=sram,
            dram_base=address // size,
            y_size=y,
            x_size=x,
            **{"x_stride": x, **values},
        )

    def load(
        self, memory: Memory, address: int, sram: int, x: int, tokens: str = "", **values: int
    ) -> int:
        return self.mem(Opcode.LOAD, memory, address, sram, x, tokens, **values)

    def store(self, address: int, sram: int, x: int, tokens: str = "", **values: int) -> int:
        return self.mem(Opcode.STORE, Memory.OUT, address, sram, x, tokens, **values)

    def uop(self, dst: int, src: int = 0, wgt: int = 0) -> int:
        self.uops.append(encode_uop(self.config, dst_idx=dst, src_idx=src, wgt_idx=wgt))
        return len(self.uops) - 1

    def gemm(self, begin: int, end: int, tokens: str = "", **values: int) -> int:
        return self.add(
            Opcode.GEMM,
            tokens,
            uop_begin=begin,
            uop_end=end,
            **{"iter_out": 1, "iter_in": 1, **values},
        )

    def alu(self, op: AluOp, begin: int, end: int, tokens: str = "", **values: int) -> int:
        return self.add(
            Opcode.ALU,
            tokens,
            alu_opcode=op,
            uop_begin=begin,
            uop_end=end,
            **{"iter_out": 1, "iter_in": 1, **values},
        )

    def change(self, index: int, **values: int) -> None:
        """Give an instruction other values of some fields."""
        self.insns[index] = self.insns[index].having(**values)

    def finish(self, tokens: str = "<n") -> int:
        return self.add(Opcode.FINISH, tokens)

    @property
    def stream(self) -> bytes:
        return b"".join(encode(insn, self.config) for insn in self.insns)

    @property
    def uop_bytes(self) -> NDArray[np.uint8]:
        return np.asarray(self.uops, "<u4").view(np.uint8)

    @property
    def origins(self) -> list[str]:
        return [str(insn.origin) for insn in self.insns]


# Where the parts of `conv` lie in the arena.
UOP, WGT, INP, OUT, ARENA = 0, PAGE, 2 * PAGE, 3 * PAGE, 8 * PAGE


def conv(config: VTAConfig | None = None, tiles: int = 2, pixels: int = 4) -> Builder:
    """Build `tiles` tiles of a 1x1 convolution of `pixels` elements each, double buffered.

    Every tile loads inp, clears acc, multiplies, shifts, clips and stores; tile t uses one half of
    inp and acc, and waits for what used it before.
    """
    b = Builder(config or VTAConfig.load("default"), uop_at=UOP)
    half = pixels
    for t in range(2):
        b.uop(dst=t * half, src=t * half, wgt=0)
    b.load(Memory.UOP, UOP, 0, len(b.uops))
    size = b.config.inp_elem_bytes
    for t in range(tiles):
        part = t % 2
        reused = t >= 2
        b.load(
            Memory.INP, INP + t * pixels * size, part * half, pixels, "<n >n" if reused else ">n"
        )
        if t == 0:
            b.change(-1, push_next=0)
            b.load(Memory.WGT, WGT, 0, 1, ">n")
        nest = {"iter_in": pixels, "dst_factor_in": 1}
        b.gemm(part, part + 1, "<n" if reused else "", reset=1, **nest)
        b.gemm(part, part + 1, "<p >p" if t + 2 < tiles else "<p", src_factor_in=1, **nest)
        b.alu(AluOp.SHR, part, part + 1, use_imm=1, imm=4, **nest)
        b.alu(AluOp.MIN, part, part + 1, use_imm=1, imm=127, **nest)
        b.alu(AluOp.MAX, part, part + 1, ">n", use_imm=1, imm=-127, **nest)
        b.store(OUT + t * pixels * size, part * half, pixels, "<p >p")
    for _ in range(min(tiles, 2) - 1):
        b.load(Memory.UOP, 0, 0, 0, "<n")
    b.finish()
    return b
