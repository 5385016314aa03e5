"""Write what makes larger maps of smaller ones by operators that integers have.

- A map of one row, column or channel is repeated: by an Expand, for the sum with a larger map, or
  by an enlargement of one pixel.
- Linear interpolation works along rows, then along columns (or the other way round, where that is
  less): each is a sum of two neighbours (`relay_passes.operators.interpolation`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from tvm import relax

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    GraphPass,
    Module,
    dtype_of,
    op_name,
    rewrite,
    static_shape,
)
from relay_passes.operators.interpolation import KNOWN

#: Operators on two maps of one shape.
_PAIRS: Final = frozenset({"add", "subtract", "maximum", "minimum"})
_RANK: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadMaps(GraphPass):
    """Replace broadcasts and interpolations; see the text."""

    def transform(self, mod: Module) -> Module:
        """Return `mod` with maps of one shape where two are added, and one axis at a time."""
        return rewrite(mod, _visit)


def _visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
    kind = op_name(value)
    if kind == "broadcast_to":
        repeated = _repeated(builder, str(var.name), value.args[0], static_shape(var))
        return value if repeated is None else repeated
    if kind in _PAIRS:
        return _alike(builder, var, value)
    if kind == "image.resize2d" and str(value.attrs.layout) == "NCHW":
        return _resized(builder, var, value)
    return value


def _alike(builder: GraphBuilder, var: Expr, call: Expr) -> Expr:
    """Return an operator on two maps with both of the shape of its result."""
    shape, operands = static_shape(var), []
    for place, operand in enumerate(call.args):
        if not isinstance(operand, relax.Var):
            return call  # a constant: a bias, or part of a function
        whole: Expr | None = operand
        if static_shape(operand) != shape:
            name = f"{var.name}.in{place}"
            repeated = _repeated(builder, name, operand, shape)
            whole = None if repeated is None else builder.emit(repeated, name)
        if whole is None:
            return call
        operands.append(whole)
    return relax.Call(call.op, operands, call.attrs, call.ty_args)


def _repeated(builder: GraphBuilder, name: str, data: Expr, shape: tuple[int, ...]) -> Expr | None:
    """Return a map whose rows, columns or channels of one are repeated to a shape, if it is such.

    What is repeated last is not emitted yet.
    """
    if not isinstance(data, relax.Var) or dtype_of(data) != "float32":
        return None
    before = static_shape(data)
    if len(before) != _RANK or len(shape) != _RANK or before[0] != shape[0] or before == shape:
        return None
    if any(n not in (1, whole) for n, whole in zip(before, shape, strict=True)):
        return None
    result = data
    if before[2:] != shape[2:]:
        sides = [side for n, whole in zip(before, shape, strict=True) for side in (0, whole - n)]
        sides[2:4] = 0, 0
        result = relax.op.nn.pad(data, sides, pad_mode="replicate")
    if before[1] == shape[1]:
        return result
    if result is not data:
        result = builder.emit(result, f"{name}.pixels")
    return relax.op.take(result, relax.const(np.zeros(shape[1], np.int64)), axis=1, mode="clip")


def _resized(builder: GraphBuilder, var: Expr, call: Expr) -> Expr:
    """Return an enlargement with one axis at a time, where that is more than a copy."""
    data, attrs, shape, name = call.args[0], call.attrs, static_shape(var), str(var.name)
    before = static_shape(data)
    crops = str(attrs.coordinate_transformation_mode) == "tf_crop_and_resize"
    if before == shape and not crops:
        return data
    alone = [axis for axis in (2, 3) if before[axis] == 1 < shape[axis]]
    if not crops and alone:
        first = [*before]
        for axis in alone:
            first[axis] = shape[axis]
        repeated = _repeated(builder, name, data, tuple(first))
        if repeated is None or first == [*shape]:
            return call if repeated is None else repeated
        data = builder.emit(repeated, f"{name}.first")
        before = tuple(first)
    mode, method = str(attrs.coordinate_transformation_mode), str(attrs.method)
    axes = [axis for axis in (2, 3) if before[axis] != shape[axis]]
    if method == "linear" and mode in KNOWN and len(axes) == 2:
        # The axis first that leaves less to do for the other one.
        def between(axis: int) -> int:
            return prod(shape[a] if a == axis else before[a] for a in (2, 3))

        size: list[Any] = [*before[2:]]
        axis = min(axes, key=between)
        size[axis - 2] = shape[axis]
        data = builder.emit(_with_size(call, data, size), f"{name}.first")
    return call if data is call.args[0] else _with_size(call, data, shape[2:])


def _with_size(call: Expr, data: Expr, size: Any) -> Expr:
    """Return an enlargement of another map, to another size."""
    attrs = call.attrs
    return relax.op.image.resize2d(
        data,
        relax.ShapeExpr([*size]),
        layout=str(attrs.layout),
        method=str(attrs.method),
        coordinate_transformation_mode=str(attrs.coordinate_transformation_mode),
        rounding_method=str(attrs.rounding_method),
        cubic_alpha=float(attrs.cubic_alpha),
        cubic_exclude=int(attrs.cubic_exclude),
        extrapolation_value=float(attrs.extrapolation_value),
    )
