"""Ties: which tensors hold the same integers, moved or side by side, and so share a scale.

What an operator moves keeps its scale. What a concatenation puts side by side has one scale, that
of the whole: then nothing is computed, and on VTA nothing copied. A sum and a mean have scales that
follow from what they add, so a concatenation leaves them theirs, and converts them once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relay_passes.graph import Expr, Graph, op_name
from relay_passes.operators.calls import ends_accumulator, is_concat, is_move, moved, split_bias
from relay_passes.operators.interpolation import interpolated_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Ties:
    """Groups of tensors that share integers.

    Parameters
    ----------
    roots : dict[str, str]
        The tensor that stands for its group, by tensor; itself where it is alone.
    concats : dict[str, tuple[str, ...]]
        Of each group that has some, the results of its concatenations: together they hold all that
        the group's tensors hold, and scales are chosen for them.
    """

    roots: Mapping[str, str]
    concats: Mapping[str, tuple[str, ...]]

    def wholes(self, name: str) -> tuple[str, ...]:
        """Return the concatenations of a tensor's group, the tensor alone where there is none."""
        return self.concats.get(self.roots.get(name, name), (name,))

    def is_joined(self, name: str) -> bool:
        """Whether a concatenation decides a tensor's scale."""
        return self.roots.get(name, name) in self.concats


def ties_of(graph: Graph) -> Ties:
    """Return the ties of a float graph."""
    definitions = graph.definitions()
    parent = {str(v.name): str(v.name) for v in (*graph.params, *(b.var for b in graph.bindings))}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    joined: list[str] = []
    for binding in graph.bindings:
        name = str(binding.var.name)
        sources = moved(binding.value)
        if is_concat(binding.value):
            sources = [s for s in sources if not _follows(s, definitions)]
            joined.append(name)
        for source in sources:
            if (tied := str(getattr(source, "name", ""))) in parent:
                # The first of a group stands for it, as it stands for what moves it.
                parent[find(name)] = find(tied)
    concats: dict[str, tuple[str, ...]] = {}
    for name in joined:
        concats[find(name)] = (*concats.get(find(name), ()), name)
    return Ties(roots={name: find(name) for name in parent}, concats=concats)


def _follows(var: Expr, definitions: Mapping[Expr, Expr]) -> bool:
    """Whether a tensor's scale follows from others: that of a sum or mean, or of its ReLU."""
    value: Expr = definitions.get(var)
    while value is not None and (is_move(value) or ends_accumulator(value)):
        value = definitions.get(value.args[0])
    if op_name(value) == "add" and (found := split_bias(value)) is not None:
        return _follows(found[0], definitions)
    return op_name(value) in ("add", "mean") or interpolated_line(value) is not None
