"""Where a C compiler puts the fields of instructions and micro-ops: the rule, not the table.

The original (``include/vta/hw_spec.h``) declares them as bit-fields. `ctypes` packs bit-fields as
the platform's C compiler does, so that the positions come from there; the widths are written out
from the keys of a ``vta_config.json``. Nothing of `vta_config` is used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

Fields = list[tuple[str, int]]
Positions = list[tuple[str, int, int]]


def depths(keys: Mapping[str, int]) -> dict[str, int]:
    """Return log2 of the elements of each scratchpad from the keys of a vta_config.json."""
    batch, block = keys["LOG_BATCH"], keys["LOG_BLOCK"]
    acc_width = keys.get("LOG_ACC_WIDTH", 5)
    return {
        "uop": keys["LOG_UOP_BUFF_SIZE"] - 2,
        "inp": keys["LOG_INP_BUFF_SIZE"] + 3 - batch - block - keys["LOG_INP_WIDTH"],
        "wgt": keys["LOG_WGT_BUFF_SIZE"] + 3 - block - block - keys["LOG_WGT_WIDTH"],
        "acc": keys["LOG_ACC_BUFF_SIZE"] + 3 - batch - block - acc_width,
    }


def formats(keys: Mapping[str, int]) -> dict[str, Fields]:
    """Return the fields and widths of each format, lowest first."""
    d = depths(keys)
    tokens = [("opcode", 3), *((n, 1) for n in ("pop_prev", "pop_next", "push_prev", "push_next"))]
    loops = [("reset", 1), ("uop_begin", d["uop"]), ("uop_end", d["uop"] + 1)]
    loops += [("iter_out", 14), ("iter_in", 14)]
    pads = [(n, 4) for n in ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1")]
    memory = [("memory_type", 3), ("sram_base", 16), ("dram_base", 32)]
    memory += [("y_size", 16), ("x_size", 16), ("x_stride", 16), *pads]

    def factors(operand: str, width: int) -> Fields:
        return [(f"{operand}_factor_out", width), (f"{operand}_factor_in", width)]

    gemm = [*factors("dst", d["acc"]), *factors("src", d["inp"]), *factors("wgt", d["wgt"])]
    alu = [*factors("dst", d["acc"]), *factors("src", d["acc"])]
    alu += [("alu_opcode", 3), ("use_imm", 1), ("imm", 16)]
    return {
        "LOAD": [*tokens, *memory],
        "GEMM": [*tokens, *loops, *gemm],
        "ALU": [*tokens, *loops, *alu],
        "UOP": [("dst_idx", d["acc"]), ("src_idx", max(d["acc"], d["inp"])), ("wgt_idx", d["wgt"])],
    }


def positions(keys: Mapping[str, int], name: str) -> tuple[Positions, int]:
    """Return (field, lowest bit, bits) of each field of a format, and the bytes of the whole."""
    fields = formats(keys)[name]
    unit = ctypes.c_uint32 if name == "UOP" else ctypes.c_uint64
    struct = type(name, (ctypes.Structure,), {"_fields_": [(n, unit, bits) for n, bits in fields]})
    places = []
    for field, bits in fields:
        at = getattr(struct, field)
        assert at.size >> 16 == bits
        places.append((field, 8 * at.offset + (at.size & 0xFFFF), bits))
    return places, ctypes.sizeof(struct)
