"""Fuse conv+ReLU: the convolution takes the ReLU's output scale (S_y -> S_a).

Unfused, a convolution's result is quantized with S_y and the ReLU's with S_a: twice, and S_y must
span negative values that the ReLU then drops. Fused, the accumulator goes through bias, residual
and ReLU as int32 and is quantized once, with S_a. In the graph: the quantize and dequantize pair
between them goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    GraphPass,
    Module,
    op_name,
    read_graph,
    rewrite,
)
from relay_passes.operators.calls import WEIGHT_AXIS, ends_accumulator, split_bias


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseConvRelu(GraphPass):
    """Remove the quantize and dequantize pair between a layer and the ReLU that alone reads it.

    Parameters
    ----------
    residual : bool
        Also between a layer and a residual sum: one of its operands then stays an int32
        accumulator, the first that comes from a convolution or dense layer.
    """

    residual: bool = True

    def transform(self, mod: Module) -> Module:
        """Return `mod` with fewer pairs."""
        graph = read_graph(mod)
        definitions, uses = graph.definitions(), graph.uses()

        def unquantized(var: Expr) -> Expr | None:
            """Return x when `var` is dequantize(quantize(x)) and each is read once."""
            inner: Any = definitions.get(var)
            if op_name(inner) != "dequantize" or len(uses[var]) != 1:
                return None
            quantized: Any = definitions.get(inner.args[0])
            if op_name(quantized) != "quantize" or len(uses[inner.args[0]]) != 1:
                return None
            source = quantized.args[0]
            return source if len(uses.get(source, [])) == 1 else None

        def is_layer(var: Expr) -> bool:
            """Whether `var` is a convolution or dense result, its bias added or not."""
            value = definitions.get(var)
            if op_name(value) == "add" and (found := split_bias(value)) is not None:
                value = definitions.get(found[0])
            return op_name(value) in WEIGHT_AXIS

        fused: dict[str, Expr] = {}  # name of the dequantized tensor -> the accumulator
        for binding in graph.bindings:
            kind = op_name(binding.value)
            if ends_accumulator(binding.value):
                source = unquantized(binding.value.args[0])
                value = definitions.get(source) if source is not None else None
                if source is not None and (is_layer(source) or op_name(value) == "add"):
                    fused[binding.value.args[0].name] = source
            elif kind == "add" and self.residual and split_bias(binding.value) is None:
                for operand in binding.value.args:
                    source = unquantized(operand)
                    if source is not None and is_layer(source):
                        fused[operand.name] = source
                        break

        env: dict[str, Expr] = {}

        def visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
            if var.name in fused:
                return env[fused[var.name].name]
            env[var.name] = builder.emit(value, var.name)
            return env[var.name]

        return rewrite(mod, visit)
