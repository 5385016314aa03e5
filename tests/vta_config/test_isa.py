"""The encoding: identity of decode∘encode, known words, width limits of every preset, errors."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import config_and_insns, configs
from vta_config import VTAConfig
from vta_config.errors import DecodeError, EncodeError
from vta_config.isa import (
    FORMATS,
    AluOp,
    Insn,
    Memory,
    Module,
    Opcode,
    Width,
    decode,
    decode_stream,
    decode_uop,
    encode,
    encode_uop,
    layout,
    uop_layout,
)
from vta_config.origin import Origin

DEFAULT = VTAConfig.load("default")


@given(config_and_insns())
def test_decode_after_encode_is_identity(drawn: tuple[VTAConfig, list[Insn]]) -> None:
    config, insns = drawn
    for insn in insns:
        data = encode(insn, config)
        assert len(data) == 16
        assert decode(data, config) == replace(insn, origin=Origin())
        assert encode(decode(data, config), config) == data


@given(configs(), st.data())
def test_decode_uop_after_encode_uop_is_identity(config: VTAConfig, data: st.DataObject) -> None:
    fields = {
        p.field.name: data.draw(st.integers(0, (1 << p.bits) - 1)) for p in uop_layout(config)
    }
    word = encode_uop(config, **fields)
    assert 0 <= word < 1 << 32
    assert decode_uop(word, config) == fields


@given(configs())
def test_fields_neither_overlap_nor_straddle(config: VTAConfig) -> None:
    for opcode in Opcode:
        at = 0
        for place in layout(opcode, config):
            assert place.lsb >= at
            assert place.lsb // 64 == (place.lsb + place.bits - 1) // 64
            at = place.lsb + place.bits
        assert at <= 128
    assert sum(p.bits for p in uop_layout(config)) <= 32


def test_default_widths_are_those_of_the_original() -> None:
    mem, gemm, alu = (
        {p.field.name: (p.lsb, p.bits) for p in layout(op, DEFAULT)}
        for op in (Opcode.LOAD, Opcode.GEMM, Opcode.ALU)
    )
    assert [mem[n] for n in ("opcode", "pop_prev", "memory_type")] == [(0, 3), (3, 1), (7, 3)]
    assert [mem[n] for n in ("sram_base", "dram_base", "y_size")] == [(10, 16), (26, 32), (64, 16)]
    assert [mem[n] for n in ("x_stride", "y_pad_0", "x_pad_1")] == [(96, 16), (112, 4), (124, 4)]
    assert [gemm[n] for n in ("reset", "uop_begin", "uop_end")] == [(7, 1), (8, 13), (21, 14)]
    assert [gemm[n] for n in ("iter_out", "iter_in")] == [(35, 14), (49, 14)]
    assert [gemm[n] for n in ("dst_factor_out", "src_factor_out")] == [(64, 11), (86, 11)]
    assert [gemm[n] for n in ("wgt_factor_out", "wgt_factor_in")] == [(108, 10), (118, 10)]
    assert [alu[n] for n in ("alu_opcode", "use_imm", "imm")] == [(108, 3), (111, 1), (112, 16)]
    assert [(p.lsb, p.bits) for p in uop_layout(DEFAULT)] == [(0, 11), (11, 11), (22, 10)]


def test_known_words() -> None:
    finish = encode(Insn(Opcode.FINISH, {"pop_next": 1}), DEFAULT)
    assert finish.hex() == "13" + "00" * 15
    load = Insn(
        Opcode.LOAD,
        {"memory_type": Memory.INP, "sram_base": 1, "dram_base": 2, "y_size": 3, "x_size": 4}
        | {"x_stride": 5, "y_pad_0": 6, "y_pad_1": 7, "x_pad_0": 8, "x_pad_1": 9, "push_next": 1},
    )
    words = [1 << 6 | 2 << 7 | 1 << 10 | 2 << 26, 3 | 4 << 16 | 5 << 32 | 0x9876 << 48]
    assert encode(load, DEFAULT) == b"".join(word.to_bytes(8, "little") for word in words)
    shift = Insn(Opcode.ALU, {"alu_opcode": AluOp.SHR, "use_imm": 1, "imm": -3})
    assert encode(shift, DEFAULT).hex() == "04" + "00" * 12 + "b0fdff"
    assert decode(encode(shift, DEFAULT), DEFAULT)["imm"] == -3


def test_every_field_takes_its_limits_and_no_more(preset: VTAConfig) -> None:
    for opcode in Opcode:
        for place in layout(opcode, preset):
            if place.field.name == "opcode":
                continue
            low, high = 0, (1 << place.bits) - 1
            if place.field.signed:
                low, high = -(1 << place.bits - 1), (1 << place.bits - 1) - 1
            name = place.field.name
            for value in (low, high):
                assert decode(encode(Insn(opcode, {name: value}), preset), preset)[name] == value
            for value in (low - 1, high + 1):
                sentence = (
                    rf"{opcode.name}\.{name}: must be in \[{low}, {high}\], got {value}; here"
                )
                with pytest.raises(EncodeError, match=sentence):
                    encode(Insn(opcode, {name: value}, Origin(purpose="here")), preset)
    for place in uop_layout(preset):
        fields = {"dst_idx": 0, place.field.name: 1 << place.bits}
        sentence = rf"uop\.{place.field.name}: must be in \[0, .*\], got {1 << place.bits}; shrink"
        with pytest.raises(EncodeError, match=sentence):
            encode_uop(preset, **fields)


def test_unknown_field() -> None:
    with pytest.raises(EncodeError, match="LOAD: has no field iter_out; conv1"):
        encode(Insn(Opcode.LOAD, {"iter_out": 1}, Origin(layer="conv1")), DEFAULT)


@pytest.mark.parametrize("opcode", [5, 6, 7])
def test_unknown_opcode(opcode: int) -> None:
    sentence = rf"insn.opcode: must be in \[0, 4\], got {opcode}; is this a VTA instruction\?"
    with pytest.raises(DecodeError, match=sentence):
        decode(bytes([opcode]) + bytes(15), DEFAULT)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_wrong_length(size: int) -> None:
    with pytest.raises(DecodeError, match=f"insn: must be 16 bytes, got {size}; is it truncated"):
        decode(bytes(size), DEFAULT)


def test_stray_bits() -> None:
    data = (1 << 63).to_bytes(16, "little")
    sentence = "LOAD: bits that no field covers must be 0, got 0x0*8000000000000000; decode with"
    with pytest.raises(DecodeError, match=sentence):
        decode(data, DEFAULT)
    assert decode(data, DEFAULT, strict=False)["x_size"] == 0


@pytest.mark.parametrize(
    ("insn", "module"),
    [
        (Insn(Opcode.LOAD, {"memory_type": Memory.INP}), Module.LOAD),
        (Insn(Opcode.LOAD, {"memory_type": Memory.WGT}), Module.LOAD),
        (Insn(Opcode.LOAD, {"memory_type": Memory.UOP}), Module.COMPUTE),
        (Insn(Opcode.LOAD, {"memory_type": Memory.ACC}), Module.COMPUTE),
        (Insn(Opcode.LOAD, {"memory_type": Memory.ACC_8BIT}), Module.COMPUTE),
        (Insn(Opcode.GEMM, {}), Module.COMPUTE),
        (Insn(Opcode.ALU, {}), Module.COMPUTE),
        (Insn(Opcode.FINISH, {}), Module.COMPUTE),
        (Insn(Opcode.STORE, {"memory_type": Memory.OUT}), Module.STORE),
    ],
)
def test_module(insn: Insn, module: Module) -> None:
    assert insn.module == module


def test_absent_fields_read_as_zero() -> None:
    insn = Insn(Opcode.GEMM, {"reset": 1})
    assert (insn["opcode"], insn["reset"], insn["iter_in"]) == (2, 1, 0)


def test_widths_print_as_expressions() -> None:
    assert str(Width(3)) == "3"
    assert str(Width(1, ("log_uop_depth",))) == "log_uop_depth + 1"
    assert str(Width(0, ("log_acc_depth", "log_inp_depth"))) == "max(log_acc_depth, log_inp_depth)"
    assert all(f.meaning for row in FORMATS.values() for f in row.fields)


@given(config_and_insns(max_size=20))
def test_a_stream_decodes_as_its_instructions(drawn: tuple[VTAConfig, list[Insn]]) -> None:
    config, insns = drawn
    data = b"".join(encode(insn, config) for insn in insns)
    expected = [
        (insn.opcode, {name: value for name, value in insn.values.items() if value})
        for insn in (decode(data[at : at + 16], config) for at in range(0, len(data), 16))
    ]
    assert decode_stream(data, config) == expected
    assert decode_stream(memoryview(data), config) == expected


def test_streams_that_are_none() -> None:
    good = encode(Insn(Opcode.LOAD, {"x_size": 1}), DEFAULT)
    with pytest.raises(DecodeError, match="stream: must be a multiple of 16 bytes, got 17; is it"):
        decode_stream(good + b"x", DEFAULT)
    with pytest.raises(DecodeError, match=r"insn.opcode: must be in \[0, 4\], got 7"):
        decode_stream(good + b"\7" + good[1:] + good, DEFAULT)
    stray = (int.from_bytes(good, "little") | 1 << 63).to_bytes(16, "little")
    with pytest.raises(DecodeError, match="LOAD: bits that no field covers must be 0, got"):
        decode_stream(good + stray, DEFAULT)
    assert decode_stream(b"", DEFAULT) == []


def test_an_instruction_never_changes() -> None:
    fields = {"iter_out": 1, "reset": 1}
    insn = Insn(Opcode.GEMM, fields)
    fields["iter_out"] = 2  # of whoever made it
    assert insn["iter_out"] == 1
    with pytest.raises(TypeError):
        insn.values["iter_out"] = 2  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        insn.origin = Origin(purpose="later")  # type: ignore[misc]
    other = insn.having(iter_out=3)
    assert (other["iter_out"], other["reset"], insn["iter_out"]) == (3, 1, 1)
    assert copy.deepcopy(insn) == pickle.loads(pickle.dumps(insn)) == insn != other
