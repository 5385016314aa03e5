"""Choose the scale of every tensor and weight from profiles: powers of two.

A chooser reads the float graph and returns `Scales`. Two kinds of tensors have no choice of their
own: max-pool, reshape and other operators that only move values keep their input's scale; a global
average of H*W values, which is an integer sum followed by a shift by n, has scale
s_x * 2^n / (H*W), and the next layer's weight scale absorbs the H*W, so that the product s_x * s_w
is a power of two again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import log2
from typing import ClassVar

from relay_passes.calibration.observers import MaxAbs, Observer
from relay_passes.graph import Module
from relay_passes.numerics import power_of_two_at_least, scale_for
from relay_passes.params import Granularity, TensorProfile
from relay_passes.requirements import PROFILES, Need
from relay_passes.scales.bit_widths import Precision
from relay_passes.scales.scales import (
    EIGHT_BITS,
    Scales,
    largest_weights,
    odd_part,
    tensor_scales,
    weights_of,
)
from vta_config.errors import CalibrationError


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledScales:
    """Choose a power-of-two scale for each tensor from its profile.

    s = smallest power of two >= m / qmax, where m is the observer's magnitude for an
    activation, max|w| for a weight; with a zero point qmax counts from there.

    Parameters
    ----------
    observer : Observer
        Turns an activation's profile into a magnitude.
    weight_granularity : {"tensor", "block", "channel"}
        What shares a weight scale.
    block : int
        Output channels a block, for granularity ``block``.
    """

    needs: ClassVar[frozenset[Need]] = PROFILES
    pair: ClassVar[bool] = False

    observer: Observer = field(default_factory=MaxAbs)
    weight_granularity: Granularity = "tensor"
    block: int = 16

    def for_block(self, block: int) -> ProfiledScales:
        """Return the chooser for blocks of `block` output channels."""
        return replace(self, block=block)

    def __call__(
        self,
        mod: Module,
        profiles: Mapping[str, TensorProfile],
        precision: Precision = EIGHT_BITS,
    ) -> Scales:
        """Return the scales of the float module `mod`.

        Raises
        ------
        CalibrationError
            When a tensor was not profiled.
        """
        levels = precision.tensor_levels

        def magnitude(name: str) -> float:
            if name not in profiles:
                raise CalibrationError(
                    name, "must have been profiled", hint="profile the graph that is quantized"
                )
            return self.observer(profiles[name], levels(name))

        tensors = tensor_scales(
            mod,
            own=lambda name: scale_for(magnitude(name), levels(name)),
            average=lambda name, unit, count: _shift_for(magnitude(name) / (unit * levels(name))),
            precision=precision,
        )
        weights = {}
        for name, rows, source in weights_of(mod):
            params = tensors.get(source)
            absorbed = odd_part(params.scale[0]) if params is not None else 1.0
            limit = precision.weight_qmax(name)
            peaks = largest_weights(rows, self.weight_granularity, self.block)
            scale = tuple(scale_for(p * absorbed, limit) / absorbed for p in peaks)
            weights[name] = precision.weight(name, scale, self.weight_granularity)
        return Scales(tensors=tensors, weights=weights)


def _shift_for(ratio: float) -> int:
    """Return the smallest n >= 0 with 2^n >= ratio."""
    return max(0, round(log2(power_of_two_at_least(ratio)))) if ratio > 0 else 0
