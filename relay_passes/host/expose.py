"""Expose tensors inside a module as further results."""

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


def expose_variables(mod: Module, variables: Sequence[Expr]) -> Module:
    """Return a module whose ``main`` also returns `variables` (of its own), after its results."""
    graph = read_graph(mod)
    builder = GraphBuilder()
    env: dict[object, object] = {}
    for binding in graph.bindings:
        env[binding.var] = builder.emit(substitute(binding.value, env), binding.var.name)
    return replace_main(mod, builder, graph, [env.get(v, v) for v in (*graph.results, *variables)])
