"""Where accumulators end in a fused graph, and which two layers a sum could join in one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relay_passes.graph import Expr, Graph, Module, constant, op_name, read_graph
from relay_passes.operators.calls import (
    WEIGHT_AXIS,
    ends_accumulator,
    is_dense_layer,
    is_move,
    split_bias,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccumulatorEnd:
    """Where an accumulator ends when convolution, residual and ReLU are fused.

    Parameters
    ----------
    output : str
        Tensor that the accumulator becomes; "" when it stays an accumulator (logits).
    skip : str
        Tensor added before; "" for none.
    partner : str
        The other layer of a pair, whose accumulator it is as well; "" for none.
    """

    output: str
    skip: str = ""
    partner: str = ""


def fused_ends(
    mod: Module, pairs: Mapping[str, tuple[str, str]] | None = None
) -> dict[str, AccumulatorEnd]:
    """Map each convolution or dense tensor to where its accumulator ends.

    That is where `FuseConvRelu` lets it; at the sums of `pairs`, both layers' go on as one.
    """
    graph = read_graph(mod)
    uses, definitions = graph.uses(), graph.definitions()
    pairs = pairs or {}
    ends: dict[str, AccumulatorEnd] = {}
    joined: set[str] = set()  # sums that already have their accumulator
    for binding in graph.bindings:
        if not _is_layer(binding.value):
            continue
        var, skip, partner = binding.var, "", ""
        while (reader := _only_reader(graph, uses, var)) is not None:
            value = reader.value
            if op_name(value) == "add" and split_bias(value) is None:
                other = value.args[1] if value.args[0].same_as(var) else value.args[0]
                if skip or partner or other.same_as(var) or constant(other) is not None:
                    break
                if reader.var.name in pairs:
                    pair = pairs[reader.var.name]
                    partner = pair[1] if pair[0] == binding.var.name else pair[0]
                elif reader.var.name in joined or (
                    value.args[0].same_as(other) and _is_result(other, uses, definitions)
                ):
                    break  # `FuseConvRelu` takes the first operand that is a layer's result
                else:
                    joined.add(reader.var.name)
                    skip = _source(other, definitions)
            elif not ends_accumulator(value) and split_bias(value) is None:
                break
            var = reader.var
            if ends_accumulator(value):
                break
        is_result = any(reader is None for reader in uses.get(var, []))
        output = "" if is_result else var.name
        ends[binding.var.name] = AccumulatorEnd(output=output, skip=skip, partner=partner)
    return ends


def unfused_ends(mod: Module) -> dict[str, AccumulatorEnd]:
    """Map each convolution or dense tensor to its own output, where nothing is fused."""
    graph = read_graph(mod)
    uses = graph.uses()
    ends: dict[str, AccumulatorEnd] = {}
    for binding in graph.bindings:
        if op_name(binding.value) not in WEIGHT_AXIS:
            continue
        var = binding.var
        while len(readers := uses.get(var, [])) == 1 and readers[0] is not None:
            if op_name(readers[0].value) != "add" or split_bias(readers[0].value) is None:
                break
            var = readers[0].var
        is_result = any(reader is None for reader in uses.get(var, []))
        ends[binding.var.name] = AccumulatorEnd(output="" if is_result else var.name)
    return ends


def paired_layers(mod: Module) -> dict[str, tuple[str, str]]:
    """Return the two layers of each sum of which nothing but the sum reads either, by the sum."""
    graph = read_graph(mod)
    uses, definitions = graph.uses(), graph.definitions()

    def layer(var: Expr) -> str:
        if len(uses.get(var, [])) != 1:
            return ""
        value = definitions.get(var)
        if op_name(value) == "add" and (found := split_bias(value)) is not None:
            return layer(found[0])
        return str(var.name) if value is not None and is_dense_layer(value) else ""

    pairs = {}
    for binding in graph.bindings:
        if op_name(binding.value) == "add" and split_bias(binding.value) is None:
            left, right = (layer(operand) for operand in binding.value.args)
            if left and right:
                pairs[binding.var.name] = left, right
    return pairs


def _is_layer(value: Expr) -> bool:
    return op_name(value) in WEIGHT_AXIS and constant(value.args[1]) is not None


def _is_result(var: Expr, uses: dict[Expr, list[Expr]], definitions: dict[Expr, Expr]) -> bool:
    """Whether a tensor read once is a layer's sum, its bias added or not."""
    value = definitions.get(var)
    if op_name(value) == "add" and (found := split_bias(value)) is not None:
        value = definitions.get(found[0])
    return value is not None and _is_layer(value) and len(uses.get(var, [])) == 1


def _only_reader(graph: Graph, uses: dict[Expr, list[Expr]], var: Expr) -> Expr | None:
    readers = uses.get(var, [])
    return readers[0] if len(readers) == 1 else None


def _source(var: Expr, definitions: dict[Expr, Expr]) -> str:
    """Return the name of a tensor, or of the one whose values it moves."""
    while is_move(definitions.get(var)):
        var = definitions[var].args[0]
    return str(var.name)
