"""Partition: group integer operators into layers, layers into the functions that VTA runs.

`Partition` wraps each chain of operators that makes one layer (find_layers.py) into a composite
function ``vta.KIND``, and TVM's MergeCompositeFunctions joins neighbours into functions annotated
with ``Codegen = "vta"``, for RunCodegen. `operators.table` says which layers VTA takes; read.py
reads such a function back as a `Subgraph`.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    GraphPass,
    Module,
    read_graph,
    replace_main,
    substitute,
)
from relay_passes.operators.chain import Chain
from relay_passes.partition.layers import INT8_RANGE
from relay_passes.partition.ranges import int8_range
from relay_passes.partition.read import (
    CODEGEN,
    LAYER_ATTR,
    OUTPUT_ATTR,
    RANGES_ATTR,
    FoundLayers,
    find_layers,
)
from vta_config.hardware import VTAConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapLayers(GraphPass):
    """Wrap each layer that VTA takes into a private composite function.

    Parameters
    ----------
    config : VTAConfig
        The machine.
    found : FoundLayers, optional
        The module's layers, where they are known.
    """

    config: VTAConfig
    found: FoundLayers | None = None

    def transform(self, mod: Module) -> Module:
        """Return `mod` whose ``main`` calls composite functions."""
        graph = read_graph(mod)
        chains = (self.found or find_layers(mod, self.config)).chains
        inside = {b.var for chain in chains for b in chain.bindings}
        by_output = {chain.output: chain for chain in chains}
        builder = GraphBuilder()
        env: dict[Expr, Expr] = {}
        functions: dict[Expr, Expr] = {}
        for binding in graph.bindings:
            var = binding.var
            if (chain := by_output.get(var)) is not None:
                function, arguments = _composite(chain, graph.bindings)
                gvar = relax.GlobalVar(f"vta_{chain.kind}_{len(functions)}")
                gvar = _typed(gvar, function)
                functions[gvar] = function
                call = relax.Call(gvar, [env.get(a, a) for a in arguments])
                env[var] = builder.emit(call, var.name)
            elif var not in inside:
                env[var] = builder.emit(substitute(binding.value, env), var.name)
        results = [env.get(v, v) for v in graph.results]
        wrapped = replace_main(mod, builder, graph, results)
        for gvar, function in functions.items():
            wrapped[gvar] = function
        return wrapped


def partition(mod: Module, config: VTAConfig, found: FoundLayers | None = None) -> Module:
    """Return the module with VTA's functions annotated, for RunCodegen.

    Parameters
    ----------
    mod : IRModule
        Quantized, as `Requantize` returns it.
    config : VTAConfig
        The machine.
    found : FoundLayers, optional
        The module's layers, where they are known.
    """
    wrapped = WrapLayers(config=config, found=found)(mod)
    merged = relax.transform.MergeCompositeFunctions()(wrapped)
    return NameFunctions()(merged)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFunctions(GraphPass):
    """Call VTA's functions ``vta_0``, ``vta_1``, ... in place of the names of all their parts.

    Each is told the range of every argument, as far as the host's operators before it show it.
    """

    def transform(self, mod: Module) -> Module:
        """Return `mod` with other global symbols."""
        graph = read_graph(mod)
        calls = [b.value for b in graph.bindings if isinstance(b.value, relax.Call)]
        definitions = graph.definitions()
        renamed: dict[Expr, Expr] = {}
        for gvar in dict.fromkeys(c.op for c in calls if isinstance(c.op, relax.GlobalVar)):
            function = mod[gvar]
            if function.attrs and function.attrs.get("Codegen", "") == CODEGEN:
                symbol = f"{CODEGEN}_{len(renamed)}"
                function = function.with_attr("global_symbol", symbol)
                ranges = _ranges([call.args for call in calls if call.op == gvar], definitions)
                if any(n not in INT8_RANGE for n in ranges):
                    function = function.with_attr(RANGES_ATTR, ranges)
                renamed[gvar] = _typed(relax.GlobalVar(symbol), function), function
        builder = GraphBuilder()
        env: dict[Expr, Expr] = {}
        for binding in graph.bindings:
            value = substitute(binding.value, env)
            if isinstance(value, relax.Call) and value.op in renamed:
                value = relax.Call(renamed[value.op][0], list(value.args), value.attrs)
            env[binding.var] = builder.emit(value, binding.var.name)
        others = {g: mod[g] for g in mod.get_global_vars() if g not in renamed}
        base = tvm.IRModule(others, attrs=mod.attrs)
        result = replace_main(base, builder, graph, [env.get(v, v) for v in graph.results])
        for gvar, function in renamed.values():
            result[gvar] = function
        return result


def _ranges(calls: list[list[Expr]], definitions: dict[Expr, Expr]) -> list[int]:
    """Return the least and the largest number of each argument in turn, over all calls."""
    numbers = []
    for arguments in zip(*calls, strict=True):
        lows, highs = zip(*(int8_range(a, definitions) for a in arguments), strict=True)
        numbers += [min(lows), max(highs)]
    return numbers


def _composite(chain: Chain, order: tuple[Expr, ...]) -> tuple[Expr, list[Expr]]:
    """Return the composite function of a chain and the variables to call it with."""
    members = {b.var for b in chain.bindings}
    arguments = list(dict.fromkeys(chain.inputs))
    params = [relax.Var(var.name, var.ty) for var in arguments]
    env: dict[Expr, Expr] = dict(zip(arguments, params, strict=True))
    builder = GraphBuilder()
    for binding in order:
        if binding.var in members:
            value = substitute(binding.value, env)
            env[binding.var] = builder.emit(value, binding.var.name)
    attrs = {
        "Composite": f"{CODEGEN}.{chain.kind}",
        "Primitive": True,
        LAYER_ATTR: chain.name,
        OUTPUT_ATTR: chain.output_name,
    }
    return builder.function(params, [env[chain.output]], attrs), arguments


def _typed(gvar: Expr, function: Expr) -> Expr:
    relax.expr._update_type(gvar, function.ty)
    return gvar
