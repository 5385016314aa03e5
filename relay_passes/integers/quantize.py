"""Quantize: put quantize and dequantize around every tensor that integer operators read.

The result is the float graph with its scales written in: R.dequantize(R.quantize(x)) at every
activation, R.dequantize(int8 constant) at every weight. `FuseConvRelu` removes pairs, `Requantize`
turns the rest into integer operators; weights are rounded here, activations nowhere yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from tvm import relax

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    GraphPass,
    Module,
    constant,
    op_name,
    read_graph,
    replace_main,
    substitute,
)
from relay_passes.integers.plan import QuantPlan
from relay_passes.integers.preprocessing import preprocessing
from relay_passes.names import Names
from relay_passes.operators.calls import (
    WEIGHT_AXIS,
    ends_accumulator,
    has_integer_form,
    moved,
    split_bias,
    weight_of_rows,
    weight_rows,
)
from relay_passes.rounding.nearest import NearestRounder, WeightRounder


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize(GraphPass):
    """Write the scales into the graph.

    Parameters
    ----------
    plan : QuantPlan
        With the scales of every tensor and weight of this graph.
    rounder : WeightRounder
        How weights become integers.
    """

    plan: QuantPlan
    rounder: WeightRounder = field(default_factory=NearestRounder)

    def transform(self, mod: Module) -> Module:
        """Return `mod` with quantize and dequantize pairs."""
        graph = read_graph(mod)
        floats = preprocessing(graph)  # reads the input as it is
        uses = {
            var: [b for b in readers if b is None or b.var not in floats]
            for var, readers in graph.uses().items()
        }
        builder = GraphBuilder()
        names = Names(str(v.name) for v in (*graph.params, *(b.var for b in graph.bindings)))
        env: dict[Expr, Expr] = {}
        for param in graph.params:
            known = str(param.name) in self.plan.tensors
            if known and any(_reads_integers(b, uses) for b in uses.get(param, [])):
                env[param] = self._pair(builder, names, param)
        for binding in graph.bindings:
            value = substitute(binding.value, env)
            name = binding.var.name
            axis = WEIGHT_AXIS.get(op_name(value))
            if axis is not None and name in self.plan.weights:
                value = self._with_weight(builder, names, value, name, axis)
            var = builder.emit(value, name)
            env[binding.var] = var
            if self._needs_pair(binding, uses):
                env[binding.var] = self._pair(builder, names, var)
        return replace_main(mod, builder, graph, [env.get(v, v) for v in graph.results])

    def _needs_pair(self, binding: Expr, uses: dict[Expr, list[Expr]]) -> bool:
        """Whether a tensor is quantized: an integer operator reads it, and it is no bare sum."""
        readers = uses.get(binding.var, [])
        if binding.var.name not in self.plan.tensors or moved(binding.value):
            return False
        floats = not has_integer_form(binding.value)
        if not any(_reads_integers(b, uses, floats=floats) for b in readers):
            return False
        # the sum before its bias
        return not (
            op_name(binding.value) in WEIGHT_AXIS
            and len(readers) == 1
            and op_name(readers[0].value if readers[0] else None) == "add"
            and split_bias(readers[0].value) is not None
        )

    def _pair(self, builder: GraphBuilder, names: Names, var: Expr) -> Expr:
        name = str(var.name)
        params = self.plan.tensors[name]
        scale = relax.const(np.float32(params.scale[0]))
        zero = relax.const(np.int8(params.zero_point))
        q = builder.emit(
            relax.op.quantize(var, scale, zero, axis=-1, out_dtype="int8"),
            names.fresh(f"{name}.q"),
        )
        return builder.emit(
            relax.op.dequantize(q, scale, zero, axis=-1, out_dtype="float32"),
            names.fresh(f"{name}.dq"),
        )

    def _with_weight(
        self, builder: GraphBuilder, names: Names, call: Expr, name: str, axis: int
    ) -> Expr:
        rows = weight_rows(call)
        params = self.plan.weights[name]
        q = weight_of_rows(call, self.rounder(name, rows, params))
        channels = len(rows)
        scales = params.scales(channels, self.plan.block).astype(np.float32)
        per_tensor = params.granularity == "tensor"
        weight_var = builder.emit(
            relax.op.dequantize(
                relax.const(q),
                relax.const(scales[0] if per_tensor else scales),
                relax.const(np.int8(0) if per_tensor else np.zeros(channels, np.int8)),
                axis=axis,
                out_dtype="float32",
            ),
            names.fresh(f"{name}.weight"),
        )
        return relax.Call(call.op, [call.args[0], weight_var], call.attrs, call.ty_args)


def _reads_integers(reader: Expr, uses: dict[Expr, list[Expr]], *, floats: bool = False) -> bool:
    """Whether the operator of a binding (None: the caller) has an integer implementation.

    With `floats` it reads what has none: a ReLU between two such stays with them, unrounded.
    """
    if reader is None:
        return False
    kind = op_name(reader.value)
    if kind in WEIGHT_AXIS:
        return constant(reader.value.args[1]) is not None
    on_the_way = bool(moved(reader.value)) or (floats and ends_accumulator(reader.value))
    if on_the_way:  # integer work only on the way to integer operators
        return any(_reads_integers(b, uses, floats=floats) for b in uses.get(reader.var, []))
    return has_integer_form(reader.value)
