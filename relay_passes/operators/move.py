"""Moves: slices, shuffles, enlargements, padding and rearrangements of one tensor."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, prod
from typing import Any, Final

import numpy as np
from tvm import relax

from relay_passes.graph import Expr, constant, dtype_of, ints, op_name, slices_of, static_shape
from relay_passes.operators import add, concat, rules
from relay_passes.operators.chain import Chain, MakerOf
from relay_passes.operators.interpolation import KNOWN, ROUNDED, nearest
from relay_passes.operators.movement import Movement, along_axes, enlarged, nchw, of_places
from relay_passes.operators.operator import Operator, Reading

#: Coordinates with which an enlargement by a whole factor repeats rows and columns.
_REPEATS: Final = {
    ("asymmetric", "floor"),
    ("tf_half_pixel_for_nn", "floor"),
    ("half_pixel", "round"),
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
    ("pytorch_half_pixel", "round"),
    ("pytorch_half_pixel", "round_prefer_floor"),
    ("pytorch_half_pixel", "round_prefer_ceil"),
}
#: How numpy calls the ways to pad.
_PAD_MODES: Final[dict[str, Any]] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
#: What the rows or columns that each adds on a side must be fewer than, by those that there are.
_REACH: Final[dict[str, Callable[[int], float]]] = {
    "reflect": lambda size: size,
    "replicate": lambda size: inf,
    "circular": lambda size: size + 1,
}


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return the chain of a move of int8: of one operator, or of one that ends with a reshape."""
    if dtype_of(binding.var) != "int8" or len(static_shape(binding.var)) not in (2, 4):
        return None
    call, bindings = binding.value, [binding]
    if op_name(call) == "reshape":
        # What is between is no picture: of one reader, it belongs to the move.
        while isinstance(bindings[-1].value.args[0], relax.Var):
            maker = maker_of(bindings[-1].value.args[0])
            if maker is None or op_name(maker.value) not in ("reshape", "permute_dims"):
                break
            if len(static_shape(maker.var)) in (2, 4):
                break
            bindings.append(maker)
        movement = _rearranged(bindings[::-1])
    else:
        movement = _MOVEMENTS[op_name(call)](call)
    source = bindings[-1].value.args[0]
    if movement is None or not isinstance(source, relax.Var) or dtype_of(source) != "int8":
        return None
    if movement.shape != nchw(static_shape(binding.var)):
        return None
    chain = Chain.start("move", binding, source, *bindings[:0:-1])
    chain.movement = movement
    return chain


def _rearranged(bindings: list[Expr]) -> Movement | None:
    """Return the movement of reshapes and transpositions one after the other."""
    before = static_shape(bindings[0].value.args[0])
    after = static_shape(bindings[-1].var)
    if len(before) not in (2, 4) or before[0] != after[0] or prod(before) != prod(after):
        return None
    batch = before[0]
    places = np.arange(prod(before)).reshape(before)
    for binding in bindings:
        call = binding.value
        if op_name(call) == "permute_dims":
            places = places.transpose(None if call.attrs.axes is None else ints(call.attrs.axes))
        else:
            places = places.reshape(static_shape(binding.var))
    images = places.reshape(batch, -1)
    offsets = np.arange(batch)[:, np.newaxis] * images.shape[1]
    if (images != images[:1] + offsets).any():
        return None  # images change places
    return of_places(images[0].reshape(nchw(after)[1:]), nchw(before))


def _slice(call: Expr) -> Movement | None:
    shape = static_shape(call.args[0])
    taken = {axis: np.arange(shape[axis])[cut] for axis, cut in slices_of(call).items()}
    return along_axes(shape, taken)


def _take(call: Expr) -> Movement | None:
    shape, indices, axis = static_shape(call.args[0]), constant(call.args[1]), call.attrs.axis
    if indices is None or indices.ndim != 1 or axis is None:
        return None
    size = shape[int(axis)]
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        return None
    return along_axes(shape, {int(axis) % len(shape): indices.astype(np.int64) % size})


def _pad(call: Expr) -> Movement | None:
    shape, widths, mode = static_shape(call.args[0]), ints(call.attrs.pad_width), call.attrs
    kind, fill = str(mode.pad_mode), float(mode.pad_value)
    if min(widths) < 0 or fill != int(fill):
        return None
    taken = {}
    for axis, size in enumerate(shape):
        line, sides = np.arange(size), (widths[2 * axis], widths[2 * axis + 1])
        if not any(sides):
            continue
        if kind == "constant":
            taken[axis] = np.pad(line, sides, constant_values=-1)
        elif kind in _PAD_MODES and max(sides) < _REACH[kind](size):
            taken[axis] = np.pad(line, sides, mode=_PAD_MODES[kind])
        else:
            return None
    return along_axes(shape, taken, fill=int(fill) if kind == "constant" else 0)


def _resize(call: Expr) -> Movement | None:
    shape, after, attrs = static_shape(call.args[0]), static_shape(call), call.attrs
    mode, rounding = str(attrs.coordinate_transformation_mode), str(attrs.rounding_method)
    whole = all(now % before == 0 for now, before in zip(after[2:], shape[2:], strict=True))
    if str(attrs.layout) != "NCHW" or str(attrs.method) != "nearest_neighbor":
        return None
    if (mode, rounding) in _REPEATS and whole:
        return enlarged(shape, (after[2] // shape[2], after[3] // shape[3]))
    if mode not in KNOWN or rounding not in ROUNDED:
        return None
    taken = {axis: nearest(shape[axis], after[axis], mode, rounding) for axis in (2, 3)}
    return along_axes(shape, taken)


_MOVEMENTS: Final[dict[str, Callable[[Expr], Movement | None]]] = {
    "strided_slice": _slice,
    "take": _take,
    "nn.pad": _pad,
    "image.resize2d": _resize,
}


def read(call: Expr, in_shape: tuple[int, ...]) -> Reading:
    """Return that there is neither window nor weight."""
    return Reading("move")


OPERATOR: Final = Operator(
    kind="move",
    title="slice, shuffle, enlargement, padding, rearrangement",
    float_op="strided_slice",
    integer_op="strided_slice",
    more_ops=("take", "image.resize2d", "nn.pad", "reshape"),
    rules=(rules.channels_are_filled, *rules.POST_OPS_FIT),
    start=start,
    read=read,
    out_shape=add.out_shape,  # not asked: the movement says the result's shape
    meaning=concat.meaning,
    how="GEMM with weights 0 and 1; nothing for whole blocks of channels",
    keeps_scale=True,
    int8_range=True,
    moves=True,
)
