"""What programs cost is known, named and limited before it is spent."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from builder import ARENA, INP, OUT, UOP, WGT, Builder, conv
from program_file import conv_case, conv_sections, join_sections

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import Program
from flow.sim import FSim
from flow.sim.core_library import core_function
from flow.sim.oracle import run_program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from flow.sim.tsim import main as tsim_main
from flow.system.limits import DEFAULT, UNLIMITED, Limits
from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.networks import conv as conv_layer
from tests.flow.compiler.networks import subgraph
from vta_config.config_words import config_words
from vta_config.errors import CapacityError, HazardError
from vta_config.hardware import VTAConfig
from vta_config.isa import AluOp, Memory

STEPS = r"^program: must take at most 268435456 steps, got (\d+); allow more where you trust it"
BYTES = r"^program: must take at most 536870912 bytes of memory, got (\d+); allow more where"


def program_of(layers: int = 1) -> Program:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 8, 5, 5), dtype="int8")
    chain = [conv_layer(rng, "conv0", x, 8, (3, 3))]
    for k in range(1, layers):
        chain.append(conv_layer(rng, f"conv{k}", chain[-1], 8, (1, 1)))
    graph = subgraph(tuple(chain), x)
    config = VTAConfig.load("small")
    return make_program(graph, lower(graph, config), config)


def many_steps(count: int) -> Builder:
    """Return `count` clears of 16 million steps each, no two with the same plan."""
    b = Builder()
    for _ in range(16):
        b.uop(0)
    b.load(Memory.UOP, UOP, 0, 16)
    for k in range(count):
        b.gemm(0, 16, reset=1, iter_out=1023, iter_in=1000 + k % 20)
    b.finish("")
    return b


def make(b: Builder, limits: Limits = DEFAULT, **options: Any) -> FSim:
    sim = FSim(b.config, b.stream, arena=(0, ARENA), limits=limits, **options)
    sim.write(b.uop_at, b.uop_bytes)
    return sim


# ---- steps
def test_steps_of_all_instructions_are_limited() -> None:
    began = time.process_time()
    with pytest.raises(CapacityError, match=STEPS):
        make(many_steps(17))
    with pytest.raises(CapacityError, match=STEPS):
        make(many_steps(20_000), strict=False)
    assert time.process_time() - began < 5
    make(many_steps(17), UNLIMITED)
    make(many_steps(1), Limits(max_steps=1 << 24))
    with pytest.raises(CapacityError, match=r"must take at most 1000 steps, got 16368020; allow"):
        make(many_steps(1), Limits(max_steps=1000))


def test_steps_count_what_an_instruction_does() -> None:
    def steps(change: Callable[[Builder], object], config: VTAConfig | None = None) -> int:
        b = Builder(config or VTAConfig.load("default"))
        b.uop(0)
        change(b)
        words = config_words(b.config, arena_bytes=ARENA)
        return int(core_function("vta.cost")(words, b.stream)["steps"])

    nest = {"iter_out": 3, "iter_in": 5}
    assert steps(lambda b: b.finish("")) == 0
    assert steps(lambda b: b.gemm(2, 9, **nest)) == 7 * 15
    assert steps(lambda b: b.gemm(9, 2, **nest)) == 0
    assert steps(lambda b: b.alu(AluOp.ADD, 0, 1, **nest)) == 15
    # A row costs four steps, and 64 bytes one; zeros are written, too.
    assert steps(lambda b: b.load(Memory.INP, INP, 0, 6, y=2)) == 12 + 8
    assert steps(lambda b: b.load(Memory.INP, INP, 0, 6, y=2, x_pad_0=1, y_pad_1=1)) == 21 + 8
    assert steps(lambda b: b.load(Memory.WGT, WGT, 0, 3)) == 3 * 4 + 4
    assert steps(lambda b: b.store(OUT, 0, 0)) == 0
    # Larger machines: a step of 64 x 64 numbers is 16 of the stock one.
    large = replace(
        VTAConfig.load("default"),
        log_block=6,
        log_wgt_buff_bytes=20,
        log_inp_buff_bytes=17,
        log_acc_buff_bytes=19,
    )
    assert steps(lambda b: b.gemm(0, 1, **nest), large) == 15 * 16
    assert steps(lambda b: b.gemm(0, 1, reset=1, **nest), large) == 15


def test_the_cost_of_a_program_is_named() -> None:
    program = program_of()
    sim = ProgramSim(program)
    words = config_words(program.config, arena_bytes=program.arena_bytes)
    cost = core_function("vta.cost")(words, program.insn_bytes)
    assert sim.sim.cost["steps"] == cost["steps"] > 0
    assert sim.sim.cost["bytes"] > cost["bytes"] > program.arena_bytes  # and its loop nests


# ---- memory
def test_memory_is_limited_before_it_is_allocated() -> None:
    b = conv()
    for arena in ((0, 1 << 32), [(k << 30, 1 << 29) for k in range(9)], (0, (1 << 40) - 1)):
        with pytest.raises(CapacityError, match=BYTES):
            FSim(b.config, b.stream, arena=arena)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    FSim(b.config, b.stream, arena=(0, 1 << 32), limits=UNLIMITED)  # no page of it is touched
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 18


def test_scratchpads_count() -> None:
    words = config_words(VTAConfig.load("default"))
    words[4], words[6], words[7], words[8] = 7, 9, 28, 11
    with pytest.raises(CapacityError, match=BYTES):
        core_function("vta.fsim.create")(words, b"", [0, 4096], False, None, "", [], 1, 1 << 29)


def test_plans_are_limited_before_they_are_made() -> None:
    def nests(count: int) -> Builder:
        """Return ALU nests of as many runs as steps, each with other factors."""
        b = Builder()
        for _ in range(64):
            b.uop(0)
        b.load(Memory.UOP, UOP, 0, 64)
        for k in range(count):
            b.alu(AluOp.ADD, 0, 64, use_imm=1, iter_out=32, iter_in=128, dst_factor_out=k + 1)
        b.finish("")
        return b

    sim = make(nests(16), strict=False)
    sim.verify()
    runs = 12 * 16 * 64 * 32 * 128  # bytes; vectors have room for as many again
    assert runs < sim.cost["bytes"] < 2.2 * runs
    sim = make(nests(16), Limits(max_bytes=1 << 25), strict=False)
    with pytest.raises(CapacityError, match="must take at most 33554432 bytes of memory, got"):
        sim.verify()


def test_uops_may_be_written_again_and_again() -> None:
    b = conv()
    sim = FSim(b.config, b.stream, arena=(0, ARENA), strict=False, limits=Limits(max_bytes=1 << 21))
    for k in range(100):
        uops = b.uop_bytes.copy()
        uops[0] = k % 2
        sim.write(b.uop_at, uops)
        sim.verify()
    assert sim.cost["bytes"] < 1 << 21


def test_snapshots_count() -> None:
    b = conv()
    sim = make(b, Limits(max_bytes=1 << 21))
    taps = [(len(b.insns) - 1, 0, ARENA)]
    assert len(sim.run(taps=taps)) == 1
    with pytest.raises(CapacityError, match="must take at most 2097152 bytes of memory, got"):
        sim.run(taps=taps * 100)


def test_micro_ops_in_many_places_are_found() -> None:
    def program(store: int) -> Builder:
        b = Builder()
        b.uop(0)
        for k in range(200):  # every other 4 KiB, from the last to the first
            b.load(Memory.UOP, 4096 * (398 - 2 * k), k, 1)
        b.gemm(199, 200, reset=1)
        b.alu(AluOp.ADD, 199, 200, ">n", use_imm=1)
        b.store(store, 0, 1, "<p >p")
        b.finish()
        return b

    def check(store: int) -> None:
        b = program(store)
        FSim(b.config, b.stream, arena=(0, 1 << 21)).verify()

    for address in (4096 + 4080, 4096 * 397, 4096 * 398 + 16, 4080):
        check(address)
    for address in (0, 4096 * 200, 4096 * 398):
        with pytest.raises(HazardError, match=r"^STORE.dram_base: must not write micro-ops that"):
            check(address)


def test_many_ranges_take_no_quadratic_time() -> None:
    b = Builder()
    b.uop(0)
    count = 20_000
    for _ in range(count):
        b.load(Memory.UOP, UOP, 0, 1)
    b.alu(AluOp.ADD, 0, 1, ">n", use_imm=1)
    for k in range(count):
        b.store(OUT, 0, 1, "<p >p" if k == 0 else ">p" if k == count - 1 else "")
    b.finish("")
    defined = [(0, ARENA)] * 20_000
    began = time.process_time()
    sim = FSim(b.config, b.stream, arena=(0, ARENA), strict=False, defined=defined)
    sim.write(UOP, b.uop_bytes)
    sim.verify()
    assert time.process_time() - began < 2


# ---- engines
def test_oracle() -> None:
    program = program_of()
    x = np.zeros((1, 8, 5, 5), np.int8)
    run_program(program, [x])
    with pytest.raises(CapacityError, match=r"^vta_0: must take at most 10 steps, got \d+; allow"):
        run_program(program, [x], limits=Limits(max_steps=10))
    with pytest.raises(CapacityError, match="must take at most 10 bytes of memory, got"):
        run_program(program, [x], limits=Limits(max_bytes=10))


def test_simulators_of_programs() -> None:
    program = program_of()
    for make_sim in (ProgramSim, TSim):
        with pytest.raises(CapacityError, match="must take at most 10 steps, got"):
            make_sim(program, limits=Limits(max_steps=10))
    assert TSim(program).cost == ProgramSim(program).sim.cost


def hungry_file() -> tuple[bytes, np.ndarray, np.ndarray]:
    """Return conv_case in an arena of 512 MiB."""
    _, x, y = conv_case()
    rng = np.random.default_rng(0)
    w = rng.integers(-128, 128, (16, 16), dtype=np.int8)
    sections = conv_sections(w)
    words = list(struct.unpack("<16I", sections["CONFIG"]))
    words[12] = 1 << 29
    sections["CONFIG"] = struct.pack("<16I", *words)
    return join_sections(sections), x, y


def test_a_module_that_costs_too_much_loads_and_says_so() -> None:
    file, x, y = hungry_file()
    out = np.zeros_like(y)
    load = core_function("vta.create_module") and tvm_ffi.get_global_func(
        "ffi.Module.load_from_bytes.vta"
    )
    module = load(b"4\nconv" + file)
    assert list(module["layers"]()) == ["conv"] and bytes(module["program"]()) == file
    calls: list[Callable[[], Any]] = [
        lambda: module["conv"](x, out),
        lambda: module["taps"](x),
        lambda: module["counters"](0, -1),
        lambda: module["cycles"](),
        lambda: module["set_engine"]("tsim", ""),
        lambda: module["set_engine"]("oracle", ""),
        lambda: module["set_engine"]("driver", "/nowhere/libvta.so"),
        lambda: module["set_limits"](1 << 20, 1 << 20),
    ]
    for call in calls:
        with pytest.raises(CapacityError, match=r"must take at most \d+ bytes of memory, got 9"):
            call()
    module["set_limits"](1 << 20, 1 << 30)
    module["conv"](x, out)
    np.testing.assert_array_equal(out, y)
    with pytest.raises(CapacityError, match="must take at most 10 steps, got"):
        module["set_limits"](10, -1)
    module["conv"](x, out)  # as it was


def test_functions_may_take_fewer_steps() -> None:
    file, _, _ = conv_case()
    module = core_function("vta.create_module")("conv", file, 2000, -1)
    with pytest.raises(CapacityError, match="must take at most 62 steps, got"):
        module["set_engine"]("oracle", "")
    with pytest.raises(Exception, match="must be called with 2 or 4 arguments, got 3"):
        core_function("vta.create_module")("conv", file, 1)


def test_layers_of_wrong_types() -> None:
    rng = np.random.default_rng(0)
    sections = conv_sections(rng.integers(-128, 128, (16, 16), dtype=np.int8))
    meta = json.loads(sections["META"])
    for key in ("name", "address", "dtype", "last_store", "shape"):
        for wrong in (None, [], {}, "x" if key not in ("name", "dtype") else 7):
            if (key, wrong) == ("shape", []):
                continue  # one number
            changed = json.loads(json.dumps(meta))
            changed["layers"][0][key] = wrong
            module = core_function("vta.create_module")(
                "conv", join_sections({**sections, "META": json.dumps(changed).encode()})
            )
            with pytest.raises(Exception, match="program META: must describe layers by name"):
                module["layers"]()


def test_deep_json_is_not_parsed() -> None:
    rng = np.random.default_rng(0)
    sections = conv_sections(rng.integers(-128, 128, (16, 16), dtype=np.int8))
    for deep in (b"[" * 33, b'{"a":' * 1_000_000):
        with pytest.raises(Exception, match="must have a META of at most 32 levels, got more; co"):
            core_function("vta.create_module")("conv", join_sections({**sections, "META": deep}))
    text = b'{"layers": [], "a": "' + b"[" * 100 + b'\\"[[[["}'
    module = core_function("vta.create_module")("conv", join_sections({**sections, "META": text}))
    assert list(module["layers"]()) == []
    with pytest.raises(Exception, match="must have a META of at most 16777216 bytes, got 167"):
        core_function("vta.create_module")(
            "conv", join_sections({**sections, "META": b" " * ((1 << 24) + 1)})
        )


# ---- command lines


def test_tsim_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "program.vta"
    program_of().save(path)
    assert tsim_main([str(path)]) == 0
    assert "bytes of memory" in capsys.readouterr().out
    for options in (["--max-steps", "10"], ["--max-bytes", "40000"]):
        assert tsim_main([str(path), *options]) == 2
        assert capsys.readouterr().err.startswith("python -m flow.sim.tsim: ")
    assert tsim_main([str(tmp_path / "none.vta")]) == 2


@pytest.mark.slow
def test_disasm_of_a_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.vta")
    done = subprocess.run(
        [sys.executable, "-m", "flow", "disasm", tmp_path / "pipe.vta"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2 and "got a pipe or a device" in done.stderr
