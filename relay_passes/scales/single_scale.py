"""Choose one scale for every activation: the baseline of stock Relay quantization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, frexp, log2
from typing import ClassVar

import numpy as np

from relay_passes.graph import Module
from relay_passes.numerics import power_of_two_at_least
from relay_passes.params import QuantParams, TensorProfile
from relay_passes.requirements import NOTHING, Need
from relay_passes.scales.bit_widths import Precision
from relay_passes.scales.scales import EIGHT_BITS, Scales, odd_part, tensor_scales, weights_of
from vta_config.errors import CalibrationError


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleScale:
    """Use one scale for every activation: the baseline of stock Relay quantization.

    s = global_scale / 2^(bits-1) (8 / 128 = 1/16); weights 2^ceil(log2 max|w|) / 2^(bits-1), with
    the largest weight clipped to 127 where max|w| is itself a power of two. Bits are each one's.

    Parameters
    ----------
    global_scale : float
        Magnitude that 2^(bits-1) stands for; a power of two.

    Raises
    ------
    CalibrationError
        When global_scale is not a power of two.
    """

    needs: ClassVar[frozenset[Need]] = NOTHING
    pair: ClassVar[bool] = False

    global_scale: float = 8.0

    def __post_init__(self) -> None:
        """Check that shifts can express the scale."""
        if not 0 < self.global_scale < float("inf") or frexp(self.global_scale)[0] != 0.5:
            raise CalibrationError(
                "SingleScale.global_scale",
                "must be a power of two",
                got=self.global_scale,
                hint="8.0 is stock",
            )

    def for_block(self, block: int) -> SingleScale:
        """Return the chooser itself: blocks have no scales of their own."""
        return self

    def __call__(
        self,
        mod: Module,
        profiles: Mapping[str, TensorProfile],
        precision: Precision = EIGHT_BITS,
    ) -> Scales:
        """Return the scales of the float module `mod`; profiles are not used."""
        tensors = tensor_scales(
            mod,
            own=lambda name: self.global_scale / _steps(precision.tensor(name, 1.0)),
            average=lambda name, unit, count: ceil(log2(count)),  # a mean is at most the maximum
            precision=precision,
        )
        weights = {}
        for name, rows, source in weights_of(mod):
            absorbed = odd_part(tensors[source].scale[0]) if source in tensors else 1.0
            peak = float(np.abs(rows).max(initial=0.0)) * absorbed
            steps = _steps(precision.weight(name, (1.0,)))
            scale = power_of_two_at_least(peak) / steps / absorbed
            weights[name] = precision.weight(name, (scale,))
        return Scales(tensors=tensors, weights=weights)


def _steps(params: QuantParams) -> int:
    """Return how many steps a scale's magnitude has: 2^(bits-1), twice that with a zero point."""
    return (1 << (params.bits - 1)) - params.zero_point
