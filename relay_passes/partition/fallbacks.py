"""Tell what a quantized module leaves to the host, and why.

Two things are always the host's and not told: quantizing the network's input for a layer on VTA,
and scaling what VTA's last layers give to floats. Everything else that no layer on VTA takes is a
`Fallback`: operators before, between and behind VTA's parts, and the conversions around them.
Preprocessing and post-processing are told apart from the others (`around.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relay_passes.graph import (
    Expr,
    Graph,
    Module,
    constant,
    dtype_of,
    op_name,
    read_graph,
    static_shape,
    variables,
)
from relay_passes.integers.integer_facts import host_reasons
from relay_passes.integers.make_plan import NO_COMMON_SCALE
from relay_passes.names import layer_names
from relay_passes.operators.calls import RESHAPES, WEIGHT_AXIS, has_integer_form
from relay_passes.operators.operator import macs
from relay_passes.operators.table import OPERATORS
from relay_passes.partition.around import around
from relay_passes.partition.host_work import DEQUANTIZE, QUANTIZE, Fallback, HostWork
from relay_passes.partition.read import FoundLayers, find_layers
from vta_config.hardware import VTAConfig

#: Operators that move nothing: another shape of the same bytes.
_VIEWS: Final = RESHAPES - {"permute_dims"}
#: Operators whose name is their layer's: anchors that are no other operator's cast or move.
_NAMED_BY_LAYER: Final = {
    row.integer_op for row in OPERATORS.values() if not (row.int8_range or row.takes_product)
}
#: The operators that make int8 of floats, from the result back; a zero point is added before the
#: clip.
_QUANTIZE: Final = ("astype", "clip", "add", "floor", "add", "multiply")


def fallbacks(mod: Module, config: VTAConfig) -> tuple[Fallback, ...]:
    """Return the operators of a quantized module that stay on the host; see `host_work`."""
    return host_work(mod, config).fallbacks


def host_work(mod: Module, config: VTAConfig, found_layers: FoundLayers | None = None) -> HostWork:
    """Return what of a quantized module runs on the host.

    Parameters
    ----------
    mod : IRModule
        Integers, not partitioned.
    config : VTAConfig
        The machine.
    found_layers : FoundLayers, optional
        The module's layers, where they are known.
    """
    graph, layers, floats = read_graph(mod), layer_names(mod), host_reasons(mod)
    known = found_layers or find_layers(mod, config)
    chains, refused = known.chains, known.refused
    on_vta = {b.var for chain in chains for b in chain.bindings}
    # Operators that belong to another one: told with it, as one.
    told_with: dict[Expr, Expr] = {}
    reasons: dict[Expr, str] = {}
    for chain, reason in refused:
        reasons[chain.anchor.var] = reason
        for binding in chain.bindings:
            told_with.setdefault(binding.var, chain.anchor.var)
    definitions = graph.definitions()
    found: dict[Expr, Fallback] = {}
    conversions = _Conversions(graph)
    first, last = _before_and_behind(graph, on_vta)
    fixed = _computed_from_constants(graph)
    for binding in graph.bindings:
        var, kind = binding.var, op_name(binding.value)
        if not kind or var in on_vta or var in fixed or (kind in _VIEWS and var in first | last):
            continue
        owner = told_with.get(var, var)
        if owner != var and owner not in on_vta:
            continue
        name = str(var.name)
        reason = reasons.get(var) or floats.get(name, "")
        if kind in _NAMED_BY_LAYER:  # which people know
            name = layers.get(name, name)
        if var in conversions.part_of:
            whole = conversions.part_of[var]
            kind = conversions.kinds[whole]
            if var != whole or var in (first if kind == QUANTIZE else last):
                continue  # told at its end; or quantizing the input, scaling the output
            name, reason = conversions.names[var], CONVERSION_REASONS[kind]
        elif _is_bias(binding, definitions, on_vta):
            continue
        found[var] = Fallback(name=name, operator=kind, reason=reason or _why_host(binding))
    before, behind = around(graph, on_vta, first, set(found))
    vta_anchors = {b.var for c in chains for part in (c, *c.summands) for b in (part.anchor,)}
    return HostWork(
        fallbacks=tuple(f for v, f in found.items() if v not in before | behind),
        before=tuple(f for v, f in found.items() if v in before),
        behind=tuple(f for v, f in found.items() if v in behind),
        vta_macs=_macs(b for b in graph.bindings if b.var in vta_anchors),
        macs=_macs(graph.bindings),
    )


#: Why conversions are on the host.
CONVERSION_REASONS: Final = {
    QUANTIZE: "an integer operator reads a float tensor of the host",
    DEQUANTIZE: "an operator on the host needs floats",
}
#: Why an operator is on the host that no check refused.
NO_MOVE: Final = "VTA programs cannot rearrange data"
NO_PATTERN: Final = "no pattern for VTA matches these integer operands"
FLOAT_OPERAND: Final = "an operand is a float tensor on the host"
NO_INTEGERS: Final = "the operator has no integer implementation"


class _Conversions:
    """The conversions between floats and integers in a graph.

    `part_of` maps each operator of a conversion to its last one; `kinds` and `names` tell of the
    last one what it is and which tensor it converts.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.definitions = graph.definitions()
        self.uses = graph.uses()
        self.part_of: dict[Expr, Expr] = {}
        self.kinds: dict[Expr, str] = {}
        self.names: dict[Expr, str] = {}
        for binding in graph.bindings:
            if op_name(binding.value) != "astype":
                continue
            source = binding.value.args[0]
            if dtype_of(source) == "float32" and dtype_of(binding.var) == "int8":
                self._add(QUANTIZE, binding.var, self._quantizing(binding.var))
            elif dtype_of(binding.var) == "float32" and dtype_of(source) in ("int8", "int32"):
                parts = self._scaling(binding.var)
                self._add(DEQUANTIZE, parts[0], parts)

    def _add(self, kind: str, last: Expr, parts: list[Expr]) -> None:
        source = self.definitions[parts[-1]].args[0]
        self.part_of |= dict.fromkeys(parts, last)
        self.kinds[last] = kind
        self.names[last] = str(source.name)

    def _quantizing(self, var: Expr) -> list[Expr]:
        """Return the operators that quantize, the cast to int8 first."""
        parts = [var]
        for kind in _QUANTIZE[1:]:
            before = self.definitions[parts[-1]].args[0]
            value: Expr = self.definitions.get(before)
            if kind == "add" and op_name(value) == "floor":
                continue  # no zero point
            arithmetic = kind in ("add", "multiply")
            if op_name(value) != kind or (arithmetic and not _with_scalar(value)):
                break
            if len(self.uses[before]) > 1:
                break
            parts.append(before)
        return parts

    def _scaling(self, wide: Expr) -> list[Expr]:
        """Return the operators that make floats: the product by the scale first, the cast last.

        A zero point is subtracted in between.
        """
        parts = [wide]
        for kind in ("subtract", "multiply"):
            readers = self.uses.get(parts[0], [])
            value: Expr = readers[0].value if len(readers) == 1 and readers[0] is not None else None
            if op_name(value) == kind and any(constant(a) is not None for a in value.args):
                parts.insert(0, readers[0].var)
        return parts


def _before_and_behind(graph: Graph, on_vta: set[Expr]) -> tuple[set[Expr], set[Expr]]:
    """Return the tensors that need no result of VTA, and those that VTA needs not, even later."""
    definitions = graph.definitions()
    later: set[Expr] = set()
    for binding in graph.bindings:
        if binding.var in on_vta or any(v in later for v in variables(binding.value)):
            later.add(binding.var)
    needed: set[Expr] = set()
    for binding in reversed(graph.bindings):
        if binding.var in on_vta or binding.var in needed:
            needed.update(variables(binding.value))
    tensors = set(definitions)
    return tensors - later, tensors - needed - on_vta


def _computed_from_constants(graph: Graph) -> set[Expr]:
    """Return the tensors that need no input, as a transposed weight: not an image's work."""
    fixed: set[Expr] = set()
    for binding in graph.bindings:
        if all(v in fixed for v in variables(binding.value)):
            fixed.add(binding.var)
    return fixed


def _with_scalar(value: Expr) -> bool:
    return any((c := constant(a)) is not None and c.size == 1 for a in value.args)


def _is_bias(binding: Expr, definitions: dict[Expr, Expr], on_vta: set[Expr]) -> bool:
    """Whether an operator adds the bias of a convolution or dense layer on the host."""
    value = binding.value
    if op_name(value) != "add" or all(constant(a) is None for a in value.args):
        return False
    data = next((a for a in value.args if constant(a) is None), None)
    while op_name(definitions.get(data)) in RESHAPES:
        data = definitions[data].args[0]
    return data not in on_vta and op_name(definitions.get(data)) in WEIGHT_AXIS


def _why_host(binding: Expr) -> str:
    """Say why an operator that no check refused is on the host."""
    kind = op_name(binding.value)
    if dtype_of(binding.var) in ("int32", "int8"):
        if kind in RESHAPES:
            return NO_MOVE
        return NO_PATTERN
    if kind == "add" and all(constant(a) is None for a in binding.value.args):
        return NO_COMMON_SCALE
    if has_integer_form(binding.value):
        return FLOAT_OPERAND
    return NO_INTEGERS


def _macs(bindings: Iterable[Expr]) -> int:
    """Add the multiply-accumulate operations of convolutions and dense layers."""
    total = 0
    for binding in bindings:
        if (axis := WEIGHT_AXIS.get(op_name(binding.value))) is None:
            continue
        total += macs(static_shape(binding.var), static_shape(binding.value.args[1]), axis)
    return total
