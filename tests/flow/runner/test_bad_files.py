"""Whatever a file or an option is: one sentence and exit code 2, and nothing reaches the device."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flow.artefacts.load import load_artefact
from flow.program.program import Program
from tests.flow.runner.conftest import Runner, compiler, make

HEADER, ROW = 32, 32
NAMES = ("CONFIG", "INSNS", "CONSTS", "TENSORS", "META", "FILLS")


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Return the runner with sanitizers, which end it by another exit code."""
    flags = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    return Runner(make(tmp_path_factory.mktemp("checked"), compiler(), flags))


@pytest.fixture(scope="session")
def program(one: Path) -> bytes:
    return (one / "vta_0.vta").read_bytes()


def section(data: bytes, name: str) -> tuple[int, int]:
    """Return where a section begins, and its bytes."""
    for row in range(struct.unpack_from("<I", data, 12)[0]):
        at = HEADER + ROW * row
        tag, offset, size = struct.unpack_from("<8sQQ", data, at)
        if tag.rstrip(b"\0").decode() == name:
            return offset, size
    raise KeyError(name)


def sealed(data: bytes) -> bytes:
    """Return a file with checksums that hold."""
    out = bytearray(data)
    count = struct.unpack_from("<I", out, 12)[0]
    for row in range(count):
        at = HEADER + ROW * row
        offset, size = struct.unpack_from("<QQ", out, at + 8)
        struct.pack_into("<I", out, at + 24, zlib.crc32(out[offset : offset + size]))
    struct.pack_into("<I", out, 24, zlib.crc32(out[HEADER : HEADER + ROW * count]))
    return bytes(out)


def with_word(data: bytes, name: str, word: int, value: int) -> bytes:
    """Return a file with another 32-bit word in a section, sealed."""
    out = bytearray(data)
    struct.pack_into("<I", out, section(data, name)[0] + 4 * word, value)
    return sealed(bytes(out))


def in_header(data: bytes, at: int, value: int) -> bytes:
    out = bytearray(data)
    struct.pack_into("<I", out, at, value)
    return bytes(out)


def renamed(data: bytes, name: str, other: bytes) -> bytes:
    return sealed(data.replace(name.encode().ljust(8, b"\0"), other.ljust(8, b"\0"), 1))


#: What is wrong with a file, and the sentence after its path.
FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda d: b"", "must have a header of 32 bytes, got 0"),
    "other": (lambda d: b"\x7fELF" + d[4:], "must start with VTAFLOW1"),
    "version": (lambda d: in_header(d, 8, 2), "must be version 3 or 4, got 2"),
    "truncated": (lambda d: d[:-1], "must have "),
    "sections": (lambda d: in_header(d, 12, 65), "must hold its section table, got 65"),
    "reserved": (lambda d: in_header(d, 28, 1), "must have 0 in reserved fields, got 1"),
    "table": (
        lambda d: in_header(d, HEADER + 8, 1 << 20),
        "must have an undamaged section table, got another checksum",
    ),
    "offset": (
        lambda d: sealed_table(in_header(d, HEADER + 12, 1)),
        "must hold its section 0, got ",
    ),
    "section": (
        lambda d: d[: section(d, "CONFIG")[0]] + b"?" + d[section(d, "CONFIG")[0] + 1 :],
        "must have an undamaged section 0, got another checksum",
    ),
    "twice": (
        lambda d: renamed(d, "INSNS", b"CONFIG"),
        "must have each section once, got section 1 again",
    ),
    "missing": (lambda d: renamed(d, "INSNS", b"INSNX"), "must have a section INSNS, got none"),
    "block": (
        lambda d: with_word(d, "CONFIG", 4, 8),
        "must have a log_block in [2, 7], got 8",
    ),
    "lanes": (
        lambda d: with_word(d, "CONFIG", 0, 4),
        "must have a log_inp_width in [2, 3], got 4",
    ),
    "arena": (lambda d: with_word(d, "CONFIG", 12, 64), "must have constants inside the arena"),
    "role": (
        lambda d: with_word(d, "TENSORS", 0, 2),
        "must have int8 inputs of role 0, then outputs of role 1",
    ),
    "int32 input": (
        lambda d: with_word(d, "TENSORS", 1, 1),
        "must have int8 inputs of role 0, then outputs of role 1",
    ),
    "empty tensor": (
        lambda d: with_word(d, "TENSORS", 4, 0),
        "must have tensors of at least one element that fit the arena, got int8[0, 3, 8, 8]",
    ),
    "huge tensor": (
        lambda d: with_word(d, "TENSORS", 7, 1 << 31),
        "must have tensors of at least one element that fit the arena, got int8[1, 3, 8, 214748",
    ),
    "planes": (lambda d: with_word(d, "TENSORS", 1, 2 << 8), "must have the planes of its number"),
    "address": (lambda d: with_word(d, "TENSORS", 3, 1), "must have tensors inside the arena, got"),
    "output": (lambda d: with_word(d, "TENSORS", 16 + 10, 2), "must have plain outputs, got anot"),
    "opcode": (lambda d: with_word(d, "INSNS", 0, 7), "instruction 0: must have an opcode in [0, "),
    "finish": (
        lambda d: with_word(d, "INSNS", 0, 3),
        "instruction 0: must be FINISH as the last one, and only there, got 3",
    ),
    "memory": (
        lambda d: with_word(d, "INSNS", 0, 0 | 4 << 7),
        "instruction 0: must load uop, wgt, inp or acc, or store out, got 4",
    ),
    "dram": (
        lambda d: with_word(d, "INSNS", 1, 1 << 24),
        "instruction 0: must stay inside the arena of ",
    ),
}


def sealed_table(data: bytes) -> bytes:
    """Return a file whose table's checksum holds, whatever the sections are."""
    count = struct.unpack_from("<I", data, 12)[0]
    return in_header(data, 24, zlib.crc32(data[HEADER : HEADER + ROW * count]))


def refused(done) -> str:  # type: ignore[no-untyped-def]
    """Return the one sentence of a run that is refused."""
    assert done.returncode == 2 and done.stdout == "", done
    (line,) = done.stderr.splitlines()
    assert line.startswith("vta_run: ")
    return str(line).removeprefix("vta_run: ")


@pytest.mark.parametrize("fault", FILES)
def test_damaged_programs(fault: str, checked: Runner, program: bytes, tmp_path: Path) -> None:
    change, sentence = FILES[fault]
    path = tmp_path / "p.vta"
    path.write_bytes(change(program))
    line = refused(checked("--info", path))
    assert line.startswith((f"{path}: {sentence}", f"{path} {sentence}")), line


def test_fills(checked: Runner, tmp_path: Path, one: Path) -> None:
    from dataclasses import replace

    from flow.program.layouts import Fill

    (plain,) = load_artefact(one).programs
    program = replace(plain, fills=(Fill(0, 16, 1), Fill(32, 16, 2)))
    data = program.to_bytes()
    sentence = "must have fills one behind the other, inside the arena"
    for word, value in ((0, 40), (1, 1 << 31), (2, 256), (3, 8)):
        (tmp_path / "p.vta").write_bytes(with_word(data, "FILLS", word, value))
        assert sentence in refused(checked("--info", tmp_path / "p.vta"))
    (tmp_path / "p.vta").write_bytes(data)
    assert checked("--info", tmp_path / "p.vta").returncode == 0


def test_no_file(checked: Runner, tmp_path: Path) -> None:
    line = refused(checked("--info", tmp_path / "no"))
    assert line == f"{tmp_path / 'no'}: must be a readable file, got No such file or directory"
    assert "must be a readable file, got Is a directory" in refused(checked("--info", tmp_path))


def run(
    runner: Runner, program: bytes, place: Path, driver: Path, *more: object, x: bytes = bytes(192)
) -> str:
    """Return the sentence of a run with something wrong."""
    (place / "p.vta").write_bytes(program)
    (place / "x").write_bytes(x)
    ends = ("--input", place / "x", "--output", place / "y")
    return refused(runner("--driver", driver, place / "p.vta", *ends, *more))


def test_inputs(
    runner: Runner, program: bytes, fake_driver: Path, one: Path, tmp_path: Path
) -> None:
    found = run(runner, program, tmp_path, fake_driver, x=b"12")
    assert found == f"{tmp_path / 'x'}: must have 192 bytes, the int8 numbers of int8[1, 3, 8, 8]" \
        ", got 2"  # fmt: skip
    scales = ("--scales", one / "scales.txt")
    found = run(runner, program, tmp_path, fake_driver, *scales)
    assert "must have 768 bytes, the float32 numbers of int8[1, 3, 8, 8], got 192" in found
    nan = np.full(192, np.nan, np.float32).tobytes()
    found = run(runner, program, tmp_path, fake_driver, *scales, x=nan)
    assert f"{tmp_path / 'x'}: must hold finite float32 numbers, got " in found
    found = run(runner, program, tmp_path, fake_driver, "--packed", x=b"12")
    assert "the packed numbers of int8[1, 3, 8, 8], got 2" in found
    found = run(runner, program, tmp_path, fake_driver, "--input", tmp_path / "x")
    assert found == "--input: must be given once for each of 1, got 2"
    found = run(runner, program, tmp_path, fake_driver, "--output", tmp_path / "z")
    assert found == "--output: must be given once for each of 1, got 2"


def test_outputs(runner: Runner, program: bytes, fake_driver: Path, tmp_path: Path) -> None:
    (tmp_path / "y").mkdir()
    found = run(runner, program, tmp_path, fake_driver)
    assert found == f"{tmp_path / 'y'}: must be writable, got Is a directory"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "vta_run: must be given a program, see vta_run --help"),
        (["p.vta"], "--driver: must be given, or --info"),
        (["--input"], "--input: must be followed by a value"),
        (["--nothing"], "--nothing: must be an option that vta_run --help lists"),
        (["p.vta", "q.vta"], "q.vta: must be the only program, got p.vta"),
        (["p.vta", "--repeat", "0"], "--repeat: must have integers in [1, 1000000000], got 0"),
        (["p.vta", "--repeat", "x"], "--repeat: must have integers in [1, 1000000000], got x"),
        (
            ["p.vta", "--driver", "d", "--packed", "--scales", "s"],
            "--packed: must not be given with --scales, which is for float32 numbers",
        ),
    ],
)
def test_options(runner: Runner, words: list[str], sentence: str) -> None:
    assert refused(runner(*words)) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", ": must have a line for each input and output of the program, got 0 inputs and 0 o"),
        ("x 1", " line 1: must be an input with 5 numbers, or an output with at least 3, got x"),
        ("# a\ninput 0 1 0", " line 2: must be an input with 5 numbers, or an output with at le"),
        ("input 1 1 0 -127 127", " line 1: must have integers in [0, 0], got 1"),
        ("input 0 inf 0 -127 127", " line 1: must have finite numbers, got inf"),
        ("input 0 1x 0 -127 127", " line 1: must have finite numbers, got 1x"),
        ("input 0 1 0 5 4", " line 1: must have integers in [5, 127], got 4"),
        ("input 0 1 999 -127 127", " line 1: must have integers in [-128, 127], got 999"),
        ("output 0 0 1 1", " line 1: must have one scale, or one for each of 5 channels, got 2"),
    ],
)
def test_scales(
    text: str, sentence: str, checked: Runner, program: bytes, fake_driver: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").write_text(text)
    found = run(checked, program, tmp_path, fake_driver, "--scales", tmp_path / "s")
    assert found.startswith(f"{tmp_path / 's'}{sentence}"), found


def test_scales_of_a_program_without_outputs(
    checked: Runner, fake_driver: Path, one: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    (program,) = load_artefact(one).programs
    (tmp_path / "p.vta").write_bytes(replace(program, outputs=()).to_bytes())
    (tmp_path / "x").write_bytes(bytes(192))
    words = ("--driver", fake_driver, tmp_path / "p.vta", "--input", tmp_path / "x")
    found = refused(checked(*words, "--scales", one / "scales.txt"))
    assert "scales.txt line 3: must be of a tensor of the program, got output" in found


def test_numbers_that_do_not_fit_4_bits(checked: Runner, fake_driver: Path, tmp_path: Path) -> None:
    from flow.compiler.link import make_program
    from flow.compiler.lower import lower
    from tests.flow.compiler.networks import residual_network
    from vta_config import VTAConfig

    config = VTAConfig.load("w4a4")
    graph = residual_network(np.random.default_rng(1), size=8)
    program: Program = make_program(graph, lower(graph, config), config)
    (port,) = program.inputs
    data = with_word(program.to_bytes(), "TENSORS", 1, 2 << 8)  # two planes of the input
    size = int(np.prod(port.shape))
    (tmp_path / "p.vta").write_bytes(data)
    (tmp_path / "x").write_bytes(np.full(size, 127, np.int8).tobytes())
    outputs = [w for i in range(len(program.outputs)) for w in ("--output", tmp_path / f"y{i}")]
    words = ("--driver", fake_driver, tmp_path / "p.vta", "--input", tmp_path / "x", *outputs)
    found = refused(checked(*words))
    assert found == f"{tmp_path / 'x'}: must be in [-136, 119], got 127"


def test_drivers(
    runner: Runner, program: bytes, fake_driver: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    found = run(runner, program, tmp_path, tmp_path / "none.so")
    assert found.startswith(f"{tmp_path / 'none.so'}: must be a loadable shared library, got ")
    from tests.flow.runner.conftest import build_library

    (tmp_path / "empty.cc").write_text("")
    empty = build_library(compiler(), tmp_path / "empty.so", [tmp_path / "empty.cc"])
    found = run(runner, program, tmp_path, empty)
    assert found == f"{empty}: must have the function VTADeviceAlloc, got none"
    for name, value, sentence in (
        ("FAKE_DRIVER", "open-status", "must have a device, got none from VTADeviceAlloc"),
        ("FAKE_DRIVER", "status", "must finish the program, got status 1"),
        ("FAKE_DRIVER_MEMORY", "4096", "bytes for the arena, got none"),
        ("FAKE_DRIVER_MISALIGNED", "1", "must give memory that starts a page of 4096 bytes, got 2"),
        ("FAKE_DRIVER", "throw", "must not fail, got no clock"),
    ):
        monkeypatch.setenv(name, value)
        assert sentence in run(runner, program, tmp_path, fake_driver)
        monkeypatch.delenv(name)


@pytest.mark.slow
def test_mutants(checked: Runner, program: bytes, fake_driver: Path, tmp_path: Path) -> None:
    """Words of all sections changed: each is run, or refused in one sentence."""
    draw = random.Random(0)
    codes = []
    path = tmp_path / "p.vta"
    (tmp_path / "x").write_bytes(bytes(192))
    env = {"FAKE_DRIVER": "nothing", "FAKE_DRIVER_MEMORY": str(1 << 24)}
    for _ in range(250):
        data = program
        for _ in range(draw.choice((1, 1, 2))):
            name = draw.choice(("CONFIG", "INSNS", "TENSORS", "TENSORS"))
            word = draw.randrange(section(program, name)[1] // 4)
            old = struct.unpack_from("<I", data, section(data, name)[0] + 4 * word)[0]
            near = [old + 1, old - 1, old * 2, old ^ 1 << draw.randrange(32)]
            value = draw.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, draw.getrandbits(32), *near])
            data = with_word(data, name, word, value & 0xFFFFFFFF)
        path.write_bytes(data)
        ends = ("--input", tmp_path / "x", "--output", tmp_path / "y")
        done = checked("--driver", fake_driver, path, *ends, env=env)
        codes.append(done.returncode)
        if done.returncode:
            refused(done)
    assert {*codes} == {0, 2} and codes.count(0) > 20
