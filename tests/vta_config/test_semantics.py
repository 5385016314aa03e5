"""The oracle against a scalar reference, hand-written cases and the original compiler's streams."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from tests.strategies import RandomProgram, programs, random_program
from vta_config import FlowError, VTAConfig, semantics
from vta_config.errors import CapacityError, DecodeError, HazardError
from vta_config.isa import AluOp, Insn, Memory, Opcode, decode_uop, encode, encode_uop
from vta_config.origin import Origin
from vta_config.semantics import (
    Counters,
    Dram,
    MachineState,
    dram_elem_bytes,
    run,
    run_stream,
    step,
)

DEFAULT = VTAConfig.load("default")
EXTRA = replace(DEFAULT, capabilities=frozenset({"mul", "acc_8bit"}))
FINISH = Insn(Opcode.FINISH, {})


# ---- a scalar reference: one lane, one step at a time, plain integers ----------------------------
def wrap(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


class Scalar:
    """Executes instructions with Python integers and loops."""

    def __init__(self, program: RandomProgram) -> None:
        c = self.c = program.config
        self.base, self.dram = program.address, bytearray(program.memory.tobytes())
        lanes, square = c.batch * c.block, c.block * c.block
        self.inp = [[0] * lanes for _ in range(c.inp_depth)]
        self.wgt = [[0] * square for _ in range(c.wgt_depth)]
        self.acc = [[0] * lanes for _ in range(c.acc_depth)]
        self.out = [[0] * lanes for _ in range(c.acc_depth)]
        self.uop = [0] * c.uop_depth

    def load(self, insn: Insn) -> None:
        memory = Memory(insn["memory_type"])
        size = dram_elem_bytes(memory, self.c)
        narrow = {Memory.INP: self.c.log_inp_width, Memory.WGT: self.c.log_wgt_width}
        bits = 1 << {**narrow, Memory.ACC_8BIT: 3}.get(memory, 5)
        lanes = size * 8 // bits
        at = insn["sram_base"]
        for r in range(-insn["y_pad_0"], insn["y_size"] + insn["y_pad_1"]):
            for c in range(-insn["x_pad_0"], insn["x_size"] + insn["x_pad_1"]):
                values = [0] * lanes
                if 0 <= r < insn["y_size"] and 0 <= c < insn["x_size"]:
                    start = (insn["dram_base"] + r * insn["x_stride"] + c) * size - self.base
                    raw = self.dram[start : start + size]
                    whole = int.from_bytes(raw, "little")
                    values = [wrap(whole >> bits * i, bits) for i in range(lanes)]
                if memory == Memory.UOP:
                    self.uop[at] = values[0] & 0xFFFFFFFF
                else:
                    pads = {Memory.INP: self.inp, Memory.WGT: self.wgt}
                    pads.get(memory, self.acc)[at] = values
                at += 1

    def store(self, insn: Insn) -> None:
        size, at = self.c.out_elem_bytes, insn["sram_base"]
        for r in range(insn["y_size"]):
            for c in range(insn["x_size"]):
                start = (insn["dram_base"] + r * insn["x_stride"] + c) * size - self.base
                bits = 1 << self.c.log_inp_width
                whole = sum((v & (1 << bits) - 1) << bits * i for i, v in enumerate(self.out[at]))
                self.dram[start : start + size] = whole.to_bytes(size, "little")
                at += 1

    def nest(self, insn: Insn) -> None:
        for o in range(insn["iter_out"]):
            for i in range(insn["iter_in"]):
                for u in range(insn["uop_begin"], insn["uop_end"]):
                    fields = decode_uop(self.uop[u], self.c)
                    index = {
                        n: fields[f"{n}_idx"]
                        + o * insn[f"{n}_factor_out"]
                        + i * insn[f"{n}_factor_in"]
                        for n in ("dst", "src", "wgt")
                    }
                    if insn.opcode == Opcode.GEMM:
                        self.gemm(insn, **index)
                    else:
                        self.alu(insn, index["dst"], index["src"])

    def gemm(self, insn: Insn, dst: int, src: int, wgt: int) -> None:
        block = self.c.block
        if insn["reset"]:
            self.acc[dst] = [0] * len(self.acc[dst])
            return
        result = list(self.acc[dst])
        for b in range(self.c.batch):
            for o in range(block):
                total = sum(
                    self.inp[src][b * block + k] * self.wgt[wgt][o * block + k]
                    for k in range(block)
                )
                result[b * block + o] = wrap(result[b * block + o] + total, 32)
        self.write(dst, result)

    def alu(self, insn: Insn, dst: int, src: int) -> None:
        result = []
        for lane, left in enumerate(self.acc[dst]):
            right = insn["imm"] if insn["use_imm"] else self.acc[src][lane]
            op = AluOp(insn["alu_opcode"])
            if op == AluOp.MIN:
                value = min(left, right)
            elif op == AluOp.MAX:
                value = max(left, right)
            elif op == AluOp.ADD:
                value = left + right
            elif op == AluOp.SHR:
                value = left >> right if right >= 0 else left << min(-right, 32)
            else:
                value = left * right
            result.append(wrap(value, 32))
        self.write(dst, result)

    def write(self, dst: int, result: list[int]) -> None:
        self.acc[dst] = result
        self.out[dst] = [wrap(value, 1 << self.c.log_inp_width) for value in result]

    def run(self, insns: list[Insn]) -> bytes:
        for insn in insns:
            if insn.opcode == Opcode.LOAD:
                self.load(insn)
            elif insn.opcode == Opcode.STORE:
                self.store(insn)
            elif insn.opcode != Opcode.FINISH:
                self.nest(insn)
        return bytes(self.dram)


def state_of(program: RandomProgram, **options: Any) -> tuple[MachineState, np.ndarray]:
    memory = program.memory.copy()
    dram = Dram([(program.address, memory)])
    return MachineState(config=program.config, dram=dram, **options), memory


@given(programs(portable=False))
def test_random_programs_agree_with_the_scalar_reference(program: RandomProgram) -> None:
    state, memory = state_of(program)
    run(state, program.insns)
    scalar = Scalar(program)
    assert scalar.run(program.insns) == memory.tobytes()
    assert state.acc.reshape(len(scalar.acc), -1).tolist() == scalar.acc


@pytest.mark.parametrize("seed", range(5))
def test_random_programs_with_mul_agree(seed: int) -> None:
    program = random_program(EXTRA, seed, portable=False)
    state, memory = state_of(program)
    run(state, program.insns)
    assert Scalar(program).run(program.insns) == memory.tobytes()


# ---- hand-written cases -------------------------------------------------------------------------
def machine(
    uops: list[tuple[int, int, int]] | None = None, config: VTAConfig = DEFAULT, **options: Any
) -> MachineState:
    """Return a state with every scratchpad written, `uops` (dst, src, wgt), and 64 KiB at 4096."""
    state = MachineState(config=config, dram=Dram([(4096, np.zeros(65536, np.uint8))]), **options)
    for at, (dst, src, wgt) in enumerate(uops or []):
        state.uop[at] = encode_uop(config, dst_idx=dst, src_idx=src, wgt_idx=wgt)
    for written in state.written.values():
        written[:] = True
    return state


def alu(op: AluOp, *, n: int = 1, **values: int) -> Insn:
    return Insn(
        Opcode.ALU, {"alu_opcode": op, "uop_end": n, "iter_out": 1, "iter_in": 1, **values}, "here"
    )


@pytest.mark.parametrize(
    ("op", "left", "right", "expected"),
    [
        (AluOp.MIN, 5, -3, -3),
        (AluOp.MAX, 5, -3, 5),
        (AluOp.ADD, 2**31 - 1, 1, -(2**31)),
        (AluOp.SHR, -5, 1, -3),
        (AluOp.SHR, 7, 0, 7),
        (AluOp.SHR, -1, 31, -1),
        (AluOp.SHR, -1, 32, -1),
        (AluOp.SHR, 2**30, 40, 0),
        (AluOp.SHR, 3, -2, 12),
        (AluOp.SHR, 3, -31, -(2**31)),
        (AluOp.SHR, 3, -32, 0),
        (AluOp.SHR, 3, -(2**15), 0),
        (AluOp.MUL, 2**20, 2**12 + 1, 2**20),
        (AluOp.MUL, -7, 9, -63),
    ],
)
@pytest.mark.parametrize("use_imm", [0, 1])
def test_alu_operation(op: AluOp, left: int, right: int, expected: int, use_imm: int) -> None:
    state = machine([(3, 4, 0)], EXTRA)
    state.acc[3], state.acc[4] = left, right
    step(state, alu(op, use_imm=use_imm, imm=right if use_imm else 0))
    assert (state.acc[3] == expected).all()
    assert (state.out[3] == wrap(expected, 8)).all()
    assert state.counters.alu_ops == 1


def test_alu_executes_steps_one_after_the_other() -> None:
    # A chain (each step reads what the one before wrote), then a repeated destination.
    state = machine([(1, 0, 0), (2, 1, 0), (3, 2, 0), (3, 3, 0), (3, 0, 0)])
    state.acc[0] = 1
    step(state, alu(AluOp.ADD, n=5))
    assert state.acc[:4, 0, 0].tolist() == [1, 1, 1, 3]
    step(state, alu(AluOp.ADD, n=5, use_imm=1, imm=10))
    assert state.acc[:4, 0, 0].tolist() == [1, 11, 11, 33]


def test_alu_reads_before_a_later_step_writes() -> None:
    state = machine([(1, 2, 0), (2, 3, 0)])
    state.acc[1:4, 0] = np.array([[1], [2], [3]])
    step(state, alu(AluOp.ADD, n=2))
    assert state.acc[1:4, 0, 0].tolist() == [3, 5, 3]


def test_gemm_accumulates_repeated_destinations_and_wraps() -> None:
    state = machine([(7, 0, 0), (7, 1, 1)])
    state.inp[:2], state.wgt[:2] = -128, -128
    state.acc[7] = 2**31 - 1
    step(state, Insn(Opcode.GEMM, {"uop_end": 2, "iter_out": 3, "iter_in": 1}))
    total = 2**31 - 1 + 6 * 16 * 128 * 128
    assert (state.acc[7] == wrap(total, 32)).all()
    assert (state.out[7] == wrap(total, 8)).all()
    assert state.counters.gemm_ops == 6


@pytest.mark.parametrize("block", [4, 7])
def test_gemm_sums_of_any_length_are_exact(block: int) -> None:
    """Elements of 3, 3 and 700 products: the last sums are above what float32 counts to."""
    config = replace(DEFAULT, log_block=block)
    uops = [(0, 0, 0), (1, 1, 0), (2, 0, 1)]
    insn = {"uop_end": 3, "iter_out": 3, "iter_in": 1}
    state = machine(uops, config)
    rng = np.random.default_rng(block)
    state.inp[:2] = 127
    state.wgt[:2] = rng.integers(-128, -120, state.wgt[:2].shape)
    step(state, Insn(Opcode.GEMM, insn))
    step(state, Insn(Opcode.GEMM, {"uop_begin": 2, "uop_end": 3, "iter_out": 697, "iter_in": 1}))
    once = 127 * state.wgt[:2].astype(np.int64).sum(axis=2)  # by output channel
    for element, (count, weights) in enumerate([(3, 0), (3, 0), (700, 1)]):
        assert (state.acc[element] == (count * once[weights]).astype(np.int32)).all()


def test_gemm_weights_are_output_major() -> None:
    state = machine([(0, 0, 0)])
    state.inp[0, 0, 5] = 3
    state.wgt[0, 2, 5] = 7  # output channel 2, input channel 5
    step(state, Insn(Opcode.GEMM, {"uop_end": 1, "iter_out": 1, "iter_in": 1}))
    assert state.acc[0, 0, 2] == 21
    assert np.count_nonzero(state.acc) == 1


def test_gemm_reset_clears_acc_and_not_out() -> None:
    state = machine([(1, 0, 0)])
    state.acc[1], state.out[1] = 9, 9
    step(state, Insn(Opcode.GEMM, {"reset": 1, "uop_end": 1, "iter_out": 1, "iter_in": 1}))
    assert not state.acc[1].any()
    assert (state.out[1] == 9).all()
    assert state.counters.gemm_ops == 0


def test_nest_of_no_steps_does_nothing() -> None:
    state = machine()
    step(state, Insn(Opcode.GEMM, {"uop_end": 1}))
    step(state, alu(AluOp.ADD, n=0))
    assert (state.counters.gemm_ops, state.counters.alu_ops) == (0, 0)


def test_load_pads_with_zeros() -> None:
    state = machine()
    memory = state.dram.segments[0][1]
    memory[:] = np.arange(memory.size) % 127 + 1
    state.inp[:] = -1
    values = {"memory_type": Memory.INP, "sram_base": 2, "dram_base": 256, "y_size": 2, "x_size": 2}
    pads = {"x_stride": 3, "y_pad_0": 1, "y_pad_1": 1, "x_pad_0": 1, "x_pad_1": 2}
    step(state, Insn(Opcode.LOAD, values | pads))
    block = state.inp[2 : 2 + 4 * 5].reshape(4, 5, 16)
    expected = np.zeros_like(block)
    rows = memory[: 5 * 16].reshape(5, 16).view(np.int8)
    expected[1, 1:3], expected[2, 1:3] = rows[:2], rows[3:5]
    assert (block == expected).all()
    assert (state.inp[:2] == -1).all()
    assert (state.inp[22:] == -1).all()
    assert state.counters.inp_bytes == 64


def test_load_acc_8bit_widens_the_sign() -> None:
    state = machine(config=EXTRA)
    state.dram.segments[0][1][:16] = 0x80
    values = {"memory_type": Memory.ACC_8BIT, "dram_base": 256, "y_size": 1, "x_size": 1}
    step(state, Insn(Opcode.LOAD, {**values, "x_stride": 1}))
    assert (state.acc[0] == -128).all()
    # The original functional simulator counts the 64 bytes that an element fills.
    assert state.counters.acc_bytes == 64


def test_an_immediate_whose_unused_src_leaves_acc_is_refused_when_strict() -> None:
    """As the original functional simulator does, which looks src up either way."""
    insn = alu(AluOp.ADD, use_imm=1, imm=1, iter_in=3, src_factor_in=1024)
    state = machine([(0, 0, 0)])
    with pytest.raises(CapacityError, match="ALU.src: must address acc .* below 2048, got 2048"):
        step(state, insn)
    state.strict = False
    step(state, insn)
    assert (state.acc[0] == 3).all()


def test_no_ops_move_nothing() -> None:
    state = machine()
    step(state, Insn(Opcode.LOAD, {"memory_type": Memory.INP, "y_size": 1, "y_pad_0": 1}))
    step(state, Insn(Opcode.STORE, {"memory_type": Memory.OUT, "y_size": 1}))
    assert state.counters == Counters(insns=2)


def test_store_takes_the_low_byte_of_what_gemm_or_alu_wrote() -> None:
    state = machine([(5, 5, 0)])
    state.acc[5] = 0x1234
    step(state, alu(AluOp.ADD, use_imm=1, imm=1))
    store = {"memory_type": Memory.OUT, "sram_base": 5, "dram_base": 300, "y_size": 1, "x_size": 1}
    step(state, Insn(Opcode.STORE, {**store, "x_stride": 1}))
    data = state.dram.segments[0][1][300 * 16 - 4096 :]
    assert (data[:16] == 0x35).all()
    assert not data[16:].any()


def test_not_strict_reads_what_was_never_written() -> None:
    state = MachineState(
        config=DEFAULT, dram=Dram([(4096, np.zeros(4096, np.uint8))]), strict=False
    )
    run(state, [alu(AluOp.ADD, use_imm=1, imm=3)])
    assert (state.acc[0] == 3).all()
    assert not state.finished


# ---- errors -------------------------------------------------------------------------------------
def load(**values: int) -> Insn:
    base = {"memory_type": Memory.INP, "dram_base": 256, "y_size": 1, "x_size": 1, "x_stride": 1}
    return Insn(Opcode.LOAD, base | values, Origin(layer="conv1", tile=(0, 3, 0)))


def store(**values: int) -> Insn:
    base = {"memory_type": Memory.OUT, "dram_base": 256, "y_size": 1, "x_size": 1, "x_stride": 1}
    return Insn(Opcode.STORE, base | values, Origin(layer="conv1", tile=(0, 3, 0)))


def gemm(**values: int) -> Insn:
    return Insn(
        Opcode.GEMM, {"uop_end": 1, "iter_out": 1, "iter_in": 1} | values, Origin(layer="conv1")
    )


@pytest.mark.parametrize(
    ("insn", "kind", "sentence"),
    [
        (
            load(sram_base=2048),
            CapacityError,
            r"LOAD.sram_base: must address inp elements below 2048, got 2048; conv1 tile \(0, 3,",
        ),
        (
            load(dram_base=0),
            CapacityError,
            r"LOAD.dram_base: must stay inside the DRAM .* \[0x1000, 0x11000\), got \[0x0, 0x10\)",
        ),
        (
            store(sram_base=2047, x_size=2),
            CapacityError,
            r"STORE.sram_base: must address out .* got 2048",
        ),
        (
            store(dram_base=(4096 + 65536) // 16),
            CapacityError,
            r"STORE.dram_base: must stay inside the DRAM segments .*, got \[0x11000, 0x11010\)",
        ),
        (load(memory_type=7), DecodeError, r"LOAD.memory_type: must be in \[0, 5\], got 7; conv1"),
        (load(memory_type=Memory.OUT), DecodeError, "LOAD.memory_type: must not be OUT, got OUT"),
        (
            load(memory_type=Memory.ACC_8BIT),
            DecodeError,
            r"LOAD.memory_type: ACC_8BIT must be a capability of the machine, got \[\]",
        ),
        (store(memory_type=Memory.INP), DecodeError, "STORE.memory_type: must be OUT, got INP"),
        (store(x_pad_1=1), DecodeError, "STORE.x_pad_1: must be 0, got 1; conv1 tile"),
        (
            gemm(uop_end=8193),
            CapacityError,
            "GEMM.uop_end: must address uop elements below 8192, got 8192",
        ),
        (
            gemm(iter_in=1025, dst_factor_in=2),
            CapacityError,
            "GEMM.dst: must address acc .* got 2048",
        ),
        (
            gemm(iter_in=1025, src_factor_in=2),
            CapacityError,
            "GEMM.src: must address inp .* got 2048",
        ),
        (
            gemm(iter_in=513, wgt_factor_in=2),
            CapacityError,
            "GEMM.wgt: must address wgt .* got 1024",
        ),
        (
            alu(AluOp.ADD, iter_in=1025, dst_factor_in=2),
            CapacityError,
            "ALU.dst: must address acc .* 2048",
        ),
        (
            alu(AluOp.ADD, iter_in=1025, src_factor_in=2),
            CapacityError,
            "ALU.src: must address acc .* 2048",
        ),
        (
            alu(AluOp.MUL),
            DecodeError,
            r"ALU.alu_opcode: MUL must be a capability of the machine, got \[\]",
        ),
        (
            Insn(Opcode.ALU, {"alu_opcode": 6}, Origin(purpose="x")),
            DecodeError,
            r"ALU.alu_opcode: must be in \[0, 4\], got 6; x",
        ),
    ],
)
def test_error(insn: Insn, kind: type[FlowError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        step(machine([(0, 0, 0)]), insn)


@pytest.mark.parametrize("pad", ["uop", "acc", "inp", "wgt"])
def test_reading_what_was_never_written_is_a_hazard(pad: str) -> None:
    state = machine([(3, 3, 3)])
    state.written[pad][0 if pad == "uop" else 3] = False  # type: ignore[index]
    sentence = (
        rf"GEMM {pad}\[{0 if pad == 'uop' else 3}\]: must be written before it is read; conv1"
    )
    with pytest.raises(HazardError, match=sentence):
        step(state, gemm())


def test_alu_reading_what_was_never_written_is_a_hazard() -> None:
    state = machine([(3, 4, 0)])
    state.written["acc"][4] = False
    step(state, alu(AluOp.ADD, use_imm=1))
    with pytest.raises(HazardError, match=r"ALU acc\[4\]: must be written before it is read; here"):
        step(state, alu(AluOp.ADD))


@pytest.mark.parametrize("writer", [load(memory_type=Memory.ACC, dram_base=64), gemm(reset=1)])
def test_storing_what_neither_gemm_nor_alu_wrote_last_is_a_hazard(writer: Insn) -> None:
    state = machine([(0, 0, 0)])
    step(state, store())
    step(state, writer)
    with pytest.raises(
        HazardError, match=r"STORE out\[0\]: must have a GEMM or ALU operation as its last"
    ):
        step(state, store())


def test_finish_ends_the_program() -> None:
    with pytest.raises(HazardError, match="LOAD: must not follow FINISH; conv1 tile"):
        run(machine(), [FINISH, load()])
    with pytest.raises(HazardError, match="program: must end with FINISH; append one"):
        run(machine(), [load()])


def test_stream_must_be_whole_and_clean() -> None:
    good = encode(FINISH, DEFAULT)
    assert run_stream(machine(), good).finished
    with pytest.raises(
        DecodeError, match=r"stream: must be a multiple of 16 bytes, got 15; is it trunc"
    ):
        run_stream(machine(), good[:15])
    dirty = good[:7] + b"\x80" + good[8:]
    with pytest.raises(DecodeError, match="bits that no field covers must be 0"):
        run_stream(machine(), dirty)
    assert run_stream(machine(), dirty, strict_bits=False).finished


def test_segments_must_not_overlap() -> None:
    page = np.zeros(4096, np.uint8)
    with pytest.raises(
        CapacityError, match=r"dram segment 0x1800: must start after .* ends, got 0x2000"
    ):
        Dram([(0x1800, page), (0x1000, page)])


# ---- the original compiler's streams -------------------------------------------------------------
#: inp, wgt, acc, uop bytes loaded; out bytes stored; GEMM and ALU operations; instructions. C2's
#: are published with the streams.
GOLDEN = {
    "C2": (487424, 258048, 1792, 480, 200704, 451584, 50176, 300),
    "C5": (430080, 294912, 1024, 816, 100352, 451584, 25088, 276),
    "C11": (50176, 2359296, 2048, 2776, 25088, 451584, 6272, 223),
}


def read_dump(path: Path) -> tuple[bytes, list[tuple[int, np.ndarray]], list[np.ndarray]]:
    """Return the instructions, the segments before the call and those written, after it."""
    data = path.read_bytes()
    assert data[:8] == b"VTADUMP1"
    _, count, _, segment_count, _, _ = struct.unpack_from("<6I", data, 8)
    at = 32 + 16 * count
    heads = list(struct.iter_unpack("<QQII", data[at : at + 24 * segment_count]))
    at += 24 * segment_count
    before, after = [], []
    for address, size, _, _ in heads:
        before.append((address, np.frombuffer(data, np.uint8, size, at).copy()))
        at += size
    for _, size, flags, _ in heads:
        if flags & 2:
            after.append(np.frombuffer(data, np.uint8, size, at))
            at += size
    assert at == len(data)
    return data[32 : 32 + 16 * count], before, after


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden_stream(shared_data: Path, name: str) -> None:
    folder = shared_data / "golden" / "vta_streams"
    stream, segments, after = read_dump(folder / f"run_00000_{name}.vtadump")
    unchanged = [data.copy() for _, data in segments]
    state = MachineState(config=DEFAULT, dram=Dram(segments))
    run_stream(state, stream, strict_bits=False)
    written = [
        data for (_, data), old in zip(segments, unchanged, strict=True) if (data != old).any()
    ]
    assert len(written) == len(after) == 1
    assert (written[0] == after[0]).all()
    assert state.counters == Counters(
        **dict(zip(Counters.__dataclass_fields__, GOLDEN[name], strict=True))
    )


@pytest.mark.parametrize("part", [1, 2, 7])
def test_nests_in_parts_mean_the_same(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(20):
        program = random_program(EXTRA, seed, portable=False)
        states = []
        for steps in (1 << 20, part):
            monkeypatch.setattr(semantics, "_PART", steps)
            memory = program.memory.copy()
            dram = Dram([(program.address, memory)])
            states.append(run(MachineState(config=EXTRA, dram=dram), program.insns))
        whole, parts = states
        assert whole.counters == parts.counters
        np.testing.assert_array_equal(whole.acc, parts.acc)
        np.testing.assert_array_equal(whole.out, parts.out)
        np.testing.assert_array_equal(whole.dram.segments[0][1], parts.dram.segments[0][1])


def test_large_nests_take_little_memory() -> None:
    state = MachineState(config=DEFAULT, dram=Dram([]))
    state.written["uop"][:] = True
    state.written["acc"][:] = True
    nest = {"uop_end": 4, "iter_out": 1000, "iter_in": 2000}
    tracemalloc.start()
    try:
        step(state, Insn(Opcode.GEMM, {"reset": 1, **nest}))
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()
