"""Compiled programs on tsim: the same bytes as fsim, and a report whose parts sum up."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from builder import Builder
from program_file import conv_case

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.data.models import DIGITS, bundled_data, load_model
from flow.pipeline import Pipeline
from flow.program.program import Program
from flow.sim.core_library import core_function
from flow.sim.fsim import FSim
from flow.sim.program_sim import ProgramSim
from flow.sim.timing_report import (
    RESOURCES,
    above,
    convolution_steps,
    critical_path,
    percent_above,
    step_cycles,
)
from flow.sim.trace import trace_events, write_trace
from flow.sim.tsim import TSim, main, time_insns, time_stream
from scripts.compare_streams import read_dump
from tests.flow.compiler.networks import residual_network, weights
from tests.flow.sim.cycle_reference import simulate
from tests.flow.sim.test_golden_streams import COUNTERS
from vta_config.errors import ConfigError, DecodeError
from vta_config.hardware import VTAConfig, preset_names
from vta_config.isa import Opcode
from vta_config.portable import QUEUE_INSNS
from vta_config.timing import PROFILES, TimingProfile


def compiled(preset: str = "default", size: int = 32) -> Program:
    config = VTAConfig.load(preset)
    graph = residual_network(np.random.default_rng(1), size=size)
    return make_program(graph, lower(graph, config), config)


@pytest.fixture(scope="module")
def program() -> Program:
    return compiled()


@pytest.fixture(scope="module")
def timed(program: Program) -> TSim:
    return TSim(program)


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("profile", PROFILES)
def test_every_byte_is_that_of_fsim(preset: str, profile: str) -> None:
    program = compiled(preset, size=16)
    x = weights(np.random.default_rng(5), *program.inputs[0].shape)
    got = TSim(program, profile=profile).run([x])
    want = ProgramSim(program).run([x])
    for name, tensor in want.layers.items():
        np.testing.assert_array_equal(got.layers[name], tensor, err_msg=name)
    np.testing.assert_array_equal(got.outputs[0], want.outputs[0])


@pytest.mark.parametrize("bus_bits", [64, 128])
def test_a_compiled_program_takes_the_cycles_of_the_walk(bus_bits: int) -> None:
    config = replace(VTAConfig.load("default"), bus_bits=bus_bits)
    graph = residual_network(np.random.default_rng(1), size=8)
    program = make_program(graph, lower(graph, config), config)
    table = TSim(program).table
    got = list(zip(table["start"].tolist(), table["done"].tolist(), strict=True))
    assert got == simulate(list(program.insns), config)


def test_the_profile_of_the_machine_is_the_default(program: Program, timed: TSim) -> None:
    assert timed.result.profile == "chisel"
    old = Program.from_bytes(
        replace(program, config=replace(program.config, timing="chisel-simple")).to_bytes()
    )
    assert TSim(old).cycles == TSim(program, profile="chisel-simple").cycles > timed.cycles


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
            want += -(-o // 16) * -(-i // 16) * h * w * kh * kw
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


def test_trace(timed: TSim, tmp_path: Path) -> None:
    write_trace(timed, tmp_path / "trace.json")
    document = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    events = [e for e in document["traceEvents"] if e["ph"] == "X"]
    assert document["traceEvents"] == trace_events(timed)
    insns = [e for e in events if e["cat"] == "insn"]
    assert [e["args"]["insn"] for e in insns] == list(range(len(timed.program.insns)))
    assert insns[3]["args"]["origin"] == str(timed.program.insns[3].origin)
    assert insns[3]["ts"] == pytest.approx(timed.table["start"][3] / 100)
    assert sum(e["args"]["cycles"] for e in events if e["cat"] == "layer") == timed.cycles
    # On one track nothing overlaps.
    for track in range(5):
        spans = sorted(
            (e["args"]["cycle"], e["args"]["cycles"]) for e in events if e["tid"] == track
        )
        assert all(a + n <= b for (a, n), (b, _) in pairwise(spans))


def test_plots(timed: TSim, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from flow.sim.plots import plot_layers, plot_roofline

    paths = plot_roofline(timed.result, timed.program.config, tmp_path / "roofline")
    paths += plot_layers(timed.result, tmp_path / "layers")
    assert [p.name for p in paths] == ["roofline.png", "roofline.svg", "layers.png", "layers.svg"]
    assert paths[0].read_bytes()[:4] == b"\x89PNG"
    assert b"</svg>" in paths[1].read_bytes()
    assert b"</svg>" in paths[3].read_bytes()


def test_plots_without_matplotlib(
    timed: TSim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flow.sim.plots import plot_layers

    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"plots: must have matplotlib; install vta-flow\[plot\]"):
        plot_layers(timed.result, tmp_path / "layers")


def test_command(program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    program.save(tmp_path / "net.vta")
    out = tmp_path / "out"
    arguments = ["--profile", "hls", "--trace", str(tmp_path / "t.json"), "--plots", str(out)]
    assert main([str(tmp_path / "net.vta"), *arguments]) == 0
    assert "profile hls" in capsys.readouterr().out
    assert len(list(out.iterdir())) == 4


def test_where_the_stream_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = compiled("ultra96")
    page, later = (TSim(program, stream_address=at).cycles for at in (4096, 0x10))
    assert page == TSim(program).cycles != later
    program.save(tmp_path / "net.vta")
    assert main([str(tmp_path / "net.vta"), "--stream-address", "0x10"]) == 0
    assert f"{later:,}" in capsys.readouterr().out


#: The instructions of digits, `best`, on ultra96 that the original's RTL was run with.
STREAM_OF_RTL = 1_708_565_954


@pytest.mark.slow
def test_digits_from_where_the_original_took_other_cycles() -> None:
    model = load_model(DIGITS)
    _, calibration = bundled_data(model) or (None, None)
    assert calibration is not None
    pipeline = Pipeline(model, VTAConfig.load("ultra96"))
    pipeline.calibrate(calibration)
    (program,) = pipeline.compile(pipeline.form("best")).programs
    if zlib.crc32(program.insn_bytes) != STREAM_OF_RTL:
        pytest.skip("the compiler makes another program now than the original's RTL was run with")
    assert TSim(program).cycles == 58_115
    assert TSim(program, stream_address=0x10).cycles == 58_065


def test_the_engine_of_a_module() -> None:
    file, x, want = conv_case()
    module = core_function("vta.create_module")("conv", file)
    with pytest.raises(ConfigError, match="engine: must be tsim to have cycles, got fsim"):
        module["cycles"]()
    cycles = {}
    for profile in ("", PROFILES["chisel"].text, PROFILES["chisel-simple"].text):
        module["set_engine"]("tsim", profile)
        y = np.zeros_like(want)
        module["conv"](x, y)
        np.testing.assert_array_equal(y, want)
        (tap,) = module["taps"](x)
        np.testing.assert_array_equal(np.from_dlpack(tap), want)
        cycles[profile] = module["cycles"]()
    assert cycles[""] == cycles[PROFILES["chisel"].text] < cycles[PROFILES["chisel-simple"].text]
    assert module["counters"](0, -1)["gemm_ops"] == 20
    for text, must in (
        ("1,2", "timing: must be 12 numbers, separated by commas, got 1,2"),
        (PROFILES["chisel"].text + ",", "must be 12 numbers"),
        ("1,6,1,6,1,2,6,16,0,512,0,4", "timing: must have tags and a queue, got 1,6,1,6,1,2,6"),
    ):
        with pytest.raises(ConfigError, match=must):
            module["set_engine"]("tsim", text)


def test_a_stream_without_memory(program: Program, timed: TSim) -> None:
    cycles, table = time_insns(program.config, program.insn_bytes)
    assert cycles == timed.cycles
    for name, column in table.items():
        np.testing.assert_array_equal(column, timed.table[name], err_msg=name)
    with pytest.raises(DecodeError, match=r"insn.opcode: must be in \[0, 4\], got 7"):
        time_insns(program.config, b"\7" + bytes(15))


def test_what_the_simulator_refuses() -> None:
    b = Builder()
    b.finish("")
    sim = FSim(b.config, b.stream, arena=(0, 4096))
    with pytest.raises(ConfigError, match="run_timed: must follow time"):
        sim.run(timed=True)
    with pytest.raises(ConfigError, match=r"time.table: must take 96 bytes, got 8"):
        sim.time(PROFILES["chisel"].text, np.zeros(1, np.int64))


# Cycles of the original compiler's streams (56x56, 28x28 and 7x7 pixels; 451,584 GEMM steps each).
GOLDEN = {
    "C2": {"chisel": 545_239, "chisel-simple": 2_123_710, "hls": 582_871},
    "C5": {"chisel": 499_716, "chisel-simple": 1_966_466, "hls": 518_532},
    "C11": {"chisel": 469_312, "chisel-simple": 1_852_122, "hls": 474_016},
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_streams(shared_data: Path, name: str, profile: str) -> None:
    stream, before, after = read_dump(
        shared_data / "golden" / "vta_streams" / f"run_00000_{name}.vtadump"
    )
    segments = [(address, len(data)) for address, data in before]
    sim = FSim(VTAConfig.load("default"), stream, arena=segments, strict=False)
    for address, data in before:
        sim.write(address, data)
    cycles, table = time_stream(sim, profile)
    assert cycles == GOLDEN[name][profile]
    sim.run(timed=True)
    for address, data in after:
        np.testing.assert_array_equal(
            sim.read(address, len(data)), np.frombuffer(data, np.uint8), strict=True
        )
    counters = sim.counters()
    assert counters["gemm_ops"] == 451_584
    if name in COUNTERS:
        keys = ("inp", "wgt", "acc", "uop", "out")
        assert tuple(counters[f"{k}_bytes"] for k in keys) == COUNTERS[name][:5]
    # Every byte but the odd micro-op crosses the bus of 8 bytes once.
    moved = sum(counters[f"{k}_bytes"] for k in ("inp", "wgt", "acc", "uop", "out"))
    assert 0 <= table["beats"].sum() * 8 - moved < 8 * len(stream) // 16
