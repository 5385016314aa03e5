"""Assembler and disassembler: instruction streams and micro-ops as text that round-trips exactly.

One line an instruction or micro-op; `;` starts a comment. A field that is not written is 0, and a
1-bit field is written as its name alone. An immediate that is used is written even if it is 0:

.. code-block:: text

    uop dst_idx=3 src_idx=17 wgt_idx=2
    ; layer2.0.conv1 tile (0, 3, 0)
    LOAD.INP  pop_next push_next dram_base=4096 y_size=9 x_size=28 y_pad_0=1
    GEMM      pop_prev uop_end=9 iter_out=8 iter_in=28 dst_factor_out=28 ; 12: 2016 steps
    ALU.SHR   push_next uop_end=1 iter_out=1 iter_in=224 dst_factor_in=1 use_imm imm=7
    STORE.OUT pop_prev push_prev dram_base=9000 y_size=1 x_size=224 x_stride=224
    FINISH    pop_next

Names and widths are those of `vta_config.isa`. A memory type or ALU opcode without a name is
written as a field, ``LOAD memory_type=7``; a micro-op with bits that no field covers
as ``uop 0x80000000``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vta_config.errors import DecodeError
from vta_config.isa import (
    AluOp,
    Insn,
    Memory,
    Opcode,
    Placement,
    decode_uop,
    encode,
    encode_uop,
    layout,
    uop_layout,
)
from vta_config.origin import NOWHERE, Origin
from vta_config.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from enum import IntEnum

    from vta_config.hardware import VTAConfig

#: The field that an opcode's suffix stands for, and its names.
_SUFFIX: Final[dict[Opcode, tuple[str, type[IntEnum]]]] = {
    Opcode.LOAD: ("memory_type", Memory),
    Opcode.STORE: ("memory_type", Memory),
    Opcode.ALU: ("alu_opcode", AluOp),
}
_MNEMONIC_COLUMNS: Final = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """What a text assembles to.

    Parameters
    ----------
    insns : list of Insn
        The instructions; the origin of each tells its line, as its purpose: ``"line 12"``.
    uops : list of int
        The micro-ops, uint32 words.
    """

    insns: list[Insn]
    uops: list[int]


# ---- disassembler -------------------------------------------------------------------------------
def _fields_text(places: Iterable[Placement], values: Mapping[str, int], skip: str = "") -> str:
    """Write the non-zero fields in the order of the encoding, and an immediate that is used."""
    words = []
    always = "imm" if values.get("use_imm") else ""
    for place in places:
        name = place.field.name
        value = values.get(name, 0)
        if (value or name == always) and name not in ("opcode", skip):
            words.append(name if place.bits == 1 else f"{name}={value}")
    return " ".join(words)


def insn_text(insn: Insn, config: VTAConfig) -> str:
    """Write one instruction, without a comment.

    Raises
    ------
    EncodeError
        When a value does not fit its field, or there is no such field.
    """
    encode(insn, config)
    mnemonic, skip = insn.opcode.name, ""
    if insn.opcode in _SUFFIX:
        name, names = _SUFFIX[insn.opcode]
        if insn[name] in names.__members__.values():
            mnemonic, skip = f"{mnemonic}.{names(insn[name]).name}", name
    fields = _fields_text(layout(insn.opcode, config), insn.values, skip)
    return f"{mnemonic:<{_MNEMONIC_COLUMNS}} {fields}".rstrip()


def uop_text(word: int, config: VTAConfig) -> str:
    """Write one micro-op, a uint32 word.

    Raises
    ------
    DecodeError
        When `word` is not a uint32.
    """
    if not 0 <= word < 1 << 32:
        raise DecodeError("uop", "must be in [0, 2^32)", got=word, hint="micro-ops are uint32")
    fields = decode_uop(word, config)
    if encode_uop(config, hint="", **fields) != word:
        return f"uop {word:#010x}"
    return f"uop {_fields_text(uop_layout(config), fields)}".rstrip()


def _comment(index: int, insn: Insn) -> str:
    """Return the index of an instruction and, for a loop nest, how many steps it takes."""
    if insn.opcode not in (Opcode.GEMM, Opcode.ALU):
        return f"{index}"
    steps = insn["iter_out"] * insn["iter_in"] * max(0, insn["uop_end"] - insn["uop_begin"])
    return f"{index}: {steps} steps"


def disassemble(
    insns: Iterable[Insn],
    config: VTAConfig,
    uops: Iterable[int] | None = None,
    origins: Sequence[object] | Callable[[int], object] | None = None,
) -> str:
    """Write a program as text that `assemble` and `assemble_all` read back exactly.

    Parameters
    ----------
    insns : iterable of Insn
        The instructions, in program order.
    config : VTAConfig
        The machine, whose field widths hold.
    uops : iterable of int, optional
        Micro-ops (uint32), written before the instructions.
    origins : sequence or function of the instruction's index, optional
        Where instructions come from, written as a comment above each change; each instruction's own
        `origin` where not given. A comment is one printable line, whatever a layer's name is.

    Raises
    ------
    EncodeError
        When a value does not fit its field.
    DecodeError
        When a micro-op is not a uint32.
    """
    lines = [f"; machine {printable(config.name)}: batch {config.batch}, block {config.block}"]
    lines += [f"{uop_text(int(word), config)} ; {at}" for at, word in enumerate(uops or ())]
    last: object = NOWHERE if origins is None else ""
    for index, insn in enumerate(insns):
        if origins is None:
            origin: object = insn.origin
        else:
            origin = origins(index) if callable(origins) else origins[index]
        if origin != last:
            lines.append(f"; {printable(str(origin))}".rstrip())
            last = origin
        lines.append(f"{insn_text(insn, config)} ; {_comment(index, insn)}")
    return "\n".join(lines) + "\n"


# ---- assembler ----------------------------------------------------------------------------------
def _number(text: str, where: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise DecodeError(
            where, "must be an integer", got=repr(text), hint="write 12, -3 or 0x1f"
        ) from None


def _parse_fields(words: list[str], places: Iterable[Placement], where: str) -> dict[str, int]:
    """Read ``name=value`` and the names of 1-bit fields."""
    bits = {p.field.name: p.bits for p in places if p.field.name != "opcode"}
    values: dict[str, int] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name not in bits:
            raise DecodeError(f"{where} {name}", "is not a field", hint=f"known: {', '.join(bits)}")
        if name in values:
            raise DecodeError(f"{where} {name}", "must be given once", hint="remove one")
        if not equals and bits[name] != 1:
            raise DecodeError(f"{where} {name}", "must have a value", hint=f"write {name}=0")
        values[name] = _number(text, f"{where} {name}") if equals else 1
    return values


def _parse_insn(words: list[str], config: VTAConfig, line: str) -> Insn:
    name, dot, suffix = words[0].partition(".")
    if name not in Opcode.__members__:
        known = ", ".join(["uop", *Opcode.__members__])
        raise DecodeError(f"{line} {name}", "is not an instruction", hint=f"known: {known}")
    opcode = Opcode[name]
    words = words[1:]
    if dot:
        field, names = _SUFFIX.get(opcode, ("", None))
        if names is None or suffix not in names.__members__:
            known = ", ".join(names.__members__) if names else "none"
            raise DecodeError(f"{line} {name}.{suffix}", "is not a suffix", hint=f"known: {known}")
        words.append(f"{field}={names[suffix].value}")
    places = layout(opcode, config)
    given = _parse_fields(words, places, f"{line} {name}")
    values = {p.field.name: given.get(p.field.name, 0) for p in places if p.field.name != "opcode"}
    insn = Insn(opcode, values, Origin(purpose=line))
    encode(insn, config)
    return insn


def _parse_uop(words: list[str], config: VTAConfig, line: str) -> int:
    if len(words) == 1 and words[0][0].isdigit():
        word = _number(words[0], f"{line} uop")
        if word >= 1 << 32:
            raise DecodeError(
                f"{line} uop", "must be in [0, 2^32)", got=word, hint="it is a uint32"
            )
        return word
    given = _parse_fields(words, uop_layout(config), f"{line} uop")
    return encode_uop(config, hint=line, **{"dst_idx": 0, **given})


def assemble_all(text: str, config: VTAConfig) -> Assembly:
    """Read instructions and micro-ops from text, as `disassemble` writes it.

    Raises
    ------
    DecodeError
        Naming the line, on what is no instruction, field or number.
    EncodeError
        Naming the line, when a value does not fit its field.
    """
    insns: list[Insn] = []
    uops: list[int] = []
    for number, content in enumerate(text.splitlines(), start=1):
        words = content.partition(";")[0].split()
        if not words:
            continue
        if words[0] == "uop":
            uops.append(_parse_uop(words[1:], config, f"line {number}"))
        else:
            insns.append(_parse_insn(words, config, f"line {number}"))
    return Assembly(insns=insns, uops=uops)


def assemble(text: str, config: VTAConfig) -> list[Insn]:
    """Read the instructions of a text; `assemble_all` returns the micro-ops, too.

    Raises
    ------
    DecodeError, EncodeError
        As `assemble_all` does.
    """
    return assemble_all(text, config).insns
