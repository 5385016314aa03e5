"""What widths of layers mean for a model's tensors.

A tensor has the bits that its readers name; one that only a sum or an average reads has 8.
Operators that move values change no integer, so a max-pool's input has its output's bits, and all
layers that read either must agree.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from relay_passes.graph import Expr, Graph, Module, constant, ints, op_name, read_graph, source_name
from relay_passes.operators.calls import WEIGHT_AXIS, split_bias
from relay_passes.scales.bit_widths import BitWidths, Limits, Precision, UniformWidths, Widths
from relay_passes.scales.factors import factor_tensors
from relay_passes.scales.signs import never_negative
from relay_passes.scales.ties import Ties, ties_of
from vta_config.errors import CalibrationError

#: Of layers that a sentence names.
_NAMED: Final = 4


def widths_of(mod: Module, rule: UniformWidths) -> dict[str, Widths]:
    """Return the widths of each layer of a float module, folded and named.

    Of layers that read one tensor all get the most bits that any is given.
    """
    graph = read_graph(mod)
    sources = _sources(graph)
    inputs, sums = {str(p.name) for p in graph.params}, _added(graph)
    names = list(sources)
    result: dict[str, Widths] = {}
    for name, source in sources.items():
        outer = source in inputs or name in (names[0], names[-1])
        widths = rule.ends if outer and rule.ends is not None else rule.inner
        if rule.added is not None and source in sums:
            bits = max(widths.activation_bits, rule.added)
            widths = Widths(weight_bits=widths.weight_bits, activation_bits=bits)
        result[name] = widths
    most: dict[str, int] = {}
    for name, source in sources.items():
        most[source] = max(most.get(source, 0), result[name].activation_bits)
    return {
        name: Widths(weight_bits=result[name].weight_bits, activation_bits=most[sources[name]])
        for name in names
    }


def precision_of(
    mod: Module,
    widths: BitWidths | UniformWidths,
    limits: Limits | None = None,
    *,
    zero_points: bool = False,
    positive_inputs: Set[str] = frozenset(),
) -> Precision:
    """Return what each tensor and weight of a float module gets.

    Parameters
    ----------
    mod : IRModule
        Float module, folded and named.
    widths : dict[str, Widths] or UniformWidths
        Of its layers.
    limits : Limits, optional
        Of the machine; by default those of 8 bits.
    zero_points : bool
        Whether tensors that are never negative have one.
    positive_inputs : set of str
        Inputs that are taken to be never negative.

    Raises
    ------
    CalibrationError
        When a layer is none of the module's, or layers that read one tensor disagree about it.
    """
    graph = read_graph(mod)
    sources = _sources(graph)
    found = widths_of(mod, widths) if isinstance(widths, UniformWidths) else widths
    unknown = [name for name in found if name not in sources]
    if unknown:
        some = ", ".join(list(sources)[:_NAMED]) + (", ..." if len(sources) > _NAMED else "")
        raise CalibrationError(
            "widths",
            "must name convolutions and dense layers of the model",
            got=unknown[0],
            hint=f"its layers are {some}",
        )
    bits: dict[str, tuple[str, int]] = {}  # by what is read, and who said so
    for name, source in sources.items():
        own = found.get(name, Widths()).activation_bits
        first, others = bits.setdefault(source, (name, own))
        if own != others:
            raise CalibrationError(
                f"widths of {name}",
                f"must have {others} activation bits as {first}, which reads the same tensor",
                got=own,
                hint="give both layers the same",
            )
    ties = ties_of(graph)
    return Precision(
        tensors={
            name: bits[root][1]
            for name, root in ties.roots.items()
            if bits.get(root, ("", 8))[1] != 8
        },
        weights={n: w.weight_bits for n, w in found.items() if w.weight_bits != 8},
        limits=limits or Limits(),
        zero_points=_zero_points(mod, ties, positive_inputs) if zero_points else frozenset(),
        factors=factor_tensors(graph, ties),
    )


def layers_by_input(mod: Module) -> dict[str, str]:
    """Return what each layer reads, by layer, in order: the tensor before all that move values.

    Layers of equal values share a tensor, and must have equal activation bits.
    """
    return _sources(read_graph(mod))


def _sources(graph: Graph) -> dict[str, str]:
    roots = ties_of(graph).roots
    return {
        str(b.var.name): roots.get(source_name(b.value), "")
        for b in graph.bindings
        if op_name(b.value) in WEIGHT_AXIS and constant(b.value.args[1]) is not None
    }


def _zero_points(mod: Module, ties: Ties, inputs: Set[str]) -> frozenset[str]:
    """Return the tensors with a zero point: never negative, and so is all that shares integers.

    Zeros that are added as channels must be the number 0.
    """
    graph, never = read_graph(mod), never_negative(mod, inputs)
    others = {root for name, root in ties.roots.items() if name not in never}
    others |= {
        ties.roots[str(b.var.name)]
        for b in graph.bindings
        if op_name(b.value) == "nn.pad" and any(ints(b.value.attrs.pad_width)[2:4])
    }
    return frozenset(name for name in never if ties.roots[name] not in others)


def _added(graph: Graph) -> set[str]:
    """Return the tensors that sums add, by what they move."""
    roots = ties_of(graph).roots
    operands: list[Expr] = [
        operand
        for b in graph.bindings
        if op_name(b.value) == "add" and split_bias(b.value) is None
        for operand in b.value.args
    ]
    return {roots.get(getattr(operand, "name", ""), "") for operand in operands}
