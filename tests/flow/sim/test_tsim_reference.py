"""The event-driven cycle model against a walk through every cycle (cycle_reference.py)."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flow.sim.fsim import FSim
from flow.sim.tsim import time_insns, time_stream
from scripts.compare_streams import read_dump
from tests.flow.sim.builder import Builder, conv
from tests.flow.sim.cycle_reference import simulate
from vta_config import VTAConfig
from vta_config.errors import ConfigError
from vta_config.isa import AluOp, Memory, Opcode, decode
from vta_config.semantics import dram_elem_bytes
from vta_config.timing import PROFILES

OUT = 1 << 19


def random_program(seed: int, bus_bits: int, machine: str = "default") -> Builder:
    """Build instructions of all kinds with tokens that cannot deadlock."""
    r = random.Random(seed)
    b = Builder(replace(VTAConfig.load(machine), bus_bits=bus_bits))
    tokens = {(0, 1): 0, (1, 0): 0, (1, 2): 0, (2, 1): 0}

    def flags(m: int) -> str:
        result = []
        for other, pop, push in ((m - 1, "<p", ">p"), (m + 1, "<n", ">n")):
            if tokens.get((other, m)) and r.random() < 0.6:
                tokens[other, m] -= 1
                result.append(pop)
            if (m, other) in tokens and r.random() < 0.4:
                tokens[m, other] += 1
                result.append(push)
        return " ".join(result)

    for _ in range(r.randint(3, 60)):
        m = r.choice((0, 0, 1, 1, 1, 2))
        f = flags(m)
        pads = {}
        if r.random() < 0.4:
            pads = {
                "y_pad_0": r.choice((0, 0, 0, 1, 2, 3)),
                "y_pad_1": r.choice((0, 0, 0, 1, 5)),
                "x_pad_0": r.choice((0, 0, 0, 1, 2)),
                "x_pad_1": r.choice((0, 0, 1, 3)),
            }
        kind = r.random()
        if kind < 0.08:
            opcode = Opcode.STORE if m == 2 else Opcode.LOAD
            b.mem(opcode, (Memory.INP, Memory.UOP, Memory.OUT)[m], 0, 0, 0, f)
        elif m == 0:
            memory = r.choice((Memory.INP, Memory.WGT))
            size = dram_elem_bytes(memory, b.config)
            x = r.choice((1, 2, 3, 7, 16, 33) if memory == Memory.INP else (1, 2, 5))
            b.load(
                memory,
                size * r.randint(0, 40),
                0,
                x,
                f,
                y=r.choice((1, 1, 2, 3, 9)),
                x_stride=r.randint(x, x + 20),
                **pads,
            )
        elif m == 2:
            b.store(
                OUT + b.config.out_elem_bytes * r.randint(0, 40),
                0,
                r.choice((1, 2, 5, 8, 9, 30)),
                f,
                y=r.choice((1, 1, 2, 4)),
                x_stride=r.randint(30, 60),
            )
        elif kind < 0.3:
            b.load(Memory.UOP, 4 * r.randint(0, 90), 0, r.choice((1, 2, 3, 31, 32, 33, 100)), f)
        elif kind < 0.5:
            b.load(
                Memory.ACC,
                64 * r.randint(0, 40),
                0,
                r.choice((1, 2, 3, 8)),
                f,
                y=r.choice((1, 2, 4)),
                x_stride=r.randint(8, 20),
                **pads,
            )
        elif kind < 0.75:
            b.gemm(
                0,
                r.randint(1, 3),
                f,
                iter_in=r.randint(1, 20),
                iter_out=r.randint(1, 3),
                reset=r.randint(0, 1),
            )
        else:
            b.alu(
                AluOp.ADD,
                0,
                r.randint(1, 3),
                f,
                iter_in=r.randint(1, 20),
                use_imm=r.randint(0, 1),
                imm=1,
            )
    b.finish("")
    return b


def check(b: Builder) -> None:
    sim = FSim(b.config, b.stream, arena=(0, 1 << 20), strict=False)
    _, table = time_stream(sim)
    got = list(zip(table["start"].tolist(), table["done"].tolist(), strict=True))
    assert got == simulate(b.insns, b.config)


@pytest.mark.parametrize("bus_bits", [32, 64, 128, 256])
@pytest.mark.parametrize("part", range(4))
def test_random_programs(bus_bits: int, part: int) -> None:
    for seed in range(25 * part, 25 * part + 25):
        check(random_program(seed, bus_bits))


@pytest.mark.parametrize("machine", ["w4", "w4a4"])
@pytest.mark.parametrize("bus_bits", [32, 64, 128])
def test_narrow_operands(machine: str, bus_bits: int) -> None:
    """An out element of 8 bytes is a word of the stock bus; of a bus of 32 bits it is two."""
    for seed in range(25):
        check(random_program(seed, bus_bits, machine))


@pytest.mark.parametrize("bus_bits", [64, 128, 256])
def test_queues_that_fill(bus_bits: int) -> None:
    profile = replace(PROFILES["chisel"], queue_insns=4)
    for seed in range(60):
        b = random_program(seed, bus_bits)
        _, table = time_insns(b.config, b.stream, profile)
        got = list(zip(table["start"].tolist(), table["done"].tolist(), strict=True))
        assert got == simulate(b.insns, b.config, queue=4)


@pytest.mark.parametrize("burst_beats", [2, 8, 64, 256])
@pytest.mark.parametrize("bus_bits", [64, 128, 256])
def test_other_bursts(bus_bits: int, burst_beats: int) -> None:
    for seed in range(20):
        b = random_program(seed, bus_bits)
        b.config = replace(b.config, burst_beats=burst_beats)
        check(b)


@pytest.mark.parametrize("burst_beats", [16, 256])
@pytest.mark.parametrize("bus_bits", [64, 128, 256, 512])
def test_where_the_stream_lies(bus_bits: int, burst_beats: int) -> None:
    """FETCH of wide buses reads a chunk that crosses a burst's boundary as two requests."""
    for address in (8, 0x10, 0x88, 0xF0, 0x1000 - 8, 0x1010):
        for seed in range(5):
            b = random_program(seed, bus_bits)
            b.config = replace(b.config, burst_beats=burst_beats)
            _, table = time_insns(b.config, b.stream, stream_address=address)
            got = list(zip(table["start"].tolist(), table["done"].tolist(), strict=True))
            assert got == simulate(b.insns, b.config, stream_address=address)
            if bus_bits == 64:
                assert got == simulate(b.insns, b.config)


def test_the_stream_starts_a_word_of_64_bits() -> None:
    b = conv(tiles=1, pixels=6)
    for address in (12, -8, 1 << 32):
        sentence = rf"stream_address: must be a multiple of 8 below 2\^32, got {address}; FETCH"
        with pytest.raises(ConfigError, match=sentence):
            time_insns(b.config, b.stream, stream_address=address)


@pytest.mark.parametrize("tiles", [1, 2, 7])
def test_a_small_convolution(tiles: int) -> None:
    check(conv(tiles=tiles, pixels=6))


@pytest.mark.parametrize("bus_bits", [64, 128])
def test_a_full_queue(bus_bits: int) -> None:
    b = Builder(replace(VTAConfig.load("default"), bus_bits=bus_bits))
    b.gemm(0, 1, iter_in=4000)
    for k in range(540):
        b.load(Memory.UOP if k % 3 else Memory.INP, 0, 0, 0)
    b.finish("")
    check(b)


def test_many_short_bursts_of_two_clients() -> None:
    b = Builder()
    b.load(Memory.INP, 112, 0, 3, y=60, x_stride=9)
    b.load(Memory.ACC, 64, 0, 1, y=60, x_stride=5)
    b.load(Memory.UOP, 4, 0, 300)
    b.finish("")
    check(b)


def test_a_stream_of_the_original_compiler(shared_data: Path, default_config: VTAConfig) -> None:
    stream, _, _ = read_dump(shared_data / "golden" / "vta_streams" / "run_00000_C11.vtadump")
    insns = [
        decode(stream[k : k + 16], default_config, strict=False) for k in range(0, len(stream), 16)
    ]
    _, table = time_insns(default_config, stream)
    got = list(zip(table["start"].tolist(), table["done"].tolist(), strict=True))
    assert got == simulate(insns, default_config, limit=500_000)


#: The original hardware in DefaultPynqConfig: bursts of 256 beats.
PYNQ = {"C2": 543_219, "C5": 498_728, "C11": 469_044}


@pytest.mark.parametrize("name", PYNQ)
def test_the_original_hardware_with_long_bursts(shared_data: Path, name: str) -> None:
    path = shared_data / "golden" / "vta_streams" / f"run_00000_{name}.vtadump"
    stream, _, _ = read_dump(path)
    assert time_insns(VTAConfig.load("pynq"), stream)[0] == PYNQ[name]
    assert time_insns(VTAConfig.load("de10nano"), stream)[0] == ORIGINAL[name, 64][0]


# The original hardware (docs/timing.md): cycles, CRC-32 of (start, done) of every instruction.
ORIGINAL = {
    ("C2", 64): (545_239, 0x4156A8E3),
    ("C5", 64): (499_716, 0x2647012B),
    ("C11", 64): (469_312, 0xFA592C91),
    ("C2", 128): (530_941, 0xE8E804BD),
    ("C5", 128): (492_161, 0xF5C02A3B),
    ("C11", 128): (464_806, 0xA7EA82E1),
    ("C2", 256): (528_995, 0x3B071D59),
    ("C5", 256): (491_004, 0xFFD4BE4D),
    ("C11", 256): (462_949, 0x40369C1B),
}


@pytest.mark.parametrize(("name", "bus_bits"), ORIGINAL)
def test_the_original_hardware(
    shared_data: Path, default_config: VTAConfig, name: str, bus_bits: int
) -> None:
    path = shared_data / "golden" / "vta_streams" / f"run_00000_{name}.vtadump"
    stream, _, _ = read_dump(path)
    cycles, table = time_insns(replace(default_config, bus_bits=bus_bits), stream)
    times = np.stack([table["start"], table["done"]], axis=1).astype("<i8")
    assert (cycles, zlib.crc32(times.tobytes())) == ORIGINAL[name, bus_bits]
