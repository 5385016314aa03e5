"""Which tensors of a float graph are never negative, given those of its inputs that are not."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from relay_passes.graph import Expr, Module, constant, op_name, read_graph
from relay_passes.operators.averages import is_average
from relay_passes.operators.calls import AVERAGES, moved

#: Operators whose results are never negative.
_POSITIVE: Final = frozenset(
    {"nn.relu", "nn.relu6", "sigmoid", "nn.softmax", "exp", "abs", "square"}
)
#: Operators whose results are not negative where their operands are not.
_KEEPING: Final = frozenset({"add", "multiply", "divide"})


def never_negative(mod: Module, inputs: Set[str] = frozenset()) -> frozenset[str]:
    """Return the tensors that are shown to be never negative.

    These are results of ReLU, sigmoid and the like and of clips from 0 up, what moves or averages
    them, their sums, products and quotients.

    Parameters
    ----------
    mod : IRModule
    inputs : set of str
        Inputs that are taken to be never negative.
    """
    found = {str(param.name) for param in read_graph(mod).params if str(param.name) in inputs}

    def holds(expr: Expr) -> bool:
        value = constant(expr)
        return getattr(expr, "name", "") in found if value is None else bool((value >= 0).all())

    for binding in read_graph(mod).bindings:
        value, kind = binding.value, op_name(binding.value)
        if kind in _POSITIVE or (kind == "clip" and float(value.args[1]) >= 0.0):
            found.add(str(binding.var.name))
        elif ((kind in AVERAGES or is_average(value)) and holds(value.args[0])) or (
            (kind in _KEEPING and all(map(holds, value.args)))
            or ((sources := moved(value)) and all(map(holds, sources)))
        ):
            found.add(str(binding.var.name))
    return frozenset(found)
