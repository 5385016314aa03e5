"""The indices of a Gather as constants: TVM's importer computes them from shapes at run time."""

from __future__ import annotations

from typing import Any


def with_constant_indices(mod: Any) -> Any:
    """Return the module with constants as indices of each ``take``, and without what is dead.

    Parameters
    ----------
    mod : IRModule
        As imported; returned itself where it has no ``take``.
    """
    from relay_passes.float_model.simplify_moves import with_known_indices
    from relay_passes.graph import op_name, read_graph, rewrite

    if all(op_name(binding.value) != "take" for binding in read_graph(mod).bindings):
        return mod
    known: dict[Any, Any] = {}

    def visit(builder: Any, var: Any, value: Any) -> Any:
        value = with_known_indices(value, known)
        new = builder.emit(value, var.name)
        if new is not value:  # a variable is its own result
            known[new] = value
        return new

    return rewrite(mod, visit)
