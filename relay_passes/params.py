"""The types that carry numbers between passes; checked where made.

`TensorProfile` -> `QuantParams` -> `Requant` describe how a tensor is quantized.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import frexp
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vta_config.errors import CalibrationError, CapacityError

Granularity: TypeAlias = Literal["tensor", "block", "channel"]
Rounding: TypeAlias = Literal["half_up", "floor"]
INT32_MIN: Final = -(1 << 31)
INT32_MAX: Final = (1 << 31) - 1
#: Largest shift of an int32.
MAX_INT32_SHIFT: Final = 31
#: Largest integer of 8 bits, symmetric.
FULL_LIMIT: Final = 127
#: Smallest scale that passes choose: it, its inverse and what integers make of it are normal
#: float32 numbers. Values below it become zero.
MIN_SCALE: Final = 2.0**-120


def scale_text(scale: float) -> str:
    """Return a scale for people: ``"2^-9"`` for a power of two, else four digits."""
    mantissa, exponent = frexp(scale)
    return f"2^{exponent - 1}" if mantissa == 0.5 else f"{scale:.4g}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TensorProfile:
    """Say what values one tensor took while the float model ran on calibration data.

    Parameters
    ----------
    name : str
        The tensor, e.g. ``"layer2.0.conv1"``; its ReLU makes ``"layer2.0.conv1.relu"``.
    lo, hi : float
        Smallest and largest value seen.
    histogram : int64[bins]
        Counts of values over [-limit, limit], equal bins.
    limit : float
        Half the width of the histogram, a power of two >= max(|lo|, |hi|).
    samples : int
        Images seen.
    sample_hi : float32[samples]
        max|x| of each image in order, for observers that smooth over samples.

    Raises
    ------
    CalibrationError
        When a bound is not finite (NaN or infinity among the activations) or no sample was seen.
    """

    name: str
    lo: float
    hi: float
    histogram: NDArray[np.int64]
    limit: float
    samples: int
    sample_hi: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check that the profile can be used."""
        if self.samples < 1:
            raise CalibrationError(
                self.name,
                "must be profiled on at least one image",
                got=self.samples,
                hint="give calibration images",
            )
        if not (np.isfinite(self.lo) and np.isfinite(self.hi) and self.lo <= self.hi):
            raise CalibrationError(
                self.name,
                "must have finite values during calibration",
                got=f"[{self.lo}, {self.hi}]",
                hint="check the weights and the preprocessing",
            )

    @property
    def max_abs(self) -> float:
        """Largest magnitude seen."""
        return max(abs(self.lo), abs(self.hi))


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantParams:
    """Map integers to reals, uniformly: real = scale * (q - zero_point), qmin <= q <= qmax.

    Parameters
    ----------
    scale : tuple[float, ...]
        One scale (granularity ``tensor``), or one per block or channel of output channels.
    bits : int
        Width; qmax = 2^(bits-1) - 1, or `limit`.
    signed : bool
        Whether negative values occur: qmin = -qmax if so (never -2^(bits-1)), else `zero_point`.
    granularity : {"tensor", "block", "channel"}
        What one scale stands for.
    limit : int
        Largest integer that the machine takes at once, where that is less than the bits hold: 119
        for 8 bits as two 4-bit operands.
    zero_point : int
        The integer that stands for 0.0: 0, or -2^(bits-1) for a tensor that is never negative, so
        that all integers of its bits are used; for one that another tensor is multiplied by 1 more,
        which is one diagonal weight, not two.

    Raises
    ------
    CapacityError
        When a scale is not a positive finite number, bits are not in [2, 8], the limit not in
        [1, 127], or the zero point is another or a signed tensor's.
    """

    scale: tuple[float, ...]
    bits: int = 8
    signed: bool = True
    granularity: Granularity = "tensor"
    limit: int = FULL_LIMIT
    zero_point: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 1 <= self.limit <= FULL_LIMIT:
            raise CapacityError(
                "QuantParams.limit",
                f"must be in [1, {FULL_LIMIT}]",
                got=self.limit,
                hint="127 is no limit",
            )
        if not 2 <= self.bits <= 8:
            raise CapacityError(
                "QuantParams.bits", "must be in [2, 8]", got=self.bits, hint="VTA operands are int8"
            )
        if not self.scale or not all(0.0 < s < float("inf") for s in self.scale):
            raise CapacityError(
                "QuantParams.scale",
                "must be positive and finite",
                got=self.scale,
                hint="use scale 1 for a tensor of zeros",
            )
        if self.granularity == "tensor" and len(self.scale) != 1:
            raise CapacityError(
                "QuantParams.scale",
                "must be one number per tensor",
                got=len(self.scale),
                hint='use granularity "block" or "channel" for several',
            )
        least = -(1 << (self.bits - 1))
        allowed = (0,) if self.signed else (0, least, least + 1)
        if self.zero_point not in allowed:
            raise CapacityError(
                "QuantParams.zero_point",
                f"must be {' or '.join(map(str, allowed))}",
                got=self.zero_point,
                hint="only a tensor that is never negative has one",
            )

    @property
    def qmax(self) -> int:
        """Largest integer."""
        return min((1 << (self.bits - 1)) - 1, self.limit)

    @property
    def qmin(self) -> int:
        """Smallest integer: symmetric, or the zero point."""
        return -self.qmax if self.signed else self.zero_point

    @property
    def levels(self) -> int:
        """How many steps of `scale` the largest value is: qmax - zero_point."""
        return self.qmax - self.zero_point

    @property
    def bound(self) -> int:
        """Largest magnitude of an integer."""
        return max(self.qmax, -self.qmin)

    def scales(self, channels: int, block: int = 0) -> NDArray[np.float64]:
        """Return one scale per output channel, float64[channels].

        Parameters
        ----------
        channels : int
            Output channels.
        block : int
            Channels that share a scale, for granularity ``block``.
        """
        values = np.asarray(self.scale, np.float64)
        if self.granularity == "tensor":
            return np.full(channels, values[0])
        return values if self.granularity == "channel" else np.repeat(values, block)[:channels]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requant:
    """Turn an int32 accumulator into int8: q = clip(round(acc * multiplier / 2^shift)).

    Parameters
    ----------
    multiplier : tuple[int, ...]
        Integer b of the dyadic ratio b / 2^c; 1 where a shift is enough. One, or per block or
        channel.
    shift : tuple[int, ...]
        Exponent c of the ratio; as many as multipliers. Negative: shift left, exactly.
    ratio : tuple[Fraction, ...]
        The exact ratio s_x * s_w / s_y that is meant; as many as multipliers.
    rounding : {"half_up", "floor"}
        floor(x + 1/2), by adding 2^(shift-1) before the shift; or none.

    Raises
    ------
    CapacityError
        When the vectors differ in length, or a multiplier or shift is out of range.
    """

    multiplier: tuple[int, ...]
    shift: tuple[int, ...]
    ratio: tuple[Fraction, ...]
    rounding: Rounding = "half_up"

    def __post_init__(self) -> None:
        """Check lengths and ranges."""
        if not len(self.multiplier) == len(self.shift) == len(self.ratio) >= 1:
            raise CapacityError(
                "Requant",
                "must have as many multipliers as shifts and ratios",
                got=(len(self.multiplier), len(self.shift), len(self.ratio)),
                hint="give one, or one per channel",
            )
        if not all(-MAX_INT32_SHIFT <= c <= MAX_INT32_SHIFT for c in self.shift):
            raise CapacityError(
                "Requant.shift",
                f"must be in [-{MAX_INT32_SHIFT}, {MAX_INT32_SHIFT}]",
                got=self.shift,
                hint="the scales of input, weight and output are too far apart",
            )
        if not all(1 <= b <= INT32_MAX for b in self.multiplier):
            raise CapacityError(
                "Requant.multiplier",
                "must be a positive int32",
                got=self.multiplier,
                hint="use fewer bits",
            )

    @property
    def relative_error(self) -> float:
        """Largest |used / meant - 1| of the ratios; 0.0 when every ratio is exact."""
        used = (
            Fraction(b) / Fraction(2) ** c for b, c in zip(self.multiplier, self.shift, strict=True)
        )
        return float(max(abs(u / r - 1) for u, r in zip(used, self.ratio, strict=True)))
