"""The TVM runtime module: calls, engines, saving, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from builder import INP, OUT, conv
from numpy.typing import NDArray
from program_file import conv_case, conv_sections, join_sections, tensor
from tvm import relax

import flow.sim
from flow.program.layouts import wgt_bytes
from flow.sim.core_library import LIBRARY, core_function
from vta_config.errors import (
    ArtifactError,
    CapacityError,
    ConfigError,
    DriverError,
    FlowError,
    HazardError,
)
from vta_config.hardware import VTAConfig
from vta_config.isa import Opcode
from vta_config.origin import Origin


def make(file: bytes, symbol: str = "conv") -> Any:
    return core_function("vta.create_module")(symbol, file)


def call(module: Any, x: np.ndarray, shape: tuple[int, ...] = (1, 16, 4, 5)) -> np.ndarray:
    y = np.zeros(shape, np.int8)
    module["conv"](x, y)
    return y


def test_runs() -> None:
    file, x, y = conv_case()
    module = make(file)
    assert module.kind == "vta"
    np.testing.assert_array_equal(call(module, x), y)
    np.testing.assert_array_equal(call(module, x), y)
    assert module["engine"]() == "fsim"
    assert bytes(module["program"]()) == file
    assert module["counters"](0, -1)["gemm_ops"] == 20


def planes_case(inputs: int = 3, outputs: int = 3) -> tuple[dict[str, bytes], NDArray[np.int8]]:
    """Return a program of `w4a4` that copies the 4-bit digits of int8[1, 16, 4, 5], and x."""
    config = VTAConfig.load("w4a4")
    builder = conv(config, tiles=1, pixels=inputs * 20)
    shift = next(i for i, insn in enumerate(builder.insns) if insn.opcode == Opcode.ALU)
    builder.change(shift, imm=0)
    identity = np.eye(16, dtype=np.int8)
    sections = conv_sections(wgt_bytes(identity, config, "identity").view(np.int8), builder)
    shape = (1, 16, 4, 5)
    sections["TENSORS"] = tensor(0, inputs << 8, INP, shape) + tensor(1, outputs << 8, OUT, shape)
    meta = json.loads(sections["META"])
    meta["layers"][0]["planes"] = outputs
    sections["META"] = json.dumps(meta).encode()
    return sections, np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)


def test_planes_of_narrow_lanes() -> None:
    """Int8 as three signed digits of 4 bits: in, through the machine, out and tapped."""
    sections, x = planes_case()
    x.flat[:4] = -128, 127, 119, -8
    module = make(join_sections(sections))
    for engine in ("fsim", "tsim"):
        module["set_engine"](engine, "")
        np.testing.assert_array_equal(call(module, x), x)
        (tap,) = module["taps"](x)
        np.testing.assert_array_equal(np.from_dlpack(tap), x)
    # One digit of three: what STORE of an accumulator leaves is its low 4 bits.
    sections, x = planes_case(outputs=1)
    low = (x.astype(int) + 8) % 16 - 8
    np.testing.assert_array_equal(call(make(join_sections(sections)), x), low)


def test_numbers_that_do_not_fit_their_planes() -> None:
    sections, x = planes_case(2, 2)
    module = make(join_sections(sections))
    x = np.minimum(x, 119)
    np.testing.assert_array_equal(call(module, x), x)
    sentence = r"^conv input 0: must be in \[-136, 119\] to take 2 x 4 bits, got 120; clip the numb"
    with pytest.raises(CapacityError, match=sentence):
        call(module, np.full(x.shape, 120, np.int8))


def test_planes_that_a_machine_does_not_have() -> None:
    sections, x = planes_case()
    shape = (1, 16, 4, 5)

    def refuse(sentence: str, record: bytes) -> None:
        with pytest.raises(ArtifactError, match=sentence):
            make(join_sections({**sections, "TENSORS": record}))

    refuse("input 0: must have 1 to 3 planes, got 4; compile", tensor(0, 4 << 8, INP, shape))
    refuse("output 0: must have 8 planes, got 4", tensor(1, 1, OUT, shape))
    stock = conv_sections(np.zeros((16, 16), np.int8))
    stock["TENSORS"] = tensor(0, 2 << 8, INP, shape)
    with pytest.raises(ArtifactError, match="input 0: must have 1 planes, got 2"):
        make(join_sections(stock))
    for planes in (-1, 4, 1 << 32 | 1):
        meta = json.loads(sections["META"])
        meta["layers"][0]["planes"] = planes
        module = make(join_sections({**sections, "META": json.dumps(meta).encode()}))
        with pytest.raises(ArtifactError, match="program layer conv: must have 1 to 3 planes, got"):
            module["taps"](x)


def test_taps() -> None:
    file, x, y = conv_case()
    module = make(file)
    assert list(module["layers"]()) == ["conv"]
    (tap,) = module["taps"](x)
    np.testing.assert_array_equal(np.from_dlpack(tap), y)


def test_saves_and_loads() -> None:
    file, x, y = conv_case()
    saved = core_function("vta.create_module")("conv", file)
    load = tvm_ffi.get_global_func("ffi.Module.load_from_bytes.vta")
    data = b"4\nconv" + file
    np.testing.assert_array_equal(call(load(data), x), y)
    del saved
    for damaged in (b"", b"conv", b"999999\nconv", b"\n" + file):
        with pytest.raises(ArtifactError, match="must start with the length of its symbol"):
            load(damaged)


def test_two_threads() -> None:
    cases = [conv_case(seed) for seed in (1, 2)]
    modules = [make(file) for file, _, _ in cases]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(50):
            if not np.array_equal(call(modules[k], cases[k][1]), cases[k][2]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_driver_engine(fake_driver: Path) -> None:
    file, x, y = conv_case()
    module = make(file)
    module["set_engine"]("driver", str(fake_driver))
    np.testing.assert_array_equal(call(module, x), y)
    assert module["engine"]() == "driver"
    with pytest.raises(ConfigError, match="engine: must be fsim to see the tensors"):
        module["taps"](x)
    with pytest.raises(ConfigError, match="engine: must be fsim to count, got driver"):
        module["counters"](0, -1)


def test_driver_engine_errors(
    fake_driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _, _ = conv_case()
    module = make(file)
    missing = tmp_path / "none.so"
    with pytest.raises(ArtifactError, match="must be a loadable shared library, got"):
        module["set_engine"]("driver", str(missing))
    library = tmp_path / "libempty.so"
    subprocess.run(["c++", "-shared", "-fPIC", "-x", "c++", "/dev/null", "-o", library], check=True)
    with pytest.raises(ArtifactError, match="must have the driver function VTADeviceAlloc"):
        module["set_engine"]("driver", str(library))
    assert module["engine"]() == "fsim"
    for most, what in (("4095", "a page of 4096"), ("4096", "the arena of 32768")):
        monkeypatch.setenv("FAKE_DRIVER_MEMORY", most)
        with pytest.raises(CapacityError, match=f"must have memory for {what} bytes, got none"):
            module["set_engine"]("driver", str(fake_driver))
    monkeypatch.delenv("FAKE_DRIVER_MEMORY")
    monkeypatch.setenv("FAKE_DRIVER_MISALIGNED", "1")
    with pytest.raises(CapacityError, match="must give memory that starts a page of 4096 bytes"):
        module["set_engine"]("driver", str(fake_driver))
    monkeypatch.delenv("FAKE_DRIVER_MISALIGNED")
    text = tmp_path / "text.so"
    text.write_text("no library" * 100)
    with pytest.raises(ArtifactError, match="must be a loadable shared library, got .*header"):
        core_function("vta.driver.check")(str(text), 0.0)
    core_function("vta.driver.check")(str(fake_driver), 0.0)


#: What a library does, and how the sentence goes on after the library's path.
FAILURES = {
    "status": "must finish the program, got status 1 of VTADeviceRun; the device waited too long",
    "throw": "must not throw, got an exception: no clock; nothing more is run on it",
    "throw-int": "must not throw, got an exception of no known kind; nothing more is run on it",
    "crash": r"must run the program, got a crash, signal 11 \(Segmentation fault\); see what it wr",
    "abort": r"must run the program, got a crash, signal 6 \(Aborted\); see what it wrote",
    "exit": "must run the program, got the end of its process with code 7; see what it wrote",
    "hang": "must run the program, got no answer in 0.3 s; nothing more is run on it; give it more",
}


@pytest.mark.parametrize("mode", FAILURES)
def test_driver_that_fails_in_its_second_run(
    mode: str, fake_driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    for name, value in (("", mode), ("_AT", "2"), ("_LOG", str(log))):
        monkeypatch.setenv(f"FAKE_DRIVER{name}", value)
    file, x, y = conv_case()
    module = make(file)
    module["set_driver_timeout"](0.3 if mode == "hang" else 60.0)
    module["set_engine"]("driver", str(fake_driver))
    np.testing.assert_array_equal(call(module, x), y)
    for _ in range(2):  # the second time from memory: nothing reaches the library any more
        with pytest.raises(DriverError, match=f"{fake_driver}: {FAILURES[mode]}"):
            call(module, x)
    lines = log.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["alloc", "run", "run"]
    (pid,) = {int(line.split()[1]) for line in lines}
    assert pid != os.getpid()
    module["set_engine"]("fsim", "")  # the process of the driver ends with its engine
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    np.testing.assert_array_equal(call(module, x), y)


#: What goes wrong before there is a program.
OPENING = {
    "open-status": "must have a device, got none from VTADeviceAlloc; is it there, and free?",
    "open-throw": "must not throw, got an exception: no clock; nothing more is run on it",
    "open-crash": "must load and open a device, got a crash, signal 11",
    "open-hang": "must load and open a device, got no answer in 0.3 s",
}


@pytest.mark.parametrize("mode", OPENING)
def test_driver_that_does_not_open(
    mode: str, fake_driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DRIVER", mode)
    timeout_s = 0.3 if mode == "open-hang" else 60.0
    with pytest.raises(DriverError, match=f"{fake_driver}: {OPENING[mode]}"):
        core_function("vta.driver.check")(str(fake_driver), timeout_s)


def test_device_is_given_back(
    fake_driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DRIVER_LOG", str(tmp_path / "log"))
    core_function("vta.driver.check")(str(fake_driver), 0.0)
    words = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert words == ["alloc", "free"]


def test_what_a_driver_prints_is_not_in_our_output(
    fake_driver: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DRIVER", "open-print")
    core_function("vta.driver.check")(str(fake_driver), 0.0)
    shown = capfd.readouterr()
    assert shown.out == ""


def test_driver_that_hangs_is_interrupted(
    fake_driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DRIVER", "hang")
    file, x, _ = conv_case()
    module = make(file)
    module["set_engine"]("driver", str(fake_driver))
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        call(module, x)
    timer.join()
    with pytest.raises(DriverError, match="must not have been stopped; nothing more is run on it"):
        call(module, x)


@pytest.mark.slow
def test_driver_without_its_program(tmp_path: Path) -> None:
    own = Path(flow.sim.__file__).parent / LIBRARY
    (tmp_path / LIBRARY).write_bytes(own.read_bytes())
    code = f"""
import pathlib
from flow.sim.core_library import core_function, load_library
load_library(pathlib.Path({str(tmp_path)!r}))
import tvm_ffi
tvm_ffi.get_global_func("vta.driver.check")("x.so", 0.0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "vta_driver_host: must be a program that can be started, got No such file" in done.stderr


def test_function_engine() -> None:
    file, x, _ = conv_case()
    seen: list[bytes] = []

    def engine(program: bytes, arena: Any) -> None:
        seen.append(bytes(program))
        memory = np.from_dlpack(arena)
        memory[3 * 4096 : 3 * 4096 + 320] = 7

    tvm_ffi.register_global_func("vta.engine.test", engine, override=True)
    module = make(file)
    module["set_engine"]("test", "")
    assert (call(module, x) == 7).all()
    assert seen == [file]
    with pytest.raises(ConfigError, match=r"engine: must be fsim, tsim, driver or .*, got nothing"):
        module["set_engine"]("nothing", "")


def test_arguments() -> None:
    file, x, y = conv_case()
    module = make(file)
    with pytest.raises(ArtifactError, match="conv: must be called with 2 tensors, got 1"):
        module["conv"](x)
    with pytest.raises(
        ArtifactError,
        match=re.escape("conv argument 0: must be a contiguous int8[1, 16, 4, 5] in host memory"),
    ):
        module["conv"](x[:, :8].copy(), y)
    with pytest.raises(ArtifactError, match=r"conv argument 1: .*, got int32\[1, 16, 4, 5\]"):
        module["conv"](x, y.astype(np.int32))


def test_int32_output_and_an_input_in_patches() -> None:
    # Planes 0..3 of the output are the first four quarters of what the convolution stores.
    rng = np.random.default_rng(3)
    w = rng.integers(-128, 128, (16, 16), dtype=np.int8)
    sections = conv_sections(w)
    sections["TENSORS"] = tensor(0, 0, 2 * 4096, (1, 3, 7, 9), (2, 2, 2, 2, 0, 0, 4, 5)) + tensor(
        1, 1, 3 * 4096, (1, 12, 1, 5)
    )
    module = make(join_sections(sections))
    x = rng.integers(-128, 128, (1, 3, 7, 9), dtype=np.int8)
    y = np.zeros((1, 12), np.int32)
    with pytest.raises(ArtifactError):
        module["conv"](x, y)
    y = np.zeros((1, 12, 1, 5), np.int32)
    module["conv"](x, y)
    deep = np.zeros((16, 4, 5), np.int8)
    for dy in range(2):
        for dx in range(2):
            part = x[0, :, dy::2, dx::2]
            k = (dy * 2 + dx) * 3
            deep[k : k + 3, : part.shape[1], : part.shape[2]] = part
    sums = np.einsum("oi,ihw->hwo", w.astype(np.int32), deep.astype(np.int32))
    stored = np.clip(sums >> 4, -127, 127).astype(np.int8).reshape(4, 5, 16)
    planes = stored.view(np.uint8).astype(np.uint32)
    joined = sum(planes[p] << (8 * p) for p in range(4)).astype(np.uint32).view(np.int32)
    np.testing.assert_array_equal(y[0, :, 0], joined.T[:12])


def test_error_names_the_origin() -> None:
    b = conv(tiles=2)
    b.change(5, uop_end=7)
    rng = np.random.default_rng(0)
    sections = conv_sections(rng.integers(-128, 128, (16, 16), dtype=np.int8), b)
    with pytest.raises(HazardError, match=r"uop\[2\]: must be written .*; insn 5, step 5$"):
        make(join_sections(sections))
    sections["META"] = b"[]"
    with pytest.raises(HazardError, match=r"; insn 5$"):
        make(join_sections(sections))


def test_origins_are_told_as_in_python_and_fit_for_a_terminal() -> None:
    b = conv(tiles=2)
    b.change(5, uop_end=7)
    sections = conv_sections(np.zeros((16, 16), np.int8), b)
    meta = json.loads(sections["META"])
    for name in ("conv", "", "\x1b[2J\n\u202e", "a" * 10_000 + "ß", "x tile (0, 0, 0) bias"):
        meta["layers"][0]["name"] = name
        for tile in (None, (3, 0, 14)):
            meta["origins"] = {
                "table": [[None, None, "other"], [0, tile, "gemm"]],
                "runs": [0, 5, 1, 1, 0, len(b.insns) - 6],
            }
            sections["META"] = json.dumps(meta).encode()
            place = str(Origin(layer=name, tile=tile, purpose="gemm")).strip()
            with pytest.raises(HazardError) as error:
                make(join_sections(sections))
            assert str(error.value).endswith(f"; insn 5, {place}")
    for broken in (None, {}, {"runs": [9, 99], "table": []}, {"runs": [0, 99], "table": [[1]]}):
        meta["origins"] = broken
        sections["META"] = json.dumps(meta).encode()
        with pytest.raises(HazardError, match=r"uop\[2\]: must be written .*; insn 5$"):
            make(join_sections(sections))


def test_input_must_be_written_before_it_is_read() -> None:
    rng = np.random.default_rng(0)
    sections = conv_sections(rng.integers(-128, 128, (16, 16), dtype=np.int8))
    sections["TENSORS"] = tensor(0, 0, 2 * 4096, (1, 16, 1, 1)) + tensor(
        1, 0, 3 * 4096, (1, 16, 4, 5)
    )
    with pytest.raises(HazardError, match="LOAD dram byte 8208: must be written before it is read"):
        make(join_sections(sections))


def damage(file: bytes, at: int, value: bytes) -> bytes:
    return file[:at] + value + file[at + len(value) :]


def test_damaged_files() -> None:
    file, _, _ = conv_case()
    rng = np.random.default_rng(0)
    for size in (0, 7, 31, 32, 100, len(file) - 1):
        with pytest.raises(ArtifactError, match="program: must "):
            make(file[:size])
    # Any flipped bit is noticed.
    for at in rng.choice(len(file), 400, replace=False):
        flipped = damage(file, int(at), bytes([file[at] ^ 1 << int(rng.integers(8))]))
        with pytest.raises(FlowError):
            make(flipped)


@pytest.mark.parametrize(
    ("at", "value", "sentence"),
    [
        (0, b"X", "must start with VTAFLOW1, got another file"),
        (8, b"\x01", "must be version 3 or 4, got 1"),
        (12, b"\x63", "must hold its section table, got 99"),
        (16, b"\x01", "bytes, got"),
        (24, b"\x00\x00\x00\x00", "must have an undamaged section table"),
        (28, b"\x01", "must have 0 in reserved fields, got 1"),
        (-1, b"!", "must have an undamaged section META"),
    ],
)
def test_damage_sentences(at: int, value: bytes, sentence: str) -> None:
    file, _, _ = conv_case()
    at %= len(file)
    with pytest.raises(ArtifactError, match=f"program: .*{sentence}.*; compile it again"):
        make(damage(file, at, value))


def test_impossible_sections() -> None:
    rng = np.random.default_rng(0)
    good = conv_sections(rng.integers(-128, 128, (16, 16), dtype=np.int8))

    def refuse(sentence: str, kind: type[FlowError] = ArtifactError, **sections: bytes) -> None:
        with pytest.raises(kind, match=sentence):
            make(join_sections({**good, **sections}))

    shape = (1, 16, 4, 5)
    refuse("must have a CONFIG of 64 bytes, got 3", CONFIG=b"abc")
    refuse("must have whole instructions", INSNS=b"abc")
    refuse("must have constants that lie in the arena", CONSTS=bytes(1 << 16))
    refuse("must have whole tensor records", TENSORS=b"abc")
    refuse(r"must have tensor roles in \[0, 1\], got 2", TENSORS=tensor(2, 0, 0, shape))
    refuse(r"must have tensor kinds in \[0, 1\], got 2", TENSORS=tensor(0, 2, 0, shape))
    refuse("must have int8 inputs, got int32", TENSORS=tensor(0, 1, 0, shape))
    refuse("input 0: must lie in the arena of 32768 bytes", TENSORS=tensor(0, 0, 32768, shape))
    refuse("output 0: must have dimensions", TENSORS=tensor(1, 0, 0, (1, 0, 4, 5)))
    refuse(
        "input 0: must have dimensions", TENSORS=tensor(0, 0, 0, shape, (1, 1, 0, 1, 0, 0, 4, 5))
    )
    refuse(
        "must have plain outputs, got another form",
        TENSORS=tensor(1, 0, 0, shape, (1, 1, 1, 1, 0, 1, 4, 5)),
    )
    huge = (2**32 - 1,) * 4
    refuse("input 0: must have dimensions", TENSORS=tensor(0, 0, 0, huge))
    config = bytearray(good["CONFIG"])
    config[16] = 9
    refuse(r"config.log_block: must be in \[2, 7\], got 9", ConfigError, CONFIG=bytes(config))
    for at, value, sentence in (
        (0, 1, r"config.log_inp_width: must be in \[2, 3\], got 1"),
        (4, 4, r"config.log_wgt_width: must be in \[2, 3\], got 4"),
        (36, 65, r"config.bus_bits: must be a power of two in \[32, 512\], got 65"),
        (56, 3, r"config.burst_beats: must be a power of two in \[2, 256\], got 3"),
    ):
        config = bytearray(good["CONFIG"])
        config[at] = value
        refuse(sentence, ConfigError, CONFIG=bytes(config))
    without = {tag: data for tag, data in good.items() if tag != "META"}
    with pytest.raises(ArtifactError, match="must have a section META, got none"):
        make(join_sections(without))
    file = bytearray(join_sections(good))
    gap = 32 + 32 * 5 + 64 + len(good["INSNS"])  # after INSNS; CONFIG needs no gap
    assert gap % 64
    file[gap] = 1
    with pytest.raises(ArtifactError, match="must have 0 between sections, got 1"):
        make(bytes(file))


def test_layer_outside_the_arena() -> None:
    rng = np.random.default_rng(0)
    sections = conv_sections(rng.integers(-128, 128, (16, 16), dtype=np.int8))
    meta = json.loads(sections["META"])
    meta["layers"][0]["address"] = 1 << 20
    sections["META"] = json.dumps(meta).encode()
    module = make(join_sections(sections))
    with pytest.raises(ArtifactError, match="program layer conv: must lie in the arena"):
        module["layers"]()
    sections["META"] = b"{"
    module = make(join_sections(sections))
    with pytest.raises(ArtifactError, match="program META: must be a JSON object"):
        module["layers"]()


@pytest.mark.slow
def test_library_in_a_new_process(tmp_path: Path) -> None:
    """A module exported inside a TVM library works after loading in another process."""
    file, x, y = conv_case()
    np.savez(tmp_path / "case.npz", x=x, y=y)
    builder = relax.BlockBuilder()
    param = relax.Var("x", relax.TensorType((1, 16, 4, 5), "int8"))
    with builder.function("main", [param]):
        with builder.dataflow():
            result = relax.op.call_dps_packed("conv", param, out_ty=param.ty)
            result = builder.emit_output(builder.emit(result))
        builder.emit_func_output(result)
    mod = builder.get().with_attr("external_mods", [make(file)])
    tvm.compile(mod, target="llvm").export_library(str(tmp_path / "lib.so"))
    run = f"""
import numpy as np, tvm
from tvm import relax
from flow.sim import load_library
load_library()
case = np.load({str(tmp_path / "case.npz")!r})
vm = relax.VirtualMachine(tvm.runtime.load_module({str(tmp_path / "lib.so")!r}), tvm.cpu())
y = vm["main"](tvm.runtime.tensor(case["x"])).numpy()
np.testing.assert_array_equal(y, case["y"])
"""
    (tmp_path / "script.py").write_text(run)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
