"""Preprocessing before VTA's first layer and post-processing behind its last one.

The host has the picture and wants the answer: arithmetic on each number of the input, and softmax,
the largest logit or the decoding of boxes at the end, are no work that VTA was meant to do.
"""

from __future__ import annotations

from typing import Final

from relay_passes.graph import Expr, Graph, constant, op_name, variables
from relay_passes.integers.preprocessing import ARITHMETIC
from relay_passes.operators.calls import RESHAPES

_MOVES: Final = RESHAPES | {"strided_slice", "split", "concat", "take"}
_BEFORE: Final = ARITHMETIC | _MOVES | {"clip", "astype"}
_ENDS: Final = frozenset(
    {"nn.softmax", "nn.log_softmax", "sigmoid", "tanh", "exp", "log", "argmax", "argmin", "topk"}
    | {"clip", "power", "sqrt", "astype", "less", "greater", "where", "sort", "argsort"}
    | {"sum", "max", "min", "prod", "abs", "square", "rsqrt", "broadcast_to", "divide", "multiply"}
    | {"nn.pad", "image.resize2d"}
)


def around(
    graph: Graph, on_vta: set[Expr], first: set[Expr], told: set[Expr]
) -> tuple[set[Expr], set[Expr]]:
    """Return the tensors of preprocessing and of post-processing.

    Parameters
    ----------
    graph : Graph
        Of integers.
    on_vta : set
        What VTA makes; where that is nothing, there is neither before nor behind.
    first : set
        The tensors that need no result of VTA.
    told : set
        The tensors that operators on the host make.
    """
    before: set[Expr] = set()
    if not on_vta:
        return before, set()
    for binding in graph.bindings:
        ready = all(v in graph.params or v in before for v in variables(binding.value))
        if binding.var in first and op_name(binding.value) in _BEFORE and ready:
            before.add(binding.var)
    uses, behind = graph.uses(), set[Expr]()
    for binding in reversed(graph.bindings):
        if binding.var in on_vta or binding.var in before:
            continue
        ends = all(reader is None or reader.var in behind for reader in uses.get(binding.var, []))
        if ends and (_is_an_end(binding.value, told) or binding.var not in told):
            behind.add(binding.var)
    return before & told, behind & told


def _is_an_end(value: Expr, told: set[Expr]) -> bool:
    """Whether an operator may be part of an answer's last steps.

    A sum of two tensors is one only of what the host made itself: else VTA could have added them. A
    product of two it could not.
    """
    kind = op_name(value)
    if kind in ARITHMETIC - _ENDS:
        fixed = any(constant(arg) is not None for arg in value.args)
        return fixed or all(v in told for v in variables(value))
    return kind in _ENDS or kind in _MOVES
