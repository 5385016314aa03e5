"""Write differences and paddings as sums, which integers have.

- x - y, where a layer makes y for nobody else, is x + (-y), whose -1 `FoldScales` folds into the
  layer: the difference is added to its accumulator then.
- A map padded with a number v is v + pad(x - v), padded with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax

from relay_passes.graph import (
    Expr,
    Graph,
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
from relay_passes.operators.calls import WEIGHT_AXIS, split_bias


@dataclass(frozen=True, slots=True, kw_only=True)
class AsSums(GraphPass):
    """Replace differences and paddings; see the text."""

    def transform(self, mod: Module) -> Module:
        """Return `mod` with sums."""
        graph = read_graph(mod)
        negated = {b.var for b in graph.bindings if _subtracts_a_layer(b.value, graph)}

        def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
            name = str(var.name)
            if var in negated:
                minus = relax.op.multiply(value.args[1], relax.const(np.float32(-1)))
                return relax.op.add(value.args[0], builder.emit(minus, f"{name}.minus"))
            number = _padded_with(value)
            if not number or dtype_of(var) != "float32":
                return value
            low = relax.op.add(value.args[0], relax.const(np.float32(-number)))
            zeros = relax.op.nn.pad(
                builder.emit(low, f"{name}.lower"), list(ints(value.attrs.pad_width))
            )
            return relax.op.add(
                builder.emit(zeros, f"{name}.zeros"), relax.const(np.float32(number))
            )

        return rewrite(mod, visit)


def _subtracts_a_layer(call: Expr, graph: Graph) -> bool:
    """Whether a call subtracts a layer's result that it alone reads from a tensor of its shape."""
    if op_name(call) != "subtract" or not all(isinstance(a, relax.Var) for a in call.args):
        return False
    left, right = call.args
    uses, definitions = graph.uses(), graph.definitions()
    if static_shape(left) != static_shape(right) or left.same_as(right):
        return False
    if len(uses.get(right, [])) != 1:
        return False
    maker: Expr = definitions.get(right)
    if op_name(maker) == "add" and (found := split_bias(maker)) is not None:
        if len(uses.get(found[0], [])) != 1:
            return False
        maker = definitions.get(found[0])
    return op_name(maker) in WEIGHT_AXIS and constant(maker.args[1]) is not None


def _padded_with(call: Expr) -> float:
    """Return the number that a call pads with; 0 also where it pads otherwise."""
    if op_name(call) != "nn.pad" or str(call.attrs.pad_mode) != "constant":
        return 0.0
    number = float(call.attrs.pad_value)
    return number if np.isfinite(number) else 0.0
