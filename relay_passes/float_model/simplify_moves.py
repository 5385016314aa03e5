"""Write movements of channels in one form: a slice or a `take` of the map that they start from.

Exporters write a channel shuffle as reshape, transposition and reshape, or as Gathers of halves of
such a view; they write a split as one operator of several results. Here each map that only has
other channels than the map it comes from is made of it by one operator, whatever was between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    GraphPass,
    Module,
    constant,
    ints,
    op_name,
    rewrite,
    slices_of,
    static_shape,
)
from relay_passes.operators.calls import RESHAPES, is_move

#: Movements between a map and another one of its channels.
_BETWEEN = RESHAPES | {"strided_slice", "take"}
_MAP_RANK = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SimplifyMoves(GraphPass):
    """Replace splits and movements of channels by slices and `take`s, other shapes by reshapes."""

    def transform(self, mod: Module) -> Module:
        """Return `mod` with one operator for each."""
        known: dict[Expr, Expr] = {}

        def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
            value = with_known_indices(_without_split(value, known), known)
            value = _reshaped(builder, var, value)
            found = _channels(value, known)
            if found is not None:
                value = _taken(*found)
            new = builder.emit(value, var.name)
            if not isinstance(value, relax.Var):
                known[new] = value
            return new

        return rewrite(mod, visit)


def _reshaped(builder: GraphBuilder, var: Expr, value: Expr) -> Expr:
    """Return a reshape in place of one with another name, and behind a `take` of one place."""
    kind = op_name(value)
    if kind in ("squeeze", "expand_dims"):
        return relax.op.reshape(value.args[0], static_shape(var))
    index = constant(value.args[1]) if kind == "take" and value.attrs.axis is not None else None
    if index is None or index.ndim or len(static_shape(value.args[0])) != _MAP_RANK:
        return value
    axis = int(value.attrs.axis)
    size = static_shape(value.args[0])[axis]
    place = relax.const(np.asarray([int(index) % size], np.int64))
    one = relax.op.take(value.args[0], place, axis=axis, mode="clip")
    return relax.op.reshape(builder.emit(one, f"{var.name}.one"), static_shape(var))


def _without_split(value: Expr, known: dict[Expr, Expr]) -> Expr:
    """Return a slice in place of one of a split's results."""
    if not isinstance(value, relax.TupleGetItem):
        return value
    call = known.get(value.tuple_value)
    if op_name(call) != "split":
        return value
    assert call is not None
    axis = int(call.attrs.axis)
    sizes = [ints(field.shape.values)[axis] for field in value.tuple_value.ty.fields]
    start = sum(sizes[: value.index])
    return relax.op.strided_slice(call.args[0], [axis], [start], [start + sizes[value.index]])


def with_known_indices(value: Expr, known: Mapping[Expr, Expr]) -> Expr:
    """Return a `take` with the indices that the importer computes of shapes and constants.

    Parameters
    ----------
    value : Expr
        Any; only a `take` with computed indices is changed.
    known : mapping
        Variables before it -> their values.
    """
    if op_name(value) != "take" or constant(value.args[1]) is not None:
        return value
    indices = _known_integers(value.args[1], known)
    if indices is None:
        return value
    data, axis = value.args[0], value.attrs.axis
    size = prod(static_shape(data)) if axis is None else static_shape(data)[int(axis)]
    if not ((-size <= indices) & (indices < size)).all():
        return value
    places = relax.const(np.asarray(indices % size, np.int64))
    return relax.op.take(data, places, axis=None if axis is None else int(axis), mode="clip")


def _known_integers(expr: Expr, known: Mapping[Expr, Expr]) -> NDArray[np.int64] | None:
    """Return integers that follow from shapes and constants; None for others."""
    value: Expr = known.get(expr, expr)
    found = constant(value)
    if found is not None:
        return found if found.dtype.kind in "iub" else None
    kind = op_name(value)
    if kind == "shape_to_tensor":
        shape: Expr = known.get(value.args[0], value.args[0])
        return np.asarray(static_shape(shape.args[0])) if op_name(shape) == "shape_of" else None
    if kind not in _ON_INTEGERS:
        return None
    operands: list[Any] = [_known_integers(arg, known) for arg in value.args]
    if any(operand is None for operand in operands) or (kind == "take" and operands[0].ndim != 1):
        return None
    return np.asarray(_ON_INTEGERS[kind](*operands))


_ON_INTEGERS: Final[dict[str, Any]] = {
    "add": np.add,
    "less": np.less,
    "where": np.where,
    "take": lambda data, places: np.take(data, places, mode="wrap"),
}


def _channels(value: Expr, known: dict[Expr, Expr]) -> tuple[Expr, NDArray[np.int64]] | None:
    """Return a map and which of its channels a call takes, all pixels of each; None for others."""
    calls: list[Expr] = []
    at = value
    while isinstance(at, relax.Call) and op_name(at) in _BETWEEN and is_move(at):
        calls.append(at)
        source = at.args[0]
        if not isinstance(source, relax.Var):
            return None
        earlier = known.get(source)
        if len(static_shape(source)) == _MAP_RANK and not _is_of_channels(earlier):
            break
        at = earlier
    if not calls or len(static_shape(calls[-1].args[0])) != _MAP_RANK:
        return None
    root, after = calls[-1].args[0], relax.BlockBuilder().normalize(value)
    before, shape = static_shape(root), static_shape(after)
    if len(shape) != _MAP_RANK or before[0] != 1 or (1, *before[2:]) != (shape[0], *shape[2:]):
        return None
    places = np.arange(prod(before)).reshape(before)
    for call in reversed(calls):
        places = _moved(call, places)
    pixels = prod(before[2:])
    flat = places.reshape(shape[1], pixels)
    channels = flat[:, 0] // pixels
    if (flat != channels[:, np.newaxis] * pixels + np.arange(pixels)).any():
        return None
    return root, channels


def _is_of_channels(call: Expr | None) -> bool:
    """Whether a call is what this pass writes."""
    kind = op_name(call)
    if kind == "take":
        return call is not None and call.attrs.axis is not None and int(call.attrs.axis) == 1
    return kind == "strided_slice" and call is not None and ints(call.args[1]) == (1,)


def _moved(call: Expr, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of numbers after a call."""
    kind, attrs = op_name(call), call.attrs
    if kind == "permute_dims":
        return np.transpose(places, None if attrs.axes is None else ints(attrs.axes))
    if kind == "take":
        indices = constant(call.args[1])
        assert indices is not None
        if attrs.axis is None:
            return np.asarray(places.reshape(-1)[indices])
        return np.asarray(np.take(places, indices, axis=int(attrs.axis)))
    if kind == "strided_slice":
        cut = slices_of(call)
        return np.asarray(places[tuple(cut.get(axis, slice(None)) for axis in range(places.ndim))])
    return places.reshape(static_shape(relax.BlockBuilder().normalize(call)))


def _taken(root: Expr, channels: NDArray[np.int64]) -> Expr:
    """Return the call that takes some channels of a map, the map itself where it takes all."""
    first, count = int(channels[0]), len(channels)
    if (channels == first + np.arange(count)).all():
        if count == static_shape(root)[1]:
            return root
        return relax.op.strided_slice(root, [1], [first], [first + count])
    return relax.op.take(root, relax.const(channels.astype(np.int64)), axis=1, mode="clip")
