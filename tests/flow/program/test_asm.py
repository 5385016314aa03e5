"""Assembler text: it round-trips exactly, reads well, and every error names its line."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.program.asm import assemble, assemble_all, disassemble, insn_text, uop_text
from tests.strategies import RandomProgram, config_and_insns, configs, programs
from vta_config import FlowError, VTAConfig
from vta_config.errors import DecodeError, EncodeError
from vta_config.isa import AluOp, Insn, Memory, Opcode, decode, encode, encode_uop
from vta_config.origin import Origin

DEFAULT = VTAConfig.load("default")


@given(config_and_insns())
def test_any_instructions_round_trip(drawn: tuple[VTAConfig, list[Insn]]) -> None:
    config, insns = drawn
    again = assemble(disassemble(insns, config), config)
    assert [a.values for a in again] == [i.values for i in insns]
    assert [encode(a, config) for a in again] == [encode(i, config) for i in insns]


@given(configs(), st.lists(st.integers(0, 2**32 - 1)))
def test_any_uops_round_trip(config: VTAConfig, uops: list[int]) -> None:
    assert assemble_all(disassemble([], config, uops=uops), config).uops == uops


@given(programs())
def test_programs_round_trip_with_their_origins(program: RandomProgram) -> None:
    text = disassemble(program.insns, program.config)
    again = assemble(text, program.config)
    assert [encode(i, program.config) for i in again] == [
        encode(i, program.config) for i in program.insns
    ]
    assert all(f"; {insn.origin}\n" in text for insn in program.insns)


@pytest.mark.parametrize("name", ["C2", "C5", "C11"])
def test_original_streams_round_trip(shared_data: Path, name: str) -> None:
    data = (shared_data / "golden" / "vta_streams" / f"run_00000_{name}.vtadump").read_bytes()
    (count,) = struct.unpack_from("<I", data, 12)
    chunks = [data[32 + 16 * i : 48 + 16 * i] for i in range(count)]
    insns = [decode(chunk, DEFAULT, strict=False) for chunk in chunks]
    again = assemble(disassemble(insns, DEFAULT), DEFAULT)
    assert [a.values for a in again] == [i.values for i in insns]


def test_text() -> None:
    insns = [
        Insn(
            Opcode.LOAD,
            {"memory_type": Memory.INP, "push_next": 1, "dram_base": 9, "y_size": 2, "x_size": 3},
            Origin(layer="conv1", tile=(0, 3, 0), purpose="input"),
        ),
        Insn(
            Opcode.GEMM,
            {"pop_prev": 1, "uop_end": 2, "iter_out": 3, "iter_in": 4},
            Origin(layer="conv1"),
        ),
        Insn(Opcode.ALU, {"alu_opcode": AluOp.MIN, "use_imm": 1, "imm": -5}, Origin(layer="conv1")),
        Insn(Opcode.ALU, {"alu_opcode": 6, "uop_begin": 1}, Origin(layer="conv1")),
        Insn(Opcode.STORE, {"memory_type": Memory.OUT}),
        Insn(Opcode.FINISH, {"pop_next": 1}),
    ]
    uops = [encode_uop(DEFAULT, dst_idx=3, wgt_idx=2), 0]
    assert disassemble(insns, DEFAULT, uops=uops).splitlines() == [
        "; machine default: batch 1, block 16",
        "uop dst_idx=3 wgt_idx=2 ; 0",
        "uop ; 1",
        "; conv1 tile (0, 3, 0) input",
        "LOAD.INP      push_next dram_base=9 y_size=2 x_size=3 ; 0",
        "; conv1",
        "GEMM          pop_prev uop_end=2 iter_out=3 iter_in=4 ; 1: 24 steps",
        "ALU.MIN       use_imm imm=-5 ; 2: 0 steps",
        "ALU           uop_begin=1 alu_opcode=6 ; 3: 0 steps",
        ";",
        "STORE.OUT ; 4",
        "FINISH        pop_next ; 5",
    ]


def test_an_immediate_that_is_used_is_written_even_if_it_is_0() -> None:
    insns = [
        Insn(Opcode.ALU, {"alu_opcode": AluOp.MAX, "use_imm": use_imm}, Origin(layer="conv1"))
        for use_imm in (1, 0)
    ]
    text = disassemble(insns, DEFAULT)
    assert "ALU.MAX       use_imm imm=0 ; 0" in text and "ALU.MAX ; 1" in text
    assert [insn["imm"] for insn in assemble(text, DEFAULT)] == [0, 0]
    assert disassemble(assemble(text, DEFAULT), DEFAULT, origins=["conv1"] * 2) == text


def test_origins_may_be_given() -> None:
    insns = [Insn(Opcode.GEMM, {}), Insn(Opcode.GEMM, {})]
    assert "; x\nGEMM ; 0: 0 steps\n; y\nGEMM" in disassemble(insns, DEFAULT, origins=["x", "y"])
    assert "; 0\nGEMM ; 0: 0 steps\n; 1\nGEMM" in disassemble(insns, DEFAULT, origins=str)


def test_people_may_write_it_their_way() -> None:
    text = """
        ; a comment

        LOAD.WGT   sram_base=0x10 x_size=1 push_next=1 pop_next=0   ; more
        ALU.SHR imm=-0x3 use_imm
        uop 12
        uop src_idx=1
    """
    program = assemble_all(text, DEFAULT)
    load, shift = program.insns
    assert (load["memory_type"], load["sram_base"], load["push_next"]) == (Memory.WGT, 16, 1)
    assert (load["pop_next"], shift["imm"], shift["use_imm"]) == (0, -3, 1)
    assert load.origin == Origin(purpose="line 4")
    assert program.uops == [12, encode_uop(DEFAULT, dst_idx=0, src_idx=1)]


def test_uop_with_stray_bits_is_kept() -> None:
    small = VTAConfig.load("small")
    assert uop_text(1 << 31, small) == "uop 0x80000000"
    assert assemble_all("uop 0x80000000", small).uops == [1 << 31]


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [
        ("\nNOP", DecodeError, "line 2 NOP: is not an instruction; known: uop, LOAD, STORE, GEMM"),
        ("LOAD.XYZ", DecodeError, r"line 1 LOAD.XYZ: is not a suffix; known: UOP, WGT, INP"),
        ("GEMM.INP", DecodeError, "line 1 GEMM.INP: is not a suffix; known: none"),
        ("GEMM imm=1", DecodeError, "line 1 GEMM imm: is not a field; known: pop_prev, "),
        ("GEMM opcode=1", DecodeError, "line 1 GEMM opcode: is not a field"),
        (
            "FINISH pop_next pop_next",
            DecodeError,
            "line 1 FINISH pop_next: must be given once; rem",
        ),
        (
            "LOAD.INP memory_type=1",
            DecodeError,
            "line 1 LOAD memory_type: must be given once; remove one",
        ),
        ("GEMM iter_in", DecodeError, "line 1 GEMM iter_in: must have a value; write iter_in=0"),
        (
            "GEMM iter_in=x",
            DecodeError,
            "line 1 GEMM iter_in: must be an integer, got 'x'; write 12, -3 or 0x1f",
        ),
        ("GEMM iter_in=", DecodeError, "line 1 GEMM iter_in: must be an integer, got ''"),
        ("uop imm=1", DecodeError, "line 1 uop imm: is not a field; known: dst_idx, src_idx"),
        ("uop 0xzz", DecodeError, "line 1 uop: must be an integer, got '0xzz'"),
        ("uop 0x100000000", DecodeError, r"line 1 uop: must be in \[0, 2\^32\), got 4294967296"),
        (
            "\n\nGEMM iter_in=16384",
            EncodeError,
            r"GEMM.iter_in: must be in \[0, 16383\], got 16384; line 3",
        ),
        ("uop dst_idx=2048", EncodeError, r"uop.dst_idx: must be in \[0, 2047\], got 2048; line 1"),
    ],
)
def test_error_names_the_line(text: str, kind: type[FlowError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        assemble(text, DEFAULT)


def test_what_cannot_be_encoded_is_not_written() -> None:
    with pytest.raises(EncodeError, match=r"LOAD.x_pad_0: must be in \[0, 15\], got 16; here"):
        insn_text(Insn(Opcode.LOAD, {"x_pad_0": 16}, Origin(purpose="here")), DEFAULT)
    with pytest.raises(
        DecodeError, match=r"uop: must be in \[0, 2\^32\), got -1; micro-ops are uint"
    ):
        disassemble([], DEFAULT, uops=[-1])
