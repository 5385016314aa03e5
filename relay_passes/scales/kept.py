"""What a model that is quantized already says of its numbers: grids of tensors and weights.

ONNX writes such a model with QuantizeLinear and DequantizeLinear (QDQ): real = scale * (q -
zero_point), q an integer of some type. `KeptScales` takes these numbers as far as a machine can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from relay_passes.params import QuantParams
from relay_passes.scales.bit_widths import Limits
from vta_config.errors import CapacityError

#: What becomes of a model that is quantized already: its integers are kept, or its real values are
#: quantized again.
Qdq: TypeAlias = Literal["keep", "requantize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTensor:
    """The integers of an activation in the file.

    Parameters
    ----------
    scale : float
        real = scale * (q - zero_point).
    zero_point : int
        In the file's type: 128 of uint8, or any other.
    qmin, qmax : int
        The integers that occur: of the type, or of a Clip between the pair.

    Raises
    ------
    CapacityError
        When the scale is not a positive finite number, or the zero point not in [qmin, qmax].
    """

    scale: float
    zero_point: int = 0
    qmin: int = -128
    qmax: int = 127

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0.0 < self.scale < float("inf"):
            raise CapacityError(
                "KeptTensor.scale",
                "must be positive and finite",
                got=self.scale,
                hint="quantize the model again",
            )
        if not self.qmin <= self.zero_point <= self.qmax or self.qmin == self.qmax:
            raise CapacityError(
                "KeptTensor.zero_point",
                "must be between the smallest and the largest integer",
                got=f"{self.zero_point}, not in [{self.qmin}, {self.qmax}]",
                hint="quantize the model again",
            )

    @property
    def never_negative(self) -> bool:
        """Whether the smallest integer stands for 0.0: negative values become 0."""
        return self.zero_point == self.qmin

    @property
    def highest(self) -> float:
        """The largest real number that has an integer."""
        return self.scale * (self.qmax - self.zero_point)

    def params(self, limits: Limits) -> QuantParams:
        """Return the next that a machine has: symmetric, or the least integer as zero point.

        The scale stays unless more integers are meant than there are; that costs the lowest of a
        signed tensor (-128) nothing but this one.

        Parameters
        ----------
        limits : Limits
            The largest integers of the machine.
        """
        zero = self.never_negative
        reach = self.qmax - self.zero_point
        if not zero:
            reach = max(reach, self.zero_point - self.qmin - 1, 1)
        for bits in range(2, 9):
            found = QuantParams(
                scale=(self.scale,),
                bits=bits,
                signed=not zero,
                limit=limits.activation,
                zero_point=-(1 << (bits - 1)) if zero else 0,
            )
            if found.levels >= reach:
                return found
        return QuantParams(
            scale=(self.scale * reach / found.levels,),
            signed=not zero,
            limit=limits.activation,
            zero_point=found.zero_point,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptWeight:
    """The integers of a layer's weight in the file.

    Parameters
    ----------
    peaks : tuple[int, ...]
        The largest |q - zero_point| of each output channel; 0 for one of zeros. What the channel's
        largest weight is divided by it is the scale, also where a BatchNorm was folded in.
    """

    peaks: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Return the fewest bits, from 2 to 8, in which all integers fit."""
        return min(8, max(2, max(self.peaks, default=0).bit_length() + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptModel:
    """The numbers of a model that is quantized already, by the names of a float module.

    Parameters
    ----------
    tensors : dict[str, KeptTensor]
        By tensor.
    weights : dict[str, KeptWeight]
        By the tensor that a convolution or dense operator makes, its bias not yet added.
    """

    tensors: Mapping[str, KeptTensor] = field(default_factory=dict)
    weights: Mapping[str, KeptWeight] = field(default_factory=dict)

    def renamed(self, names: Mapping[str, str]) -> KeptModel:
        """Return the same by other names.

        Parameters
        ----------
        names : dict[str, str]
            New name -> the one here; those that are not among them are dropped.
        """
        return KeptModel(
            tensors={new: self.tensors[old] for new, old in names.items() if old in self.tensors},
            weights={new: self.weights[old] for new, old in names.items() if old in self.weights},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How far the scales of a plan are from those of the file.

    Parameters
    ----------
    tensors, same_tensors : int
        Activations that the file quantizes, and those of them whose scale is the file's.
    tensor : str
        The one whose scale is furthest, "" for none.
    tensor_factor : float
        Its scale by the file's.
    channels, same_channels : int
        Output channels of weights, and those of them whose integers are the file's.
    weight : str
        The layer with the channel whose scale is furthest.
    weight_factor : float
        The channel's scale by the file's.
    """

    tensors: int
    same_tensors: int
    tensor: str = ""
    tensor_factor: float = 1.0
    channels: int
    same_channels: int
    weight: str = ""
    weight_factor: float = 1.0
