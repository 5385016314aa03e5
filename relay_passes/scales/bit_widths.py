"""Bits of each layer's weights and activations, and the largest integers of a machine.

A layer has a width for its weights and one for the tensor that it reads (`Widths`); `layer_bits`
says what tensors get.

A machine with 4-bit operands takes wider numbers as two of its own, v = 16 * high + low, both in
[-8, 7]. Symmetric that is [-119, 119], to which 8-bit numbers are clipped there (`Limits.of`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from relay_passes.params import FULL_LIMIT, Granularity, QuantParams
from vta_config.errors import CalibrationError
from vta_config.hardware import VTAConfig
from vta_config.lanes import plane_range

#: Planes that a number takes at most on a machine with narrow operands.
_MOST_PLANES: Final = 2


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

    See Also
    --------
    relay_passes.scales.layer_bits.widths_of : What that means for a model.
    """

    inner: Widths = field(default_factory=Widths)
    ends: Widths | None = None
    added: int | None = None


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
            min(FULL_LIMIT, plane_range(_MOST_PLANES, bits)[1])
            for bits in (config.wgt_bits, config.inp_bits)
        )
        return cls(weight=weight, activation=activation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Bits, largest integers and zero points of every tensor and weight of one graph.

    Parameters
    ----------
    tensors, weights : dict[str, int]
        Bits of those that do not have 8, by tensor and by layer.
    limits : Limits
        Of the machine.
    zero_points : frozenset of str
        Tensors that are never negative, and have the least integer for 0.0.
    factors : frozenset of str
        Of these, tensors that others are multiplied by, and have the next integer for 0.0.
    """

    tensors: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    zero_points: frozenset[str] = frozenset()
    factors: frozenset[str] = frozenset()

    def tensor(self, name: str, scale: float, *, signed: bool = True) -> QuantParams:
        """Return the parameters of an activation of the given scale."""
        bits, full = self.tensors.get(name, 8), name in self.zero_points
        return QuantParams(
            scale=(scale,),
            bits=bits,
            signed=signed and not full,
            limit=self.limits.activation,
            zero_point=int(name in self.factors) - (1 << (bits - 1)) if full else 0,
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

    def tensor_levels(self, name: str) -> int:
        """Return how many steps of an activation's scale its largest value is."""
        return self.tensor(name, 1.0).levels

    def weight_qmax(self, name: str) -> int:
        """Return the largest integer of a layer's weights."""
        return self.weight(name, (1.0,)).qmax
