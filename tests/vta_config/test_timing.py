"""Cycle counts of each generation, by hand from docs/machine.md."""

from __future__ import annotations

from dataclasses import fields

import pytest

from vta_config.timing import PROFILES, TimingProfile

CHISEL, SIMPLE, HLS = PROFILES["chisel"], PROFILES["chisel-simple"], PROFILES["hls"]


@pytest.mark.parametrize(
    ("profile", "gemm", "reset", "immediate", "register"),
    [(CHISEL, 1, 1, 1, 2), (SIMPLE, 4, 4, 5, 6), (HLS, 1, 1, 2, 2)],
)
def test_cycles_of_a_step(
    profile: TimingProfile, gemm: int, reset: int, immediate: int, register: int
) -> None:
    assert profile.step_cycles(alu=False) == gemm
    assert profile.step_cycles(alu=False, reset=True) == reset
    assert profile.step_cycles(alu=True, immediate=True) == immediate
    assert profile.step_cycles(alu=True) == register


@pytest.mark.parametrize(
    ("profile", "gemm", "reset", "alu"), [(CHISEL, 7, 7, 7), (SIMPLE, 4, 1, 1), (HLS, 7, 7, 7)]
)
def test_the_next_instruction_starts_a_cycle_after_the_last_result(
    profile: TimingProfile, gemm: int, reset: int, alu: int
) -> None:
    assert profile.overhead(alu=False) == gemm
    assert profile.overhead(alu=False, reset=True) == reset
    assert profile.overhead(alu=True) == alu


@pytest.mark.parametrize(
    ("rows", "beats", "expected"),
    [
        (1, 8, 16 + 8 + 8),  # latency, the LOAD's own cycles, a beat a cycle
        (4, 3, 16 + 8 + 4 * 3),
        (4, 2, 16 + 8 + 4 * (2 + 1)),  # short rows wait for their requests
        (4, 1, 16 + 8 + 4 * (1 + 1)),
        (4, 0, 16 + 8),  # beats counted elsewhere
    ],
)
def test_loads_of_the_pipelined_memory(rows: int, beats: int, expected: int) -> None:
    assert CHISEL.load_cycles(rows, beats, burst_beats=16) == expected
    assert HLS.load_cycles(rows, beats, burst_beats=16) == expected
    slower = TimingProfile(memory_latency=100)
    assert slower.load_cycles(rows, beats, burst_beats=16) == expected + 84


@pytest.mark.parametrize(
    ("rows", "beats", "expected"),
    [
        (1, 8, 2 + 8 + 4),
        (3, 8, 2 + 3 * 12),  # one after the other
        (1, 16, 2 + 16 + 4),
        (1, 17, 2 + 17 + 2 * 4),  # two bursts
        (2, 0, 2 + 2 * 4),
    ],
)
def test_loads_of_the_simple_memory(rows: int, beats: int, expected: int) -> None:
    assert SIMPLE.load_cycles(rows, beats, burst_beats=16) == expected


def test_text_is_what_the_core_reads() -> None:
    assert CHISEL.text == "1,6,1,6,1,2,6,16,16,512,0,4"
    assert SIMPLE.text == "4,3,4,0,5,6,0,16,16,512,1,4"
    assert len(CHISEL.text.split(",")) == len(fields(TimingProfile))


def test_a_load_takes_what_the_generation_takes() -> None:
    # timing.md: 22 + beats until it is done, a cycle more until the next one starts; one request
    # every two cycles; the older generation each burst beats + 4.
    assert PROFILES["chisel"].load_cycles(1, 32, 16) == 16 + 8 + 32
    assert PROFILES["chisel"].load_cycles(5, 1, 16) == 16 + 8 + 5 * 2
    assert PROFILES["chisel-simple"].load_cycles(1, 32, 16) == 2 + 32 + 2 * 4
    assert PROFILES["chisel-simple"].load_cycles(5, 1, 16) == 2 + 5 * (1 + 4)
    assert PROFILES["chisel-simple"].load_cycles(1, 32, 256) == 2 + 32 + 4
