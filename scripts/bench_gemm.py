"""The time of a GEMM step on machines of other operands: the same loops, without a network."""

from __future__ import annotations

import statistics
import time

import numpy as np

from flow.sim.fsim import FSim
from vta_config import VTAConfig
from vta_config.isa import Insn, Memory, Opcode, encode, encode_uop
from vta_config.semantics import dram_elem_bytes

#: Where its parts lie: bytes.
_UOPS, _WEIGHTS, _INPUTS, _OUTPUTS, _ARENA = 1 << 12, 1 << 20, 1 << 21, 3 << 20, 1 << 22
#: Pixels that share a weight: of ResNet-18's last stage, where loading weights counts most.
_SIDE, _KERNEL, _ROUNDS = 7, 3, 8


def _gemm_insns(config: VTAConfig) -> tuple[list[Insn], list[int], int]:
    """Return rounds of weights, inputs, GEMM and STORE; their micro-ops; GEMM steps of them all."""
    edge, taps = _SIDE + _KERNEL - 1, _KERNEL * _KERNEL
    blocks = min(config.wgt_depth // taps, config.inp_depth // edge**2)
    inp = [(u // taps) * edge * edge + u // 3 % 3 * edge + u % 3 for u in range(taps * blocks)]
    uops = [encode_uop(config, dst_idx=0, src_idx=s, wgt_idx=u) for u, s in enumerate(inp)]
    nest = {"iter_out": _SIDE, "iter_in": _SIDE, "dst_factor_out": _SIDE, "dst_factor_in": 1}
    steps = _SIDE * _SIDE * len(uops)

    def mem(opcode: Opcode, memory: Memory, address: int, count: int, **tokens: int) -> Insn:
        size = dram_elem_bytes(memory, config)
        fields = {"dram_base": address // size, "x_size": count, "x_stride": count, "y_size": 1}
        return Insn(opcode, {"memory_type": memory, **fields, **tokens})

    insns = [mem(Opcode.LOAD, Memory.UOP, _UOPS, len(uops))]
    for number in range(_ROUNDS):
        later, more = int(number > 0), int(number < _ROUNDS - 1)
        clear = {"uop_end": 1, "reset": 1, "pop_prev": 1, "pop_next": later}
        sources = {"src_factor_out": edge, "src_factor_in": 1, "uop_end": len(uops)}
        insns += [
            mem(Opcode.LOAD, Memory.WGT, _WEIGHTS, len(uops), pop_next=later),
            mem(Opcode.LOAD, Memory.INP, _INPUTS, blocks * edge * edge, push_next=1),
            Insn(Opcode.GEMM, {**nest, **clear}),
            Insn(Opcode.GEMM, {**nest, **sources, "push_prev": more, "push_next": 1}),
            mem(Opcode.STORE, Memory.OUT, _OUTPUTS, _SIDE * _SIDE, pop_prev=1, push_prev=1),
        ]
    return [*insns, Insn(Opcode.FINISH, {"pop_next": 1})], uops, steps * _ROUNDS


def gemm_step_ns(names: tuple[str, ...], repeats: int = 9) -> list[float]:
    """Run random numbers on machines in turns; return the median nanoseconds a GEMM step of each.

    Loads and stores are part of it: each weight is loaded for 49 steps.
    """
    sims = []
    for name in names:
        config = VTAConfig.load(name)
        insns, uops, steps = _gemm_insns(config)
        stream = b"".join(encode(insn, config) for insn in insns)
        sim = FSim(config, stream, arena=(_UOPS, _ARENA))
        sim.write(_UOPS, np.random.default_rng(0).integers(0, 256, _ARENA, dtype=np.uint8))
        sim.write(_UOPS, np.array(uops, "<u4"))
        sim.run()
        sims.append((sim, steps))
    times: list[list[float]] = [[] for _ in sims]
    for _ in range(repeats):
        for (sim, steps), each in zip(sims, times, strict=True):
            begin = time.perf_counter()
            sim.run()
            each.append(1e9 * (time.perf_counter() - begin) / steps)
    return [statistics.median(each) for each in times]
