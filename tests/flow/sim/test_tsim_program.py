"""Compiled programs on tsim: the same bytes as fsim, and a report whose parts sum up."""

from __future__ import annotations

import zlib
from dataclasses import replace
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
from flow.sim.tsim import TSim, main, time_insns, time_stream
from scripts.compare_streams import read_dump
from tests.flow.compiler.networks import residual_network, weights
from tests.flow.sim.compiled import compiled
from tests.flow.sim.cycle_reference import simulate
from tests.flow.sim.test_golden_streams import COUNTERS
from vta_config.errors import ConfigError, DecodeError
from vta_config.hardware import VTAConfig, preset_names
from vta_config.timing import PROFILES


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
