"""Preprocessing that a network does itself, before its first layer with weights.

Means and scales of the input, and BatchNorm or a clip of it, are a few operations on each number.
The host quantizes the input anyway; as integers they would be a layer of their own, on the largest
image of the network, and quantize it twice.
"""

from __future__ import annotations

from typing import Final

from tvm import relax

from relay_passes.graph import Expr, Graph, constant, op_name
from relay_passes.operators.calls import WEIGHT_AXIS

#: Operators on each number of two tensors, or of one and a constant.
ARITHMETIC: Final = frozenset({"add", "subtract", "multiply", "divide", "maximum", "minimum"})


def preprocessing(graph: Graph) -> set[Expr]:
    """Return the tensors that arithmetic with constants makes of the input for layers with weights.

    None of a chain that something else reads, too.
    """
    params = set(graph.params)
    found: set[Expr] = set()
    for binding in graph.bindings:
        value = binding.value
        if op_name(value) not in ARITHMETIC | {"clip"}:
            continue
        data = [arg for arg in value.args if isinstance(arg, relax.Var)]
        others = [arg for arg in value.args if arg not in data and _is_tensor(arg)]
        fixed = all(constant(arg) is not None for arg in others)
        if len(data) == 1 and fixed and (data[0] in params or data[0] in found):
            found.add(binding.var)
    uses = graph.uses()
    for binding in reversed(graph.bindings):
        readers = uses.get(binding.var, [])
        if binding.var in found and not all(_is_fed(binding.var, r, found) for r in readers):
            found.discard(binding.var)
    return found


def _is_fed(var: Expr, reader: Expr, found: set[Expr]) -> bool:
    """Whether what reads a tensor is preprocessing, too, or a layer with weights."""
    if reader is None:
        return False
    is_layer = op_name(reader.value) in WEIGHT_AXIS and bool(reader.value.args[0].same_as(var))
    return reader.var in found or is_layer


def _is_tensor(arg: Expr) -> bool:
    return isinstance(getattr(arg, "ty", None), relax.TensorType)
