"""The instruction set as a table: every opcode, field and width; the one statement of it.

The encoder, the decoder, the assembler text, ``docs/isa.md`` and the C++ header
``flow/sim/core/isa.gen.h`` are derived from `FORMATS` and `UOP_FIELDS`. Source: apache/tvm-vta,
``include/vta/hw_spec.h`` (revision d4a15f6), which declares instructions as C bit-fields of
``uint64_t`` and micro-ops as bit-fields of ``uint32_t``. Fields therefore follow one another from
bit 0, and one that would straddle a multiple of 64 (32 in a micro-op) moves up to it: where a field
lies depends on the widths of all fields before it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from vta_config.errors import ConfigError, DecodeError, EncodeError
from vta_config.origin import NOWHERE, Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


INSN_BYTES: Final = 16
UOP_BYTES: Final = 4


class Machine(Hashable, Protocol):
    """What the encoding needs of a machine; `vta_config.hardware.VTAConfig` has it."""

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    @property
    def log_uop_depth(self) -> int:
        """Micro-ops of the uop buffer, log2."""
        ...

    @property
    def log_inp_depth(self) -> int:
        """Elements of the inp buffer, log2."""
        ...

    @property
    def log_wgt_depth(self) -> int:
        """Elements of the wgt buffer, log2."""
        ...

    @property
    def log_acc_depth(self) -> int:
        """Elements of the acc buffer, log2."""
        ...


class Opcode(IntEnum):
    """The 3-bit opcode of an instruction."""

    LOAD = 0
    STORE = 1
    GEMM = 2
    FINISH = 3
    ALU = 4


class Memory(IntEnum):
    """The 3-bit memory type of LOAD and STORE."""

    UOP = 0
    WGT = 1
    INP = 2
    ACC = 3
    OUT = 4
    ACC_8BIT = 5


class AluOp(IntEnum):
    """The 3-bit ALU opcode; MUL exists only where the machine declares the capability ``mul``."""

    MIN = 0
    MAX = 1
    ADD = 2
    SHR = 3
    MUL = 4


class Module(IntEnum):
    """The modules that execute instructions, in the order of their `prev` → `next` neighbours."""

    LOAD = 0
    COMPUTE = 1
    STORE = 2


@dataclass(frozen=True, slots=True)
class Width:
    """A width in bits: ``max(config attributes) + plus``, or `plus` alone where there are none."""

    plus: int = 0
    attributes: tuple[str, ...] = ()

    def bits(self, config: Machine) -> int:
        """Evaluate the width for `config`, in bits."""
        return self.plus + max((getattr(config, name) for name in self.attributes), default=0)

    def __str__(self) -> str:
        """Write the width as the expression that the documentation shows."""
        if not self.attributes:
            return str(self.plus)
        names = ", ".join(self.attributes)
        text = names if len(self.attributes) == 1 else f"max({names})"
        return f"{text} + {self.plus}" if self.plus else text


@dataclass(frozen=True, slots=True)
class Field:
    """One bit-field of an instruction or micro-op."""

    name: str
    width: Width
    meaning: str
    signed: bool = False


@dataclass(frozen=True, slots=True)
class InsnFormat:
    """One row of the instruction table: a name, the opcodes it serves and its fields, LSB first."""

    name: str
    opcodes: tuple[Opcode, ...]
    fields: tuple[Field, ...]


def _f(name: str, width: int | Width, meaning: str, *, signed: bool = False) -> Field:
    return Field(name, Width(width) if isinstance(width, int) else width, meaning, signed)


#: The words that instructions are packed in, and the one of a micro-op.
WORD_BITS: Final = 64
UOP_BITS: Final = 32

_UOP_DEPTH: Final = Width(0, ("log_uop_depth",))
_UOP_DEPTH_1: Final = Width(1, ("log_uop_depth",))
_ACC_DEPTH: Final = Width(0, ("log_acc_depth",))
_SRC_DEPTH: Final = Width(0, ("log_acc_depth", "log_inp_depth"))
_INP_DEPTH: Final = Width(0, ("log_inp_depth",))
_WGT_DEPTH: Final = Width(0, ("log_wgt_depth",))

_HEADER: Final = (
    _f("opcode", 3, "LOAD 0, STORE 1, GEMM 2, FINISH 3, ALU 4"),
    _f("pop_prev", 1, "before it starts, take a token from the neighbour on the LOAD side"),
    _f("pop_next", 1, "before it starts, take a token from the neighbour on the STORE side"),
    _f("push_prev", 1, "when done, give a token to the neighbour on the LOAD side"),
    _f("push_next", 1, "when done, give a token to the neighbour on the STORE side"),
)
_NEST: Final = (
    _f("reset", 1, "GEMM: write zeros instead of accumulating"),
    _f("uop_begin", _UOP_DEPTH, "first micro-op"),
    _f("uop_end", _UOP_DEPTH_1, "one past the last micro-op"),
    _f("iter_out", 14, "iterations of the outer loop"),
    _f("iter_in", 14, "iterations of the inner loop"),
)

FORMATS: Final[dict[str, InsnFormat]] = {
    row.name: row
    for row in (
        InsnFormat(
            "mem",
            (Opcode.LOAD, Opcode.STORE),
            (
                *_HEADER,
                _f("memory_type", 3, "UOP 0, WGT 1, INP 2, ACC 3, OUT 4, ACC_8BIT 5"),
                _f("sram_base", 16, "first scratchpad element"),
                _f(
                    "dram_base",
                    32,
                    "first DRAM element: byte address / bytes per element",
                ),
                _f("y_size", 16, "rows"),
                _f("x_size", 16, "elements per row; 0: a no-op that only takes and gives tokens"),
                _f("x_stride", 16, "distance between the starts of two rows in DRAM, in elements"),
                _f("y_pad_0", 4, "rows of zeros before the first row (LOAD)"),
                _f("y_pad_1", 4, "rows of zeros after the last row (LOAD)"),
                _f("x_pad_0", 4, "zero elements before each row (LOAD)"),
                _f("x_pad_1", 4, "zero elements after each row (LOAD)"),
            ),
        ),
        InsnFormat(
            "gemm",
            (Opcode.GEMM, Opcode.FINISH),
            (
                *_HEADER,
                *_NEST,
                _f("dst_factor_out", _ACC_DEPTH, "added to the dst index per outer iteration"),
                _f("dst_factor_in", _ACC_DEPTH, "added to the dst index per inner iteration"),
                _f("src_factor_out", _INP_DEPTH, "added to the src index per outer iteration"),
                _f("src_factor_in", _INP_DEPTH, "added to the src index per inner iteration"),
                _f("wgt_factor_out", _WGT_DEPTH, "added to the wgt index per outer iteration"),
                _f("wgt_factor_in", _WGT_DEPTH, "added to the wgt index per inner iteration"),
            ),
        ),
        InsnFormat(
            "alu",
            (Opcode.ALU,),
            (
                *_HEADER,
                *_NEST,
                _f("dst_factor_out", _ACC_DEPTH, "added to the dst index per outer iteration"),
                _f("dst_factor_in", _ACC_DEPTH, "added to the dst index per inner iteration"),
                _f("src_factor_out", _ACC_DEPTH, "added to the src index per outer iteration"),
                _f("src_factor_in", _ACC_DEPTH, "added to the src index per inner iteration"),
                _f("alu_opcode", 3, "MIN 0, MAX 1, ADD 2, SHR 3, MUL 4 (capability mul)"),
                _f("use_imm", 1, "1: b = imm; 0: b = acc[src], for SHR only with shr_register"),
                _f("imm", 16, "the immediate operand", signed=True),
            ),
        ),
    )
}

UOP_FIELDS: Final = (
    _f("dst_idx", _ACC_DEPTH, "acc element written"),
    _f("src_idx", _SRC_DEPTH, "inp element (GEMM) or acc element (ALU) read"),
    _f("wgt_idx", _WGT_DEPTH, "wgt element read (GEMM)"),
)


_WORD: Final = (1 << 64) - 1


def _largest(format_name: str, field_name: str) -> int:
    """Return the largest value of an unsigned field of fixed width."""
    field = next(f for f in FORMATS[format_name].fields if f.name == field_name)
    assert not field.width.attributes and not field.signed
    return (1 << field.width.plus) - 1


#: The widest edge of zeros that a LOAD makes, and the most rows or elements per row that it moves.
MAX_PAD: Final = _largest("mem", "y_pad_0")
MAX_TRANSFER: Final = _largest("mem", "x_size")
#: The range of an ALU instruction's immediate.
MAX_IMM: Final = (1 << next(f for f in FORMATS["alu"].fields if f.name == "imm").width.plus - 1) - 1
MIN_IMM: Final = -MAX_IMM - 1
FORMAT_OF_OPCODE: Final[dict[Opcode, InsnFormat]] = {
    op: row for row in FORMATS.values() for op in row.opcodes
}
TOKEN_FIELDS: Final = ("pop_prev", "pop_next", "push_prev", "push_next")


@dataclass(frozen=True, slots=True)
class Insn:
    """One instruction: its opcode, its field values (0 where absent) and where it comes from.

    Nothing of it changes: `values` is a read-only copy of what it was made with, and `having` makes
    another instruction. `origin` is for reports and errors; it is no part of the encoding.
    """

    opcode: Opcode
    values: Mapping[str, int]
    origin: Origin = NOWHERE

    def __post_init__(self) -> None:
        """Keep a copy of the values that nobody can change."""
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))

    def __reduce__(self) -> tuple[type[Insn], tuple[Opcode, dict[str, int], Origin]]:
        """Copy and pickle as what it is made of."""
        return Insn, (self.opcode, dict(self.values), self.origin)

    def having(self, **values: int) -> Insn:
        """Return the instruction with other values of some fields."""
        return Insn(self.opcode, {**self.values, **values}, self.origin)

    def __getitem__(self, name: str) -> int:
        """Return the value of field `name`, 0 where it was not given."""
        return int(self.opcode) if name == "opcode" else self.values.get(name, 0)

    @property
    def module(self) -> Module:
        """The module that executes this instruction."""
        if self.opcode == Opcode.STORE:
            return Module.STORE
        if self.opcode == Opcode.LOAD and self["memory_type"] in (Memory.INP, Memory.WGT):
            return Module.LOAD
        return Module.COMPUTE


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a field lies: its lowest bit (0..127; 0..31 in a micro-op) and its width, in bits.

    `low` and `high` are the least and the largest value that it holds.
    """

    field: Field
    lsb: int
    bits: int
    low: int
    high: int


def _place(fields: Iterable[Field], config: Machine, unit_bits: int = WORD_BITS) -> list[Placement]:
    """Place fields LSB first as a C compiler places bit-fields of an integer of `unit_bits`."""
    placements, at = [], 0
    for f in fields:
        bits = f.width.bits(config)
        if at // unit_bits != (at + bits - 1) // unit_bits:
            at += -at % unit_bits
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if f.signed else (0, (1 << bits) - 1)
        placements.append(Placement(f, at, bits, low, high))
        at += bits
    return placements


@lru_cache(maxsize=64)
def layout(opcode: Opcode, config: Machine) -> tuple[Placement, ...]:
    """Return where each field of `opcode` lies on the machine `config`."""
    return tuple(_place(FORMAT_OF_OPCODE[opcode].fields, config))


@lru_cache(maxsize=64)
def uop_layout(config: Machine) -> tuple[Placement, ...]:
    """Return where each field of a 32-bit micro-op lies on the machine `config`."""
    return tuple(_place(UOP_FIELDS, config, UOP_BITS))


#: What a scratchpad's indices are bits of, in the order in which errors name them.
_MEMORIES: Final = ("inp", "wgt", "acc", "uop")
#: The most elements of a scratchpad that LOAD and STORE reach, log2.
LOG_MOST_ELEMENTS: Final = next(
    f.width.plus for f in FORMATS["mem"].fields if f.name == "sram_base"
)


@dataclass(frozen=True, slots=True)
class _Depths:
    """The elements of the scratchpads, log2, of a machine that need not exist."""

    name: str
    log_uop_depth: int
    log_inp_depth: int
    log_wgt_depth: int
    log_acc_depth: int


def check_widths(config: Machine) -> None:
    """Check that every instruction fits two 64-bit words and a micro-op 32 bits.

    Raises
    ------
    ConfigError
        Naming the format, the bits that it has and needs, and what would fit.
    """
    depths = {memory: getattr(config, f"log_{memory}_depth") for memory in _MEMORIES}
    for name, limit, end in _ends(config):
        if end > limit:
            bits = ", ".join(f"{memory} {bits}" for memory, bits in depths.items())
            raise ConfigError(
                f"{config.name}.{name}",
                f"must fit {limit} bits with its indices of elements ({bits} bits)",
                got=f"{end} bits",
                hint=_what_fits(depths),
            )
    for memory, bits in depths.items():
        if bits > LOG_MOST_ELEMENTS:
            raise ConfigError(
                f"{config.name}.LOG_{memory.upper()}_BUFF_SIZE",
                f"must hold at most {1 << LOG_MOST_ELEMENTS} elements (sram_base has "
                f"{LOG_MOST_ELEMENTS} bits)",
                got=f"{1 << bits}",
                hint=f"make it {bits - LOG_MOST_ELEMENTS} less, or the block larger",
            )


def _ends(config: Machine) -> list[tuple[str, int, int]]:
    """Return the formats: name, bits that there are, and bits that a machine needs."""
    needs = [(row.name, 2 * WORD_BITS, _place(row.fields, config)[-1]) for row in FORMATS.values()]
    needs.append(("uop", UOP_BITS, _place(UOP_FIELDS, config, UOP_BITS)[-1]))
    return [(name, limit, last.lsb + last.bits) for name, limit, last in needs]


def _what_fits(depths: Mapping[str, int]) -> str:
    """Return the smallest changes of one scratchpad with which all instructions fit."""
    found = []
    for memory, bits in depths.items():
        for less in range(1, bits):
            smaller = {f"log_{m}_depth": d - less * (m == memory) for m, d in depths.items()}
            if all(end <= limit for _, limit, end in _ends(_Depths("", **smaller))):
                found.append(f"LOG_{memory.upper()}_BUFF_SIZE by {less}")
                break
    return f"reduce {' or '.join(found)}" if found else "reduce several LOG_..._BUFF_SIZE"


def _pack(placements: Iterable[Placement], values: dict[str, int], where: str, hint: object) -> int:
    word, known = 0, 0
    for p in placements:
        value = values.get(p.field.name)
        if value is None:
            continue
        known += 1
        if not p.low <= value <= p.high:
            raise EncodeError(
                f"{where}.{p.field.name}",
                f"must be in [{p.low}, {p.high}]",
                got=value,
                hint=hint,
            )
        word |= (int(value) & ((1 << p.bits) - 1)) << p.lsb
    if known < len(values):
        names = {p.field.name for p in placements}
        unknown = next(name for name in values if name not in names)
        raise EncodeError(where, f"has no field {unknown}", hint=hint)
    return word


def _unpack(placements: Iterable[Placement], word: int) -> tuple[dict[str, int], int]:
    """Return the field values and the bits that no field covers."""
    values: dict[str, int] = {}
    for p in placements:
        mask = (1 << p.bits) - 1
        value = word >> p.lsb & mask
        values[p.field.name] = (
            value - (1 << p.bits) if p.field.signed and value >> (p.bits - 1) else value
        )
        word &= ~(mask << p.lsb)
    return values, word


def encode(insn: Insn, config: Machine) -> bytes:
    """Encode `insn` as 16 little-endian bytes.

    Raises
    ------
    EncodeError
        When a value does not fit its field, or there is no such field.
    """
    values = {"opcode": int(insn.opcode), **insn.values}
    return _pack(layout(insn.opcode, config), values, insn.opcode.name, insn.origin).to_bytes(
        16, "little"
    )


def decode(data: bytes, config: Machine, *, strict: bool = True) -> Insn:
    """Decode 16 bytes; with `strict`, bits that no field covers must be 0.

    Raises
    ------
    DecodeError
        On a length other than 16, an unknown opcode, or stray bits when `strict`.
    """
    if len(data) != INSN_BYTES:
        raise DecodeError(
            "insn", f"must be {INSN_BYTES} bytes", got=len(data), hint="is it truncated?"
        )
    word = int.from_bytes(data, "little")
    try:
        opcode = Opcode(word & 7)
    except ValueError:
        raise DecodeError(
            "insn.opcode", "must be in [0, 4]", got=word & 7, hint="is this a VTA instruction?"
        ) from None
    values, rest = _unpack(layout(opcode, config), word)
    if strict and rest:
        raise DecodeError(
            opcode.name,
            "bits that no field covers must be 0",
            got=f"{rest:#034x}",
            hint="decode with strict=False",
        )
    del values["opcode"]
    return Insn(opcode, values)


def encode_uop(
    config: Machine,
    *,
    dst_idx: int,
    src_idx: int = 0,
    wgt_idx: int = 0,
    hint: str = "shrink the tile",
) -> int:
    """Encode a micro-op as uint32.

    Raises
    ------
    EncodeError
        When an index does not fit its field.
    """
    return _pack(
        uop_layout(config),
        {"dst_idx": dst_idx, "src_idx": src_idx, "wgt_idx": wgt_idx},
        "uop",
        hint,
    )


def decode_uop(word: int, config: Machine) -> dict[str, int]:
    """Decode a uint32 micro-op into dst_idx, src_idx and wgt_idx (elements)."""
    return _unpack(uop_layout(config), word)[0]


def decode_stream(data: bytes | memoryview, config: Machine) -> list[tuple[Opcode, dict[str, int]]]:
    """Decode a stream, 16 bytes per instruction: the opcode and the fields that are not 0 of each.

    Many times as fast as `decode` on each instruction.

    Raises
    ------
    DecodeError
        As `decode` does, on the first instruction that is none.
    """
    if len(data) % INSN_BYTES:
        raise DecodeError(
            "stream",
            f"must be a multiple of {INSN_BYTES} bytes",
            got=len(data),
            hint="is it truncated?",
        )
    words = np.frombuffer(data, "<u8").reshape(-1, 2)
    opcodes = (words[:, 0] & 7).astype(np.int64)
    bad = opcodes > max(Opcode)
    result: list[tuple[Opcode, dict[str, int]]] = [(Opcode.FINISH, {})] * len(words)
    for opcode in Opcode:
        (rows,) = np.nonzero(opcodes == opcode)
        mine, covered = words[rows], [0, 0]
        columns: dict[str, list[int]] = {}
        for p in layout(opcode, config):
            mask = (1 << p.bits) - 1
            covered[p.lsb >> 6 & 1] |= mask << (p.lsb & 63)
            if not p.bits or p.field.name == "opcode":
                continue
            column = (mine[:, p.lsb >> 6] >> np.uint64(p.lsb & 63)) & np.uint64(mask)
            if p.field.signed:
                shift = np.int64(64 - p.bits)
                column = column.astype(np.int64) << shift >> shift
            columns[p.field.name] = column.tolist()
        stray = (mine[:, 0] & np.uint64(~covered[0] & _WORD)) | (
            mine[:, 1] & np.uint64(~covered[1] & _WORD)
        )
        bad[rows] |= stray != 0
        names = tuple(columns)
        for row, *values in zip(rows.tolist(), *columns.values(), strict=True):
            result[row] = (opcode, {n: v for n, v in zip(names, values, strict=True) if v})
    if bad.any():
        first = int(np.argmax(bad)) * INSN_BYTES
        decode(bytes(data[first : first + INSN_BYTES]), config)
    return result
