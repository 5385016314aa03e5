"""What the timing of a program says: layers, modules, the critical path, floors."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from flow.program.program import Program
from flow.sim.program_sim import ProgramSim
from flow.sim.timing_report import (
    MODULES,
    RESOURCES,
    LayerTiming,
    ModuleTiming,
    TimingResult,
    above,
    convolution_steps,
    critical_path,
    module_of,
    percent_above,
    resource_of,
    step_cycles,
    steps_of,
)
from flow.sim.tsim import TSim
from tests.flow.compiler.networks import residual_network
from vta_config.isa import Insn, Memory, Opcode
from vta_config.origin import Origin
from vta_config.portable import QUEUE_INSNS
from vta_config.timing import PROFILES, TimingProfile


def insn(opcode: Opcode, **values: int) -> Insn:
    return Insn(opcode, values, Origin())


@pytest.mark.parametrize(
    ("which", "resource", "module"),
    [
        (insn(Opcode.GEMM), "gemm", "COMPUTE"),
        (insn(Opcode.ALU), "alu", "COMPUTE"),
        (insn(Opcode.LOAD, memory_type=Memory.INP, x_size=1), "load", "LOAD"),
        (insn(Opcode.LOAD, memory_type=Memory.WGT, x_size=1), "load", "LOAD"),
        (insn(Opcode.LOAD, memory_type=Memory.ACC, x_size=1), "load", "COMPUTE"),
        (insn(Opcode.LOAD, memory_type=Memory.UOP, x_size=0), "sync", "COMPUTE"),
        (insn(Opcode.STORE, memory_type=Memory.OUT, x_size=1), "store", "STORE"),
        (insn(Opcode.STORE, memory_type=Memory.OUT, x_size=0), "sync", "STORE"),
        (insn(Opcode.FINISH), "sync", "COMPUTE"),
    ],
)
def test_what_an_instruction_uses(which: Insn, resource: str, module: str) -> None:
    assert resource_of(which) == resource
    assert MODULES[module_of(which)] == module


def test_cycles_of_steps() -> None:
    nest = {"uop_begin": 3, "uop_end": 5, "iter_out": 7, "iter_in": 2}
    assert steps_of(insn(Opcode.GEMM, **nest)) == 28
    simple = PROFILES["chisel-simple"]
    assert step_cycles(insn(Opcode.GEMM, **nest), simple) == 28 * 4
    assert step_cycles(insn(Opcode.ALU, use_imm=1, **nest), simple) == 28 * 5
    assert step_cycles(insn(Opcode.ALU, **nest), simple) == 28 * 6
    assert step_cycles(insn(Opcode.LOAD, memory_type=Memory.INP, x_size=9), simple) == 0


def test_a_report_by_hand() -> None:
    path = dict.fromkeys(RESOURCES, 0) | {"gemm": 30, "load": 10}
    layer = LayerTiming(
        name="conv1",
        cycles=40,
        gemm_steps=20,
        utilization=0.5,
        bound="gemm",
        path=path,
        floor=20,
        full_floor=32,
        inp_bytes=1,
        wgt_bytes=2,
        acc_bytes=4,
        uop_bytes=8,
        out_bytes=1024 - 15,
        insns=6,
    )
    assert (layer.bytes_read, layer.bytes_moved) == (15, 1024)
    module = ModuleTiming(
        name="LOAD", busy=1, memory=2, wait_fetch=3, wait_prev=4, wait_next=5, switch=6, idle=19
    )
    result = TimingResult(
        profile="chisel",
        gemm_step_cycles=1,
        cycles=40,
        milliseconds=0.0004,
        layers=(layer,),
        modules=(module,),
        path=path,
    )
    assert (result.floor, result.full_floor) == (20, 32)
    _, units, row, whole, ms, floors, _, _, load = result.table().split("\n")
    assert units.split()[:3] == ["layer", "(cycles)", "(steps)"]
    numbers = ["40", "20", "50.0", "20", "100.0", "32", "25.0"]
    path_and_bytes = ["30", "0", "10", "0", "0", "0", "1", "6"]
    assert row.split() == ["conv1", *numbers, "gemm", *path_and_bytes]
    assert whole.split() == ["all", *numbers, *path_and_bytes]
    assert ms == "latency: 0.00 ms, timing profile chisel"
    assert floors == (
        "100.0% above the sum of the layers' rooflines, 25.0% above the sum of their full rooflines"
    )
    assert load.split() == ["LOAD", "1", "2", "3", "4", "5", "6", "19"]


def test_the_parts_sum_up(program: Program, timed: TSim) -> None:
    result = timed.result
    assert result.cycles == timed.cycles == int(timed.table["done"].max())
    assert result.milliseconds == pytest.approx(result.cycles / 1e5)
    assert [layer.name for layer in result.layers] == [r.name for r in program.layers]
    assert sum(layer.cycles for layer in result.layers) == result.cycles
    assert sum(layer.insns for layer in result.layers) == len(program.insns)
    for layer in result.layers:
        assert sum(layer.path.values()) == layer.cycles
        assert layer.path[layer.bound] == max(layer.path[r] for r in RESOURCES[:-1])
        assert 0 <= layer.utilization <= 1
    assert sum(result.path.values()) == result.cycles
    for m in result.modules:
        parts = (m.busy, m.memory, m.wait_fetch, m.wait_prev, m.wait_next, m.switch, m.idle)
        assert sum(parts) == result.cycles
        assert min(parts) >= 0


def test_bytes_are_those_of_the_counters(program: Program, timed: TSim) -> None:
    counters = ProgramSim(program).sim.counters()
    for memory in ("inp", "wgt", "acc", "uop", "out"):
        key = f"{memory}_bytes"
        assert sum(getattr(layer, key) for layer in timed.result.layers) == counters[key]


def test_convolution_steps_are_those_of_the_shapes(program: Program) -> None:
    # conv1: 3x3 on 16 channels of 32x32 etc.; bias, residual and clearing steps do not count.
    graph = residual_network(np.random.default_rng(1), size=32)
    want = 0
    for layer in graph.layers:
        if layer.kind in ("conv2d", "dense"):
            _, o, h, w = layer.out_shape
            assert layer.weight is not None
            _, i, kh, kw = layer.weight.shape
            if layer.inputs[0] == graph.inputs[0].name:
                continue  # its channels are few; space-to-depth makes other steps of it
            # A tap takes a step for each of its inputs that is in the picture.
            rows, columns = (
                sum(
                    0 <= at * layer.stride[axis] - layer.padding[axis] + tap < inside
                    for at in range(outside)
                    for tap in range(taps)
                )
                for axis, inside, outside, taps in zip(
                    (0, 1), layer.in_shape[2:], (h, w), (kh, kw), strict=True
                )
            )
            want += -(-o // 16) * -(-i // 16) * rows * columns
    names = {x.name for x in graph.layers if x.inputs[0] != graph.inputs[0].name}
    steps = convolution_steps(program)
    own = [insn.origin.layer in names for insn in program.insns]
    assert steps[own].sum() == want


def test_the_critical_path_reaches_from_launch_to_finish(program: Program, timed: TSim) -> None:
    links = critical_path(program.insns, timed.table, QUEUE_INSNS)
    assert links[0][1] == timed.cycles
    assert program.insns[links[0][2]].opcode == Opcode.FINISH
    assert links[-1][0] == 0
    assert all(a[0] == b[1] for a, b in pairwise(links))


def test_the_critical_path_goes_through_full_queues_of_any_length(program: Program) -> None:
    sim = TSim(program, profile=TimingProfile(queue_insns=8))
    assert sim.table["wait_queue"].any()
    links = critical_path(program.insns, sim.table, 8)
    assert links[0][1] == sim.cycles and links[-1][0] == 0
    assert all(a[0] == b[1] for a, b in pairwise(links))
    assert sum(sim.result.path.values()) == sim.cycles


@pytest.mark.parametrize("profile", PROFILES)
def test_the_floors(program: Program, profile: str) -> None:
    sim = TSim(program, profile=profile)
    result, timing = sim.result, PROFILES[profile]
    assert result.floor == sum(x.floor for x in result.layers)
    assert result.full_floor < result.cycles
    assert above(result.cycles, result.floor) == result.cycles / result.floor - 1
    for layer in result.layers:
        assert layer.gemm_steps * timing.gemm_step <= layer.floor <= layer.full_floor
    # Without what an instruction takes besides its steps, COMPUTE's time is the steps'.
    spent = 0
    for insn, cycles in zip(program.insns, sim.table["done"] - sim.table["start"], strict=True):
        if insn.opcode == Opcode.GEMM:
            fixed = timing.gemm_reset_fixed if insn["reset"] else timing.gemm_fixed
            assert step_cycles(insn, timing) == cycles - fixed
        elif insn.opcode == Opcode.ALU:
            assert step_cycles(insn, timing) == cycles - timing.alu_fixed
        else:
            assert step_cycles(insn, timing) == 0
        spent += step_cycles(insn, timing)
    assert spent <= result.full_floor


def test_nothing_is_above_no_floor() -> None:
    assert above(3, 0) is None
    assert (percent_above(3, 0), percent_above(3, 2), percent_above(1, 2)) == (
        "–",
        "50.0%",
        "-50.0%",
    )


def test_json_and_table(timed: TSim) -> None:
    data = json.loads(json.dumps(timed.result.to_json()))
    assert data["engine"] == "tsim"
    assert data["layers"][0]["cycles"] == timed.result.layers[0].cycles
    text = timed.result.table()
    assert f"{timed.cycles:,}" in text
    percent = percent_above(timed.cycles, timed.result.floor)
    assert f"{percent} above the sum of the layers' rooflines" in text
    assert "COMPUTE" in text
