"""Expose every layer's output tensor, to compare engines bit for bit."""

from __future__ import annotations

from relay_passes.graph import GraphBuilder, Module, read_graph, replace_main, substitute
from relay_passes.partition import find_chains
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
    graph = read_graph(mod)
    chains = find_chains(mod, config)
    builder = GraphBuilder()
    env: dict[object, object] = {}
    for binding in graph.bindings:
        env[binding.var] = builder.emit(substitute(binding.value, env), binding.var.name)
    results = [env.get(v, v) for v in (*graph.results, *(chain.output for chain in chains))]
    names = tuple(chain.output_name for chain in chains)
    return replace_main(mod, builder, graph, results), names
