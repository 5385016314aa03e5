"""What each instruction computes, as text for docs/isa.md.

The indented lines are Python in which `·` and `ᵀ` stand for the matrix product and the transpose.
`tests/vta_config/test_equations.py` executes them and compares them with `vta_config.semantics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_MEM_EQUATIONS: Final = """\
LOAD copies `y_size` rows of `x_size` elements from DRAM into a scratchpad and puts zeros around
them:

    columns = x_pad_0 + x_size + x_pad_1
    for r in range(y_pad_0 + y_size + y_pad_1):
        for c in range(columns):
            y, x = r - y_pad_0, c - x_pad_0
            inside = 0 <= y < y_size and 0 <= x < x_size
            sram[sram_base + r*columns + c] = dram[dram_base + y*x_stride + x] if inside else 0

`memory_type` selects the scratchpad. ACC_8BIT (capability acc_8bit) reads int8 elements and writes
them into acc as int32. OUT cannot be loaded.

STORE copies elements of out to DRAM; `memory_type` is OUT and the padding fields are 0:

    for y in range(y_size):
        for x in range(x_size):
            dram[dram_base + y*x_stride + x] = out[sram_base + y*x_size + x]
"""
_NEST_EQUATIONS: Final = """\
    for o in range(iter_out):
        for i in range(iter_in):
            for u in range(uop_begin, uop_end):
                dst = uop[u].dst_idx + o*dst_factor_out + i*dst_factor_in
                src = uop[u].src_idx + o*src_factor_out + i*src_factor_in
"""
_GEMM_EQUATIONS: Final = f"""\
GEMM multiplies one inp element, int8[batch, block], by one transposed wgt element,
int8[block, block], in each step, and adds the product to one acc element, int32[batch, block]:

{_NEST_EQUATIONS}\
                wgt = uop[u].wgt_idx + o*wgt_factor_out + i*wgt_factor_in
                acc[dst] += inp[src] · wgt[wgt]ᵀ
                out[dst] = acc[dst] & 0xff

With `reset` the last two lines are `acc[dst] = 0`, and out keeps its value. int32 sums wrap modulo
2^32. With int4 inputs out takes the low 4 bits: `& 0xf`.

FINISH ends the program; its other fields are not read, except for the token flags.
"""
_ALU_EQUATIONS: Final = f"""\
ALU applies one operation to each lane of one acc element in each step:

{_NEST_EQUATIONS}\
                b = imm if use_imm else acc[src]
                acc[dst] = op(acc[dst], b)
                out[dst] = acc[dst] & 0xff

| operation | op(a, b), modulo 2^32 |
|---|---|
| MIN | min(a, b) |
| MAX | max(a, b) |
| ADD | a + b |
| SHR | a >> b, an arithmetic shift: ⌊a / 2^b⌋; for b < 0 a << −b |
| MUL | a · b (capability mul) |

Steps run one after the other: a step reads what the steps before it wrote. `reset` is not read.
With int4 inputs out takes the low 4 bits: `& 0xf`.
"""
_UOP_EQUATIONS: Final = """\
A micro-op holds the indices of one step, before the loops of GEMM or ALU add to them.
"""

#: By the name of the format in `vta_config.isa`; micro-ops by ``uop``.
EQUATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "mem": _MEM_EQUATIONS,
        "gemm": _GEMM_EQUATIONS,
        "alu": _ALU_EQUATIONS,
        "uop": _UOP_EQUATIONS,
    }
)
