"""Bits of each layer's weights and activations, and the largest integers of a machine.

A layer has a width for its weights and one for the tensor that it reads (`Widths`). What a tensor
gets follows: the width that its readers name, where only a sum or an average reads it 8 bits.
Operators that move values change no integer, so a max-pool's input has its output's width, and all
layers that read either must agree.

A machine with 4-bit operands takes wider numbers as two of its own, v = 16 * high + low, both in
[-8, 7]. Symmetric that is [-119, 119] (`MOST_OF_TWO`), to which 8-bit numbers are clipped there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from relay_passes.graph import Expr, Graph, Module, constant, op_name, read_graph
from relay_passes.operators.calls import MOVES, WEIGHT_AXIS, split_bias
from relay_passes.params import FULL_LIMIT, Granularity, QuantParams
from vta_config.errors import CalibrationError
from vta_config.hardware import VTAConfig

#: Largest magnitude that two 4-bit integers make on both sides of zero: 16 * 7 + 7.
MOST_OF_TWO: Final = 119
#: LOG_INP_WIDTH and LOG_WGT_WIDTH of 4-bit operands.
_LOG_NARROW: Final = 2
#: Of layers that a sentence names.
_NAMED: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Bits of one layer.

    Parameters
    ----------
    weight_bits : int
        Of its weights.
    activation_bits : int
        Of the tensor that it reads.

    Raises
    ------
    CalibrationError
        When a width is not an integer in [2, 8].
    """

    weight_bits: int = 8
    activation_bits: int = 8

    def __post_init__(self) -> None:
        """Check ranges."""
        for what in ("weight_bits", "activation_bits"):
            bits = getattr(self, what)
            if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
                raise CalibrationError(
                    f"Widths.{what}",
                    "must be an integer in [2, 8]",
                    got=repr(bits),
                    hint="VTA's operands have 4 or 8 bits",
                )


#: Widths by layer: the tensor that a convolution or dense operator makes, its bias not yet added. A
#: layer that is not named has 8 bits in both.
BitWidths: TypeAlias = Mapping[str, Widths]


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformWidths:
    """Give all layers the same widths, apart from the first and the last and from sums' inputs.

    Parameters
    ----------
    inner : Widths
        Of all layers.
    ends : Widths, optional
        Of the first layer, of others that read the model's input, and of the last layer.
    added : int, optional
        Bits of tensors that a sum adds, too (residuals), where a layer reads them.
    """

    inner: Widths = field(default_factory=Widths)
    ends: Widths | None = None
    added: int | None = None

    def __call__(self, mod: Module) -> dict[str, Widths]:
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
            widths = self.ends if outer and self.ends is not None else self.inner
            if self.added is not None and source in sums:
                bits = max(widths.activation_bits, self.added)
                widths = Widths(weight_bits=widths.weight_bits, activation_bits=bits)
            result[name] = widths
        most: dict[str, int] = {}
        for name, source in sources.items():
            most[source] = max(most.get(source, 0), result[name].activation_bits)
        return {
            name: Widths(weight_bits=result[name].weight_bits, activation_bits=most[sources[name]])
            for name in names
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest integers that a machine takes without further passes.

    Parameters
    ----------
    weight, activation : int
        Of 8-bit weights and activations; fewer bits have less.
    """

    weight: int = FULL_LIMIT
    activation: int = FULL_LIMIT

    @classmethod
    def of(cls, config: VTAConfig) -> Limits:
        """Return those of a machine: 119 for operands of 4 bits."""
        weight, activation = (
            MOST_OF_TWO if log_width <= _LOG_NARROW else FULL_LIMIT
            for log_width in (config.log_wgt_width, config.log_inp_width)
        )
        return cls(weight=weight, activation=activation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bits and largest integers of every tensor and weight of one graph.

    Parameters
    ----------
    tensors, weights : dict[str, int]
        Bits of those that do not have 8, by tensor and by layer.
    limits : Limits
        Of the machine.
    """

    tensors: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def tensor(self, name: str, scale: float, *, signed: bool = True) -> QuantParams:
        """Return the parameters of an activation of the given scale."""
        return QuantParams(
            scale=(scale,),
            bits=self.tensors.get(name, 8),
            signed=signed,
            limit=self.limits.activation,
        )

    def weight(
        self, name: str, scale: tuple[float, ...], granularity: Granularity = "tensor"
    ) -> QuantParams:
        """Return the parameters of a layer's weights of the given scales."""
        return QuantParams(
            scale=scale,
            bits=self.weights.get(name, 8),
            granularity=granularity,
            limit=self.limits.weight,
        )

    def tensor_qmax(self, name: str) -> int:
        """Return the largest integer of an activation."""
        return self.tensor(name, 1.0).qmax

    def weight_qmax(self, name: str) -> int:
        """Return the largest integer of a layer's weights."""
        return self.weight(name, (1.0,)).qmax


def precision_of(
    mod: Module, widths: BitWidths | UniformWidths, limits: Limits | None = None
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

    Raises
    ------
    CalibrationError
        When a layer is none of the module's, or layers that read one tensor disagree about it.
    """
    graph = read_graph(mod)
    sources = _sources(graph)
    found = widths(mod) if isinstance(widths, UniformWidths) else widths
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
    roots = _roots(graph)
    return Precision(
        tensors={
            name: bits[root][1] for name, root in roots.items() if bits.get(root, ("", 8))[1] != 8
        },
        weights={n: w.weight_bits for n, w in found.items() if w.weight_bits != 8},
        limits=limits or Limits(),
    )


def layers_by_input(mod: Module) -> dict[str, str]:
    """Return what each layer reads, by layer, in order: the tensor before all that move values.

    Layers of equal values share a tensor, and must have equal activation bits.
    """
    return _sources(read_graph(mod))


def _sources(graph: Graph) -> dict[str, str]:
    roots = _roots(graph)
    return {
        str(b.var.name): roots.get(getattr(b.value.args[0], "name", ""), "")
        for b in graph.bindings
        if op_name(b.value) in WEIGHT_AXIS and constant(b.value.args[1]) is not None
    }


def _roots(graph: Graph) -> dict[str, str]:
    """Map each tensor to the one whose values it moves, itself where it moves none."""
    result = {str(p.name): str(p.name) for p in graph.params}
    for binding in graph.bindings:
        name, value = str(binding.var.name), binding.value
        source = getattr(value.args[0], "name", "") if op_name(value) in MOVES else ""
        result[name] = result.get(source, name)
    return result


def _added(graph: Graph) -> set[str]:
    """Return the tensors that sums add, by what they move."""
    roots = _roots(graph)
    operands: list[Expr] = [
        operand
        for b in graph.bindings
        if op_name(b.value) == "add" and split_bias(b.value) is None
        for operand in b.value.args
    ]
    return {roots.get(getattr(operand, "name", ""), "") for operand in operands}
