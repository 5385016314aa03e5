"""Integer convolutions of the host: float32 units do the sums, which stay exact.

A processor multiplies and adds floats many times as fast as int32. A product of two int8 is at most
2^14, so that every partial sum of up to 1,024 of them is an integer which float32 holds: such parts
are summed in float32, and the parts in int32, to the integers of the plain convolution.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, te

from relay_passes.graph import Expr, constant, dtype_of, ints

#: Products of int8 whose sums are exact in float32, whatever their order: 2^24 / 2^14.
EXACT_PRODUCTS: Final = 1 << 10
#: Most output channels and columns whose sums advance together. With AVX-512, two vectors for each
#: of eight columns stay in registers.
_LANES: Final = 32
_COLUMNS: Final = 8
#: Names of the blocks of such a convolution: partial sums, and their sums.
_PARTS: Final = "conv2d_parts"
_SUMS: Final = "conv2d_sums"


def legalize(builder: Any, call: Expr) -> Expr:
    """Return an nn.conv2d in loops: of int8 as described above, else as TVM does it.

    Parameters
    ----------
    builder : relax.BlockBuilder
    call : relax.Call
    """
    weight, attrs = constant(call.args[1]), call.attrs
    if weight is None or not _taken(call, weight):
        return tvm.ir.Op.get("relax.nn.conv2d").get_attr("FLegalize")(builder, call)
    return builder.call_te(
        _sums,
        call.args[0],
        relax.const(np.ascontiguousarray(weight.transpose(1, 2, 3, 0))),
        strides=ints(attrs.strides),
        padding=ints(attrs.padding),
        dilation=ints(attrs.dilation),
        primfunc_name_hint="conv2d",
    )


def _taken(call: Expr, weight: NDArray[Any]) -> bool:
    """Whether a convolution is summed here."""
    attrs = call.attrs
    return (
        dtype_of(call) == "int32"
        and {dtype_of(arg) for arg in call.args} == {"int8"}
        and str(attrs.data_layout) == "NCHW"
        and str(attrs.kernel_layout) == "OIHW"
        and int(attrs.groups) == 1
        and weight.shape[2] * weight.shape[3] <= EXACT_PRODUCTS
    )


def _sums(
    x: te.Tensor,
    weight: te.Tensor,
    strides: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> te.Tensor:
    """Convolve int8[N, C, H, W] and int8[C, KH, KW, O] to int32[N, O, rows, columns]."""
    (n, c, h, w), (_, kh, kw, o) = (map(int, t.shape) for t in (x, weight))
    top, left, bottom, right = padding
    sides = h + top + bottom, w + left + right
    rows, columns = (
        (side - step * (size - 1) - 1) // stride + 1
        for side, step, size, stride in zip(sides, dilation, (kh, kw), strides, strict=True)
    )

    def pixel(b: Any, i: Any, y: Any, z: Any) -> Any:
        inside = tvm.tirx.all(y >= top, y < top + h, z >= left, z < left + w)
        value = x[b, i, y - top, z - left].astype("float32")
        return tvm.tirx.if_then_else(inside, value, tvm.tirx.const(0, "float32"))

    padded = te.compute((n, c, *sides), pixel, name="padded")
    each = _divisor(c, EXACT_PRODUCTS // (kh * kw))
    i, dy, dx = (te.reduce_axis((0, size)) for size in (each, kh, kw))
    parts = te.compute(
        (c // each, n, rows, columns, o),
        lambda part, b, y, z, f: te.sum(
            padded[
                b,
                part * each + i,
                y * strides[0] + dy * dilation[0],
                z * strides[1] + dx * dilation[1],
            ]
            * weight[part * each + i, dy, dx, f].astype("float32"),
            axis=[i, dy, dx],
        ),
        name=_PARTS,
    )
    part = te.reduce_axis((0, c // each))
    return te.compute(
        (n, o, rows, columns),
        lambda b, f, y, z: te.sum(parts[part, b, y, z, f].astype("int32"), axis=part),
        name=_SUMS,
    )


def schedule(loops: Any, name: str) -> None:
    """Reorder the loops of such a convolution: sums of neighbours advance together in registers.

    Parameters
    ----------
    loops : tvm.s_tir.Schedule
    name : str
        The kernel; one that is no such convolution stays as it is.
    """
    loops.work_on(name)
    blocks = loops.get_child_blocks(loops.get_sblock("root"))
    found = {str(loops.get(block).name_hint): block for block in blocks}
    if _SUMS not in found:
        return
    sums, parts = found[_SUMS], found[_PARTS]
    image, channel, row, column, part = loops.get_loops(sums)
    channels, lanes = _split(loops, channel, _LANES)
    tiles, columns = _split(loops, column, _COLUMNS)
    loops.reorder(image, channels, row, tiles, part, columns, lanes)
    loops.compute_at(parts, part, preserve_unit_loops=True)
    *_, columns, lanes, first, second, third = loops.get_loops(parts)
    loops.reorder(first, second, third, columns, lanes)
    loops.unroll(columns)
    loops.vectorize(lanes)
    loops.set_scope(parts, 0, "local")
    loops.decompose_reduction(parts, first)
    loops.decompose_reduction(sums, part)


def _split(loops: Any, loop: Any, most: int) -> Any:
    """Split a loop so that the inner one has at most `most` steps and divides it."""
    return loops.split(loop, [None, _divisor(int(loops.get(loop).extent), most)])


def _divisor(number: int, most: int) -> int:
    """Return the largest divisor of `number` that is at most `most`."""
    return next(d for d in range(min(number, most), 0, -1) if number % d == 0)
