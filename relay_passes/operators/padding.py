"""Padding of an int8 feature map by the number that stands for 0.0: its zero point.

A convolution pads with 0. Where another number stands for 0.0, the integer graph pads before it,
and a layer takes both in.
"""

from __future__ import annotations

from tvm import relax

from relay_passes.graph import Expr, dtype_of, ints, op_name
from relay_passes.operators.chain import NO_SIDES, Chain, MakerOf, Padding


def padded(data: Expr, padding: Padding) -> Expr:
    """Return the call that pads rows and columns of int8[N, C, H, W]."""
    top, left, bottom, right = padding.sides
    widths = [0, 0, 0, 0, top, bottom, left, right]
    return relax.op.nn.pad(data, widths, pad_mode="constant", pad_value=float(padding.value))


def read_padding(call: Expr) -> Padding | None:
    """Return what a call pads, None where it is no constant padding of int8 rows and columns."""
    if op_name(call) != "nn.pad" or str(call.attrs.pad_mode) != "constant":
        return None
    widths, value = ints(call.attrs.pad_width), float(call.attrs.pad_value)
    if dtype_of(call.args[0]) != "int8" or len(widths) != 8 or any(widths[:4]) or min(widths) < 0:
        return None
    top, bottom, left, right = widths[4:]
    return Padding((top, left, bottom, right), int(value)) if value == int(value) else None


def start_padded(kind: str, binding: Expr, maker_of: MakerOf) -> Chain:
    """Return the chain of a convolution of int8, with the padding that it alone reads."""
    data = binding.value.args[0]
    maker = maker_of(data)
    padding = None if maker is None else read_padding(maker.value)
    if maker is None or padding is None or ints(binding.value.attrs.padding) != NO_SIDES:
        return Chain.start(kind, binding, data)
    chain = Chain.start(kind, binding, maker.value.args[0], maker)
    chain.padding = padding
    return chain
