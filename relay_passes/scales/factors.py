"""Scales of factors: numbers per channel, computed at run time, that multiply a feature map.

A product of integers counts s_x · s_s, which must be the output's scale s_y / 2^n. Where nothing
but the product decides a factor's scale, as that of a sigmoid, it is chosen so:

    s_s = s_y / (s_x · 2^n),

n the largest at which the factor's values fit. Any other factor is converted before it multiplies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import floor, log2

from relay_passes.graph import Expr, Graph
from relay_passes.operators.calls import moved
from relay_passes.operators.functions import functions_of
from relay_passes.operators.scale_channels import factors_of
from relay_passes.params import QuantParams
from relay_passes.scales.ties import Ties, ties_of


def factor_tensors(graph: Graph, ties: Ties) -> frozenset[str]:
    """Return the tensors that hold the numbers of a factor, moved or not."""
    found = filter(None, (factors_of(b.value) for b in graph.bindings))
    roots = {ties.roots[str(factor.name)] for _, factor in found}
    return frozenset(name for name, root in ties.roots.items() if root in roots)


def fit_factors(graph: Graph, tensors: Mapping[str, QuantParams]) -> dict[str, QuantParams]:
    """Return scales of tensors, those of factors fitted to what they multiply.

    Parameters
    ----------
    graph : Graph
        Of floats.
    tensors : Mapping[str, QuantParams]
        By tensor, as chosen for each alone.
    """
    result, ties, uses = dict(tensors), ties_of(graph), graph.uses()
    free = {str(var.name) for var in functions_of(graph)}
    groups: dict[str, list[Expr]] = {}
    for var in (*graph.params, *(b.var for b in graph.bindings)):
        groups.setdefault(ties.roots[str(var.name)], []).append(var)
    for binding in graph.bindings:
        if (found := factors_of(binding.value)) is None:
            continue
        data, factor = (str(var.name) for var in found)
        root, name = ties.roots[factor], str(binding.var.name)
        readers = {
            None if reader is None else reader.var
            for var in groups[root]
            for reader in uses.get(var, [])
            if reader is None or not moved(reader.value)
        }
        if root not in free or ties.is_joined(root) or readers != {binding.var}:
            continue
        if not all(n in tensors for n in (data, factor, name)):
            continue
        ratio = result[name].scale[0] / result[data].scale[0]
        shift = floor(log2(ratio / result[factor].scale[0]) + 2.0**-20)
        for var in groups[root]:
            if (own := result.get(str(var.name))) is not None:
                result[str(var.name)] = replace(own, scale=(ratio * 0.5**shift,))
    return result
