"""The indices of a Gather as constants: TVM's importer computes them from shapes at run time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

#: What the importer's arithmetic on indices means.
_MEANINGS: Final[Mapping[str, Callable[..., Any]]] = {
    "shape_to_tensor": lambda shape: shape,
    "less": np.less,
    "add": np.add,
    "where": np.where,
    "take": lambda values, index: values[index],
}


def with_constant_indices(mod: Any) -> Any:
    """Return the module with constants as indices of each ``take``, and without what is dead."""
    from tvm import relax

    from relay_passes.graph import (
        GraphBuilder,
        constant,
        ints,
        op_name,
        read_graph,
        replace_main,
        substitute,
        variables,
    )

    graph = read_graph(mod)
    if all(op_name(binding.value) != "take" for binding in graph.bindings):
        return mod
    known: dict[Any, Any] = {}

    def value_of(expr: Any) -> Any:
        return known.get(expr) if expr in known else constant(expr)

    for binding in graph.bindings:
        kind, value = op_name(binding.value), binding.value
        if kind == "shape_of":
            known[binding.var] = np.asarray(ints(value.args[0].ty.shape.values), np.int64)
        elif kind in _MEANINGS:
            operands = [value_of(arg) for arg in value.args]
            if all(operand is not None for operand in operands):
                known[binding.var] = np.asarray(_MEANINGS[kind](*operands))
    builder, env = GraphBuilder(), dict[Any, Any]()
    made: list[tuple[Any, Any]] = []
    for binding in graph.bindings:
        value = binding.value
        if op_name(value) == "take" and binding.var not in known:
            index = value_of(value.args[1])
            if index is not None:
                index = relax.const(index.astype(np.int64))
                value = relax.op.take(value.args[0], index, value.attrs.axis, mode="clip")
        made.append((binding.var, value))
    needed, live = set(graph.results), []
    for var, value in reversed(made):
        if var in needed:
            needed.update(variables(value))
            live.append((var, value))
    for var, value in reversed(live):
        env[var] = builder.emit(substitute(value, env), var.name)
    return replace_main(mod, builder, graph, [env.get(v, v) for v in graph.results])
