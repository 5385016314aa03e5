"""Program files keep everything, and damage of any kind is rejected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import Program
from flow.sim.program_sim import ProgramSim
from tests.flow.compiler.networks import residual_network
from vta_config.errors import ArtifactError, ConfigError, DecodeError
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


def test_narrow_operands_do_not_compile() -> None:
    with pytest.raises(ConfigError, match=r"default.LOG_WGT_WIDTH: must be 3 \(int8\) to compile"):
        lower(GRAPH, replace(CONFIG, log_wgt_width=2, log_wgt_buff_bytes=17))


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
        (DATA[:8] + b"\1" + DATA[9:], "must be version 3, got 1"),
        (DATA[:8] + b"\2" + DATA[9:], "must be version 3, got 2; compile it again"),
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
    sizes = {0: 4, 1: CONFIG.wgt_elem_bytes, 2: CONFIG.inp_elem_bytes, 4: CONFIG.out_elem_bytes}
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
