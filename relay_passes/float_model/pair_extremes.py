"""PairExtremes: write a maximum or minimum of tensors as operators of two.

The importer stacks the operands, each broadcast to one shape, and takes the maximum along the new
axis: four operators that no pass knows, and a copy of every operand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
from tvm import relax

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    GraphPass,
    Module,
    constant,
    dtype_of,
    ints,
    op_name,
    read_graph,
    rewrite,
    static_shape,
)

_PAIRS: Final[Mapping[str, Callable[[Expr, Expr], Expr]]] = {
    "max": relax.op.maximum,
    "min": relax.op.minimum,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairExtremes(GraphPass):
    """max(stack(broadcast(a), broadcast(b), ...)) becomes maximum(a, b), ...; one with 0 a ReLU."""

    def transform(self, mod: Module) -> Module:
        """Return `mod` without such stacks."""
        definitions = read_graph(mod).definitions()
        now: dict[Expr, Expr] = {}

        def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr:
            operands = _operands(definitions[var], definitions)
            if operands:
                pair = _PAIRS[op_name(value)]
                terms = [now.get(operand, operand) for operand in operands]
                first, *others = sorted(terms, key=lambda term: constant(term) is not None)
                value = reduce(
                    lambda a, b: _made(builder, pair, a, b, str(var.name)), others, first
                )
            now[var] = builder.emit(value, str(var.name))
            return now[var]

        return rewrite(mod, visit)


def _made(
    builder: GraphBuilder, pair: Callable[[Expr, Expr], Expr], a: Expr, b: Expr, name: str
) -> Expr:
    number = constant(b)
    if number is not None and number.size == 1:
        if pair is relax.op.maximum and float(number.reshape(-1)[0]) == 0.0:
            return builder.emit(relax.op.nn.relu(a), name)
        b = relax.const(number.reshape(()))
    return builder.emit(pair(a, b), name)


def _operands(value: Expr, definitions: Mapping[Expr, Expr]) -> list[Expr]:
    """Return what a call takes the maximum or minimum of, element by element; none where not so."""
    if op_name(value) not in _PAIRS or dtype_of(value) != "float32":
        return []
    if value.attrs.axis is None or ints(value.attrs.axis) != (0,) or bool(value.attrs.keepdims):
        return []
    stacked: Any = definitions.get(value.args[0])
    if op_name(stacked) != "stack" or int(stacked.attrs.axis) != 0:
        return []
    fields = definitions.get(stacked.args[0], stacked.args[0])
    if not isinstance(fields, relax.Tuple):
        return []
    operands = [_before_broadcast(field, definitions) for field in fields.fields]
    shapes = [np.shape(c) if (c := constant(o)) is not None else static_shape(o) for o in operands]
    variables = [o for o in operands if isinstance(o, relax.Var)]
    # The result has the shape of one of them, whichever of them are taken first.
    whole = variables and all(static_shape(v) == static_shape(value) for v in variables)
    fits = all(np.broadcast_shapes(s, static_shape(value)) == static_shape(value) for s in shapes)
    return operands if whole and fits else []


def _before_broadcast(field: Expr, definitions: Mapping[Expr, Expr]) -> Expr:
    """Return what a variable is broadcast from."""
    value: Any = definitions.get(field)
    return value.args[0] if op_name(value) == "broadcast_to" else field
