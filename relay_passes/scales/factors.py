"""Scales of factors: numbers per channel, computed at run time, that multiply a feature map.

A product of integers counts s_x · s_s, which must be the output's scale s_y / 2^n. Where a product
alone reads a factor, its scale is chosen so:

    s_s = s_y / (s_x · 2^n),

n the largest at which the factor's values fit. Any other factor is converted before it multiplies.
"""

from __future__ import annotations

from math import floor, log2
from typing import NamedTuple

from relay_passes.graph import Expr, Graph
from relay_passes.operators.calls import moved
from relay_passes.operators.scale_channels import factors_of
from relay_passes.scales.ties import Ties


class Product(NamedTuple):
    """The feature map that a factor multiplies, and what that makes."""

    data: str
    output: str


def factor_tensors(graph: Graph, ties: Ties) -> frozenset[str]:
    """Return the tensors that hold the numbers of a factor, moved or not."""
    found = filter(None, (factors_of(b.value) for b in graph.bindings))
    roots = {ties.roots[str(factor.name)] for _, factor in found}
    return frozenset(name for name, root in ties.roots.items() if root in roots)


def products(graph: Graph, ties: Ties) -> dict[str, Product]:
    """Return the product of each factor that nothing else reads, by the tensor that is moved to it.

    Parameters
    ----------
    graph : Graph
        Of floats.
    ties : Ties
        Its.
    """
    uses = graph.uses()
    readers: dict[str, set[Expr]] = {}
    for var in (*graph.params, *(b.var for b in graph.bindings)):
        own = readers.setdefault(ties.roots[str(var.name)], set())
        found = [r for r in uses.get(var, []) if r is None or not moved(r.value)]
        own.update(None if reader is None else reader.var for reader in found)
    result: dict[str, Product] = {}
    for binding in graph.bindings:
        if (operands := factors_of(binding.value)) is None:
            continue
        data, root = str(operands[0].name), ties.roots[str(operands[1].name)]
        if readers[root] == {binding.var} and not ties.is_joined(root):
            result[root] = Product(data, str(binding.var.name))
    return result


def fitted_scale(own: float, data: float, output: float) -> float:
    """Return the least scale of a factor, from its own up, that fits those of its product."""
    ratio = output / data
    return ratio * 0.5 ** floor(log2(ratio / own) + 2.0**-20)
