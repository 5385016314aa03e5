"""What the simulator refuses: every sentence, and what only `strict` refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builder import ARENA, INP, OUT, PAGE, UOP, WGT, Builder, conv

from flow.sim import FSim
from flow.sim.core_library import core_function
from vta_config.config_words import config_words
from vta_config.errors import (
    CapacityError,
    ConfigError,
    DeadlockError,
    DecodeError,
    FlowError,
    HazardError,
)
from vta_config.hardware import VTAConfig
from vta_config.isa import AluOp, Insn, Memory, Opcode
from vta_config.origin import Origin

STORE0, STORE1 = 8, 15  # the STOREs of conv(tiles=2)


def verify(b: Builder, *, strict: bool = True, stream: bytes | None = None, **options: Any) -> FSim:
    sim = FSim(
        b.config, stream or b.stream, arena=(0, ARENA), strict=strict, origins=b.origins, **options
    )
    sim.write(b.uop_at, b.uop_bytes)
    sim.verify()
    return sim


def refuse(
    kind: type[FlowError], sentence: str, b: Builder, stream: bytes | None = None, **options: Any
) -> None:
    with pytest.raises(FlowError, match=sentence) as caught:
        verify(b, stream=stream, **options)
    assert type(caught.value) is kind


def changed(index: int, b: Builder | None = None, **values: int) -> Builder:
    """Return conv with other field values in one instruction."""
    b = b or conv()
    b.change(index, **values)
    return b


def test_legal_programs() -> None:
    for tiles in (1, 2, 3, 6):
        verify(conv(tiles=tiles))


# ---- encoding
def word(b: Builder, index: int, change: Callable[[int], int]) -> bytes:
    data = b.stream
    value = int.from_bytes(data[16 * index : 16 * index + 16], "little")
    return data[: 16 * index] + change(value).to_bytes(16, "little") + data[16 * index + 16 :]


def test_encoding() -> None:
    b = conv()
    refuse(DecodeError, "^stream: must be a multiple of 16 bytes, got 5; is", b, b.stream[:5])
    refuse(
        DecodeError,
        r"^insn.opcode: must be in \[0, 4\], got 7; insn 3, step 3$",
        b,
        word(b, 3, lambda v: v | 7),
    )
    stray = word(b, 0, lambda v: v | 1 << 63)
    refuse(
        DecodeError,
        r"^LOAD: bits that no field covers must be 0, got 0x0{16}80*; insn 0, step 0$",
        b,
        stray,
    )
    verify(b, stream=stray, strict=False)
    stray = word(b, 3, lambda v: v | 1 << 63)
    refuse(DecodeError, "^GEMM: bits that no field covers must be 0", b, stray)
    last = len(b.insns) - 1
    stray = word(b, last, lambda v: v | 1 << 40)
    refuse(DecodeError, "^FINISH: bits other than opcode and tokens must be 0", b, stray)
    verify(b, stream=stray, strict=False)


def test_memory_types() -> None:
    refuse(
        DecodeError,
        r"^LOAD.memory_type: must be in \[0, 5\], got 6; insn 1, step 1$",
        changed(1, memory_type=6),
    )
    refuse(
        DecodeError,
        "^LOAD.memory_type: must not be OUT, got OUT; insn 1",
        changed(1, memory_type=Memory.OUT),
    )
    refuse(
        DecodeError,
        "^LOAD.memory_type: ACC_8BIT must be a capability of the machine, got",
        changed(1, memory_type=Memory.ACC_8BIT),
    )
    refuse(
        DecodeError,
        "^STORE.memory_type: must be OUT, got ACC; insn 8, step 8$",
        changed(STORE0, memory_type=Memory.ACC),
    )


def test_alu_opcodes() -> None:
    refuse(DecodeError, r"^ALU.alu_opcode: must be in \[0, 4\], got 5", changed(5, alu_opcode=5))
    b = changed(5, alu_opcode=AluOp.MUL)
    refuse(DecodeError, "^ALU.alu_opcode: MUL must be a capability of the machine, got", b)
    b.config = replace(b.config, capabilities=frozenset({"mul"}))
    verify(b)
    for imm in (-15, 15):  # a negative one shifts to the left
        verify(changed(5, alu_opcode=AluOp.SHR, imm=imm))
    for imm in (-16, 16):
        b = changed(5, alu_opcode=AluOp.SHR, imm=imm)
        refuse(DecodeError, rf"^ALU.imm: must be in \[-15, 15\] for SHR, got {imm}; insn 5", b)
        verify(b, strict=False)
    b = changed(5, alu_opcode=AluOp.SHR, use_imm=0, src_factor_in=1)
    sentence = "^ALU.use_imm: must be 1 for SHR, or SHR_REGISTER a capability of the machine, got 0"
    refuse(DecodeError, sentence, b)
    verify(b, strict=False)
    b.config = replace(b.config, capabilities=frozenset({"shr_register"}))
    verify(b)


def test_acc_8bit() -> None:
    config = replace(VTAConfig.load("default"), capabilities=frozenset({"acc_8bit"}))
    b = Builder(config)
    b.uop(0)
    b.load(Memory.UOP, UOP, 0, 1)
    b.load(Memory.ACC_8BIT, INP, 0, 2)
    b.alu(AluOp.ADD, 0, 1, ">n", use_imm=1, imm=-1, iter_in=2, dst_factor_in=1)
    b.store(OUT, 0, 2, "<p >p")
    b.finish()
    sim = verify(b)
    x = np.arange(-16, 16, dtype=np.int8)
    sim.write(INP, x)
    sim.run()
    np.testing.assert_array_equal(sim.read(OUT, 32).view(np.int8), x - 1)
    assert sim.counters()["acc_bytes"] == 128


def test_acc_8bit_of_narrow_operands() -> None:
    """ACC_8BIT reads 16 bytes an element where inp and out have 8; STORE keeps the low nibbles."""
    config = replace(VTAConfig.load("w4a4"), capabilities=frozenset({"acc_8bit"}))
    b = Builder(config)
    b.uop(0)
    b.load(Memory.UOP, UOP, 0, 1)
    b.load(Memory.ACC_8BIT, INP, 0, 2)
    b.alu(AluOp.ADD, 0, 1, ">n", use_imm=1, imm=-1, iter_in=2, dst_factor_in=1)
    b.store(OUT, 0, 2, "<p >p")
    b.finish()
    sim = verify(b)
    x = np.arange(-16, 16, dtype=np.int8)
    sim.write(INP, x)
    sim.run()
    lanes = (x.astype(int) - 1) & 15
    np.testing.assert_array_equal(sim.read(OUT, 16), lanes[::2] | lanes[1::2] << 4)
    assert (sim.counters()["acc_bytes"], sim.counters()["out_bytes"]) == (128, 16)


def test_shapes_of_transfers() -> None:
    for field in ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"):
        refuse(
            DecodeError, f"^STORE.{field}: must be 0, got 2; insn 8", changed(STORE0, **{field: 2})
        )
        b = changed(0, **{field: 1})
        refuse(DecodeError, f"^LOAD.{field}: must be 0, got 1; insn 0", b)
    refuse(DecodeError, "^LOAD.y_size: must be at least 1, got 0; insn 1", changed(1, y_size=0))
    refuse(DecodeError, "^LOAD.y_size: must be 1 for micro-ops, got 2", changed(0, y_size=2))
    b = changed(3, iter_in=0)
    refuse(DecodeError, "^GEMM: must have at least one step, got none; insn 3, step 3$", b)
    b = Builder()
    b.load(Memory.UOP, UOP, 0, 3, y=2, x_stride=1, x_pad_0=1)  # allowed where not strict
    verify(b, strict=False)


# ---- ranges
def test_scratchpad_ranges() -> None:
    refuse(
        CapacityError,
        "^LOAD.sram_base: must address inp elements below 2048, got 2049; insn 1",
        changed(1, sram_base=2046),
    )
    refuse(
        CapacityError,
        "^LOAD.sram_base: must address wgt elements below 1024, got 1024; insn 2",
        changed(2, sram_base=1024),
    )
    refuse(
        CapacityError,
        "^LOAD.sram_base: must address uop elements below 8192, got 8192; insn 0",
        changed(0, sram_base=8191),
    )
    refuse(
        CapacityError,
        "^STORE.sram_base: must address acc elements below 2048, got 2050; insn 8",
        changed(STORE0, sram_base=2047),
    )
    refuse(
        CapacityError,
        "^GEMM.uop_end: must address uop elements below 8192, got 8199; insn 3",
        changed(3, uop_end=8200),
    )
    b = changed(4, iter_in=16383, iter_out=16383)
    refuse(CapacityError, "^GEMM: must have at most 16777216 steps, got 268402689; insn 4", b)


def test_indices() -> None:
    b = changed(3, dst_factor_in=1000)
    refuse(CapacityError, "^GEMM.dst: must address acc elements below 2048, got 3000; insn 3", b)
    b = changed(4, src_factor_in=1000)
    refuse(CapacityError, "^GEMM.src: must address inp elements below 2048, got 3000; insn 4", b)
    b = changed(4, wgt_factor_in=1000)
    refuse(CapacityError, "^GEMM.wgt: must address wgt elements below 1024, got 3000; insn 4", b)
    b = changed(5, alu_opcode=AluOp.ADD, use_imm=0, src_factor_in=1000)
    refuse(CapacityError, "^ALU.src: must address acc elements below 2048, got 3000; insn 5", b)
    verify(changed(3, src_factor_in=2047, wgt_factor_in=1023))  # reset reads neither


def test_the_src_beside_an_immediate_stays_in_acc() -> None:
    """Nothing reads it, but the original functional simulator looks it up and stops."""
    b = changed(5, src_factor_in=1000)
    assert b.insns[5]["use_imm"] == 1
    refuse(CapacityError, "^ALU.src: must address acc elements below 2048, got 3000; insn 5", b)
    verify(b, strict=False)
    verify(changed(5, src_factor_in=600))


def test_dram_ranges() -> None:
    b = changed(1, dram_base=ARENA // 16 - 3)
    refuse(
        CapacityError,
        r"^LOAD.dram_base: must stay inside the DRAM segments \[0x0, 0x8000\), "
        r"got \[0x7fd0, 0x8010\); insn 1, step 1$",
        b,
    )
    b = changed(STORE0, y_size=2, x_size=2, x_stride=65535)
    refuse(CapacityError, "^STORE.dram_base: must stay inside the DRAM segments", b)
    config = VTAConfig.load("default")
    with pytest.raises(CapacityError, match=r"^LOAD.dram_base: .* \(none\), got"):
        FSim(config, b.stream, arena=[])
    with pytest.raises(
        CapacityError,
        match=r"^dram segment \[0x8, 0x10\): must start after the one before it ends, "
        r"got \[0x0, 0x9\)$",
    ):
        FSim(config, b.stream, arena=[(8, 8), (0, 9)])
    with pytest.raises(CapacityError, match=r"^dram segment: must end below 2\^40, got"):
        FSim(config, b.stream, arena=(1 << 40, 1))


def test_adjacent_segments_join() -> None:
    b = conv()
    FSim(b.config, b.stream, arena=[(INP + 32, ARENA - INP - 32), (0, INP + 32)])


def test_reads_writes_and_taps() -> None:
    sim = verify(conv())
    with pytest.raises(CapacityError, match=r"^write: must stay inside the DRAM segments"):
        sim.write(ARENA - 1, b"ab")
    with pytest.raises(CapacityError, match=r"^read: must stay inside the DRAM segments"):
        sim.read(ARENA, 1)
    with pytest.raises(CapacityError, match=r"^tap.insn: must be below 18 instructions, got 18$"):
        sim.run(taps=[(18, 0, 1)])
    with pytest.raises(CapacityError, match=r"^tap.address: must stay inside the DRAM segments"):
        sim.run(taps=[(0, ARENA, 1)])
    with pytest.raises(ConfigError, match=r"^kernels: must be ones that this processor and block"):
        verify(conv(), kernels="abacus")


def test_taps_see_memory_right_after_the_instruction() -> None:
    b = conv(tiles=2)
    b.change(STORE1, dram_base=OUT // 16)  # both tiles are stored at the same place
    sim = verify(b)
    rng = np.random.default_rng(0)
    sim.write(WGT, rng.integers(-128, 128, 256, dtype=np.int8))
    sim.write(INP, rng.integers(-128, 128, 128, dtype=np.int8))
    last, first, before = sim.run(taps=[(STORE1, OUT, 64), (STORE0, OUT, 64), (0, OUT, 64)])
    np.testing.assert_array_equal(last, sim.read(OUT, 64))
    assert (first != last).any()
    assert (before == 0).all()


# ---- FINISH
def test_finish() -> None:
    b = conv()
    finish = b.insns.pop()
    refuse(HazardError, r"^program: must end with FINISH, got insn 16 LOAD UOP \(step 16\); ap", b)
    b.insns.pop()
    b.insns.append(replace(finish, values={}))
    refuse(HazardError, "^tokens STORE to COMPUTE: must all be popped .*, got 2 left; the las", b)
    b = conv(tiles=1)
    b.insns.insert(
        len(b.insns) - 1, Insn(Opcode.LOAD, {"memory_type": Memory.INP}, Origin(purpose="late"))
    )
    refuse(
        HazardError,
        r"^FINISH: must wait until every instruction is done, got no token that orders "
        r"insn 9 LOAD INP \(late\) before it; insn 10",
        b,
    )
    b = conv(tiles=1)
    b.insns.append(Insn(Opcode.LOAD, {}, Origin(purpose="after")))
    refuse(HazardError, "^LOAD: must not follow FINISH; insn 10, after$", b)
    b.insns.append(Insn(Opcode.FINISH, {}, Origin(purpose="again")))
    refuse(HazardError, "^LOAD: must not follow FINISH; insn 10, after$", b)
    verify(b, strict=False)
    with pytest.raises(HazardError, match=r"^program: must end with FINISH, got no instruction"):
        FSim(b.config, b"", arena=(0, ARENA))


# ---- tokens
def test_token_neighbours() -> None:
    for name in ("pop_prev", "push_prev"):
        b = changed(1, **{name: 1})
        refuse(
            DecodeError, f"^LOAD.{name}: must be 0, as LOAD has no previous module, got 1; ins", b
        )
        verify(b, strict=False)
    for name in ("pop_next", "push_next"):
        b = changed(STORE0, **{name: 1})
        refuse(DecodeError, f"^STORE.{name}: must be 0, as STORE has no next module, got 1", b)
        verify(b, strict=False)


def test_deadlock_says_who_waits_for_whom() -> None:
    b = changed(2, push_next=0)  # the first tile's loads give no token
    refuse(
        DeadlockError,
        r"^insn 11 GEMM \(step 11\): must get its tokens, but no module can go on; "
        r"COMPUTE at insn 11 GEMM \(step 11\) waits for a token of LOAD, which has ended; "
        r"STORE at insn 15 STORE \(step 15\) waits for a token of COMPUTE$",
        b,
    )
    # Each waits for the other.
    b = conv()
    b.change(1, pop_next=1)
    b.change(4, push_prev=1)
    refuse(
        DeadlockError,
        r"LOAD at insn 1 LOAD INP \(step 1\) waits for a token of COMPUTE; "
        r"COMPUTE at insn 4 GEMM \(step 4\) waits for a token of LOAD; STORE at",
        b,
        strict=False,
    )


def test_full_queue_blocks_fetch() -> None:
    b = Builder()
    for _ in range(600):
        b.load(Memory.INP, 0, 0, 0, "<n")
    for _ in range(600):
        b.load(Memory.UOP, 0, 0, 0, ">p")
    b.finish("")
    refuse(
        DeadlockError,
        "LOAD at insn 0 LOAD INP .* waits for a token of COMPUTE; COMPUTE at insn 600 LOAD UOP .* "
        "waits for FETCH, which a full queue of 512 instructions blocks",
        b,
    )
    verify(b, strict=False)


def test_outstanding_tokens() -> None:
    def program(count: int) -> Builder:
        b = Builder()
        for _ in range(count):
            b.load(Memory.INP, 0, 0, 0, ">n")
        for _ in range(count):
            b.load(Memory.UOP, 0, 0, 0, "<p")
        b.finish("")
        return b

    verify(program(255))
    refuse(
        HazardError,
        r"^tokens LOAD to COMPUTE: must be at most 255 outstanding in any order, got 256; "
        r"at insn 255 LOAD INP",
        program(256),
    )
    b = Builder()  # many tokens, but never many at once
    for k in range(400):
        b.load(Memory.INP, 0, 0, 0, ">n" if k < 2 else "<n >n")
        b.load(Memory.UOP, 0, 0, 0, "<p >p" if k < 398 else "<p")
    b.finish("")
    verify(b)


# ---- hazards
def test_reads_of_what_was_never_written() -> None:
    refuse(
        HazardError,
        r"^GEMM uop\[5\]: must be written before it is read; insn 3, step 3$",
        changed(3, uop_begin=5, uop_end=6),
    )
    refuse(
        HazardError,
        r"^GEMM inp\[3\]: must be written before it is read; insn 4, step 4$",
        changed(1, x_size=3),
    )
    b = conv(tiles=1)
    del b.insns[1]
    b.change(1, push_next=1)
    refuse(HazardError, r"^GEMM inp\[0\]: must be written before it is read", b)
    b = conv(tiles=1)
    b.change(2, x_size=0)
    refuse(HazardError, r"^GEMM wgt\[0\]: must be written before it is read; insn 4", b)
    b = changed(3, iter_in=2)
    refuse(HazardError, r"^GEMM acc\[2\]: must be written before it is read; insn 4", b)
    verify(b, strict=False)
    b = changed(8, conv(tiles=1), x_size=5)
    refuse(HazardError, r"^STORE acc\[4\]: must be written before it is read; insn 8", b)
    b = conv()
    b.change(5, use_imm=0, alu_opcode=AluOp.ADD)
    b.uops[0] |= 1500 << 11
    refuse(HazardError, r"^ALU acc\[1500\]: must be written before it is read", changed_alu(b))


def changed_alu(b: Builder) -> Builder:
    """Let GEMM use a micro-op of its own, as the ALU's reads another element."""
    b.uop(dst=0, src=0, wgt=0)
    b.change(0, x_size=len(b.uops), x_stride=len(b.uops))
    for index in (3, 4):
        b.change(index, uop_begin=2, uop_end=3)
    return b


def test_dram_that_was_never_written() -> None:
    b = conv()
    spans = [(UOP, 8), (WGT, 256), (INP, 128)]
    verify(b, defined=spans)
    with pytest.raises(HazardError, match=r"^LOAD dram byte 8304: must be written before it is re"):
        verify(b, defined=[*spans[:2], (INP, 112)])
    with pytest.raises(HazardError, match=r"^LOAD dram byte 0: must be written before it is read"):
        verify(b, defined=spans[1:])


def test_stored_elements_come_from_gemm_or_alu() -> None:
    b = Builder()
    b.uop(0)
    b.load(Memory.UOP, UOP, 0, 1)
    b.load(Memory.ACC, PAGE, 0, 1, ">n")
    b.store(OUT, 0, 1, "<p >p")
    b.finish()
    sentence = r"^STORE out\[0\]: must have a GEMM or ALU operation as its last write, got insn 1 "
    refuse(HazardError, sentence + r"LOAD ACC \(step 1\); insn 2, step 2$", b)
    verify(b, strict=False)
    b.insns[1] = Insn(
        Opcode.GEMM, {"reset": 1, "uop_end": 1, "iter_out": 1, "iter_in": 1, "push_next": 1}, "r"
    )
    refuse(HazardError, sentence + r"GEMM \(r\); insn 2, step 2$", b)


def test_alu_back_to_back() -> None:
    b = changed(5, dst_factor_in=0)
    sentence = "ALU step 1: must not touch the element that the step before it wrote; insn 5"
    refuse(HazardError, re.escape(sentence), b)
    verify(b, strict=False)
    b = Builder()
    b.uop(1, 0)  # step i reads acc[i], which step i - 1 wrote
    b.load(Memory.UOP, UOP, 0, 1)
    b.load(Memory.ACC, PAGE, 0, 3)
    b.alu(AluOp.ADD, 0, 1, iter_in=2, dst_factor_in=1, src_factor_in=1)
    b.finish("")
    refuse(HazardError, "^ALU step 1: must not touch", b)


def test_missing_token_is_a_race() -> None:
    # COMPUTE reads inp without waiting for LOAD.
    b = conv(tiles=1)
    b.change(2, push_next=0)
    b.change(4, pop_prev=0)
    refuse(
        HazardError,
        r"^inp\[0\]: insn 1 LOAD INP \(step 1\) must write it before insn 4 GEMM \(step 4\) reads "
        r"it, got no token that orders them; let LOAD push and COMPUTE pop one$",
        b,
    )
    # LOAD overwrites inp that COMPUTE may still read.
    b = conv(tiles=3)
    load = next(i for i, insn in enumerate(b.insns) if insn["pop_next"] and insn.opcode == 0)
    b.change(load, pop_next=0)
    b.change(4, push_prev=0)
    refuse(
        HazardError,
        rf"^inp\[0\]: insn 4 GEMM .* must read it before insn {load} LOAD INP .* overwrites it",
        b,
    )
    # COMPUTE overwrites acc that STORE may still read.
    b = conv(tiles=3)
    gemm = next(i for i, insn in enumerate(b.insns) if insn["pop_next"] and insn["reset"])
    b.change(gemm, pop_next=0)
    store = next(i for i, insn in enumerate(b.insns) if insn.opcode == Opcode.STORE)
    b.change(store, push_prev=0)
    refuse(
        HazardError,
        rf"^acc\[0\]: insn {store} STORE .* must read it before insn {gemm} GEMM .* overwrites it",
        b,
    )


def dram_program(ordered: bool) -> Builder:
    """Store something and load it again as inp, with or without tokens between."""
    b = conv(tiles=1)
    b.insns.pop()
    b.add(Opcode.LOAD, "<n >p" if ordered else "<n")  # COMPUTE passes STORE's token on
    b.load(Memory.INP, OUT, 0, 4, "<n >n" if ordered else ">n")
    b.finish("<p")
    return b


def test_dram_race() -> None:
    verify(dram_program(ordered=True))
    refuse(
        HazardError,
        r"^dram byte 12288: insn 8 STORE \(step 8\) must write it before insn 10 LOAD INP "
        r"\(step 10\) reads it, got no token that orders them; let STORE push and LOAD pop one$",
        dram_program(ordered=False),
    )
    b = conv(tiles=1)  # STORE overwrites what LOAD read: ordered through COMPUTE
    b.change(8, dram_base=INP // 16)
    verify(b)


def test_store_over_uops() -> None:
    b = changed(STORE0, dram_base=0)
    refuse(
        HazardError, "^STORE.dram_base: must not write micro-ops that the program loads; insn", b
    )


def test_random_orders_expose_a_missing_token() -> None:
    b = conv(tiles=6)
    rng = np.random.default_rng(0)
    inputs = rng.integers(-128, 128, 6 * 64, dtype=np.int8)
    weights = rng.integers(-128, 128, 256, dtype=np.int8)

    def outputs(b: Builder, seed: int | None) -> bytes:
        sim = verify(b, strict=False)
        sim.write(WGT, weights)
        sim.write(INP, inputs)
        sim.run(seed=seed)
        return sim.read(OUT, 6 * 64).tobytes()

    right = outputs(b, None)
    assert all(outputs(b, seed) == right for seed in range(20))
    loads = [i for i, insn in enumerate(b.insns) if insn.opcode == 0 and insn["pop_next"]]
    for index in loads:
        b.change(index, pop_next=0)
    assert any(outputs(b, seed) != right for seed in range(20))


def test_uops_can_be_replaced() -> None:
    b = conv(tiles=1)
    sim = verify(b)
    bad = b.uop_bytes.copy()
    bad.view("<u4")[0] = 2047  # dst of the first element
    sim.write(UOP, bad)
    with pytest.raises(CapacityError, match=r"^GEMM.dst: must address acc elements below 2048"):
        sim.run()
    sim.write(UOP, b.uop_bytes)
    sim.run()


def test_machines_that_do_not_fit() -> None:
    words = config_words(VTAConfig.load("default"))

    def create(**changes: int) -> None:
        index = {"log_uop": 5, "log_inp": 6, "log_wgt": 7, "log_acc": 8, "capabilities": 10}
        changed_words = list(words)
        for name, value in changes.items():
            changed_words[index[name]] = value
        core_function("vta.fsim.create")(changed_words, b"", [0, 4096], False, None, "", [], -1, -1)

    create()
    with pytest.raises(ConfigError, match=r"^config.log_wgt_buff_bytes: must be in \[9, 24\], got"):
        create(log_wgt=2)
    with pytest.raises(ConfigError, match=r"^config.capabilities: must be in \[0, 7\], got 8"):
        create(capabilities=8)
    with pytest.raises(ConfigError, match=r"^config.\w+: must end at or below bit"):
        create(log_inp=20, log_acc=22, log_wgt=24)
