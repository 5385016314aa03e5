"""Quantize: put quantize and dequantize around every tensor that integer operators read.

The result is the float graph with its scales written in: R.dequantize(R.quantize(x)) at every
activation, R.dequantize(int8 constant) at every weight. `FuseConvRelu` removes pairs, `Requantize`
turns the rest into integer operators; weights are rounded here, activations nowhere yet.

What integers make and the host reads is quantized, too: the machine stores one byte for a number
then, not four. Results of the network, and the few numbers of a vector, stay sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
from tvm import relax

from relay_passes.graph import (
    Expr,
    Graph,
    GraphBuilder,
    GraphPass,
    Module,
    constant,
    op_name,
    read_graph,
    replace_main,
    static_shape,
    substitute,
    variables,
)
from relay_passes.integers.plan import QuantPlan
from relay_passes.integers.preprocessing import preprocessing
from relay_passes.names import Names
from relay_passes.operators.calls import (
    WEIGHT_AXIS,
    ends_accumulator,
    has_integer_form,
    integer_form,
    moved,
    split_bias,
    weight_of_rows,
    weight_rows,
)
from relay_passes.operators.functions import functions_of
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
        uses = _Readers(graph)
        builder = GraphBuilder()
        names = Names(str(v.name) for v in (*graph.params, *(b.var for b in graph.bindings)))
        env: dict[Expr, Expr] = {}
        for param in graph.params:
            known = str(param.name) in self.plan.tensors
            if known and any(uses.reads_integers(b, param) for b in uses.of(param)):
                env[param] = self._pair(builder, names, param)
        for binding in graph.bindings:
            value = substitute(binding.value, env)
            name = binding.var.name
            axis = WEIGHT_AXIS.get(op_name(value))
            if axis is not None and name in self.plan.weights and integer_form(value) is not None:
                value = self._with_weight(builder, names, value, name, axis)
            var = builder.emit(value, name)
            env[binding.var] = var
            if self._needs_pair(binding, uses):
                env[binding.var] = self._pair(builder, names, var)
        return replace_main(mod, builder, graph, [env.get(v, v) for v in graph.results])

    def _needs_pair(self, binding: Expr, uses: _Readers) -> bool:
        """Whether a tensor is quantized: an integer operator reads it, and it is no bare sum."""
        readers = uses.of(binding.var)
        if binding.var.name not in self.plan.tensors or moved(binding.value):
            return False
        if binding.var in uses.functions and uses.functions[binding.var].source in uses.made:
            return binding.var in uses.wanted
        floats = not has_integer_form(binding.value)
        wanted = any(uses.reads_integers(b, binding.var, floats=floats) for b in readers)
        if not wanted and not uses.by_host(binding.var):
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


class _Readers:
    """Who reads the tensors of a float graph, and what integers make of it.

    Parameters
    ----------
    graph : Graph
    """

    def __init__(self, graph: Graph) -> None:
        """Find the tensors that integers make, and the functions that they compute."""
        floats = preprocessing(graph)  # reads the input as it is
        self._uses = {
            var: [b for b in readers if b is None or b.var not in floats]
            for var, readers in graph.uses().items()
        }
        self.functions = functions_of(graph)
        self.made: set[Expr] = set()
        #: Functions of tensors that integers make, where others than such functions read them.
        self.wanted: set[Expr] = set()
        for binding in graph.bindings:
            if self._is_made(binding):
                self.made.add(binding.var)
        ahead = self._with_products_ahead(graph)
        for var, function in self.functions.items():
            # What the host alone goes on with, of the few numbers of a vector, it computes itself.
            useful = var in ahead or prod(static_shape(var)[2:]) > 1
            made = function.source in self.made
            if made and useful and any(map(self._computes, self._outside(var))):
                self.wanted.add(var)
        self._sources = {self.functions[var].source for var in self.wanted}

    def _with_products_ahead(self, graph: Graph) -> set[Expr]:
        """Return the tensors that a convolution or dense layer depends on."""
        ahead: set[Expr] = set()
        for binding in reversed(graph.bindings):
            if op_name(binding.value) in WEIGHT_AXIS or binding.var in ahead:
                ahead.update(variables(binding.value))
        return ahead

    def of(self, var: Expr) -> list[Expr]:
        """Return the bindings that read a tensor, None for the caller."""
        return self._uses.get(var, [])

    def reads_integers(self, reader: Expr, var: Expr, *, floats: bool = False) -> bool:
        """Whether the operator of a binding (None: the caller) reads `var` as integers.

        With `floats` it reads what has none: a ReLU between two such stays with them, unrounded.
        """
        if reader is None:
            return False
        kind = op_name(reader.value)
        if reader.var in self.functions and self.functions[reader.var].source.same_as(var):
            return var in self._sources
        if kind in WEIGHT_AXIS:
            return constant(reader.value.args[1]) is not None
        on_the_way = bool(moved(reader.value)) or (floats and ends_accumulator(reader.value))
        if on_the_way:  # integer work only on the way to integer operators
            readers = self.of(reader.var)
            return any(self.reads_integers(b, reader.var, floats=floats) for b in readers)
        return has_integer_form(reader.value)

    def by_host(self, var: Expr) -> bool:
        """Whether the host computes with a feature map that integers make."""
        shape = static_shape(var)
        return var in self.made and prod(shape[2:]) > 1 and any(map(self._computes, self.of(var)))

    def _computes(self, reader: Expr) -> bool:
        """Whether a reader is an operator that does more than pass a result on."""
        if reader is None:
            return False
        if moved(reader.value):
            return any(map(self._computes, self.of(reader.var)))
        return True

    def _outside(self, var: Expr) -> list[Expr]:
        """Return the readers of a function that are no functions of the same source."""
        source, found = self.functions[var].source, self.functions
        return [
            r
            for r in self.of(var)
            if r is None or r.var not in found or found[r.var].source is not source
        ]

    def _is_made(self, binding: Expr) -> bool:
        """Whether integers make a tensor, of integers."""
        call = binding.value
        if binding.var in self.functions:
            return self.functions[binding.var].source in self.made
        if op_name(call) in WEIGHT_AXIS:
            return constant(call.args[1]) is not None
        return has_integer_form(call) and all(v in self.made for v in variables(call))
