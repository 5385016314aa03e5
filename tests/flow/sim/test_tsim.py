"""Cycles of small programs, counted by hand from the formulas of docs/timing.md.

The launch is cycle 0. FETCH asks in cycle 1, is granted in 2, the request reaches the memory in 3
and waits 16 cycles; the 2n beats of n instructions follow from 20 on. Two cycles after the last
beat (19 + 2n) the first of them enters its queue, so instruction i of a first chunk of n may start
in cycle 22 + 2n + i: `first(n) + i`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flow.sim.fsim import FSim
from flow.sim.tsim import time_stream
from tests.flow.sim.builder import Builder
from vta_config import VTAConfig
from vta_config.errors import ConfigError, DeadlockError, HazardError
from vta_config.isa import AluOp, Memory, Opcode
from vta_config.timing import TimingProfile

Times = list[tuple[int, int]]
OUT = 1 << 19  # no test loads from here


def first(count: int) -> int:
    return 22 + 2 * count


def times(b: Builder, profile: str | TimingProfile = "chisel") -> Times:
    """(start, done) of every instruction."""
    sim = FSim(b.config, b.stream, arena=(0, 1 << 20), strict=False)
    cycles, table = time_stream(sim, profile)
    assert cycles == table["done"].max()
    return list(zip(table["start"].tolist(), table["done"].tolist(), strict=True))


def alone(make: Callable[[Builder], object], profile: str = "chisel", bus_bits: int = 64) -> int:
    """Cycles from start to done of the one instruction that `make` adds, followed by FINISH."""
    b = Builder(replace(VTAConfig.load("default"), bus_bits=bus_bits))
    make(b)
    b.finish("")
    (start, done), _ = times(b, profile)
    if bus_bits == 64 and profile != "chisel-simple":
        assert start == first(2)
    return done - start


def gemm(steps: int, **values: int) -> Callable[[Builder], object]:
    return lambda b: b.gemm(0, 1, iter_in=steps, **values)


def alu(steps: int, imm: int) -> Callable[[Builder], object]:
    return lambda b: b.alu(AluOp.ADD, 0, 1, iter_in=steps, use_imm=imm, imm=1)


def load(memory: Memory, address: int, x: int, **values: int) -> Callable[[Builder], object]:
    return lambda b: b.load(memory, address, 0, x, **values)


def store(address: int, x: int, **values: int) -> Callable[[Builder], object]:
    return lambda b: b.store(OUT + address, 0, x, **values)


INP, WGT, ACC, UOP = Memory.INP, Memory.WGT, Memory.ACC, Memory.UOP

ALONE = {
    # GEMM and ALU: a step a cycle (ALU of two registers: two), 6 from start to end of the pipeline.
    "gemm 1": (gemm(1), 1 + 6),
    "gemm 2": (gemm(2), 2 + 6),
    "gemm 16": (gemm(16), 16 + 6),
    "gemm 1000": (gemm(1000), 1000 + 6),
    "gemm reset": (gemm(16, reset=1), 16 + 6),
    "gemm nest": (lambda b: b.gemm(0, 3, iter_in=4, iter_out=5), 3 * 4 * 5 + 6),
    "alu imm 1": (alu(1, 1), 1 + 6),
    "alu imm 2": (alu(2, 1), 2 + 6),
    "alu imm 16": (alu(16, 1), 16 + 6),
    "alu imm 1000": (alu(1000, 1), 1000 + 6),
    "alu reg 1": (alu(1, 0), 2 + 6),
    "alu reg 2": (alu(2, 0), 4 + 6),
    "alu reg 16": (alu(16, 0), 32 + 6),
    "alu reg 1000": (alu(1000, 0), 2000 + 6),
    # LOAD: 22 + beats of 8 bytes. An inp element is 2 beats, acc 8, wgt 32.
    "inp 1": (load(INP, 0, 1), 22 + 2),
    "inp one burst": (load(INP, 0, 8), 22 + 16),
    "inp two bursts": (load(INP, 0, 9), 22 + 18),
    "inp across 128 bytes": (load(INP, 64, 8), 22 + 8 + 8),
    "inp many bursts": (load(INP, 0, 1000), 22 + 2000),
    "inp rows": (load(INP, 0, 1, y=3, x_stride=7), 22 + 3 * 2),
    "inp rows of three": (load(INP, 16, 3, y=10, x_stride=9), 22 + 10 * 6),
    # Rows of one element: a request every two cycles keeps up with two beats a burst.
    "inp many short rows": (load(INP, 0, 1, y=100, x_stride=3), 22 + 200),
    "wgt 1": (load(WGT, 0, 1), 22 + 32),
    "wgt 64": (load(WGT, 0, 64), 22 + 64 * 32),
    "wgt rows": (load(WGT, 256, 2, y=3, x_stride=5), 22 + 3 * 64),
    "acc 1": (load(ACC, 0, 1), 22 + 8),
    "acc 3, across 128 bytes": (load(ACC, 64, 3), 22 + 8 + 16),
    # Padding: y_pad_0 rows delay the first request by a cycle each; zeros are written from the
    # second cycle on, one a cycle, and are done before the data.
    "pad top": (load(INP, 0, 1, y_pad_0=2), 22 + 2 + 2),
    "pad around": (
        load(INP, 0, 2, y=2, x_stride=4, y_pad_0=1, y_pad_1=1, x_pad_0=1, x_pad_1=1),
        22 + 1 + 8,
    ),
    # 15 rows of 3 zeros and one beside: 46 zeros from cycle 2 on; the data comes in cycles
    # 22 + 15 and 23 + 15 and stops them twice: 2 + 46 + 2.
    "pad longer than data": (load(INP, 0, 1, y_pad_0=15, x_pad_0=1, x_pad_1=1), 2 + 15 * 3 + 2 + 2),
    # 60 zeros below, and a cycle to step over the one row of data: 2 + 1 + 60, stopped by the
    # 8 beats of the data (cycles 22 to 29).
    "pad below": (load(INP, 0, 4, y_pad_1=15), 2 + 1 + 60 + 8),
    "pad of acc": (load(ACC, 0, 1, y_pad_1=1), 22 + 8),
    # LOAD UOP: 21 + beats; a beat holds two micro-ops, and whole beats are read.
    "uop 1": (load(UOP, 0, 1), 21 + 1),
    "uop 2": (load(UOP, 0, 2), 21 + 1),
    "uop 2, odd offset": (load(UOP, 4, 2), 21 + 2),
    "uop 3": (load(UOP, 0, 3), 21 + 2),
    "uop 33": (load(UOP, 0, 33), 21 + 17),
    "uop 32, odd offset": (load(UOP, 4, 32), 21 + 17),
    "uop 100, odd offset": (load(UOP, 12, 100), 21 + 51),
    # STORE: 1.5 beats + 3 a burst, one after the other.
    "out 1": (store(0, 1), 3 + 3),
    "out one burst": (store(0, 8), 24 + 3),
    "out two bursts": (store(0, 9), 24 + 3 + 3 + 3),
    "out across 128 bytes": (store(64, 8), 12 + 3 + 12 + 3),
    "out rows": (store(0, 2, y=3, x_stride=5), 3 * (6 + 3)),
    "out many": (store(0, 1000), 125 * 27),
    # No-ops and FINISH: a cycle to start, one to post.
    "no-op of compute": (load(UOP, 0, 0), 1),
    "no-op of load": (load(INP, 0, 0), 1),
    "no-op of store": (lambda b: b.store(0, 0, 0), 1),
    "finish": (lambda b: b.finish(""), 1),
}


@pytest.mark.parametrize("case", ALONE)
def test_one_instruction(case: str) -> None:
    make, cycles = ALONE[case]
    assert alone(make) == cycles


SIMPLE = {
    # Four states a step; the result of the last one three cycles later, but nothing to wait for
    # when it clears.
    "gemm": (gemm(16), 4 * 16 + 3),
    "gemm reset": (gemm(16, reset=1), 4 * 16),
    "alu imm": (alu(16, 1), 5 * 16),
    "alu reg": (alu(16, 0), 6 * 16),
    # One burst after the other: beats + 4 each.
    "inp": (load(INP, 0, 9), 16 + 4 + 2 + 4),
    "wgt": (load(WGT, 0, 1), 2 * (16 + 4)),
    "uop": (load(UOP, 4, 2), 2 + 4),
    # 4 zeros above, 1 before and 1 after each of two rows, 4 below, 2 cycles each.
    "pad": (
        load(INP, 0, 2, y=2, x_stride=4, y_pad_0=1, y_pad_1=1, x_pad_0=1, x_pad_1=1),
        2 * (4 + 4) + 2 * (4 + 2 * 2 + 4),
    ),
    "out": (store(0, 9), 24 + 3 + 3 + 3),
}


@pytest.mark.parametrize("case", SIMPLE)
def test_the_older_generation(case: str) -> None:
    make, cycles = SIMPLE[case]
    assert alone(make, "chisel-simple") == cycles


@pytest.mark.parametrize("count", [4, 16, 784])
def test_additions_take_what_the_documentation_of_the_compiler_says(count: int) -> None:
    def cycles(cell: str) -> int:
        match = re.fullmatch(r"(\d*)N(?: \+ (\d+))?", cell)
        assert match is not None
        return int(match[1] or 1) * count + int(match[2] or 0)

    page = (Path(__file__).parents[3] / "docs" / "compiler.md").read_text(encoding="utf-8")
    rows = [[c.strip() for c in r.strip("|").split("|")] for r in page.splitlines() if "N +" in r]
    rows = [row for row in rows if len(row) == 5]
    assert len(rows) == 5
    for column, profile in enumerate(("chisel", "chisel-simple", "hls"), 2):
        by_gemm, by_alu = alone(gemm(count), profile), alone(alu(count, 0), profile)
        found = [
            by_gemm,
            alone(alu(count, 1), profile),
            by_alu + alone(load(ACC, 0, 1), profile),
            by_gemm,
            by_alu + alone(load(ACC, 0, count), profile),
        ]
        assert [cycles(row[column]) for row in rows] == found
        assert by_gemm == min(found)


def test_hls_takes_two_cycles_for_every_alu_step() -> None:
    assert alone(alu(16, 1), "hls") == alone(alu(16, 0), "hls") == 2 * 16 + 6
    assert alone(gemm(16), "hls") == 16 + 6


WIDE = {
    # An element no wider than the bus: 21 + whole bus words; wider ones 22 + beats.
    "inp, 128": (load(INP, 0, 9), 128, 21 + 9),
    "inp, 256, odd offset": (load(INP, 16, 3), 256, 21 + 2),
    "inp rows, 256": (load(INP, 16, 2, y=3, x_stride=7), 256, 21 + 2 + 1 + 2),
    "wgt, 128": (load(WGT, 0, 2), 128, 22 + 32),
    "acc, 512": (load(ACC, 64, 3), 512, 21 + 3),
    "uop, 128": (load(UOP, 12, 2), 128, 21 + 2),
    # STORE: words + 4 a burst.
    "out, 128": (store(0, 20), 128, 16 + 4 + 4 + 4),
    "out, 256, odd offset": (store(16, 2), 256, 2 + 4),
    "inp, 32": (load(INP, 0, 3), 32, 22 + 12),
    "out, 32": (store(0, 2), 32, 8 + 1 + 4),
}


@pytest.mark.parametrize("case", WIDE)
def test_other_buses(case: str) -> None:
    make, bus_bits, cycles = WIDE[case]
    assert alone(make, bus_bits=bus_bits) == cycles


def test_the_next_instruction_starts_a_cycle_after_the_end() -> None:
    b = Builder()
    b.gemm(0, 1, iter_in=10)
    b.gemm(0, 1, iter_in=20)
    b.finish("")
    start = first(3)
    assert times(b) == [
        (start, start + 16),
        (start + 17, start + 17 + 26),
        (start + 44, start + 45),
    ]


def test_fetch_reads_and_dispatches_in_turns() -> None:
    # 20 no-ops: chunks of 8, 8, 4. Chunk 1 is in the queues from cycle 21 + 16 = 37 to 44; FETCH
    # asks again in 46: grant 47, memory 48 + 16 = 64, 16 beats until 80, dispatch 82 to 89; asks in
    # 91: 92, 93 + 16 = 109, 8 beats until 117, dispatch 119 to 122. Each starts a cycle later.
    b = Builder()
    for _ in range(19):
        b.load(UOP, 0, 0, 0)
    b.finish("")
    starts = [start for start, _ in times(b)]
    # A no-op occupies its module for two cycles, so the queue of eight drains in 16.
    assert starts[:8] == list(range(38, 54, 2))
    assert starts[8:16] == list(range(83, 99, 2))
    assert starts[16:] == list(range(120, 128, 2))


def test_a_fetch_bound_stream_takes_45_cycles_for_eight() -> None:
    # 21 to ask and wait, 16 to read, 8 to dispatch.
    b = Builder()
    for i in range(79):
        b.mem(Opcode.LOAD, (INP, UOP)[i % 2], 0, 0, 0)
    b.finish("")
    table = time_stream(FSim(b.config, b.stream, arena=(0, 1 << 20), strict=False))[1]
    assert table["dispatch"][::8].tolist() == [37 + 45 * k for k in range(10)]


def test_a_fetch_unit_of_a_wide_bus_takes_16_at_a_time() -> None:
    # 128 bits: asks in 1, granted 2, memory 3 + 16 = 19, 16 beats until 35, a register, the
    # counter, a register before the queues: dispatch 40 to 55. The buffer was empty in 55: start
    # signal 56, asks in 57, 58, 59 + 16 = 75, 4 beats until 79, dispatch from 84.
    b = Builder(replace(VTAConfig.load("default"), bus_bits=128))
    for i in range(19):
        b.mem(Opcode.LOAD, (INP, UOP)[i % 2], 0, 0, 0)
    b.finish("")
    table = time_stream(FSim(b.config, b.stream, arena=(0, 1 << 20), strict=False))[1]
    assert table["dispatch"].tolist() == [*range(40, 56), *range(84, 88)]


def test_fetch_waits_for_room_in_a_queue_of_512() -> None:
    # The GEMM stays in the queue until it is done: the 513th instruction of COMPUTE enters a cycle
    # after that.
    b = Builder()
    b.gemm(0, 1, iter_in=10_000)
    for _ in range(520):
        b.load(UOP, 0, 0, 0)
    b.finish("")
    sim = FSim(b.config, b.stream, arena=(0, 1 << 20), strict=False)
    _, table = time_stream(sim)
    done = int(table["done"][0])
    assert done == first(8) + 10_006
    assert table["dispatch"][512] == done + 1
    assert table["wait_queue"][512] > 0
    assert not table["wait_queue"][:512].any()
    # The 514th waits for the no-op behind the GEMM: starts at done + 1, done + 2.
    assert table["dispatch"][513] == done + 3


def test_a_token_is_there_a_cycle_after_it_was_posted() -> None:
    b = Builder()
    b.load(INP, 0, 0, 1, ">n")
    b.gemm(0, 1, "<p >n", iter_in=4)
    b.store(OUT, 0, 1, "<p >p")
    b.finish("<n")
    # n = 4: LOAD starts in 30, done in 54; GEMM 55 to 65; STORE 66 to 72; FINISH 73.
    assert times(b) == [(30, 54), (55, 65), (66, 72), (73, 74)]


def test_token_ping_pong() -> None:
    # Eight no-ops of LOAD and COMPUTE in turns, each waits for the one before: a cycle to run, the
    # next starts in the cycle after. Two more cycles a round trip than the four instructions show
    # would be a queue; there is none.
    b = Builder()
    for k in range(4):
        b.load(INP, 0, 0, 0, "<n >n" if k else ">n")
        b.load(UOP, 0, 0, 0, "<p >p" if k < 3 else "<p")
    assert times(b) == [(first(8) + 2 * k, first(8) + 2 * k + 1) for k in range(8)]


def test_a_module_waits_for_both_tokens() -> None:
    b = Builder()
    b.load(INP, 0, 0, 1, ">n")  # 22 + 2n = 32 to 56
    b.store(0, 0, 0, ">p")  # 33 to 34
    b.gemm(0, 1, "<p <n", iter_in=4)  # 57
    b.finish("")
    b.finish("")
    sim = FSim(b.config, b.stream, arena=(0, 1 << 20), strict=False)
    table = time_stream(sim)[1]
    assert table["start"].tolist()[:3] == [32, 33, 57]
    # The GEMM was in its queue in cycle 33, could have started in 34, where STORE's token was not
    # there before 35.
    assert [table[w][2] for w in ("wait_fetch", "wait_prev", "wait_next")] == [34, 23, 0]
    assert table["cause_insn"][2] == 0


def test_two_loads_share_the_memory() -> None:
    # n = 3. inp starts in 28: asks 29, granted 30, memory 31 + 16 = 47, 16 beats, done 47 + 19.
    # acc starts in 29: granted 31, memory free in 63, 16 beats, done 63 + 19 (alone: 67).
    b = Builder()
    b.load(INP, 0, 0, 8)
    b.load(ACC, 0, 0, 2)
    b.finish("")
    assert times(b)[:2] == [(28, 66), (29, 82)]


def test_uop_goes_before_wgt() -> None:
    # n = 3. wgt (4 bursts) starts in 28: may be granted in 30, 32, 34, 36. uop starts in 29, is
    # granted in 31: second of five. Memory from 31 + 16 = 47: wgt 16 beats, uop 1 (from 63), done
    # 63 + 1 + 2, then the other 48 of wgt: 64 + 48 + 3.
    b = Builder()
    b.load(WGT, 0, 0, 2)
    b.load(UOP, 0, 0, 2)
    b.finish("")
    assert times(b)[:2] == [(28, 115), (29, 66)]


def test_fetch_goes_before_everything() -> None:
    # n = 8: LOAD wgt starts in 38 and asks for 32 bursts, granted in 40, 42, 44, 46, then 48. FETCH
    # asks for its second chunk, one instruction, in 46 and is granted in 47, before the fifth. The
    # memory starts in 41 + 16 = 57, has FETCH's turn in 57 + 64 = 121; 2 beats, dispatch at + 4.
    b = Builder()
    b.load(WGT, 0, 0, 16)
    for _ in range(8):
        b.load(UOP, 0, 0, 0)
    sim = FSim(b.config, b.stream, arena=(0, 1 << 20), strict=False)
    table = time_stream(sim)[1]
    assert table["start"][0] == 38
    assert table["dispatch"][8] == 57 + 4 * 16 + 2 + 2
    # The load ends 2 beats later than alone.
    assert table["done"][0] == 38 + 22 + 16 * 32 + 2


def test_latency_is_paid_once_a_busy_spell() -> None:
    # The second load asks when the first one's last beat has long passed: both take 22 + 16.
    b = Builder()
    b.load(INP, 0, 0, 8)
    b.load(INP, 128, 8, 8)
    b.finish("")
    start = first(3)
    assert times(b)[:2] == [(start, start + 38), (start + 39, start + 77)]
    # A uop load behind a long wgt load is in the same spell and pays no latency: wgt (8 bursts)
    # starts in 28, memory from 47; uop starts in 29, second: 63 + 1 + 2.
    b = Builder()
    b.load(WGT, 0, 0, 4)
    b.load(UOP, 0, 0, 1)
    b.finish("")
    assert times(b)[1] == (29, 66)


def test_sixteen_tags() -> None:
    # 100 bursts: granted every other cycle from 28 on (n = 2: start 26) until 16 are in flight, in
    # 58; the next one when the first is back. The memory never waits.
    assert alone(load(INP, 0, 800)) == 22 + 1600


def test_stores_do_not_disturb_loads() -> None:
    b = Builder()
    b.load(INP, 0, 0, 80)
    b.store(OUT, 0, 80)
    b.finish("")
    assert times(b)[:2] == [(28, 28 + 182), (29, 29 + 270)]


def test_one_read_at_a_time_in_the_older_generation() -> None:
    # FETCH: asks and is granted in 1, beats until 1 + 3 + 6 = 10, dispatch from 11, start 12.
    # inp: granted in 13, until 13 + 16 + 4; acc asks in 14, granted in 33, 16 + 4.
    b = Builder()
    b.load(INP, 0, 0, 8)
    b.load(ACC, 0, 0, 2)
    b.finish("")
    assert times(b, "chisel-simple")[:2] == [(12, 32), (13, 52)]


def test_deadlock_names_the_full_queue() -> None:
    # COMPUTE waits for LOAD, whose instruction FETCH cannot bring past a full queue.
    b = Builder()
    b.gemm(0, 1, "<p")
    for _ in range(600):
        b.load(UOP, 0, 0, 0)
    b.load(INP, 0, 0, 0, ">n")
    sim = FSim(b.config, b.stream, arena=(0, 1 << 20), strict=False)
    with pytest.raises(
        DeadlockError,
        match=r"COMPUTE at insn 0 GEMM waits for a token of LOAD since cycle 0",
    ):
        time_stream(sim)
    with pytest.raises(
        DeadlockError, match="LOAD at .* waits for FETCH, which a full queue of 512"
    ):
        time_stream(sim)


def test_a_counter_of_tokens_overflows() -> None:
    b = Builder()
    for _ in range(256):
        b.load(INP, 0, 0, 0, ">n")
    for _ in range(256):
        b.load(UOP, 0, 0, 0, "<p")
    sim = FSim(b.config, b.stream, arena=(0, 1 << 20), strict=False)
    with pytest.raises(
        HazardError,
        match=r"tokens LOAD to COMPUTE: must be at most 255 outstanding, got 256; at insn 255 LOAD",
    ):
        time_stream(sim)


def test_unknown_profile() -> None:
    b = Builder()
    b.finish("")
    with pytest.raises(ConfigError, match="profile: must be among chisel, chisel-simple, hls"):
        times(b, "verilog")


def test_a_profile_of_ones_own() -> None:
    # 84 more cycles of latency for FETCH and for the load.
    b = Builder()
    b.load(INP, 0, 0, 1)
    b.finish("")
    start = first(2) + 84
    assert times(b, TimingProfile(memory_latency=100))[0] == (start, start + 22 + 2 + 84)
