"""Program files keep everything, and damage of any kind is rejected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import LayerRecord, PortTensor, Program
from flow.sim.program_sim import ProgramSim
from tests.flow.compiler.networks import residual_network
from vta_config.errors import ArtifactError, DecodeError
from vta_config.hardware import VTAConfig, preset_names
from vta_config.isa import Insn, Opcode, decode

CONFIG = VTAConfig.load("default")
GRAPH = residual_network(np.random.default_rng(0), size=16)
PROGRAM = make_program(GRAPH, lower(GRAPH, CONFIG), CONFIG)
DATA = PROGRAM.to_bytes()


def test_files_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "network.vta"
    PROGRAM.save(path)
    again = Program.load(path)
    assert again.to_bytes() == DATA
    assert again.config == CONFIG
    assert again.layers == PROGRAM.layers and again.inputs == PROGRAM.inputs
    assert [i.origin for i in again.insns] == [i.origin for i in PROGRAM.insns]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", preset_names())
def test_a_file_of_every_machine(name: str) -> None:
    machine = VTAConfig.load(name)
    program = make_program(GRAPH, lower(GRAPH, machine), machine)
    again = Program.from_bytes(program.to_bytes())
    assert again.config == machine
    assert again.insn_bytes == program.insn_bytes


def test_planes_are_kept_and_checked() -> None:
    """A file says how many planes a tensor has where they are not those of 8-bit lanes."""
    narrow = VTAConfig.load("w4a4")

    def port(name: str, dtype: Literal["int8", "int32"], planes: int) -> PortTensor:
        return PortTensor(name=name, dtype=dtype, shape=(1, 16, 2, 2), address=0, planes=planes)

    record = LayerRecord(name="a", kind="conv2d", output=port("a", "int8", 3), last_store=0)
    program = Program(
        symbol="f",
        config=narrow,
        insns=(Insn(Opcode.FINISH, {}),),
        constants=b"",
        constants_at=0,
        arena_bytes=4096,
        inputs=(port("x", "int8", 2), port("x4", "int8", 1)),
        outputs=(port("y", "int32", 8),),
        layers=(record,),
    )
    again = Program.from_bytes(program.to_bytes())
    assert (again.inputs, again.outputs) == (program.inputs, program.outputs)
    assert again.layers == program.layers
    assert [t.bytes_in(narrow) for t in (*again.inputs, *again.outputs)] == [64, 32, 256]
    for config, name, dtype, planes, count in (
        (narrow, "y", "int32", 4, "8"),
        (narrow, "y", "int8", 4, "1 to 3"),
        (CONFIG, "y", "int8", 2, "1"),
    ):
        bad = replace(
            program,
            config=config,
            inputs=(),
            layers=(),
            outputs=(port(name, cast('Literal["int8", "int32"]', dtype), planes),),
        )
        sentence = f"must have {count} planes of the {dtype} tensor y, got {planes}; compile"
        with pytest.raises(ArtifactError, match=sentence):
            Program.from_bytes(bad.to_bytes())
    bad = replace(program, layers=(replace(record, output=port("a", "int8", 32)),))
    with pytest.raises(ArtifactError, match="must have 1 to 3 planes of the int8 tensor a, got 32"):
        Program.from_bytes(bad.to_bytes())


def test_lowering_is_deterministic() -> None:
    assert make_program(GRAPH, lower(GRAPH, CONFIG), CONFIG).to_bytes() == DATA


@given(at=st.integers(0, len(DATA) - 1), bit=st.integers(0, 7))
def test_any_damaged_bit_is_noticed(at: int, bit: int) -> None:
    damaged = bytearray(DATA)
    damaged[at] ^= 1 << bit
    try:
        program = Program.from_bytes(bytes(damaged))
    except ArtifactError:
        return
    assert program.to_bytes() == DATA, "only the padding between sections may differ"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "x.vta: must have a header of 32 bytes, got 0; compile it again"),
        (DATA[:40], f"must have {len(DATA)} bytes, got 40"),
        (DATA[:-1], f"must have {len(DATA)} bytes, got {len(DATA) - 1}"),
        (DATA + b"x", f"must have {len(DATA)} bytes"),
        (b"\x7fELF" + DATA[4:], "must start with VTAFLOW1"),
        (DATA[:8] + b"\1" + DATA[9:], "must be version 3 or 4, got 1"),
        (DATA[:8] + b"\2" + DATA[9:], "must be version 3 or 4, got 2; compile it again"),
    ],
)
def test_sentences(data: bytes, sentence: str) -> None:
    with pytest.raises(ArtifactError) as error:
        Program.from_bytes(data, "x.vta")
    assert sentence in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"must be a readable file of at most \d+ bytes, got No such"
    ):
        Program.load(tmp_path / "none.vta")


def test_relocation_moves_every_access_by_the_same_bytes() -> None:
    base = 1 << 20
    names = ("uop", "wgt", "inp", "acc", "out")
    sizes = [4, *(getattr(CONFIG, f"{name}_elem_bytes") for name in names[1:])]
    moved = PROGRAM.insns_at(base)
    for index, insn in enumerate(PROGRAM.insns):
        other = decode(moved[16 * index : 16 * index + 16], CONFIG)
        if insn.opcode in (Opcode.LOAD, Opcode.STORE) and insn["x_size"]:
            size = sizes[insn["memory_type"]]
            assert other["dram_base"] * size - insn["dram_base"] * size == base


@pytest.mark.parametrize("memory", [6, 7])
def test_a_memory_that_there_is_none_of_is_kept_and_refused(memory: int) -> None:
    at = next(i for i, insn in enumerate(PROGRAM.insns) if insn.opcode == Opcode.LOAD)
    old = PROGRAM.insns[at]
    odd = Insn(old.opcode, {**old.values, "memory_type": memory}, old.origin)
    program = replace(PROGRAM, insns=(*PROGRAM.insns[:at], odd, *PROGRAM.insns[at + 1 :]))
    again = Program.from_bytes(program.to_bytes())
    assert again.insns[at]["memory_type"] == memory and again.to_bytes() == program.to_bytes()
    with pytest.raises(DecodeError, match=rf"LOAD.memory_type: must be in \[0, 5\], got {memory}"):
        ProgramSim(again)
