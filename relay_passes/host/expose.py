"""Expose every layer's output tensor, to compare engines bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    Module,
    read_graph,
    replace_main,
    substitute,
)
from relay_passes.partition.partition import find_chains
from vta_config.hardware import VTAConfig


def expose_tensors(mod: Module, config: VTAConfig) -> tuple[Module, tuple[str, ...]]:
    """Return the quantized module with further results, one for each layer, and their names.

    Parameters
    ----------
    mod : IRModule
        Quantized, not partitioned.
    config : VTAConfig
        The machine whose layers are meant.

    Returns
    -------
    IRModule
        ``main`` returns its own results, then every layer's output (int8 or int32) in order.
    tuple[str, ...]
        Names of these outputs, as `Layer.output`.
    """
    chains = find_chains(mod, config)
    exposed = expose_variables(mod, [chain.output for chain in chains])
    return exposed, tuple(chain.output_name for chain in chains)


def expose_variables(mod: Module, variables: Sequence[Expr]) -> Module:
    """Return a module whose ``main`` also returns `variables` (of its own), after its results."""
    graph = read_graph(mod)
    builder = GraphBuilder()
    env: dict[object, object] = {}
    for binding in graph.bindings:
        env[binding.var] = builder.emit(substitute(binding.value, env), binding.var.name)
    return replace_main(mod, builder, graph, [env.get(v, v) for v in (*graph.results, *variables)])
